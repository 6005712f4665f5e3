"""Saturated stars: their regions, their middles, and how far their light reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.config import DetectConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.features import ring_levels


def saturated_regions(
    saturated: NDArray[np.bool_], fwhm_px: float, config: DetectConfig
) -> NDArray[np.int32]:
    """(H, W) int32: number of the saturated region, grown by `saturated_reach_fwhm`, trails by half
    of it; 0 outside.

    Cores of several stars whose regions meet, but not within `saturated_join_fwhm` of each, have a
    region each: what is nearest to it.
    """
    grow_px = config.saturated_reach_fwhm * fwhm_px
    if not saturated.any():
        return np.zeros(saturated.shape, np.int32)
    away = ndimage.distance_transform_edt(~saturated)
    cores = _cores(saturated, away <= config.saturated_join_fwhm * fwhm_px, config)
    grown = away <= grow_px / 2
    if cores.any():
        grown |= ndimage.distance_transform_edt(cores == 0) <= grow_px
    regions, count = ndimage.label(grown, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(regions), 1):
        here = regions[box] == number
        own = np.where(here, cores[box], 0)
        stars = np.unique(own[own > 0])
        if len(stars) < 2:
            continue
        near = ndimage.distance_transform_edt(own == 0, return_distances=False, return_indices=True)
        share = np.searchsorted(stars, own[tuple(near)])
        regions[box][here & (share > 0)] = count + share[here & (share > 0)]
        count += len(stars) - 1
    return np.asarray(regions, np.int32)


def _cores(
    saturated: NDArray[np.bool_], joined: NDArray[np.bool_], config: DetectConfig
) -> NDArray[np.int32]:
    """(H, W) of the saturated pixels of stars' cores, which are wide or round, the number of the
    connected part of `joined` that they are in; 0 elsewhere, also on trails and spikes."""
    parts, count = ndimage.label(joined, np.ones((3, 3)))
    inside = ndimage.distance_transform_edt(np.pad(saturated, 1))[1:-1, 1:-1]
    numbers = np.arange(1, count + 1)
    depth = np.asarray(ndimage.maximum(inside, parts, numbers))
    area = np.asarray(ndimage.sum_labels(saturated, parts, numbers))
    least, wide_px = config.saturated_core_px
    small = (depth >= least) & (depth <= wide_px)
    round_ = np.append(False, small & (area <= 2 * np.pi * depth**2))[parts]
    wide = np.zeros(saturated.shape, bool)
    if inside.max() > wide_px:
        wide = ndimage.distance_transform_edt(inside <= wide_px) <= wide_px
    return np.where(saturated & (wide | round_), parts, 0).astype(np.int32)


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


def star_reaches(
    significance: NDArray[np.floating[Any]],
    stars: NDArray[np.float64],
    fwhm_px: float,
    config: DetectConfig,
) -> NDArray[np.float64]:
    """(M,) radii in pixels to which saturated stars are brighter than the sky.

    The profile is that of the darker pixels of each circle (`star_dark_percentile`) in the
    image smoothed with the seeing: in a dense field a median would be the neighbours', and would
    never end.

    Parameters
    ----------
    significance : (H, W) detection image in sigma of empty sky.
    stars : (M, 2) of (y, x) in pixels.
    """
    if len(stars) == 0:
        return np.zeros(0)
    smooth = ndimage.gaussian_filter(significance, fwhm_px / FWHM_PER_SIGMA)
    radii = np.arange(1.0, config.star_reach_fwhm + 1) * float(fwhm_px)
    out = []
    for star in stars:
        profile = ring_levels(smooth, star, radii, config.star_dark_percentile)
        brightest = int(profile.argmax())
        dark = np.flatnonzero(profile[brightest:] < config.star_sky_sigma)
        out.append(float(radii[brightest + int(dark[0]) if len(dark) else -1]))
    return np.array(out)
