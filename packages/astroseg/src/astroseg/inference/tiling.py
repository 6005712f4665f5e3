"""Images too large for one pass: overlapping tiles, and each object from one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from astroseg.core.overlaps import DecodedMasks, Window, touching, within
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction, Rle
from astroseg.models.duplicates import one_per_source


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

    @property
    def window(self) -> Window:
        """(y0, x0, y1, x1)."""
        return self.y0, self.x0, self.y1, self.x1

    def owns(self, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) bool: which boxes (N, 4) XYXY of the image have their centre in the core."""
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        y0, x0, y1, x1 = self.core
        inside: NDArray[np.bool_] = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        return inside

    def reaches(self, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) bool: which boxes lie at least in part in the core."""
        y0, x0, y1, x1 = self.core
        inside: NDArray[np.bool_] = (
            (boxes[:, 2] > x0) & (boxes[:, 0] < x1) & (boxes[:, 3] > y0) & (boxes[:, 1] < y1)
        )
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


def split(shape: tuple[int, int], size: int, overlap: int, step: int = 1) -> tuple[Tile, ...]:
    """Tiles of at most `size` px a side that overlap by at least `overlap` px.

    They begin at multiples of `step` px, where tiles so far apart may be.

    Cores meet in the middle of the overlaps, so an object up to `overlap` across whose
    centre is in a core lies whole in its tile.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"an overlap of {overlap} px for tiles of {size} px")
    rows, columns = (_spans(length, size, overlap, step) for length in shape)
    return tuple(
        Tile(y0, x0, y1, x1, (cy0, cx0, cy1, cx1))
        for y0, y1, cy0, cy1 in rows
        for x0, x1, cx0, cx1 in columns
    )


def _spans(length: int, size: int, overlap: int, step: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, core start, core stop) of the tiles along one axis."""
    if length <= size:
        return [(0, length, 0, length)]
    step = step if step <= size - overlap else 1
    last = -(-(length - size) // step)  # in steps, as are the starts
    count = -(-last // ((size - overlap) // step)) + 1
    starts = [step * (last * i // (count - 1)) for i in range(count)]
    stops = [min(start + size, length) for start in starts]
    meets = [(a + b) // 2 for a, b in zip(stops[:-1], starts[1:], strict=True)]
    cores = pairwise([0, *meets, length])
    return [(a, b, *core) for a, b, core in zip(starts, stops, cores, strict=True)]


def shift(prediction: Prediction, corner: tuple[int, int], shape: tuple[int, int]) -> Prediction:
    """The prediction of a window in the frame (H, W) of its image.

    What lies outside the frame is cut off; detections that are outside are left out.

    Parameters
    ----------
    corner : (y, x) of the window's first pixel in the frame; may be negative.
    """
    y0, x0 = corner
    height, width = shape
    frame = np.array([width, height, width, height], np.float32)
    boxes = np.clip(prediction.boxes + np.array([x0, y0, x0, y0], np.float32), 0, frame)
    masks = tuple(_shifted(mask, corner, shape) for mask in prediction.masks)
    moved = dataclasses.replace(prediction, boxes=boxes, masks=masks)
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return moved if inside.all() else moved.take(np.flatnonzero(inside))


def _shifted(mask: Rle, corner: tuple[int, int], shape: tuple[int, int]) -> Rle:
    bitmap, (y, x) = decode_tight(mask)
    return encode_at(bitmap, (y + corner[0], x + corner[1]), shape)


def join(
    tiles: Sequence[Tile],
    predictions: Sequence[Prediction],
    seam_iou: float,
    source_iou: float = 0.5,
    concentric: float = 0.0,
) -> Prediction:
    """One prediction of the image from those of its tiles, best score first.

    A tile answers for the boxes that reach into its core. Near a seam two tiles may both
    answer for a source, so detections of different tiles are compared: above `seam_iou` of
    their masks, where both tiles see, they are one source. Of these the first of this
    order stays: not cut by its tile's edge, centre in its tile's core, higher score. A source
    that every tile cuts gets the union of its parts' masks.

    Parameters
    ----------
    predictions : of the tiles, in the image's frame.
    source_iou, concentric : as of `one_per_source`, within each tile and then in the image.
    """
    found = [one_per_source(p, source_iou, concentric) for p in predictions]
    kept = [np.flatnonzero(t.reaches(p.boxes)) for t, p in zip(tiles, found, strict=True)]
    parts = [p.take(index) for p, index in zip(found, kept, strict=True)]
    every = _concatenated(parts, any(p.limited for p in predictions))
    owner = np.repeat(np.arange(len(tiles)), [len(index) for index in kept])
    cut = np.concatenate([t.cuts(p.boxes) for t, p in zip(tiles, parts, strict=True)])
    owned = np.concatenate([t.owns(p.boxes) for t, p in zip(tiles, parts, strict=True)])
    masks = DecodedMasks(every.masks)
    same = _same_source(every.boxes, masks, owner, cut, tiles, seam_iou)
    groups = _groups(np.lexsort((-every.scores, ~owned, cut)), cut, same)
    whole = _united(every, masks, groups)
    best = one_per_source(whole, source_iou, concentric)
    return best.take(np.argsort(-best.scores, kind="stable"))


def _concatenated(parts: Sequence[Prediction], limited: bool) -> Prediction:
    return Prediction(
        np.concatenate([p.boxes for p in parts]).reshape(-1, 4),
        np.concatenate([p.scores for p in parts]),
        np.concatenate([p.labels for p in parts]),
        tuple(mask for p in parts for mask in p.masks),
        _all_or_none([p.probabilities for p in parts]),
        limited,
        mixtures=_all_or_none([p.mixtures for p in parts]),
    )


def _all_or_none(rows: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """The rows of all tiles, None where one has none."""
    known = [part for part in rows if part is not None]
    return np.concatenate(known) if len(known) == len(rows) else None


def _same_source(
    boxes: NDArray[np.float32],
    masks: DecodedMasks,
    owner: NDArray[np.int64],
    cut: NDArray[np.bool_],
    tiles: Sequence[Tile],
    seam_iou: float,
) -> dict[int, list[int]]:
    """For each detection, those of other tiles that show the same source."""
    same: dict[int, list[int]] = {}
    # Only what lies in two tiles can have a double.
    shared = np.flatnonzero(_shared(boxes, owner, tiles))
    for a, b in touching(boxes[shared]):
        i, j = int(shared[a]), int(shared[b])
        if owner[i] == owner[j]:
            continue
        seen_by_both = within(tiles[owner[i]].window, tiles[owner[j]].window)
        window = seen_by_both if cut[i] or cut[j] else None
        both, first, second = masks.overlap(i, j, window)
        # A tile's edge may cut a source to a fragment that the network outlines otherwise.
        fragment = min([n for n, k in ((first, i), (second, j)) if cut[k]], default=0)
        if both > seam_iou * (first + second - both) or 0 < fragment < 2 * both:
            same.setdefault(i, []).append(j)
            same.setdefault(j, []).append(i)
    return same


def _shared(
    boxes: NDArray[np.float32], owner: NDArray[np.int64], tiles: Sequence[Tile]
) -> NDArray[np.bool_]:
    """(N,) bool: which boxes reach into a tile other than their own."""
    shared = np.zeros(len(boxes), np.bool_)
    for number, tile in enumerate(tiles):
        mine = (boxes[:, 0] < tile.x1) & (boxes[:, 2] > tile.x0)
        mine &= (boxes[:, 1] < tile.y1) & (boxes[:, 3] > tile.y0)
        shared |= mine & (owner != number)
    return shared


def _groups(
    order: NDArray[np.intp], cut: NDArray[np.bool_], same: Mapping[int, list[int]]
) -> list[list[int]]:
    """The detections to keep, each first in a list with the fragments that complete it."""
    gone = np.zeros(len(cut), np.bool_)
    groups = []
    for i in order.tolist():
        if gone[i]:
            continue
        gone[i] = True
        group, front = [i], [i]
        while front:
            for j in same.get(front.pop(), []):
                if gone[j]:
                    continue
                gone[j] = True
                if cut[i]:  # no tile sees it whole: the parts of all tiles make it
                    group.append(j)
                    front.append(j)
        groups.append(group)
    return groups


def _united(every: Prediction, masks: DecodedMasks, groups: Sequence[list[int]]) -> Prediction:
    """One detection per group, its mask and box the union of the group's."""
    whole = every.take(np.array([group[0] for group in groups], np.intp))
    rles = list(whole.masks)
    for number, group in enumerate(groups):
        if len(group) > 1:
            rles[number] = masks.union(group)
            whole.boxes[number, :2] = every.boxes[group, :2].min(axis=0)
            whole.boxes[number, 2:] = every.boxes[group, 2:].max(axis=0)
            whole.scores[number] = every.scores[group].max()
    return dataclasses.replace(whole, masks=tuple(rles))
