"""The review page on this machine: corrections are saved as they are made, splits are fitted.

The server listens on 127.0.0.1 alone. Its address holds a random token; requests without it, for
another host name, or from a page of another origin are refused.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from astrolabel.core.errors import AstrolabelError
from astrolabel.review.page import PICTURES
from astrolabel.review.session import Session

HOST = "127.0.0.1"
LARGEST_BYTES = 5_000_000
"""Of a request: an outline of a million points."""
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere, and is in no other page's frame."""


class Server(ThreadingHTTPServer):
    """Serves one session; ``address`` is what to open.

    Parameters
    ----------
    port : 0 for any that is free.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        super().__init__((HOST, port), Handler)
        self.session = session
        self.token = secrets.token_urlsafe(24)

    @property
    def host(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/{self.token}/"


class Handler(BaseHTTPRequestHandler):
    """Answers of a `Server`."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        if path == "":
            self._answer(lambda: (self.server.session.page(), "text/html; charset=utf-8"))
        elif path == "pixel":
            query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            self._answer(lambda: self._pixel(query))
        elif path == "source":
            ident = parse_qs(urlsplit(self.path).query).get("id", [""])[0]
            if re.fullmatch(r"-?\d{1,15}", ident):
                self._answer(lambda: _as_json(self.server.session.source(int(ident))))
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "which label?")
        elif path.startswith(f"{PICTURES}/") and path.count("/") == 1:
            file = self.server.session.folder / PICTURES / path.partition("/")[2]
            if file.suffix == ".js" and file.is_file():
                self._send(HTTPStatus.OK, file.read_bytes(), "text/javascript")
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "no such picture")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
        if not length.isdigit() or int(length) > LARGEST_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST, "the request is not JSON")
        actions: dict[str, Callable[[], Any]] = {
            "correct": lambda: self.server.session.correct(body),
            "undo": lambda: self.server.session.undo(str(_of(body, "who"))),
        }
        if path not in actions:
            return self._refuse(HTTPStatus.NOT_FOUND, "no such action")
        self._answer(lambda: _as_json(actions[path]()))

    def _path(self) -> str | None:
        """The address after the token; None where the request was refused."""
        host = f"http://{self.server.host}"
        if self.headers.get("Host") != self.server.host:
            self._refuse(HTTPStatus.FORBIDDEN, "another host")
            return None
        if self.headers.get("Origin", host) != host:
            self._refuse(HTTPStatus.FORBIDDEN, "another origin")
            return None
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._refuse(HTTPStatus.FORBIDDEN, "another site")
            return None
        token, _, rest = urlsplit(self.path).path.lstrip("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that the program printed")
            return None
        return rest

    def _pixel(self, query: dict[str, str]) -> tuple[bytes, str]:
        try:
            x, y = float(query["x"]), float(query["y"])
            values = self.server.session.pixel(query["image"], x, y)
        except (KeyError, ValueError, OverflowError):
            values = {}
        return _as_json(values)

    def _answer(self, make: Callable[[], tuple[bytes, str]]) -> None:
        try:
            content, kind = make()
        except AstrolabelError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        else:
            self._send(HTTPStatus.OK, content, kind)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True  # what it sent may not have been read
        self._send(status, *_as_json({"error": text}))

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", POLICY),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal for what matters."""


def _as_json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value).encode("utf-8"), "application/json"


def _of(body: Any, key: str) -> Any:
    return body.get(key, "") if isinstance(body, dict) else ""
