"""Four channels of any number of bands, for a network that takes images of every survey.

Three are signal to noise: of the bluer half of the bands, of all of them, and of the redder
half. One band gives the same in all three. What differs between surveys (units, zero points,
depth, number of bands, a sky left in the image) is divided or subtracted away. The second is that
of the plain sum of the fluxes, which masks are cut on; the others weigh bands by their noise. The
fourth is the seeing, the same in every pixel: without it no network knows a star of a poor night
from a galaxy of a good one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astroseg.core.config import DataConfig
from astroseg.core.errors import InputError
from astroseg.data.bands import by_wavelength
from astroseg.data.sky_noise import SIGMA_PIXELS, no_data, sky_noise, source_pixels, without

CHANNELS = 4
FWHM_UNIT_PX = 3.0
"""Seeing in the channel is log2 of the FWHM in this unit."""
UNKNOWN = -3.0
"""That channel where the image shows no seeing: below that of any telescope."""
SEEING_WINDOW_PX = 1024
"""Side of the windows that the seeing is measured on, at most three by three of them."""
PEAK_SIGMA, PEAK_BOX_PX = 20.0, 5
"""Signal to noise of the peaks it is measured on, and the box in which each is the highest."""
ONE_UNIT = 20.0
"""Bands whose noises differ by more than this factor are in different units, and summed by noise.
Those of deep surveys differ by 2 to 8, from u to y."""
LEAST_PEAKS, SEEING_PERCENTILE = 3, 20
"""Fewest peaks, and the percentile of their widths: stars are the narrowest sources, though
cosmic rays are narrower. On simulated skies it is within a tenth of the truth."""
FARTHEST_PX, FALLEN = 12, 0.67
"""Farthest from a peak, and the part of its height, where its width is measured."""
FWHM_OF_SIGMA = 2.354820
AROUND_CELLS = 3
"""A cell whose level is above the median of so many cells on a side by more than the noise is
filled by a galaxy, and takes that median."""


@dataclass(frozen=True, eq=False)
class SkyScaling:
    """The scaling of one image.

    Attributes
    ----------
    sigma : (bands,) sky noise of a pixel, in the image's unit.
    level : (bands, cells, cells) sky level at the cells' centres, in the image's unit.
    shape : (H, W) of the image, px.
    order : places of the bands, the bluest first.
    fwhm : of point sources, px; NaN where the image does not show it.
    unit : factors of the bands to one unit of flux, () where they have one.
    """

    sigma: NDArray[np.float32]
    level: NDArray[np.float32]
    shape: tuple[int, int]
    order: tuple[int, ...]
    fwhm: float = math.nan
    unit: tuple[float, ...] = ()

    def __call__(self, flux: NDArray[np.float32], y0: int = 0, x0: int = 0) -> NDArray[np.float32]:
        """(4, h, w) float32 of a window (bands, h, w): asinh of signal to noise, and the seeing.

        Parameters
        ----------
        y0, x0 : first row and column of the window in the image.
        """
        signal = self.above_sky(flux, y0, x0) / self.sigma[:, None, None]
        half = (len(self.order) + 1) // 2
        blue, red = (_combined(signal, some) for some in (self.order[:half], self.order[-half:]))
        noise = np.array(self.unit or 1.0) * self.sigma
        if noise.max() > ONE_UNIT * noise.min():
            every = _combined(signal, self.order)
        else:
            share = (noise / np.sqrt((noise**2).sum())).astype(np.float32)
            every = sum(share[band] * signal[band] for band in self.order)
        seeing = math.log2(self.fwhm / FWHM_UNIT_PX) if self.fwhm > 0 else UNKNOWN
        channels = np.arcsinh(np.stack([blue, every, red]))
        return np.concatenate([channels, np.full((1, *flux.shape[1:]), seeing, np.float32)])

    def above_sky(self, flux: NDArray[np.float32], y0: int, x0: int) -> NDArray[np.float32]:
        """(bands, h, w) a window less the sky; 0 where there are no data."""
        rows, columns = (
            _weights(start, length, whole, cells)
            for start, length, whole, cells in zip(
                (y0, x0), flux.shape[1:], self.shape, self.level.shape[1:], strict=True
            )
        )
        missing = (flux == 0) | ~np.isfinite(flux)
        above = np.where(missing, 0, flux - rows @ self.level @ columns.T)
        return above.astype(np.float32, copy=False)


def _combined(signal: NDArray[np.float32], bands: Sequence[int]) -> NDArray[np.float32]:
    """Signal to noise of a sum of bands of equal noise."""
    return np.float32(1 / math.sqrt(len(bands))) * signal[list(bands)].sum(axis=0)


def _weights(start: int, length: int, whole: int, cells: int) -> NDArray[np.float32]:
    """(length, cells) of the linear interpolation between the centres of cells."""
    if cells == 1:
        return np.ones((length, 1), np.float32)
    place = (np.arange(start, start + length) + 0.5) * cells / whole - 0.5
    first = np.clip(place.astype(int), 0, cells - 2)  # the outer half cells go on linearly
    weights = np.zeros((length, cells), np.float32)
    weights[np.arange(length), first] = 1 - (place - first)
    weights[np.arange(length), first + 1] = place - first
    return weights


Crop = Callable[[int, int, int, int], NDArray[np.float32]]
"""(bands, height, width) of a window of an image, by y0, x0, height, width."""


def measure_sky(
    crop: Crop,
    count: int,
    shape: tuple[int, int],
    bands: Sequence[str] = (),
    config: DataConfig = DataConfig(),  # noqa: B008  frozen
    zeropoint: Sequence[float] = (),
) -> SkyScaling:
    """Level, noise and order by wavelength of an image's bands.

    Pixels that are 0 or without data (`no_data`) do not count. Memory holds a cell of the image at
    a time.

    Parameters
    ----------
    crop : reads a window of the image.
    count : of its bands.
    shape : (H, W) of it, px.
    bands : their names; the first band is taken as the bluest where one is not known.
    zeropoint : AB magnitudes of their units; they have one unit where any is unknown.

    Raises
    ------
    InputError : a band without noise.
    """
    cells = max(1, round(shape[0] / config.sky_cell)), max(1, round(shape[1] / config.sky_cell))
    order = by_wavelength(bands, count)
    rough = _sky(crop, shape, order, cells, config.clip_sigma, None)
    scaling = _sky(crop, shape, order, cells, config.clip_sigma, rough)
    known = len(zeropoint) == count and all(map(math.isfinite, zeropoint))
    unit = tuple(10 ** (0.4 * (zeropoint[0] - zero)) for zero in zeropoint) if known else ()
    return dataclasses.replace(scaling, fwhm=_seeing(crop, scaling), unit=unit)


def _sky(
    crop: Crop,
    shape: tuple[int, int],
    order: tuple[int, ...],
    cells: tuple[int, int],
    clip_sigma: float,
    rough: SkyScaling | None,
) -> SkyScaling:
    """Level and noise of the bands, of all pixels or of those without sources above a rough sky."""
    level, noise = _by_cell(crop, len(order), shape, cells, clip_sigma, rough)
    for band in range(len(order)):
        if not _typical(noise[band]) > 0:
            raise InputError(
                f"band {band + 1} of {len(order)} has no noise to measure: most of its pixels are "
                "equal",
                remedy="leave the band out, or use a model trained on pictures",
            )
        known = np.isfinite(level[band])
        level[band][~known] = np.median(level[band][known])
        around = ndimage.median_filter(level[band], AROUND_CELLS, mode="nearest")
        full = level[band] > around + _typical(noise[band])
        level[band][full] = around[full]
    sigma = np.array([_typical(one) for one in noise], np.float32)
    return SkyScaling(sigma, level.astype(np.float32), shape, order)


def _seeing(crop: Crop, sky: SkyScaling) -> float:
    """FWHM of point sources, px: a low percentile of the widths of peaks; NaN where too few.

    On windows spread over the image, so that a coadd costs no more than a tile.
    """
    height, width = sky.shape
    rows, columns = (
        np.linspace(0, max(0, side - SEEING_WINDOW_PX), min(3, -(-side // SEEING_WINDOW_PX)))
        for side in sky.shape
    )
    widths = []
    for y0, x0 in itertools.product(rows.astype(int).tolist(), columns.astype(int).tolist()):
        h, w = min(SEEING_WINDOW_PX, height - y0), min(SEEING_WINDOW_PX, width - x0)
        signal = sky.above_sky(crop(y0, x0, h, w), y0, x0) / sky.sigma[:, None, None]
        widths.append(peak_widths(_combined(signal, sky.order)))
    every = np.concatenate(widths)
    if len(every) < LEAST_PEAKS:
        return math.nan
    return float(np.percentile(every, SEEING_PERCENTILE))


def peak_widths(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) FWHM in px of the bright peaks of an image (H, W) of signal to noise.

    Of a Gaussian ln f(-k) + ln f(k) - 2 ln f(0) is -k^2 / sigma^2 wherever in its pixel the
    centre lies. k is the first distance where the profile has fallen by a third.
    """
    edge = FARTHEST_PX
    peaks = (signal == ndimage.maximum_filter(signal, PEAK_BOX_PX)) & (signal > PEAK_SIGMA)
    peaks[:edge] = peaks[-edge:] = False
    peaks[:, :edge] = peaks[:, -edge:] = False
    y, x = np.nonzero(peaks)
    top = signal[y, x].astype(np.float64)
    fwhm = np.full(len(y), np.nan)
    for k in range(1, FARTHEST_PX + 1):
        sides = np.stack([signal[y, x - k], signal[y, x + k], signal[y - k, x], signal[y + k, x]])
        fallen = np.isnan(fwhm) & (sides.mean(axis=0) < FALLEN * top) & (sides.min(axis=0) > 1)
        ratio = np.log(np.maximum(sides, 1) / top)  # a side below the noise says nothing
        drop = -ratio.sum(axis=0) / 2  # k^2 / sigma^2, mean of both axes
        fwhm[fallen] = FWHM_OF_SIGMA * k / np.sqrt(drop[fallen])
    return fwhm[np.isfinite(fwhm)]


def _typical(noise: NDArray[np.float64]) -> float:
    """Median over the cells that have data, NaN where none has."""
    known = noise[np.isfinite(noise)]
    return float(np.median(known)) if known.size else math.nan


def _by_cell(
    crop: Crop,
    count: int,
    shape: tuple[int, int],
    cells: tuple[int, int],
    clip_sigma: float,
    sky: SkyScaling | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(bands, cells, cells) level and noise in each cell, NaN where there are no data; with a first
    sky, of the pixels without sources."""
    levels, noises = np.full((count, *cells), np.nan), np.full((count, *cells), np.nan)
    ys, xs = (
        np.linspace(0, side, n + 1).astype(int).tolist()
        for side, n in zip(shape, cells, strict=True)
    )
    for i, j in np.ndindex(*cells):
        window = crop(ys[i], xs[j], ys[i + 1] - ys[i], xs[j + 1] - xs[j])
        known = window != 0
        if (empty := no_data(window)) is not None:
            known &= ~empty
        before = 0.0
        if sky is not None:
            # A gradient inside the cell is no noise.
            window = sky.above_sky(window, ys[i], xs[j])
            signal = _combined(window / sky.sigma[:, None, None], sky.order)
            sources = source_pixels(signal, clip_sigma)
        for band, plane in enumerate(window):
            values = plane[known[band]]
            if sky is not None:
                before = float(sky.level[band, i, j])
                values = without(sources[known[band]], values)
            step = max(1, len(values) // (SIGMA_PIXELS // (cells[0] * cells[1]) + 1)) | 1
            if values.size:
                level, noises[band, i, j] = sky_noise(values[::step], clip_sigma, sky is None)
                levels[band, i, j] = before + level
    return levels, noises
