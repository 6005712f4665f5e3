"""Flips, quarter turns and crops of an image together with its objects.

Objects are bitmaps in their tight boxes, so a view of an image costs its crop and a view
of an object its box, however large the image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.config import DataConfig
from astroseg.core.rle import Bitmap, Rle, decode_tight, encode_at
from astroseg.data.dataset import Truth


@dataclass(frozen=True, eq=False)
class Objects:
    """Labelled objects of one frame.

    Attributes
    ----------
    corners : (N, 2) int64, (y0, x0) of each bitmap in the frame.
    bitmaps : N arrays (h, w) bool, set on all four edges.
    labels : (N,) int64 from 0.
    targets : (N, T) float32, None where there are none.
    weights : (N,) float32 in the losses; None where all weigh 1.
    """

    corners: NDArray[np.int64]
    bitmaps: tuple[Bitmap, ...]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32 XYXY in pixel edges."""
        sizes = np.array([bitmap.shape for bitmap in self.bitmaps], np.int64).reshape(-1, 2)
        ends = self.corners + sizes
        columns = (self.corners[:, 1], self.corners[:, 0], ends[:, 1], ends[:, 0])
        return np.stack(columns, axis=1).astype(np.float32)

    @property
    def nbytes(self) -> int:
        """Memory of the bitmaps, with about 120 bytes for each array's header."""
        return sum(bitmap.nbytes + 120 for bitmap in self.bitmaps)

    def masks(self, shape: tuple[int, int]) -> tuple[Rle, ...]:
        """N RLEs of a frame of shape (H, W)."""
        return tuple(
            encode_at(bitmap, (int(y), int(x)), shape)
            for bitmap, (y, x) in zip(self.bitmaps, self.corners, strict=True)
        )


@dataclass(frozen=True)
class View:
    """A window of an image, mirrored left to right when `mirror`, then turned
    counter-clockwise by `turns` quarters as `numpy.rot90` does.

    All in pixels of the whole image.
    """

    y0: int
    x0: int
    height: int
    width: int
    mirror: bool = False
    turns: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of what is seen."""
        swapped = self.turns % 2 == 1
        return (self.width, self.height) if swapped else (self.height, self.width)


def whole(shape: tuple[int, int]) -> View:
    """The view of a whole image as it is."""
    return View(0, 0, *shape)


def random_view(
    shape: tuple[int, int],
    generator: np.random.Generator,
    *,
    crop: float = 1.0,
    flips: bool = True,
) -> View:
    """A random window with a random mirroring and turn.

    Parameters
    ----------
    shape : (H, W) of the image.
    crop : side of the window: a fraction of the image's (0 < crop <= 1), or pixels (> 1).
    flips : whether to mirror and turn (each of the eight ways equally likely).
    """
    height, width = (_side(length, crop) for length in shape)
    y0 = int(generator.integers(shape[0] - height + 1))
    x0 = int(generator.integers(shape[1] - width + 1))
    mirror, turns = bool(generator.integers(2)), int(generator.integers(4))
    return View(y0, x0, height, width, mirror and flips, turns if flips else 0)


def _side(length: int, crop: float) -> int:
    side = round(length * crop) if crop <= 1 else round(crop)
    return max(1, min(length, side))


def turn(array: NDArray[Any], view: View) -> NDArray[Any]:
    """Mirror and turn the last two axes; the window has been cut already."""
    if view.mirror:
        array = array[..., ::-1]
    return np.rot90(array, view.turns, axes=(-2, -1))


def seen_regions(masks: Sequence[Rle], view: View) -> NDArray[np.bool_] | None:
    """(H, W) bool of a view: the union of masks of the whole image; None where it is empty."""
    window = np.zeros((view.height, view.width), np.bool_)
    for mask in masks:
        bitmap, (y, x) = decode_tight(mask)
        top, left = max(view.y0 - y, 0), max(view.x0 - x, 0)
        part = bitmap[top : view.y0 + view.height - y, left : view.x0 + view.width - x]
        corner = (max(y - view.y0, 0), max(x - view.x0, 0))
        window[corner[0] :, corner[1] :][: part.shape[0], : part.shape[1]] |= part
    return np.ascontiguousarray(turn(window, view)) if window.any() else None


def decode(truth: Truth) -> Objects:
    """The objects of a whole image."""
    decoded = [decode_tight(rle) for rle in truth.masks]
    corners = np.array([corner for _, corner in decoded], np.int64).reshape(-1, 2)
    bitmaps = tuple(bitmap for bitmap, _ in decoded)
    return Objects(corners, bitmaps, truth.labels, truth.targets, truth.weights)


def view_objects(
    objects: Objects, view: View, keep_fraction: float = DataConfig.keep_fraction
) -> Objects:
    """The objects in a view of their image.

    What a crop cuts keeps the part inside, with the tight box of that part, while
    `keep_fraction` of its mask is inside; the rest is left out.
    """
    corners, bitmaps, kept = [], [], []
    ends = objects.corners + np.array([b.shape for b in objects.bitmaps], np.int64).reshape(-1, 2)
    start, stop = (view.y0, view.x0), (view.y0 + view.height, view.x0 + view.width)
    near = np.flatnonzero(((ends > start) & (objects.corners < stop)).all(axis=1))
    for i in near:
        bitmap, (y, x) = objects.bitmaps[i], objects.corners[i]
        y0, x0 = max(view.y0 - y, 0), max(view.x0 - x, 0)
        part = bitmap[y0 : stop[0] - y, x0 : stop[1] - x]
        if part.shape != bitmap.shape:
            inside = np.count_nonzero(part)
            if inside == 0 or inside < keep_fraction * np.count_nonzero(bitmap):
                continue
            rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
            part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            y0, x0 = y0 + rows[0], x0 + columns[0]
        corner = (int(y + y0 - view.y0), int(x + x0 - view.x0))
        corners.append(_turned_corner(corner, part.shape, view))
        bitmaps.append(np.ascontiguousarray(turn(part, view)))
        kept.append(i)
    return Objects(
        np.array(corners, np.int64).reshape(-1, 2),
        tuple(bitmaps),
        objects.labels[kept],
        None if objects.targets is None else objects.targets[kept],
        None if objects.weights is None else objects.weights[kept],
    )


def _turned_corner(corner: tuple[int, int], shape: tuple[int, ...], view: View) -> tuple[int, int]:
    """Where the corner nearest to the origin of a box in the window comes to lie."""
    (y, x), (h, w), (height, width) = corner, shape, (view.height, view.width)
    if view.mirror:
        x = width - x - w
    for _ in range(view.turns % 4):
        # A quarter turn counter-clockwise: columns from the right become rows.
        y, x = width - x - w, y
        h, w, height, width = w, h, width, height
    return y, x
