"""Errors of learned attributes, of the matched pairs whose truth is known.

The error is predicted less true; of a redshift it is divided by 1 + the true one, as is usual
for photometric redshifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.core.config import EvaluateConfig
from astroseg.core.targets import is_redshift
from astroseg.evaluation.metrics.bootstrap import Interval, median, per_image, ratio
from astroseg.evaluation.metrics.matching import Pairs
from astroseg.evaluation.metrics.objects import EvaluationSet, Objects

SIGMA_OF_MAD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""


@dataclass(frozen=True)
class TargetScores:
    """Errors of one attribute.

    Attributes
    ----------
    pairs : matched pairs with a known truth.
    over_one_plus_z : whether errors are divided by 1 + redshift.
    bias : median error.
    scatter : 1.4826 times the median absolute deviation of the errors from the bias.
    outlier_limit : absolute error, of a redshift, or distance from the bias beyond which an
        error is an outlier.
    outliers : fraction of the pairs.
    coverage : fraction of the truths between the written quantiles, which hold 68 %.
    """

    pairs: int
    over_one_plus_z: bool
    bias: Interval
    scatter: Interval
    outlier_limit: float
    outliers: Interval
    coverage: Interval


@dataclass(frozen=True, eq=False)
class TargetPairs:
    """Values of the matched pairs whose truth is known.

    Attributes
    ----------
    truth, found, low, high : (M,) true value, predicted median and quantiles.
    image : (M,) int64, index of the image.
    """

    truth: NDArray[np.float64]
    found: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    image: NDArray[np.int64]


def target_pairs(data: EvaluationSet, pairs: Pairs, name: str) -> TargetPairs:
    """The matched pairs with a known value of a target."""
    truth = _column(data.truth, name)[pairs.truth]
    found, low, high = (
        _column(data.detections, name + end)[pairs.detection] for end in ("", "_lo", "_hi")
    )
    known = np.isfinite(truth) & np.isfinite(found) & np.isfinite(low) & np.isfinite(high)
    return TargetPairs(
        truth=truth[known],
        found=found[known],
        low=low[known],
        high=high[known],
        image=data.truth.image[pairs.truth][known],
    )


def _column(objects: Objects, name: str) -> NDArray[np.float64]:
    """(N,) values of an attribute, NaN where none was read."""
    return objects.attributes.get(name, np.full(len(objects), np.nan))


def evaluate_targets(
    data: EvaluationSet, pairs: Pairs, how: EvaluateConfig, weights: NDArray[np.float32]
) -> dict[str, TargetScores]:
    """Scores of every attribute that the predictions hold, by name."""
    return {
        name: scores_of(target_pairs(data, pairs, name), is_redshift(name), how, weights)
        for name in data.targets
    }


def scores_of(
    one: TargetPairs, redshift: bool, how: EvaluateConfig, weights: NDArray[np.float32]
) -> TargetScores:
    """Scores of one attribute.

    Parameters
    ----------
    weights : (R, I) of the bootstrap.
    """
    error = (one.found - one.truth) / (1 + one.truth if redshift else 1)
    bias = median(error, one.image, weights)
    deviation = np.abs(error - bias.value)
    scatter = median(SIGMA_OF_MAD * deviation, one.image, weights)
    limit = how.redshift_outlier if redshift else how.outlier_scatter * scatter.value
    far = (np.abs(error) if redshift else deviation) > limit
    inside = (one.low <= one.truth) & (one.truth <= one.high)
    return TargetScores(
        pairs=len(error),
        over_one_plus_z=redshift,
        bias=bias,
        scatter=scatter,
        outlier_limit=float(limit),
        outliers=_fraction(far, one.image, weights),
        coverage=_fraction(inside, one.image, weights),
    )


def _fraction(
    chosen: NDArray[np.bool_], image: NDArray[np.int64], weights: NDArray[np.float32]
) -> Interval:
    images = weights.shape[1]
    return ratio(per_image(image[chosen], images), per_image(image, images), weights)
