"""Sources as concentric Gaussians: a constrained model of a whole tile (fitted in `fit`).

A non-parametric morphology absorbs a faint neighbour as a bulge of its own. A sum of Gaussians
of one centre and one ellipse cannot, and leaves it in the residual. That is its purpose: its
residual shows what detection missed. The PSF is a sum of Gaussians too, so that a source
is rendered without a transform (mixtures as in Hogg & Lang 2013, arXiv:1210.6563; the
PSFs' are made in `mixtures`). All functions are compiled and release the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.numerics import dot, inlined, kernel, part

Array = NDArray[Any]

WIDTHS = (0.0, 0.5, 0.5, 1.0, 2.0, 4.0)
"""Of the Gaussians in units of the source's ellipse; the first is a point. Steps of two: core
and wings of a galaxy each find one near their own."""
ROUND = 1
"""Index of the one that is round, whatever the ellipse: a bulge in a disc seen edge on."""
SHAPE = 5
"""Parameters that move together in all bands: centre (y, x), covariance (yy, yx, xx)."""
TAIL = 20.0
"""A Gaussian is not evaluated where its exponent is below minus this."""


@inlined
def covariance(shape: Array, width: float, is_round: bool, psf: Array) -> tuple[float, ...]:
    """(yy, yx, xx) of one Gaussian of a source behind one of a PSF's."""
    yy, yx, xx = shape[2], shape[3], shape[4]
    if is_round:
        yy = xx = 0.5 * (yy + xx)
        yx = 0.0
    ww = width * width
    return ww * yy + psf[0], ww * yx + psf[1], ww * xx + psf[2]


@part
def _bell(
    cy: float, cx: float, wide: tuple[float, ...], weight: float, bell: Array
) -> tuple[int, int, int, int]:
    """A Gaussian of this centre and covariance on a box, of this integral.

    The first row is two running products along it (its logarithm is quadratic), the others
    are each the one before times a row of ratios that change by a constant factor: no
    exponential is taken for any pixel.

    Parameters
    ----------
    bell : (h, w) float32, written over where the Gaussian is.

    Returns
    -------
    The rows i0 <= i < i1 and columns j0 <= j < j1 where it is; it is nothing elsewhere.
    """
    h, w = bell.shape
    yy, yx, xx = wide
    far_y, far_x = np.sqrt(2 * TAIL * yy), np.sqrt(2 * TAIL * xx)
    i0, i1 = max(int(np.ceil(cy - far_y)), 0), min(int(np.floor(cy + far_y)) + 1, h)
    j0, j1 = max(int(np.ceil(cx - far_x)), 0), min(int(np.floor(cx + far_x)) + 1, w)
    if i1 <= i0 or j1 <= j0:
        return 0, 0, 0, 0
    det = yy * xx - yx * yx
    norm = weight / (2 * np.pi * np.sqrt(det))
    iyy, iyx, ixx = xx / det, -yx / det, yy / det
    middle = min(max(int(np.rint(cy)), i0), i1 - 1)
    dy = middle - cy
    size = j1 - j0
    first = bell[middle, j0:j1]
    for j in range(size):
        dx = j0 + j - cx
        first[j] = norm * np.exp(-0.5 * (iyy * dy * dy + 2 * iyx * dy * dx + ixx * dx * dx))
    tilt, factor = np.exp(-iyx), np.float32(np.exp(-iyy))
    ratio = np.empty(size, np.float32)
    for step in (1, -1):
        change = np.exp(-iyy * (step * dy + 0.5) - step * iyx * (j0 - cx))
        for j in range(size):
            ratio[j] = change
            change = change * tilt if step > 0 else change / tilt
        i = middle + step
        while i0 <= i < i1:
            now, before = bell[i, j0:j1], bell[i - step, j0:j1]
            for j in range(size):
                now[j] = before[j] * ratio[j]
            for j in range(size):
                ratio[j] *= factor
            i += step
    return i0, i1, j0, j1


@kernel
def render(
    y0: int,
    x0: int,
    shape: Array,
    amplitudes: Array,
    widths: Array,
    psf_weights: Array,
    psf_covariances: Array,
    templates: Array,
    slopes: Array,
) -> None:
    """The Gaussians of one source, and how its light changes with its shape.

    Parameters
    ----------
    y0, x0 : first pixel of the box.
    shape : (5,) centre and covariance.
    amplitudes : (C, K) of the Gaussians.
    templates : (C, K, h, w) float32, written over: each Gaussian, of unit flux; or (C, 1, h, w):
        the source, of these amplitudes.
    slopes : (C, 5, h, w) float32, written over; of size zero when not wanted.
    """
    bands, count, h, w = templates.shape
    templates[:] = 0
    slopes[:] = 0
    bell = np.empty((h, w), np.float32)
    cy, cx = shape[0] - y0, shape[1] - x0
    for c in range(bands):
        for k in range(len(widths)):
            amplitude = amplitudes[c, k]
            for m in range(psf_weights.shape[1]):
                weight = psf_weights[c, m] * (1.0 if count > 1 else amplitude)
                if weight <= 0:
                    continue
                wide = covariance(shape, widths[k], k == ROUND, psf_covariances[c, m])
                inside = _bell(cy, cx, wide, weight, bell)
                _add_bell(bell, inside, templates[c, k if count > 1 else 0])
                if slopes.size > 0 and amplitude > 0:
                    _add_slopes(bell, inside, cy, cx, wide, amplitude, widths[k] * widths[k],
                                k == ROUND, slopes[c])  # fmt: skip


def light_of(
    y0: int,
    x0: int,
    shape: Array,
    amplitudes: Array,
    widths: Array,
    psf_weights: Array,
    psf_covariances: Array,
    light: Array,
) -> None:
    """One source, in counts, written over `light` (C, h, w) float32; see `render`."""
    none = np.empty((len(light), SHAPE, 0, 0), np.float32)
    render(y0, x0, shape, amplitudes, widths, psf_weights, psf_covariances, light[:, None], none)


@inlined
def _add_bell(bell: Array, inside: tuple[int, int, int, int], out: Array) -> None:
    i0, i1, j0, j1 = inside
    for i in range(i0, i1):
        line, into = bell[i, j0:j1], out[i, j0:j1]
        for j in range(j1 - j0):
            into[j] += line[j]


@inlined
def _add_slopes(
    bell: Array,
    inside: tuple[int, int, int, int],
    cy: float,
    cx: float,
    wide: tuple[float, ...],
    amplitude: float,
    ww: float,
    is_round: bool,
    out: Array,
) -> None:
    """Derivatives of one Gaussian of a source by its shape, added to `out` (5, h, w)."""
    i0, i1, j0, j1 = inside
    yy, yx, xx = wide
    det = yy * xx - yx * yx
    iyy, iyx, ixx = np.float32(xx / det), np.float32(-yx / det), np.float32(yy / det)
    a = np.float32(amplitude)
    half, across = np.float32(0.5 * ww), np.float32(0.0 if is_round else ww)
    # A round one changes with the mean of yy and xx.
    own = np.float32(0.5 if is_round else 1.0)
    other = np.float32(1) - own
    for i in range(i0, i1):
        dy = np.float32(i - cy)
        line = bell[i, j0:j1]
        by_y, by_x = out[0, i, j0:j1], out[1, i, j0:j1]
        by_yy, by_yx, by_xx = out[2, i, j0:j1], out[3, i, j0:j1], out[4, i, j0:j1]
        for j in range(j1 - j0):
            dx = np.float32(j) - np.float32(cx - j0)
            g = a * line[j]
            u = iyy * dy + iyx * dx
            v = iyx * dy + ixx * dx
            by_y[j] += g * u
            by_x[j] += g * v
            along_y, along_x = half * g * (u * u - iyy), half * g * (v * v - ixx)
            by_yy[j] += own * along_y + other * along_x
            by_yx[j] += across * g * (u * v - iyx)
            by_xx[j] += own * along_x + other * along_y


@kernel
def equations(
    templates: Array, slopes: Array, data: Array, weights: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Normal equations of one source: of its amplitudes by band, of its shape, and across.

    Parameters
    ----------
    templates : (C, K, h, w), slopes : (C, 5, h, w), or of size zero; data, weights : (C, h, w).
        All float32 and contiguous.

    Returns
    -------
    (C, K, K), (C, K), (C, K, 5), (5, 5), (5,) float64.
    """
    bands, count, h, w = templates.shape
    size = h * w
    moving = slopes.size > 0
    own, pull = np.empty((bands, count, count)), np.empty((bands, count))
    across = np.empty((bands, count, SHAPE))
    curvature, slope = np.empty((SHAPE, SHAPE)), np.empty(SHAPE)
    for p in range(SHAPE):
        slope[p] = 0.0
        for q in range(SHAPE):
            curvature[p, q] = 0.0
    weighted = np.empty(size, np.float32)
    for c in range(bands):
        flat = templates[c].reshape(count, size)
        values, weight = data[c].reshape(size), weights[c].reshape(size)
        moves = slopes[c].reshape(SHAPE, size if moving else 0)
        for k in range(count):
            for j in range(size):
                weighted[j] = flat[k, j] * weight[j]
            pull[c, k] = dot(weighted, values)
            for n in range(k, count):
                own[c, k, n] = own[c, n, k] = dot(weighted, flat[n])
            if moving:
                for p in range(SHAPE):
                    across[c, k, p] = dot(weighted, moves[p])
        if moving:
            for p in range(SHAPE):
                for j in range(size):
                    weighted[j] = moves[p, j] * weight[j]
                slope[p] += dot(weighted, values)
                for q in range(p, SHAPE):
                    curvature[p, q] += dot(weighted, moves[q])
    for p in range(SHAPE):
        for q in range(p):
            curvature[p, q] = curvature[q, p]
    return own, pull, across, curvature, slope


@kernel
def added(image: Array, templates: Array, amplitudes: Array, sign: float) -> Array:
    """(C, h, w) with the source."""
    bands, count, h, w = templates.shape
    out = np.empty((bands, h, w), np.float32)
    for c in range(bands):
        for i in range(h):
            line, into = image[c, i], out[c, i]
            for j in range(w):
                into[j] = line[j]
        for k in range(count):
            a = np.float32(sign * amplitudes[c, k])
            if a != 0:
                for i in range(h):
                    line, into = templates[c, k, i], out[c, i]
                    for j in range(w):
                        into[j] += a * line[j]
    return out
