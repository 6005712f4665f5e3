"""How much labels and predictions, or labels and truth, disagree: what to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from astrolabel.review.layers import Layer

SAME_IOU = 0.5
"""Masks of a larger IoU are of the same source, and their classes are compared."""
INSIDE = 0.5
"""A mask of which a larger part lies in another is that one's, where it is no source there."""
SMALL_PX = 60.0
"""A mask of so many pixels counts half: the noise of its border is a good part of it. Chosen on
faults planted in a sky that no table reports (5, 20, 60 and 150 tried)."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One layer against another.

    Attributes
    ----------
    iou : (N,) the largest IoU of each mask with one of the other layer.
    best : (N,) int64 index of that one; -1 where no mask meets it.
    score : (N,) disagreement, 0 to 1: see `compare`.
    differs : (N,) bool, whether the best match is of the same source and another class.
    parts : (N,) by how much more IoU the masks that lie, like this one, in one mask of the other
        layer have with it together than the best of them alone: the parts of a source.
    members : (N,) the same the other way round: masks of the other layer that lie in this one.
    """

    iou: NDArray[np.float64]
    best: NDArray[np.int64]
    score: NDArray[np.float64]
    differs: NDArray[np.bool_]
    parts: NDArray[np.float64]
    members: NDArray[np.float64]


def compare(
    one: Layer, other: Layer, classes: Sequence[str], other_classes: Sequence[str]
) -> tuple[Compared, Compared]:
    """Disagreement of every mask of a layer with another layer, and the other way round.

    It is the largest of

    - 1 - IoU with the best match;
    - 1 where the best match has an IoU above `SAME_IOU` and another class;
    - the disagreement of a mask of the other layer that lies inside (more than `INSIDE` of it)
      and has no match of its own: two sources in one label;

    each times ``area / (area + SMALL_PX)`` of the mask that disagrees.

    Parameters
    ----------
    classes, other_classes : names by mask; empty where unknown, which differs from none.
    """
    n, m, shared = _pairs(one, other)
    area, other_area = one.area, other.area
    iou = shared / (area[n] + other_area[m] - shared)
    mine = _matched(n, m, iou, area, classes, other_classes)
    theirs = _matched(m, n, iou, other_area, other_classes, classes)
    inside, within = shared > INSIDE * other_area[m], shared > INSIDE * area[n]
    held = inside & (theirs.iou[m] < SAME_IOU)
    score = mine.score.copy()
    np.maximum.at(score, n[held], theirs.score[m[held]])
    members = _together(one, other, n[inside], m[inside], mine.iou)
    joined = _together(other, one, m[within], n[within], theirs.iou)
    np.maximum.at(mine.parts, n[within], joined[m[within]])
    np.maximum.at(theirs.parts, m[inside], members[n[inside]])
    return (
        replace(mine, score=score, members=members),
        replace(theirs, members=joined),
    )


def _together(
    whole: Layer,
    parts: Layer,
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    best: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(len(whole),) by how much more IoU the masks m that lie in a mask n have with it together
    than the `best` one, 0 at least."""
    found = np.zeros(len(whole))
    order = np.argsort(n, kind="stable")
    n, m = n[order], m[order]
    starts = np.flatnonzero(np.diff(n, prepend=-1))
    for start, stop in zip(starts, np.append(starts, len(n))[1:], strict=True):
        if stop - start < 2:
            continue
        pixels, where = whole.masks[n[start]]
        chosen = [parts.masks[k] for k in m[start:stop]]
        box = where
        for _, other in chosen:
            box |= other
        joined = np.zeros(box.shape, bool)
        for mask, other in chosen:
            joined[other.slices_in(box)] |= mask
        both = np.count_nonzero(joined[where.slices_in(box)] & pixels)
        iou = both / (np.count_nonzero(joined) + np.count_nonzero(pixels) - both)
        found[n[start]] = max(iou - best[n[start]], 0)
    return found


def _matched(
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    iou: NDArray[np.float64],
    area: NDArray[np.int64],
    classes: Sequence[str],
    others: Sequence[str],
) -> Compared:
    """The best of the pairs (n, m) of each n, and the disagreement with it."""
    largest, best = np.zeros(len(area)), np.full(len(area), -1, np.int64)
    order = np.argsort(iou, kind="stable")  # of several the last is kept: the largest
    largest[n[order]], best[n[order]] = iou[order], m[order]
    differs = np.array(
        [
            largest[k] > SAME_IOU and bool(name and others[best[k]]) and name != others[best[k]]
            for k, name in enumerate(classes)
        ],
        bool,
    )
    score = np.where(differs, 1.0, 1.0 - largest) * (area / (area + SMALL_PX))
    zero = np.zeros(len(area))
    return Compared(largest, best, score, differs, zero, zero.copy())


def _pairs(
    one: Layer, other: Layer
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the masks that share pixels, and how many."""
    found: list[tuple[int, int, int]] = []
    for frame in np.unique(one.frame):
        rows, others = (np.flatnonzero(layer.frame == frame) for layer in (one, other))
        if not len(others):
            continue
        tree = shapely.STRtree(_rectangles(other, others))
        for i, j in zip(*tree.query(_rectangles(one, rows)), strict=True):
            n, m = int(rows[i]), int(others[j])
            if shared := _shared(one, n, other, m):
                found.append((n, m, shared))
    table = np.array(found, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _rectangles(layer: Layer, rows: NDArray[np.intp]) -> NDArray[np.object_]:
    boxes = [layer.masks[n][1] for n in rows]
    # Boxes that only touch share no pixel.
    edges = np.array([(b.x0, b.y0, b.x1 - 0.5, b.y1 - 0.5) for b in boxes], float)
    return np.asarray(shapely.box(*edges.T), np.object_)


def _shared(one: Layer, n: int, other: Layer, m: int) -> int:
    """Pixels that two masks share."""
    (mine, box), (theirs, where) = one.masks[n], other.masks[m]
    both = box & where
    if not both.area:
        return 0
    return int(np.count_nonzero(mine[both.slices_in(box)] & theirs[both.slices_in(where)]))
