"""The sky: its level and its noise, where the survey gives neither."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from astrolabel.core.background import Sky, fill_invalid, measure_sky, native


def source_free_sky(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Sky:
    """Sky level and rms with the sources masked.

    Two rounds of finding what stands 1.5 sigma above the last estimate, growing it by
    5 pixels (twice a seeing radius) and measuring again. Faint wings remain; in fields
    so crowded that less than a tenth of the pixels is left, the last estimate with more
    is kept.
    """
    data = fill_invalid(image, valid)
    sky = measure_sky(data, valid)
    for _ in range(2):
        # Smoothing by a Gaussian of 1 px lowers white noise to 0.28 of its rms.
        smooth = ndimage.gaussian_filter(data - sky.level, 1.0)
        sources = ndimage.binary_opening(smooth > 1.5 * 0.28 * sky.rms)
        free = valid & ~ndimage.binary_dilation(sources, iterations=5)
        if free.mean() < 0.1:
            break
        sky = measure_sky(data, free)
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
