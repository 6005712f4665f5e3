"""A server on this machine that behaves as the HSC archive does, with every fault it may have."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

USER, PASSWORD = "jane@local", 'pä"ss w+rd/%41?'
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path has `path` in it.

    kind : ``status`` (code, with `retry_after`), ``cut`` (after `size` bytes), ``stump``
        (the same, but the length says all is well), ``page`` (a login page), ``redirect``
        (to `to`), ``other`` (other bytes of the same length), ``text`` (a `body`, code 200).
    """

    path: str
    kind: str
    code: int = 503
    retry_after: str = ""
    size: int = 0
    to: str = ""
    body: str = ""
    times: int = 1


@dataclass
class Job:
    sql: str
    polls: int
    error: str = ""


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Archive(http.server.ThreadingHTTPServer):
    """Files by path, PSF stamps by band, catalog queries as jobs; all for one account.

    `files` are below the server's root; those of `open_paths` need no account. `psfs` by
    (filter, tract, patch). `result` is what every query gives, after `polls` questions.
    """

    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up, as the tests' own do, is no trace on the terminal."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.psfs: dict[tuple[str, str, str], bytes] = {}
        self.result = b""
        self.polls = 2
        self.account = True
        self.version = '"v1"'
        self.faults: list[Fault] = []
        self.jobs: dict[int, Job] = {}
        self.asked: list[Request] = []
        self.sent = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self) -> list[str]:
        return [r.path for r in self.asked]

    def fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.path in path and fault.times:
                    fault.times -= 1
                    return fault
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    server: Archive
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._note(b"")
        path = unquote(urlsplit(self.path).path)
        if self._faulty(path, self._content(path)):
            return
        if self.server.account and not self._known():
            self._answer(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="hsc"'})
            return
        content = self._content(path)
        if content is None:
            self._answer(404, b"no such file")
        else:
            self._send(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._note(body)
        path = urlsplit(self.path).path
        if self._faulty(path, self.server.result):
            return
        question = json.loads(body)
        wanted = {"account_name": USER, "password": PASSWORD}
        if question.get("credential") != wanted or "clientVersion" not in question:
            self._answer(401, b"invalid id or password")
            return
        action = path.rpartition("/")[2]
        with self.server.lock:
            self._job(action, question)

    def _job(self, action: str, question: dict) -> None:
        jobs = self.server.jobs
        if action == "submit":
            sql = question["catalog_job"]["sql"]
            if "SELECT" not in sql:
                self._answer(406, b"syntax error")
                return
            number = len(self.server.asked)
            jobs[number] = Job(sql, self.server.polls)
            self._json({"id": number, "status": "submitted"})
            return
        job = jobs.get(question["id"])
        if job is None:
            self._answer(404, b"no such job")
        elif action == "status":
            job.polls -= 1
            state = "error" if job.error else "done" if job.polls < 0 else "running"
            self._json({"id": question["id"], "status": state, "error": job.error})
        elif action == "download":
            self._answer(200, self.server.result, {"Content-Type": "application/fits"})
        elif action == "delete":
            del jobs[question["id"]]
            self._answer(200, b"")

    def _content(self, path: str) -> bytes | None:
        if path.endswith("/cgi/getpsf"):
            q = dict(parse_qsl(urlsplit(self.path).query))
            return self.server.psfs.get((q["filter"], q["tract"], q["patch"]))
        return self.server.files.get(path.lstrip("/"))

    def _known(self) -> bool:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {pair}"

    def _faulty(self, path: str, content: bytes | None) -> bool:
        fault = self.server.fault(path)
        if fault is None:
            return False
        if fault.kind == "status":
            more = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._answer(fault.code, fault.body.encode() or b"not now", more)
        elif fault.kind == "page":
            self._answer(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        elif fault.kind == "text":
            self._answer(200, fault.body.encode(), {"Content-Type": "text/plain"})
        elif fault.kind == "redirect":
            self._answer(fault.code, b"", {"Location": fault.to})
        elif content is None:
            return False
        elif fault.kind == "other":
            self._answer(200, content[:-1] + bytes([content[-1] ^ 1]), {"ETag": '"v2"'})
        elif fault.kind == "stump":
            self._answer(200, content[: fault.size], {"ETag": self.server.version})
        elif fault.kind == "cut":
            self._send(content, fault.size)
        return True

    def _send(self, content: bytes, cut: int = -1) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted and self.headers.get("If-Range", self.server.version) == self.server.version:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(content):
            self._answer(416, b"")
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.version:
            self.send_header("ETag", self.server.version)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/fits")
        if self.path.endswith(".gz"):  # as Apache does
            self.send_header("Content-Encoding", "x-gzip")
        self.end_headers()
        if cut >= 0:
            body, self.close_connection = body[:cut], True
        self.server.sent += len(body)
        self.wfile.write(body)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _note(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        request = Request(
            self.command, unquote(parts.path), dict(parse_qsl(parts.query)),
            {k.lower(): v for k, v in self.headers.items()}, body,
        )  # fmt: skip
        with self.server.lock:
            self.server.asked.append(request)

    def log_message(self, *_: object) -> None:
        pass


def _serving(server: Archive) -> Iterator[Archive]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[Archive]:
    """An archive, and this machine's account for it in the environment."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HSC_SSP_CAS_USER", USER)
    monkeypatch.setenv("HSC_SSP_CAS_PASSWORD", PASSWORD)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    server = Archive()
    monkeypatch.setenv("HSC_SSP_CAS_SERVER", server.url)
    yield from _serving(server)


@pytest.fixture
def elsewhere() -> Iterator[Archive]:
    """Another host, open to everyone: whatever reaches it has left the archive."""
    server = Archive()
    server.account = False
    yield from _serving(server)
