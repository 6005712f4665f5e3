"""Fitting a tile's sources one by one, as the Gaussians of `gaussians`.

Each is fitted to what all others leave: the amplitudes of its Gaussians by non-negative
least squares, its shape by damped Gauss-Newton steps that the amplitudes follow. All
functions are compiled and release the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.config import FitConfig
from astrolabel.core.numerics import (
    PIECE,
    among,
    inlined,
    kernel,
    non_negative,
    positive,
    solve,
    summing,
)
from astrolabel.detect.mog import SHAPE, added, covariances, equations, light_of, render

Array = NDArray[Any]

OFFSET, VARIANCE, RATIO, FAINTEST, LEAST, MOST, DAMPING, GAIN = range(8)
"""Places of a `FitConfig`'s numbers in what compiled functions are given."""


def limits(config: FitConfig) -> NDArray[np.float64]:
    """(8,) the numbers of a configuration, for compiled functions."""
    return np.array(
        [config.max_offset_px, config.min_variance_px2, config.min_axis_ratio,
         config.faintest_sigma, config.min_radius_px, config.max_radius_px, config.damping,
         config.least_gain]
    )  # fmt: skip


@inlined
def best_amplitudes(own: Array, pull: Array, start: Array, least_gain: float) -> Array:
    """(C, K) non-negative amplitudes of each band; see `non_negative`."""
    out = np.empty(pull.shape)
    for c in range(len(pull)):
        best = non_negative(own[c], pull[c], start[c], least_gain)
        for k in range(best.size):
            out[c, k] = best[k]
    return out


@inlined
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
    matrix, step = np.empty((SHAPE, SHAPE)), np.empty((1, SHAPE))
    for p in range(SHAPE):
        step[0, p] = slope[p]
        for q in range(SHAPE):
            matrix[p, q] = curvature[p, q]
    follow = np.zeros((bands, count, SHAPE))
    for c in range(bands):
        at = positive(amplitudes[c])
        solved = np.empty((SHAPE, at.size))
        for p in range(SHAPE):
            for n in range(at.size):
                solved[p, n] = across[c, at[n], p]
                step[0, p] -= amplitudes[c, at[n]] * solved[p, n]
        solve(among(own[c], at), solved)
        for p in range(SHAPE):
            for n in range(at.size):
                follow[c, at[n], p] = solved[p, n]
                for q in range(SHAPE):
                    matrix[q, p] -= across[c, at[n], q] * solved[p, n]
    for p in range(SHAPE):
        # A prior of the size of the steps that are allowed, so that what the data do not
        # decide (the ellipse of a point) stays where it is.
        allowed = 0.5 if p < 2 else 0.5 * size_px2
        matrix[p, p] += damping * curvature[p, p] + 1 / allowed**2
    solve(matrix, step)
    return step[0], follow


@inlined
def _moved(shape: Array, part: float, step: Array, peak: Array, limits: Array) -> Array:
    """The shape after part of a step, within its bounds."""
    out, change = np.empty(SHAPE), np.empty(SHAPE)
    for p in range(SHAPE):
        change[p] = part * step[p]
    for a in range(2):
        out[a] = shape[a] + min(max(change[a], -0.5), 0.5)
    away = np.hypot(out[0] - peak[0], out[1] - peak[1])
    if away > limits[OFFSET]:
        for a in range(2):
            out[a] = peak[a] + (out[a] - peak[a]) * limits[OFFSET] / away
    limit = 0.5 * (shape[2] + shape[4])  # no more than half as large again in one step
    most = max(abs(change[2]), abs(change[3]), abs(change[4]), 1e-300)
    scale = min(1.0, limit / most)
    yy, xx = shape[2] + scale * change[2], shape[4] + scale * change[4]
    yx = shape[3] + scale * change[3]
    middle, half = 0.5 * (yy + xx), np.hypot(0.5 * (yy - xx), yx)
    large = max(middle + half, limits[VARIANCE])
    small = max(middle - half, limits[VARIANCE], limits[RATIO] ** 2 * large)
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)
    cos, sin = np.cos(angle), np.sin(angle)
    out[2] = large * cos * cos + small * sin * sin
    out[3] = (large - small) * cos * sin
    out[4] = large * sin * sin + small * cos * cos
    return out


@inlined
def _followed(amplitudes: Array, follow: Array, new: Array, old: Array) -> Array:
    """The amplitudes for a new shape."""
    out = np.empty(amplitudes.shape)
    for c in range(amplitudes.shape[0]):
        for k in range(amplitudes.shape[1]):
            out[c, k] = amplitudes[c, k]
            for p in range(SHAPE):
                out[c, k] -= follow[c, k, p] * (new[p] - old[p])
            out[c, k] = max(out[c, k], 0.0)
    return out


@inlined
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
    wide = covariances(shape, widths, psf_covariances)
    for c in range(amplitudes.shape[0]):
        for k in range(amplitudes.shape[1]):
            if amplitudes[c, k] <= 0:
                continue
            for m in range(psf_weights.shape[1]):
                yy, yx, xx = wide[c, k, m, 0], wide[c, k, m, 1], wide[c, k, m, 2]
                top = amplitudes[c, k] * psf_weights[c, m]
                top /= 2 * np.pi * np.sqrt(max(yy * xx - yx * yx, 1e-12))
                if top > limits[FAINTEST] * noise[c]:
                    far = 2 * np.log(top / (limits[FAINTEST] * noise[c]))
                    out = max(out, np.sqrt(far * max(yy, xx)))
    return int(min(np.ceil(out), limits[MOST]))


def one_pass(
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
        moving = move and bool(amplitudes[n].any())
        _fit(n, moving, residual, weights, noise, peaks, shapes, amplitudes, radii, widths,
             psf_weights, psf_covariances, limits)  # fmt: skip


@kernel
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
    """Fit source `n` to what all others leave, in place; see `one_pass`."""
    bands, height, width = residual.shape
    cy, cx, r = int(np.rint(shapes[n, 0])), int(np.rint(shapes[n, 1])), radii[n]
    y0, y1 = max(cy - r, 0), min(cy + r + 1, height)
    x0, x1 = max(cx - r, 0), min(cx + r + 1, width)
    if y1 <= y0 or x1 <= x0:
        return
    h, w = y1 - y0, x1 - x0
    templates = np.empty((bands, len(widths), h, w), np.float32)
    slopes = np.empty((bands, SHAPE, h if move else 0, w if move else 0), np.float32)
    render(y0, x0, shapes[n], amplitudes[n], widths, psf_weights, psf_covariances,
           templates, slopes)  # fmt: skip
    weight = _cut(weights, y0, x0, h, w)
    data = added(_cut(residual, y0, x0, h, w), templates, amplitudes[n], 1.0)
    own, pull, across, curvature, slope = equations(templates, slopes, data, weight)
    best, shape = best_amplitudes(own, pull, amplitudes[n], limits[GAIN]), shapes[n]
    left = added(data, templates, best, -1.0)
    if move:
        size = 0.5 * (shape[2] + shape[4])
        step, follow = _shape_step(own, across, curvature, slope, best, size, limits[DAMPING])
        chi2 = _chi2(left, weight)
        trial = np.empty((bands, h, w), np.float32)
        for part in (1.0, 0.3):
            moved = _moved(shape, part, step, peaks[n], limits)
            changed = _followed(best, follow, moved, shape)
            light_of(y0, x0, moved, changed, widths, psf_weights, psf_covariances, trial)
            _subtract(data, trial, trial)
            if _chi2(trial, weight) < chi2:
                shape, best, left = moved, changed, trial
                break
    for p in range(SHAPE):
        shapes[n, p] = shape[p]
    for c in range(bands):
        for k in range(len(widths)):
            amplitudes[n, c, k] = best[c, k]
    wanted = _radius(shape, best, noise, widths, psf_weights, psf_covariances, limits)
    ny, nx = int(np.rint(shape[0])), int(np.rint(shape[1]))
    if wanted == r and ny == cy and nx == cx:
        _paste(left, residual, y0, x0)
        return
    _paste(data, residual, y0, x0)
    radii[n] = wanted
    y0, y1 = max(ny - wanted, 0), min(ny + wanted + 1, height)
    x0, x1 = max(nx - wanted, 0), min(nx + wanted + 1, width)
    if y1 > y0 and x1 > x0:
        light = np.empty((bands, y1 - y0, x1 - x0), np.float32)
        light_of(y0, x0, shape, best, widths, psf_weights, psf_covariances, light)
        around = _cut(residual, y0, x0, y1 - y0, x1 - x0)
        _subtract(around, light, light)
        _paste(light, residual, y0, x0)


@kernel
def _cut(image: Array, y0: int, x0: int, h: int, w: int) -> Array:
    """A copy of a box of (C, H, W) float32."""
    out = np.empty((image.shape[0], h, w), np.float32)
    for c in range(image.shape[0]):
        for i in range(h):
            line, into = image[c, y0 + i, x0 : x0 + w], out[c, i]
            for j in range(w):
                into[j] = line[j]
    return out


@kernel
def _paste(part: Array, image: Array, y0: int, x0: int) -> None:
    """A box written over (C, H, W)."""
    bands, h, w = part.shape
    for c in range(bands):
        for i in range(h):
            line, into = part[c, i], image[c, y0 + i, x0 : x0 + w]
            for j in range(w):
                into[j] = line[j]


@kernel
def _subtract(a: Array, b: Array, out: Array) -> None:
    """``a - b`` of (C, h, w), into `out`."""
    for c in range(a.shape[0]):
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                out[c, i, j] = a[c, i, j] - b[c, i, j]


@summing
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
