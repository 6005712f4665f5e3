"""HTTP: addresses and origins, ranges, versions of files, reasons of failures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from astrolabel.core.errors import InputError


def shown(url: str) -> str:
    """An address for messages: without its query, which may be long."""
    return re.split(r"[?#]", url, maxsplit=1)[0]


def origin_of(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address: what an account is for."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as error:
        raise InputError("not an address", file=shown(url), remedy="see to it") from error
    return parts.scheme, (parts.hostname or "").lower(), port


def address(server: str, path: str) -> str:
    """The address of a path below a server.

    Raises
    ------
    InputError
        When the path is an address of its own, or leads out of the server's folder.
    """
    origin = origin_of(server)
    try:
        url = urljoin(f"{server}/", path.lstrip("/"))
    except ValueError as error:
        raise InputError("not an address", file=path, remedy="see to it") from error
    if origin_of(url) != origin or not urlsplit(url).path.startswith(urlsplit(f"{server}/").path):
        raise InputError(
            f"the address {shown(url)} is not below {shown(server)}",
            remedy="give a path on the source's server",
        )
    return url


def byte_range(response: Any) -> tuple[int, int | None]:
    """(first byte, whole length or None) of what a response holds; first -1 if not understood."""
    length = response.headers.get("Content-Length", "")
    if response.status_code != 206:
        return 0, int(length) if length.isdigit() else None
    found = re.fullmatch(
        r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if found is None:
        return -1, None
    return int(found[1]), int(found[2]) + 1 if found[3] == "*" else int(found[3])


def validator_of(headers: Mapping[str, str]) -> str:
    """The header by which a later request sees that the file is still the same; "" for none."""
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def is_page(response: Any) -> bool:
    """Whether a response is a web page, as of a login, and no file."""
    kind = str(response.headers.get("Content-Type", ""))
    return kind.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def reason_of(problem: Exception) -> str:
    """The innermost reason of requests' nested errors, in one line."""
    inner: Any = problem
    for _ in range(6):
        following = getattr(inner, "reason", None) or next(
            (a for a in getattr(inner, "args", ()) if isinstance(a, Exception)), None
        )
        if following is None or isinstance(following, str):
            break
        inner = following
    text = " ".join(str(inner).split())
    return re.sub(r"^<?[\w.]*object at 0x[0-9a-f]+>?: |^\w+Connection\([^)]*\): ", "", text)[:160]
