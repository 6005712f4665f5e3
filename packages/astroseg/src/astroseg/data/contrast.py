"""From fluxes to what a network sees.

Each contrast is measured on a whole image (`measure`) and then maps any window of it
pixel by pixel (`Scaling`). So a crop of a large image costs the crop and equals the crop of
the scaled image.

``zscale``, ``lupton`` and ``lupton-hc`` are the paper's (section 3.3), for three bands,
giving red, green, blue from the reddest to the bluest band. ``asinh`` takes any number
of bands and keeps their order and the faint and bright ends of their range. ``sky`` makes
three channels of any bands (`astroseg.data.any_bands`), for models of all surveys. ``none``
passes the pixels on, for ordinary pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray
from PIL import Image, ImageStat

from astroseg.core.config import DataConfig
from astroseg.core.errors import InputError
from astroseg.data.bands import by_wavelength, wavelength_rank
from astroseg.data.sky_noise import SIGMA_PIXELS, sky_noise

CONTRASTS = ("asinh", "lupton", "lupton-hc", "zscale", "none")

INT16 = (-32768, 32767)
HIGH_CONTRAST = 2  # contrast and brightness are doubled (paper, section 3.3)

# Mean and deviation over the pixels of what each contrast gives, to the accuracy a network's
# first layer cares for. lupton, lupton-hc: means as published with the paper's code for HSC,
# averaged over the colours (13.5, 9.1, 5.4 and 37.9, 25.8, 14.0); deviations over 60
# simulated 256x256 deep tiles, whose means are 8.9 and 24.8. asinh: what the small model's
# training was tuned with; those tiles have 0.34 and 1.06, denser ones more. zscale: by
# construction.
PIXEL_STATISTICS = {
    "asinh": (0.5, 1.5),
    "sky": (0.5, 1.5),
    "lupton": (9.3, 18.0),
    "lupton-hc": (25.9, 51.0),
    "zscale": (0.0, 1e3),
}


@dataclass(frozen=True)
class Scaling:
    """A contrast with what it needs to know of one image.

    Attributes
    ----------
    name : one of `CONTRASTS`.
    order : of the input bands for the output channels.
    sigma : sky noise per output channel in the image's flux unit (asinh).
    level : sky level per output channel in sigma, () where the noise was given (asinh).
    mean, std : of the mean of the bands, in the image's flux unit (zscale).
    grey : mean grey level of the 8-bit image, 0..255 (lupton-hc).
    stretch, q, amplitude : of the scalings; see `DataConfig`.
    """

    name: str
    order: tuple[int, ...]
    sigma: tuple[float, ...] = ()
    level: tuple[float, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    grey: int = 0
    stretch: float = DataConfig.stretch
    q: float = DataConfig.q
    amplitude: float = DataConfig.zscale_amplitude

    def __call__(self, flux: NDArray[np.float32], y0: int = 0, x0: int = 0) -> NDArray[np.float32]:
        """(C, h, w) float32 of a window (bands, h, w) of the image, wherever it lies."""
        image = flux if self.order == tuple(range(len(flux))) else flux[list(self.order)]
        if self.name == "asinh":
            return np.arcsinh(image / np.asarray(self.sigma, np.float32)[:, None, None])
        if self.name == "zscale":
            scaled = np.clip(self.amplitude * (image - self.mean) / self.std, *INT16)
            # Cast as the paper does; without the clip, pixels beyond 32.8 sigma wrap.
            return np.trunc(scaled).astype(np.float32)
        if self.name == "none":
            return np.ascontiguousarray(image, np.float32)
        rgb = _lupton(image, self.stretch, self.q)
        if self.name == "lupton-hc":
            rgb = _double(_double_contrast(rgb, self.grey))
        return np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32)


def measure(
    name: str,
    flux: NDArray[np.float32],
    bands: Sequence[str] = (),
    sky_sigma: Sequence[float] = (),
    *,
    empty: NDArray[np.bool_] | None = None,
    config: DataConfig = DataConfig(),  # noqa: B008  frozen
) -> Scaling:
    """What a contrast needs to know of an image.

    Parameters
    ----------
    name : one of `CONTRASTS`.
    flux : (bands, H, W) float32, the whole image, finite.
    bands : their names, if known. Colours go by wavelength where all names are known
        (u g r i z y J H K, also as "HSC-G"), else the first band is taken as the bluest.
    sky_sigma : per band in the flux's unit; measured (`sky_noise`) where not given.
    empty : (bands, H, W) pixels without data, which do not count.
    config : numbers of the scalings.

    Raises
    ------
    InputError
        For an unknown name, a band count the contrast is not made for, or a band without
        noise.
    """
    if name not in CONTRASTS:
        raise InputError(f"unknown contrast {name!r}", remedy=f"use one of {', '.join(CONTRASTS)}")
    same = tuple(range(len(flux)))
    if name == "none":
        return Scaling(name, same)
    if name == "asinh":
        known = len(sky_sigma) == len(flux) and all(np.isfinite(s) and s > 0 for s in sky_sigma)
        if known:
            return Scaling(name, same, sigma=tuple(map(float, sky_sigma)))
        level, sigma = _sky(flux, empty, config.clip_sigma)
        return Scaling(name, same, sigma=sigma, level=level)
    if len(flux) != 3:
        raise InputError(
            f"contrast {name} makes red, green and blue of three bands, not {len(flux)}",
            remedy="choose three with --bands, or use --contrast asinh, which takes any number",
        )
    order = _red_first(bands)
    if name == "zscale":
        intensity = flux.mean(axis=0, dtype=np.float64)
        intensity = intensity if empty is None else intensity[~empty.any(axis=0)]
        std = float(intensity.std())
        if not std > 0:
            raise InputError("the image is constant", remedy="leave it out of the dataset")
        mean, amplitude = float(intensity.mean()), config.zscale_amplitude
        return Scaling(name, order, mean=mean, std=std, amplitude=amplitude)
    grey = 0
    if name == "lupton-hc":
        rgb = Image.fromarray(_lupton(flux[list(order)], config.stretch, config.q))
        # PIL's contrast turns around the mean grey level, rounded.
        grey = int(ImageStat.Stat(rgb.convert("L")).mean[0] + 0.5)
    return Scaling(name, order, grey=grey, stretch=config.stretch, q=config.q)


def _lupton(rgb: NDArray[np.float32], stretch: float, q: float) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 of (3, h, w) fluxes, red first."""
    return make_lupton_rgb(rgb[0], rgb[1], rgb[2], minimum=0, stretch=stretch, Q=q)


def _double_contrast(rgb: NDArray[np.uint8], grey: int) -> NDArray[np.uint8]:
    """PIL's contrast enhancement by 2: twice the distance from the mean grey level."""
    return np.clip(HIGH_CONTRAST * rgb.astype(np.int16) - grey, 0, 255).astype(np.uint8)


def _double(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """PIL's brightness enhancement by 2."""
    return np.minimum(HIGH_CONTRAST * rgb.astype(np.int16), 255).astype(np.uint8)


def _sky(
    flux: NDArray[np.float32], empty: NDArray[np.bool_] | None, clip_sigma: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Level, in sigma, and noise of each band's sky."""
    level, sigma = [], []
    for band, plane in enumerate(flux):
        # A fixed stride that is no multiple of the width samples all columns.
        step = max(1, plane.size // SIGMA_PIXELS) | 1
        values = plane.reshape(-1)[::step]
        if empty is not None:
            values = values[~empty[band].reshape(-1)[::step]]
        middle, noise = sky_noise(values, clip_sigma)
        if not noise > 0:
            raise InputError(
                f"band {band + 1} of {len(flux)} has no noise to measure: most of its pixels "
                "are equal",
                remedy="give astro.sky_sigma in the dataset, or use --contrast none for pictures",
            )
        level.append(middle / noise)
        sigma.append(noise)
    return tuple(level), tuple(sigma)


def _red_first(bands: Sequence[str]) -> tuple[int, ...]:
    distinct = len({wavelength_rank(name) for name in bands}) == 3
    return by_wavelength(bands if distinct else (), 3)[::-1]
