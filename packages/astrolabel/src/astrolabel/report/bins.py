"""Numbers against magnitude, signal-to-noise and blendedness: bins, fractions, quartiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray

MAGNITUDE_STEP = 0.5
SNR_STEP_DEX = 0.25
MAGNITUDES = (-100.0, 100.0)
"""What is beyond is no source's, and bins that reach there would fill the memory."""
PERCENT_SHOWN = (0.1, 99.9)
"""Bins reach over this range of the values: one wild magnitude must not flatten a plot.
What is beyond is counted in the first and the last bin."""
BLEND_EDGES = (1.0, 2.0, 3.0, 4.0, 6.0, 10.0, math.inf)
"""Peaks in a footprint."""
FEW = 5
"""Fewer objects in a bin say nothing; such bins are drawn hollow."""


@dataclass(frozen=True)
class Bins:
    """What a quantity is cut into.

    Attributes
    ----------
    name, label : in files, and on plots.
    edges : B+1, ascending; the first and last bin take what lies beyond them.
    kind : ``linear``, ``log`` or ``counts`` (whole numbers, a bin each).
    """

    name: str
    label: str
    edges: tuple[float, ...]
    kind: str = "linear"

    def __len__(self) -> int:
        return len(self.edges) - 1

    def index(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N,) bin of each value; -1 for NaN."""
        place = np.digitize(values, self.edges[1:-1])
        return np.where(np.isnan(values), -1, place)


@dataclass(frozen=True)
class Curve:
    """A number per bin of ``edges``, with an interval; NaN where a bin is empty."""

    name: str
    edges: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: tuple[int, ...]


def magnitudes(name: str, label: str, values: NDArray[np.float64]) -> Bins | None:
    """Bins of half a magnitude over the range of the values; None without any."""
    low, high = np.clip(_range(values), *MAGNITUDES)
    if not low <= high:
        return None
    first = math.floor(low / MAGNITUDE_STEP)
    last = max(math.ceil(high / MAGNITUDE_STEP), first + 1)
    return Bins(name, label, tuple(MAGNITUDE_STEP * k for k in range(first, last + 1)))


def logarithmic(name: str, label: str, values: NDArray[np.float64]) -> Bins | None:
    """Four bins a decade over the range of the positive values; None without any."""
    low, high = _range(np.log10(values[values > 0]))
    if not low <= high:
        return None
    first = math.floor(low / SNR_STEP_DEX)
    last = max(math.ceil(high / SNR_STEP_DEX), first + 1)
    edges = tuple(10 ** (SNR_STEP_DEX * k) for k in range(first, last + 1))
    return Bins(name, label, edges, "log")


def blends(values: NDArray[np.float64]) -> Bins | None:
    """Bins of peaks in a footprint; None where no label has a value."""
    if not np.isfinite(values).any():
        return None
    return Bins("n_blended", "peaks in its footprint", BLEND_EDGES, "counts")


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.percentile(values, PERCENT_SHOWN)
    return float(low), float(high)


def histogram(bins: Bins, values: NDArray[np.float64]) -> tuple[int, ...]:
    """How many values are in each bin."""
    place = bins.index(values)
    return tuple(int(n) for n in np.bincount(place[place >= 0], minlength=len(bins)))


def fraction(bins: Bins, values: NDArray[np.float64], hit: NDArray[np.bool_]) -> Curve:
    """Fraction of hits in each bin, with Wilson's 95 % interval."""
    place = bins.index(values)
    total = np.bincount(place[place >= 0], minlength=len(bins))
    hits = np.bincount(place[(place >= 0) & hit], minlength=len(bins))
    some = total > 0
    rows = np.full((3, len(bins)), np.nan)
    rows[0, some] = hits[some] / total[some]
    # Wilson (1927): sound for few objects and near 0 and 1.
    rows[1:, some] = binom_conf_interval(hits[some], total[some], 0.95, "wilson")
    value, low, high = (tuple(row.tolist()) for row in rows)
    return Curve(bins.name, bins.edges, value, low, high, tuple(total.tolist()))


def median(values: NDArray[np.float64]) -> float:
    """Of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def quartiles(bins: Bins, values: NDArray[np.float64], of: NDArray[np.float64]) -> Curve:
    """Median of `of` in each bin, between its quartiles; NaN in `of` is left out."""
    place = np.where(np.isfinite(of), bins.index(values), -1)
    groups = [of[place == k] for k in range(len(bins))]
    found = [np.percentile(g, (25, 50, 75)) if len(g) else np.full(3, np.nan) for g in groups]
    low, value, high = (tuple(float(q[k]) for q in found) for k in range(3))
    return Curve(bins.name, bins.edges, value, low, high, tuple(len(g) for g in groups))


def depth(curve: Curve, level: float) -> float:
    """Upper edge of the last bin up to which a fraction stays at `level` or above.

    Bins of fewer than `FEW` objects are passed over. NaN when no bin reaches it.
    """
    reached = math.nan
    for edge, value, count in zip(curve.edges[1:], curve.value, curve.count, strict=True):
        if count < FEW:
            continue
        if value < level:
            break
        reached = edge
    return reached


def choose_band(bands: Sequence[str], wanted: str | None) -> str | None:
    """The band that magnitudes are shown in: the one wanted, else i, r or the reddest."""
    for band in (wanted, "i", "r"):
        if band in bands:
            return band
    return bands[-1] if bands else None
