"""Average precision: COCO's, by class and size, and in bins of any attribute.

The tables by class and COCO size come from faster-coco-eval, which here counts every
detection (COCO's usual limit of 100 an image cuts AP on a dense tile to a third).
`average_precision` computes the same from match flags; it serves what that library does
not offer, bootstrap resamples, class-agnostic AP and bins of magnitude, and the tests
hold both to pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from astroseg.evaluation.metrics.matching import (
    IGNORED,
    Candidates,
    box_candidates,
    by_score,
    mask_candidates,
    match_greedy,
)
from astroseg.evaluation.metrics.objects import Image, Objects

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""COCO's and the paper's: 0.50 to 0.95 in steps of 0.05."""

RECALLS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
"""COCO's points of recall at which precision is averaged."""

SIZES = ("all", "small", "medium", "large")
"""COCO's area bins, in square pixels: any, < 32^2, 32^2 to 96^2, > 96^2."""

Kind = Literal["box", "mask"]

_ROWS = 8
"""Bootstrap resamples computed at once: their columns stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class ApTable:
    """COCO AP of one kind of IoU.

    Attributes
    ----------
    ap, ap50, ap75 : (K, 4) float64 by class and size (`SIZES`), NaN where there is no
        such truth.
    max_detections : of one image and class; all of them were counted.
    """

    ap: NDArray[np.float64]
    ap50: NDArray[np.float64]
    ap75: NDArray[np.float64]
    max_detections: int


def coco_ap(
    images: tuple[Image, ...],
    n_classes: int,
    truth: Objects,
    detections: Objects,
    kind: Kind,
    candidates: Candidates | None = None,
) -> ApTable:
    """AP of every class and size by faster-coco-eval, all detections counted.

    The engine compares every truth of an image with every detection, which takes gigabytes
    for an image of 10,000 objects. As only pairs of IoU 0.5 and more can match, it is given
    each image in blocks that no such pair straddles; and, for scores, their rank, so that
    ties keep their order across blocks. AP is the same to the last digit.

    A detection's size is its box's in box AP and its mask's in mask AP, as Detectron2 has it
    (pycocotools takes the box's for both when results carry boxes). A truth's size is the
    ``area`` of its annotation.

    Parameters
    ----------
    candidates : overlapping pairs with their IoU of that kind, if at hand.
    """
    most = int(np.bincount(detections.image, minlength=1).max())
    if not len(truth) or not len(detections):
        table = _ap_without_matches(truth, n_classes)
        return ApTable(table, table.copy(), table.copy(), most)
    if candidates is None:
        make = box_candidates if kind == "box" else mask_candidates
        candidates = make(truth, detections)
    block_t, block_d, image = _blocks(truth, detections, candidates)
    sizes = [(images[k].height, images[k].width) for k in image.tolist()]
    score = (len(detections) - by_score(detections.score)).astype(np.float64)
    area = detections.area if kind == "box" else detections.mask_area
    gt = _as_coco(sizes, n_classes, truth, block_t, truth.area, truth.score, kind)
    dt = _as_coco(sizes, n_classes, detections, block_d, area, score, kind)
    engine = COCOeval_faster(
        gt,
        dt,
        iouType="bbox" if kind == "box" else "segm",
        print_function=_quiet,
        rle_iou_max_workers=1,  # the caller decides how many cores are ours
    )
    engine.params.maxDets = [max(most, 1)]
    engine.evaluate()
    engine.accumulate()
    precision = np.asarray(engine.eval["precision"])[..., 0]  # (T, R, K, A)
    return ApTable(
        ap=_mean_precision(precision),
        ap50=_mean_precision(precision[:1]),
        ap75=_mean_precision(precision[5:6]),
        max_detections=most,
    )


def _mean_precision(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, A) mean over thresholds and recalls of (T, R, K, A); -1 is the engine's "none"."""
    mean = precision.reshape(-1, *precision.shape[2:]).mean(axis=0)
    return np.where((precision > -1).all(axis=(0, 1)), mean, np.nan)


def _ap_without_matches(truth: Objects, n_classes: int) -> NDArray[np.float64]:
    """AP where one side is empty: 0 where there are truths to miss, else undefined."""
    area, edges = truth.area, np.array([0.0, 32.0**2, 96.0**2, 1e10])
    table = np.full((n_classes, len(SIZES)), np.nan)
    for k in range(n_classes):
        mine = (truth.label == k) & ~truth.ignored
        inside = [mine] + [
            mine & (area >= low) & (area <= high)  # COCO's bins share their edges
            for low, high in pairwise(edges)
        ]
        table[k, [bool(rows.any()) for rows in inside]] = 0.0
    return table


def _quiet(*_: Any) -> None:
    """Takes the engine's messages."""


def _blocks(
    truth: Objects, detections: Objects, candidates: Candidates
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut images into blocks of some 64 objects that no pair of IoU 0.5 straddles.

    Returns
    -------
    (N,) and (D,) block of each truth and detection, and (B,) image of each block.
    """
    # A hair below 0.5: the engine's IoU may differ from ours in the last digit.
    close = candidates.where(candidates.iou >= 0.5 - 1e-9)
    n = len(truth) + len(detections)
    graph = coo_array(
        (np.ones(len(close.iou), np.int8), (close.truth, close.detection + len(truth))),
        shape=(n, n),
    )
    count, group = connected_components(graph, directed=False)
    image = np.empty(count, np.int64)
    image[group] = np.concatenate([truth.image, detections.image])
    order = np.argsort(image, kind="stable")
    filled = np.cumsum(np.bincount(group, minlength=count)[order]) // 64
    new = (np.diff(filled, prepend=-1) > 0) | (np.diff(image[order], prepend=-1) > 0)
    block = np.empty(count, np.int64)
    block[order] = np.cumsum(new) - 1
    return block[group[: len(truth)]], block[group[len(truth) :]], image[order][new]


def _as_coco(
    sizes: Sequence[tuple[int, int]],
    n_classes: int,
    objects: Objects,
    block: NDArray[np.int64],
    area: NDArray[np.float64],
    score: NDArray[np.float64],
    kind: Kind,
) -> COCO:
    """The engine's own container, a block in the place of an image."""
    columns = zip(
        block.tolist(),
        objects.label.tolist(),
        objects.boxes.tolist(),
        area.tolist(),
        score.tolist(),
        objects.ignored.astype(int).tolist(),
        strict=True,
    )
    keys = ("image_id", "category_id", "bbox", "area", "score", "iscrowd")
    annotations: list[dict[str, Any]] = [
        {"id": k, **dict(zip(keys, row, strict=True))} for k, row in enumerate(columns, start=1)
    ]
    if kind == "mask":
        assert objects.masks is not None
        for entry, mask in zip(annotations, objects.masks, strict=True):
            entry["segmentation"] = dict(mask)
    return COCO(
        {
            "images": [
                {"id": i, "height": height, "width": width}
                for i, (height, width) in enumerate(sizes)
            ],
            "categories": [{"id": k, "name": str(k)} for k in range(n_classes)],
            "annotations": annotations,
        }
    )


@dataclass(frozen=True, eq=False)
class Matches:
    """COCO's greedy matching of all detections at each IoU threshold.

    Attributes
    ----------
    matched : (T, D) int64, the truth's row, -1 for none, `IGNORED` on an ignore region.
    rank : (D,) int64 by falling score, 0 first.
    """

    matched: NDArray[np.int64]
    rank: NDArray[np.int64]


def match_all(
    truth: Objects,
    detections: Objects,
    candidates: Candidates,
    *,
    by_class: bool,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
) -> Matches:
    """Match at each threshold, within a class or (`by_class` False) whatever the class."""
    if by_class:
        same = truth.label[candidates.truth] == detections.label[candidates.detection]
        candidates = candidates.where(same)
    rank = by_score(detections.score)
    matched = np.empty((len(thresholds), len(detections)), np.int64)
    for row, threshold in zip(matched, thresholds, strict=True):
        # 1 - 1e-10: pycocotools' bound, for a threshold of 1.
        close = candidates.where(candidates.iou >= min(threshold, 1 - 1e-10))
        region = truth.ignored[close.truth]
        row[:] = match_greedy(close.where(~region), rank, len(truth))
        on_region = np.zeros(len(detections), bool)
        on_region[close.detection[region]] = True
        row[on_region & (row < 0)] = IGNORED
    return Matches(matched, rank)


def average_precision(
    matches: Matches,
    truth: Objects,
    detections: Objects,
    weights: NDArray[np.floating],
    *,
    truths: NDArray[np.bool_],
    found: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """AP at each threshold, for each weighting of the images.

    Drawing an image twice doubles each of its truths and detections. Precision is read
    at true positives only, where a repeat leaves it as it is. So weighting by the count is
    exactly the AP of the resampled set, but for the order of ties in score.

    Parameters
    ----------
    weights : (R, I), how often each image counts; one row of float64 ones for AP itself.
    truths : (N,) bool, truths to find. A detection matched to another truth is ignored.
    found : (D,) bool, detections that are false positives when they match nothing; the
        other unmatched ones are ignored.

    Returns
    -------
    (R, T) float64, NaN where there is no truth.
    """
    wanted = truths & ~truth.ignored
    n_images = weights.shape[1]
    per_image = np.bincount(truth.image[wanted], minlength=n_images).astype(weights.dtype)
    total = weights @ per_image
    # A last entry stands for "no truth", so that -1 and IGNORED index something.
    is_wanted = np.append(wanted, [False, False])
    order = np.argsort(matches.rank)
    matched = matches.matched[:, order]
    true = is_wanted[matched]
    false = (matched == -1) & found[order]
    counts = (true | false).any(axis=0)  # the others, of other classes say, cost nothing
    true, false = true[:, counts], false[:, counts]
    image = detections.image[order][counts]
    out = np.zeros((len(weights), len(matched)))
    for start in range(0, len(weights), _ROWS):
        rows = slice(start, start + _ROWS)
        weight = weights[rows][:, image]
        counted, claimed = None, weight
        for t in range(len(matched)):
            now = true[t] | false[t]
            if counted is None or not np.array_equal(now, counted):
                counted = now  # the same at every threshold unless there are ignore regions
                claimed = np.cumsum(weight * now, axis=1)
            hit = np.flatnonzero(true[t])
            out[rows, t] = _area_under(weight[:, hit], claimed[:, hit], total[rows])
    out[total == 0] = np.nan
    return out


def _area_under(
    weight: NDArray[np.floating],
    claimed: NDArray[np.floating],
    total: NDArray[np.floating],
) -> NDArray[np.float64]:
    """(R,) mean of the precision envelope over `RECALLS`.

    Parameters
    ----------
    weight : (R, H) of the true positives, best score first.
    claimed : (R, H) weight of all positives up to each of them.
    total : (R,) weight of the truths.
    """
    out = np.zeros(len(weight))
    if not weight.shape[1]:
        return out
    positives = np.cumsum(weight, axis=1)
    # np.spacing(1): pycocotools' guard against 0/0.
    precision = positives / (claimed + np.spacing(1, dtype=weight.dtype))
    for row in np.flatnonzero(total > 0):
        # float64: in float32 a recall that is exactly one of the points may fall short of it.
        recall = np.divide(positives[row], total[row], dtype=np.float64)
        at = np.searchsorted(recall, RECALLS, side="left")
        at = at[at < weight.shape[1]]
        # The envelope is the best precision from a point on; it is read at these only. A
        # recall that falls on the same point as the last one takes its value.
        new = np.diff(at, prepend=-1) > 0
        best = np.maximum.reduceat(precision[row], at[new])
        envelope = np.maximum.accumulate(best[::-1])[::-1]
        out[row] = envelope[np.cumsum(new) - 1].sum(dtype=np.float64) / len(RECALLS)
    return out
