"""Peaks of the detection image behind filters that separate a source from its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.core.correlation import correlation_of_sum, filter_power
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.image import DetectionImage, band_weights, filled, mean_fwhm

RIDGE_SIGMA = 3.0
"""Noise of a second derivative by which a peak on a ridge must bend along it."""
SECOND_SIGMA = (3 / 8) ** 0.5
"""Noise of a second derivative over that of the Laplacian, in white noise smoothed by a
Gaussian."""
GAP_PX = 2
"""Missing pixels this near to a source's do not part it: a bad column of four has some of
the source's light on both sides."""
BEND = 0.87
"""Takes the curvature of a source out of the means over 1 and 1.6 pixels around a gap of one
to three pixels: their second moments are as 1 to 2.15."""
IMPULSE_PX = 40
"""Half-side of the image of one pixel that a filter's response is read off; more than
eight sigmas of any filter here."""


def laplacian_peaks(
    coadd: Coadd, detection: DetectionImage, config: DetectConfig
) -> NDArray[np.float64]:
    """Local maxima of Laplacians of Gaussians of the inverse-variance-weighted sum.

    At each width of ``config.log_widths_fwhm`` a peak counts when it stands
    ``threshold_sigma`` above the noise of the filtered image (propagated from the variance
    planes); when the point source with that Laplacian is ``log_contrast`` of the light
    there; when it is no noise on a ridge (``log_ridge``); when the image smoothed to the
    seeing stands as high, which a hot pixel does not;
    and when a pixel beside it is above the detection threshold, since it could have no mask
    otherwise. Finer widths add peaks that are not near a coarser one's. Pixels without data
    are filled from those around them, or a bad column would make two peaks of a source; a
    peak there is moved to the nearest pixel that has data.

    Returns
    -------
    (N, 2) float64 of (y, x) in pixels.
    """
    weights = band_weights(coadd, 1.0)
    image = np.tensordot(weights, filled(coadd.image, coadd), 1)
    variance = np.tensordot(weights**2, filled(coadd.variance, coadd), 1)
    correlation = correlation_of_sum(coadd, weights)
    fwhm = mean_fwhm(coadd)

    def blur(array: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return ndimage.gaussian_filter(array, fwhm / FWHM_PER_SIGMA, mode="nearest")

    image = _bridged(image, detection.valid)
    variance = _bridged(variance, detection.valid)
    above = detection.image > config.threshold_sigma * detection.sky_sigma
    possible = ndimage.binary_dilation(above, np.ones((3, 3), bool), iterations=GAP_PX)
    possible &= ~detection.valid | ndimage.binary_dilation(above, np.ones((3, 3), bool))
    possible &= blur(image) > config.threshold_sigma * _filtered_sigma(variance, blur, correlation)
    star = blur(np.pad([[1.0]], IMPULSE_PX))
    beside_gap = ndimage.binary_dilation(~detection.valid, iterations=2 * GAP_PX)
    peaks = np.zeros((0, 2))
    for width in config.log_widths_fwhm:

        def sharpen(array: NDArray[Any], sigma: float = width * fwhm) -> NDArray[Any]:
            return -ndimage.gaussian_laplace(array, sigma)

        response, along = _bends(image, width * fwhm)
        sigma = _filtered_sigma(variance, sharpen, correlation)
        ridge = along < config.log_ridge * (response - along)
        of_a_star = sharpen(star)[IMPULSE_PX, IMPULSE_PX] / star.max()
        found = np.argwhere(
            possible
            & (response == ndimage.maximum_filter(response, size=3))
            & (response > config.threshold_sigma * sigma)
            & (response > config.log_contrast * of_a_star * image)
            & (~ridge | (along > RIDGE_SIGMA * SECOND_SIGMA * sigma))
        )
        found = _on_data(found, detection.valid)
        # What fills a gap has not the detail that finer widths look at.
        possible &= ~beside_gap
        if len(peaks) and len(found):
            apart = cKDTree(peaks).query(found)[0]
            found = found[apart > config.log_separation_fwhm * fwhm]
        peaks = np.concatenate([peaks, found])
    return peaks


def _bends(
    image: NDArray[np.floating[Any]], sigma: float
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Minus the Laplacian of an image smoothed by a Gaussian, and minus the second derivative
    along the direction in which it is least: half of the former for a round source."""
    # Zeros beyond the edge would make a peak of every source that it cuts.
    yy, yx, xx = (
        -ndimage.gaussian_filter(image, sigma, order=order, mode="nearest")
        for order in ((2, 0), (1, 1), (0, 2))
    )
    total = yy + xx
    return total, (total - np.hypot(yy - xx, 2 * yx)) / 2


def _bridged(
    image: NDArray[np.floating[Any]], valid: NDArray[np.bool_]
) -> NDArray[np.floating[Any]]:
    """An image whose pixels without data are filled from those around them.

    The mean of what is near, and as much more as it exceeds the mean of a wider
    neighbourhood: a mean alone would leave a dip on the top of a source.
    """
    if valid.all():
        return image

    def mean(sigma: float) -> NDArray[np.float64]:
        share = ndimage.gaussian_filter(valid.astype(np.float64), sigma, mode="nearest")
        total = ndimage.gaussian_filter(np.where(valid, image, 0.0), sigma, mode="nearest")
        return np.where(share > 1e-6, total / np.maximum(share, 1e-6), 0.0)

    near = mean(1.0)
    return np.where(valid, image, np.maximum(near + BEND * (near - mean(1.6)), 0.0))


def _on_data(found: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 2) pixels, those without data moved to the nearest one that has some, if that is
    within `GAP_PX`, and left out if not."""
    lost = ~valid[tuple(found.T)]
    if not lost.any():
        return found
    distance, at = ndimage.distance_transform_edt(~valid, return_indices=True)
    near = distance[tuple(found.T)] <= GAP_PX
    return np.unique(np.asarray(at[:, found[near, 0], found[near, 1]].T, np.int64), axis=0)


def _filtered_sigma(
    variance: NDArray[np.float32],
    filter_: Callable[[NDArray[Any]], NDArray[Any]],
    correlation: NDArray[np.floating[Any]] | None,
) -> NDArray[np.float64]:
    """(H, W) noise of an image after a linear filter, from its variance.

    Var(sum k_i x_i) = sum k_i^2 var_i for white noise, plus the products of correlated
    pixels; the kernel is narrow and the variance smooth, so the kernel's power times the
    variance averaged over its width will do.
    """
    power = filter_power(filter_(np.pad([[1.0]], IMPULSE_PX)), correlation)
    local = ndimage.uniform_filter(variance.astype(np.float64), 3, mode="nearest")
    return np.sqrt(np.maximum(power * local, np.finfo(np.float32).tiny))
