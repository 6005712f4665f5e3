"""Close pairs that one model absorbed: how much a second source would gain beside it.

A neighbour within a seeing disc leaves little residual, since the model of its host stretches and
moves towards it. What counts is what it would explain together with its host: chi2 falls by
s^2 / (n - b^T A^-1 b), where s and n are the pull and the curvature of the new flux, A the
curvature of all that the host can change, and b what the two have in common (the score test of
one source against two).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.numerics import kernel, solve
from astrolabel.detect import mog

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
    host: Host,
    where: NDArray[np.bool_],
    sigma_px: float,
    widths: Array,
    psf_weights: Array,
    psf_covariances: Array,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much chi2 would fall with a point source more at each pixel, and its flux there.

    Parameters
    ----------
    where : (h, w) bool, the pixels to try.
    sigma_px : of the Gaussian that stands for the point source.
    widths, psf_weights, psf_covariances : of the host's model (see `gaussians.render`).

    Returns
    -------
    gain, flux : (h, w) float64, zero where none is tried; fluxes in counts of the bands' sum,
        each band with its own.
    """
    bands, count = host.amplitudes.shape
    _, h, w = host.residual.shape
    templates = np.empty((bands, count, h, w), np.float32)
    slopes = np.empty((bands, mog.SHAPE, h, w), np.float32)
    mog.render(host.y0, host.x0, host.shape, host.amplitudes, widths, psf_weights,
                     psf_covariances, templates, slopes)  # fmt: skip
    own, pull, across, curvature, slope = mog.equations(
        templates, slopes, host.residual, host.weights
    )

    # What a point source at each pixel has in common with the residual, with what the shape
    # changes and with every Gaussian: as (h, planes, w), so that each axis is one product.
    each = np.concatenate([host.residual[:, None], slopes, templates], axis=1)
    each *= host.weights[:, None]
    planes = np.ascontiguousarray(each.reshape(-1, h, w).transpose(1, 0, 2))
    wide = (planes.reshape(-1, w) @ _bell(w, sigma_px)).reshape(h, -1)
    seen = (_bell(h, sigma_px) @ wide).reshape(h, bands, 1 + mog.SHAPE + count, w)
    narrow = sigma_px / np.sqrt(2)  # a Gaussian's square, of integral 1/(4 pi sigma^2)
    known = _bell(h, narrow) @ host.weights @ _bell(w, narrow) / (4 * np.pi * sigma_px**2)
    inverse = np.zeros((bands, count, count))
    for c in range(bands):  # the amplitudes of a band, at their best whatever the rest
        # Where the band has no data, no pixel shows a Gaussian that the others do.
        lit = np.flatnonzero((host.amplitudes[c] > 0) & (np.diag(own[c]) > 0))
        if len(lit) == 0:
            continue
        at = np.ix_(lit, lit)
        matrix = own[c][at]
        matrix[np.diag_indices(len(lit))] *= 1 + 1e-6  # near widths are nearly one image
        inverse[c][at] = np.linalg.inv(matrix)
        curvature -= across[c].T @ inverse[c] @ across[c]
        slope -= across[c].T @ inverse[c] @ pull[c]
    size = max(0.5 * (host.shape[2] + host.shape[4]), 0.5)
    curvature += np.diag([4.0, 4.0, *[4 / size**2] * 3])  # half a pixel, half its size
    return _gains(seen, known, inverse, pull, across, np.linalg.inv(curvature), slope, where)


@kernel
def _gains(
    seen: Array,
    known: Array,
    inverse: Array,
    pull: Array,
    across: Array,
    moved: Array,
    slope: Array,
    where: Array,
) -> tuple[Array, Array]:
    """Gain and flux of a point source at each pixel: (h, w) float64.

    Parameters
    ----------
    seen : (h, C, 1 + 5 + K, w) what it has in common with the residual, the slopes of the
        host's shape, and its Gaussians.
    known : (C, h, w) curvature of its flux.
    inverse : (C, K, K) of the curvature of the host's amplitudes.
    pull, across : (C, K), (C, K, 5) of `gaussians.equations`.
    moved, slope : (5, 5) inverse of the curvature of the shape, (5,) its slope, both with the
        amplitudes at their best.
    where : (h, w) bool, pixels that are wanted; the others get zero.
    """
    h, bands, _, w = seen.shape
    count, shape = pull.shape[1], slope.size
    gain, flux = np.empty((h, w)), np.empty((h, w))
    taken, common = np.empty(count), np.empty((bands, shape))
    score, matrix, best = np.empty(bands), np.empty((bands, bands)), np.empty((1, bands))
    for y in range(h):
        for x in range(w):
            gain[y, x] = flux[y, x] = 0.0
            if not where[y, x]:
                continue
            for c in range(bands):
                left = max(known[c, y, x], 1e-12)
                score[c] = seen[y, c, 0, x]
                for p in range(shape):
                    common[c, p] = seen[y, c, 1 + p, x]
                for k in range(count):
                    taken[k] = 0.0
                    for n in range(count):
                        taken[k] += inverse[c, k, n] * seen[y, c, 1 + shape + n, x]
                for k in range(count):
                    left -= taken[k] * seen[y, c, 1 + shape + k, x]
                    score[c] -= taken[k] * pull[c, k]
                    for p in range(shape):
                        common[c, p] -= taken[k] * across[c, k, p]
                matrix[c, c] = left + _RIDGE * known[c, y, x] + 1e-12
                for d in range(c):
                    matrix[c, d] = 0.0
            for c in range(bands):
                for p in range(shape):
                    along = 0.0
                    for q in range(shape):
                        along += moved[p, q] * common[c, q]
                    score[c] -= slope[p] * along
                    for d in range(c + 1):
                        matrix[c, d] -= along * common[d, p]
                best[0, c] = score[c]
            solve(matrix, best)
            for c in range(bands):
                gain[y, x] += max(best[0, c], 0.0) * score[c]
                flux[y, x] += best[0, c]
    return gain, flux


@functools.lru_cache(maxsize=64)
def _bell(n: int, sigma: float) -> NDArray[np.float32]:
    """(n, n) symmetric: Gaussians of unit sum around each of n pixels."""
    apart = np.arange(n)[:, None] - np.arange(n)
    bell = np.exp(-0.5 * (apart / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray(bell, np.float32)
