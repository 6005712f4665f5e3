"""How well found objects are classified: the paper's matched-only metrics (section 4.2).

Only pairs count: detections above the score threshold matched one-to-one, classes aside,
to truths by box IoU above 0.5. For a class, a pair of that class classified as such is a
true positive, a pair wrongly given it a false positive, a pair of it given another a false
negative. Labels that are missing or spurious in the truth so do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation.metrics.bins import Attribute
from astroseg.evaluation.metrics.bootstrap import Curve, Interval, per_image, ratio, ratio_curve
from astroseg.evaluation.metrics.matching import Candidates, Pairs, pair
from astroseg.evaluation.metrics.objects import EvaluationSet


@dataclass(frozen=True)
class ClassScores:
    """Matched-only scores of one class."""

    precision: Interval
    recall: Interval
    f1: Interval
    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True)
class ClassCurves:
    """Matched-only precision and recall of one class against an attribute of the truth."""

    precision: Curve
    recall: Curve


@dataclass(frozen=True)
class Classification:
    """Matched-only classification.

    Attributes
    ----------
    classes : by class name.
    confusion : [true class][class given] counts of pairs, in the order of `classes`.
    curves : by attribute name, then class name.
    without_attribute : by attribute name, pairs whose truth lacks it or lies outside the bins.
    """

    classes: dict[str, ClassScores]
    confusion: list[list[int]]
    curves: dict[str, dict[str, ClassCurves]]
    without_attribute: dict[str, int]


@dataclass(frozen=True)
class ByThreshold:
    """What the choice of score threshold does.

    Attributes
    ----------
    score : thresholds.
    precision, recall, f1 : matched-only, by class name, one value per threshold.
    completeness, purity : of the detections, classes aside.
    detections : how many are left.
    """

    score: list[float]
    precision: dict[str, list[float]]
    recall: dict[str, list[float]]
    f1: dict[str, list[float]]
    completeness: list[float]
    purity: list[float]
    detections: list[int]


def classify(
    data: EvaluationSet,
    pairs: Pairs,
    attributes: tuple[Attribute, ...],
    weights: NDArray[np.float32],
) -> Classification:
    """Matched-only precision, recall and F1, whole and against each attribute."""
    true, given = data.truth.label[pairs.truth], data.detections.label[pairs.detection]
    image, n_images = data.truth.image[pairs.truth], len(data.images)
    scores = {
        name: _class_scores(true == k, given == k, image, weights)
        for k, name in enumerate(data.classes)
    }
    curves: dict[str, dict[str, ClassCurves]] = {}
    outside: dict[str, int] = {}
    for attribute in attributes:
        column = attribute.bin(data.truth.attributes[attribute.name][pairs.truth])
        outside[attribute.name] = int((column < 0).sum())
        curves[attribute.name] = {}
        for k, name in enumerate(data.classes):
            counts = [
                per_image(image[rows], n_images, column[rows], attribute.n_bins)
                for rows in ((true == k) & (given == k), given == k, true == k)
            ]
            curves[attribute.name][name] = ClassCurves(
                ratio_curve(counts[0], counts[1], weights, attribute.edges),
                ratio_curve(counts[0], counts[2], weights, attribute.edges),
            )
    return Classification(scores, confusion(true, given, len(data.classes)), curves, outside)


def confusion(true: NDArray[np.int64], given: NDArray[np.int64], n_classes: int) -> list[list[int]]:
    """[true class][class given] counts."""
    flat = np.bincount(true * n_classes + given, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes).tolist()


def _class_scores(
    true: NDArray[np.bool_],
    given: NDArray[np.bool_],
    image: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> ClassScores:
    n_images = weights.shape[1]
    both = per_image(image[true & given], n_images)[:, 0]
    is_given = per_image(image[given], n_images)[:, 0]
    is_true = per_image(image[true], n_images)[:, 0]
    # F1 = 2 TP / (2 TP + FP + FN), and TP + FP = given, TP + FN = true.
    return ClassScores(
        precision=ratio(both, is_given, weights),
        recall=ratio(both, is_true, weights),
        f1=ratio(2 * both, is_given + is_true, weights),
        true_positives=int(both.sum()),
        false_positives=int(is_given.sum() - both.sum()),
        false_negatives=int(is_true.sum() - both.sum()),
    )


def by_threshold(
    data: EvaluationSet, candidates: Candidates, thresholds: NDArray[np.float64], iou: float
) -> ByThreshold:
    """Match again at each score threshold, and count."""
    names = data.classes
    out = ByThreshold(
        score=[],
        precision={name: [] for name in names},
        recall={name: [] for name in names},
        f1={name: [] for name in names},
        completeness=[],
        purity=[],
        detections=[],
    )
    for threshold in thresholds.tolist():
        pairs = pair(data.truth, data.detections, candidates, threshold, iou)
        true, given = data.truth.label[pairs.truth], data.detections.label[pairs.detection]
        n_pairs, n_missed, n_spurious = len(true), pairs.missed.sum(), pairs.spurious.sum()
        out.score.append(threshold)
        out.detections.append(int((~pairs.below).sum()))
        out.completeness.append(_fraction(n_pairs, n_pairs + n_missed))
        out.purity.append(_fraction(n_pairs, n_pairs + n_spurious))
        for k, name in enumerate(names):
            both = ((true == k) & (given == k)).sum()
            n_given, n_true = (given == k).sum(), (true == k).sum()
            out.precision[name].append(_fraction(both, n_given))
            out.recall[name].append(_fraction(both, n_true))
            out.f1[name].append(_fraction(2 * both, n_given + n_true))
    return out


def _fraction(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
