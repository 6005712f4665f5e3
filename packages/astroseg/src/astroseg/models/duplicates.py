"""Which detections show the same source, by their masks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import ndimage

from astroseg.core.overlaps import DecodedMasks, touching
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction


def largest_pieces(prediction: Prediction) -> Prediction:
    """The prediction with the largest connected piece of each mask, and its box around that where
    there were several. Pixels that touch at a corner are connected, as in sep."""
    masks, boxes = list(prediction.masks), prediction.boxes.copy()
    for row, mask in enumerate(prediction.masks):
        bitmap, (y, x) = decode_tight(mask)
        pieces, count = ndimage.label(bitmap, np.ones((3, 3)))
        if count < 2:
            continue
        largest = int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1
        rows, columns = ndimage.find_objects(pieces)[largest - 1]
        whole = pieces[rows, columns] == largest
        corner = y + rows.start, x + columns.start
        masks[row] = encode_at(whole, corner, tuple(mask["size"]))
        boxes[row] = (corner[1], corner[0], x + columns.stop, y + rows.stop)
    return dataclasses.replace(prediction, masks=tuple(masks), boxes=boxes)


INSIDE = 0.9
"""Part of a mask's pixels in another that makes it lie inside: outlines differ by a pixel."""


def one_per_source(prediction: Prediction, iou: float, concentric: float = 0.0) -> Prediction:
    """The prediction without detections of a source that a better one shows already.

    Of two detections of any classes whose masks have more than that IoU, or of which one lies in
    the middle of the other, the one of the lower score is dropped. The kept one's class
    probabilities hold the other class.

    Parameters
    ----------
    iou : 1 or more keeps every detection.
    concentric : largest distance of the masks' centres, in radii of the smaller mask (root of
        area over pi), at which a mask inside another shows the same source; 0 for none.
    """
    if iou >= 1 or len(prediction.scores) < 2:
        return prediction
    masks = DecodedMasks(prediction.masks)
    rivals: dict[int, list[int]] = {}
    for i, j in touching(prediction.boxes):
        both, first, second = masks.overlap(i, j)
        small = min(first, second)
        if both > iou * (first + second - both) or (
            both >= INSIDE * small > 0
            and masks.distance(i, j) < concentric * math.sqrt(small / math.pi)
        ):
            rivals.setdefault(i, []).append(j)
            rivals.setdefault(j, []).append(i)
    dropped = np.zeros(len(prediction.scores), np.bool_)
    for i in np.argsort(-prediction.scores, kind="stable").tolist():
        if not dropped[i]:
            dropped[rivals.get(i, [])] = True
    return prediction.take(np.flatnonzero(~dropped))
