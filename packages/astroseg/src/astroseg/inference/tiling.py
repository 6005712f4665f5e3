"""Images too large for one pass: overlapping tiles, and each object from one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction, Rle

COVERED = 0.5
"""Two detections of different tiles are one object, too, when this fraction of the smaller
mask lies in the other: a tile's edge cuts an object to a fragment of low IoU."""


@dataclass(frozen=True)
class Tile:
    """A window of an image, and its core: the part no other tile answers for.

    All in pixels of the image, ends exclusive. Cores share the image out without gaps.
    """

    y0: int
    x0: int
    y1: int
    x1: int
    core: tuple[int, int, int, int]

    def owns(self, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) bool: which boxes (N, 4) XYXY of the image have their centre in the core."""
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        y0, x0, y1, x1 = self.core
        inside: NDArray[np.bool_] = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        return inside

    def cuts(self, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) bool: which boxes end at an edge of the tile, within a pixel of it, beyond
        which the core goes no further but the image may."""
        y0, x0, y1, x1 = self.core
        edges = (self.x0, self.y0, self.x1, self.y1)
        inner = (self.x0 < x0, self.y0 < y0, self.x1 > x1, self.y1 > y1)
        near = np.abs(boxes - np.array(edges, np.float32)) < 1
        cut: NDArray[np.bool_] = (near & np.array(inner)).any(axis=1)
        return cut


def split(shape: tuple[int, int], size: int, overlap: int) -> tuple[Tile, ...]:
    """Tiles of at most `size` px a side that overlap by at least `overlap` px.

    Cores meet in the middle of the overlaps, so an object up to `overlap` across whose
    centre is in a core lies whole in its tile.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"an overlap of {overlap} px for tiles of {size} px")
    rows, columns = (_spans(length, size, overlap) for length in shape)
    return tuple(
        Tile(y0, x0, y1, x1, (cy0, cx0, cy1, cx1))
        for y0, y1, cy0, cy1 in rows
        for x0, x1, cx0, cx1 in columns
    )


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, core start, core stop) of the tiles along one axis."""
    if length <= size:
        return [(0, length, 0, length)]
    count = -(-(length - overlap) // (size - overlap))
    starts = np.linspace(0, length - size, count).round().astype(int).tolist()
    bounds = [
        0,
        *((a + size + b) // 2 for a, b in pairwise(starts)),
        length,
    ]
    return [(start, start + size, bounds[i], bounds[i + 1]) for i, start in enumerate(starts)]


def shift(prediction: Prediction, tile: Tile, shape: tuple[int, int]) -> Prediction:
    """A tile's prediction in the image's frame (H, W)."""
    offset = np.array([tile.x0, tile.y0, tile.x0, tile.y0], np.float32)
    return Prediction(
        boxes=prediction.boxes + offset,
        scores=prediction.scores,
        labels=prediction.labels,
        masks=tuple(_shifted(mask, tile, shape) for mask in prediction.masks),
    )


def _shifted(mask: Rle, tile: Tile, shape: tuple[int, int]) -> Rle:
    bitmap, (y, x) = decode_tight(mask)
    return encode_at(bitmap, (y + tile.y0, x + tile.x0), shape)


def join(tiles: Sequence[Tile], predictions: Sequence[Prediction], seam_iou: float) -> Prediction:
    """One prediction of the image from those of its tiles, best score first.

    A detection is kept from the tile whose core holds its box's centre. Two tiles may
    still both own an object whose centre they place on either side of a seam: of
    detections of different tiles whose masks have an IoU above `seam_iou`, or of which
    the smaller is covered by half, one stays: that which its tile's edge does not cut,
    then that with the better score.

    Parameters
    ----------
    predictions : of the tiles, in the image's frame.
    """
    kept = [np.flatnonzero(t.owns(p.boxes)) for t, p in zip(tiles, predictions, strict=True)]
    pairs = list(zip(predictions, kept, strict=True))
    boxes = np.concatenate([p.boxes[i] for p, i in pairs]).reshape(-1, 4)
    scores = np.concatenate([p.scores[i] for p, i in pairs])
    labels = np.concatenate([p.labels[i] for p, i in pairs])
    masks = [p.masks[k] for p, i in pairs for k in i]
    owner = np.repeat(np.arange(len(tiles)), [len(i) for i in kept])
    cut = np.concatenate([t.cuts(p.boxes[i]) for t, (p, i) in zip(tiles, pairs, strict=True)])
    dropped = _doubles(boxes, masks, owner, np.lexsort((-scores, cut)), seam_iou)
    order = np.argsort(-scores, kind="stable")
    order = order[~dropped[order]]
    chosen = tuple(masks[int(i)] for i in order)
    return Prediction(boxes[order], scores[order], labels[order], chosen)


def _doubles(
    boxes: NDArray[np.float32],
    masks: Sequence[Rle],
    owner: NDArray[np.int64],
    order: NDArray[np.int64],
    seam_iou: float,
) -> NDArray[np.bool_]:
    """(N,) bool: detections that one of another tile, earlier in `order`, makes superfluous."""
    dropped = np.zeros(len(boxes), np.bool_)
    for i in order.tolist():
        if dropped[i]:
            continue
        near = (
            (owner != owner[i])
            & ~dropped
            & (boxes[:, 0] < boxes[i, 2])
            & (boxes[:, 2] > boxes[i, 0])
            & (boxes[:, 1] < boxes[i, 3])
            & (boxes[:, 3] > boxes[i, 1])
        )
        near[i] = False
        for j in np.flatnonzero(near).tolist():
            if _same_object(masks[i], masks[j], seam_iou):
                dropped[j] = True
    return dropped


def _same_object(first: Rle, second: Rle, seam_iou: float) -> bool:
    pair = [{"size": m["size"], "counts": m["counts"].encode("ascii")} for m in (first, second)]
    areas = coco_mask.area(pair)
    both = float(coco_mask.area(coco_mask.merge(pair, intersect=True)))
    union, smaller = float(areas.sum()) - both, float(areas.min())
    return both > seam_iou * union or (smaller > 0 and both > COVERED * smaller)
