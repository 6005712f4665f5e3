"""The sky: its level and its noise, where the survey gives neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from astropy.stats import sigma_clipped_stats
from numpy.typing import NDArray
from scipy import ndimage, optimize

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
    return _measure(fill_invalid(image, valid), valid)


def source_free_sky(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Sky:
    """Sky level and rms with the sources masked.

    Two rounds of finding what stands 1.5 sigma above the last estimate, growing it by
    5 pixels (twice a seeing radius) and measuring again. Faint wings remain; in fields
    so crowded that less than a tenth of the pixels is left, the last estimate with more
    is kept.
    """
    data = fill_invalid(image, valid)
    sky = _measure(data, valid)
    for _ in range(2):
        # Smoothing by a Gaussian of 1 px lowers white noise to 0.28 of its rms.
        smooth = ndimage.gaussian_filter(data - sky.level, 1.0)
        sources = ndimage.binary_opening(smooth > 1.5 * 0.28 * sky.rms)
        free = valid & ~ndimage.binary_dilation(sources, iterations=5)
        if free.mean() < 0.1:
            break
        sky = _measure(data, free)
    return sky


HIGH_PASS = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
"""Fourth difference, along both axes: of a source as wide as a PSF it leaves a thousandth, of
noise all."""
PHOTON_SIGMA = (4.0, 100.0)
"""Photon noise is measured where sources are so bright, in sigma of the sky: below, the sky's
is all there is; above, on saturated cores, structure is sharper than a PSF."""
MIN_PHOTON_PIXELS = 200
"""Fewer tell the slope to no better than a fifth."""


def electrons_per_count(
    image: NDArray[np.float32],
    sky_rms: NDArray[np.float32],
    valid: NDArray[np.bool_],
    stamp: NDArray[np.float32],
) -> float | None:
    """Light per photon noise squared, measured in the sources of an image.

    Of the highest frequencies, to which sources as wide as the PSF add nothing, the scatter
    is compared between bright pixels and the sky; so correlated noise does not matter.

    Parameters
    ----------
    image, sky_rms, valid : (H, W) counts, sky subtracted.
    stamp : (P, P) PSF.

    Returns
    -------
    Counts over counts squared: ``variance = sky_rms**2 + image / electrons_per_count``. None
    where sources show no more noise than the sky, where too few pixels are bright, or where
    the PSF is so narrow that its own shape would count as noise (below about 3 px).
    """

    def sharp(array: NDArray[Any]) -> NDArray[np.float64]:
        rows = ndimage.convolve1d(array.astype(np.float64), HIGH_PASS, 0, mode="nearest")
        return np.asarray(ndimage.convolve1d(rows, HIGH_PASS, 1, mode="nearest"))

    power = float((HIGH_PASS**2).sum())
    shape = float(np.abs(sharp(np.pad(stamp, 4))).max() / stamp.max() / power)
    most = min(PHOTON_SIGMA[1], 1 / max(shape, 1e-9))
    known = ndimage.binary_erosion(valid & (sky_rms > 0), np.ones((5, 5)))
    relative = np.where(known, image / np.where(sky_rms > 0, sky_rms, 1), 0)
    smooth = ndimage.gaussian_filter(relative, PHOTON_SMOOTHING_PX)
    squared = sharp(relative) ** 2
    # Where the kernel reaches pixels that are set to zero it sees an edge.
    known = ndimage.binary_erosion(known, np.ones((5, 5)))
    bright = known & (smooth > PHOTON_SIGMA[0]) & (smooth < most)
    sky = known & (np.abs(smooth) < 1)
    if most < 4 * PHOTON_SIGMA[0] or min(bright.sum(), sky.sum()) < MIN_PHOTON_PIXELS:
        return None
    level = float(np.median(squared[sky]))
    light, scatter = smooth[bright], squared[bright]

    def excess(slope: float) -> float:
        return float(np.median(scatter / (1 + slope * light))) - level

    if not level > 0 or excess(0.0) <= 0:
        return None
    slope = float(optimize.brentq(excess, 0.0, 1e6 * excess(0.0) / level))
    return 1 / (slope * float(np.median(sky_rms[known])))


PHOTON_SMOOTHING_PX = 1.0
"""The light that makes photon noise is smoothed so, that noise should not weigh itself."""


def with_photons(
    image: NDArray[np.float32], sky_rms: NDArray[np.float32], electrons: float | None
) -> NDArray[np.float32]:
    """(H, W) float32 variance: the sky's, and the photon noise of the sources (see
    `electrons_per_count`; None adds nothing)."""
    variance = sky_rms**2
    if electrons is not None:
        finite = np.nan_to_num(image, posinf=0, neginf=0)
        light = np.maximum(ndimage.gaussian_filter(finite, PHOTON_SMOOTHING_PX), 0)
        # Below two sigma it is the sky's noise.
        return native(variance + np.where(light > 2 * sky_rms, light, 0) / electrons)
    return native(variance)


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
    mesh = _measure(fill_invalid(variance, valid), known)
    typical = float(np.median(variance[known]))
    # The mesh's spline may undershoot beside a step in depth.
    return np.maximum(mesh.level, np.float32(0.1 * typical))


def _measure(data: NDArray[np.float32], free: NDArray[np.bool_]) -> Sky:
    """Sky of the pixels in `free`, by sep's mesh where half a box or more is free somewhere
    (sep leaves out other boxes), else one level and one rms for all."""
    box = min(BACKGROUND_BOX_PX, *data.shape)
    starts = [np.arange(0, n, box) for n in data.shape]
    counts = np.add.reduceat(np.add.reduceat(free, starts[0], 0, int), starts[1], 1, int)
    if 2 * counts.max() > box * box:
        background = sep.Background(data, mask=~free, bw=box, bh=box)
        rms = background.rms(dtype=np.float32)
        return Sky(background.back(dtype=np.float32), np.maximum(rms, _least_box(rms, box)))
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
