"""Bins of magnitude, signal-to-noise and blendedness, and where a detection falls in them.

A truth carries these values; a detection usually does not. One that matched takes its
truth's. A false detection takes its own where the predictions file gives it, else an estimate:
the median of the matched detections nearest to it in mask area. (A mask is an isophote, so its
area follows the brightness.) Blendedness is estimated by that of the truth that it overlaps
most, and not where it overlaps none. How many were estimated is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation.metrics.matching import Candidates, Pairs
from astroseg.evaluation.metrics.objects import Objects

NEIGHBOURS = 15
"""Matched detections behind an estimate: enough for a stable median, few enough to stay
local in area."""

_SNR_EDGES = (5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 1e4)
"""From the paper's detection limit of 5 sigma; about equal steps in log S/N, as far as the
truths go."""

_COUNT_EDGES = (1.0, 2.0, 3.0, 4.0, 6.0, 11.0)
"""Sources of a blend, itself included: alone, 2, 3, 4-5, 6-10, more."""

_FRACTION_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Blendedness as a fraction of flux: 0 is alone; survey users cut near 0.4 (10^-0.375)."""


@dataclass(frozen=True, eq=False)
class Attribute:
    """What objects are binned by.

    Attributes
    ----------
    name : column of `Objects.attributes`.
    label : for an axis, with the unit.
    edges : (B + 1,) float64, increasing.
    log : whether the axis is logarithmic.
    """

    name: str
    label: str
    edges: NDArray[np.float64]
    log: bool = False

    def bin(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the bin of each value, -1 outside and for NaN."""
        index = np.searchsorted(self.edges, values, side="right") - 1
        index[values == self.edges[-1]] = len(self.edges) - 2
        index[(index > len(self.edges) - 2) | np.isnan(values)] = -1
        return index.astype(np.int64)

    @property
    def n_bins(self) -> int:
        return len(self.edges) - 1


def bands(truth: Objects) -> tuple[str, ...]:
    """Bands that some truth has a magnitude in."""
    names = (name for name in truth.attributes if name.startswith("mag_"))
    return tuple(name.removeprefix("mag_") for name in names if len(_finite(truth, name)))


def reference_band(truth: Objects, wanted: str) -> str | None:
    """The band to bin by: the one wanted, else r, else the first there is."""
    there = bands(truth)
    return next((band for band in (wanted, "r", *there) if band in there), None)


_MAGNITUDES = (-100.0, 100.0)
"""What is beyond is no source's, and bins that reach there would fill the memory."""


def attributes(truth: Objects, band: str, magnitude_step: float) -> tuple[Attribute, ...]:
    """What the truth can be binned by; attributes no truth has are left out."""
    out = []
    reference = reference_band(truth, band)
    if reference is not None:
        values = _finite(truth, f"mag_{reference}")
        # The tails would stretch the axis by bins of one object; they count as outside.
        low, high = np.quantile(values, [0.005, 0.995] if len(values) >= 200 else [0, 1])
        low, high = np.clip((low, high), *_MAGNITUDES)
        first = np.floor(low / magnitude_step)
        last = max(np.ceil(high / magnitude_step), first + 1)
        edges = np.arange(first, last + 1) * magnitude_step
        out.append(Attribute(f"mag_{reference}", f"{reference} magnitude", edges))
    if len(values := _finite(truth, "snr")):
        wanted = next((k for k, e in enumerate(_SNR_EDGES) if e > values.max()), len(_SNR_EDGES))
        edges = np.array(_SNR_EDGES[: max(wanted + 1, 2)])
        edges[-1] = max(edges[-1], values.max())
        if values.min() < _SNR_EDGES[0]:
            # A logarithmic axis has no 0; 0.5 sigma is no detection at all.
            edges = np.insert(edges, 0, max(min(values.min(), 4.0), 0.5))
        out.append(Attribute("snr", "signal-to-noise", edges, log=True))
    if len(values := _finite(truth, "n_blended")):
        edges = np.array([*(e for e in _COUNT_EDGES if e <= values.max()), values.max() + 1])
        out.append(Attribute("n_blended", "sources in the blend", edges))
    if len(_finite(truth, "blendedness")):
        out.append(Attribute("blendedness", "blendedness", np.array(_FRACTION_EDGES)))
    return tuple(out)


def _finite(truth: Objects, name: str) -> NDArray[np.float64]:
    values = truth.attributes.get(name)
    if values is None:
        return np.zeros(0)
    return values[np.isfinite(values) & ~truth.ignored]


@dataclass(frozen=True, eq=False)
class Placed:
    """Detections placed in the bins of an attribute.

    Attributes
    ----------
    values : (D,) float64, NaN where it is unknown.
    estimated : number of detections whose value is an estimate.
    """

    values: NDArray[np.float64]
    estimated: int


def place(
    attribute: Attribute,
    truth: Objects,
    detections: Objects,
    candidates: Candidates,
    pairs: Pairs,
) -> Placed:
    """The attribute of every detection: its truth's, its own, or an estimate."""
    values = np.full(len(detections), np.nan)
    own = detections.attributes.get(attribute.name)
    if own is not None:
        values[:] = own
    values[pairs.detection] = truth.attributes[attribute.name][pairs.truth]
    lacking = np.isnan(values)
    lacking[pairs.detection] = False
    if not lacking.any():
        return Placed(values, 0)
    if attribute.name in ("n_blended", "blendedness"):
        estimate = _of_overlapped(attribute, truth, len(detections), candidates)
    else:
        estimate = _by_area(detections.mask_area, values, pairs.detection)
    values[lacking] = estimate[lacking]
    return Placed(values, int(np.isfinite(values[lacking]).sum()))


def _of_overlapped(
    attribute: Attribute, truth: Objects, n_detections: int, candidates: Candidates
) -> NDArray[np.float64]:
    """(D,) value of the truth each detection overlaps most, the lowest where none."""
    estimate = np.full(n_detections, attribute.edges[0])
    objects = candidates.where(~truth.ignored[candidates.truth])
    order = np.argsort(objects.iou, kind="stable")  # the best is written last and stays
    estimate[objects.detection[order]] = truth.attributes[attribute.name][objects.truth[order]]
    return estimate


def _by_area(
    area: NDArray[np.float64], values: NDArray[np.float64], known: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(D,) running median of the known values over the `NEIGHBOURS` nearest in area."""
    known = known[np.isfinite(values[known])]
    if len(known) < NEIGHBOURS:
        return np.full(len(area), np.nan)
    order = known[np.argsort(area[known], kind="stable")]
    windows = np.lib.stride_tricks.sliding_window_view(values[order], NEIGHBOURS)
    medians = np.median(windows, axis=1)
    at = np.searchsorted(area[order], area) - NEIGHBOURS // 2
    return medians[np.clip(at, 0, len(medians) - 1)]
