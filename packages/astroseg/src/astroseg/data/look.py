"""How one image is to be read: its bands in order, its contrast measured, its pixels checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.config import DataConfig
from astroseg.core.errors import InputError
from astroseg.data.any_bands import CHANNELS, SkyScaling, measure_sky
from astroseg.data.bands import COLOURS, are_known, order_of, wavelength_rank
from astroseg.data.contrast import Scaling, measure
from astroseg.data.dataset import Dataset, ImageRecord
from astroseg.data.images import Pixels, read_pixels
from astroseg.data.sky_noise import no_data
from astroseg.data.units import scaled

logger = logging.getLogger(__name__)

SAMPLE_PIXELS = 2048 * 2048
"""Of a band of a large image that its contrast is measured on: noise to 0.1 %, in 48 MiB of three
bands."""

STRIPS, STRIP_ROWS = 8, 16
"""In which they lie, and the least rows of each."""


SKY_LEVEL = 3.0
"""Sigma by which a sky may lie off zero: unresolved sources lift it by less, and a sky that was
not subtracted is beyond."""


@dataclass(frozen=True)
class Look:
    """How one image is to be read: bands in order, and its contrast, already measured.

    Attributes
    ----------
    order : planes that make the channels.
    scaling : the contrast.
    gain : factor of each channel's flux, () for none.
    """

    order: tuple[int, ...]
    scaling: Scaling | SkyScaling
    gain: tuple[float, ...] = ()

    def __call__(self, flux: NDArray[np.float32], y0: int = 0, x0: int = 0) -> NDArray[np.float32]:
        """(C, h, w) as the network sees a window (bands, h, w) of the image that begins at row
        `y0` and column `x0`, bands in `order`."""
        return self.scaling(scaled(flux, self.gain), y0, x0)


def resolve_contrast(config: DataConfig, dataset: Dataset) -> str:
    """The contrast that "auto" stands for with these images."""
    if config.contrast != "auto":
        return config.contrast
    pictures = dataset.of_pictures and read_record(dataset.images[0]).eight_bit
    return "none" if pictures else "asinh"


def dataset_bands(config: DataConfig, dataset: Dataset) -> tuple[tuple[str, ...], int]:
    """Names (() when unknown) and number of the bands that all images shall give.

    A grey picture among colours stands for all three.
    """
    if config.contrast == "sky":
        return (), CHANNELS
    first = dataset.images[0]
    pixels = read_record(first)
    if dataset.of_pictures and len(pixels.planes) == 1:
        colour = ((r, p) for r in dataset.images if len((p := read_record(r)).planes) == 3)
        first, pixels = next(colour, (first, pixels))
    names = config.bands or band_names(first, pixels)
    return names, len(names) or len(pixels.planes)


def band_names(record: ImageRecord, pixels: Pixels) -> tuple[str, ...]:
    """Names of an image's planes, () when neither dataset nor file knows them."""
    if record.bands and len(record.bands) != len(pixels.planes):
        raise InputError(
            f"has {len(pixels.planes)} bands, but the dataset names {len(record.bands)} "
            f"({', '.join(record.bands)})",
            file=record.files[0],
            remedy="mend the dataset or point it at the right images",
        )
    return record.bands or pixels.bands


def band_order(
    record: ImageRecord, pixels: Pixels, bands: Sequence[str], channels: int
) -> tuple[int, ...]:
    """Planes of an image that make the channels, in order.

    Bands are found by name, then by filter ("HSC-G" is g). Names in headers that are no
    filters, or one filter several times, say nothing: then the order of the planes counts,
    with a warning.

    Parameters
    ----------
    bands : names wanted; () for all planes as they come.
    channels : how many there must be.

    Raises
    ------
    InputError
        When the image lacks a band or has another number of them.
    """
    names = band_names(record, pixels)
    count = len(pixels.planes)
    deep = bool(bands) and record.files[0].suffix.lower() == ".png"  # of 16 bits
    grey = (pixels.eight_bit or deep) and set(bands) <= set(COLOURS)
    if count == 1 and channels == 3 and grey:
        return (0, 0, 0)  # grey
    order = order_of(names, bands) if bands and names else tuple(range(count))
    if order is None:
        if record.bands or are_known(names) or count != channels:
            raise InputError(
                f"has the bands {', '.join(names)}, but {', '.join(bands)} are wanted",
                file=record.files[0],
                remedy="use images of those bands, name them (g=FILE,r=FILE, or a FILTER card), or "
                "train with others (--bands)",
            )
        logger.warning(
            "%s: its headers name the bands %s; taken as %s in the order given (name them g=FILE,"
            "r=FILE, or by a FILTER card, where that is wrong)",
            record.files[0], ", ".join(names), ", ".join(bands),
        )  # fmt: skip
        order = tuple(range(count))
    if len(order) != channels:
        raise InputError(
            f"has {len(order)} bands, not {channels}",
            file=record.files[0],
            remedy="use images of the same bands, or train with others (--bands)",
        )
    return order


def read_record(record: ImageRecord) -> Pixels:
    """The pixels of a dataset's image, checked against the size the dataset gives."""
    return read_pixels(record.files, (record.height, record.width))


def look_at(
    record: ImageRecord,
    pixels: Pixels,
    bands: Sequence[str],
    channels: int,
    config: DataConfig,
    gain_of: Callable[[tuple[int, ...]], tuple[float, ...]] = lambda order: (),
) -> Look:
    """Check a whole image, and measure its contrast, in an image beyond 2048x2048 px on strips
    spread over it: memory holds those, not the image.

    Parameters
    ----------
    gain_of : factor of each channel's flux by the order of the bands, () for none.

    Raises
    ------
    InputError
        For missing bands, or pixels that are not finite unless they are to be zero.
    """
    if config.contrast == "sky":
        return _any_bands(record, pixels, config)
    order = band_order(record, pixels, bands, channels)
    gain = gain_of(order)
    flux, empty = _sampled(record, pixels, order, config)
    names = band_names(record, pixels)
    given = config.noise == "dataset" and len(record.sky_sigma) == len(pixels.planes)
    sigma = record.sky_sigma if given else ()
    try:
        scaling = measure(
            config.contrast,
            scaled(flux, gain),
            tuple(names[i] for i in order) if names else (),
            tuple(sigma[i] for i in order) if sigma else (),
            empty=empty,
            config=config,
        )
    except InputError as error:
        raise InputError(error.problem, file=record.files[0], remedy=error.remedy) from error
    return Look(order, scaling, gain)


def _any_bands(record: ImageRecord, pixels: Pixels, config: DataConfig) -> Look:
    """All bands of an image, with its sky measured cell by cell."""
    order, names = tuple(range(len(pixels.planes))), band_names(record, pixels)
    if unknown := [name for name in names if wavelength_rank(name) is None and len(names) > 1]:
        logger.warning(
            "%s: %s not known by wavelength; bands are taken as they come, the bluest first (name "
            "them g=FILE,r=FILE, or by a FILTER card, where that is wrong)",
            record.files[0],
            f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'}",
        )
    try:
        zeros = record.zeropoint
        scaling = measure_sky(pixels.crop, len(order), pixels.shape, names, config, zeros)
    except InputError as error:
        raise InputError(error.problem, file=record.files[0], remedy=error.remedy) from error
    return Look(order, scaling)


def _sampled(
    record: ImageRecord, pixels: Pixels, order: tuple[int, ...], config: DataConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """(C, h, W) finite fluxes of an image or, of a large one, of strips one below the other; and
    their pixels without data, None when there are none."""
    height, width = pixels.shape
    strips = [(0, height)]
    if height * width > SAMPLE_PIXELS:
        _refuse_not_finite(record, pixels, order, config)
        rows = max(STRIP_ROWS, SAMPLE_PIXELS // width // STRIPS)
        starts = np.linspace(0, max(0, height - rows), STRIPS).round().astype(int).tolist()
        strips = [(start, min(height, start + rows)) for start in dict.fromkeys(starts)]
    parts = [pixels.crop(start, 0, stop - start, width, order) for start, stop in strips]
    # By strip: pixels at their seams are no neighbours.
    empty = [None if pixels.eight_bit else no_data(part) for part in parts]
    flux = np.concatenate([clean(part, record, config) for part in parts], axis=1)
    if all(one is None for one in empty):
        return flux, None
    known = [
        np.zeros(part.shape, np.bool_) if one is None else one
        for one, part in zip(empty, parts, strict=True)
    ]
    return flux, np.concatenate(known, axis=1)


def _refuse_not_finite(
    record: ImageRecord, pixels: Pixels, order: tuple[int, ...], config: DataConfig
) -> None:
    """What `clean` refuses, of a whole image of which memory holds a few rows at a time."""
    if config.nan == "zero" or pixels.eight_bit:
        return
    height, width = pixels.shape
    rows = max(1, SAMPLE_PIXELS // STRIPS // width)
    bad = 0
    for start in range(0, height, rows):
        part = pixels.crop(start, 0, min(rows, height - start), width, order)
        bad += int(np.count_nonzero(~np.isfinite(part)))
    if bad:
        raise _not_finite(record, bad, len(order) * height * width)


def clean(
    flux: NDArray[np.float32], record: ImageRecord, config: DataConfig
) -> NDArray[np.float32]:
    """Refuse pixels that are not finite, or set them to zero, as the configuration says; the
    contrast sky takes zeros for missing data."""
    bad = ~np.isfinite(flux)
    count = int(np.count_nonzero(bad))
    if not count:
        return flux
    if config.nan != "zero" and config.contrast != "sky":
        raise _not_finite(record, count, bad.size)
    return np.where(bad, np.float32(0), flux)


def _not_finite(record: ImageRecord, count: int, size: int) -> InputError:
    return InputError(
        f"has {count} pixels that are NaN or infinite ({100 * count / size:.2g} % of {size})",
        file=record.files[0],
        remedy="mend the image, or set them to the sky level with --nan zero",
    )


def survey(
    dataset: Dataset,
    bands: Sequence[str],
    channels: int,
    config: DataConfig,
    *,
    progress: Callable[[int], Any] | None = None,
) -> tuple[Look, ...]:
    """Open every image once before training begins.

    What is wrong with any of them is said now and not after hours; what the contrasts
    need to know of whole images is measured, so that training reads crops only.
    """

    def one(record: ImageRecord) -> Look:
        look = look_at(record, read_record(record), bands, channels, config)
        if progress is not None:
            progress(1)
        return look

    # Threads: reading and numpy's reductions both leave the interpreter free.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        looks = tuple(pool.map(one, dataset.images))
    warn_of_sky(dataset.images, looks)
    return looks


def warn_of_sky(records: Sequence[ImageRecord], looks: Sequence[Look]) -> None:
    """Say so where a contrast takes the sky for light."""
    skies = [look.scaling.level if isinstance(look.scaling, Scaling) else () for look in looks]
    levels = [max(map(abs, sky), default=0.0) for sky in skies]
    if (far := sum(level > SKY_LEVEL for level in levels)) == 0:
        return
    worst = levels.index(max(levels))
    others = f", one of {far} such images" if far > 1 else ""
    logger.warning(
        "%s%s: its sky lies %.3g sigma off zero, which the contrast takes for light; subtract it",
        records[worst].files[0], others, levels[worst],
    )  # fmt: skip
