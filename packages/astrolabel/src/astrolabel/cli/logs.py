"""Where messages go: the terminal with ``--verbose``, a file with ``--log``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astrolabel.core.errors import OutputError


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
            handlers.append(logging.FileHandler(file, encoding="utf-8"))
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
            if isinstance(handler, logging.FileHandler):
                handler.close()
