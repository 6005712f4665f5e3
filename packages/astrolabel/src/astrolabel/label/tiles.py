"""Cut a coadd into tiles; leave out those with too little data."""

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


def without_data(coadd: Coadd, core: Box, most: float) -> str | None:
    """Why a tile has too little data to be labelled; None where it has enough.

    Parameters
    ----------
    core : the tile in the pixels of `coadd`.
    most : largest fraction of pixels without data in any one band. Those are the pixels of
        NO_DATA (paper, 3.1), of the other planes that mean "no measurement", and without a
        finite value or a positive variance.
    """
    part = coadd.cutout(core)
    for band, image, valid in zip(part.bands, part.image, part.valid, strict=True):
        values = image[valid] if valid.any() else image[np.isfinite(image)]
        if values.size > 1 and values.min() == values.max():
            return f"band {band} is {values[0]:g} in every pixel"
    share = (~part.valid | part.plane("NO_DATA")).mean(axis=(1, 2))
    worst = int(share.argmax())
    if share[worst] > most:
        return f"{100 * share[worst]:.0f} % of the pixels of band {part.bands[worst]} have no data"
    return None
