"""Labels by class and magnitude, for label files side by side (paper, figure 6)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from astrolabel.core.errors import InputError
from astrolabel.io import coco

NO_MAGNITUDE = 100.0
"""Values beyond this are no magnitudes."""


def _magnitude(value: object) -> float:
    """NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return float("nan")
    return float(value) if abs(value) < NO_MAGNITUDE else float("nan")


def count_labels(files: Sequence[Path], band: str = "i", bin_mag: float = 0.5) -> Table:
    """Count the labels of files by class and magnitude; ignore regions do not count.

    Returns
    -------
    Table
        A row for each bin of `bin_mag` magnitudes, the last for labels without a magnitude.
        A column for each file and class.

    Raises
    ------
    InputError
        When a file cannot be read, or no label of any has a magnitude in the band.
    """
    found: dict[str, list[float]] = {}
    for name, file in zip(_names(files), files, strict=True):
        doc = coco.read(file)
        columns = {c["id"]: f"{name} {c['name']}" for c in doc["categories"]}
        found |= {column: [] for column in columns.values()}
        for a in doc["annotations"]:
            if not a.get("iscrowd"):
                value = (a.get("attributes") or {}).get(f"mag_{band}")
                found[columns[a["category_id"]]].append(_magnitude(value))
    values = {column: np.array(v, float) for column, v in found.items()}
    listed = np.concatenate([v[np.isfinite(v)] for v in values.values()]) if values else np.zeros(0)
    if not len(listed):
        raise InputError(
            f"no label has a magnitude in band {band}", file=files[0], remedy="choose a --band"
        )
    first = np.floor(listed.min() / bin_mag)
    edges = np.arange(first, np.floor(listed.max() / bin_mag) + 2) * bin_mag
    bins = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(edges)]
    table = Table({f"{band} magnitude": [*bins, "unknown"]})
    for column, v in values.items():
        table[column] = [*np.histogram(v[np.isfinite(v)], edges)[0], int(np.isnan(v).sum())]
    return table


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names, with their folders' where names are the same."""
    stems = [f.stem for f in files]
    return stems if len(set(stems)) == len(stems) else [f"{f.parent.name}/{f.stem}" for f in files]
