"""What strangers may send beside images and documents: checkpoints and answers of servers."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_S = 1.0
"""A slow server's pause."""
ANSWERS = (
    "sound", "sound", "status", "cut", "stump", "page", "redirect", "endless", "length", "slow",
    "range", "noise", "hang up",
)  # fmt: skip


class _Runs:
    """What a pickle that runs a command looks like."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def bad_checkpoint(
    data: bytes, draw: random.Random, mutated: Callable[[Any, random.Random], Any], mark: Path
) -> bytes:
    """A safetensors file that is cut, flipped in its header, of other shapes or numbers, or no
    such file at all but a pickle that writes `mark` when it is read. One that lies about itself
    has no hash, which would tell."""
    length = int.from_bytes(data[:8], "little")
    header, weights = data[8 : 8 + length], data[8 + length :]
    kind = draw.choice(("cut", "flipped", "mutated", "settings", "infinite", "pickle"))
    if kind == "cut":
        return data[: draw.randrange(len(data))]
    if kind == "flipped":
        changed = bytearray(data)
        changed[draw.randrange(8 + length)] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == "pickle":
        return pickle.dumps({"model": _Runs(mark)})
    document = json.loads(header)
    document["__metadata__"].pop("astroseg_sha256")
    if kind == "infinite":
        values = np.frombuffer(weights, "<f2").copy()
        values[draw.randrange(len(values)) :] = draw.choice((np.nan, np.inf))
        weights = values.tobytes()
    elif kind == "mutated":
        document = mutated(document, draw)
    else:
        meta = document["__metadata__"]
        key = draw.choice(sorted(meta))
        try:
            meta[key] = json.dumps(mutated(json.loads(meta[key]), draw))
        except (ValueError, TypeError, IndexError):  # no document, or an empty one
            meta[key] = draw.choice(("", "-1", "nan", "\0", "x" * 5000, "[[", "1e300"))
    text = json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text + weights


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, content: bytes, draw: random.Random, answers: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content, self.draw, self.answers = content, draw, answers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, as a refused one does, is no trace on the terminal."""


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        draw, content = self.server.draw, self.server.content
        kind = draw.choice(self.server.answers)
        if kind == "status":
            code = draw.choice((204, 301, 400, 401, 403, 404, 416, 429, 500, 503))
            self._send(code, b"", {"Retry-After": draw.choice(("-1", "soon", "1", "9" * 30))})
        elif kind == "redirect":
            to = draw.choice(("file:///etc/passwd", "http://127.0.0.1:9/", self.path, "//", "\x7f"))
            self._send(302, b"", {"Location": to})
        elif kind == "page":
            self._send(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        elif kind == "stump":
            self._send(200, content[: draw.randrange(len(content))])
        elif kind == "cut":
            self._send(200, content, cut=draw.randrange(len(content)))
        elif kind == "length":
            odd = draw.choice(("-1", "x", "9" * 30, str(len(content) * 1000)))
            self._send(200, content, {"Content-Length": odd})
        elif kind == "range":
            self._send(206, content[5:], {"Content-Range": draw.choice(("bytes 5-", "x", "bytes"))})
        elif kind == "noise":
            self.wfile.write(draw.randbytes(200))
            self.close_connection = True
        elif kind == "hang up":
            self.close_connection = True
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(2000):
                self.wfile.write(content)
            self.close_connection = True
        else:
            if kind == "slow":
                threading.Event().wait(LIMIT_S)
            self._send(200, content)

    def _send(
        self, code: int, body: bytes, headers: dict[str, str] | None = None, cut: int = -1
    ) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body if cut < 0 else body[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(
    content: bytes, draw: random.Random, answers: tuple[str, ...] = ANSWERS
) -> Iterator[str]:
    """The address of a server that gives a file, and every answer that it should not."""
    with _Server(content, draw, answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
