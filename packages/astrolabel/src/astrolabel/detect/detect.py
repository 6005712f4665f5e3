"""The detection image, and the sources that stand above its noise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrolabel.core import background, psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.core.correlation import correlation_of_sum, filter_power
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.features import Field
from astrolabel.detect.nebulosity import Nebulosity, nebulosity
from astrolabel.detect.residual_search import Models, Sky, searched
from astrolabel.detect.source_probability import decide
from astrolabel.detect.star_artifacts import saturated_regions, saturated_stars, star_reaches

_SEP_LIMITS = threading.Lock()


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


@dataclass(frozen=True, eq=False)
class Detections:
    """Where the sources are.

    Attributes
    ----------
    peaks : (N, 2) float64, (y, x) in pixels, sorted by y then x.
    footprint : (H, W) bool: the connected pixels of all sources above threshold.
    segments : (H, W) int32: sep's own cut of the footprint among its sources, 0 outside.
    nebulosity : light that belongs to no source, None where there is none. It is still in the
        image: take it out and detect again.
    """

    peaks: NDArray[np.float64]
    footprint: NDArray[np.bool_]
    segments: NDArray[np.int32]
    nebulosity: Nebulosity | None = None


def detection_image(coadd: Coadd, config: DetectConfig) -> DetectionImage:
    """Sum of the bands with its noise, from the variances or from sep (`config.noise`).

    A pixel has the bands that have data there: where one lacks, the sum is of the others, and
    so is its noise.
    """
    valid = np.any(coadd.valid, axis=0)
    weights = _band_weights(coadd, 0.5 if config.combine == "weighted" else 0.0)
    image = background.fill_invalid(np.tensordot(weights, _filled(coadd.image, coadd), 1), valid)
    if config.noise == "sep":
        sky = background.sep_sky(image, valid)
        image = background.fill_invalid(image - sky.level, valid)
        rms = _positive(sky.rms)
        return DetectionImage(weights, image, rms, rms, valid)
    variance = np.tensordot(weights**2, _filled(coadd.variance, coadd), 1).astype(np.float32)
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


def _filled(array: NDArray[np.float32], coadd: Coadd) -> NDArray[np.float32]:
    return np.where(coadd.valid, array, 0)


def _band_weights(coadd: Coadd, power: float) -> NDArray[np.float32]:
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


def detect(coadd: Coadd, detection: DetectionImage, config: DetectConfig) -> Detections:
    """Sources above ``config.threshold_sigma``, as ``config.peaks`` asks for."""
    found = candidates(coadd, detection, config)
    peaks, light = found.peaks, None
    if config.source_probability and len(peaks):
        field = field_of(coadd, detection, found, config)
        decided = decide(field, peaks, config)
        if decided.clouds.any():
            stars = peaks[decided.source]
            light = nebulosity(coadd, decided.clouds, stars, field.fwhm_px, config)
        peaks = peaks[decided.source]
    peaks = peaks[~_beside_blank(peaks, detection.valid)]
    order = np.lexsort((peaks[:, 1], peaks[:, 0]))
    above = detection.valid & (detection.image > config.threshold_sigma * detection.sky_sigma)
    return Detections(peaks[order], (found.segments > 0) | above, found.segments, light)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Peaks that may be sources.

    Attributes
    ----------
    peaks : (N, 2) float64 (y, x) in pixels.
    segments : (H, W) int32, sep's cut of the footprint.
    stars : (M, 2) middles of the saturated stars among them.
    models : fitted to them, in their order; None where none were fitted.
    """

    peaks: NDArray[np.float64]
    segments: NDArray[np.int32]
    stars: NDArray[np.float64]
    models: Models | None


def candidates(coadd: Coadd, detection: DetectionImage, config: DetectConfig) -> Candidates:
    """Peaks of the image, and of what models of these leave over."""
    peaks, segments = sep_sources(detection, config)
    if config.peaks == "log":
        sharp = laplacian_peaks(coadd, detection, config)
        bridged = segments > 0
        bridged |= ~detection.valid & ndimage.binary_dilation(bridged, iterations=GAP_PX)
        peaks = np.concatenate([sharp, _in_empty_footprints(peaks, sharp, bridged)])
    saturated = np.asarray(coadd.plane("SAT").any(axis=0), bool)
    regions = saturated_regions(saturated, config.saturated_reach_fwhm * _mean_fwhm(coadd))
    stars = np.zeros((0, 2))
    if config.join_saturated and len(peaks):
        stars = saturated_stars(saturated, regions, peaks)
        peaks = np.concatenate([peaks[_values(regions, peaks) == 0], stars])
    models = None
    if config.residual.rounds and len(peaks):
        models = _searched(coadd, detection, peaks, saturated, regions, config)
        peaks = models.peaks
    return Candidates(peaks, segments, stars, models)


def _values(image: NDArray[Any], peaks: NDArray[np.float64]) -> NDArray[Any]:
    return image[tuple(peaks.astype(int).T)]


def _beside_blank(peaks: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) bool: peaks on the last pixels before a large region without data, whose light goes
    on to rise in there: no more than the wing of a source is seen."""
    side = 2 * (2 * GAP_PX + 1) + 1
    blank = ndimage.binary_opening(~valid, np.ones((side, side)))
    if not blank.any():
        return np.zeros(len(peaks), bool)
    near = ndimage.binary_dilation(blank & ~valid, np.ones((3, 3)), iterations=GAP_PX)
    return np.asarray(near[tuple(peaks.astype(int).T)])


def _searched(
    coadd: Coadd,
    detection: DetectionImage,
    peaks: NDArray[np.float64],
    saturated: NDArray[np.bool_],
    regions: NDArray[np.int32],
    config: DetectConfig,
) -> Models:
    """Models of the peaks and of what iterative detection adds, where it could have a mask or its
    light could be taken for that of a source that has one."""
    # The light around a saturated core is no longer a PSF's.
    broken = ndimage.binary_dilation(saturated, iterations=2)
    usable = coadd.valid & ~broken
    fwhm = _mean_fwhm(coadd)
    image, weights = coadd.weighted(usable)
    bright = (
        detection.image
        > config.residual.reach_threshold * config.threshold_sigma * detection.sky_sigma
    )
    near = ndimage.distance_transform_edt(~bright) <= config.residual.reach_fwhm * fwhm
    possible = detection.valid & ~broken & near
    if config.join_saturated:
        possible &= regions == 0
    sky = Sky(image, weights, coadd.psfs, fwhm)
    return searched(sky, peaks, possible, config.residual)


def field_of(
    coadd: Coadd, detection: DetectionImage, found: Candidates, config: DetectConfig
) -> Field:
    """What the features of candidates are taken from."""
    fwhm = _mean_fwhm(coadd)
    weights = _band_weights(coadd, 1.0)
    bands = _filled(coadd.image, coadd)
    variance = np.tensordot(weights**2, _filled(coadd.variance, coadd), 1)
    width = config.parent_fwhm * fwhm / FWHM_PER_SIGMA
    clipped = np.minimum(detection.image, config.parent_clip_sigma * detection.sky_sigma)
    smooth = replace(detection, image=ndimage.gaussian_filter(clipped, width))
    coarse = replace(config, deblend_contrast=config.parent_contrast)
    parents = sep_sources(smooth, coarse)[1]
    significance = detection.image / detection.sky_sigma
    return Field(
        np.tensordot(weights, bands, 1),
        variance,
        bands,
        parents,
        fwhm,
        found.stars,
        star_reaches(significance, found.stars, fwhm, config),
        found.models.fits() if found.models is not None else None,
    )


def _mean_fwhm(coadd: Coadd) -> float:
    """Seeing FWHM in pixels, the mean of the bands."""
    return float(np.mean([psf.fwhm_px(stamp) for stamp in coadd.psfs]))


def _in_empty_footprints(
    peaks: NDArray[np.float64], others: NDArray[np.float64], covered: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Those of `peaks` whose connected footprint holds none of `others`."""
    footprints, count = ndimage.label(covered, np.ones((3, 3)))
    taken = np.zeros(count + 1, bool)
    taken[footprints[tuple(others.astype(int).T)]] = True
    return peaks[~taken[footprints[tuple(peaks.astype(int).T)]]]


def sep_sources(
    detection: DetectionImage, config: DetectConfig
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """sep's sources: (N, 2) peaks and the (H, W) segmentation."""
    data = background.native(detection.image)
    with _SEP_LIMITS:  # sep keeps its limits for the process
        # Every pixel of a crowded field may be above threshold; sep's buffer of 300,000
        # is smaller than a tile. 4096 peaks in one footprint is four times sep's limit.
        sep.set_extract_pixstack(max(data.size, 300_000))
        for limit in (1024, 4096, 16384, 65536):
            sep.set_sub_object_limit(limit)
            try:
                table, segments = sep.extract(
                    data,
                    config.threshold_sigma,
                    err=background.native(detection.sky_sigma),
                    mask=~detection.valid,
                    minarea=config.min_area,
                    filter_kernel=None if config.noise == "variance" else _SEP_KERNEL,
                    deblend_nthresh=config.deblend_levels,
                    deblend_cont=config.deblend_contrast,
                    segmentation_map=True,
                )
                break
            except Exception as error:
                # sep raises a bare Exception; only the overflow is worth another round.
                if "overflow" not in str(error) or limit == 65536:
                    raise
    peaks = np.stack([table["ypeak"], table["xpeak"]], axis=1).astype(np.float64)
    return peaks, segments.astype(np.int32)


_SEP_KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
"""sep's default filter, which the paper's recipe leaves in place."""


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
    weights = _band_weights(coadd, 1.0)
    image = np.tensordot(weights, _filled(coadd.image, coadd), 1)
    variance = np.tensordot(weights**2, _filled(coadd.variance, coadd), 1)
    correlation = correlation_of_sum(coadd, weights)
    fwhm = _mean_fwhm(coadd)

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


RIDGE_SIGMA = 3.0
"""Noise of a second derivative by which a peak on a ridge must bend along it."""
SECOND_SIGMA = (3 / 8) ** 0.5
"""Noise of a second derivative over that of the Laplacian, in white noise smoothed by a
Gaussian."""


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


GAP_PX = 2
"""Missing pixels this near to a source's do not part it: a bad column of four has some of
the source's light on both sides."""


BEND = 0.87
"""Takes the curvature of a source out of the means over 1 and 1.6 pixels around a gap of one
to three pixels: their second moments are as 1 to 2.15."""


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


IMPULSE_PX = 40
"""Half-side of the image of one pixel that a filter's response is read off; more than
eight sigmas of any filter here."""


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
