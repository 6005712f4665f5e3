"""Pictures of the sky for the page: tiles, an overview of each coadd, residuals in colour."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from astrolabel.io.frames import Frame
from astrolabel.io.pictures import read_rgb

JPEG_QUALITY = 90
RESIDUAL_SIGMA = 5.0
"""Residuals are full colour at this many sigma."""
OVERVIEW_PX = 1400
"""Longest side of the picture of a whole coadd: about a screen."""

RGB = NDArray[np.uint8]


def upright(frame: Frame) -> bool:
    """Whether the first row goes to the bottom, as the sky is shown."""
    astro = frame.images[0].get("astro") or {}
    return bool(astro.get("wcs") or astro.get("cube"))


def picture(path: Path, flip: bool) -> RGB:
    """(H, W, 3) of an image of the labels, as the page shows it.

    Raises
    ------
    InputError
        When it cannot be opened.
    """
    pixels = read_rgb(path, remedy="give --images DIR")
    return np.ascontiguousarray(pixels[::-1] if flip else pixels)


def residual_picture(chi: NDArray[np.float32], flip: bool) -> RGB:
    """(H, W, 3). Red: flux that no model explains; blue: models brighter than the image."""
    value = np.nan_to_num(chi) / RESIDUAL_SIGMA
    white = 1 - np.clip(np.abs(value), 0, 1)
    rgb = np.stack([np.where(value > 0, 1, white), white, np.where(value < 0, 1, white)], axis=-1)
    return np.ascontiguousarray((255 * rgb[:: -1 if flip else 1]).astype(np.uint8))


class Overview:
    """A small picture of a coadd, put together from its tiles as they are read."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._scale = min(OVERVIEW_PX / max(shape), 1.0)
        size = [max(round(side * self._scale), 1) for side in shape]
        self.pixels: RGB = np.zeros((*size, 3), np.uint8)

    def add(self, tile: RGB, x: int, y: int) -> None:
        """Put in a tile whose first pixel is (x, y) of the coadd as shown."""
        scaled = [round(v * self._scale) for v in (y, x, y + tile.shape[0], x + tile.shape[1])]
        y0, x0, y1, x1 = scaled
        if y1 > y0 and x1 > x0:
            small = Image.fromarray(tile).resize((x1 - x0, y1 - y0), Image.Resampling.BOX)
            self.pixels[y0:y1, x0:x1] = np.asarray(small)


def uri(pixels: RGB) -> str:
    """The picture as JPEG in a ``data:`` address."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
