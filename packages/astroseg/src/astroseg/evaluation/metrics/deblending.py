"""How well found objects are outlined: IoU of matched pairs (paper, section 4.3).

Beside the median box IoU stands what a constant box reaches, of the median truth's size
at each truth's mask centre. Where truth boxes hardly vary (published labels had 90 % of
one size), that baseline beats any network, and a high median says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation.metrics.bootstrap import Interval, median
from astroseg.evaluation.metrics.matching import Candidates, Pairs, iou_of_pairs
from astroseg.evaluation.metrics.objects import EvaluationSet, Objects

HISTOGRAM_EDGES: NDArray[np.float64] = np.linspace(0.0, 1.0, 41)
"""Bins of 0.025 in IoU, fine enough for the shape of the paper's Fig. 9."""


@dataclass(frozen=True)
class Overlap:
    """One distribution of IoU.

    Attributes
    ----------
    median : with its interval.
    quartiles : 25 % and 75 %.
    histogram : counts in `HISTOGRAM_EDGES`.
    """

    median: Interval
    quartiles: tuple[float, float]
    histogram: list[int]


@dataclass(frozen=True)
class Deblending:
    """IoU of the matched pairs.

    Attributes
    ----------
    pairs : how many there are.
    box, mask : IoU of their boxes and masks; mask is None where a file has none.
    mask_of_class : by class of the truth.
    baseline : box IoU of a constant box with the truth, over the same pairs.
    baseline_size : width and height of that box, in pixels.
    edges : of the histograms.
    """

    pairs: int
    box: Overlap
    mask: Overlap | None
    mask_of_class: dict[str, Overlap]
    baseline: Overlap
    baseline_size: tuple[float, float]
    edges: list[float]


def deblend(
    data: EvaluationSet,
    pairs: Pairs,
    boxes: Candidates,
    masks: Candidates | None,
    weights: NDArray[np.float32],
) -> Deblending:
    """Distributions of IoU over the matched pairs."""
    image, label = data.truth.image[pairs.truth], data.truth.label[pairs.truth]
    box_iou = iou_of_pairs(boxes, pairs.truth, pairs.detection)
    size, constant = constant_box_iou(data.truth, pairs.truth)
    mask, by_class = None, {}
    if masks is not None:
        mask_iou = iou_of_pairs(masks, pairs.truth, pairs.detection)
        mask = _overlap(mask_iou, image, weights)
        by_class = {
            name: _overlap(mask_iou[label == k], image[label == k], weights)
            for k, name in enumerate(data.classes)
        }
    return Deblending(
        pairs=len(pairs.truth),
        box=_overlap(box_iou, image, weights),
        mask=mask,
        mask_of_class=by_class,
        baseline=_overlap(constant, image, weights),
        baseline_size=size,
        edges=HISTOGRAM_EDGES.tolist(),
    )


def _overlap(
    iou: NDArray[np.float64], image: NDArray[np.int64], weights: NDArray[np.float32]
) -> Overlap:
    low, high = np.quantile(iou, [0.25, 0.75]) if len(iou) else (np.nan, np.nan)
    return Overlap(
        median=median(iou, image, weights),
        quartiles=(float(low), float(high)),
        histogram=np.histogram(iou, HISTOGRAM_EDGES)[0].tolist(),
    )


def constant_box_iou(
    truth: Objects, rows: NDArray[np.int64]
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Box IoU with some truths of a box of the median size at their masks' centres.

    The median is over all truths but ignore regions; the centre is that of the mask's
    tight box, the best place such a box can have. (The truth's own box where it has no
    mask.)

    Returns
    -------
    (width, height) of the box in pixels, and (M,) float64 IoU.
    """
    objects = truth.boxes[~truth.ignored]
    if not len(objects):
        return (float("nan"), float("nan")), np.zeros(len(rows))
    size = np.median(objects[:, 2:], axis=0)
    box, tight = truth.boxes[rows], truth.tight[rows]
    centre = tight[:, :2] + tight[:, 2:] / 2
    low = np.maximum(box[:, :2], centre - size / 2)
    high = np.minimum(box[:, :2] + box[:, 2:], centre + size / 2)
    inter = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(box[:, 2:], axis=1) + np.prod(size) - inter
    return (float(size[0]), float(size[1])), inter / union
