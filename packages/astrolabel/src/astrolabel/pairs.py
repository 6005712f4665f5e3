"""Sources that another one's model has taken in: how much a second would gain beside it.

A neighbour within a seeing disc leaves little over, since the model of its host stretches and
moves towards it. What counts is what it would explain together with its host: chi2 falls by
s^2 / (n - b^T A^-1 b), where s and n are the pull and the curvature of the new flux, A the
curvature of all that the host can change, and b what the two have in common (the score test of
one source against two).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel import gaussians

Array = NDArray[Any]

_RIDGE = 1e-3
"""Part of a new flux's curvature that no host can take: where it takes all of it, the flux
is not known and nothing is gained."""


@dataclass(frozen=True, eq=False)
class Host:
    """One fitted source and the pixels around it.

    Attributes
    ----------
    y0, x0 : first pixel of the box.
    shape, amplitudes : (5,), (C, K) of its model (see `gaussians`).
    residual, weights : (C, h, w) image less all models; 1/variance.
    """

    y0: int
    x0: int
    shape: NDArray[np.float64]
    amplitudes: NDArray[np.float64]
    residual: NDArray[np.float32]
    weights: NDArray[np.float32]


def gain_of_second(
    host: Host, sigma_px: float, widths: Array, psf_weights: Array, psf_covariances: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much chi2 would fall with a point source more at each pixel, and its flux there.

    Parameters
    ----------
    sigma_px : of the Gaussian that stands for the point source.
    widths, psf_weights, psf_covariances : of the host's model (see `gaussians.render`).

    Returns
    -------
    gain, flux : (h, w) float64; fluxes in counts of the bands' sum, each band with its own.
    """
    bands, count = host.amplitudes.shape
    _, h, w = host.residual.shape
    templates = np.empty((bands, count, h, w), np.float32)
    slopes = np.empty((bands, gaussians.SHAPE, h, w), np.float32)
    gaussians.render(host.y0, host.x0, host.shape, host.amplitudes, widths, psf_weights,
                     psf_covariances, templates, slopes)  # fmt: skip
    own, pull, across, curvature, slope = gaussians.equations(
        templates, slopes, host.residual, host.weights
    )

    def seen(planes: Array) -> Array:
        """What a point source at each pixel has in common with some images."""
        return _bell(h, sigma_px) @ planes @ _bell(w, sigma_px)

    narrow = sigma_px / np.sqrt(2)  # a Gaussian's square, of integral 1/(4 pi sigma^2)
    known = _bell(h, narrow) @ host.weights @ _bell(w, narrow) / (4 * np.pi * sigma_px**2)
    score = seen(host.weights * host.residual)
    common = seen(host.weights[:, None] * slopes)
    left = np.maximum(known, 1e-12)
    for c in range(bands):  # the amplitudes of a band, at their best whatever the rest
        lit = np.flatnonzero(host.amplitudes[c] > 0)
        if len(lit) == 0:
            continue
        matrix = own[c][np.ix_(lit, lit)]
        matrix[np.diag_indices(len(lit))] *= 1 + 1e-6  # near widths are nearly one image
        inverse = np.linalg.inv(matrix)
        shared = seen(host.weights[c] * templates[c, lit])
        taken = np.tensordot(inverse, shared, 1)
        left[c] -= (shared * taken).sum(axis=0)
        score[c] -= np.tensordot(pull[c, lit], taken, 1)
        common[c] -= np.tensordot(across[c, lit].T, taken, 1)
        curvature -= across[c, lit].T @ inverse @ across[c, lit]
        slope -= across[c, lit].T @ inverse @ pull[c, lit]
    size = max(0.5 * (host.shape[2] + host.shape[4]), 0.5)
    curvature += np.diag([4.0, 4.0, *[4 / size**2] * 3])  # half a pixel, half its size
    moved = np.linalg.inv(curvature)
    along = np.tensordot(moved, common, (1, 1))  # (5, C, h, w)
    matrix = -np.einsum("pcyx,dpyx->yxcd", along, common)
    bands_of = np.arange(bands)
    matrix[..., bands_of, bands_of] += np.moveaxis(left + _RIDGE * known + 1e-12, 0, -1)
    score = np.moveaxis(score - np.tensordot(slope, along, 1), 0, -1)
    flux = np.linalg.solve(matrix, score[..., None])[..., 0]
    return (np.maximum(flux, 0) * score).sum(axis=-1), flux.sum(axis=-1)


def _bell(n: int, sigma: float) -> NDArray[np.float64]:
    """(n, n) symmetric: Gaussians of unit sum around each of n pixels."""
    apart = np.arange(n)[:, None] - np.arange(n)
    return np.asarray(np.exp(-0.5 * (apart / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma))
