"""Fluxes of a fitted blend with their errors, and places of nuisance sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray
from scipy.special import expit

from astrolabel.core.config import PhotometryConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.deblend.components import (
    LONGEST_STEP,
    PAD_PX,
    Component,
    Vector,
    joint_equations,
    packed,
)
from astrolabel.deblend.convolve import Image, Kernels, fft_length
from astrolabel.deblend.equations import shared_noise


@dataclass(frozen=True, eq=False)
class Weights:
    """One over the variance of pixels, (C, H, W) float32, as different fluxes have it.

    Attributes
    ----------
    pixels : of the pixels themselves.
    fitted : with the excess noise of faint galaxies, which the fit has for all.
    of_points : with that of points.
    common : (C, C) correlation of the bands' noise, zero on the diagonal.
    """

    pixels: Image
    fitted: Image
    of_points: Image
    common: Vector


@dataclass(frozen=True, eq=False)
class Photometry:
    """Fluxes of all components.

    Attributes
    ----------
    flux : (N, C) counts, of either sign.
    error : (N, C) counts, one sigma: of the noise and what the bands share of it, of the
        shapes, of light without a model (`_misfit`), of the light of neighbours and
        nuisance sources under the source (`neighbour_error`), of the model (`model_error`; that
        a point is a galaxy).
    """

    flux: Vector
    error: Vector


def photometry(
    components: list[Component],
    residual: Image,
    weights: Weights,
    sources: int,
    config: PhotometryConfig,
) -> Photometry:
    """One joint linear step of all fluxes and shapes, and its covariance.

    Parameters
    ----------
    sources : their number; nuisance sources are fitted with them and left out.
    """
    bands = len(residual)
    matrix, vector, at = joint_equations(components, residual, weights.fitted)
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-30))
    # Two peaks on one source cannot be separated: the regularization keeps them finite.
    scaled = matrix / scale[:, None] / scale + 1e-7 * np.eye(len(scale))
    inverse = np.linalg.inv(scaled) / scale[:, None] / scale
    delta = np.linalg.solve(_trusted(scaled, components, scale, at), vector / scale) / scale
    # The fit takes the bands' noise for independent; what they share shifts all shapes and
    # fluxes at once.
    shared = shared_noise(*packed(components), weights.fitted, weights.common)
    covariance = inverse + inverse @ shared @ inverse
    k = np.arange(bands)
    places = at[:-1, None] + k
    flux, variance = np.zeros((sources, bands)), np.zeros((sources, bands))
    fluxes = np.array([c.flux for c in components])
    owners = np.array([c.owner for c in components])
    for n in range(sources):
        own = np.flatnonzero(owners == n)
        rows = places[own]
        flux[n] = (fluxes[own] + delta[rows]).sum(axis=0)
        # Light of the others in the template's own measure of flux.
        under = (matrix[rows[:, None], places[owners != n][None]] * fluxes[owners != n]).sum(axis=1)
        light = np.maximum(fluxes[own], 0) + 1e-30
        share = light / light.sum(axis=0)
        power = np.einsum("kc,lc,klc->c", share, share, matrix[rows[:, None], rows[None]])
        others = (share * under).sum(axis=0) / np.where(power > 0, power, np.inf)
        solved = np.maximum(covariance[rows[:, None], rows[None]].sum(axis=(0, 1)), 0)
        parts = [components[i] for i in own]
        variance[n] = _with_unknown(
            solved, parts, config.neighbour_error * others, residual, weights
        )
        variance[n] += _of_model(parts, flux[n], config.model_error)
    return Photometry(flux, np.sqrt(variance))


def _with_unknown(
    variance: Vector, own: list[Component], others: Vector, residual: Image, weights: Weights
) -> Vector:
    """(C,) the solved variance of a source, and what light that no model stands for and that
    of `others` under it add."""
    if all(c.point for c in own):
        variance = variance * _narrow(own[0], weights)
    variance = variance * max(_misfit(own, residual, weights.pixels), 1.0)
    return np.asarray(variance + np.maximum(others, 0) * np.sqrt(variance))


def _narrow(point: Component, weights: Weights) -> Vector:
    """(C,) by how much less variance a point's flux has than the fit's weights give."""
    fitted, of_points = weights.fitted[point.where], weights.of_points[point.where]
    ratio = np.where(of_points > 0, fitted / np.where(of_points > 0, of_points, 1), 0)
    power = fitted * point.template**2
    total = power.sum(axis=(1, 2), dtype=float)
    part = (power * ratio).sum(axis=(1, 2), dtype=float)
    return np.where(total > 0, part / np.where(total > 0, total, 1), 1.0)


def _misfit(own: list[Component], residual: Image, pixels: Image) -> float:
    """By how many sigma chi2 exceeds its expectation under a source, its light as weight.

    Light that no model stands for, of a neighbour that no one found or of arms, adds its
    square to chi2 as to the variance of the flux; one sigma is noise. The parts of a source
    share their box.
    """
    weights = pixels[own[0].where].astype(float)
    power = weights * np.sum([c.model for c in own], axis=0, dtype=float) ** 2
    excess = power * (weights * residual[own[0].where].astype(float) ** 2 - 1)
    scatter = np.sqrt(2 * (power**2).sum())
    return float(excess.sum() / scatter) if scatter > 0 else 0.0


def _of_model(own: list[Component], flux: Vector, model_error: float) -> Vector:
    """(C,) variance of what the model of a source may have wrong.

    A point's template is the PSF itself; it may be a galaxy instead, with the chance that
    the difference in chi2 gives it.
    """
    if all(c.point for c in own):
        return np.asarray(sum(expit(0.5 * c.point_gain) * c.doubt**2 for c in own))
    return (model_error * flux) ** 2


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


def nuisance_places(
    components: list[Component],
    image: Image,
    residual: Image,
    weights: Image,
    kernels: Kernels,
    config: PhotometryConfig,
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
    peaks &= significance > config.nuisance_sigma
    # A point's flux over its norm is what its middle holds in units of the PSF's peak.
    flux = light / np.where(norm > 0, norm, np.inf)
    top = np.tensordot(weights.max(axis=(1, 2)), kernels.psf_peak, 1)
    model = np.tensordot(weights.max(axis=(1, 2)), image - residual, 1)
    peaks &= flux * top > config.nuisance_contrast * model
    places = np.argwhere(peaks)
    centres = np.array([c.shape[:2] for c in components])
    apart = config.nuisance_apart_fwhm * FWHM_PER_SIGMA * float(kernels.psf_sigma.mean())
    out: list[tuple[int, int]] = []
    for y, x in places[np.argsort(-significance[peaks], kind="stable")].tolist():
        if np.hypot(*(centres - (y, x)).T).min() > apart:
            out.append((y, x))
            centres = np.concatenate([centres, [(y, x)]])
    return out
