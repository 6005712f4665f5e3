"""What every deblender takes and gives: `Blend` in, `BlendFit` out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.deblend.shape import Profile


@dataclass(frozen=True, eq=False)
class Noise:
    """The noise of the fluxes of faint sources, where it is not that of the pixels.

    Attributes
    ----------
    excess : (C,) float32 by which that of a faint galaxy exceeds the variances'.
    excess_of_points : (C,) float32, that of a point: noise that is smooth over a few pixels
        enters a narrow template less.
    common : (C, C) float64 its correlation between bands, zero on the diagonal.
    """

    excess: NDArray[np.float32]
    excess_of_points: NDArray[np.float32]
    common: NDArray[np.float64]


def independent(bands: int) -> Noise:
    """Noise that is that of the pixels."""
    ones = np.ones(bands, np.float32)
    return Noise(ones, ones, np.zeros((bands, bands)))


@dataclass(frozen=True, eq=False)
class Blend:
    """One group of sources whose light overlaps, cut out of a coadd.

    Attributes
    ----------
    image : (C, H, W) float32 counts, finite everywhere (zero where `weights` is zero and
        nothing is saturated).
    weights : (C, H, W) float32, 1/variance; zero where a pixel must not be used.
    psfs : (C, P, P) float32, P odd, each summing to one.
    peaks : (N, 2) float64, (y, x) of the sources in this cutout's pixels; all inside.
    noise : of fluxes, beyond that of `weights`; None where that is all. See `sky.Sky`.
    saturated : (H, W) bool, pixels without weight where `image` is less than the light was;
        None where there are none.
    """

    image: NDArray[np.float32]
    weights: NDArray[np.float32]
    psfs: NDArray[np.float32]
    peaks: NDArray[np.float64]
    noise: Noise | None = None
    saturated: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class SourceFit:
    """One deblended source, as it would look alone in the observed images.

    Attributes
    ----------
    box : where `model` lies in the blend's cutout; always inside it.
    model : (C, h, w) float32 counts, convolved with each band's PSF.
    flux : (C,) float64 counts: the source's total, also of what the box cuts off.
    kind : ``point`` or ``extended``.
    state : ``ok`` or ``failed:<reason>``; a failed source is never written as a label.
    flux_err : (C,) float64 counts, one sigma, of `flux`; NaN where the deblender gives none.
    profiles : what the model is made of, in the cutout's pixels: a point, a Sersic profile, or
        a disc and a bulge in this order; empty where the deblender has no such profiles.
    """

    box: Box
    model: NDArray[np.float32]
    flux: NDArray[np.float64]
    kind: str
    state: str = "ok"
    flux_err: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    profiles: tuple[Profile, ...] = ()

    def __post_init__(self) -> None:
        if len(self.flux_err) != len(self.flux):
            object.__setattr__(self, "flux_err", np.full(len(self.flux), np.nan))


@dataclass(frozen=True, eq=False)
class BlendFit:
    """The fit of one blend.

    Attributes
    ----------
    sources : one per peak, in the order of the peaks.
    chi2_per_pixel : of all models together: sum of weights * residual^2 over the number
        of (band, pixel) values with positive weight.
    n_iterations : steps taken.
    converged : whether the last steps gained next to nothing.
    nuisance : (C, H, W) float32 counts of light that was fitted and that no peak stands
        for; None where there is none. It counts in chi2.
    """

    sources: tuple[SourceFit, ...]
    chi2_per_pixel: float
    n_iterations: int
    converged: bool
    nuisance: NDArray[np.float32] | None = None


class Deblender(Protocol):
    """A deblender is built once per run and called once per blend.

    It must be picklable, and give the same fit for the same blend whatever it has
    been called with before.
    """

    name: str

    def fit(self, blend: Blend) -> BlendFit: ...
