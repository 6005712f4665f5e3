"""Which detection found which truth: sparse IoU, and one-to-one matching in two ways.

`match_greedy` follows COCO: detections take turns by falling score, each takes the free
truth it overlaps best. AP is defined by it. `match_optimal` maximises the total IoU and
uses no score. All metrics of found objects (class, outline, completeness) use it, on
detections above the score threshold. The paper (section 4.2) takes for each truth the
detection of highest IoU, which lets one detection serve two truths and two detections one.
The assignment of greatest total IoU is that rule made one-to-one. Either way a truth is
matched once, so duplicates never lift recall above 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from astroseg.evaluation.metrics.objects import Objects

IGNORED = -2
"""In the place of a truth's index: the detection lies on an ignore region."""

_CHUNK_PAIRS = 2_000_000
"""Box pairs or IoU entries held at once: 16 MB a column."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of the same image that overlap, with their IoU.

    Attributes
    ----------
    truth, detection : (P,) int64, rows of the two `Objects`.
    iou : (P,) float64, above 0. Where the truth is an ignore region, the fraction of the
        detection that lies on it (COCO's rule).
    """

    truth: NDArray[np.int64]
    detection: NDArray[np.int64]
    iou: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_]) -> Candidates:
        """The pairs of a (P,) bool selection."""
        return Candidates(self.truth[keep], self.detection[keep], self.iou[keep])


def box_candidates(truth: Objects, detections: Objects) -> Candidates:
    """Pairs whose boxes overlap, with pycocotools' IoU of boxes to the last digit."""
    parts = [
        _box_iou(truth, detections, t, d)
        for t, d in _overlapping(truth.boxes, detections.boxes, truth.image, detections.image)
    ]
    return _concatenate(parts)


def mask_candidates(truth: Objects, detections: Objects) -> Candidates:
    """Pairs whose masks overlap, with pycocotools' IoU of masks.

    The masks' own tight boxes preselect: a network's boxes need not enclose its masks.
    Only blocks of neighbours are handed to pycocotools, so memory grows with the pairs
    that touch, not with truths x detections of an image.
    """
    if truth.masks is None or detections.masks is None:
        raise ValueError("mask IoU of objects without masks")
    parts = []
    for t, d in _overlapping(truth.tight, detections.tight, truth.image, detections.image):
        for block in _blocks(t, d):
            parts.append(_mask_iou(truth, detections, t[block], d[block]))
    return _concatenate(parts)


def _overlapping(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    image_a: NDArray[np.int64],
    image_b: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of XYWH boxes `a` and `b` of one image that overlap, in bounded chunks.

    Within an image `a` is sorted by its left edge; a box of `b` can only overlap those
    that start before its right edge and not before its left edge less the widest of `a`.
    """
    for image in np.intersect1d(image_a, image_b):
        rows_a = np.arange(*np.searchsorted(image_a, [image, image + 1]))
        rows_b = np.arange(*np.searchsorted(image_b, [image, image + 1]))
        rows_a = rows_a[np.argsort(a[rows_a, 0], kind="stable")]
        rows_b = rows_b[np.argsort(b[rows_b, 0], kind="stable")]
        left = a[rows_a, 0]
        first = np.searchsorted(left, b[rows_b, 0] - a[rows_a, 2].max(), side="left")
        last = np.searchsorted(left, b[rows_b, 0] + b[rows_b, 2], side="left")
        count = np.maximum(last - first, 0)
        chunk = np.cumsum(count) // _CHUNK_PAIRS
        for part in np.unique(chunk):
            here = chunk == part
            n = count[here]
            j = np.repeat(rows_b[here], n)
            step = np.arange(len(j)) - np.repeat(np.cumsum(n) - n, n)
            i = rows_a[np.repeat(first[here], n) + step]
            touch = (_gap(a[i], b[j], 0) > 0) & (_gap(a[i], b[j], 1) > 0)
            yield i[touch], j[touch]


def _gap(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Length shared by XYWH boxes along an axis (0 is x), negative where apart."""
    end = np.minimum(a[:, axis] + a[:, axis + 2], b[:, axis] + b[:, axis + 2])
    return end - np.maximum(a[:, axis], b[:, axis])


def _box_iou(
    truth: Objects, detections: Objects, t: NDArray[np.int64], d: NDArray[np.int64]
) -> Candidates:
    a, b = truth.boxes[t], detections.boxes[d]
    inter = _gap(a, b, 0) * _gap(a, b, 1)
    # The order of these sums is pycocotools': another one differs in the last digit.
    area_b = b[:, 2] * b[:, 3]
    union = np.where(truth.ignored[t], area_b, area_b + a[:, 2] * a[:, 3] - inter)
    return Candidates(t, d, inter / union)


def _blocks(t: NDArray[np.int64], d: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of pairs, sorted by detection from left to right, of some 64 detections."""
    if not len(d):
        return
    new = np.flatnonzero(np.diff(d, prepend=-1))
    # 64: neighbours along x share most of their truths, so blocks stay dense enough, and
    # 64 x 5000 truths of a dense image are 2.5 MB.
    edges = [*new[::64], len(d)]
    for start, stop in pairwise(edges):
        yield slice(int(start), int(stop))


def _mask_iou(
    truth: Objects, detections: Objects, t: NDArray[np.int64], d: NDArray[np.int64]
) -> Candidates:
    assert truth.masks is not None
    assert detections.masks is not None
    rows, row = np.unique(t, return_inverse=True)
    columns, column = np.unique(d, return_inverse=True)
    dense = rle.iou(
        [detections.masks[k] for k in columns],
        [truth.masks[k] for k in rows],
        truth.ignored[rows].astype(np.uint8),
    )
    iou = np.asarray(dense)[column, row]
    touch = iou > 0
    return Candidates(t[touch], d[touch], iou[touch])


def _concatenate(parts: list[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([np.zeros(0, np.int64), *(part.truth for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.detection for part in parts)]),
        np.concatenate([np.zeros(0), *(part.iou for part in parts)]),
    )


def by_score(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each detection by falling score, 0 first; ties in their order, as COCO's."""
    rank = np.empty(len(score), np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(len(score))
    return rank


def match_greedy(
    candidates: Candidates, rank: NDArray[np.int64], n_truth: int
) -> NDArray[np.int64]:
    """COCO's matching: by falling score, each detection gets the best truth still free.

    All images (and classes) at once, as deferred acceptance: every detection asks for its best
    truth, a truth keeps the one of best rank, the others ask for their next best, until none is
    left. As all truths rank detections alike, this ends as matching one by one would.

    Parameters
    ----------
    candidates : pairs that may match (above the IoU threshold, no ignore regions).
    rank : (D,) of each detection, see `by_score`.
    n_truth : number of truths.

    Returns
    -------
    (D,) int64, the row of the truth each detection matched, -1 for none. Of truths with
    equal IoU the later one wins, as in pycocotools.
    """
    order = np.lexsort((-candidates.truth, -candidates.iou, candidates.detection))
    wishes, asker = candidates.truth[order], candidates.detection[order]
    detections = np.arange(len(rank))
    wish = np.searchsorted(asker, detections, side="left")
    end = np.searchsorted(asker, detections, side="right")
    no_one = len(rank)
    who = np.empty(len(rank) + 1, np.int64)
    who[rank] = detections
    holder = np.full(n_truth, no_one, np.int64)
    matched = np.full(len(rank), -1, np.int64)
    active = detections[wish < end]
    while len(active):
        asked = wishes[wish[active]]
        before = holder[asked]
        np.minimum.at(holder, asked, rank[active])
        won = holder[asked] == rank[active]
        lost = before[(before != holder[asked]) & (before != no_one)]
        displaced = who[np.unique(lost)]
        matched[displaced] = -1
        matched[active[won]] = asked[won]
        active = np.concatenate([active[~won], displaced])
        wish[active] += 1
        active = active[wish[active] < end[active]]
    return matched


def match_optimal(candidates: Candidates, n_detections: int) -> NDArray[np.int64]:
    """The one-to-one matching of greatest total IoU.

    Solved apart for each connected group of candidates: nearly all have one truth or one
    detection, where the best pair is the answer; the rest go to scipy's assignment.

    Parameters
    ----------
    candidates : pairs that may match (above the IoU threshold, no ignore regions).
    n_detections : number of detections.

    Returns
    -------
    (D,) int64, the row of the truth each detection matched, -1 for none.
    """
    matched = np.full(n_detections, -1, np.int64)
    if not len(candidates.iou):
        return matched
    group = _groups(candidates)
    order = np.lexsort((candidates.detection, -candidates.iou, group))
    truth, detection = candidates.truth[order], candidates.detection[order]
    iou, group = candidates.iou[order], group[order]
    start = np.flatnonzero(np.diff(group, prepend=-1))
    stop = np.append(start[1:], len(group))
    same_truth = np.minimum.reduceat(truth, start) == np.maximum.reduceat(truth, start)
    same_detection = np.minimum.reduceat(detection, start) == np.maximum.reduceat(detection, start)
    single = same_truth | same_detection
    best = start[single]
    matched[detection[best]] = truth[best]
    for i, j in zip(start[~single], stop[~single], strict=True):
        rows, row = np.unique(truth[i:j], return_inverse=True)
        columns, column = np.unique(detection[i:j], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        gain[row, column] = iou[i:j]
        r, c = linear_sum_assignment(gain, maximize=True)
        real = gain[r, c] > 0  # the assignment pads with pairs that do not overlap
        matched[columns[c[real]]] = rows[r[real]]
    return matched


def _groups(candidates: Candidates) -> NDArray[np.int64]:
    """(P,) int64, the connected group of truths and detections each pair belongs to."""
    truths, t = np.unique(candidates.truth, return_inverse=True)
    detections, d = np.unique(candidates.detection, return_inverse=True)
    n = len(truths) + len(detections)
    graph = coo_array((np.ones(len(t), np.int8), (t, d + len(truths))), shape=(n, n))
    return connected_components(graph, directed=False)[1][t].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Pairs:
    """One-to-one matches of the detections above a score threshold, classes aside.

    Attributes
    ----------
    truth, detection : (M,) int64, rows of the matched pairs.
    missed : (N,) bool, truths that nothing found (never ignore regions).
    spurious : (D,) bool, detections above the threshold that found nothing.
    ignored : (D,) bool, detections above the threshold on an ignore region.
    below : (D,) bool, detections under the score threshold.
    """

    truth: NDArray[np.int64]
    detection: NDArray[np.int64]
    missed: NDArray[np.bool_]
    spurious: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    below: NDArray[np.bool_]


def pair(
    truth: Objects, detections: Objects, candidates: Candidates, score: float, iou: float
) -> Pairs:
    """Match detections of at least `score` to truths by IoU above `iou`, whatever the class.

    Unmatched detections with more than `iou` of them on an ignore region count nowhere.
    """
    below = detections.score < score
    close = candidates.where((candidates.iou > iou) & ~below[candidates.detection])
    region = truth.ignored[close.truth]
    matched = match_optimal(close.where(~region), len(detections))
    ignored = np.zeros(len(detections), bool)
    ignored[close.detection[region]] = True
    ignored &= matched < 0
    found = np.zeros(len(truth), bool)
    hit = np.flatnonzero(matched >= 0)
    found[matched[hit]] = True
    return Pairs(
        truth=matched[hit],
        detection=hit,
        missed=~found & ~truth.ignored,
        spurious=(matched < 0) & ~ignored & ~below,
        ignored=ignored,
        below=below,
    )


def iou_of_pairs(
    candidates: Candidates, truth: NDArray[np.int64], detection: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(M,) float64, the candidates' IoU of given pairs, 0 where they do not overlap."""
    stride = int(max(candidates.detection.max(initial=0), detection.max(initial=0))) + 1
    known = candidates.truth * stride + candidates.detection
    order = np.argsort(known)
    wanted = truth * stride + detection
    at = np.searchsorted(known, wanted, sorter=order)
    at = order[np.minimum(at, len(order) - 1)] if len(order) else at
    found = known[at] == wanted if len(order) else np.zeros(len(wanted), bool)
    return np.where(found, candidates.iou[at] if len(order) else 0.0, 0.0)
