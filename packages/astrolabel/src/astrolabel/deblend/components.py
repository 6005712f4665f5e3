"""One component of a blend: a point or a Sersic profile in all bands, and its equations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config import ModelConfig
from astrolabel.deblend import equations, profiles
from astrolabel.deblend.convolve import Image, Kernels, fft_length
from astrolabel.deblend.profiles import CENTRE_X, CENTRE_Y, LOG_INDEX, N_SHAPE
from astrolabel.deblend.spectra import best_fluxes

LIMITS = np.log(np.array([[0.15, np.inf], [1 / 6, 6.0], [1 / 6, 6.0], [0.5, 6.0]]))
"""Of radius (pixels; at most that of a box), axis ratio along either direction, and index."""
LONGEST_STEP = np.array([0.5, 0.5, 0.7, 0.5, 0.5, 0.6])
"""In centre (pixels), log radius, stretch and log index: the models are not linear beyond."""
PAD_PX = 8
"""Added to a component's box for its transform: what wraps around comes from beyond."""
NUISANCE = -1
"""Owner of a point that stands for light that no source was found for."""

Vector = NDArray[np.float64]


@dataclass(eq=False)
class Component:
    """A point or a Sersic profile.

    Attributes
    ----------
    peak : (y, x) pixel its box is laid around.
    radius : half side of the box.
    shape : (6,) parameters, see `profiles`; of a point only the centre counts.
    point : whether it is one.
    flux : (C,) counts.
    doubt : (C,) counts that a galaxy in a point's place would have more; zero for others.
    point_gain : by how much more chi2 a point would have; infinite where that is far.
    box : in the cutout, clipped to it.
    images : (P, C, h, w) float32 of unit flux: the template, then its derivatives.
    owner : index of the source it belongs to, or `NUISANCE`.
    prior : (6,) what its parameters are expected to be.
    precision : (6,) of that, one over the variance.
    damping : of the next step, in units of the curvature.
    """

    peak: tuple[int, int]
    radius: int
    shape: Vector
    point: bool
    flux: Vector
    box: Box
    images: Image
    owner: int
    prior: Vector
    precision: Vector
    doubt: Vector
    damping: float = 0.0
    point_gain: float = np.inf

    @property
    def template(self) -> Image:
        return self.images[0]

    @property
    def where(self) -> tuple[slice, slice, slice]:
        return (slice(None), *self.box.slices)

    @property
    def model(self) -> Image:
        out: Image = self.template * self.flux[:, None, None].astype(np.float32)
        return out


def rendered(
    kernels: Kernels, frame: Box, peak: tuple[int, int], radius: int, shape: Vector, point: bool
) -> tuple[Box, Image]:
    """Box in the cutout `frame` and (P, C, h, w): the template and its derivatives."""
    whole = Box.around(*peak, radius)
    box = whole & frame
    side = fft_length(2 * radius + 1 + PAD_PX)
    if point:
        value, slopes = np.zeros(3), np.zeros((3, 3))
    else:
        value, slopes = profiles.covariance(shape)
    amplitudes, by_index = profiles.mixture(float(shape[LOG_INDEX]))
    # Differences need pixels on all sides of the box: it lies in the middle.
    y0, x0 = whole.y0 - PAD_PX // 2, whole.x0 - PAD_PX // 2
    y, x = shape[CENTRE_Y] - y0, shape[CENTRE_X] - x0
    psf = kernels.psf_transform((side, side))
    spectrum = np.empty((1 if point else 3, *psf.shape), np.complex64)
    profiles.transforms(
        spectrum, psf, kernels.psf_sigma, y, x, value, amplitudes, by_index, profiles.WIDTHS
    )
    images = scipy.fft.irfft2(spectrum, s=(side, side), overwrite_x=True)
    out = np.empty((3 if point else 1 + N_SHAPE, len(psf), *box.shape), np.float32)
    profiles.derived(images, slopes, box.y0 - y0, box.x0 - x0, out)
    return box, out


def fit_fluxes(c: Component, data: Image, weights: Image) -> float:
    """Set a component's fluxes to the best; chi2 in its box, and what the priors add."""
    c.flux, chi2 = best_fluxes(c.template, data, weights)
    return chi2 if c.point else chi2 + float(c.precision @ (c.shape - c.prior) ** 2)


def newton_step(c: Component, residual: Image, weights: Image) -> Vector:
    """(6,) Gauss-Newton step of the shape, the fluxes following it.

    Parameters
    ----------
    residual, weights : (C, h, w) float32, in the component's box.
    """
    count, bands, height, width = c.images.shape
    matrix, vector = equations.normal_equations(
        c.images.ravel(),
        np.zeros(1, np.int64),
        np.array([count]),
        np.array([[0, 0, height, width]]),
        c.flux[None],
        residual,
        weights,
    )
    precision = c.precision[:0] if c.point else c.precision
    delta = np.zeros(N_SHAPE)
    step = equations.damped_step(matrix, vector, bands, precision, c.shape - c.prior, c.damping)
    delta[: count - 1] = step
    worst = float(np.max(np.abs(delta) / LONGEST_STEP))
    return delta / max(worst, 1.0) if np.isfinite(worst) else np.zeros(N_SHAPE)


def in_range(profile: Vector, config: ModelConfig) -> Vector:
    """(4,) the parameters of a shape behind its centre, within `LIMITS` and the largest box."""
    most = LIMITS[:, 1].copy()
    most[0] = np.log(config.max_radius_px)
    return np.clip(profile, LIMITS[:, 0], most)


def limited(c: Component, shape: Vector, config: ModelConfig) -> Vector:
    """The shape in its range, and the centre within an offset of the peak."""
    out = shape.copy()
    peak = np.array(c.peak)
    out[:2] = np.clip(out[:2], peak - config.max_offset_px, peak + config.max_offset_px)
    out[2:] = in_range(out[2:], config)
    return out


Packed = tuple[Image, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Vector]


def packed(chosen: list[Component]) -> Packed:
    """Components as `equations` takes them: images, starts, counts, boxes and fluxes."""
    images = [c.images.ravel() for c in chosen]
    starts = np.concatenate([[0], np.cumsum([len(i) for i in images])]).astype(np.int64)
    return (
        np.concatenate(images),
        starts,
        np.array([len(c.images) for c in chosen], np.int64),
        np.array([(c.box.y0, c.box.x0, *c.box.shape) for c in chosen], np.int64),
        np.array([c.flux for c in chosen], np.float64),
    )


def joint_equations(
    chosen: list[Component], residual: Image, weights: Image
) -> tuple[Vector, Vector, NDArray[np.int64]]:
    """Normal equations of all parameters of some components, priors included, each one's
    fluxes first, and where each component's begin."""
    parts = packed(chosen)
    bands = len(weights)
    matrix, vector = equations.normal_equations(*parts, residual, weights)
    at = equations.places(parts[2], bands)
    for n, c in enumerate(chosen):
        if not c.point:
            k = np.arange(at[n] + bands, at[n + 1])
            matrix[k, k] += c.precision
            vector[k] -= c.precision * (c.shape - c.prior)
    return matrix, vector, at
