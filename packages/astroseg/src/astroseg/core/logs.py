"""Messages of a run: to the terminal and to a file."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from astroseg.core.errors import OutputError

logger = logging.getLogger("astroseg")


class _Once(logging.Filter):
    """A warning is given once: files are opened again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._given: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is let through."""
        text = record.getMessage()
        new = record.levelno != logging.WARNING or text not in self._given
        if record.levelno == logging.WARNING:
            self._given.add(text)
        return new


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
def logging_to(file: Path | None, *, verbose: bool = False, quiet: bool = False) -> Iterator[None]:
    """Send the package's messages to stderr, and all of them to a file.

    Parameters
    ----------
    file : to append to; None for none.
    verbose : whether debugging messages are shown.
    quiet : whether warnings alone are.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    shown = logging.DEBUG if verbose else logging.INFO
    terminal.setLevel(logging.WARNING if quiet else shown)
    handlers: list[logging.Handler] = [terminal]
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_File(file))
        except OSError as error:
            raise OutputError(
                f"cannot be written ({error.strerror})", file=file, remedy="give another --log"
            ) from error
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for handler in handlers:
        handler.addFilter(_Once())
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]


def show(text: str) -> None:
    """Show a sentence: through the logger where it is set up, else on stderr."""
    if logger.handlers:
        logger.info("%s", text)
    else:
        print(text, file=sys.stderr, flush=True)
