"""Which of several overlapping coadds a piece of sky is labelled in.

Patches of a tract, and tracts, overlap (HSC's patches by 200 pixels), so that a source in
the overlap would be labelled once in each. Here a position belongs to the coadd with the
nearest centre of all that cover it. In a tract's grid of patches that cuts every overlap in the
middle; between tracts it cuts along the line halfway between the patches' centres.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs, to_pixels, unit_vectors

SAMPLING_PX = 4
"""Step at which a row or column is asked for pixels of its own: the cuts between coadds
are long straight lines, and what a step misses is one narrow corner."""


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where a coadd lies.

    Attributes
    ----------
    name : of the coadd; earlier names win where two centres are equally near.
    shape : (H, W) in pixels.
    tract : the survey's name of the frame that `origin` counts in; empty if there is none.
    origin : (y, x) of its first pixel there.
    wcs : celestial WCS of its pixels, or None.
    """

    name: str
    shape: tuple[int, int]
    tract: str = ""
    origin: tuple[int, int] = (0, 0)
    wcs: WCS | None = None

    @property
    def box(self) -> Box:
        """In the tract's pixels."""
        return Box(*self.origin, *self.shape)

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) in its own pixels."""
        return (self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2


def neighbours(footprints: Sequence[Footprint]) -> dict[str, tuple[Footprint, ...]]:
    """The others that overlap each footprint, by name.

    Footprints of one tract are compared in its pixels; those of different tracts, or
    without one, on the sky. One without tract and WCS overlaps nothing.
    """
    centres, radii = _circles(footprints)
    found: dict[str, tuple[Footprint, ...]] = {}
    for k, one in enumerate(footprints):
        near = []
        for j, other in enumerate(footprints):
            if j == k:
                continue
            if _same_frame(one, other):
                touching = (one.box & other.box).area > 0
            else:
                apart = np.linalg.norm(centres[k] - centres[j])
                touching = bool(apart < radii[k] + radii[j])  # False where either is NaN
            if touching:
                near.append(other)
        found[one.name] = tuple(near)
    return found


def _same_frame(one: Footprint, other: Footprint) -> bool:
    return bool(one.tract) and one.tract == other.tract


def _circles(
    footprints: Sequence[Footprint],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(unit vectors (N, 3), chords (N,)) of circles that hold the footprints."""
    centres, radii = np.full((len(footprints), 3), np.nan), np.full(len(footprints), np.nan)
    for k, one in enumerate(footprints):
        if one.wcs is not None:
            (h, w), (y, x) = one.shape, one.centre
            ys, xs = np.array([y, 0, 0, h - 1, h - 1]), np.array([x, 0, w - 1, 0, w - 1])
            vectors = unit_vectors(*to_icrs(one.wcs, xs, ys))
            centres[k] = vectors[0]
            radii[k] = np.linalg.norm(vectors[1:] - vectors[0], axis=1).max()
    return centres, radii


def owned(
    one: Footprint,
    others: Sequence[Footprint],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether pixel positions of a coadd belong to it and to none of the others.

    Parameters
    ----------
    others : its `neighbours`.
    y, x : (N,) in its pixels.
    """
    mine = np.ones(len(y), bool)
    for other in others:
        if _same_frame(one, other):
            dy, dx = one.origin[0] - other.origin[0], one.origin[1] - other.origin[1]
            there_y, there_x = y + dy, x + dx
            gap = _squared(y, x, one.centre) - _squared(there_y, there_x, other.centre)
        elif one.wcs is not None and other.wcs is not None:
            ra, dec = to_icrs(one.wcs, x, y)
            there_x, there_y = to_pixels(other.wcs, ra, dec)
            here = unit_vectors(ra, dec)
            gap = _chords(here, one) - _chords(here, other)
        else:
            continue
        height, width = other.shape
        covered = (
            (there_y >= -0.5) & (there_y < height - 0.5)
            & (there_x >= -0.5) & (there_x < width - 0.5)
        )  # fmt: skip
        nearer = gap > 0 if one.name < other.name else gap >= 0
        mine &= ~(covered & nearer)
    return mine


def _squared(
    y: NDArray[np.float64], x: NDArray[np.float64], centre: tuple[float, float]
) -> NDArray[np.float64]:
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2


def _chords(vectors: NDArray[np.float64], footprint: Footprint) -> NDArray[np.float64]:
    assert footprint.wcs is not None
    y, x = footprint.centre
    centre = unit_vectors(*to_icrs(footprint.wcs, [x], [y]))
    return np.linalg.norm(vectors - centre, axis=1)


def primary_box(one: Footprint, others: Sequence[Footprint]) -> Box:
    """The smallest box that holds what belongs to a coadd, in its pixels; may be empty."""
    if not others:
        return Box.of_shape(one.shape)
    y0, y1 = _ends(one, others, axis=0)
    x0, x1 = _ends(one, others, axis=1)
    return Box.from_corners(y0, x0, y1, x1)


def _ends(one: Footprint, others: Sequence[Footprint], axis: int) -> tuple[int, int]:
    """First row (column) with a pixel of the coadd's own, and one past the last."""
    length, across = one.shape[axis], one.shape[1 - axis]
    along = np.unique(np.append(np.arange(0, across, SAMPLING_PX), across - 1)).astype(float)

    def has_own(k: int) -> bool:
        line = np.full(len(along), float(k))
        y, x = (line, along) if axis == 0 else (along, line)
        return bool(owned(one, others, y, x).any())

    # What belongs to a coadd is what is nearer to its middle, so that from the first row
    # with such a pixel to the middle every row has one.
    middle = length // 2
    if not has_own(middle):
        return 0, 0
    first = bisect.bisect_left(range(middle), True, key=has_own)
    after = bisect.bisect_left(range(middle, length), True, key=lambda k: not has_own(k))
    return first, middle + after


def describe(others: Sequence[Footprint]) -> list[str]:
    """What `owned` depends on, as text: part of what a tile's labels are made from."""
    return [
        f"{o.name} {o.tract} {o.origin} {o.shape}"
        + ("" if o.tract or o.wcs is None else f" {o.wcs.to_header_string()}")
        for o in others
    ]
