"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _libc() -> Any:
    """The C library where it can give memory back (glibc), else None."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def give_back() -> None:
    """Give the pages of freed memory back; where that is unknown, do nothing.

    Long reading frees much and keeps a little all over it, and glibc returns by itself only what
    lies behind the last kept byte: a process would hold twice what it uses.
    """
    if (library := _libc()) is not None:
        library.malloc_trim(0)
