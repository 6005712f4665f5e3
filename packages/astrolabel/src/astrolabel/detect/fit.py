"""Fitting a tile's sources one by one, as the Gaussians of `gaussians`.

Each is fitted to what all others leave: the amplitudes of its Gaussians by non-negative
least squares, its shape by damped Gauss-Newton steps that the amplitudes follow. What goes over
pixels is compiled; what puts it together is not, for a compiled function is optimised again in
each that calls it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config import FitConfig
from astrolabel.core.numerics import (
    PIECE,
    among,
    kernel,
    non_negative,
    positive,
    solve,
    summing,
)
from astrolabel.detect.mog import ROUND, SHAPE, added, covariance, equations, light_of, render

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


def best_amplitudes(own: Array, pull: Array, start: Array, least_gain: float) -> Array:
    """(C, K) non-negative amplitudes of each band; see `non_negative`."""
    return np.array([non_negative(*of, least_gain) for of in zip(own, pull, start, strict=True)])


@kernel
def _shape_step(
    own: Array,
    across: Array,
    curvature: Array,
    slope: Array,
    amplitudes: Array,
    shape: Array,
    damping: float,
) -> tuple[Array, Array]:
    """Gauss-Newton step of the shape, and how the amplitudes follow it (C, K, 5)."""
    bands, count = amplitudes.shape
    matrix, step = np.empty((SHAPE, SHAPE)), np.empty((1, SHAPE))
    for p in range(SHAPE):
        step[0, p] = slope[p]
        for q in range(SHAPE):
            matrix[p, q] = curvature[p, q]
    follow = np.empty((bands, count, SHAPE))
    for c in range(bands):
        for k in range(count):
            for p in range(SHAPE):
                follow[c, k, p] = 0.0
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
        allowed = 0.5 if p < 2 else 0.25 * (shape[2] + shape[4])
        matrix[p, p] += damping * curvature[p, p] + 1 / allowed**2
    solve(matrix, step)
    return step[0], follow


@kernel
def _moved(
    shape: Array,
    amplitudes: Array,
    fraction: float,
    step: Array,
    follow: Array,
    peak: Array,
    limits: Array,
) -> tuple[Array, Array]:
    """The shape after part of a step, within its bounds, and the amplitudes that follow it."""
    out, change = np.empty(SHAPE), np.empty(SHAPE)
    for p in range(SHAPE):
        change[p] = fraction * step[p]
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
    followed = np.empty(amplitudes.shape)
    for c in range(amplitudes.shape[0]):
        for k in range(amplitudes.shape[1]):
            now = amplitudes[c, k]
            for p in range(SHAPE):
                now -= follow[c, k, p] * (out[p] - shape[p])
            followed[c, k] = max(now, 0.0)
    return out, followed


@kernel
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
            for m in range(psf_weights.shape[1]):
                yy, yx, xx = covariance(shape, widths[k], k == ROUND, psf_covariances[c, m])
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
    profiles = (widths, psf_weights, psf_covariances)
    frame = Box.of_shape(residual.shape)
    for n in order:
        shape, own = shapes[n], amplitudes[n]
        wanted = Box.around(shape[0], shape[1], radii[n])
        box = wanted & frame
        if box.area == 0:
            continue
        at = (slice(None), *box.slices)
        near, weight = (np.ascontiguousarray(of[at]) for of in (residual, weights))
        data, left, radii[n] = _fit(box.y0, box.x0, move and bool(own.any()), near, weight, noise,
                                    peaks[n], shape, own, profiles, limits)  # fmt: skip
        now = Box.around(shape[0], shape[1], radii[n])
        residual[at] = left if now == wanted else data
        box = now & frame
        if now != wanted and box.area > 0:
            light = np.empty((len(residual), *box.shape), np.float32)
            light_of(box.y0, box.x0, shape, own, *profiles, light)
            residual[:, *box.slices] -= light


def _fit(
    y0: int,
    x0: int,
    move: bool,
    residual: Array,
    weight: Array,
    noise: Array,
    peak: Array,
    shape: Array,
    amplitudes: Array,
    profiles: tuple[Array, Array, Array],
    limits: Array,
) -> tuple[Array, Array, int]:
    """Fit one source to what all others leave: its shape and amplitudes in place.

    Parameters
    ----------
    residual, weight : (C, h, w) float32 of the box that begins at (y0, x0).

    Returns
    -------
    The box without the old model, without the new one, and half the side of the box that the
    new one needs.
    """
    bands, h, w = residual.shape
    templates = np.empty((*amplitudes.shape, h, w), np.float32)
    slopes = np.empty((bands, SHAPE, h if move else 0, w if move else 0), np.float32)
    render(y0, x0, shape, amplitudes, *profiles, templates, slopes)
    data = added(residual, templates, amplitudes, 1.0)
    own, pull, across, curvature, slope = equations(templates, slopes, data, weight)
    best = best_amplitudes(own, pull, amplitudes, limits[GAIN])
    left = added(data, templates, best, -1.0)
    if move:
        step, follow = _shape_step(own, across, curvature, slope, best, shape, limits[DAMPING])
        chi2 = _chi2(left, weight)
        light = np.empty((bands, h, w), np.float32)
        for fraction in (1.0, 0.3):
            moved, changed = _moved(shape, best, fraction, step, follow, peak, limits)
            light_of(y0, x0, moved, changed, *profiles, light)
            trial = data - light
            if _chi2(trial, weight) < chi2:
                shape[:], best, left = moved, changed, trial
                break
    amplitudes[:] = best
    return data, left, _radius(shape, best, noise, *profiles, limits)


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
