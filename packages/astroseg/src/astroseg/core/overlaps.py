"""Which masks of an image overlap, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from astroseg.core.rle import Bitmap, decode_tight, encode_at
from astroseg.core.samples import Rle

Window = tuple[int, int, int, int]
"""(y0, x0, y1, x1) in pixels of the image, ends exclusive."""


class DecodedMasks:
    """Masks of one image, decoded into their tight boxes when first needed."""

    def __init__(self, masks: Sequence[Rle]) -> None:
        self._masks = masks
        self._decoded: dict[int, tuple[Bitmap, tuple[int, int]]] = {}

    def __getitem__(self, index: int) -> tuple[Bitmap, tuple[int, int]]:
        """Bitmap of a mask, and the (y, x) of its first pixel."""
        if index not in self._decoded:
            self._decoded[index] = decode_tight(self._masks[index])
        return self._decoded[index]

    def overlap(self, i: int, j: int, window: Window | None = None) -> tuple[int, int, int]:
        """Pixels of both masks, of the first and of the second; of those in the window alone."""
        seen = window or (0, 0, *self._masks[i]["size"])
        common = [within(self._box(k), seen) for k in (i, j)]
        parts = [self._cut(k, within(common[0], common[1])) for k in (i, j)]
        areas = [np.count_nonzero(self._cut(k, box)) for k, box in zip((i, j), common, strict=True)]
        return int(np.count_nonzero(parts[0] & parts[1])), int(areas[0]), int(areas[1])

    def distance(self, i: int, j: int) -> float:
        """Between the centres of two masks, px."""
        a, b = (self._centre(k) for k in (i, j))
        return math.hypot(a[0] - b[0], a[1] - b[1])

    def _centre(self, index: int) -> tuple[float, float]:
        bitmap, (y, x) = self[index]
        rows, columns = np.nonzero(bitmap)
        return y + float(rows.mean()), x + float(columns.mean())

    def union(self, members: Sequence[int]) -> Rle:
        """One mask of all the pixels of several."""
        boxes = np.array([self._box(i) for i in members])
        (y0, x0), (y1, x1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        whole = np.zeros((y1 - y0, x1 - x0), np.bool_)
        for i in members:
            bitmap, (y, x) = self[i]
            whole[y - y0 :, x - x0 :][: bitmap.shape[0], : bitmap.shape[1]] |= bitmap
        height, width = self._masks[members[0]]["size"]
        return encode_at(whole, (int(y0), int(x0)), (height, width))

    def _box(self, index: int) -> Window:
        bitmap, (y, x) = self[index]
        return y, x, y + bitmap.shape[0], x + bitmap.shape[1]

    def _cut(self, index: int, window: Window) -> Bitmap:
        """The part of a mask in a window inside its box."""
        bitmap, (y, x) = self[index]
        y0, x0, y1, x1 = window
        return bitmap[y0 - y : max(y0, y1) - y, x0 - x : max(x0, x1) - x]


def within(first: Window, second: Window) -> Window:
    """Where two windows overlap; of no rows or columns where they do not."""
    low = max(first[0], second[0]), max(first[1], second[1])
    return *low, max(low[0], min(first[2], second[2])), max(low[1], min(first[3], second[3]))


def touching(boxes: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs of boxes (N, 4) XYXY that overlap, each once."""
    order = np.argsort(boxes[:, 0], kind="stable")
    starts = boxes[order, 0]
    for place, i in enumerate(order.tolist()):
        stop = int(np.searchsorted(starts, boxes[i, 2]))
        others = order[place + 1 : stop]
        near = (boxes[others, 1] < boxes[i, 3]) & (boxes[others, 3] > boxes[i, 1])
        for j in others[near].tolist():
            yield i, int(j)


def overlap_with_better(
    masks: Sequence[Rle], boxes: NDArray[np.floating], scores: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(N, 2) how much each mask of an image overlaps one of a higher score.

    Of each the largest: the part of the mask that lies in the other, and the IoU of the two.

    Parameters
    ----------
    boxes : (N, 4) XYXY that hold the masks.
    """
    decoded = DecodedMasks(masks)
    found = np.zeros((len(scores), 2))
    for i, j in touching(boxes):
        if scores[i] != scores[j]:
            both, first, second = decoded.overlap(i, j)
            worse, area = (i, first) if scores[i] < scores[j] else (j, second)
            two = both / max(1, area), both / max(1, first + second - both)
            found[worse] = np.maximum(found[worse], two)
    return found
