"""An HTTP client for files: resumed, verified, retried by a policy, whole or not at all.

pooch, the usual library, begins a broken download of a 150 MB coadd from the start, takes a
login page for the file, and cannot submit queries. It would add only a hash and a rename here.
requests, which pooch uses too, has sessions, and keeps an account from other hosts.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.version import __version__
from astrolabel.datasets.archive import partial
from astrolabel.datasets.archive.addresses import (
    byte_range,
    is_page,
    origin_of,
    reason_of,
    shown,
    validator_of,
)
from astrolabel.datasets.archive.credentials import Login, find_login, how_to_login
from astrolabel.datasets.archive.retry_policy import RetryPolicy, retry_after

try:
    import requests
    import urllib3
except ImportError as error:  # an extra: labels are made without
    raise InputError(
        "fetching needs requests, which is not installed",
        remedy="pip install 'astrolabel[fetch]', or fetch by hand and leave out fetching",
    ) from error

CHUNK = 2**18
BUSY = (429, 500, 502, 503, 504)
"""Answers that may be another a little later."""
MAX_REDIRECTS = 5


class Unavailable(InputError):
    """What may well be had later: nothing is known to be wrong with the question."""


class _Retry(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, wait_s: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait_s, self.busy = wait_s, busy


class _LoggedOut(Exception):
    """The server does not know us (any more)."""


class Stopped(Exception):
    """The run ends; what this thread was doing is kept for the next."""


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        # The account goes to the origin it is for, and no redirect looks for another.
        if origin_of(response.request.url) != origin_of(prepared_request.url):
            prepared_request.headers.pop("Authorization", None)


@dataclass(eq=False)
class Client:
    """One server's client, for several threads.

    Parameters
    ----------
    server : address whose host the account is for.
    hsc : whether the environment's HSC account is for it.
    sleep, clock : replaced in tests.
    most_bytes : of a file; a longer one is refused when it is seen to be.
    """

    server: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    hsc: bool = False
    sleep: Callable[[float], object] | None = None
    clock: Callable[[], float] = time.monotonic
    most_bytes: int | None = None

    def __post_init__(self) -> None:
        self.login: Login | None = find_login(self.server, hsc=self.hsc)
        self.stop = threading.Event()
        self._own = threading.local()
        self._not_before = 0.0
        self._sleep = self.sleep or self.stop.wait

    def download(
        self,
        url: str,
        target: Path,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Bring a file, resuming what an earlier run left of it.

        Parameters
        ----------
        params : of a GET request.
        body : JSON of a POST request, which cannot be resumed.
        check : raises `InputError` for content that is not the file; what was resumed is
            then fetched once more from the start.

        Raises
        ------
        InputError : refused, not there, cut short again and again, or not the file.
        OutputError : the file cannot be written.
        """
        part = partial.part_of(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            resumed = self._with_retries(url, lambda: self._receive(url, part, params, body), part)
            try:
                partial.checked(part, check)
            except InputError:
                if not resumed:
                    raise
                self._with_retries(url, lambda: self._receive(url, part, params, body), part)
                partial.checked(part, check)
            part.replace(target)
            partial.discard(part)
        except InputError as problem:
            # With the address: the file itself is not there.
            raise type(problem)(
                problem.problem, file=shown(url), remedy=problem.remedy
            ) from problem.__cause__
        except OSError as problem:
            raise OutputError(
                f"cannot be written ({problem.strerror or problem})",
                file=target,
                remedy="free space there or choose another folder with --root",
            ) from problem

    def ask(self, url: str, body: Mapping[str, Any]) -> Any:
        """The JSON response to a JSON question; `None` for an empty response.

        Raises
        ------
        InputError
            For a refusal, with what the server says.
        """

        def once() -> Any:
            with self._request("POST", url, json=dict(body)) as response:
                text = response.text
                if is_page(response):
                    raise _LoggedOut("the server answers with a web page")
            try:
                return json.loads(text) if text.strip() else None
            except ValueError:
                raise InputError(
                    f"the server's response is not JSON ({self.hide(text[:80])!r})",
                    file=shown(url),
                    remedy="see whether the address is right",
                ) from None

        return self._with_retries(url, once)

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than the run goes on."""
        self._sleep(seconds)
        if self.stop.is_set():
            raise Stopped

    def hide(self, text: str) -> str:
        return text if self.login is None else self.login.hide(text)

    def _with_retries(self, url: str, act: Callable[[], Any], part: Path | None = None) -> Any:
        """Do it again after failures that may pass, until nothing new comes."""
        attempt, relogged, held = 0, False, partial.size(part)
        while True:
            pause = self._not_before - self.clock()
            if pause > 0:
                self.wait(pause)
            if self.stop.is_set():
                raise Stopped
            try:
                return act()
            except _LoggedOut as again:
                if relogged or self.login is None:
                    raise InputError(
                        f"{again}: it wants an account"
                        if self.login is None
                        else f"{again}: it does not accept this account",
                        file=shown(url),
                        remedy=how_to_login(urlsplit(url).hostname or "", hsc=self.hsc),
                    ) from None
                # A session may have expired since it last worked: a new one, once.
                relogged, self._own.session = True, None
            except _Retry as again:
                if partial.size(part) > held:
                    attempt, held = 0, partial.size(part)
                attempt += 1
                if attempt >= self.policy.attempts:
                    raise Unavailable(
                        f"{again}, {attempt} times over",
                        file=shown(url),
                        remedy="what came is kept: give the same command again later",
                    ) from None
                wait_s = again.wait_s
                if wait_s is None:
                    wait_s = self.policy.wait_s(url, attempt - 1)
                elif wait_s > self.policy.longest_wait_s:
                    raise Unavailable(
                        f"{again} and asks to come back in {wait_s:.0f} s",
                        file=shown(url),
                        remedy="give the same command again then",
                    ) from None
                if again.busy:  # the others had better wait as well
                    self._not_before = max(self._not_before, self.clock() + wait_s)
                self.wait(wait_s)

    def _request(self, method: str, url: str, **words: Any) -> Any:
        """A response of 200 or 206, or 416 to a range; the rest are exceptions."""
        session = getattr(self._own, "session", None)
        if session is None:
            session = _Session()
            session.max_redirects = MAX_REDIRECTS
            session.headers["User-Agent"] = f"astrolabel/{__version__}"
            # Ranges count the bytes of the file, not those of its compressed form.
            session.headers["Accept-Encoding"] = "identity"
            self._own.session = session
        login = self.login
        basic: Any = None
        if login is not None and origin_of(url) == login.origin:
            basic = requests.auth.HTTPBasicAuth(login.user.encode(), login.password.encode())

        def sign(request: Any) -> Any:  # an auth of our own also keeps requests off netrc
            return basic(request) if basic is not None else request

        try:
            response = session.request(
                method,
                url,
                auth=sign,
                stream=True,
                timeout=self.policy.timeout_s,
                # A redirected POST would take the account in its body to another host.
                allow_redirects=method == "GET",
                **words,
            )
        except requests.exceptions.SSLError as problem:
            raise InputError(
                "the server's certificate is not valid",
                file=shown(url),
                remedy="see to the address, the clock and the proxy",
            ) from problem
        except requests.exceptions.TooManyRedirects:
            raise _LoggedOut("the server sends us round in circles") from None
        except (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError):
            raise InputError("not an address", file=shown(url), remedy="see to it") from None
        except requests.exceptions.RequestException as problem:
            raise _Retry(f"no connection ({reason_of(problem)})") from None
        except ValueError:
            raise InputError(
                "the server redirects to what is not an address", file=shown(url)
            ) from None
        if response.status_code in (200, 206, 416):
            return response
        with response:
            self._refused(method, url, response)

    def _refused(self, method: str, url: str, response: Any) -> None:
        code, said = response.status_code, ""
        if code in BUSY:
            raise _Retry(
                f"the server answers {code} {response.reason}", retry_after(response.headers), True
            )
        if code in (401, 403) or (method == "POST" and 300 <= code < 400):
            raise _LoggedOut(f"the server answers {code} {response.reason}")
        if not is_page(response):
            said = self.hide(" ".join(response.text.split())[:300])
        raise InputError(
            f"the server answers {code} {response.reason}" + (f" ({said})" if said else ""),
            file=shown(url),
            remedy="it does not have this file: see to the address"
            if code in (404, 410)
            else "see to what was asked for",
        )

    def _receive(
        self,
        url: str,
        part: Path,
        params: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> bool:
        """Bring `part` to its whole length; whether it was begun in an earlier request."""
        held, validator = partial.held(part, url, params)
        if body is not None or not validator:
            held = 0
        headers = {"Range": f"bytes={held}-", "If-Range": validator} if held else {}
        words: dict[str, Any] = {"params": params} if body is None else {"json": dict(body)}
        method = "GET" if body is None else "POST"
        with self._request(method, url, headers=headers, **words) as response:
            if response.status_code == 416:  # nothing lies beyond what is held
                partial.discard(part)
                raise _Retry("the server has less than is held", 0.0)
            if is_page(response):
                raise _LoggedOut("the server answers with a web page, not the file")
            start, total = byte_range(response)
            if start not in (0, held):
                partial.discard(part)
                raise _Retry("the server gives another part than asked for")
            if start == 0:
                partial.discard(part)
                partial.write_note(part, url, params, validator_of(response.headers))
            self._copy(response, part, start, total)
        return start > 0

    def _copy(self, response: Any, part: Path, start: int, total: int | None) -> None:
        # The length is checked here: urllib3 would throw away what came before the cut.
        response.raw.enforce_content_length = False
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            try:
                # As it was sent: some servers call a file that is gzip itself encoded.
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    file.write(chunk)
                    if self.most_bytes is not None and file.tell() > self.most_bytes:
                        raise InputError(
                            f"the file is larger than {self.most_bytes:,} bytes",
                            remedy="the server gives something else: see to what was asked for",
                        )
                    if self.stop.is_set():
                        raise Stopped
            except urllib3.exceptions.HTTPError as problem:
                file.flush()
                raise _Retry(
                    f"cut short after {file.tell()} of {total or '?'} bytes ({reason_of(problem)})"
                ) from None
            held = file.tell()
            file.flush()
            os.fsync(file.fileno())
        if total is not None and held != total:
            raise _Retry(f"cut short after {held} of {total} bytes")
