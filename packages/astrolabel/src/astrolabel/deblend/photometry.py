"""What a fitted blend tells: fluxes with their errors, and light that no source stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from astrolabel.deblend.components import (
    LONGEST_STEP,
    PAD_PX,
    Component,
    Vector,
    joint_equations,
    packed,
)
from astrolabel.deblend.convolve import Kernels, fft_length
from astrolabel.deblend.equations import shared_noise
from astrolabel.deblend.scene import Image

NEIGHBOUR_ERROR = 0.25
"""Variance that the neighbours' light under a source adds to its flux, in units of that light
times the noise: what no model tells apart grows with both, for the more light a neighbour
has, the better is its shape known. Of simulated scenes at all ratios of light to noise from 1
to 60 the pulls of sources need 0.2 to 0.4, where their noise alone would be exceeded 4 times."""
MODEL_ERROR = 0.005
"""Part of a source's flux that its model gets wrong, as its wings are extrapolated."""
UNLISTED_SIGMA = 4.0
"""Residual light of a point this significant gets a point of nobody's, so that it goes into
no neighbour's flux."""
UNLISTED_CONTRAST = 0.15
"""... whose middle is brighter than this fraction of the models' light there: fainter is
the structure of a galaxy or an error of the PSF,"""
UNLISTED_APART = 0.5
"""... where no component is nearer than this many FWHM of the PSF."""


@dataclass(frozen=True, eq=False)
class Photometry:
    """Fluxes of all components.

    Attributes
    ----------
    flux : (N, C) counts, of either sign.
    error : (N, C) counts, one sigma: of the noise and what the bands share of it, of the
        shapes, of the light of neighbours and nobodies under the source
        (`NEIGHBOUR_ERROR`), and of the model (`MODEL_ERROR`).
    """

    flux: Vector
    error: Vector


def photometry(
    components: list[Component], residual: Image, weights: Image, sources: int, common: Vector
) -> Photometry:
    """One joint linear step of all fluxes and shapes, and its covariance.

    Parameters
    ----------
    sources : their number; components of nobody's are fitted with them and left out.
    common : (C, C) correlation of the bands' noise, zero on the diagonal.
    """
    bands = len(weights)
    matrix, vector, at = joint_equations(components, residual, weights)
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-30))
    # Two peaks on one source are told apart by nothing: the ridge keeps them finite.
    scaled = matrix / scale[:, None] / scale + 1e-7 * np.eye(len(scale))
    inverse = np.linalg.inv(scaled) / scale[:, None] / scale
    delta = np.linalg.solve(_trusted(scaled, components, scale, at), vector / scale) / scale
    # The fit takes the bands' noise for independent; what they share shifts all shapes and
    # fluxes at once.
    shared = shared_noise(*packed(components), weights, common)
    covariance = inverse + inverse @ shared @ inverse
    k = np.arange(bands)
    places = at[:-1, None] + k
    flux, variance = np.zeros((sources, bands)), np.zeros((sources, bands))
    others = np.zeros((sources, bands))
    fluxes = np.array([c.flux for c in components])
    owners = np.array([c.owner for c in components])
    for n in range(sources):
        own = np.flatnonzero(owners == n)
        rows = places[own]
        flux[n] = (fluxes[own] + delta[rows]).sum(axis=0)
        variance[n] = covariance[rows[:, None], rows[None]].sum(axis=(0, 1))
        # Light of the others in the template's own measure of flux.
        under = (matrix[rows[:, None], places[owners != n][None]] * fluxes[owners != n]).sum(axis=1)
        light = np.maximum(fluxes[own], 0) + 1e-30
        share = light / light.sum(axis=0)
        power = np.einsum("kc,lc,klc->c", share, share, matrix[rows[:, None], rows[None]])
        others[n] = (share * under).sum(axis=0) / np.where(power > 0, power, np.inf)
    variance = np.maximum(variance, 0)
    variance += NEIGHBOUR_ERROR * np.maximum(others, 0) * np.sqrt(variance)
    return Photometry(flux, np.sqrt(variance + (MODEL_ERROR * flux) ** 2))


def _trusted(
    scaled: Vector, components: list[Component], scale: Vector, at: NDArray[np.int64]
) -> Vector:
    """The scaled equations with a spring on every step of a shape: the models are not linear
    beyond `LONGEST_STEP`, and sources that lie on each other would exchange all their light."""
    out = scaled.copy()
    for n, c in enumerate(components):
        k = np.arange(at[n] + len(c.flux), at[n + 1])
        out[k, k] += (LONGEST_STEP[: len(k)] * scale[k]) ** -2
    return out


def left_over(
    components: list[Component], image: Image, residual: Image, weights: Image, kernels: Kernels
) -> list[tuple[int, int]]:
    """Pixels where the residual has the light of a point, brightest first; not where
    it is but a few per cent of what the models have there."""
    height, width = image.shape[1:]
    shape = (fft_length(height + PAD_PX), fft_length(width + PAD_PX))
    pad = np.zeros((len(image), *shape), np.float32)
    pad[:, :height, :width] = weights * residual
    spectrum = scipy.fft.rfft2(pad) * np.conj(kernels.psf_transform(shape))
    light = scipy.fft.irfft2(spectrum, s=shape)[:, :height, :width].sum(axis=0)
    norm = np.tensordot(kernels.psf_power, weights, 1)
    significance = light / np.sqrt(np.where(norm > 0, norm, np.inf))
    peaks = significance == scipy.ndimage.maximum_filter(significance, 3)
    peaks &= significance > UNLISTED_SIGMA
    # A point's flux over its norm is what its middle holds in units of the PSF's peak.
    flux = light / np.where(norm > 0, norm, np.inf)
    top = np.tensordot(weights.max(axis=(1, 2)), kernels.psf_peak, 1)
    model = np.tensordot(weights.max(axis=(1, 2)), image - residual, 1)
    peaks &= flux * top > UNLISTED_CONTRAST * model
    places = np.argwhere(peaks)
    centres = np.array([c.shape[:2] for c in components])
    apart = UNLISTED_APART * 2.3548 * float(kernels.psf_sigma.mean())
    out: list[tuple[int, int]] = []
    for y, x in places[np.argsort(-significance[peaks], kind="stable")].tolist():
        if np.hypot(*(centres - (y, x)).T).min() > apart:
            out.append((y, x))
            centres = np.concatenate([centres, [(y, x)]])
    return out
