"""Tiles as 8-bit RGB pictures: stretch, white balance and orientation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.stats import sigma_clipped_stats
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path, regular_size, write_bytes

STRETCH_SIGMA = 12.0
"""Lupton's stretch in sky sigma, chosen by eye on HSC, DECaLS and HST cutouts: a pixel of
5 sigma is plain to see, the noise just shows, and the cores of galaxies keep their colour."""

SOFTENING = 10.0
"""Lupton's Q (paper, 3.2): how slowly what is brighter turns white."""

BLACK_SIGMA = -0.5
"""What is black, in sky sigma: a little below the sky, so that the sky is dark grey with
its noise in it and a hole in the data is not taken for sky."""

CORE_SIGMA = (50.0, 500.0)
"""From the first to the second height in sky sigma colours turn to white: the core of a star that
is near saturation, or beyond, has no colour to show. By eye on DECaLS and HSC."""

BALANCE_SIGMA = (3.0, 30.0)
"""Pixels that the usual colour of sources is measured on, by their mean height in sky sigma: above
the noise, and below what a few bright objects would fill with their own colour."""

BALANCE_PIXELS = 300
"""Fewer of them are a source or two (a 5-sigma mask has some 40 pixels at the median),
whose own colour would become the picture's white."""


def read_rgb(path: Path, remedy: str = "make it again") -> NDArray[np.uint8]:
    """(H, W, 3) of a picture that a document names.

    Raises
    ------
    InputError
        For what is no picture, a pipe, and one of more pixels than Pillow takes.
    """
    regular_size(path)
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(
            f"the image cannot be opened ({error})", file=path, remedy=remedy
        ) from error


def check_picture(path: Path, remedy: str = "make it again") -> None:
    """Refuse what is no picture: a document may name any file of whoever copies its pictures.

    Raises
    ------
    InputError
        For what is not there, a pipe, and what no picture begins with.
    """
    if not path.exists():
        raise InputError("no such file", file=path, remedy=remedy)
    regular_size(path)
    try:
        with Image.open(path):
            return
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"is no picture ({error})", file=path, remedy=remedy) from error


def copy_picture(source: Path, target: Path, remedy: str) -> None:
    """Copy what `check_picture` accepts.

    Raises
    ------
    InputError, OutputError
        For what is no picture, and where it cannot be written.
    """
    check_picture(source, remedy)
    write_bytes(target, source.read_bytes())


def rgb(
    image: NDArray[np.float32],
    sigma: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    gains: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    *,
    levels: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    stretch_sigma: float = STRETCH_SIGMA,
    softening: float = SOFTENING,
    black_sigma: float = BLACK_SIGMA,
) -> NDArray[np.uint8]:
    """Lupton et al. (2004) colour picture, scaled from the sky noise.

    Each band is counted from its own sky in units of its own noise, then balanced so
    that the usual source is white: pictures of any survey, depth and zero point look
    alike.

    Parameters
    ----------
    image : (C, H, W) counts, bands from blue to red; NaN or infinity where there are none.
        One band is grey; of two, the mean is green; more than three are averaged into
        three groups of neighbours.
    sigma : (C,) sky noise of each band in counts; measured where it is None.
    gains : (C,) factors of the bands after that (see `white_balance`); measured where it
        is None. Give the tiles of one coadd the same, or their colours will differ.
    levels : (C,) sky of each band in counts; measured where it is None.
    stretch_sigma, softening, black_sigma : Lupton's stretch, Q and minimum.

    Returns
    -------
    (H, W, 3) uint8; black where no band has data.
    """
    bands = _in_sigma(image, sigma, levels)
    holes = np.isnan(bands).all(axis=0)
    factors = _balance(bands) if gains is None else np.asarray(gains, np.float64)
    height = np.nan_to_num(_mean(bands))
    bands *= factors.astype(np.float32)[:, None, None]
    # A band without data is grey there, also on a core that only it has lost.
    bands = np.where(np.isnan(bands), np.nan_to_num(_mean(bands)), bands)
    picture = lupton(_three(bands) - black_sigma, stretch_sigma, softening)
    picture = _white_cores(picture, height)
    picture[holes] = 0
    return picture


def lupton(bands: NDArray[np.float32], stretch: float, softening: float) -> NDArray[np.uint8]:
    """(H, W, 3) asinh picture of Lupton et al. (2004) of three bands, from blue to red.

    Astropy's would do, but imports matplotlib where that is installed, in every process.
    """
    colours = np.moveaxis(bands[::-1], 0, -1)
    light = colours.mean(axis=-1, keepdims=True)
    # A tenth of the stretch has the same brightness whatever the softening.
    slope = 0.1 * 255 / np.arcsinh(0.1 * softening)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = slope * np.arcsinh(light * softening / stretch) / light
    out = np.maximum(colours * np.where(light > 0, factor, 0), 0)
    out *= 255 / np.maximum(out.max(axis=-1, keepdims=True), 255)
    return np.asarray(out, np.uint8)


def _mean(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) of the bands that have data; NaN where none has."""
    known = np.isfinite(bands)
    total = np.where(known, bands, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / known.sum(axis=0), np.float32)


def _white_cores(picture: NDArray[np.uint8], height: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with the colours of what is high above the sky turned to white."""
    low, high = CORE_SIGMA
    y, x = np.nonzero(height > low)
    white = np.clip(np.log(height[y, x] / low) / np.log(high / low), 0, 1)[:, None]
    colour = picture[y, x].astype(np.float32)
    brightest = colour.max(axis=1, keepdims=True)
    out = picture.copy()
    out[y, x] = np.rint(colour + white * (brightest - colour)).astype(np.uint8)
    return out


def white_balance(
    image: NDArray[np.float32],
    sigma: Sequence[float] | NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float64]:
    """(C,) factors that make the usual source of an image equally bright in all bands.

    Without them the band with the best signal-to-noise tints everything, usually green.
    All one where too few pixels of an image hold sources.
    """
    return _balance(_in_sigma(image, sigma))


def _balance(bands: NDArray[np.float32]) -> NDArray[np.float64]:
    mean = bands.mean(0)  # NaN where any band has no data, so left out
    low, high = BALANCE_SIGMA
    with np.errstate(invalid="ignore"):
        sources = bands[:, (mean > low) & (mean < high) & (bands > 0).all(0)]
    if sources.shape[1] < BALANCE_PIXELS:
        return np.ones(len(bands))
    ratio = np.median(sources / sources.mean(0), axis=1).astype(np.float64)
    return np.asarray(1.0 / np.clip(ratio, 0.2, 5.0))  # no band may drown or vanish


def _in_sigma(
    image: NDArray[np.float32],
    sigma: Sequence[float] | NDArray[np.floating[Any]] | None,
    levels: Sequence[float] | NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float32]:
    """(C, H, W) height above the sky in units of its noise; NaN where there is no data."""
    bands = np.where(np.isfinite(image), image, np.nan).astype(np.float32)
    for n, band in enumerate(bands):
        level, noise = _sky(band[np.isfinite(band)], None if sigma is None else float(sigma[n]))
        band -= level if levels is None else float(levels[n])
        band /= noise
    return bands


def _sky(values: NDArray[np.float32], sigma: float | None) -> tuple[float, float]:
    """Sky level and noise of one band's pixels in counts; the noise is never zero."""
    if values.size == 0:
        return 0.0, 1.0
    # Every few pixels are enough for a picture: 1e5 give the noise to 0.3 %.
    sample = values[:: max(1, values.size // 100_000)]
    _, level, noise = sigma_clipped_stats(sample, sigma=3.0, maxiters=10)
    if sigma is not None and np.isfinite(sigma) and sigma > 0:
        noise = sigma
    return float(level), float(noise) if noise > 0 else 1.0


def _three(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, H, W) blue, green and red of any number of bands."""
    if len(bands) == 2:
        return np.stack([bands[0], bands.mean(0), bands[1]])
    groups = [bands] * 3 if len(bands) == 1 else np.array_split(bands, 3)
    return np.stack([group.mean(0) for group in groups])


def write_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 picture as PNG, whole or not at all.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def upright(picture: NDArray[np.uint8], image: Mapping[str, Any]) -> NDArray[np.uint8]:
    """A picture as people look at it: the sky as DS9 shows it, its first row at the bottom.

    Parameters
    ----------
    picture : (H, W, 3) uint8 with row 0 first, as masks and FITS images count.
    image : its entry of the document. An image of nothing but a PNG or JPEG, with neither
        WCS nor cube, is no sky for all we know and stays as any viewer shows it.
    """
    astro = image.get("astro") or {}
    return picture[::-1] if astro.get("wcs") or astro.get("cube") else picture


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of ``#rrggbb``."""
    return (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
