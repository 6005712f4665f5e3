"""Sky level and sky noise of an image: sep's mesh, or one value for all pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from astropy.stats import sigma_clipped_stats
from numpy.typing import NDArray

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
    return measure_sky(fill_invalid(image, valid), valid)


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
    mesh = measure_sky(fill_invalid(variance, valid), known)
    typical = float(np.median(variance[known]))
    # The mesh's spline may undershoot beside a step in depth.
    return np.maximum(mesh.level, np.float32(0.1 * typical))


def measure_sky(data: NDArray[np.float32], free: NDArray[np.bool_]) -> Sky:
    """Sky of the pixels in `free`, by sep's mesh where half a box or more is free somewhere
    (sep leaves out other boxes), else one level and one rms for all."""
    box = min(BACKGROUND_BOX_PX, *data.shape)
    starts = [np.arange(0, n, box) for n in data.shape]
    counts = np.add.reduceat(np.add.reduceat(free, starts[0], 0, int), starts[1], 1, int)
    if 2 * counts.max() > box * box:
        # sep squares: of a plane that is nearly constant its rms would be NaN by rounding.
        middle = np.float32(np.median(data[free]))
        background = sep.Background(data - middle, mask=~free, bw=box, bh=box)
        rms, level = background.rms(dtype=np.float32), background.back(dtype=np.float32)
        if np.isfinite(rms).all() and np.isfinite(level).all():
            return Sky(level + middle, np.maximum(rms, _least_box(rms, box)))
    level, rms = 0.0, 0.0
    if free.any():
        _, level, rms = sigma_clipped_stats(data[free], sigma=3.0)
    shape = data.shape
    return Sky(np.full(shape, level, np.float32), np.full(shape, rms, np.float32))


def _least_box(rms: NDArray[np.float32], box: int) -> np.float32:
    """The least rms that sep measured in a box of its mesh.

    Its spline goes through the boxes' middles. Beside a box with a bright object it falls
    below what any of them has, and below zero, where everything would be a source.
    """
    low, high = (box - 1) // 2, box // 2  # the pixels around a middle
    rows, columns = ((n - 1 - high) // box + 1 for n in rms.shape)
    near = [rms[y::box, x::box][:rows, :columns] for y in (low, high) for x in (low, high)]
    return np.float32(np.max(near, axis=0).min())
