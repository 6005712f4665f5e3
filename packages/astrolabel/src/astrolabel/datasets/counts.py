"""Labels by class and magnitude, for label files side by side (paper, figure 6)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.io import coco


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of labels.

    Attributes
    ----------
    band : whose magnitudes.
    edges : (B + 1,) of the bins.
    counts : (B,) int by (file, class), in the order of the files.
    without : labels without a magnitude, by (file, class).
    """

    band: str
    edges: NDArray[np.float64]
    counts: dict[tuple[str, str], NDArray[np.int64]]
    without: dict[tuple[str, str], int]

    def rows(self) -> list[list[str]]:
        """A table: one row per bin, one column per file and class."""
        head = [f"{self.band} magnitude", *(f"{file} {name}" for file, name in self.counts)]
        body = [
            [f"{low:g}-{high:g}", *(str(int(c[k])) for c in self.counts.values())]
            for k, (low, high) in enumerate(zip(self.edges[:-1], self.edges[1:], strict=True))
        ]
        return [head, *body, ["unknown", *(str(n) for n in self.without.values())]]

    def text(self) -> str:
        """The table for people."""
        rows = self.rows()
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )


def tally(files: Sequence[Path], band: str = "i", bin_mag: float = 0.5) -> Tally:
    """Count the labels of files by class and magnitude; ignore regions do not count.

    Raises
    ------
    InputError
        When a file cannot be read, or no label of any has a magnitude in the band.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for name, file in zip(_names(files), files, strict=True):
        doc = coco.read(file)
        classes = {c["id"]: c["name"] for c in doc["categories"]}
        for label in classes.values():
            found[name, label] = []
        for a in doc["annotations"]:
            if not a["iscrowd"]:
                value = (a.get("attributes") or {}).get(f"mag_{band}")
                found[name, classes[a["category_id"]]].append(np.nan if value is None else value)
    values = {key: np.array(v, float) for key, v in found.items()}
    known = np.concatenate([v[np.isfinite(v)] for v in values.values()]) if values else np.zeros(0)
    if not len(known):
        raise InputError(
            f"no label has a magnitude in band {band}", file=files[0], remedy="choose a --band"
        )
    first = np.floor(known.min() / bin_mag)
    edges = np.arange(first, np.floor(known.max() / bin_mag) + 2) * bin_mag
    return Tally(
        band,
        edges,
        {key: np.histogram(v[np.isfinite(v)], edges)[0] for key, v in values.items()},
        {key: int(np.isnan(v).sum()) for key, v in values.items()},
    )


def _names(files: Sequence[Path]) -> list[str]:
    """What tells the files apart: their names, or their folders' where these are the same."""
    stems = [f.stem for f in files]
    return stems if len(set(stems)) == len(stems) else [f"{f.parent.name}/{f.stem}" for f in files]


def write_tally(path: Path, counted: Tally) -> None:
    """Write the table as CSV, atomically."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(counted.rows())
    write_bytes(path, text.getvalue().encode())
