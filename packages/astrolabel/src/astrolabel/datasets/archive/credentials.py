"""Accounts of archives: from the environment or netrc, sent to their own origin alone.

An origin is scheme, host and port. Accounts travel over https; a server on this machine may be
reached in clear when the user names its origin himself, in the environment or in netrc.

A password is never written, logged or shown: `Login` hides it from its own representation,
and `Login.hide` takes it out of whatever a server answers before that is shown.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import netrc
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from astrolabel.core.errors import InputError
from astrolabel.datasets.archive.addresses import origin_of, shown

USER_VARIABLE, PASSWORD_VARIABLE = "HSC_SSP_CAS_USER", "HSC_SSP_CAS_PASSWORD"
"""Environment variables of the HSC account; the password's name is that of HSC's own tools."""

HSC_DOMAIN = ".mtk.nao.ac.jp"


SERVER_VARIABLE = "HSC_SSP_CAS_SERVER"
"""Environment variable of another origin that the HSC account is for: a mirror, or a test."""


@dataclass(frozen=True)
class Login:
    """An account on one origin: scheme, host and port."""

    origin: tuple[str, str, int]
    user: str
    password: str = field(repr=False)

    def hide(self, text: str) -> str:
        """`text` with the password, in every form it may come back in, replaced by ***."""
        pair = f"{self.user}:{self.password}".encode()
        forms = {
            self.password,
            quote(self.password, safe=""),
            quote_plus(self.password),
            json.dumps(self.password)[1:-1],
            json.dumps(self.password, ensure_ascii=False)[1:-1],
            base64.b64encode(pair).decode(),
        }
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "***")
        return text


def find_login(url: str, *, hsc: bool = False) -> Login | None:
    """The account for a server; None where there is none.

    Parameters
    ----------
    hsc : whether it is asked for HSC's files: the environment's account is for these, at
        HSC's own servers or the origin that the environment names. Otherwise, and where the
        environment has none, netrc's entry for the host is taken (``host:port`` for another
        port than that of https).

    Raises
    ------
    InputError
        For half an account, an unreadable netrc, and an account for a server that would
        receive it in clear.
    """
    origin = origin_of(url)
    scheme, host, port = origin
    user, password = os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
    named = os.environ.get(SERVER_VARIABLE)
    own = origin_of(named) == origin if named else host.endswith(HSC_DOMAIN) and port in (80, 443)
    found = None
    # A manifest may name any server; the environment's account is for HSC's alone.
    if hsc and own and (user or password):
        if not (user and password):
            missing = USER_VARIABLE if password else PASSWORD_VARIABLE
            raise InputError(
                f"the environment has half an HSC account: no {missing}",
                remedy="set it too, or neither and use netrc",
            )
        found = Login(origin, user, password)
    else:
        found = _from_netrc(origin)
    if found is not None and scheme != "https" and not _is_loopback(host):
        raise InputError(
            f"an account for {host} would travel in clear",
            file=shown(url),
            remedy="give the server's https address",
        )
    return found


def _from_netrc(origin: tuple[str, str, int]) -> Login | None:
    given = os.environ.get("NETRC")
    path = Path(given) if given else Path.home() / ".netrc"
    if not path.is_file():
        return None
    _, host, port = origin
    try:
        entries = netrc.netrc(str(path)).hosts
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        # The parser's own message may quote the password: only the line is named, and the
        # error is not chained.
        line = getattr(error, "lineno", None)
        raise InputError(
            "netrc cannot be understood" + (f" (line {line})" if line else ""),
            file=path,
            remedy=f"write: machine {host} login USER password PASSWORD; chmod 600",
        ) from None
    # The entry of the name `default` is for no host: a manifest may name any.
    entry = entries.get(f"{host}:{port}") or (entries.get(host) if port in (80, 443) else None)
    if entry is None or not entry[2]:
        return None
    return Login(origin, entry[0], entry[2])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def how_to_login(host: str, *, hsc: bool) -> str:
    """The remedy where a server wants an account."""
    if hsc:
        return (
            f"set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or give netrc an entry for {host}; "
            "accounts: https://hsc-release.mtk.nao.ac.jp/datasearch/new_user/new"
        )
    return f"give netrc an entry for {host}"
