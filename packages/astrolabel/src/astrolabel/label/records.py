"""What labelling a tile returns: its sources, their masks and measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.masks import Mask
from astrolabel.core.notes import Note
from astrolabel.deblend.shape import Profile


@dataclass(frozen=True, eq=False)
class Source:
    """One detection and what became of it.

    Attributes
    ----------
    y, x : peak in the pixels of the tile with its margin.
    n_blended : peaks in its connected footprint, itself included.
    state : ``ok``, ``skipped:<reason>`` or ``failed:<reason>``.
    mask : in the same pixels; None unless it has one.
    centre : (y, x) of the light inside the mask.
    flux, flux_err : (C,) counts.
    snr : light inside the mask over its noise.
    kind : of the deblender's model.
    fit_flags : names in `flags` that follow from its fit.
    profiles : of its model, in the same pixels as the peak (see `deblend.base.SourceFit`).
    model : its box in these pixels and (C, h, w) float32 counts, halo included; None unless it
        was asked for.
    """

    y: float
    x: float
    n_blended: int
    state: str
    mask: Mask | None = None
    centre: tuple[float, float] = (np.nan, np.nan)
    flux: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    flux_err: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    snr: float = np.nan
    kind: str = ""
    fit_flags: frozenset[str] = frozenset()
    profiles: tuple[Profile, ...] = ()
    model: tuple[Box, NDArray[np.float32]] | None = None


@dataclass(frozen=True, eq=False)
class TileLabels:
    """What a tile's shard holds.

    Attributes
    ----------
    annotations : of COCO, without ids.
    sources : every detection, ``{"y", "x", "state"}`` in the tile's pixels.
    sky_sigma : (C,) counts: typical noise of a pixel of empty sky in each band.
    chi2_per_pixel : of the blends, weighted by their pixels; NaN without sources.
    residual : (h, w) of the tile's core, sigma: the detection image less the models of all
        sources, over its noise; NaN where there are no data and where pixels are
        saturated. None where nothing was fitted.
    notes : what was assumed of the tile, and what is doubtful.
    """

    annotations: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    sky_sigma: tuple[float, ...]
    chi2_per_pixel: float
    residual: NDArray[np.float32] | None
    notes: tuple[Note, ...] = ()


def sky_sigma(coadd: Coadd) -> tuple[float, ...]:
    """(C,) counts: typical noise of a pixel of empty sky in each band; NaN without data."""
    return tuple(
        float(np.sqrt(np.median(v[ok]))) if ok.any() else float("nan")
        for v, ok in zip(coadd.variance, coadd.valid, strict=True)
    )


def magnitudes(flux: NDArray[np.float64], zeropoints: tuple[float, ...]) -> NDArray[np.float64]:
    """AB magnitudes of (..., C) counts; NaN where the flux is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, np.asarray(zeropoints) - 2.5 * np.log10(flux), np.nan)
