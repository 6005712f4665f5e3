"""Where messages go: the terminal with ``--verbose``, a file with ``--log``."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from astrolabel.core.errors import OutputError

# Without one, logging prints errors by itself, which the command line prints too.
logging.getLogger("astrolabel").addHandler(logging.NullHandler())


class _File(logging.FileHandler):
    """A file, or a pipe that something reads; without a reader opening it would wait forever."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        return open(self.baseFilename, "a", encoding="utf-8", opener=_at_once)


def _at_once(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "a pipe or socket that nothing reads") from error
        raise
    os.set_blocking(descriptor, True)
    return descriptor


@contextmanager
def logging_to(file: Path | None, verbose: bool) -> Iterator[None]:
    """Send the messages of the logger ``astrolabel`` to a file, to stderr, both or neither.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    handlers: list[logging.Handler] = []
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_File(file))
        except OSError as error:
            raise OutputError(f"cannot be written ({error.strerror})", file=file) from error
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
    log = logging.getLogger("astrolabel")
    before = log.level
    log.setLevel(logging.DEBUG if handlers else before)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(before)
        for handler in handlers:
            log.removeHandler(handler)
            if isinstance(handler, _File):
                handler.close()
