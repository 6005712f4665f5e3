"""Nebulosity: extended light that belongs to no source.

A frame is nebulous where wide objects cover much of it that have no middle: their light does not
fall off around any point, is not the same on both sides of one, and is not the sum of stars. All of
their light but that of the sources on them is taken out of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.features import SHARP, Look, point_flux


@dataclass(frozen=True, eq=False)
class Nebulosity:
    """Light that belongs to no source.

    Attributes
    ----------
    light : (C, H, W) float32 counts, zero away from it.
    variance : (C, H, W) float32 counts squared, of its structure finer than `light`: what
        does not stand out of that is no source.
    """

    light: NDArray[np.float32]
    variance: NDArray[np.float32]

    def out_of(self, coadd: Coadd) -> Coadd:
        """The coadd without it."""
        image, variance = coadd.image - self.light, coadd.variance + self.variance
        return replace(coadd, image=image, variance=variance)


def clouds_of(
    look: Look, peaks: NDArray[np.float64], likely: NDArray[np.float64], config: DetectConfig
) -> NDArray[np.bool_]:
    """(H, W) bool: the wide parents of a nebulous frame; none where it is not nebulous.

    Parameters
    ----------
    peaks, likely : (N, 2) candidates (y, x), and the probability that each is a source.
    """
    field = look.field
    parents, fwhm = field.parents, field.fwhm_px
    nothing = np.zeros(parents.shape, bool)
    area = np.bincount(parents.ravel())
    area[0] = 0
    wide = np.flatnonzero(area > (config.nebulosity_least_fwhm * fwhm) ** 2)
    least = config.nebulosity_least_frame * parents.size if config.nebulosity == "auto" else 0
    if area[wide].sum() <= least:
        return nothing
    smooth = _opened(field.light, fwhm)
    middles = [_middle(smooth, parents == number, fwhm) for number in wide]
    cloudy = np.array([not m.of_a_galaxy(config) for m in middles])
    if not cloudy.any() or area[wide[cloudy]].sum() < least:
        return nothing
    # A cloud of many has a middle by chance.
    cloudy |= np.array([m.falls > config.nebulosity_beside for m in middles])
    if config.nebulosity == "auto" and cloudy.sum() < 2:
        return nothing  # a single one may be an irregular galaxy that fills the frame
    clouds = np.isin(parents, wide[cloudy])
    at = tuple(peaks.astype(int).T)
    stars = look.sharp[at][(likely >= config.source_probability) & clouds[at]].sum()
    light = np.maximum(field.light, 0)[clouds].sum()
    return clouds if stars < config.nebulosity_star_light * light else nothing


def _opened(light: NDArray[np.floating], fwhm_px: float) -> NDArray[np.float64]:
    """(H, W) light without what is as narrow as a star."""
    side, sigma = 2 * round(fwhm_px) + 1, fwhm_px / FWHM_PER_SIGMA
    smooth = ndimage.gaussian_filter(np.asarray(light, np.float64), sigma, mode="nearest")
    opened = ndimage.grey_opening(smooth, (side, side), mode="nearest")
    return np.asarray(ndimage.gaussian_filter(opened, sigma, mode="nearest"))


@dataclass(frozen=True)
class Middle:
    """Whether an object has a middle.

    Attributes
    ----------
    falls : rank correlation of its light with the elliptical radius, -1 for any galaxy's profile.
    uneven : mean difference of opposite pixels in parts of the light, 0 for a symmetric object.
    """

    falls: float
    uneven: float

    def of_a_galaxy(self, config: DetectConfig) -> bool:
        return self.falls < config.nebulosity_falls or self.uneven < config.nebulosity_uneven


def _middle(smooth: NDArray[np.float64], inside: NDArray[np.bool_], fwhm_px: float) -> Middle:
    """The best of the centroid and the brightest places at three scales."""
    from scipy import stats  # takes half a second to import, and few frames are nebulous

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
        falls = min(falls, float(stats.spearmanr(radius, light).statistic))
        my, mx = np.rint(2 * cy - y).astype(int), np.rint(2 * cx - x).astype(int)
        seen = (my >= 0) & (my < smooth.shape[0]) & (mx >= 0) & (mx < smooth.shape[1])
        if seen.mean() > 0.3:  # of what the frame cuts the other side is not known
            difference = np.abs(light[seen] - smooth[my[seen], mx[seen]]).sum()
            uneven = min(uneven, float(difference / light[seen].sum()))
    return Middle(falls, uneven)


def nebulosity(
    coadd: Coadd,
    clouds: NDArray[np.bool_],
    stars: NDArray[np.float64],
    fwhm_px: float,
    config: DetectConfig,
) -> Nebulosity:
    """The light in and around the clouds less that of the sources on them.

    Each band less a point source at every peak, of the flux of its Laplacian, which a smooth ground
    does not change, is smoothed with a Gaussian; the middles of the sources are left out.

    Parameters
    ----------
    clouds : (H, W) bool.
    stars : (N, 2) (y, x) of the sources.
    fwhm_px : of the seeing.
    """
    sigma = config.nebulosity_fwhm * fwhm_px / FWHM_PER_SIGMA
    pixels = np.rint(stars).astype(int)
    taken = np.ones(clouds.shape, bool)
    taken[tuple(pixels.T)] = False
    taken = ndimage.distance_transform_edt(taken) <= config.nebulosity_star_fwhm * fwhm_px
    near = ndimage.distance_transform_edt(~clouds) <= 2 * sigma
    part = ndimage.gaussian_filter(near.astype(np.float32), sigma)
    light, variance = np.zeros((2, *coadd.image.shape), np.float32)
    for c, valid in enumerate(coadd.valid):
        rest = np.where(valid, coadd.image[c], 0) - _points(coadd, c, pixels, fwhm_px)
        known = (valid & ~taken).astype(np.float32)
        ground = _mean(rest, known, sigma)
        excess = _mean(
            (rest - ground) ** 2 - np.where(valid, coadd.variance[c], 0), known, 2 * sigma
        )
        light[c] = np.where(valid, part * ground, 0)
        variance[c] = np.where(valid, part * np.maximum(excess, 0), 0)
    return Nebulosity(light, variance)


def _mean(
    image: NDArray[np.floating], known: NDArray[np.float32], sigma: float
) -> NDArray[np.float32]:
    """(H, W) Gaussian mean of the known pixels; farther than they reach, a wider one's."""
    out, missing = np.zeros(image.shape, np.float32), np.ones(image.shape, bool)
    while missing.any() and known.any():
        share = ndimage.gaussian_filter(known, sigma, mode="nearest")
        total = ndimage.gaussian_filter((image * known).astype(np.float32), sigma, mode="nearest")
        now = missing & (share > 0.05)
        out[now] = total[now] / share[now]
        missing &= ~now
        sigma *= 2
    return out


def _points(
    coadd: Coadd, band: int, pixels: NDArray[np.int64], fwhm_px: float
) -> NDArray[np.float32]:
    """(H, W) point sources at (N, 2) pixels, of the fluxes that their Laplacians have."""
    image = np.where(coadd.valid[band], coadd.image[band], 0)
    stamp = coadd.psfs[band]
    half = stamp.shape[0] // 2
    unit = float(point_flux(stamp, SHARP * fwhm_px, fwhm_px)[half, half])
    flux = np.maximum(point_flux(image, SHARP * fwhm_px, fwhm_px)[tuple(pixels.T)] / unit, 0)
    out = np.zeros((image.shape[0] + 2 * half, image.shape[1] + 2 * half), np.float32)
    for (y, x), one in zip(pixels, flux, strict=True):
        out[y : y + stamp.shape[0], x : x + stamp.shape[1]] += one * stamp
    return out[half : half + image.shape[0], half : half + image.shape[1]]
