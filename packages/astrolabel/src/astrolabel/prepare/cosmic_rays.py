"""Cosmic rays and hot pixels: light that is sharper than any scene seen through the PSF."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core import psf
from astrolabel.core.config.prepare import ArtifactConfig

T = TypeVar("T", bound=np.generic)

PAIRS = (((0, -1), (0, 1)), ((-1, 0), (1, 0)), ((-1, -1), (1, 1)), ((-1, 1), (1, -1)))
"""Opposite neighbours of a pixel along the four directions, (dy, dx)."""
OFFSETS = (-0.5, -0.25, 0.0, 0.25, 0.5)
"""Places of a point source within its pixel."""


def cosmic_rays(
    image: NDArray[np.float32],
    sigma: NDArray[np.float32],
    valid: NDArray[np.bool_],
    stamp: NDArray[np.float32],
    config: ArtifactConfig,
) -> NDArray[np.bool_]:
    """(H, W) bool: pixels that a cosmic ray hit, and hot ones.

    A pixel of any scene, which is a sum of point sources, is no brighter than so many times
    the mean of the two pixels beside it: as many as the PSF makes it where it is sharpest.
    What is, in one of four directions, by more than the noise, is no light through the
    telescope.

    Parameters
    ----------
    image, sigma : (H, W) counts, sky subtracted, and noise of a pixel.
    stamp : (P, P) PSF.
    """
    limits = [limit * (1 + config.sharp_margin) for limit in sharpest(stamp)]
    work = np.where(valid, image, 0).astype(np.float32)
    noise = np.where(valid, sigma, np.inf).astype(np.float32)
    hit = np.zeros(image.shape, bool)
    known = _bordered(valid)
    for _ in range(config.ray_rounds):
        found, wide = np.zeros(image.shape, bool), _bordered(work)
        for pair, limit in zip(PAIRS, limits, strict=True):
            if not np.isfinite(limit):
                continue
            one, other = (_moved(wide, *offset) for offset in pair)
            beside = limit * (np.maximum(one, 0) + np.maximum(other, 0)) / 2
            scatter = noise * np.float32(np.sqrt(1 + limit**2 / 2))
            both = _moved(known, *pair[0]) & _moved(known, *pair[1])
            found |= both & (work - beside > config.sharp_sigma * scatter)
        found &= ~hit & valid
        if not found.any():
            break
        hit |= found
        # What is left of a longer one shows by its now empty neighbours.
        work[found] = 0
    if not hit.any():
        return hit
    near = ndimage.binary_dilation(hit, np.ones((3, 3)), iterations=config.growth_px)
    return np.asarray(hit | (near & valid & _above(image, sigma, hit, stamp, config)))


def _above(
    image: NDArray[np.float32],
    sigma: NDArray[np.float32],
    hit: NDArray[np.bool_],
    stamp: NDArray[np.float32],
    config: ArtifactConfig,
) -> NDArray[np.bool_]:
    """Pixels that stand out of what is around the hit ones."""
    width = max(5, 2 * (stamp.shape[0] // 8) + 1)
    clean = np.where(hit, np.nan, image)
    rows, columns = np.nonzero(ndimage.binary_dilation(hit, np.ones((3, 3))))
    out = np.zeros(image.shape, bool)
    half = width // 2
    for y, x in zip(rows, columns, strict=True):
        around = clean[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        known = around[np.isfinite(around)]
        least = config.growth_sigma * sigma[y, x]
        out[y, x] = known.size > 0 and image[y, x] - np.median(known) > least
    return out


def narrowest(
    stamp: NDArray[np.float32], measured: bool, config: ArtifactConfig
) -> NDArray[np.float32]:
    """The narrowest PSF that an image may have, where `stamp` is its PSF or but a guess."""
    return stamp if measured else psf.rescaled(stamp, 1 / config.guess_factor)


def sharpest(stamp: NDArray[np.float32]) -> list[float]:
    """For each of `PAIRS`, the most that a point source's pixel is over the mean of the two
    beside it; infinite for a PSF narrower than a pixel."""
    core = stamp.astype(np.float64)
    middle = core.shape[0] // 2
    half = min(middle, 6)
    core = np.pad(core[middle - half : middle + half + 1, middle - half : middle + half + 1], 2)
    limits = np.zeros(len(PAIRS))
    for dy in OFFSETS:
        for dx in OFFSETS:
            star = ndimage.shift(core, (dy, dx), order=3)
            lit = star > 0.1 * star.max()
            wide = _bordered(star)
            for k, pair in enumerate(PAIRS):
                one, other = (_moved(wide, *offset) for offset in pair)
                beside = np.maximum((one + other) / 2, 1e-9)
                limits[k] = max(limits[k], float((star / beside)[lit].max()))
    return [float(limit) if limit < 20 else float("inf") for limit in limits]


def _bordered(image: NDArray[T]) -> NDArray[T]:
    """An image with its border once more around it."""
    return np.pad(image, 1, mode="edge")


def _moved(bordered: NDArray[T], dy: int, dx: int) -> NDArray[T]:
    """The neighbour at (dy, dx) of each pixel of a `_bordered` image."""
    rows, columns = bordered.shape
    return bordered[1 + dy : rows - 1 + dy, 1 + dx : columns - 1 + dx]
