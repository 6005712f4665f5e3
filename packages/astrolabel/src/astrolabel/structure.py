"""Peaks that are the structure of one large object: the knots and arms of a galaxy.

A tile is cut into parents by sep on an image so smooth that knots are none. In and around a
parent that is larger than any ordinary source, peaks that are a small part of its light are
taken for its structure, whatever their contrast, when there are too many of them for
neighbours. What stands on dark ground beside it, and the peak where the smooth image is
brightest, always stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.config import StructureConfig
from astrolabel.psf import FWHM_PER_SIGMA

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


def is_structure(
    light: NDArray[np.floating[Any]],
    own: NDArray[np.floating[Any]],
    significance: NDArray[np.floating[Any]],
    smooth: NDArray[np.floating[Any]],
    parents: NDArray[np.int32],
    peaks: NDArray[np.float64],
    fwhm_px: float,
    config: StructureConfig,
) -> NDArray[np.bool_]:
    """(N,) bool: which peaks are only the structure of a large object.

    Parameters
    ----------
    light : (H, W) counts of the bands together.
    own : (H, W) flux of the point source that it has at each pixel (`own_flux`).
    significance : (H, W) detection image in sigma of empty sky.
    smooth : (H, W) counts, the image that the parents were found in.
    parents : (H, W) int32 number of the parent that a pixel belongs to, 0 for none.
    peaks : (N, 2) of (y, x) in pixels.
    """
    area = np.bincount(parents.ravel())

    def diffuse(chosen: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
        """Of some parents those with less than `most` of their light in their middle."""
        out = chosen.copy()
        out[0] = False
        for number in np.flatnonzero(out):
            out[number] = core_part(light, smooth, parents == number, fwhm_px) < most
        return out

    large = diffuse(area > config.min_area_fwhm2 * fwhm_px**2, config.max_core)
    out = np.zeros(len(peaks), bool)
    if len(peaks) == 0 or not large.any():
        return out
    reach = config.reach_fwhm * fwhm_px
    parent = _nearest(parents, large, reach)
    # What stands beside a large parent and is no small one itself is a part that sep cut off.
    touching = np.bincount(parents[parent > 0], minlength=len(area)) > 0
    touching &= ~large & (area > config.min_part_fwhm2 * fwhm_px**2)
    parents = _joined(parents, parent, diffuse(touching, config.max_part_core))
    area = np.bincount(parents.ravel(), minlength=len(area))
    parent = np.where(large[parents], parents, _nearest(parents, large, reach))
    total = np.bincount(parents.ravel(), weights=light.ravel(), minlength=len(area))
    at = tuple(peaks.astype(int).T)
    of_peak, flux, height = parent[at], own[at], smooth[at]
    # The main peaks of a small parent are sources beside the large one.
    small_parent = parents[at]
    main = flux >= config.min_flux * total[small_parent]
    of_peak[(small_parent > 0) & ~large[small_parent] & main] = 0
    alone = _alone(light, own, significance, peaks, fwhm_px, config)
    neighbours = config.neighbours_fwhm2 * area / fwhm_px**2
    many = neighbours + config.neighbours_sigma * np.sqrt(neighbours)
    for number in np.unique(of_peak[of_peak > 0]):
        members = np.flatnonzero(of_peak == number)
        small = (flux[members] < config.min_flux * total[number]) & ~alone[members]
        small[height[members].argmax()] = False  # a knot may be brighter than the middle
        inside = parents[at][members] == number
        if (small & inside).sum() > many[number]:
            out[members] = small
    return out


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
    light: NDArray[np.floating[Any]],
    own: NDArray[np.floating[Any]],
    significance: NDArray[np.floating[Any]],
    peaks: NDArray[np.float64],
    fwhm_px: float,
    config: StructureConfig,
) -> NDArray[np.bool_]:
    """(N,) bool: which peaks stand on dark ground, not on a large object's light."""
    ground = ring_levels(significance, peaks, np.full(len(peaks), 2 * fwhm_px))
    at = tuple(peaks.astype(int).T)
    here = ndimage.uniform_filter(light, 3, mode="nearest")[at]
    compact = own[at] * point_height(fwhm_px) > config.ground_contrast * here
    return np.asarray((ground < config.ground_sigma) & compact, bool)


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
    parents: NDArray[np.int32], large: NDArray[np.bool_], reach: float
) -> NDArray[np.int32]:
    """(H, W): the large parent nearest to each pixel, 0 where none is within `reach`."""
    distance, at = ndimage.distance_transform_edt(~large[parents], return_indices=True)
    return np.where(distance <= reach, parents[tuple(at)], 0).astype(np.int32)
