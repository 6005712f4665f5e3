"""Nebulosity: extended light that belongs to no source.

Light is long where, in some direction, it goes on for many seeing disks: sources are short in
every one. A frame is nebulous where long light without a middle covers much of it: it does not fall
off around any point, is not the same on both sides of one, and is not the sum of stars. There the
long light is taken out of the image, and on the clouds all that is no source's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.core.ranks import rank_correlation
from astrolabel.detect.extract import sep_sources
from astrolabel.detect.features import SHARP, point_flux
from astrolabel.detect.image import DetectionImage, filled, mean_fwhm

DIRECTIONS = 8
"""In which light may be long: lines of eight FWHM at these differ by 1.5 FWHM at their ends."""


@dataclass(frozen=True, eq=False)
class Nebulosity:
    """Light that belongs to no source.

    Attributes
    ----------
    light : (C, H, W) float32 counts.
    variance : (C, H, W) float32 counts squared, of its structure finer than `light`: what
        does not stand out of that is no source.
    rough : (H, W) bool: where there is much of it.
    """

    light: NDArray[np.float32]
    variance: NDArray[np.float32]
    rough: NDArray[np.bool_]

    def out_of(self, coadd: Coadd) -> Coadd:
        """The coadd without it."""
        image, variance = coadd.image - self.light, coadd.variance + self.variance
        return replace(coadd, image=image, variance=variance)


@dataclass(frozen=True, eq=False)
class Clouds:
    """The wide objects of a nebulous frame.

    Attributes
    ----------
    clouds : (H, W) bool: long light without a middle.
    galaxies : (H, W) bool: the others.
    """

    clouds: NDArray[np.bool_]
    galaxies: NDArray[np.bool_]


def clouds_of(detection: DetectionImage, fwhm_px: float, config: DetectConfig) -> Clouds | None:
    """The clouds of a frame, None where it is not nebulous."""
    if config.nebulosity == "never":
        return None
    significance = detection.image / detection.sky_sigma
    step = _step(fwhm_px)
    smooth = _smooth(significance, fwhm_px)[step // 2 :: step, step // 2 :: step]
    light = _opened(smooth, fwhm_px / step, config)
    objects = _objects(light, config)
    area = np.bincount(objects.ravel())
    area[0] = 0
    wide = np.flatnonzero(area > (config.nebulosity_least_fwhm * fwhm_px / step) ** 2)
    least = config.nebulosity_least_frame * objects.size if config.nebulosity == "auto" else 0
    if area[wide].sum() <= least:
        return None
    each = [objects == number for number in wide]
    falls, uneven = np.array([_middle(light, inside, fwhm_px / step) for inside in each]).T
    long = np.array([np.median(light[inside] / smooth[inside]) for inside in each])
    may_be = (uneven > config.nebulosity_uneven) & (long > config.nebulosity_long)
    cloudy = may_be & (falls > config.nebulosity_falls)
    if not cloudy.any() or area[wide[cloudy]].sum() < least:
        return None
    cloudy = may_be & (falls > config.nebulosity_beside)  # one of many has a middle by chance
    clouds = np.isin(objects, wide[cloudy])
    if config.nebulosity == "auto" and cloudy.sum() < 2 and _solid(clouds, config):
        return None  # it may be an irregular galaxy that fills the frame
    galaxies = np.isin(objects, wide[~cloudy])
    shape = significance.shape
    return Clouds(_enlarged(clouds, step, shape), _enlarged(galaxies, step, shape))


def nebulosity(
    coadd: Coadd,
    detection: DetectionImage,
    clouds: Clouds,
    sources: NDArray[np.float64],
    config: DetectConfig,
) -> Nebulosity:
    """The long light of each band, and on rough clouds all that is not the sources'.

    A source's light is long near its middle, where it falls off slowly. Under what stands out
    of the long light, that counts which lies around, if it is less; so more of the source stands
    out, and this is done again.

    Parameters
    ----------
    sources : (N, 2) (y, x) of the sources.
    """
    fwhm = mean_fwhm(coadd)
    sigma = fwhm / FWHM_PER_SIGMA
    images, weights = filled(coadd.image, coadd), detection.band_weights
    smooth = np.array([_smooth(band, fwhm) for band in images])
    long = np.array([_long(band, fwhm, config) for band in smooth])
    noise = detection.sky_sigma / (2 * np.sqrt(np.pi) * sigma)
    narrow = _narrow(np.tensordot(weights, images, 1), noise, fwhm, config)
    margin = round(config.nebulosity_margin_fwhm * fwhm)
    light = long
    for _ in range(config.nebulosity_rounds):
        rest, ground = (np.tensordot(weights, part, 1) for part in (smooth - light, light))
        # Long light that is not straight stands out of what a line leaves.
        bend = config.nebulosity_source_part * np.maximum(ground, 0)
        stand_out = rest > config.nebulosity_source_sigma * noise + bend
        short = narrow | ndimage.binary_dilation(stand_out, iterations=margin)
        around = np.array(
            [_mean(*b, 2 * sigma) for b in zip(long, coadd.valid & ~short, strict=True)]
        )
        light = np.where(short, np.minimum(long, around), long)
    known = coadd.valid & ~_of_sources(short, sources)
    wide = config.nebulosity_fwhm * sigma
    rest = images - light
    fine = np.array([_mean(*b, wide) for b in zip(rest, known, strict=True)])
    scatter = (rest - fine) ** 2
    scatter = np.array([_mean(*b, 2 * wide) for b in zip(scatter, known, strict=True)])
    variance = filled(coadd.variance, coadd)
    given, found = (a.sum(axis=0)[clouds.clouds] for a in (variance, scatter))
    least = min(np.median(given), np.percentile(found, 5))  # the noise measured may hold structure
    rough = clouds.clouds & bool(np.percentile(found, 75) > config.nebulosity_rough * least)
    beside = ndimage.gaussian_filter((~clouds.galaxies).astype(np.float32), sigma)
    on = ndimage.gaussian_filter(rough.astype(np.float32), sigma)
    return Nebulosity(
        np.where(coadd.valid, beside * light + on * fine, 0).astype(np.float32),
        np.where(coadd.valid, on * np.maximum(scatter - variance, 0), 0).astype(np.float32),
        rough,
    )


def _of_sources(short: NDArray[np.bool_], sources: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(H, W) bool: the connected parts that hold a source."""
    parts, count = ndimage.label(short)
    taken = np.zeros(count + 1, bool)
    taken[parts[tuple(sources.astype(int).T)]] = True
    taken[0] = False
    return np.asarray(taken[parts])


def _narrow(
    image: NDArray[np.floating],
    noise: NDArray[np.floating],
    fwhm_px: float,
    config: DetectConfig,
) -> NDArray[np.bool_]:
    """(H, W) bool: within a FWHM of light as narrow as a point source.

    Parameters
    ----------
    noise : (H, W) counts, of the smoothed image.
    """
    sigma = fwhm_px / FWHM_PER_SIGMA
    height = point_flux(image, SHARP * fwhm_px, fwhm_px) / (4 * np.pi * sigma**2)  # once smoothed
    most = height > config.nebulosity_narrow * _smooth(image, fwhm_px)
    seeds = most & (height > config.nebulosity_narrow_sigma * noise)
    return np.asarray(ndimage.distance_transform_edt(~seeds) <= fwhm_px)


def _long(smooth: NDArray[np.float64], fwhm_px: float, config: DetectConfig) -> NDArray[np.float64]:
    """(H, W) long part of smoothed light."""
    step = _step(fwhm_px)
    opened = _opened(smooth[step // 2 :: step, step // 2 :: step], fwhm_px / step, config)
    return _between(opened, step, smooth.shape)


def _between(image: NDArray[np.float64], step: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W) from every `step`-th pixel of it."""
    at = ((np.indices(shape) - step // 2) / step).astype(np.float64)
    return np.asarray(ndimage.map_coordinates(image, at, order=1, mode="nearest"))


def _objects(light: NDArray[np.float64], config: DetectConfig) -> NDArray[np.int32]:
    """(H, W) int32 number of the object of long light, in noises of the sky; 0 for none."""
    one = np.ones(light.shape, np.float32)
    image = DetectionImage(np.ones(1, np.float32), light.astype(np.float32), one, one, one > 0)
    threshold, contrast = config.nebulosity_sigma, config.parent_contrast
    coarse = replace(config, threshold_sigma=threshold, deblend_contrast=contrast, noise="variance")
    return sep_sources(image, coarse)[1]


def _solid(inside: NDArray[np.bool_], config: DetectConfig) -> bool:
    """Whether a region fills most of the least convex one that holds it."""
    from scipy import spatial  # few frames are nebulous

    whole = spatial.ConvexHull(np.argwhere(inside)).volume
    return bool(inside.sum() > config.nebulosity_solid * whole)


def _step(fwhm_px: float) -> int:
    """Every so many pixels smoothed light is looked at: twice a FWHM."""
    return max(1, int(fwhm_px / 2))


def _smooth(image: NDArray[np.floating], fwhm_px: float) -> NDArray[np.float64]:
    return np.asarray(
        ndimage.gaussian_filter(
            np.asarray(image, np.float64), fwhm_px / FWHM_PER_SIGMA, mode="nearest"
        )
    )


def _enlarged(image: NDArray[np.bool_], step: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) from every `step`-th pixel of it."""
    near = [
        np.minimum(np.arange(n) // step, m - 1) for n, m in zip(shape, image.shape, strict=True)
    ]
    return image[np.ix_(*near)]


def _opened(
    smooth: NDArray[np.float64], fwhm_px: float, config: DetectConfig
) -> NDArray[np.float64]:
    """(H, W) the long part of smoothed light: the most that an opening by a line leaves."""
    half = max(1, round(config.nebulosity_length_fwhm * fwhm_px / 2))
    out = np.full(smooth.shape, -np.inf)
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        line = _line(half, angle)
        np.maximum(out, ndimage.grey_opening(smooth, footprint=line, mode="nearest"), out=out)
    return out


def _line(half: int, angle: float) -> NDArray[np.bool_]:
    """(2h+1, 2h+1) bool: a line through the middle."""
    side = 2 * half + 1
    along = np.linspace(-half, half, 4 * side)
    out = np.zeros((side, side), bool)
    out[
        np.rint(half + along * np.sin(angle)).astype(int),
        np.rint(half + along * np.cos(angle)).astype(int),
    ] = True
    return out


def _middle(
    smooth: NDArray[np.float64], inside: NDArray[np.bool_], fwhm_px: float
) -> tuple[float, float]:
    """Whether an object has a middle: the rank correlation of its light with the elliptical radius,
    -1 for any galaxy's profile; and the mean difference of opposite pixels in parts of the light, 0
    for a symmetric object. The best of the centroid and the brightest places at three scales."""
    y, x = np.nonzero(inside)
    light = np.maximum(smooth[y, x], 1e-30)
    weight = np.minimum(light, np.percentile(light, 80))
    places = [(float(np.average(y, weights=light)), float(np.average(x, weights=light)))]
    own = np.where(inside, smooth, 0)
    for scale in (1.0, 3.0, 6.0):
        blurred = ndimage.gaussian_filter(own, scale * fwhm_px)[y, x]
        places.append((float(y[blurred.argmax()]), float(x[blurred.argmax()])))
    falls, uneven = 1.0, 2.0
    for cy, cx in places:
        dy, dx = y - cy, x - cx
        yy, yx, xx = (np.average(p, weights=weight) for p in (dy * dy, dy * dx, dx * dx))
        shape = np.linalg.inv(np.array([[yy + 0.3, yx], [yx, xx + 0.3]]))
        radius = shape[0, 0] * dy * dy + 2 * shape[0, 1] * dy * dx + shape[1, 1] * dx * dx
        falls = min(falls, rank_correlation(radius, light)[0])
        my, mx = np.rint(2 * cy - y).astype(int), np.rint(2 * cx - x).astype(int)
        seen = (my >= 0) & (my < smooth.shape[0]) & (mx >= 0) & (mx < smooth.shape[1])
        if seen.mean() > 0.3:  # of what the frame cuts the other side is not known
            difference = np.abs(light[seen] - smooth[my[seen], mx[seen]]).sum()
            uneven = min(uneven, float(difference / light[seen].sum()))
    return falls, uneven


def _mean(
    image: NDArray[np.float64], known: NDArray[np.bool_], sigma: float
) -> NDArray[np.float64]:
    """(H, W) Gaussian mean of the known pixels; farther than they reach, a wider one's."""
    out, weight = np.array(image, np.float64), known.astype(np.float64)
    missing = np.full(image.shape, bool(known.any()))
    while missing.any() and sigma < sum(image.shape):
        share = ndimage.gaussian_filter(weight, sigma, mode="nearest")
        total = ndimage.gaussian_filter(image * weight, sigma, mode="nearest")
        now = missing & (share > 0.05)
        out[now] = total[now] / share[now]
        missing &= ~now
        sigma *= 2
    return out
