"""PSFs as sums of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Mixture:
    """PSFs as sums of Gaussians.

    Attributes
    ----------
    weights : (C, M) float64, summing to one by band.
    covariances : (C, M, 3) float64 pixels squared (yy, yx, xx).
    """

    weights: NDArray[np.float64]
    covariances: NDArray[np.float64]


def mixture(psfs: NDArray[np.float32], most: int = 4) -> Mixture:
    """Each PSF as at most `most` Gaussians of one ellipse, by non-negative least squares.

    Parameters
    ----------
    psfs : (C, P, P) float32, P odd, each summing to one.
    """
    half = psfs.shape[-1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    weights = np.zeros((len(psfs), most))
    covariances = np.tile(np.array([1.0, 0.0, 1.0]), (len(psfs), most, 1))
    for c, psf in enumerate(psfs.astype(float)):
        unit = _unit_ellipse(psf, y, x)
        inverse = np.linalg.inv(unit)
        q = (inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x).ravel()
        core = np.sqrt(1 / (2 * np.pi * psf.max()))

        def fitted(log_sigmas: Array, q: Array = q, psf: Array = psf) -> tuple[Array, Array]:
            variance = np.exp(2 * log_sigmas)
            basis = np.exp(-0.5 * q[:, None] / variance) / (2 * np.pi * variance)
            flux, _ = optimize.nnls(basis, psf.ravel())
            return flux, (basis @ flux - psf.ravel()) / psf.max()

        start = np.log(core * np.geomspace(0.7, 4.0, most))
        found = optimize.least_squares(lambda p, f=fitted: f(p)[1], start, x_scale=0.1)
        flux, _ = fitted(found.x)
        weights[c] = flux / flux.sum()
        covariances[c] = np.exp(2 * found.x)[:, None] * unit[[0, 0, 1], [0, 1, 1]]
    return Mixture(weights, covariances)


def _unit_ellipse(psf: Array, y: Array, x: Array) -> Array:
    """(2, 2) covariance of determinant one with the shape of the PSF's core."""
    core = psf**2  # hardly sees the wings' noise; an ellipse's square has its shape
    yy, yx, xx = ((core * a).sum() / core.sum() for a in (y * y, y * x, x * x))
    shape = np.array([[yy, yx], [yx, xx]])
    return np.asarray(shape / np.sqrt(np.linalg.det(shape)))
