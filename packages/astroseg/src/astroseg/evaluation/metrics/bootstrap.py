"""Uncertainty of a metric from the spread between images.

Images, not objects, are drawn again with replacement: objects of one image share its
seeing, depth and source density. A resample is a row of counts, how often each image was
drawn; every metric here is a function of per-image counts weighted by such a row, so
nothing is matched again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.95
"""Probability an interval holds: the usual two sigma."""


@dataclass(frozen=True)
class Interval:
    """A metric and its 95 % bootstrap interval.

    NaN stands for a value that is not defined (nothing to count), and for the ends of an
    interval where fewer than two images leave nothing to resample.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A metric in bins, with its 95 % bootstrap interval.

    Attributes
    ----------
    edges : B + 1 bin edges; a bin holds its lower edge, the last bin both.
    value, low, high : B each, NaN where the bin is empty.
    count : B each, objects the metric is a fraction of.
    """

    edges: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: tuple[int, ...]


def draw(n_images: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """(R, I) float32, how often each image is drawn in each resample.

    float32 holds these counts and their sums (to 2^24) exactly at half the memory.
    """
    if n_images == 0:
        return np.zeros((resamples, 0), np.float32)
    generator = np.random.default_rng(seed)
    shares = np.full(n_images, 1 / n_images)
    return generator.multinomial(n_images, shares, size=resamples).astype(np.float32)


def interval(value: float, samples: NDArray[np.floating], n_images: int) -> Interval:
    """The percentile interval of resampled values; NaN samples (nothing drawn) left out."""
    low, high = _ends(samples[:, None], n_images)
    return Interval(float(value), float(low[0]), float(high[0]))


def _ends(
    samples: NDArray[np.floating], n_images: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper end of each column of (R, B) samples."""
    low = np.full(samples.shape[1], np.nan)
    high = low.copy()
    some = np.isfinite(samples).any(axis=0)
    if n_images >= 2 and some.any():
        tails = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
        low[some], high[some] = np.nanquantile(samples[:, some].astype(np.float64), tails, axis=0)
    return low, high


def per_image(
    image: NDArray[np.int64], n_images: int, column: NDArray[np.int64] | None = None, n: int = 1
) -> NDArray[np.float64]:
    """(I, B) counts of objects by image and bin; bins outside 0..n-1 are not counted."""
    if column is None:
        column = np.zeros(len(image), np.int64)
    inside = (column >= 0) & (column < n)
    flat = np.bincount(image[inside] * n + column[inside], minlength=n_images * n)
    return flat.reshape(n_images, n).astype(np.float64)


def ratio_curve(
    part: NDArray[np.float64],
    whole: NDArray[np.float64],
    weights: NDArray[np.float32],
    edges: NDArray[np.float64],
) -> Curve:
    """Curve of sum(part) / sum(whole), both (I, B) counts by image and bin."""
    value = _divide(part.sum(axis=0), whole.sum(axis=0))
    samples = _divide(weights @ part, weights @ whole)
    low, high = _ends(samples, len(part))
    return Curve(
        edges=tuple(edges.tolist()),
        value=tuple(value.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        count=tuple(int(n) for n in whole.sum(axis=0)),
    )


def ratio(
    part: NDArray[np.float64], whole: NDArray[np.float64], weights: NDArray[np.float32]
) -> Interval:
    """Interval of sum(part) / sum(whole), both (I,) or (I, 1) counts by image."""
    part, whole = part.reshape(len(part), -1), whole.reshape(len(whole), -1)
    value = _divide(part.sum(axis=0), whole.sum(axis=0))
    samples = _divide(weights @ part, weights @ whole)
    return interval(float(value[0]), samples[:, 0], len(part))


def _divide(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)


def median(
    values: NDArray[np.float64],
    image: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> Interval:
    """Interval of the median of per-object values, each weighted by its image's count."""
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    order = np.argsort(values)
    ranked, where = values[order], image[order]
    samples = np.full(len(weights), np.nan)
    for k, row in enumerate(weights):  # one row at a time: 1000 x 50,000 would be 200 MB
        total = np.cumsum(row[where], dtype=np.float64)
        if total[-1] > 0:
            samples[k] = ranked[np.searchsorted(total, total[-1] / 2)]
    return interval(float(np.median(values)), samples, weights.shape[1])
