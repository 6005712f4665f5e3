"""Attributes of annotations as columns of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.targets import is_sentinel
from astroseg.data.repairs import Repairs

ATTRIBUTES = ("snr", "n_blended", "blendedness")
"""Numbers of ``annotation["attributes"]`` that are read, beside mag_<band>."""

REVIEWED = "reviewed"
"""Attribute of a row that a person has looked at; its value is what was done. The column is 1
there, else 0 or NaN."""

FAINTEST_MAG, BRIGHTEST_MAG = 90.0, -30.0
"""Magnitudes beyond are sentinels (99, -99, -9999, 1e20): none was measured."""


def attribute_columns(
    rows: Sequence[Any],
    repairs: Repairs,
    *,
    measured: bool,
    targets: Sequence[str] = (),
    reviewed: bool = False,
    scored: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Columns of the numbers that metrics are binned by, and of the targets.

    Parameters
    ----------
    rows : ``attributes`` of each of N entries, None where it has none.
    measured : whether the numbers of `ATTRIBUTES` and magnitudes are wanted.
    targets : other attributes that are.
    reviewed : whether a column `REVIEWED` is.
    scored : whether the rows are predictions, whose targets have no sentinels.

    Returns
    -------
    dict : (N,) float64 by name, NaN where a row lacks it; only what some row has.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    for i, row in enumerate(rows):
        if not row:
            continue
        if not isinstance(row, dict):
            repairs.mended["attributes that are no object, ignored"] += 1
            continue
        if reviewed and row.get(REVIEWED):
            columns.setdefault(REVIEWED, np.zeros(len(rows)))[i] = 1
        for name, value in row.items():
            binned = measured and (name.startswith("mag_") or name in ATTRIBUTES)
            if not binned and name not in targets:
                continue
            if name not in columns:
                columns[name] = np.full(len(rows), np.nan)
            number = _attribute(name, value, repairs)
            if not scored and name in targets and is_sentinel(name, number):
                repairs.mended[f"sentinel values of {name} (such as -99), taken as unknown"] += 1
                number = math.nan
            columns[name][i] = number
    return columns


def _attribute(name: str, value: Any, repairs: Repairs) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        repairs.mended[f"values of {name} that are no numbers, taken as unknown"] += 1
        return math.nan
    if name.startswith("mag_") and not BRIGHTEST_MAG < number < FAINTEST_MAG:
        if math.isfinite(number):
            repairs.mended["sentinel magnitudes (such as 99), taken as unknown"] += 1
        return math.nan
    return number if math.isfinite(number) else math.nan
