"""Cut a coadd into tiles; tell which have too little data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import TileConfig


@dataclass(frozen=True)
class Tile:
    """One image of the dataset.

    Attributes
    ----------
    row, column : place in the coadd's grid of tiles.
    core : the tile itself, in the coadd's pixels.
    outer : the core and its margin, clipped to the coadd: what is detected and deblended.
    """

    row: int
    column: int
    core: Box
    outer: Box

    @property
    def core_in_outer(self) -> Box:
        return self.core.shifted(-self.outer.y0, -self.outer.x0)


def split(shape: tuple[int, int], config: TileConfig, part: Box | None = None) -> tuple[Tile, ...]:
    """Tiles that cover `part` of a coadd of `shape` (all of it by default) once, by rows.

    The fewest that fit under ``config.size``, equal within one pixel; every pixel of the
    part belongs to exactly one core. A part smaller than a tile is one tile, an empty one none.
    """
    frame = Box.of_shape(shape)
    part = frame if part is None else part
    if part.area == 0:
        return ()
    rows = [part.y0 + n for n in _edges(part.height, config.size)]
    columns = [part.x0 + n for n in _edges(part.width, config.size)]
    tiles = []
    for i in range(len(rows) - 1):
        for j in range(len(columns) - 1):
            core = Box.from_corners(rows[i], columns[j], rows[i + 1], columns[j + 1])
            tiles.append(Tile(i, j, core, core.expanded(config.margin_px) & frame))
    return tuple(tiles)


def _edges(length: int, size: int) -> list[int]:
    n = max(math.ceil(length / size), 1)
    return [round(k * length / n) for k in range(n + 1)]


def no_data_fraction(coadd: Coadd, core: Box) -> float:
    """Largest fraction over the bands of pixels in `core` that carry no data.

    No data is the NO_DATA plane, or an image value that is not finite where the survey
    gives no mask (paper, 3.1: the cut is made when any one band fails it).
    """
    part = coadd.cutout(core)
    missing = part.plane("NO_DATA") | ~np.isfinite(part.image)
    return float(missing.mean(axis=(1, 2)).max())
