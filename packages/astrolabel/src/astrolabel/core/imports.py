"""Imports of a program."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Imports that the garbage collector leaves alone: modules live until the end.

    Looking through them again and again, and once more at the end, takes half a second.
    """
    if not gc.isenabled() or gc.get_freeze_count():
        yield  # within a program that has modules of its own, once is enough
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
