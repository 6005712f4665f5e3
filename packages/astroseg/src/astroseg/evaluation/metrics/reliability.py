"""Whether scores are probabilities: the reliability curve and the expected calibration error.

A detection is right where a truth, of whatever class, matches it as in AP at IoU 0.5: by falling
score each takes the free truth that it overlaps most. Duplicates are wrong. What lies on ignore
regions does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation.metrics.matching import Candidates, by_score, match_greedy
from astroseg.evaluation.metrics.objects import EvaluationSet

LEAST_IOU = 0.5
"""Of a right detection, as in AP50."""

BINS = 10
"""Of the score from 0 to 1, of equal width: the usual number (Guo et al. 2017)."""

ALL_CLASSES = "all"
"""Key of the curve of all detections."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """What detections of a score were worth.

    Attributes
    ----------
    score : mean score of the detections of each bin, NaN in an empty one.
    right : fraction of them that is right, NaN in an empty bin.
    count : their number.
    expected_calibration_error : mean of \\|right - score\\| over the detections, by their bins.
    """

    score: list[float]
    right: list[float]
    count: list[int]
    expected_calibration_error: float


@dataclass(frozen=True)
class Reliability:
    """Reliability of the scores.

    Attributes
    ----------
    kind : of the IoU, mask or box.
    edges : of the bins of the score.
    curves : by class given, and of all.
    """

    kind: str
    edges: list[float]
    curves: dict[str, ReliabilityCurve]


def right_detections(
    data: EvaluationSet, candidates: Candidates
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(D,) which detections are right, and which count.

    Parameters
    ----------
    candidates : overlapping pairs, of masks or boxes.
    """
    truth, detections = data.truth, data.detections
    close = candidates.where(candidates.iou >= LEAST_IOU)
    ignore = truth.ignored[close.truth]
    right = match_greedy(close.where(~ignore), by_score(detections.score), len(truth)) >= 0
    counted = np.ones(len(detections), np.bool_)
    counted[close.detection[ignore]] = False
    return right, counted | right


def reliability(data: EvaluationSet, candidates: Candidates, kind: str) -> Reliability:
    """The curves of all detections and of each class."""
    right, counted = right_detections(data, candidates)
    score, label = data.detections.score, data.detections.label
    curves = {ALL_CLASSES: curve(score[counted], right[counted])}
    for k, name in enumerate(data.classes):
        mine = counted & (label == k)
        curves[name] = curve(score[mine], right[mine])
    return Reliability(kind, np.linspace(0, 1, BINS + 1).tolist(), curves)


def curve(score: NDArray[np.float64], right: NDArray[np.bool_]) -> ReliabilityCurve:
    """The curve of detections (N,) by their scores in 0..1."""
    place = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    held = np.where(count > 0, count, np.nan)
    mean = np.bincount(place, score, BINS) / held
    fraction = np.bincount(place, right, BINS) / held
    gap = np.nansum(count * np.abs(fraction - mean))
    return ReliabilityCurve(
        mean.tolist(),
        fraction.tolist(),
        count.tolist(),
        float(gap / len(score)) if len(score) else float("nan"),
    )
