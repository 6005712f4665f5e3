"""Galaxy profiles as sums of Gaussians, and their Fourier transforms.

A Sersic profile of any index is a fixed ladder of Gaussians with amplitudes that change
smoothly with the index (after Hogg & Lang 2013); so its transform, and those of its
derivatives, are written down at once and a convolution with a PSF is a product.
"""

from __future__ import annotations

import functools

import numba
import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.special import gammaincinv

from astrolabel.deblend.morphology import Array

INDICES = np.geomspace(0.5, 6.0, 13)
"""Sersic indices of the table: from a Gaussian to beyond de Vaucouleurs."""
WIDTHS = 0.8493 * 2.0 ** np.arange(-5, 5)
"""Sigmas of the Gaussians in half-light radii, 0.027 to 14; one is that of a Gaussian whose
half-light radius is one. In steps of two each one's transform is the fourth power of that of
the next narrower one, which spares an exponential."""

CENTRE_Y, CENTRE_X, LOG_RADIUS, STRETCH_1, STRETCH_2, LOG_INDEX = range(6)
"""Places in a profile's parameters. Logarithms are natural; the radius (pixels) is that of
half the light, circularised; (STRETCH_1, STRETCH_2) is ln(major axis / minor axis) in the
direction of twice the position angle, from +x."""
N_SHAPE = 6

_LOWEST = float(np.log(INDICES[0]))
_STEP = float(np.log(INDICES[1] / INDICES[0]))


@functools.cache
def _table() -> NDArray[np.float64]:
    """(indices, widths) amplitudes, each row summing to one."""
    radius = np.geomspace(0.02, 20, 300)
    # Light per logarithm of the radius is what is fitted: every decade counts by its light.
    gaussians = np.exp(-0.5 * (radius[:, None] / WIDTHS) ** 2) / (2 * np.pi * WIDTHS**2)
    rows = []
    for n in INDICES:
        b = gammaincinv(2 * n, 0.5)
        profile = np.exp(-b * radius ** (1 / n))
        light = 2 * np.pi * n * b ** (-2 * n) * float(scipy.special.gamma(2 * n))
        row, _ = scipy.optimize.nnls(gaussians * radius[:, None] ** 2, profile / light * radius**2)
        rows.append(row / row.sum())
    return np.array(rows)


def mixture(log_index: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Amplitudes (J,) of the Gaussians for a Sersic index, and their derivative in its log."""
    table = _table()
    at = (log_index - _LOWEST) / _STEP
    k = min(max(int(at), 0), len(table) - 2)
    slope = table[k + 1] - table[k]
    return table[k] + min(max(at - k, 0.0), 1.0) * slope, slope / _STEP


@numba.njit(cache=True, nogil=True)
def covariance(shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(yy, xy, xx) in pixels squared of a profile of these parameters, and its derivatives.

    Returns
    -------
    (3,) and (3, 3): derivatives by LOG_RADIUS, STRETCH_1 and STRETCH_2, one a row.
    """
    size, e1, e2 = np.exp(2 * shape[LOG_RADIUS]), shape[STRETCH_1], shape[STRETCH_2]
    e = float(np.sqrt(e1 * e1 + e2 * e2))
    c, s = np.cosh(e), (np.sinh(e) / e if e > 1e-6 else 1.0)
    # d(sinh e / e)/de / e
    ds = (c - s) / e**2 if e > 1e-3 else 1 / 3
    value = size * np.array([c - s * e1, s * e2, c + s * e1])
    slopes = np.empty((3, 3))
    slopes[0] = 2 * value
    slopes[1] = s * e1 - ds * e1 * e1 - s, ds * e1 * e2, s * e1 + ds * e1 * e1 + s
    slopes[2] = s * e2 - ds * e2 * e1, ds * e2 * e2 + s, s * e2 + ds * e2 * e1
    slopes[1:] *= size
    return value, slopes


def stretch(matrix: NDArray[np.float64]) -> tuple[float, float, float]:
    """(LOG_RADIUS, STRETCH_1, STRETCH_2) whose covariance is a (2, 2) matrix, axes y, x."""
    values, vectors = np.linalg.eigh(matrix)
    low, high = np.maximum(values, 1e-6)
    angle = 2 * np.arctan2(vectors[0, 1], vectors[1, 1])
    e = 0.5 * np.log(high / low)
    return 0.25 * float(np.log(low * high)), float(e * np.cos(angle)), float(e * np.sin(angle))


@numba.njit(cache=True, nogil=True)
def transforms(
    out: Array,
    y: float,
    x: float,
    value: Array,
    slopes: Array,
    amplitudes: Array,
    by_index: Array,
    widths: Array,
) -> None:
    """Fourier transform of a profile of unit flux and of its derivatives, into `out`.

    Parameters
    ----------
    out : (P, F, G//2+1) complex64 for a real image (F, G). P is 1 (the profile), 3 (with
        the derivatives by y and x: a point's) or 7 (by all of `N_SHAPE`).
    y, x : centre in the image.
    value, slopes : of `covariance`; zeros for a point.
    amplitudes, by_index : of `mixture`.
    """
    count, rows, columns = out.shape
    width = 2 * (columns - 1)
    row_phase = np.empty(rows, np.complex64)
    column_phase = np.empty(columns, np.complex64)
    for i in range(rows):
        k = 2 * np.pi * (i if 2 * i < rows else i - rows) / rows
        row_phase[i] = np.exp(-1j * k * y)
    for j in range(columns):
        column_phase[j] = np.exp(-1j * 2 * np.pi * j / width * x)
    extended = value[0] > 0
    for i in range(rows):
        ky = 2 * np.pi * (i if 2 * i < rows else i - rows) / rows
        for j in range(columns):
            kx = 2 * np.pi * j / width
            phase = row_phase[i] * column_phase[j]
            g, dg, dn = 1.0, 0.0, 0.0
            if extended:
                q = value[0] * ky * ky + 2 * value[1] * ky * kx + value[2] * kx * kx
                g = 0.0
                half = 0.5 * widths[0] * widths[0]
                e = np.exp(-half * q)
                for m in range(widths.size):
                    g += amplitudes[m] * e
                    dg -= amplitudes[m] * half * e
                    dn += by_index[m] * e
                    half *= 4
                    e *= e
                    e *= e
                    if e < 1e-9:
                        break
            out[0, i, j] = phase * np.float32(g)
            if count == 1:
                continue
            out[1, i, j] = phase * np.complex64(-1j * ky * g)
            out[2, i, j] = phase * np.complex64(-1j * kx * g)
            if count == 3:
                continue
            for m in range(3):
                dq = slopes[m, 0] * ky * ky + 2 * slopes[m, 1] * ky * kx + slopes[m, 2] * kx * kx
                out[3 + m, i, j] = phase * np.float32(dg * dq)
            out[6, i, j] = phase * np.float32(dn)
