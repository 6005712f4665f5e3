"""Galaxy profiles as sums of Gaussians, and their Fourier transforms.

A Sersic profile of any index is a fixed ladder of Gaussians with amplitudes that change
smoothly with the index (after Hogg & Lang 2013); so its transform, and those of its
derivatives, are written down at once and a convolution with a PSF is a product.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.special import gammaincinv

from astrolabel.core.numerics import inlined, kernel, part

Array = NDArray[Any]


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


def covariance(shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(yy, xy, xx) in pixels squared of a profile of these parameters, and its derivatives.

    Returns
    -------
    (3,) and (3, 3): derivatives by LOG_RADIUS, STRETCH_1 and STRETCH_2, one a row.
    """
    size, e1, e2 = math.exp(2 * shape[LOG_RADIUS]), float(shape[STRETCH_1]), float(shape[STRETCH_2])
    e = math.sqrt(e1 * e1 + e2 * e2)
    c, s = math.cosh(e), (math.sinh(e) / e if e > 1e-6 else 1.0)
    # d(sinh e / e)/de / e
    ds = (c - s) / e**2 if e > 1e-3 else 1 / 3
    value = size * np.array([c - s * e1, s * e2, c + s * e1])
    slopes = size * np.array([
        [0.0, 0.0, 0.0],
        [s * e1 - ds * e1 * e1 - s, ds * e1 * e2, s * e1 + ds * e1 * e1 + s],
        [s * e2 - ds * e2 * e1, ds * e2 * e2 + s, s * e2 + ds * e2 * e1],
    ])  # fmt: skip
    slopes[0] = 2 * value
    return value, slopes


@inlined
def shift(k: float, by: float, sigma: float) -> tuple[float, float]:
    """What a shift of a PSF along an axis multiplies its transform by: real, imaginary part.

    The transform of pixels holds the frequency k, in radians a pixel from -pi to pi, and its alias
    k - 2 pi (of negative k: k + 2 pi), which a shift turns by another angle. Their shares are those
    of a Gaussian. Where the PSF is narrow, about two pixels and less, a shift of all as k rings.

    Parameters
    ----------
    by : pixels.
    sigma : of the PSF, pixels.
    """
    alias = 1 / (1 + np.exp(2 * np.pi * sigma * sigma * (np.pi - abs(k))))
    turn = 2 * np.pi * by if k >= 0 else -2 * np.pi * by
    re, im = 1 + alias * (np.cos(turn) - 1), alias * np.sin(turn)
    cos, sin = np.cos(k * by), -np.sin(k * by)
    return cos * re - sin * im, cos * im + sin * re


@kernel
def transforms(
    out: Array,
    psf: Array,
    sigma: Array,
    y: float,
    x: float,
    value: Array,
    amplitudes: Array,
    by_index: Array,
    widths: Array,
) -> None:
    """Fourier transform of a profile of unit flux behind each band's PSF, into `out`.

    Parameters
    ----------
    out : (P, C, F, G//2+1) complex64 for real images (F, G). P is 1 (the profile) or 3: with
        the sum of its Gaussians each times half its variance in units of the profile's,
        whose second derivatives are what a change of the covariance adds; and with the
        derivative by LOG_INDEX. `derived` makes all derivatives of these.
    psf : (C, F, G//2+1) complex64, transforms of the PSFs.
    sigma : (C,) their Gaussian-equivalent widths in pixels; see `shift`.
    y, x : centre in the image.
    value : (yy, xy, xx) of `covariance`; zeros for a point.
    amplitudes, by_index : of `mixture`.
    """
    count, bands, rows, columns = out.shape
    kx, along = np.empty(columns), np.empty((2, bands, columns), np.float32)
    for j in range(columns):
        kx[j] = 2 * np.pi * j / (2 * (columns - 1))
        for c in range(bands):
            along[0, c, j], along[1, c, j] = shift(kx[j], x, sigma[c])
    e, q = np.empty(columns), np.empty(columns)
    planes = np.empty((3, columns))
    for i in range(rows):
        ky = 2 * np.pi * (i if 2 * i < rows else i - rows) / rows
        for j in range(columns):
            planes[0, j], planes[1, j], planes[2, j] = 0.0 if value[0] > 0 else 1.0, 0.0, 0.0
        if value[0] > 0:
            half = 0.5 * widths[0] * widths[0]
            for j in range(columns):
                q[j] = value[0] * ky * ky + (2 * value[1] * ky + value[2] * kx[j]) * kx[j]
                e[j] = np.exp(-half * q[j])
            for m in range(widths.size):
                a, b, c = amplitudes[m], amplitudes[m] * half, by_index[m]
                half *= 4
                for j in range(columns):
                    planes[0, j] += a * e[j]
                    planes[1, j] += b * e[j]
                    planes[2, j] += c * e[j]
                    squared = e[j] * e[j]
                    e[j] = squared * squared
        for c in range(bands):
            # By real and imaginary parts: numba's product of complex numbers looks for NaN.
            real, imaginary = shift(ky, y, sigma[c])
            u, v = np.float32(real), np.float32(imaginary)
            for p in range(count):
                for j in range(columns):
                    a, b, f = along[0, c, j], along[1, c, j], np.float32(planes[p, j])
                    re, im = (u * a - v * b) * f, (u * b + v * a) * f
                    by = psf[c, i, j]
                    out[p, c, i, j] = complex(re * by.real - im * by.imag,
                                              re * by.imag + im * by.real)  # fmt: skip


FIRST = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
SECOND = (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560)
"""Differences of eighth order for the first and second derivative, from the middle outward: for
a PSF of a pixel's width they are right to one per cent, and mostly to a thousandth."""
REACH = 4
"""Pixels on either side that they take."""


@part
def _first(source: Array, step: int, out: Array) -> None:
    """First derivative along pixels that lie `step` apart.

    Parameters
    ----------
    source : flat, from `REACH` pixels before the first of `out` to as many after its last.
    """
    f1, f2 = np.float32(FIRST[0]), np.float32(FIRST[1])
    f3, f4 = np.float32(FIRST[2]), np.float32(FIRST[3])
    a, b, c, d = source, source[step:], source[2 * step :], source[3 * step :]
    f, g, h, i = source[5 * step :], source[6 * step :], source[7 * step :], source[8 * step :]
    for j in range(out.size):
        out[j] = f1 * (f[j] - d[j]) + f2 * (g[j] - c[j]) + f3 * (h[j] - b[j]) + f4 * (i[j] - a[j])


@part
def _second(source: Array, step: int, out: Array) -> None:
    """Second derivative; see `_first`."""
    s0, s1, s2 = np.float32(SECOND[0]), np.float32(SECOND[1]), np.float32(SECOND[2])
    s3, s4 = np.float32(SECOND[3]), np.float32(SECOND[4])
    a, b, c, d = source, source[step:], source[2 * step :], source[3 * step :]
    e, f, g = source[4 * step :], source[5 * step :], source[6 * step :]
    h, i = source[7 * step :], source[8 * step :]
    for j in range(out.size):
        near = s0 * e[j] + s1 * (f[j] + d[j]) + s2 * (g[j] + c[j])
        out[j] = near + s3 * (h[j] + b[j]) + s4 * (i[j] + a[j])


@kernel
def derived(images: Array, slopes: Array, y0: int, x0: int, out: Array) -> None:
    """The template and its derivatives by the parameters, cut from the images of `transforms`.

    Parameters
    ----------
    images : (P, C, F, G) float32. P is 1 of a point, else 3.
    slopes : (3, 3) of `covariance`.
    y0, x0 : first pixel of the part; `REACH` pixels around it are in the images.
    out : (Q, C, h, w) float32, written over. Q is 3 of a point: the template and its
        derivatives by y and x; else 7: by all of `N_SHAPE`.
    """
    count, bands, h, w = out.shape
    columns = images.shape[3]
    # Not the number 1: a function is compiled again for every number that stands in its call.
    down, right = columns, images.strides[3] // images.itemsize
    # Whole rows at a time, one after the other as they lie in memory: the compiler does
    # several pixels at once, and what runs over the ends of rows is not taken.
    size = h * columns
    begin = y0 * columns
    above, left = begin - REACH * columns, begin - REACH
    wide = np.empty(size + 2 * REACH, np.float32)
    for j in range(REACH):
        wide[j] = wide[REACH + size + j] = 0.0
    parts = np.empty((3, size), np.float32)
    for c in range(bands):
        flat = images[0, c].reshape(images.shape[2] * columns)
        _first(flat[above:], down, parts[0])
        _first(flat[left:], right, parts[1])
        for i in range(h):
            at = i * columns + x0
            template, by_y, by_x = flat[begin + at :], parts[0, at:], parts[1, at:]
            for j in range(w):  # light moves with its centre: minus the gradient
                out[0, c, i, j] = template[j]
                out[1, c, i, j] = -by_y[j]
                out[2, c, i, j] = -by_x[j]
        if count == 3:
            continue
        flat = images[1, c].reshape(images.shape[2] * columns)
        _first(flat[above:], down, wide[REACH : size + REACH])
        _first(wide, right, parts[1])
        _second(flat[above:], down, parts[0])
        _second(flat[left:], right, parts[2])
        flat = images[2, c].reshape(images.shape[2] * columns)
        for i in range(h):
            at = i * columns + x0
            yy, yx, xx, by_index = parts[0, at:], parts[1, at:], parts[2, at:], flat[begin + at :]
            for m in range(3):
                by_yy, by_xx = np.float32(slopes[m, 0]), np.float32(slopes[m, 2])
                by_yx = np.float32(2 * slopes[m, 1])
                line = out[3 + m, c, i]
                for j in range(w):
                    line[j] = by_yy * yy[j] + by_yx * yx[j] + by_xx * xx[j]
            for j in range(w):
                out[6, c, i, j] = by_index[j]
