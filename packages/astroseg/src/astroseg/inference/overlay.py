"""Pictures of images with the outlines of what was found, to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from astroseg.core.files import atomic_path
from astroseg.core.rle import Bitmap, decode_tight
from astroseg.core.samples import Prediction
from astroseg.data.sky_picture import sky_picture

COLOURS = ((53, 201, 255), (255, 212, 59), (177, 151, 252), (99, 230, 190), (255, 169, 77))
"""Of the classes in order; readable on dark images, also to the colour-blind."""

LONGEST_SIDE = 3000
"""px of a picture. Smaller images are enlarged up to four times, so that the outline of a
source of six pixels leaves its inside free."""


def reduction(shape: tuple[int, int]) -> int:
    """Every how many pixels of an image (H, W) are drawn, so that a coadd makes a picture."""
    return -(-max(shape) // LONGEST_SIDE)


def write_overlay(
    path: Path,
    flux: NDArray[np.float32],
    prediction: Prediction,
    *,
    step: int = 1,
    pictures: bool,
    upwards: bool,
    score: float = 0.5,
) -> None:
    """Write a PNG with one-pixel outlines.

    Parameters
    ----------
    upwards : whether the first row is drawn at the bottom; see `ImageRecord.upwards`.
    step, flux, pictures, score : see `drawn`.
    """
    image = drawn(flux, prediction, step=step, pictures=pictures, score=score)
    if upwards:
        image = image[::-1]
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, format="PNG")


def drawn(
    flux: NDArray[np.float32],
    prediction: Prediction,
    *,
    step: int = 1,
    pictures: bool,
    score: float = 0.5,
) -> NDArray[np.uint8]:
    """(h, w, 3) picture with one-pixel outlines, enlarged by a whole number.

    Parameters
    ----------
    score : detections below are not drawn: a list made for AP goes down to noise.
    flux : (C, H, W) float32 of every `step`-th pixel; bands from blue to red.
    pictures : whether the values are those of an ordinary picture: red first, 0 to 255.
    """
    base = _as_picture(flux) if pictures else sky_picture(flux)
    scale = max(1, min(4, LONGEST_SIDE // max(base.shape[:2])))
    image = base.repeat(scale, axis=0).repeat(scale, axis=1)
    objects = zip(prediction.masks, prediction.labels, prediction.scores, strict=True)
    for mask, label, confidence in objects:
        if confidence < score:
            continue
        bitmap, (y, x) = _reduced(*decode_tight(mask), step)
        if not bitmap.size:
            continue
        outline = _outline(bitmap.repeat(scale, axis=0).repeat(scale, axis=1))
        window = image[y * scale :, x * scale :][: outline.shape[0], : outline.shape[1]]
        window[outline] = COLOURS[int(label) % len(COLOURS)]
    return image


def _reduced(bitmap: Bitmap, corner: tuple[int, int], step: int) -> tuple[Bitmap, tuple[int, int]]:
    """Every `step`-th pixel of the image's rows and columns, as far as the mask has them."""
    (y, x) = corner
    return bitmap[-y % step :: step, -x % step :: step], (-(-y // step), -(-x // step))


def _outline(bitmap: Bitmap) -> Bitmap:
    """Set pixels with an unset neighbour in the four directions."""
    padded = np.pad(bitmap, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return bitmap & ~inside


def _as_picture(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    chosen = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    return np.clip(chosen, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()
