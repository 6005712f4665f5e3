"""The mask head's answers as masks of the image, one object at a time.

An answer is a grid over the detection's box. Each pixel whose centre lies in the box gets
the answer interpolated at that centre (Detectron2's rule; growing the boxes instead, as
torchvision does, adds 13 to 32 % to the area of small masks). Nothing of the image's size
is ever made: a mask goes from its box to RLE.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astroseg.core.rle import encode_at
from astroseg.core.samples import Rle

THRESHOLD = 0.5
"""Probability from which a pixel belongs to the object."""


def paste_masks(
    probabilities: NDArray[np.float32],
    boxes: NDArray[np.float32],
    shape: tuple[int, int],
    threshold: float = THRESHOLD,
) -> tuple[Rle, ...]:
    """Masks of an image of that (height, width).

    Parameters
    ----------
    probabilities : (N, M, M) inside each box.
    boxes : (N, 4) XYXY.
    """
    return tuple(
        _paste(probability, box, shape, threshold)
        for probability, box in zip(probabilities, boxes, strict=True)
    )


def _paste(
    probability: NDArray[np.float32],
    box: NDArray[np.float32],
    shape: tuple[int, int],
    threshold: float,
) -> Rle:
    height, width = shape
    side = len(probability)
    x0, across = _interpolation(float(box[0]), float(box[2]), width, side)
    y0, down = _interpolation(float(box[1]), float(box[3]), height, side)
    return encode_at(down @ probability @ across.T >= threshold, (y0, x0), shape)


def _interpolation(
    low: float, high: float, length: int, side: int
) -> tuple[int, NDArray[np.float32]]:
    """Linear interpolation from the grid's cells to the pixels of one axis.

    Parameters
    ----------
    low, high : edges of the box.
    length : of the image.
    side : cells of the grid between the edges.

    Returns
    -------
    First pixel whose centre is in the box, and weights (pixels, side). Beyond the outermost
    cells' centres the answer falls to zero.
    """
    first = max(0, int(np.ceil(low - 0.5)))
    last = min(length - 1, int(np.floor(high - 0.5)))
    if last < first or high <= low:
        return 0, np.zeros((0, side), dtype=np.float32)
    pixels = np.arange(first, last + 1, dtype=np.float32)
    cell = (pixels + 0.5 - low) / (high - low) * side - 0.5
    distance = np.abs(cell[:, None] - np.arange(side, dtype=np.float32))
    return first, np.maximum(0, 1 - distance).astype(np.float32)
