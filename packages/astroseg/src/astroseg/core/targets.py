"""Attributes that a model learns: their names, and what is written of their mixtures.

A target's probability density is a mixture of K Gaussians. Mixtures are arrays of (..., 3, K):
weights that add to 1, means and deviations, in the target's unit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

LOW, HIGH = 0.16, 0.84
"""Quantiles written beside the median: 68 % lies between them, one sigma of a Gaussian."""

SUFFIXES = ("", "_std", "_lo", "_hi")
"""Of the columns of a target: median, standard deviation, and the two quantiles."""

REDSHIFTS = frozenset(
    {"redshift", "z", "zspec", "z_spec", "spec_z", "zphot", "z_phot", "photo_z", "photoz", "z_best"}
)
"""Names of redshifts, in lower case: their errors are divided by 1 + z."""

REDSHIFT_RANGE = (-0.01, 30.0)
"""No galaxy or star has a redshift beyond; what catalogs write there is a sentinel."""

SENTINELS = (-99.0, -999.0, -9999.0)
"""What catalogs write for values that were not measured; 1e20 and more, too."""


class Mixture(NamedTuple):
    """Gaussian mixtures of one target by detection, with the names that `qp` has for them.

    Attributes
    ----------
    weights : (N, K), rows add to 1.
    means, stds : (N, K), in the target's unit.
    """

    weights: NDArray[np.float32]
    means: NDArray[np.float32]
    stds: NDArray[np.float32]


def is_redshift(name: str) -> bool:
    """Whether a target is a redshift, by its name."""
    return name.lower() in REDSHIFTS


def is_sentinel(name: str, value: float) -> bool:
    """Whether a value stands for none; NaN is no sentinel."""
    if is_redshift(name):
        return value < REDSHIFT_RANGE[0] or value > REDSHIFT_RANGE[1]
    return value in SENTINELS or abs(value) >= 1e20


def location_and_scale(values: NDArray[np.floating]) -> tuple[float, float]:
    """Median of the finite values, and half the width of their middle 68 %.

    Where that half is one value again and again, the standard deviation stands for the width.
    The second is 0 where all values are equal, and both are NaN where there are none.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return math.nan, math.nan
    low, middle, high = np.quantile(known, [LOW, 0.5, HIGH])
    width = (high - low) / 2
    return float(middle), float(width if width > 0 else known.std())


def summary(mixtures: NDArray[np.floating]) -> NDArray[np.float64]:
    """(..., 4) median, standard deviation and the quantiles `LOW` and `HIGH` of (..., 3, K)."""
    weights, means, stds = np.moveaxis(mixtures.astype(np.float64), -2, 0)
    mean = (weights * means).sum(axis=-1)
    variance = (weights * (stds**2 + (means - mean[..., None]) ** 2)).sum(axis=-1)
    low, middle, high = (quantile(mixtures, p) for p in (LOW, 0.5, HIGH))
    return np.stack([middle, np.sqrt(variance), low, high], axis=-1)


def quantile(mixtures: NDArray[np.floating], p: float) -> NDArray[np.float64]:
    """(...) where the cumulative probability of (..., 3, K) is `p`."""
    weights, means, stds = np.moveaxis(mixtures.astype(np.float64), -2, 0)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    # The quantile of the mixture lies between those of its components.
    reach = 9 * stds  # beyond, a Gaussian has no float64 left
    low, high = (means - reach).min(axis=-1), (means + reach).max(axis=-1)
    for _ in range(60):  # halves the range to the last digit of a float64
        middle = (low + high) / 2
        below = (weights * ndtr((middle[..., None] - means) / stds)).sum(axis=-1) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def columns(
    mixtures: NDArray[np.floating], targets: Sequence[str], taken: Collection[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Median, deviation and quantiles of each target by name and suffix, (N,) each.

    Parameters
    ----------
    mixtures : (N, T, 3, K).
    taken : names that other columns have, as mag_i of the measured magnitude; a target of such a
        name is called ``mag_i_learned``.
    """
    numbers = summary(mixtures)
    return {
        (f"{name}_learned" if name in taken else name) + suffix: numbers[:, place, k]
        for place, name in enumerate(targets)
        for k, suffix in enumerate(SUFFIXES)
    }


def learned(names: Collection[str]) -> tuple[str, ...]:
    """Which of some columns are medians of targets: those with a deviation and quantiles."""
    there = set(names)
    return tuple(n for n in names if all(n + suffix in there for suffix in SUFFIXES))


def by_name(mixtures: NDArray[np.float32], targets: Sequence[str]) -> dict[str, Mixture]:
    """The mixtures (N, T, 3, K) of each target."""
    return {
        name: Mixture(*np.moveaxis(mixtures[:, place], 1, 0)) for place, name in enumerate(targets)
    }
