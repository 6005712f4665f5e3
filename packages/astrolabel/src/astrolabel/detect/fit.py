"""Fitting a tile's sources one by one, as the Gaussians of `gaussians`.

Each is fitted to what all others leave: the amplitudes of its Gaussians by non-negative
least squares, its shape by damped Gauss-Newton steps that the amplitudes follow. All
functions are compiled and release the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from astrolabel.core.config import FitConfig
from astrolabel.core.numerics import PIECE, SUMS
from astrolabel.detect.mog import ROUND, SHAPE, add, equations, light_of, render

Array = NDArray[Any]

RIDGE = 1e-6
"""Part of its own curvature that is added to every amplitude's: images of neighbouring widths
are nearly the same."""
OFFSET, VARIANCE, RATIO, FAINTEST, LEAST, MOST, DAMPING, GAIN = range(8)
"""Places of a `FitConfig`'s numbers in what compiled functions are given."""


def limits(config: FitConfig) -> NDArray[np.float64]:
    """(8,) the numbers of a configuration, for compiled functions."""
    return np.array(
        [config.max_offset_px, config.min_variance_px2, config.min_axis_ratio,
         config.faintest_sigma, config.min_radius_px, config.max_radius_px, config.damping,
         config.least_gain]
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solved(matrix: Array, right: Array, chosen: Array, out: Array) -> None:
    """``matrix.x = right`` among the `chosen` unknowns, by Cholesky, into `out` (K,).

    The matrix is positive semi-definite; images of neighbouring widths are nearly the same,
    so its diagonal is taken a millionth larger.
    """
    count = len(chosen)
    lower = np.empty((count, count))
    for i in range(count):
        for j in range(i + 1):
            part = matrix[chosen[i], chosen[j]] * (1 + RIDGE if i == j else 1.0)
            for k in range(j):
                part -= lower[i, k] * lower[j, k]
            if i == j:
                lower[i, i] = np.sqrt(max(part, 1e-300))
            else:
                lower[i, j] = part / lower[j, j]
        part = right[chosen[i]]
        for k in range(i):
            part -= lower[i, k] * out[chosen[k]]
        out[chosen[i]] = part / lower[i, i]
    for i in range(count - 1, -1, -1):
        part = out[chosen[i]]
        for k in range(i + 1, count):
            part -= lower[k, i] * out[chosen[k]]
        out[chosen[i]] = part / lower[i, i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def best_amplitudes(own: Array, pull: Array, start: Array, least_gain: float) -> Array:
    """(C, K) non-negative least squares, by active sets (Lawson & Hanson 1974).

    The set of the positive ones begins as that of `start`, which is mostly right.
    """
    bands, count = pull.shape
    out = start.copy()
    solved = np.empty(count)
    for c in range(bands):
        x = out[c]
        x[np.diag(own[c]) <= 0] = 0
        free = x > 0
        added = -1
        for _ in range(5 * count):
            chosen = np.flatnonzero(free)
            _solved(own[c], pull[c], chosen, solved)
            part, first = 1.0, -1
            for n in chosen:
                if solved[n] <= 0 and x[n] < part * (x[n] - solved[n]):
                    part, first = x[n] / (x[n] - solved[n]), int(n)
            for n in chosen:
                x[n] += part * (solved[n] - x[n])
            if first >= 0:
                x[first], free[first] = 0.0, False
                if first == added:  # its gain was a rounding error
                    break
                continue
            gain, best = least_gain, -1
            for k in range(count):
                if free[k] or own[c, k, k] <= 0:
                    continue
                left = pull[c, k] - (own[c, k] * x).sum()
                if left > 0 and left * left / own[c, k, k] > gain:
                    gain, best = left * left / own[c, k, k], k
            if best < 0:
                break
            free[best], added = True, best
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shape_step(
    own: Array,
    across: Array,
    curvature: Array,
    slope: Array,
    amplitudes: Array,
    size_px2: float,
    damping: float,
) -> tuple[Array, Array]:
    """Gauss-Newton step of the shape, and how the amplitudes follow it (C, K, 5)."""
    bands, count = amplitudes.shape
    matrix = curvature.copy()
    right = slope.copy()
    follow = np.zeros((bands, count, SHAPE))
    for c in range(bands):
        active = np.flatnonzero(amplitudes[c] > 0)
        size = len(active)
        if size == 0:
            continue
        part = np.zeros((size, size))
        side = np.zeros((size, SHAPE))
        for a in range(size):
            for p in range(SHAPE):
                side[a, p] = across[c, active[a], p]
                right[p] -= amplitudes[c, active[a]] * side[a, p]
            for b in range(size):
                part[a, b] = own[c, active[a], active[b]]
            part[a, a] *= 1 + 1e-6  # neighbouring widths are nearly the same image
        solved = np.linalg.solve(part, side)
        matrix -= side.T @ solved
        for a in range(size):
            follow[c, active[a]] = solved[a]
    for p in range(SHAPE):
        # A prior of the size of the steps that are allowed, so that what the data do not
        # decide (the ellipse of a point) stays where it is.
        allowed = 0.5 if p < 2 else 0.5 * size_px2
        matrix[p, p] += damping * curvature[p, p] + 1 / allowed**2
    return np.linalg.solve(matrix, right), follow


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _moved(shape: Array, step: Array, peak: Array, limits: Array) -> Array:
    """The shape after a step, within its bounds."""
    out = shape.copy()
    for a in range(2):
        out[a] += min(max(step[a], -0.5), 0.5)
    away = np.hypot(out[0] - peak[0], out[1] - peak[1])
    if away > limits[OFFSET]:
        for a in range(2):
            out[a] = peak[a] + (out[a] - peak[a]) * limits[OFFSET] / away
    limit = 0.5 * (shape[2] + shape[4])  # no more than half as large again in one step
    most = max(abs(step[2]), abs(step[3]), abs(step[4]), 1e-300)
    scale = min(1.0, limit / most)
    yy, yx, xx = shape[2] + scale * step[2], shape[3] + scale * step[3], shape[4] + scale * step[4]
    middle, half = 0.5 * (yy + xx), np.hypot(0.5 * (yy - xx), yx)
    large = max(middle + half, limits[VARIANCE])
    small = max(middle - half, limits[VARIANCE], limits[RATIO] ** 2 * large)
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)
    cos, sin = np.cos(angle), np.sin(angle)
    out[2] = large * cos * cos + small * sin * sin
    out[3] = (large - small) * cos * sin
    out[4] = large * sin * sin + small * cos * cos
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _followed(amplitudes: Array, follow: Array, step: Array) -> Array:
    out = amplitudes.copy()
    for c in range(out.shape[0]):
        for k in range(out.shape[1]):
            for p in range(SHAPE):
                out[c, k] -= follow[c, k, p] * step[p]
            out[c, k] = max(out[c, k], 0.0)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _radius(
    shape: Array,
    amplitudes: Array,
    noise: Array,
    widths: Array,
    psf_weights: Array,
    psf_covariances: Array,
    limits: Array,
) -> int:
    """Half side of the box that holds a source's light."""
    out = limits[LEAST]
    for c in range(amplitudes.shape[0]):
        for k in range(amplitudes.shape[1]):
            if amplitudes[c, k] <= 0:
                continue
            ww = widths[k] * widths[k]
            for m in range(psf_weights.shape[1]):
                yy, yx, xx = shape[2], shape[3], shape[4]
                if k == ROUND:
                    yy = xx = 0.5 * (yy + xx)
                    yx = 0.0
                yy = ww * yy + psf_covariances[c, m, 0]
                yx = ww * yx + psf_covariances[c, m, 1]
                xx = ww * xx + psf_covariances[c, m, 2]
                top = amplitudes[c, k] * psf_weights[c, m]
                top /= 2 * np.pi * np.sqrt(max(yy * xx - yx * yx, 1e-12))
                if top > limits[FAINTEST] * noise[c]:
                    far = 2 * np.log(top / (limits[FAINTEST] * noise[c]))
                    out = max(out, np.sqrt(far * max(yy, xx)))
    return int(min(np.ceil(out), limits[MOST]))


def sweep(
    order: Array,
    move: bool,
    residual: Array,
    weights: Array,
    noise: Array,
    peaks: Array,
    shapes: Array,
    amplitudes: Array,
    radii: Array,
    widths: Array,
    psf_weights: Array,
    psf_covariances: Array,
    limits: Array,
) -> None:
    """Fit the sources in `order`, each to what all others leave, in place.

    Parameters
    ----------
    residual, weights : (C, H, W) float32, image less all models; 1/variance.
    noise : (C,) typical sigma of a pixel.
    peaks, shapes, amplitudes, radii : (N, 2), (N, 5), (N, C, K) float64, (N,) int64.
    """
    for n in order:  # not compiled: that would take the longest part a second time
        _fit(n, move, residual, weights, noise, peaks, shapes, amplitudes, radii, widths,
             psf_weights, psf_covariances, limits)  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fit(
    n: int,
    move: bool,
    residual: Array,
    weights: Array,
    noise: Array,
    peaks: Array,
    shapes: Array,
    amplitudes: Array,
    radii: Array,
    widths: Array,
    psf_weights: Array,
    psf_covariances: Array,
    limits: Array,
) -> None:
    """Fit source `n` to what all others leave, in place; see `sweep`."""
    bands, height, width = residual.shape
    cy, cx, r = int(np.rint(shapes[n, 0])), int(np.rint(shapes[n, 1])), radii[n]
    y0, y1 = max(cy - r, 0), min(cy + r + 1, height)
    x0, x1 = max(cx - r, 0), min(cx + r + 1, width)
    if y1 <= y0 or x1 <= x0:
        return
    h, w = y1 - y0, x1 - x0
    templates = np.empty((bands, len(widths), h, w), np.float32)
    moving = move and amplitudes[n].max() > 0
    slopes = np.empty((bands, SHAPE, h, w) if moving else (bands, SHAPE, 0, 0), np.float32)
    render(y0, x0, shapes[n], amplitudes[n], widths, psf_weights, psf_covariances,
           templates, slopes)  # fmt: skip
    data = residual[:, y0:y1, x0:x1].copy()
    weight = weights[:, y0:y1, x0:x1].copy()
    add(data, templates, amplitudes[n], 1.0)
    own, pull, across, curvature, slope = equations(templates, slopes, data, weight)
    best = best_amplitudes(own, pull, amplitudes[n], limits[GAIN])
    left = data.copy()
    add(left, templates, best, -1.0)
    if moving:
        size = 0.5 * (shapes[n, 2] + shapes[n, 4])
        step, follow = _shape_step(own, across, curvature, slope, best, size, limits[DAMPING])
        chi2 = _chi2(left, weight)
        trial = np.empty((bands, h, w), np.float32)
        for part in (1.0, 0.3):
            shape = _moved(shapes[n], part * step, peaks[n], limits)
            changed = _followed(best, follow, shape - shapes[n])
            light_of(y0, x0, shape, changed, widths, psf_weights, psf_covariances, trial)
            np.subtract(data, trial, trial)
            if _chi2(trial, weight) < chi2:
                shapes[n], best, left = shape, changed, trial
                break
    amplitudes[n] = best
    wanted = _radius(shapes[n], best, noise, widths, psf_weights, psf_covariances, limits)
    ny, nx = int(np.rint(shapes[n, 0])), int(np.rint(shapes[n, 1]))
    if wanted == r and ny == cy and nx == cx:
        residual[:, y0:y1, x0:x1] = left
        return
    residual[:, y0:y1, x0:x1] = data
    radii[n] = wanted
    y0, y1 = max(ny - wanted, 0), min(ny + wanted + 1, height)
    x0, x1 = max(nx - wanted, 0), min(nx + wanted + 1, width)
    if y1 > y0 and x1 > x0:
        light = np.empty((bands, y1 - y0, x1 - x0), np.float32)
        light_of(y0, x0, shapes[n], best, widths, psf_weights, psf_covariances, light)
        residual[:, y0:y1, x0:x1] -= light


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _chi2(left: Array, weights: Array) -> float:
    """Of a residual (C, h, w) float32."""
    total = 0.0
    a, b = left.reshape(left.size), weights.reshape(left.size)
    for start in range(0, a.size, PIECE):
        x, y = a[start : start + PIECE], b[start : start + PIECE]
        part = np.float32(0)
        for j in range(x.size):
            part += y[j] * x[j] * x[j]
        total += float(part)
    return total
