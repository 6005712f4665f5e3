"""The detection image: the sum of the bands, and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core import background, psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig


@dataclass(frozen=True, eq=False)
class DetectionImage:
    """The sum of the bands and its sky noise (paper, 3.2).

    Attributes
    ----------
    band_weights : (C,) float32 by which each band counts in the sum.
    image : (H, W) float32 counts; zero where not `valid`.
    sky_sigma : (H, W) float32 counts: noise of a pixel of empty sky.
    sigma : (H, W) float32 counts: noise with the sources' own photons.
    valid : (H, W) bool: valid in every band.
    """

    band_weights: NDArray[np.float32]
    image: NDArray[np.float32]
    sky_sigma: NDArray[np.float32]
    sigma: NDArray[np.float32]
    valid: NDArray[np.bool_]


def detection_image(coadd: Coadd, config: DetectConfig) -> DetectionImage:
    """Sum of the bands with its noise, from the variances or from sep (`config.noise`).

    A pixel has the bands that have data there: where one lacks, the sum is of the others, and
    so is its noise.
    """
    valid = np.any(coadd.valid, axis=0)
    weights = _sum_weights(coadd, config)
    image = background.fill_invalid(np.tensordot(weights, filled(coadd.image, coadd), 1), valid)
    if config.noise == "sep":
        sky = background.sep_sky(image, valid)
        image = background.fill_invalid(image - sky.level, valid)
        rms = _positive(sky.rms)
        return DetectionImage(weights, image, rms, rms, valid)
    variance = np.tensordot(weights**2, filled(coadd.variance, coadd), 1).astype(np.float32)
    sigma = np.sqrt(variance)
    bright = valid & (image > 3 * sigma)  # rough: only to keep photon noise out of the sky
    sources = ndimage.binary_dilation(bright, iterations=2)
    sky_sigma = _positive(np.sqrt(_sky_variance(coadd, weights, variance, valid, sources)))
    return DetectionImage(weights, image, sky_sigma, np.where(valid, sigma, sky_sigma), valid)


def _sky_variance(
    coadd: Coadd,
    weights: NDArray[np.float32],
    variance: NDArray[np.float32],
    valid: NDArray[np.bool_],
    sources: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """(H, W) variance of the sum without the photon noise of the sources.

    Where bands cover different parts it is summed band by band: a mesh over the sum would
    smooth the steps.
    """
    if np.array_equal(np.all(coadd.valid, axis=0), valid):
        return background.sky_variance(variance, valid, sources)
    total = np.zeros(valid.shape, np.float32)
    for weight, own, good in zip(weights, coadd.variance, coadd.valid, strict=True):
        if good.any():
            sky = background.sky_variance(np.where(good, own, 0), good, sources)
            total += np.where(good, weight**2 * sky, 0)
    return np.where(valid, total, np.median(total[valid]) if valid.any() else 1)


def _positive(sigma: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image without any noise (a constant) must not divide by zero."""
    return np.maximum(sigma, np.finfo(np.float32).tiny)


def filled(array: NDArray[np.float32], coadd: Coadd) -> NDArray[np.float32]:
    """(C, H, W) planes of a coadd, zero where a band has no data."""
    return np.where(coadd.valid, array, 0)


def band_weights(coadd: Coadd, power: float) -> NDArray[np.float32]:
    """(C,) weights that sum to C: typical variance to the -`power`.

    One number per band for the whole tile: weights that change from pixel to pixel would
    turn steps of depth into edges, and edges into sources.
    """
    typical = [
        np.median(v[ok]) if ok.any() else np.inf
        for v, ok in zip(coadd.variance, coadd.valid, strict=True)
    ]
    weights = np.array(typical) ** -power
    if not weights.any():
        weights = np.ones(len(coadd.bands))
    return (weights * len(weights) / weights.sum()).astype(np.float32)


def _sum_weights(coadd: Coadd, config: DetectConfig) -> NDArray[np.float32]:
    """(C,) by which each band counts in the detection image."""
    plain = band_weights(coadd, 0.0)
    if config.combine != "auto":
        return band_weights(coadd, 0.5) if config.combine == "weighted" else plain
    zeropoints = np.array(coadd.zeropoints, float)
    known = len(zeropoints) == len(plain) and np.isfinite(zeropoints).all()
    counts = 10 ** (0.4 * (zeropoints - zeropoints.max())) if known else np.ones(len(plain))
    inverse = band_weights(coadd, 1.0).astype(float)  # zero without data
    used = inverse > 0
    best = counts * inverse

    def ratio(weights: NDArray[np.floating]) -> float:
        return float((weights * counts)[used].sum() / np.sqrt((weights**2 / inverse)[used].sum()))

    with np.errstate(divide="ignore"):
        if ratio(plain) > config.least_of_best * ratio(best):
            return plain
    return (best * len(best) / best.sum()).astype(np.float32)


def mean_fwhm(coadd: Coadd) -> float:
    """Seeing FWHM in pixels, the mean of the bands."""
    return float(np.mean([psf.fwhm_px(stamp) for stamp in coadd.psfs]))
