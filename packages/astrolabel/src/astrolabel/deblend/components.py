"""One component of a blend: a point or a Sersic profile in all bands, and its equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from astrolabel.box import Box
from astrolabel.deblend import profiles
from astrolabel.deblend.convolve import Kernels, fft_length
from astrolabel.deblend.profiles import CENTRE_X, CENTRE_Y, LOG_INDEX, N_SHAPE
from astrolabel.deblend.scene import Image
from astrolabel.deblend.spectra import best_fluxes, products

MAX_OFFSET_PX = 1.5
"""Farthest a centre moves from its peak; detection is never wrong by more."""
RADIUS_PRIOR = (0.9, 0.7)
"""Median half-light radius in sigmas of the PSF, and scatter of its natural logarithm: 0.29
arcsec and 0.3 dex for faint galaxies in HSC's seeing. What is measured at more than a few
tens of sigma hardly feels it."""
STRETCH_PRIOR = 0.6
"""Scatter of ln(axis ratio) along either direction: discs at random inclinations."""
INDEX_PRIOR = (1.2, 0.5)
"""Median Sersic index, and scatter of its natural logarithm: most galaxies are discs."""
LIMITS = np.log(np.array([[0.15, 60.0], [1 / 6, 6.0], [1 / 6, 6.0], [0.5, 6.0]]))
"""Of radius (pixels), axis ratio along either direction, and index."""
LONGEST_STEP = np.array([0.5, 0.5, 0.7, 0.5, 0.5, 0.6])
"""In centre (pixels), log radius, stretch and log index: the models are not linear beyond."""
PAD_PX = 8
"""Added to a component's box for its transform: what wraps around comes from beyond."""
NOBODY = -1
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
    point_gain : by how much more chi2 a point would have; infinite where that is far.
    box : in the cutout, clipped to it.
    images : (P, C, h, w) float32 of unit flux: the template, then its derivatives.
    owner : index of the source it belongs to, or `NOBODY`.
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
    profiles.transforms(spectrum, psf, y, x, value, amplitudes, by_index, profiles.WIDTHS)
    images = scipy.fft.irfft2(spectrum, s=(side, side), overwrite_x=True)
    out = np.empty((3 if point else 1 + N_SHAPE, len(psf), *box.shape), np.float32)
    profiles.derived(images, slopes, box.y0 - y0, box.x0 - x0, out)
    return box, out


def fit_fluxes(c: Component, data: Image, weights: Image) -> float:
    """Set a component's fluxes to the best; chi2 in its box, and what the priors add."""
    c.flux, chi2 = best_fluxes(c.template, data, weights)
    return chi2 if c.point else chi2 + float(c.precision @ (c.shape - c.prior) ** 2)


def newton_step(c: Component, residual: Image, weights: Image) -> Vector:
    """(6,) Gauss-Newton step of the shape, the fluxes following it."""
    matrix, vector = normal_equations(c, residual, weights)
    bands, free = len(c.flux), len(c.images) - 1
    shape = slice(bands, bands + free)
    if not c.point:
        diagonal = np.arange(bands, bands + free)
        matrix[diagonal, diagonal] += c.precision
        vector[bands:] -= c.precision * (c.shape - c.prior)
    diagonal = np.arange(bands, bands + free)
    matrix[diagonal, diagonal] *= 1 + c.damping
    matrix[np.diag_indices(len(matrix))] += 1e-9 * np.trace(matrix) / len(matrix) + 1e-30
    delta = np.zeros(N_SHAPE)
    delta[:free] = np.linalg.solve(matrix, vector)[shape]
    worst = float(np.max(np.abs(delta) / LONGEST_STEP))
    return delta / max(worst, 1.0) if np.isfinite(worst) else np.zeros(N_SHAPE)


def limited(c: Component, shape: Vector) -> Vector:
    out = shape.copy()
    peak = np.array(c.peak)
    out[:2] = np.clip(out[:2], peak - MAX_OFFSET_PX, peak + MAX_OFFSET_PX)
    out[2:] = np.clip(out[2:], LIMITS[:, 0], LIMITS[:, 1])
    return out


def joint_equations(
    chosen: list[Component], residual: Image, weights: Image
) -> tuple[Vector, Vector, NDArray[np.int64]]:
    """Normal equations of all parameters of some components, each one's fluxes first,
    and where each component's begin."""
    bands = len(weights)
    sizes = [bands + len(c.images) - 1 for c in chosen]
    at = np.concatenate([[0], np.cumsum(sizes)])
    matrix, vector = np.zeros((at[-1], at[-1])), np.zeros(at[-1])
    for n, c in enumerate(chosen):
        own = slice(at[n], at[n + 1])
        block, pull = normal_equations(c, residual[c.where], weights[c.where])
        if not c.point:
            k = np.arange(bands, sizes[n])
            block[k, k] += c.precision
            pull[bands:] -= c.precision * (c.shape - c.prior)
        matrix[own, own], vector[own] = block, pull
        for m in range(n):
            cross = cross_equations(c, chosen[m], weights)
            if cross is not None:
                other = slice(at[m], at[m + 1])
                matrix[own, other], matrix[other, own] = cross, cross.T
    return matrix, vector, at


def normal_equations(c: Component, residual: Image, weights: Image) -> tuple[Vector, Vector]:
    """Of a component's fluxes and shape: (C + S, C + S) and (C + S,)."""
    grams, pulls = products(c.images, weights, residual)
    return _by_parameter(grams, c.flux, c.flux), _projected(pulls, c.flux)


def cross_equations(a: Component, b: Component, weights: Image) -> Vector | None:
    """The part of the normal equations that couples two components; None where apart."""
    common = a.box & b.box
    if common.area == 0:
        return None
    parts = []
    for c in (a, b):
        cut: Any = c.images[(slice(None), slice(None), *common.slices_in(c.box))]
        parts.append(cut.reshape(*cut.shape[:2], -1).swapaxes(0, 1))
    part = weights[(slice(None), *common.slices)].reshape(len(weights), 1, -1)
    grams = ((parts[0] * part) @ parts[1].swapaxes(1, 2)).astype(float)
    return _by_parameter(grams, a.flux, b.flux)


def shared_noise(a: Component, b: Component, weights: Image, common: Vector) -> Vector | None:
    """What noise common to the bands adds to the covariance of two components' equations.

    Parameters
    ----------
    common : (C, C) correlation of the bands' noise, zero on the diagonal.

    Returns
    -------
    (C + S, C + T), as `cross_equations` gives it for noise of each band alone; None where
    the components are apart.
    """
    both = a.box & b.box
    if both.area == 0:
        return None
    root = np.sqrt(weights[(slice(None), *both.slices)])
    parts = []
    for c in (a, b) if a is not b else (a,):
        cut = c.images[(slice(None), slice(None), *both.slices_in(c.box))] * root
        parts.append(cut.reshape(len(c.images) * len(weights), -1))
    grams = (parts[0] @ parts[-1].T).astype(float)
    bands, rows, columns = len(weights), len(a.images), len(b.images)
    grams = grams.reshape(rows, bands, columns, bands) * common[:, None, :]
    out = np.empty((bands + rows - 1, bands + columns - 1))
    out[:bands, :bands] = grams[0, :, 0]
    out[:bands, bands:] = (grams[0, :, 1:] @ b.flux).reshape(bands, -1)
    out[bands:, :bands] = np.tensordot(a.flux, grams[1:, :, 0], (0, 1))
    out[bands:, bands:] = np.einsum("c,pcqd,d->pq", a.flux, grams[1:, :, 1:], b.flux)
    return out


def _by_parameter(grams: Vector, left: Vector, right: Vector) -> Vector:
    """From (C, P, Q) products of images to the parameters: each band's flux, then the
    shape, which all bands share."""
    bands, rows, columns = grams.shape
    out = np.empty((bands + rows - 1, bands + columns - 1))
    out[:bands, :bands] = np.diag(grams[:, 0, 0])
    out[:bands, bands:] = right[:, None] * grams[:, 0, 1:]
    out[bands:, :bands] = (left[:, None] * grams[:, 1:, 0]).T
    shapes = (left * right) @ grams[:, 1:, 1:].reshape(bands, -1)
    out[bands:, bands:] = shapes.reshape(rows - 1, columns - 1)
    return out


def _projected(pulls: Vector, flux: Vector) -> Vector:
    return np.concatenate([pulls[:, 0], flux @ pulls[:, 1:]])
