"""What lies under the sources of a tile: a sky that is not quite empty.

Sources too faint to be found add light everywhere, and noise that is correlated like the
PSF; so does the resampling of a coadd. Both enter fluxes, and only an image of the sky as
it is shows how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from astrolabel.core.config import SkyConfig
from astrolabel.deblend.base import Noise
from astrolabel.deblend.convolve import convolved_same

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sky:
    """The sky of one tile.

    Attributes
    ----------
    level : (C,) float32 counts a pixel of empty sky; the wings of what was
        found are still in it, see `level_of`.
    empty : (H, W) bool, where that is.
    noise : of the fluxes of faint galaxies, and of points, placed on the sky: their scatter
        over that of the variances, 1 or more, and the galaxies' correlation between bands.
    """

    level: NDArray[np.float32]
    empty: NDArray[np.bool_]
    noise: Noise


def level_of(
    image: Image,
    weights: Image,
    empty: NDArray[np.bool_],
    config: SkyConfig,
    steps: Sequence[float] = (),
) -> NDArray[np.float32]:
    """(C,) counts a pixel where the sky is empty; zero with too little of it.

    The median, which does not care for a faint source. Of values in coarse steps that would be one
    of them, and of few photons it is less than their mean: there it is the mean.

    Parameters
    ----------
    image, weights : (C, H, W) counts and 1/variance; zero where not valid.
    empty : (H, W) bool.
    steps : as in `Coadd`.
    """
    steps = steps or [0.0] * len(image)
    level = np.zeros(len(image), np.float32)
    for c, (data, weight, step) in enumerate(zip(image, weights, steps, strict=True)):
        known = empty & (weight > 0)
        sky = data[known]
        if sky.size < max(config.min_fraction * data.size, 1):
            continue
        if step > config.coarse_sigma / np.sqrt(np.median(weight[known])):
            level[c] = sky[sky <= np.percentile(sky, config.step_percentile)].mean()
        else:
            level[c] = np.median(sky)
    return level


def measure_sky(
    image: Image,
    weights: Image,
    psfs: Image,
    significance: Image,
    config: SkyConfig,
    steps: Sequence[float] = (),
) -> Sky:
    """Level and excess noise of the sky.

    Parameters
    ----------
    image, weights : (C, H, W) counts and 1/variance; zero where not valid.
    psfs : (C, P, P).
    significance : (H, W) the detection image in sigma of a pixel.
    steps : as in `Coadd`.
    """
    smooth = scipy.ndimage.gaussian_filter(significance, config.smoothing_px)
    empty = ~scipy.ndimage.binary_dilation(smooth > config.empty_sigma, iterations=config.growth_px)
    faint = smooth < config.empty_sigma
    bands = len(image)
    level = level_of(image, weights, empty, config, steps)
    excess, of_points = np.ones(bands, np.float32), np.ones(bands, np.float32)
    scatter = np.zeros(image.shape, np.float32)
    for c, (data, weight, psf) in enumerate(zip(image, weights, psfs, strict=True)):
        valid = weight > 0
        if (valid & faint).mean() < config.min_fraction:
            continue
        flat = np.where(valid, (data - level[c]) * np.sqrt(weight), np.float32(0))
        # A faint galaxy, whose light covers twice the area of the PSF's.
        galaxy = convolved_same(psf, psf)
        inside = scipy.ndimage.binary_erosion(valid, iterations=psf.shape[0] // 4)
        chosen = faint & (inside if inside.any() else valid)
        if chosen.any():
            scatter[c], excess[c] = _scatter(flat, galaxy, chosen)
            # Outskirts of the found, which are fitted too, take part in the shapes of galaxies;
            # the flux of a point hangs on its core.
            free = chosen & empty
            _, of_points[c] = _scatter(
                flat, psf, free if free.mean() >= config.min_fraction else chosen
            )
    return Sky(level, empty, Noise(excess, of_points, _common(scatter, config.core_sigma)))


def _scatter(flat: Image, template: Image, chosen: NDArray[np.bool_]) -> tuple[Image, float]:
    """Fluxes of a template everywhere, in units of their width, zero where not `chosen`; and
    that width over the noise of pixels, 1 or more.

    Parameters
    ----------
    flat : (H, W) in sigma of a pixel.
    """
    unit = template / np.sqrt((template**2).sum())
    fluxes = convolved_same(flat, unit[::-1, ::-1])
    fluxes -= np.median(fluxes[chosen])
    sigma = 1.4826 * float(np.median(np.abs(fluxes[chosen])))
    return np.where(chosen, fluxes / max(sigma, 1e-30), np.float32(0)), max(sigma, 1.0)


def _common(scatter: Image, core_sigma: float) -> NDArray[np.float64]:
    """(C, C) correlation between bands of what is within `core_sigma`, zero on the diagonal.

    Parameters
    ----------
    scatter : (C, H, W) in units of its width; zero where not measured.
    """
    bands = len(scatter)
    common = np.zeros((bands, bands))
    for a in range(bands):
        for b in range(a):
            one, other = scatter[a], scatter[b]
            core = (one != 0) & (np.abs(one) < core_sigma) & (other != 0)
            core &= np.abs(other) < core_sigma
            if np.count_nonzero(core) > 2:
                both = np.corrcoef(one[core], other[core])[0, 1]
                common[a, b] = common[b, a] = max(float(both), 0.0)
    return common
