"""How many objects are found, and how many detections are objects.

Completeness is the fraction of truths that have a detection, purity the fraction of
detections that have a truth; one-to-one, above the score threshold, classes aside.
Ignore regions and what lies on them count in neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation.metrics.bins import Attribute, Placed
from astroseg.evaluation.metrics.bootstrap import Curve, Interval, per_image, ratio, ratio_curve
from astroseg.evaluation.metrics.matching import Pairs
from astroseg.evaluation.metrics.objects import EvaluationSet


@dataclass(frozen=True)
class DetectionCurves:
    """Completeness and purity against an attribute.

    Attributes
    ----------
    completeness, purity : curves over the same bins.
    truths_outside, detections_outside : objects without the attribute or outside its bins.
    detections_estimated : detections whose value is an estimate (see `bins`).
    """

    completeness: Curve
    purity: Curve
    truths_outside: int
    detections_outside: int
    detections_estimated: int


@dataclass(frozen=True)
class Detection:
    """Completeness and purity, whole, by class of the truth (given), and in bins.

    Attributes
    ----------
    completeness_of_class : by class of the truth, whatever class the detection was given.
    purity_of_class : by class given, whatever class the truth has.
    """

    completeness: Interval
    purity: Interval
    completeness_of_class: dict[str, Interval]
    purity_of_class: dict[str, Interval]
    curves: dict[str, DetectionCurves]


def detect(
    data: EvaluationSet,
    pairs: Pairs,
    attributes: tuple[Attribute, ...],
    placed: dict[str, Placed],
    weights: NDArray[np.float32],
) -> Detection:
    """Completeness and purity with their intervals."""
    truth, detections, n_images = data.truth, data.detections, len(data.images)
    found = np.zeros(len(truth), bool)
    found[pairs.truth] = True
    real = np.zeros(len(detections), bool)
    real[pairs.detection] = True
    to_find, claimed = found | pairs.missed, real | pairs.spurious

    def fraction(
        image: NDArray[np.int64], part: NDArray[np.bool_], whole: NDArray[np.bool_]
    ) -> Interval:
        return ratio(per_image(image[part], n_images), per_image(image[whole], n_images), weights)

    curves: dict[str, DetectionCurves] = {}
    for attribute in attributes:
        truth_bin = attribute.bin(truth.attributes[attribute.name])
        detection_bin = attribute.bin(placed[attribute.name].values)
        counts = [
            per_image(image[rows], n_images, column[rows], attribute.n_bins)
            for image, rows, column in (
                (truth.image, found, truth_bin),
                (truth.image, to_find, truth_bin),
                (detections.image, real, detection_bin),
                (detections.image, claimed, detection_bin),
            )
        ]
        curves[attribute.name] = DetectionCurves(
            completeness=ratio_curve(counts[0], counts[1], weights, attribute.edges),
            purity=ratio_curve(counts[2], counts[3], weights, attribute.edges),
            truths_outside=int((truth_bin[to_find] < 0).sum()),
            detections_outside=int((detection_bin[claimed] < 0).sum()),
            detections_estimated=placed[attribute.name].estimated,
        )
    of_truth = {name: truth.label == k for k, name in enumerate(data.classes)}
    of_given = {name: detections.label == k for k, name in enumerate(data.classes)}
    return Detection(
        completeness=fraction(truth.image, found, to_find),
        purity=fraction(detections.image, real, claimed),
        completeness_of_class={
            name: fraction(truth.image, found & mine, to_find & mine)
            for name, mine in of_truth.items()
        },
        purity_of_class={
            name: fraction(detections.image, real & mine, claimed & mine)
            for name, mine in of_given.items()
        },
        curves=curves,
    )
