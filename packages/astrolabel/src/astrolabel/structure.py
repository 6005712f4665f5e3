"""Peaks that are the structure of one large object: knots and arms, spikes and aureoles.

A tile is cut into parents by sep on an image so smooth that knots are none. In and around a
parent that is larger than any ordinary source, peaks that are a small part of its light are
taken for its structure, whatever their contrast, when there are too many of them for
neighbours or when the parent is saturated. The strongest peak always stays.
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


def own_flux(
    light: NDArray[np.floating[Any]], peaks: NDArray[np.float64], fwhm_px: float
) -> NDArray[np.float64]:
    """(N,) flux of the point source whose Laplacian stands at each peak, in counts."""
    width = SHARPNESS_FWHM * fwhm_px

    def sharpen(array: NDArray[Any]) -> NDArray[Any]:
        return -ndimage.gaussian_laplace(array, width, mode="nearest")

    half = int(np.ceil(4 * fwhm_px))
    star = np.pad([[1.0]], half)
    unit = sharpen(ndimage.gaussian_filter(star, fwhm_px / FWHM_PER_SIGMA))[half, half]
    at = tuple(peaks.astype(int).T)
    return np.asarray(sharpen(light.astype(np.float64))[at] / unit, np.float64)


def is_structure(
    light: NDArray[np.floating[Any]],
    parents: NDArray[np.int32],
    saturated: NDArray[np.bool_],
    peaks: NDArray[np.float64],
    fwhm_px: float,
    config: StructureConfig,
) -> NDArray[np.bool_]:
    """(N,) bool: which peaks are only the structure of a large object.

    Parameters
    ----------
    light : (H, W) counts of the bands together.
    parents : (H, W) int32 number of the parent that a pixel belongs to, 0 for none.
    saturated : (H, W) bool, in any band.
    peaks : (N, 2) of (y, x) in pixels.
    """
    area = np.bincount(parents.ravel())
    large = area > config.min_area_fwhm2 * fwhm_px**2
    large[0] = False
    out = np.zeros(len(peaks), bool)
    if len(peaks) == 0 or not large.any():
        return out
    reach = config.reach_fwhm * fwhm_px
    parent = _nearest(parents, large, reach)
    # What stands beside a large parent and is no small one itself is a part that sep cut off.
    touching = np.bincount(parents[parent > 0], minlength=len(area)) > 0
    touching[0] = False
    large |= touching & (area > config.min_part_fwhm2 * fwhm_px**2)
    parent = np.where(large[parents], parents, _nearest(parents, large, reach))
    # Peaks inside a small parent of its own are sources beside the large one.
    parent[(parents > 0) & ~large[parents]] = 0
    total = np.bincount(parents.ravel(), weights=light.ravel(), minlength=len(area))
    of_peak = parent[tuple(peaks.astype(int).T)]
    own = own_flux(light, peaks, fwhm_px)
    broken = np.bincount(parents[saturated], minlength=len(area)) > 0
    many = config.min_peaks_fwhm2 * area / fwhm_px**2
    for number in np.unique(of_peak[of_peak > 0]):
        members = np.flatnonzero(of_peak == number)
        small = own[members] < config.min_flux * total[number]
        small[own[members].argmax()] = False
        if broken[number] or small.sum() > many[number]:
            out[members] = small
    return out


def _nearest(
    parents: NDArray[np.int32], large: NDArray[np.bool_], reach: float
) -> NDArray[np.int32]:
    """(H, W): the large parent nearest to each pixel, 0 where none is within `reach`."""
    distance, at = ndimage.distance_transform_edt(~large[parents], return_indices=True)
    return np.where(distance <= reach, parents[tuple(at)], 0).astype(np.int32)
