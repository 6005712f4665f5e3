"""Peaks that are the structure of one large object: the knots and arms of a galaxy.

A tile is cut into parents by sep on an image so smooth that knots are none. In and around a
parent that is larger than any ordinary source, peaks that are a small part of its light are
taken for its structure, whatever their contrast, when there are too many of them for
neighbours: for those of a crowd in this tile, as its other peaks tell, and the more of them the
more of the parent's light is in its middle, as in an ordinary galaxy with companions. Peaks
that have nothing on the other side of the parent's middle are not counted: a galaxy has two
sides, a group of companions need not. What stands on dark ground beside it, and the peak where
the smooth image is brightest, always stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.config import StructureConfig
from astrolabel.core.psf import FWHM_PER_SIGMA

SHARPNESS_FWHM = 0.43
"""Sigma of the Laplacian of a Gaussian by which a peak's own flux is measured: a star's."""

ANGLES = 48
"""Directions in which a ring is looked at."""


def own_flux(light: NDArray[np.floating[Any]], fwhm_px: float) -> NDArray[np.float64]:
    """(H, W) flux of the point source whose Laplacian stands at each pixel, in counts."""
    width = SHARPNESS_FWHM * fwhm_px

    def sharpen(array: NDArray[Any]) -> NDArray[Any]:
        return -ndimage.gaussian_laplace(array, width, mode="nearest")

    half = int(np.ceil(4 * fwhm_px))
    star = np.pad([[1.0]], half)
    unit = sharpen(ndimage.gaussian_filter(star, fwhm_px / FWHM_PER_SIGMA))[half, half]
    return np.asarray(sharpen(light.astype(np.float64)) / unit, np.float64)


def point_height(fwhm_px: float) -> float:
    """Brightest pixel of a point source of one count, its profile a Gaussian."""
    return FWHM_PER_SIGMA**2 / (2 * np.pi * fwhm_px**2)


def ring_levels(
    image: NDArray[Any],
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    percentile: float = 50.0,
) -> NDArray[np.float64]:
    """(N,) percentiles of `image` on circles of N radii in pixels around (N, 2) or (2,) centres.

    Beyond its edges the image goes on with its outermost pixels.
    """
    angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    on = np.stack([np.sin(angles), np.cos(angles)], axis=-1) * radii[:, None, None]
    pixels = np.rint(on + np.atleast_2d(centres)[:, None]).astype(int)
    y, x = np.moveaxis(np.clip(pixels, 0, np.array(image.shape) - 1), -1, 0)
    return np.asarray(np.percentile(image[y, x], percentile, axis=1), np.float64)


@dataclass(frozen=True, eq=False)
class Ground:
    """A tile as the rule for structure looks at it.

    Attributes
    ----------
    light : (H, W) counts of the bands together.
    own : (H, W) flux of the point source that it has at each pixel (`own_flux`).
    significance : (H, W) detection image in sigma of empty sky.
    smooth : (H, W) counts, the image that the parents were found in.
    parents : (H, W) int32 number of the parent that a pixel belongs to, 0 for none.
    fwhm_px : of the seeing.
    """

    light: NDArray[np.floating[Any]]
    own: NDArray[np.floating[Any]]
    significance: NDArray[np.floating[Any]]
    smooth: NDArray[np.floating[Any]]
    parents: NDArray[np.int32]
    fwhm_px: float

    def areas_fwhm2(self) -> NDArray[np.float64]:
        """(P,) pixels of every parent, from 0 for none, in squared seeing FWHM."""
        return np.bincount(self.parents.ravel()) / self.fwhm_px**2

    def totals(self) -> NDArray[np.float64]:
        """(P,) light of every parent, counts."""
        sums = np.bincount(self.parents.ravel(), self.light.ravel())
        return np.asarray(sums, np.float64)


def is_structure(
    ground: Ground, peaks: NDArray[np.float64], config: StructureConfig
) -> NDArray[np.bool_]:
    """(N,) bool: which of (N, 2) peaks, (y, x) in pixels, are only the structure of a large
    object."""
    out = np.zeros(len(peaks), bool)
    cores = _cores(ground, ground.areas_fwhm2() > config.min_area_fwhm2)
    large = cores < config.max_core
    if len(peaks) == 0 or not large.any():
        return out
    at = tuple(peaks.astype(int).T)
    counted = ndimage.maximum_filter(ground.significance, 3)[at] > config.counted_sigma
    near = _nearest(ground, large, config)
    density = crowd_fwhm2(near, peaks[counted], ground.fwhm_px, config)
    ground = _with_parts(ground, large, near, config)
    owner = _owners(ground, large, at, config)
    dark = config.ground_part * _typical(ground, owner)
    alone = _alone(ground, peaks, dark, config)
    counted &= ~_is_dark(ground, _opposite(ground, peaks, owner), dark, config)
    inside, flux, height = ground.parents[at], ground.own[at], ground.smooth[at]
    least = config.min_flux * ground.totals()
    neighbours = density * ground.areas_fwhm2()
    for number in np.unique(owner[owner > 0]):
        sigma = config.core_sigma * cores[number]
        many = neighbours[number] + sigma * np.sqrt(neighbours[number])
        members = np.flatnonzero(owner == number)
        small = (flux[members] < least[number]) & ~alone[members]
        small[height[members].argmax()] = False  # a knot may be brighter than the middle
        if (small & counted[members] & (inside[members] == number)).sum() > many:
            out[members] = small
    return out


def crowd_fwhm2(
    near: NDArray[np.int32],
    peaks: NDArray[np.float64],
    fwhm_px: float,
    config: StructureConfig,
) -> float:
    """Neighbours in a squared seeing FWHM of an object that a crowd in this tile would have.

    The tile's peaks that are not on or around a large parent, where `near` (H, W) has its
    number, tell; with them counts a piece of a dense field, so that few do not tell alone.
    """
    field = near == 0
    area = field.sum() / fwhm_px**2
    found = field[tuple(peaks.astype(int).T)].sum()
    known = config.field_area_fwhm2
    mean = (found + known * config.field_peaks_fwhm2) / (area + known)
    return float(config.crowding * mean)


def _cores(ground: Ground, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(P,) part of the light of each of the `chosen` parents that is in its middle; 1 for the
    others."""
    out = np.ones(len(chosen))
    for number in np.flatnonzero(chosen[1:]) + 1:
        parent = ground.parents == number
        out[number] = core_part(ground.light, ground.smooth, parent, ground.fwhm_px)
    return out


def _with_parts(
    ground: Ground, large: NDArray[np.bool_], near: NDArray[np.int32], config: StructureConfig
) -> Ground:
    """The ground, where what stands beside a large parent (`near` it) and is no small one
    itself is a part of it that sep cut off."""
    area = ground.areas_fwhm2()
    touching = np.bincount(ground.parents[near > 0], minlength=len(area)) > 0
    touching &= ~large & (area > config.min_part_fwhm2)
    parts = _cores(ground, touching) < config.max_part_core
    return replace(ground, parents=_joined(ground.parents, near, parts))


def _owners(
    ground: Ground, large: NDArray[np.bool_], at: tuple[NDArray[Any], ...], config: StructureConfig
) -> NDArray[np.int32]:
    """(N,) the large parent that each peak is on or around, 0 for none.

    The main peaks of a small parent beside it are sources of their own.
    """
    owner = _nearest(ground, large, config)[at]
    own_parent = ground.parents[at]
    main = ground.own[at] >= config.min_flux * ground.totals()[own_parent]
    return np.where((own_parent > 0) & ~large[own_parent] & main, 0, owner)


def core_part(
    light: NDArray[np.floating[Any]],
    smooth: NDArray[np.floating[Any]],
    parent: NDArray[np.bool_],
    fwhm_px: float,
) -> float:
    """Part of a parent's light within a seeing FWHM of where it is brightest.

    Parameters
    ----------
    light, smooth : (H, W) counts, as seen and smoothed.
    parent : (H, W) bool, its pixels.
    """
    y, x = np.nonzero(parent)
    middle = smooth[y, x].argmax()
    near = np.hypot(y - y[middle], x - x[middle]) < fwhm_px
    own = light[y, x].astype(np.float64)
    return float(own[near].sum() / max(own.sum(), np.finfo(float).tiny))


def _alone(
    ground: Ground, peaks: NDArray[np.float64], dark: NDArray[np.float64], config: StructureConfig
) -> NDArray[np.bool_]:
    """(N,) bool: which peaks stand on `dark` ground, not on the light of their owner."""
    at = tuple(peaks.astype(int).T)
    here = ndimage.uniform_filter(ground.light, 3, mode="nearest")[at]
    compact = ground.own[at] * point_height(ground.fwhm_px) > config.ground_contrast * here
    return compact & _is_dark(ground, peaks, dark, config)


def _typical(ground: Ground, owner: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N,) median significance of each `owner`."""
    numbers, which = np.unique(owner, return_inverse=True)
    return np.asarray(ndimage.median(ground.significance, ground.parents, numbers))[which]


def _is_dark(
    ground: Ground, points: NDArray[np.float64], dark: NDArray[np.float64], config: StructureConfig
) -> NDArray[np.bool_]:
    """(N,) bool: which points have less around them than `dark`, (N,) in sigma of empty sky."""
    radii = np.full(len(points), config.ground_fwhm * ground.fwhm_px)
    return np.asarray(ring_levels(ground.significance, points, radii) < dark, bool)


def _opposite(
    ground: Ground, peaks: NDArray[np.float64], owner: NDArray[np.int32]
) -> NDArray[np.float64]:
    """(N, 2) places on the other side of the middle of the `owner`."""
    numbers, which = np.unique(owner, return_inverse=True)
    middles = ndimage.maximum_position(ground.smooth, ground.parents, numbers)
    return 2 * np.array(middles, float)[which] - peaks


def _joined(
    parents: NDArray[np.int32], nearest: NDArray[np.int32], parts: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """(H, W) parents, where `parts` have the number of the large one that they are nearest to,
    if that is more than twice as large."""
    number = np.arange(len(parts), dtype=np.int32)
    area = np.bincount(parents.ravel(), minlength=len(parts))
    for part in np.flatnonzero(parts):
        near = nearest[parents == part]
        whole = np.bincount(near[near > 0]).argmax()
        if area[whole] > 2 * area[part]:
            number[part] = whole
    return number[parents]


def _nearest(
    ground: Ground, large: NDArray[np.bool_], config: StructureConfig
) -> NDArray[np.int32]:
    """(H, W): the large parent nearest to each pixel, 0 where none is within reach."""
    distance, at = ndimage.distance_transform_edt(~large[ground.parents], return_indices=True)
    reach = config.reach_fwhm * ground.fwhm_px
    return np.where(distance <= reach, ground.parents[tuple(at)], 0).astype(np.int32)
