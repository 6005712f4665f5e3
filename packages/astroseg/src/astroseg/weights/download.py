"""One file from the web into a cache: resumed, verified, whole or not at all.

What is kept between runs, for a file NAME:

- ``NAME`` itself, whole and verified.
- ``NAME.json``, the hash it had when it came and where from.
- ``NAME.part`` of a download that was cut short, with ``NAME.part.etag``, by which the server
  knows whether the rest still belongs to it.
- ``NAME.unverified``, a whole file without a known hash.

Verified means: its hash begins with the digits its publisher gives, or is the one that the
user names. A file without either is not used. It is kept, and the error shows its hash, so
that trusting it is one deliberate step. What was accepted once is held to its whole hash.

pooch, the usual library, begins a broken download from the start and verifies by whole
hashes only; Detectron2's files name the first digits of theirs.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from tqdm import tqdm

from astroseg.core.errors import InputError, OutputError
from astroseg.core.files import read_json, sha256, write_json
from astroseg.core.version import __version__

CACHE_VARIABLE = "ASTROSEG_CACHE"
"""Environment variable of the folder that downloads are kept in."""

TIMEOUT_S = 30.0
"""Without a byte from the server, s: several times what a busy one needs."""

_CHUNK = 2**20


def cache_folder() -> Path:
    """Where downloads are kept: ASTROSEG_CACHE, or where the platform keeps such files."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "astroseg"


def fetch(
    url: str, folder: Path, digest: str = "", *, trusted: str = "", quiet: bool = False
) -> Path:
    """The file of that address in that folder, from there if it is there already.

    Parameters
    ----------
    digest : "sha256:..." or "md5:...", as many first hexadecimal digits as are published;
        "" if none are. The whole SHA-256 of what came first is recorded and every later
        use is held to it.
    trusted : the whole SHA-256 of the file that the user wants, 64 hexadecimal digits; it
        counts before what is published, and is needed where nothing is.
    quiet : no progress bar.

    Raises
    ------
    InputError : no connection, no such file there, cut short, not the file it should be, or
        of an unknown hash.
    OutputError : the folder cannot be written.
    """
    target = folder / urlsplit(url).path.rpartition("/")[2]
    if trusted:
        digest = _whole_digest(trusted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Processes of one run ask at the same moment; one downloads, the others wait.
        with FileLock(folder / f"{target.name}.lock"):
            if not target.is_file():
                # What came first counts more than the few digits that are published.
                _download(url, target, _recorded(target) or digest, quiet)
            elif _record(target).is_file():
                _check_recorded(target)
            elif digest:  # put there by hand
                _accept(target, url, digest)
            else:
                raise _unknown(target, url)
            if trusted and not _has_digest(target, digest):
                raise _another(target, url, digest)
    except OSError as problem:
        raise OutputError(
            f"cannot be written ({problem.strerror or problem})",
            file=target,
            remedy=f"free space there or set {CACHE_VARIABLE} to another folder",
        ) from problem
    return target


def _download(url: str, target: Path, digest: str, quiet: bool) -> None:
    part = target.with_name(f"{target.name}.part")
    unverified = target.with_name(f"{target.name}.unverified")
    if not unverified.is_file() or (digest and not _has_digest(unverified, digest)):
        unverified.unlink(missing_ok=True)
        resumed = _receive(url, part, quiet)
        if resumed and not _has_digest(part, digest):
            # The beginning may have been of another file: once more from there.
            part.unlink()
            _receive(url, part, quiet)
        part.replace(unverified)
        _validator(part).unlink(missing_ok=True)
    if not digest:
        raise _unknown(unverified, url)
    try:
        _accept(unverified, url, digest, _record(target))
    except InputError:
        unverified.unlink()
        raise
    unverified.replace(target)


def _unknown(file: Path, url: str) -> InputError:
    """That nothing says what file this should be."""
    found = sha256(file)
    return InputError(
        f"came from {url}, and its hash is not published",
        file=file,
        remedy="where you trust that address and this connection, or know this hash from "
        f"elsewhere, give --weights-sha256 {found}",
    )


def _another(file: Path, url: str, digest: str) -> InputError:
    """That the file is not the one of that digest."""
    return InputError(
        f"is not the file of {url}: {digest} does not begin its hash",
        file=file,
        remedy=f"see whether a proxy answered in its place, or {_by_hand(url)}; where its "
        "publisher changed it on purpose, delete the cached .json beside it and give the new "
        "hash as --weights-sha256",
    )


def _whole_digest(trusted: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", trusted):
        raise InputError(
            f"{trusted!r} is not a whole SHA-256",
            remedy="give its 64 hexadecimal digits with --weights-sha256",
        )
    return f"sha256:{trusted.lower()}"


def _accept(file: Path, url: str, digest: str, record: Path | None = None) -> None:
    """Hold a file to the known digits of its hash, and record the whole one."""
    if not _has_digest(file, digest):
        raise _another(file, url, digest)
    entry = {"url": url, "sha256": sha256(file), "bytes": file.stat().st_size}
    write_json(record or _record(file), entry, indent=1)


def _receive(url: str, part: Path, quiet: bool) -> bool:
    """Bring `part` to its whole length; returns whether it was begun in an earlier run."""
    held = part.stat().st_size if part.is_file() else 0
    validator = _validator(part).read_text() if held and _validator(part).is_file() else ""
    headers = {"User-Agent": f"astroseg/{__version__}", "Accept-Encoding": "identity"}
    if validator:
        headers |= {"Range": f"bytes={held}-", "If-Range": validator}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        ) as answer:
            start = _start(answer.headers) if answer.status == 206 else 0
            resumed = 0 < start == held
            if answer.status == 206 and not resumed:
                raise HTTPException("the server gave another part than asked for")
            if not start:
                part.unlink(missing_ok=True)  # before the validator of what replaces it is there
            _validator(part).write_text(_strong_validator(answer.headers))
            _copy(answer, part, start, quiet)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == 416 and held:  # nothing lies beyond what is held
            part.unlink()
            return _receive(url, part, quiet)
        raise InputError(
            f"the server answers {problem.code} {problem.reason}",
            file=url,
            remedy="the file may have moved: " + _by_hand(url),
        ) from problem
    except (
        urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError
    ) as problem:  # fmt: skip
        raise InputError(
            f"cannot be downloaded ({getattr(problem, 'reason', problem)})",
            file=url,
            remedy=f"see to the network and give the command again, or {_by_hand(url)}",
        ) from problem
    return resumed


def _copy(answer: Any, part: Path, start: int, quiet: bool) -> None:
    """Append the answer to the first `start` bytes, with a progress bar; check its length."""
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    bar = tqdm(
        total=total,
        initial=start,
        desc=part.stem,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=quiet or not sys.stderr.isatty(),
    )
    with part.open("r+b" if start else "wb") as file, bar:
        file.seek(start)
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        held = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if total is not None and held != total:
        raise HTTPException(f"cut short after {held} of {total} bytes, which are kept")


def _start(headers: Mapping[str, str]) -> int:
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _strong_validator(headers: Mapping[str, str]) -> str:
    """The header by which a later request sees that the file is the same; "" for none."""
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _has_digest(path: Path, digest: str) -> bool:
    if not digest:
        return True
    kind, _, wanted = digest.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
    return found.hexdigest().startswith(wanted)


def _recorded(target: Path) -> str:
    """Digest of what came first, "" if nothing ever came."""
    if not _record(target).is_file():
        return ""
    record = read_json(_record(target))
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise InputError("holds no hash", file=_record(target), remedy="delete it")
    return f"sha256:{record['sha256']}"


def _check_recorded(target: Path) -> None:
    if not _has_digest(target, _recorded(target)):
        raise InputError(
            "has changed since it was downloaded",
            file=target,
            remedy="delete it to download it again",
        )


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _by_hand(url: str) -> str:
    return f"download {url} in another way and give the file"
