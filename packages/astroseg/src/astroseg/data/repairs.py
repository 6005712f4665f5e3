"""What was repaired in a document and what was left out of it, by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from astroseg.core.errors import InputError


@dataclass(frozen=True)
class Repairs:
    """Counts by reason.

    Attributes
    ----------
    mended : what was read in another spelling or replaced.
    left_out : entries that were not used.
    read_as : what could have meant something else; no fault of the file.
    """

    mended: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    read_as: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """One line a reason."""
        return [*self._faults(), *(f"{n} {reason}" for reason, n in self.read_as.items())]

    def _faults(self) -> list[str]:
        return [
            *(f"left out: {n} annotations, {reason}" for reason, n in self.left_out.items() if n),
            *(f"repaired: {n} {reason}" for reason, n in self.mended.items() if n),
        ]

    def refuse(self, path: Path) -> None:
        """Raise InputError when anything was mended or left out."""
        if lines := self._faults():
            raise InputError(
                f"needs repairs ({'; '.join(lines)})",
                file=path,
                remedy="mend the file, or leave --strict out",
            )
