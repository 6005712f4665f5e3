"""Fit the map from scores to probabilities on a validation set. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from astroseg.core.calibration import Calibration, WorkingPoint, logit, sigmoid
from astroseg.core.config import Config
from astroseg.core.errors import InputError
from astroseg.core.overlaps import overlap_with_better
from astroseg.evaluation.metrics.matching import box_candidates, mask_candidates
from astroseg.evaluation.metrics.objects import EvaluationSet, Objects
from astroseg.evaluation.metrics.read import read
from astroseg.evaluation.metrics.reliability import curve, right_detections

PURITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""Of the working points."""

LEAST_OF_A_KIND = 50
"""Right and wrong detections that a class needs for a fit of its own: the offset is then known
to some 0.2, the spread of a logit from 50 of a kind."""

LEAST_TO_FIT = 10
"""The same of all classes together."""

TEMPERATURES = (0.05, 20.0)
"""Range of the fit: a network's logits are off by a factor of two, not of twenty."""


def fit_calibration(
    results: str | Path, coco: str | Path, config: Config | None = None
) -> Calibration:
    """Fit the map from the scores of predictions to the probability that each is right.

    Parameters
    ----------
    results : predictions (`astroseg.evaluation.metrics.read.read`) with the model's raw scores,
        down to a low one.
    coco : their truth: images that the model was not trained on.
    config : its ``data.classes``, ``data.strict`` and ``data.iscrowd`` count.

    Raises
    ------
    InputError
        When a file is wrong, the scores are calibrated already, or right or wrong detections
        are too few.
    """
    data = (config or Config()).data
    pairs = read(
        coco,
        results,
        classes=data.classes,
        strict=data.strict,
        ignored_as_objects=data.iscrowd == "object",
    )
    if pairs.prediction_info.get("calibration"):
        raise InputError(
            "its scores are calibrated already",
            file=results,
            remedy="predict with --calibrated false",
        )
    return calibration_of(pairs, Path(coco))


def calibration_of(data: EvaluationSet, file: Path) -> Calibration:
    """The calibration that fits a validation set.

    Parameters
    ----------
    file : of the truth, for messages.
    """
    by_mask = data.has_masks
    candidates = (mask_candidates if by_mask else box_candidates)(data.truth, data.detections)
    right, counted = right_detections(data, candidates)
    score, label = data.detections.score[counted], data.detections.label[counted]
    right, overlap = right[counted], _overlap(data.detections)[counted]
    if min(int(right.sum()), int((~right).sum())) < LEAST_TO_FIT:
        raise InputError(
            f"has {int(right.sum())} right and {int((~right).sum())} wrong detections, too few "
            f"to calibrate scores ({LEAST_TO_FIT} of each)",
            file=file,
            remedy="give more images, or a lower --calibration-score",
        )
    together = _fit(score, overlap, right)
    fits = []
    for k in range(len(data.classes)):
        mine = label == k
        few = min(int(right[mine].sum()), int((~right[mine]).sum())) < LEAST_OF_A_KIND
        fits.append(together if few else _fit(score[mine], overlap[mine], right[mine]))
    count = tuple(int((label == k).sum()) for k in range(len(data.classes)))
    temperature, offset, slope, likeness = zip(*fits, strict=True)
    made = Calibration(data.classes, temperature, offset, count, slope=slope, likeness=likeness)
    calibrated = made.probability(score, label, overlap)
    return replace(
        made,
        error=curve(calibrated, right).expected_calibration_error,
        error_before=curve(score, right).expected_calibration_error,
        points=working_points(calibrated, right, int((~data.truth.ignored).sum())),
    )


def _overlap(detections: Objects) -> NDArray[np.float64]:
    """(D, 2) as `overlap_with_better` has it, of the detections of each image; 0 without masks."""
    found = np.zeros((len(detections), 2))
    if detections.masks is None or not len(detections):
        return found
    begins = np.flatnonzero(np.diff(detections.image, prepend=-1))
    for begin, end in pairwise([*begins.tolist(), len(detections)]):
        here = slice(begin, end)
        x, y, width, height = detections.tight[here].T
        boxes = np.stack([x, y, x + width, y + height], axis=1)
        masks = detections.masks[here]
        found[here] = overlap_with_better(masks, boxes, detections.score[here])
    return found


def _fit(
    score: NDArray[np.float64], overlap: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """(temperature, offset, slope, likeness) of the greatest likelihood.

    The targets are Platt's, (n + 1) / (n + 2) and 1 / (n + 2) instead of 1 and 0: a perfect
    separation would else have no greatest likelihood.
    """
    x = np.stack([logit(score), np.ones(len(score)), *overlap.T])
    n, m = int(right.sum()), int((~right).sum())
    target = np.where(right, (n + 1) / (n + 2), 1 / (m + 2))

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = values @ x
        excess = sigmoid(z) - target
        value = float(np.mean(np.logaddexp(0, z) - target * z))
        return value, x @ excess / len(z)

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    bounds = [(low, high), (None, None), (None, 0.0), (None, 0.0)]
    found = minimize(loss, np.array([1.0, 0.0, 0.0, 0.0]), jac=True, bounds=bounds)
    steep, *others = found.x.tolist()
    return 1 / steep, *others


def working_points(
    score: NDArray[np.float64], right: NDArray[np.bool_], truths: int
) -> tuple[WorkingPoint, ...]:
    """The lowest limit of the score for each of `PURITIES` that some limit reaches.

    Parameters
    ----------
    truths : objects to find.
    """
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(right[order])
    # Detections of one score are kept or dropped together.
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    purity = hits[last] / (last + 1)
    points = []
    for wanted in PURITIES:
        good = np.flatnonzero(purity >= wanted)
        if len(good):
            place = good[-1]
            points.append(
                WorkingPoint(
                    float(purity[place]),
                    float(score[last[place]]),
                    float(hits[last[place]] / max(1, truths)),
                )
            )
    return tuple(dict.fromkeys(points))
