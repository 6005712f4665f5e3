"""Fluxes of any bands as a colour picture for people: Lupton's stretch, white balance, white cores.

The same stretch as that of astrolabel's pictures, so that a source looks alike in both.
"""

from __future__ import annotations

import numpy as np
from astropy.stats import sigma_clipped_stats
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray

STRETCH_SIGMA, SOFTENING, BLACK_SIGMA = 12.0, 10.0, -0.5
"""Lupton's stretch, Q and minimum, in sky sigma."""
CORE_SIGMA = (50.0, 500.0)
"""From the first to the second height in sky sigma colours turn to white, as cores of stars do."""
BALANCE_SIGMA, BALANCE_PIXELS = (3.0, 30.0), 300
"""Heights in sky sigma of the pixels that the usual colour of sources is measured on, and how many
of them are needed: a few are a source or two."""
SAMPLE_PIXELS = 100_000
"""Of a band are enough for level and noise of its sky."""

Planes = NDArray[np.float32]


def sky_picture(flux: Planes) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of (C, H, W) fluxes, bands from blue to red; black where none has data.

    One band is grey; of two, the mean is green; more than three are averaged into three groups
    of neighbours. NaN and infinity are no data.
    """
    bands = np.where(np.isfinite(flux), flux, np.nan).astype(np.float32)
    for band in bands:
        values = band[np.isfinite(band)]
        if values.size:
            sample = values[:: max(1, values.size // SAMPLE_PIXELS)]
            _, level, noise = sigma_clipped_stats(sample, sigma=3.0, maxiters=10)
            band -= float(level)
            band /= float(noise) if noise > 0 else 1.0
    holes = np.isnan(bands).all(axis=0)
    height = np.nan_to_num(_mean(bands))
    bands *= _balance(bands)[:, None, None]
    bands = np.where(np.isnan(bands), np.nan_to_num(_mean(bands)), bands)
    blue, green, red = _three(bands)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 where a pixel is just black
        picture = make_lupton_rgb(
            red, green, blue, minimum=BLACK_SIGMA, stretch=STRETCH_SIGMA, Q=SOFTENING
        )
    picture = _white_cores(np.asarray(picture, np.uint8), height)
    picture[holes] = 0
    return picture


def _mean(bands: Planes) -> Planes:
    """(H, W) of the bands that have data; NaN where none has."""
    known = np.isfinite(bands)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, bands, 0).sum(axis=0) / known.sum(axis=0)
    return np.asarray(mean, np.float32)


def _balance(bands: Planes) -> Planes:
    """(C,) factors that make the usual source equally bright in all bands."""
    mean = bands.mean(0)  # NaN where any band has no data, so left out
    low, high = BALANCE_SIGMA
    with np.errstate(invalid="ignore"):
        sources = bands[:, (mean > low) & (mean < high) & (bands > 0).all(0)]
    if sources.shape[1] < BALANCE_PIXELS:
        return np.ones(len(bands), np.float32)
    ratio = np.median(sources / sources.mean(0), axis=1)
    return np.asarray(1.0 / np.clip(ratio.astype(np.float64), 0.2, 5.0), np.float32)


def _three(bands: Planes) -> tuple[Planes, ...]:
    """Blue, green and red of any number of bands."""
    if len(bands) == 1:
        return bands[0], bands[0], bands[0]
    if len(bands) == 2:
        return bands[0], bands.mean(0), bands[1]
    return tuple(group.mean(0) for group in np.array_split(bands, 3))


def _white_cores(picture: NDArray[np.uint8], height: Planes) -> NDArray[np.uint8]:
    """The picture with the colours of what is high above the sky turned to white."""
    low, high = CORE_SIGMA
    y, x = np.nonzero(height > low)
    white = np.clip(np.log(height[y, x] / low) / np.log(high / low), 0, 1)[:, None]
    colour = picture[y, x].astype(np.float32)
    out = picture.copy()
    out[y, x] = np.rint(colour + white * (colour.max(axis=1, keepdims=True) - colour))
    return out
