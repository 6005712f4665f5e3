"""What lies under the sources of a tile: a sky that is not quite empty.

Sources too faint to be found add light everywhere, and noise that is correlated like the
PSF; so does the resampling of a coadd. Both enter fluxes, and only an image of the sky as
it is can tell how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import scipy.signal
from numpy.typing import NDArray

SMOOTHING_PX = 1.5
"""Smoothing under which light is told from noise; takes the noise of a pixel to 0.19."""
EMPTY_SIGMA = 2.0
"""The level is that of pixels fainter than this, in sigma of a pixel, when smoothed,"""
GROWTH_PX = 3
"""... which lie this far from brighter ones: out of the wings of what was found."""
UNSEEN_SIGMA = 2.0
"""The noise is that of all pixels below this, among them those near sources, where the
unseen cluster as the seen do."""
MIN_FRACTION = 0.02
"""With less sky than this part of the tile nothing is measured."""

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sky:
    """The sky of one tile.

    Attributes
    ----------
    level : (C,) float32 counts a pixel, the median of empty sky.
    excess : (C,) float32 >= 1: scatter of the fluxes of faint galaxies placed on the sky,
        over what the variances tell.
    """

    level: NDArray[np.float32]
    excess: NDArray[np.float32]


def measure_sky(image: Image, weights: Image, psfs: Image, significance: Image) -> Sky:
    """Level and excess noise of the sky.

    Parameters
    ----------
    image, weights : (C, H, W) counts and 1/variance; zero where not valid.
    psfs : (C, P, P).
    significance : (H, W) the detection image in sigma of a pixel.
    """
    smooth = scipy.ndimage.gaussian_filter(significance, SMOOTHING_PX)
    empty = ~scipy.ndimage.binary_dilation(smooth > EMPTY_SIGMA, iterations=GROWTH_PX)
    faint = smooth < UNSEEN_SIGMA
    bands = len(image)
    level, excess = np.zeros(bands, np.float32), np.ones(bands, np.float32)
    for c, (data, weight, psf) in enumerate(zip(image, weights, psfs, strict=True)):
        valid = weight > 0
        if (valid & empty).mean() >= MIN_FRACTION:
            level[c] = np.median(data[valid & empty])
        if (valid & faint).mean() < MIN_FRACTION:
            continue
        flat = np.where(valid, (data - level[c]) * np.sqrt(weight), np.float32(0))
        # A faint galaxy, whose light covers twice the area of the PSF's.
        template = scipy.signal.fftconvolve(psf, psf, mode="same")
        unit = template / np.sqrt((template**2).sum())
        fluxes = scipy.signal.oaconvolve(flat, unit[::-1, ::-1], mode="same")
        inside = scipy.ndimage.binary_erosion(valid, iterations=psf.shape[0] // 4)
        found = fluxes[faint & (inside if inside.any() else valid)]
        if found.size:
            excess[c] = max(1.4826 * float(np.median(np.abs(found - np.median(found)))), 1.0)
    return Sky(level, excess)
