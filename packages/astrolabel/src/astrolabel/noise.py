"""The sky: its level and its noise, where the survey gives neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

BACKGROUND_BOX_PX = 64
"""Mesh of sep's background; its default, about three times the largest common source."""


@dataclass(frozen=True, eq=False)
class Sky:
    """Level and rms per pixel, both (H, W) float32 in counts."""

    level: NDArray[np.float32]
    rms: NDArray[np.float32]


def native(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """C-contiguous float32 in native byte order: what sep and numba can work on."""
    return np.ascontiguousarray(array, dtype=np.float32)


def fill_invalid(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The image with zeros where it is not valid: sep lets NaN through and invents a
    source at an infinity."""
    return native(np.where(valid, image, 0))


def sep_sky(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Sky:
    """sep's background of an image as it is, sources and all (the paper's recipe).

    Sources that fill the mesh inflate the rms: see `source_free_sky`.
    """
    background = _background(fill_invalid(image, valid), ~valid)
    return Sky(background.back(dtype=np.float32), background.rms(dtype=np.float32))


def source_free_sky(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Sky:
    """Sky level and rms with the sources masked.

    Two rounds of finding what stands 1.5 sigma above the last estimate, growing it by
    5 pixels (twice a seeing radius) and measuring again. Faint wings remain; in fields
    so crowded that less than a tenth of the pixels is left, the last estimate with more
    is kept.
    """
    data = fill_invalid(image, valid)
    background = _background(data, ~valid)
    for _ in range(2):
        sources = ndimage.gaussian_filter(data - background.back(dtype=np.float32), 1.0)
        # Smoothing by a Gaussian of 1 px lowers white noise to 0.28 of its rms.
        masked = sources > 1.5 * 0.28 * background.globalrms
        masked = ndimage.binary_dilation(ndimage.binary_opening(masked, iterations=1), iterations=5)
        if (valid & ~masked).mean() < 0.1:
            break
        background = _background(data, masked | ~valid)
    return Sky(background.back(dtype=np.float32), background.rms(dtype=np.float32))


def sky_variance(
    variance: NDArray[np.float32], valid: NDArray[np.bool_], sources: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The variance plane without the photon noise of the sources: (H, W) float32.

    The plane is read where there are no sources and carried over them by sep's mesh,
    which keeps the real change of depth across a coadd.
    """
    known = valid & ~sources
    if known.mean() < 0.05:  # nothing to carry over: the darkest tenth is the closest to sky
        level = np.percentile(variance[valid], 10) if valid.any() else 1.0
        return np.full(variance.shape, level, np.float32)
    mesh = _background(fill_invalid(variance, valid), ~known)
    typical = float(np.median(variance[known]))
    # The mesh's spline may undershoot beside a step in depth.
    return np.maximum(mesh.back(dtype=np.float32), 0.1 * typical)


def _background(data: NDArray[np.float32], mask: NDArray[np.bool_]) -> sep.Background:
    box = min(BACKGROUND_BOX_PX, *data.shape)
    background = sep.Background(data, mask=mask, bw=box, bh=box)
    if not background.globalrms > 0 and (~mask).any():
        # sep gives up on images with too few free pixels a box; one box then.
        background = sep.Background(data, mask=mask, bw=data.shape[1], bh=data.shape[0])
    return background
