"""Mask planes of a simulated coadd: which pixels are saturated, missing or detected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.config.surveys import SurveySpec
from astrolabel.simulate.population import Body

BITS = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "BRIGHT_OBJECT": 9,
    "CROSSTALK": 10,
    "NOT_DEBLENDED": 11,
    "UNMASKEDNAN": 12,
    "REJECTED": 13,
    "CLIPPED": 14,
    "SENSOR_EDGE": 15,
    "INEXACT_PSF": 16,
}
"""Bits as in HSC's coadds, where NO_DATA is 8 (other HSC files number it 9)."""
FIRST_OBJECT_ID = 43_158_034_708_430_001
"""Identifiers have the length of HSC's: neighbours are one number in a float64."""
DETECT_SIGMA = 5.0
"""DETECTED is set where a band's flux is above this, as the survey's pipeline has it,"""
DETECT_GROW_PX = 6
"""... and this far around: 2.4 times the PSF's sigma."""
EDGE_PX = 5
"""Width of EDGE along missing data: half a warping kernel."""
BRIGHT_STAR_DEPTH = 1.5
"""Stars within this many magnitudes of the brightest have a BRIGHT_OBJECT disc."""


def missing_corner(side: int, fraction: float) -> NDArray[np.bool_]:
    """(side, side) bool: a triangle of that part of the area at the end of both axes."""
    rows, columns = np.mgrid[:side, :side]
    leg = side * np.sqrt(2 * fraction)
    corner: NDArray[np.bool_] = (side - 1 - rows) + (side - 1 - columns) < leg - 1
    return corner


def make_mask(
    model: NDArray[np.float32],
    sky_sigma: NDArray[np.float64],
    saturated: NDArray[np.bool_],
    no_data: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """(C, H, W) int32 of `BITS`."""
    mask = np.zeros(model.shape, np.int32)
    edge = ndimage.binary_dilation(no_data, iterations=EDGE_PX) & ~no_data
    for n in range(len(mask)):
        detected = model[n] > DETECT_SIGMA * sky_sigma[n]
        if detected.any():
            detected = ndimage.binary_dilation(detected, iterations=DETECT_GROW_PX)
        mask[n][detected] |= 1 << BITS["DETECTED"]
        mask[n][saturated[n]] |= 1 << BITS["SAT"]
        # The survey interpolates over saturated pixels and their neighbours.
        if saturated[n].any():
            grown = ndimage.binary_dilation(saturated[n], iterations=1)
            mask[n][grown] |= 1 << BITS["INTRP"]
        mask[n][edge] |= 1 << BITS["EDGE"]
        mask[n][no_data] = 1 << BITS["NO_DATA"]
    return mask


def mark_bright_star(mask: NDArray[np.int32], body: Body, spec: SurveySpec) -> None:
    """Set BRIGHT_OBJECT in a disc that grows with the star's light, in place."""
    # 8 arcsec for the faintest that are marked, half as much again a magnitude.
    radius_arcsec = 8.0 * 1.5 ** (BRIGHT_STAR_DEPTH + spec.bright_mag - body.i_mag)
    radius = radius_arcsec / spec.pixel_scale_arcsec
    rows, columns = np.ogrid[: mask.shape[1], : mask.shape[2]]
    disc = (rows - body.y) ** 2 + (columns - body.x) ** 2 < radius**2
    missing = (mask & (1 << BITS["NO_DATA"])) != 0
    mask |= np.where(disc & ~missing, 1 << BITS["BRIGHT_OBJECT"], 0).astype(np.int32)
