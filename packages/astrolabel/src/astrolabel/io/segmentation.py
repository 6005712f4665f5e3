"""Overlapping masks as one map of integers, and a plane of the overlaps.

In a pixel of several masks the map holds the label with the smallest mask (of equal ones the
lower id): a companion is seen on the galaxy that it lies on. The overlap plane holds the label
with the next smallest mask there, and 0 where less than two masks lie. Ignore regions
(``iscrowd: 1``) are in neither.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.io.frames import Placed
from astrolabel.io.polygons import mask_of


def segmentation_map(
    placed: Iterable[Placed], shape: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(H, W) map of annotation ids and (H, W) overlap plane; 0 where no mask lies.

    Parameters
    ----------
    placed : the annotations and where their images lie in the frame.
    shape : (H, W) of the frame in pixels.

    Raises
    ------
    ValueError
        When a mask cannot be decoded.
    """
    labels = [one for one in placed if not one[0].get("iscrowd", 0)]
    labels.sort(key=lambda one: (-float(one[0]["area"]), -int(one[0]["id"])))
    top, second = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    frame = Box.of_shape(shape)
    for item, image_shape, (dy, dx) in labels:
        mask, box = mask_of(item["segmentation"], image_shape)
        inside = box.shifted(dy, dx) & frame
        pixels = mask[inside.slices_in(box.shifted(dy, dx))] if inside.area else mask[:0]
        if not pixels.size:
            continue
        part = inside.slices
        second[part][pixels] = top[part][pixels]
        top[part][pixels] = item["id"]
    return top, second
