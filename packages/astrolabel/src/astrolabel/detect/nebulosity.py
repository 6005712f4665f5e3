"""Nebulosity: extended light that belongs to no source, and sky that follows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core import background
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig


@dataclass(frozen=True, eq=False)
class Nebulosity:
    """Light that belongs to no source.

    Attributes
    ----------
    light : (C, H, W) float32 counts, zero away from it.
    variance : (C, H, W) float32 counts squared, of its structure finer than `light` tells: what
        does not stand out of that is no source.
    """

    light: NDArray[np.float32]
    variance: NDArray[np.float32]

    def out_of(self, coadd: Coadd) -> Coadd:
        """The coadd without it."""
        image, variance = coadd.image - self.light, coadd.variance + self.variance
        return replace(coadd, image=image, variance=variance)


def nebulosity(
    coadd: Coadd,
    clouds: NDArray[np.bool_],
    stars: NDArray[np.float64],
    fwhm_px: float,
    config: DetectConfig,
) -> Nebulosity:
    """The light between the sources in and around the clouds.

    Parameters
    ----------
    clouds : (H, W) bool, parents without a source of their own.
    stars : (N, 2) (y, x) of the sources, which are left out.
    fwhm_px : of the seeing.
    """
    box = max(round(config.nebulosity_fwhm * fwhm_px), 8)
    taken = np.ones(clouds.shape, bool)
    taken[tuple(np.rint(stars).astype(int).T)] = False
    taken = ndimage.distance_transform_edt(taken) <= config.nebulosity_star_fwhm * fwhm_px
    near = ndimage.distance_transform_edt(~clouds) <= 2 * box
    part = ndimage.gaussian_filter(near.astype(np.float32), box / 2)
    light, variance = np.zeros((2, *coadd.image.shape), np.float32)
    for c, valid in enumerate(coadd.valid):
        free = valid & ~taken
        if not free.any():
            continue
        data = background.fill_invalid(coadd.image[c], valid)
        mesh = sep.Background(data, mask=~free, bw=box, bh=box, fw=1, fh=1)
        light[c] = np.where(valid, part * mesh.back(), 0)
        excess = np.maximum(mesh.rms() ** 2 - coadd.variance[c], 0)
        variance[c] = np.where(valid, part * excess, 0)
    return Nebulosity(light, variance)
