"""Annotations that are read as they are looped over: files of more labels than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Annotations:
    """In place of a document's list of annotations; each loop over them reads them again.

    Attributes
    ----------
    make : begins a loop.
    count : their number.
    """

    make: Callable[[], Iterator[Any]]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return self.make()
