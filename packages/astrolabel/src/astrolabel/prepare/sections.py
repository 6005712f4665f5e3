"""Sections of a coadd, which are looked at one at a time: memory does not grow with the coadd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.prepare.mesh import count_cells


@dataclass(frozen=True)
class Section:
    """A part of a coadd.

    Attributes
    ----------
    box : in pixels of the coadd.
    cells : (ny, nx) of the mesh in it.
    """

    box: Box
    cells: tuple[int, int]


Grid = tuple[tuple[Section, ...], ...]
"""Sections in rows, from the bottom left; together they cover the coadd."""


def sections(shape: tuple[int, int], config: PrepareConfig) -> Grid:
    """The fewest sections of a coadd whose sides are about `config.section_px` at most.

    Edges lie between cells of the mesh, to a pixel of the image that trails are looked for on.
    """
    rows, columns = (
        _along(length, count, config)
        for length, count in zip(shape, count_cells(shape, config.sky.box_px), strict=True)
    )
    return tuple(
        tuple(Section(Box(y, x, height, width), (ny, nx)) for x, width, nx in columns)
        for y, height, ny in rows
    )


def _along(length: int, cells: int, config: PrepareConfig) -> list[tuple[int, int, int]]:
    """(start, pixels, cells) of the sections along one axis."""
    number = min(math.ceil(length / config.section_px), cells)
    step = config.artifacts.trail_bin_px
    ends = [round(k * cells / number) for k in range(number + 1)]
    edges = [round(end * length / cells / step) * step for end in ends[:-1]] + [length]
    return [(edges[k], edges[k + 1] - edges[k], ends[k + 1] - ends[k]) for k in range(number)]


def whole(parts: Sequence[Sequence[NDArray[Any]]]) -> NDArray[Any]:
    """One array of those of the sections, in the rows of a `Grid`."""
    return np.block([list(row) for row in parts])
