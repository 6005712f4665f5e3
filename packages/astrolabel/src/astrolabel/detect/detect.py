"""The sources that stand above the noise of the detection image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.extract import sep_sources
from astrolabel.detect.features import Field
from astrolabel.detect.image import DetectionImage, band_weights, detection_image, filled, mean_fwhm
from astrolabel.detect.laplacian import GAP_PX, laplacian_peaks
from astrolabel.detect.nebulosity import Nebulosity, clouds_of, nebulosity
from astrolabel.detect.residual_search import Models, Sky, searched
from astrolabel.detect.source_probability import decide
from astrolabel.detect.star_artifacts import saturated_regions, saturated_stars, star_reaches


@dataclass(frozen=True, eq=False)
class Detections:
    """Where the sources are.

    Attributes
    ----------
    peaks : (N, 2) float64, (y, x) in pixels, sorted by y then x.
    footprint : (H, W) bool: the connected pixels of all sources above threshold.
    segments : (H, W) int32: sep's own cut of the footprint among its sources, 0 outside.
    nebulosity : light that belongs to no source, None where there is none. It is in no footprint,
        and still in the image: take it out before sources are fitted.
    """

    peaks: NDArray[np.float64]
    footprint: NDArray[np.bool_]
    segments: NDArray[np.int32]
    nebulosity: Nebulosity | None = None


def detect(coadd: Coadd, detection: DetectionImage, config: DetectConfig) -> Detections:
    """Sources above ``config.threshold_sigma``, as ``config.peaks`` asks for."""
    light = None
    clouds = clouds_of(detection, mean_fwhm(coadd), config) if config.source_probability else None
    on = clouds.clouds if clouds is not None else np.zeros(detection.valid.shape, bool)
    peaks, segments = _sources(coadd, detection, on, config)
    if clouds is not None:
        with_clouds = peaks
        light = nebulosity(coadd, detection, clouds, with_clouds, config)
        coadd = light.out_of(coadd)
        detection = detection_image(coadd, config)
        peaks, segments = _sources(coadd, detection, on, config)
        # The probabilities were trained on rough clouds as they are: what is left of them is more
        # like sources.
        rough = _values(light.rough, with_clouds)
        peaks = np.concatenate([peaks[~_values(light.rough, peaks)], with_clouds[rough]])
    peaks = peaks[~_beside_blank(peaks, detection.valid)]
    order = np.lexsort((peaks[:, 1], peaks[:, 0]))
    above = detection.valid & (detection.image > config.threshold_sigma * detection.sky_sigma)
    return Detections(peaks[order], (segments > 0) | above, segments, light)


def _sources(
    coadd: Coadd, detection: DetectionImage, clouds: NDArray[np.bool_], config: DetectConfig
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """(N, 2) peaks that are sources, and the (H, W) segments of sep."""
    found = candidates(coadd, detection, config)
    peaks = found.peaks
    if config.source_probability and len(peaks):
        peaks = peaks[decide(field_of(coadd, detection, found, config), peaks, clouds, config)]
    return peaks, found.segments


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
    regions = saturated_regions(saturated, mean_fwhm(coadd), config)
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
    fwhm = mean_fwhm(coadd)
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
    fwhm = mean_fwhm(coadd)
    weights = band_weights(coadd, 1.0)
    bands = filled(coadd.image, coadd)
    variance = np.tensordot(weights**2, filled(coadd.variance, coadd), 1)
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


def _in_empty_footprints(
    peaks: NDArray[np.float64], others: NDArray[np.float64], covered: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Those of `peaks` whose connected footprint holds none of `others`."""
    footprints, count = ndimage.label(covered, np.ones((3, 3)))
    taken = np.zeros(count + 1, bool)
    taken[footprints[tuple(others.astype(int).T)]] = True
    return peaks[~taken[footprints[tuple(peaks.astype(int).T)]]]
