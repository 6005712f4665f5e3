"""The sources that stand above the noise of the detection image."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core import background
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.features import Field
from astrolabel.detect.image import DetectionImage, band_weights, detection_image, filled, mean_fwhm
from astrolabel.detect.laplacian import GAP_PX, laplacian_peaks
from astrolabel.detect.nebulosity import Nebulosity, nebulosity
from astrolabel.detect.residual_search import Models, Sky, searched
from astrolabel.detect.source_probability import decide
from astrolabel.detect.star_artifacts import saturated_regions, saturated_stars, star_reaches

_SEP_LIMITS = threading.Lock()


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
    found = candidates(coadd, detection, config)
    peaks, segments, light = found.peaks, found.segments, None
    if config.source_probability and len(peaks):
        field = field_of(coadd, detection, found, config)
        decided = decide(field, peaks, config)
        if decided.clouds.any():
            stars = peaks[decided.source]
            light = nebulosity(coadd, decided.clouds, stars, field.fwhm_px, config)
        peaks = peaks[decided.source]
    if light is not None:
        detection = detection_image(light.out_of(coadd), config)
        segments = sep_sources(detection, config)[1]
    peaks = peaks[~_beside_blank(peaks, detection.valid)]
    order = np.lexsort((peaks[:, 1], peaks[:, 0]))
    above = detection.valid & (detection.image > config.threshold_sigma * detection.sky_sigma)
    return Detections(peaks[order], (segments > 0) | above, segments, light)


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


def sep_sources(
    detection: DetectionImage, config: DetectConfig
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """sep's sources: (N, 2) peaks and the (H, W) segmentation."""
    data = background.native(detection.image)
    with _SEP_LIMITS:  # sep keeps its limits for the process
        # Every pixel of a dense field may be above threshold; sep's buffer of 300,000
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
