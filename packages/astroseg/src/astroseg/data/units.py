"""What pixels mean: pixel scale, zero points and sky noise, of a training set and of an image.

A checkpoint keeps those of its training images. Prediction compares, and converts fluxes to
the training's zero points where the contrast depends on them. ``asinh`` does not: it is in units
of each band's own noise.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astroseg.core.config import DataConfig, PredictConfig
from astroseg.core.errors import InputError
from astroseg.data.dataset import Dataset, ImageRecord
from astroseg.data.headers import pixel_scale
from astroseg.data.images import Pixels, read_pixels
from astroseg.data.sky_noise import no_data, sky_noise

logger = logging.getLogger(__name__)

SAME_MAG = 0.01
"""Zero points this near are one: calibrations of surveys are no better."""

IMAGES_READ = 8
"""Training images whose headers and noise are read, evenly spread."""

ROWS_READ = 512
"""Rows of each, from its middle, that the noise is measured in."""

NOISE_FACTOR = 3.0
"""Images of one zero point differ in depth by less, but for another unit by more."""


@dataclass(frozen=True)
class Units:
    """Of the images of a training set; NaN and () stand for what is unknown.

    Attributes
    ----------
    pixel_scale : arcsec, smallest and largest.
    zeropoint : AB magnitude of one unit of flux of each channel, NaN where images differ.
    sky_sigma : median noise of each channel, in the unit of flux.
    """

    pixel_scale: tuple[float, ...] = ()
    zeropoint: tuple[float, ...] = ()
    sky_sigma: tuple[float, ...] = ()

    def to_json(self) -> str:
        """As checkpoints hold it; null for NaN."""
        rows = vars(self).items()
        plain = {k: [v if math.isfinite(v) else None for v in values] for k, values in rows}
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Units:
        """As `to_json` wrote it; ValueError for anything else."""
        try:
            values = json.loads(text)
            return cls(
                **{
                    name: tuple(math.nan if v is None else float(v) for v in column)
                    for name, column in values.items()
                }
            )
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error


def with_zeropoint(record: ImageRecord, pixels: Pixels, given: Sequence[float] = ()) -> ImageRecord:
    """The record with a zero point of each plane: its own, else that of the files' headers, else
    the given ones (one, or one for each plane). () stays where none is known."""
    count = len(pixels.planes)
    if given and len(given) not in (1, count):
        raise InputError(
            f"has {count} bands, and {len(given)} zero points are given",
            file=record.files[0],
            remedy="give one, or one for each band in the image's order",
        )
    columns = [
        list(values) * (count if len(values) == 1 else 1)
        for values in (record.zeropoint, pixels.zeropoint, given)
    ]
    zeros = tuple(
        next((c[i] for c in columns if i < len(c) and math.isfinite(c[i])), math.nan)
        for i in range(count)
    )
    known = record.zeropoint or any(math.isfinite(z) for z in zeros)
    return replace(record, zeropoint=zeros) if known else record


def noise(pixels: Pixels, order: Sequence[int], clip_sigma: float) -> tuple[float, ...]:
    """Sky noise of each channel in the image's middle rows, NaN where there is none."""
    height, width = pixels.shape
    rows = min(height, ROWS_READ)
    flux = pixels.crop((height - rows) // 2, 0, rows, width, order)
    empty = no_data(flux)
    found = []
    for band, plane in enumerate(flux):
        values = plane.reshape(-1) if empty is None else plane[~empty[band]]
        # A stride that is no divisor of the width samples all columns.
        sigma = sky_noise(values[:: max(1, values.size // 500_000) | 1], clip_sigma)[1]
        found.append(sigma if sigma > 0 else math.nan)
    return tuple(found)


def training_units(dataset: Dataset, orders: Sequence[Sequence[int]], data: DataConfig) -> Units:
    """Units of a training set.

    Parameters
    ----------
    orders : planes of each image that make the channels.
    """
    if data.contrast == "sky":  # takes images of any unit, bands and pixels
        return Units()
    scales = [s for s in (pixel_scale(r.wcs) for r in dataset.images) if math.isfinite(s)]
    chosen = np.linspace(0, len(dataset) - 1, min(IMAGES_READ, len(dataset))).round().astype(int)
    zeros, sigmas = [], []
    for index in dict.fromkeys(chosen.tolist()):
        record, order = dataset.images[index], orders[index]
        pixels = read_pixels(record.files, (record.height, record.width))
        zeros.append(_of_channels(with_zeropoint(record, pixels), order))
        sigmas.append(noise(pixels, order, data.clip_sigma))
    # The others' by the dataset alone.
    zeros += [_of_channels(r, order) for r, order in zip(dataset.images, orders, strict=True)]
    return Units(
        (min(scales), max(scales)) if scales else (),
        tuple(_one(column) for column in zip(*zeros, strict=True)),
        tuple(_median(column) for column in zip(*sigmas, strict=True)),
    )


def _of_channels(record: ImageRecord, order: Sequence[int]) -> tuple[float, ...]:
    """Zero point of each channel, NaN where unknown."""
    zeros = record.zeropoint * (len(order) if len(record.zeropoint) == 1 else 1)
    return tuple(zeros[i] if i < len(zeros) else math.nan for i in order)


def _one(values: Sequence[float]) -> float:
    """The zero point that all images with one have, NaN where they differ or have none."""
    known = [v for v in values if math.isfinite(v)]
    return known[0] if known and max(known) - min(known) <= SAME_MAG else math.nan


def _median(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.median(known)) if known else math.nan


def check_scale(record: ImageRecord, trained: Units, tolerance: float) -> None:
    """Raise InputError for an image whose pixels are much larger or smaller than the training's.

    Parameters
    ----------
    tolerance : the greatest factor.
    """
    scale = pixel_scale(record.wcs)
    if not trained.pixel_scale or math.isnan(scale):
        return
    low, high = trained.pixel_scale
    if low / tolerance <= scale <= high * tolerance:
        return
    wanted = f"{low:.3g}" if high / low < 1.01 else f"{low:.3g} to {high:.3g}"
    raise InputError(
        f"has pixels of {scale:.3g} arcsec, and the model was trained on {wanted}",
        file=record.files[0],
        remedy="resample it, use a model of its scale, or allow it with --scale-tolerance FACTOR",
    )


def gains(
    record: ImageRecord,
    pixels: Pixels,
    order: Sequence[int],
    trained: Units,
    data: DataConfig,
    how: PredictConfig,
) -> tuple[float, ...]:
    """Factor of each channel that brings an image's fluxes to the training's zero points.

    () where nothing is to be done. Where the contrast depends on the zero points and one is
    unknown, or the noise says that the unit is another, a line of the log says so.

    Raises
    ------
    InputError
        For an image of another pixel scale than `PredictConfig.scale_tolerance` allows.
    """
    check_scale(record, trained, how.scale_tolerance)
    if data.contrast == "asinh" or pixels.eight_bit or not trained.zeropoint:
        return ()
    own = _of_channels(record, order)
    shift = [t - z for t, z in zip(trained.zeropoint, own, strict=True)]
    factors = [10 ** (0.4 * s) if math.isfinite(s) else 1.0 for s in shift]
    known = [not math.isnan(t) for t in trained.zeropoint]
    if any(k and math.isnan(z) for k, z in zip(known, own, strict=True)):
        zeros = ", ".join(f"{t:.4g}" for t, k in zip(trained.zeropoint, known, strict=True) if k)
        logger.warning(
            "%s: its zero points are unknown, so its fluxes are used in the training's unit "
            "(AB %s); give them with --zeropoint", record.files[0], zeros,
        )  # fmt: skip
    _compare_noise(record, noise(pixels, order, data.clip_sigma), factors, trained)
    return tuple(factors) if any(abs(s) > SAME_MAG for s in shift if math.isfinite(s)) else ()


def _compare_noise(
    record: ImageRecord, sigma: Sequence[float], factors: Sequence[float], trained: Units
) -> None:
    """Say so where an image's noise is far from the training's."""
    ratios = [
        s * f / t
        for s, f, t in zip(
            sigma, factors, trained.sky_sigma or [math.nan] * len(sigma), strict=True
        )
        if math.isfinite(s) and math.isfinite(t) and t > 0
    ]
    worst = max(ratios, key=lambda r: abs(math.log(r)), default=1.0)
    if abs(math.log(worst)) > math.log(NOISE_FACTOR):
        logger.warning(
            "%s: its sky noise is %.2g times that of the training's images in the same unit; "
            "verify its zero point", record.files[0], worst,
        )  # fmt: skip


def scaled(flux: NDArray[np.float32], factors: Sequence[float]) -> NDArray[np.float32]:
    """Fluxes (C, h, w) times a factor of each channel, as they are without."""
    return flux * np.array(factors, np.float32)[:, None, None] if factors else flux
