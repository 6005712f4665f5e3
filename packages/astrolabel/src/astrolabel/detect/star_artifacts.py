"""Saturated stars, and the peaks that are only their glare: aureole, spikes, bleed trails.

All of that is about as bright on the other side of the star, and a neighbour is not: a peak
is a source when it stands out of what the star has on both sides, and when nothing like it
is at its mirror image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrolabel.core.config import GlareConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.shredding import point_height, ring_levels

DARKEST = 10.0
"""Percentile of a circle that is a star's own light; its neighbours are on the rest."""


def saturated_regions(saturated: NDArray[np.bool_], grow_px: float) -> NDArray[np.int32]:
    """(H, W) int32: number of the saturated region, grown by `grow_px`; 0 outside."""
    if not saturated.any():
        return np.zeros(saturated.shape, np.int32)
    grown = ndimage.distance_transform_edt(~saturated) <= grow_px
    return np.asarray(ndimage.label(grown, np.ones((3, 3)))[0], np.int32)


def saturated_stars(
    saturated: NDArray[np.bool_], regions: NDArray[np.int32], peaks: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M, 2) middles (y, x) of the saturated regions that any peak is in.

    The middle is where the region is widest: bleed trails are narrow, and may be longer on
    one side.
    """
    hit = np.unique(regions[tuple(peaks.astype(int).T)])
    boxes = ndimage.find_objects(regions)
    middles = []
    for number in hit[hit > 0]:
        box = boxes[number - 1]
        inside = np.pad(saturated[box] & (regions[box] == number), 1)
        depth = ndimage.distance_transform_edt(inside)
        widest = np.argwhere(depth > depth.max() - 0.5).mean(axis=0) - 1
        middles.append(widest + np.array([box[0].start, box[1].start]))
    return np.array(middles, float).reshape(-1, 2)


def is_glare(
    light: NDArray[np.floating[Any]],
    own: NDArray[np.floating[Any]],
    significance: NDArray[np.floating[Any]],
    stars: NDArray[np.float64],
    peaks: NDArray[np.float64],
    fwhm_px: float,
    config: GlareConfig,
) -> NDArray[np.bool_]:
    """(N,) bool: which peaks are only the glare of a star.

    Parameters
    ----------
    light : (H, W) counts of the bands together.
    own : (H, W) flux of the point source that `light` has at each pixel (`structure.own_flux`).
    significance : (H, W) detection image in sigma of empty sky.
    stars : (M, 2) of (y, x) in pixels.
    peaks : (N, 2) of (y, x) in pixels; those that are stars stay.
    """
    out = np.zeros(len(peaks), bool)
    if len(peaks) == 0 or len(stars) == 0:
        return out
    window = round(config.window_fwhm * fwhm_px)
    smooth = ndimage.gaussian_filter(significance, fwhm_px / FWHM_PER_SIGMA)
    other = cKDTree(stars).query(peaks)[0] > 0.5
    for star in stars:
        distance = np.hypot(*(peaks - star).T)
        reach = _reach(smooth, star, fwhm_px, config)
        for n in np.flatnonzero(other & (distance <= reach) & ~out):
            from_star = peaks[n] - star
            both = min(_around(light, star + side * from_star, 1).mean() for side in (1, -1))
            flux = float(_around(own, peaks[n], 0)[0, 0])
            if flux <= 0 or flux * point_height(fwhm_px) < config.contrast * both:
                out[n] = True
                continue
            ratio = _around(own, star - from_star, window).max() / flux
            if ratio > config.alike[1]:  # what is there hides the glare: spikes are four
                aside = from_star[::-1] * (1, -1)
                sides = [_around(own, star + side * aside, window).max() for side in (1, -1)]
                ratio = min(sides) / flux
            out[n] = config.alike[0] < ratio < config.alike[1]
    return out


def _around(image: NDArray[Any], point: NDArray[np.float64], half: int) -> NDArray[Any]:
    """The pixels within `half` of a point, or of the one next to it where it is outside."""
    y, x = np.clip(np.rint(point), 0, np.array(image.shape) - 1).astype(int)
    return image[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]


def _reach(
    smooth: NDArray[np.floating[Any]],
    star: NDArray[np.float64],
    fwhm_px: float,
    config: GlareConfig,
) -> float:
    """Radius in pixels at which the star's profile is down to the sky.

    The profile is the darkest tenth of each circle in the image smoothed with the seeing: in
    a crowd a median would be the neighbours', and would never end.
    """
    radii = np.arange(1.0, config.most_fwhm + 1) * float(fwhm_px)
    profile = ring_levels(smooth, star, radii, DARKEST)
    brightest = int(profile.argmax())
    dark = np.flatnonzero(profile[brightest:] < config.sky_sigma)
    return float(radii[brightest + int(dark[0]) if len(dark) else -1])
