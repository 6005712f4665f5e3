"""What the models leave over, tile by tile: how well they explain the pixels of the masks,
and the light outside the masks that no label took."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.errors import InputError
from astrolabel.core.progress import steps
from astrolabel.io.residual_image import STEP_SIGMA, read_residual
from astrolabel.report.labels import Labels

THRESHOLD_SIGMA = 5.0
"""Residual pixels above this are light that something should have explained: a mask
begins there, and noise gives one in 3.5 million pixels."""
HALF_BINS = 40
LEVELS = STEP_SIGMA * (np.arange(-HALF_BINS, HALF_BINS + 2) - 0.5)
"""Edges of the histograms in sigma, to ten either way: one bin a grey level of the
residual's file. The end bins hold what lies beyond."""
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class TileResidual:
    """One tile's residual.

    Attributes
    ----------
    image : index of the image.
    chi2_inside, chi2_outside : mean squared residual in and outside the masks, sigma^2;
        1 is pure noise.
    pixels_inside, pixels_outside : with data.
    groups_outside : connected groups of pixels above `THRESHOLD_SIGMA` outside all masks.
    """

    image: int
    chi2_inside: float
    chi2_outside: float
    pixels_inside: int
    pixels_outside: int
    groups_outside: int


@dataclass(frozen=True, eq=False)
class Residuals:
    """All tiles' residuals.

    Attributes
    ----------
    tiles : those that have a residual.
    without : number of images that have none.
    chi2 : (N,) mean squared residual under each label's mask, NaN where unknown.
    inside, outside : pixels by residual, in the bins of `LEVELS`.
    """

    tiles: tuple[TileResidual, ...]
    without: int
    chi2: NDArray[np.float64]
    inside: NDArray[np.int64]
    outside: NDArray[np.int64]

    @property
    def chi2_inside(self) -> float:
        """Of all tiles' masked pixels together."""
        return _mean([(t.chi2_inside, t.pixels_inside) for t in self.tiles])

    @property
    def chi2_outside(self) -> float:
        return _mean([(t.chi2_outside, t.pixels_outside) for t in self.tiles])

    @property
    def groups_outside(self) -> int:
        return sum(t.groups_outside for t in self.tiles)


def _mean(parts: list[tuple[float, int]]) -> float:
    total = sum(n for _, n in parts)
    return sum(v * n for v, n in parts if n) / total if total else math.nan


def measure_residuals(labels: Labels, progress: bool = False) -> Residuals:
    """Read every tile's residual once; one tile is in memory at a time.

    Parameters
    ----------
    progress : show a bar.

    Raises
    ------
    InputError
        When a residual cannot be read or is not of its image's size.
    """
    chi2 = np.full(len(labels), np.nan)
    inside, outside = (np.zeros(len(LEVELS) - 1, np.int64) for _ in range(2))
    tiles = []
    images = range(len(labels.images))
    for index in steps(images, len(images), "residuals", "tile", shown=progress):
        chi = residual_of(labels, index)
        if chi is None:
            continue
        square = chi.astype(np.float64) ** 2
        masked = np.zeros(chi.shape, bool)
        for row in labels.by_image[index]:
            pixels, box = labels.mask(int(row))
            masked[box.slices] |= pixels
            chi2[row] = _mean_of(square[box.slices], pixels)
        known = np.isfinite(chi)
        inside += _by_level(chi[masked & known])
        outside += _by_level(chi[~masked & known])
        missed = (np.nan_to_num(chi) > THRESHOLD_SIGMA) & ~masked
        tiles.append(
            TileResidual(
                image=index,
                chi2_inside=_mean_of(square, masked),
                chi2_outside=_mean_of(square, ~masked),
                pixels_inside=int((masked & known).sum()),
                pixels_outside=int((~masked & known).sum()),
                groups_outside=int(ndimage.label(missed, structure=_EIGHT)[1]),
            )
        )
    return Residuals(tuple(tiles), len(labels.images) - len(tiles), chi2, inside, outside)


def _mean_of(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    """Mean of the known values there; NaN where there are none."""
    part = values[where]
    part = part[np.isfinite(part)]
    return float(part.mean()) if len(part) else math.nan


def _by_level(chi: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of values in each bin of `LEVELS`."""
    level = np.rint(chi / STEP_SIGMA).astype(np.int64)
    level = np.clip(level, -HALF_BINS, HALF_BINS) + HALF_BINS
    return np.bincount(level, minlength=2 * HALF_BINS + 1)


def residual_of(labels: Labels, index: int) -> NDArray[np.float32] | None:
    """(H, W) residual of an image in sigma; None where the document names none."""
    path = labels.file(index, "residual")
    if path is None:
        return None
    chi, image = read_residual(path), labels.images[index]
    if chi.shape != (image["height"], image["width"]):
        raise InputError(
            f"the residual is of {chi.shape[1]}x{chi.shape[0]} pixels, its image of "
            f"{image['width']}x{image['height']}",
            file=path,
            remedy="label again",
        )
    return chi
