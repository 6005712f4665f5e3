"""Masks of one image as small bitmaps, ready to be cut to regions on any device.

Loader workers lay them out: what is left for the trainer is one pooling per size of bitmap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.rle import Bitmap, decode_tight, encode_at
from astroseg.core.samples import Rle

SMALLEST_SIDE = 8
"""px. Bitmaps of one size are kept together; sides are rounded up to a power of two from this
one on, so they hold at most four times the pixels of the masks' boxes."""


@dataclass(frozen=True, eq=False)
class Crops(Sequence[Rle]):
    """N masks, each in its box with one more pixel around; as a sequence their RLEs.

    The margin is background, except beyond the image's edge, where it repeats the edge:
    resampling a crop then gives what resampling the whole image would give.

    Attributes
    ----------
    stacks : (n, S, S) uint8 of each side S, rising; a crop begins at [0, 0].
    stack, row : (N,) int64, where the crop of each mask lies.
    corners : (N, 2) int64, (y0, x0) of each mask's box in the image.
    sizes : (N, 2) int64, (h, w) of the box.
    shape : (H, W) of the image.
    """

    stacks: tuple[NDArray[np.uint8], ...]
    stack: NDArray[np.int64]
    row: NDArray[np.int64]
    corners: NDArray[np.int64]
    sizes: NDArray[np.int64]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        height, width = self.sizes[index]
        crop = self.stacks[self.stack[index]][self.row[index]]
        y, x = self.corners[index].tolist()
        return encode_at(crop[1 : height + 1, 1 : width + 1] > 0, (y, x), self.shape)

    def __iter__(self) -> Iterator[Rle]:
        return (self[i] for i in range(len(self)))


def crops_of(
    bitmaps: Sequence[Bitmap], corners: NDArray[np.int64], shape: tuple[int, int]
) -> Crops:
    """Crops of masks that are given in their tight boxes.

    Parameters
    ----------
    bitmaps : N arrays (h, w) bool.
    corners : (N, 2), (y0, x0) of each in the image.
    shape : (H, W) of the image.
    """
    sizes = np.array([bitmap.shape for bitmap in bitmaps], np.int64).reshape(-1, 2)
    longest = np.maximum(sizes.max(axis=1, initial=0) + 2, SMALLEST_SIDE)
    sides = 1 << np.ceil(np.log2(longest)).astype(np.int64)
    every, stack = np.unique(sides, return_inverse=True)
    row = np.zeros(len(bitmaps), np.int64)
    stacks = []
    for number, side in enumerate(every.tolist()):
        members = np.flatnonzero(stack == number)
        row[members] = np.arange(len(members))
        crops = np.zeros((len(members), side, side), np.uint8)
        for crop, i in zip(crops, members.tolist(), strict=True):
            (y, x), (height, width) = corners[i], sizes[i]
            part = crop[: height + 2, : width + 2]
            part[1:-1, 1:-1] = bitmaps[i]
            _repeat_edges(part, at=(y, x, shape[0] - y - height, shape[1] - x - width))
        stacks.append(crops)
    return Crops(tuple(stacks), stack, row, corners.reshape(-1, 2), sizes, shape)


def _repeat_edges(part: NDArray[np.uint8], at: tuple[int, int, int, int]) -> None:
    """Fill the margins beyond the image's edge: above, left, below and right of it."""
    above, left, below, right = (distance == 0 for distance in at)
    if left:
        part[:, 0] = part[:, 1]
    if right:
        part[:, -1] = part[:, -2]
    if above:
        part[0] = part[1]
    if below:
        part[-1] = part[-2]


def from_rles(masks: Sequence[Rle]) -> Crops:
    """Crops of RLEs of one image."""
    decoded = [decode_tight(mask) for mask in masks]
    corners = np.array([corner for _, corner in decoded], np.int64).reshape(-1, 2)
    shape = tuple(masks[0]["size"]) if len(masks) else (0, 0)
    return crops_of([bitmap for bitmap, _ in decoded], corners, (int(shape[0]), int(shape[1])))
