"""What coadds hold beside sources and noise: background, nebulosity, trails, cosmic rays, borders.

Functions add to arrays of counts. Brightness is given in sky sigma of a pixel of each band, so
that a configuration means the same in every survey.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.config.simulate import BackgroundConfig, DefectsConfig, SimulateConfig

Array = NDArray[np.float64]

TRAIL_SIGMA_PX = 2.0
"""Gaussian sigma across a satellite trail: the seeing, and the satellite out of focus."""
TRACK_PX = (2, 8)
"""Shortest and longest track of a cosmic ray, pixels."""
FIXED_PATTERN = (1.0, 0.9, 0.75, 0.6, 0.5)
"""Brightness of nebulosity from blue to red: it scatters starlight."""
SENTINEL = -999.0
COARSE = 6.0
"""Smooth fields are drawn on cells of their scale over this, and interpolated."""


def background(config: BackgroundConfig, rng: Generator, shape: tuple[int, int, int]) -> Array:
    """(C, H, W) smooth light in sky sigma: level, gradient, residual of the sky, nebulosity."""
    _, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    diagonal = (rows / height + columns / width) / 2 - 0.5
    out = np.full(shape, config.level_sigma) + config.gradient_sigma * diagonal
    if config.residual_sigma:
        for plane in out:
            plane += config.residual_sigma * smooth_field(rng, shape[1:], config.residual_px)
    if config.nebulosity_sigma:
        cloud = nebulosity(rng, shape[1:], config.nebulosity_px)
        for plane, share in zip(out, FIXED_PATTERN, strict=False):
            plane += config.nebulosity_sigma * share * cloud
    return np.asarray(out)


def smooth_field(rng: Generator, shape: tuple[int, int], scale_px: float) -> Array:
    """(H, W) Gaussian field of unit scatter over an area much larger than its scale."""
    step = max(scale_px / COARSE, 1.0)
    sigma = scale_px / step
    pad = int(np.ceil(4 * sigma))
    cells = [int(np.ceil(n / step)) + 2 * pad for n in shape]
    # The scatter of white noise under a Gaussian of sigma s is 1 / (2 sqrt(pi) s).
    coarse = ndimage.gaussian_filter(rng.standard_normal(cells), sigma) * 2 * np.sqrt(np.pi) * sigma
    rows, columns = (pad + np.arange(n) / step for n in shape)
    return np.asarray(ndimage.map_coordinates(coarse, np.meshgrid(rows, columns, indexing="ij")))


def nebulosity(rng: Generator, shape: tuple[int, int], scale_px: float) -> Array:
    """(H, W) filaments with a peak of one: ridges of a field with a power law of scales."""
    field, scale, weight = np.zeros(shape), scale_px, 1.0
    while scale > 4:
        field += weight * smooth_field(rng, shape, scale)
        scale, weight = scale / 2, weight / 2
    ridges = np.exp(-((field / 0.4) ** 2))
    envelope = np.clip(smooth_field(rng, shape, 2 * scale_px) + 1, 0.2, None)
    light = ndimage.gaussian_filter(ridges * envelope, 2.0)
    return np.asarray(light / light.max())


def trails(config: DefectsConfig, rng: Generator, shape: tuple[int, int, int]) -> Array:
    """(C, H, W) satellite trails in sky sigma, each in one band: that of its exposure."""
    n_bands, height, width = shape
    out = np.zeros(shape)
    rows, columns = np.ogrid[:height, :width]
    for _ in range(config.trails):
        y, x = rng.uniform(0.2, 0.8, 2) * (height, width)
        angle = rng.uniform(0, np.pi)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        line = np.exp(-0.5 * (across / TRAIL_SIGMA_PX) ** 2)
        out[rng.integers(n_bands)] += config.trail_sigma * line
    return out


def cosmic_rays(config: DefectsConfig, rng: Generator, shape: tuple[int, int, int]) -> Array:
    """(C, H, W) cosmic rays and hot pixels in sky sigma: sharper than any PSF, half of each."""
    out = np.zeros(shape)
    area = shape[1] * shape[2]
    for plane in out:
        for number in range(rng.poisson(config.cosmic_rays_per_mpx * area / 1e6)):
            y, x = rng.uniform(0, shape[1]), rng.uniform(0, shape[2])
            light = config.cosmic_ray_sigma * rng.lognormal(0, 0.5)
            length = 1.0 if number % 2 else rng.uniform(*TRACK_PX)
            angle = rng.uniform(0, 2 * np.pi)
            along = np.arange(0, length, 0.5)
            iy = np.floor(y + along * np.sin(angle)).astype(int)
            ix = np.floor(x + along * np.cos(angle)).astype(int)
            inside = (iy >= 0) & (iy < shape[1]) & (ix >= 0) & (ix < shape[2])
            plane[iy[inside], ix[inside]] = light
    return out


def border(config: DefectsConfig, side: int) -> NDArray[np.bool_]:
    """(side, side) bool: the pixels without data along all edges."""
    out = np.zeros((side, side), bool)
    if config.border_px:
        out[:] = True
        inner = slice(config.border_px, side - config.border_px)
        out[inner, inner] = False
    return out


def added_light(config: SimulateConfig, rng: Generator, sky_sigma: Array) -> Array:
    """(C, H, W) counts of all of these."""
    shape = (len(sky_sigma), config.side, config.side)
    light = background(config.background, rng, shape)
    light += trails(config.defects, rng, shape)
    light += cosmic_rays(config.defects, rng, shape)
    return np.asarray(light * sky_sigma[:, None, None])
