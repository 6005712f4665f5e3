"""Sources as concentric Gaussians: a stiff model of a whole tile, fitted source by source.

A free shape takes in a faint neighbour as a bulge of its own; a sum of Gaussians of one
centre and one ellipse cannot, and leaves it over. That is all this model is for: its
residual shows what detection missed. The PSF is a sum of Gaussians too, so that a source
is rendered without a transform (mixtures as in Hogg & Lang 2013, arXiv:1210.6563; the
PSFs' are made in `mixtures`). All functions are compiled and release the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTHS = (0.0, 0.5, 0.5, 1.0, 2.0, 4.0)
"""Of the Gaussians in units of the source's ellipse; the first is a point. Steps of two: core
and wings of a galaxy each find one near their own."""
ROUND = 1
"""Index of the one that is round, whatever the ellipse: a bulge in a disc seen edge on."""
SHAPE = 5
"""Parameters that move together in all bands: centre (y, x), covariance (yy, yx, xx)."""
MAX_OFFSET_PX = 1.5
"""Farthest a source moves from its peak."""
MIN_VARIANCE_PX2 = 0.1
"""Smallest variance of an ellipse: a third of a pixel is a point."""
MIN_AXIS_RATIO = 0.2
"""Of an ellipse: the thickness of a disc seen edge on. What is thinner is two sources."""
FAINTEST_SIGMA = 0.2
"""A source is rendered to where a pixel's light is below this many sigma of the noise."""
RADII_PX = (8, 100)
"""Least and largest radius of a source's box: two seeing discs; what takes milliseconds."""
DAMPING = 0.05
"""Of the shape's steps, as a part of their curvature."""
TAIL = 20.0
"""A Gaussian is not evaluated where its exponent is below minus this."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
    """One source of unit amplitudes, and how its light changes with its shape.

    Parameters
    ----------
    y0, x0 : first pixel of the box.
    shape : (5,) centre and covariance.
    amplitudes : (C, K) of the Gaussians; only the slopes depend on them.
    templates : (C, K, h, w) float32, written over.
    slopes : (C, 5, h, w) float32, written over; of size zero when not wanted.
    """
    bands, count, h, w = templates.shape
    templates[:] = 0
    slopes[:] = 0
    wanted = slopes.size > 0
    for c in range(bands):
        for k in range(count):
            ww = widths[k] * widths[k]
            a = amplitudes[c, k]
            for m in range(psf_weights.shape[1]):
                p = psf_weights[c, m]
                if p == 0:
                    continue
                yy, yx, xx = shape[2], shape[3], shape[4]
                if k == ROUND:
                    yy = xx = 0.5 * (yy + xx)
                    yx = 0.0
                yy = ww * yy + psf_covariances[c, m, 0]
                yx = ww * yx + psf_covariances[c, m, 1]
                xx = ww * xx + psf_covariances[c, m, 2]
                det = yy * xx - yx * yx
                iyy, iyx, ixx = xx / det, -yx / det, yy / det
                norm = p / (2 * np.pi * np.sqrt(det))
                for i in range(h):
                    dy = y0 + i - shape[0]
                    left = 2 * TAIL - dy * dy / yy
                    if left <= 0:
                        continue
                    # Along a row the Gaussian is one of this middle and width.
                    mid = shape[1] + yx / yy * dy
                    spread = np.sqrt(left * det / yy)
                    j0 = max(int(np.ceil(mid - spread)) - x0, 0)
                    j1 = min(int(np.floor(mid + spread)) - x0 + 1, w)
                    for j in range(j0, j1):
                        dx = x0 + j - shape[1]
                        u = iyy * dy + iyx * dx
                        v = iyx * dy + ixx * dx
                        g = norm * np.exp(-0.5 * (u * dy + v * dx))
                        templates[c, k, i, j] += g
                        if wanted and a > 0:
                            ag = a * g
                            slopes[c, 0, i, j] += ag * u
                            slopes[c, 1, i, j] += ag * v
                            along_y = 0.5 * ww * ag * (u * u - iyy)
                            along_x = 0.5 * ww * ag * (v * v - ixx)
                            if k == ROUND:
                                along_y = along_x = 0.5 * (along_y + along_x)
                            else:
                                slopes[c, 3, i, j] += ww * ag * (u * v - iyx)
                            slopes[c, 2, i, j] += along_y
                            slopes[c, 4, i, j] += along_x


@numba.njit(cache=True, nogil=True, error_model="numpy")
def equations(
    templates: Array, slopes: Array, data: Array, weights: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Normal equations of one source: of its amplitudes by band, of its shape, and across.

    Returns
    -------
    (C, K, K), (C, K), (C, K, 5), (5, 5), (5,) float64.
    """
    bands, count, h, w = templates.shape
    moving = slopes.size > 0
    own = np.zeros((bands, count, count))
    pull = np.zeros((bands, count))
    across = np.zeros((bands, count, SHAPE))
    curvature = np.zeros((SHAPE, SHAPE))
    slope = np.zeros(SHAPE)
    for c in range(bands):
        for k in range(count):
            for i in range(h):
                for j in range(w):
                    t = templates[c, k, i, j] * weights[c, i, j]
                    if t == 0:
                        continue
                    pull[c, k] += t * data[c, i, j]
                    for n in range(k, count):
                        own[c, k, n] += t * templates[c, n, i, j]
                    if moving:
                        for p in range(SHAPE):
                            across[c, k, p] += t * slopes[c, p, i, j]
            for n in range(k):
                own[c, k, n] = own[c, n, k]
        if moving:
            for i in range(h):
                for j in range(w):
                    for p in range(SHAPE):
                        t = slopes[c, p, i, j] * weights[c, i, j]
                        slope[p] += t * data[c, i, j]
                        for q in range(p, SHAPE):
                            curvature[p, q] += t * slopes[c, q, i, j]
    for p in range(SHAPE):
        for q in range(p):
            curvature[p, q] = curvature[q, p]
    return own, pull, across, curvature, slope


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _amplitudes(own: Array, pull: Array, start: Array) -> Array:
    """(C, K) non-negative least squares, by cyclic coordinate descent."""
    out = start.copy()
    bands, count = pull.shape
    for c in range(bands):
        for _ in range(100):
            change, scale = 0.0, 1e-300
            for k in range(count):
                if own[c, k, k] <= 0:
                    out[c, k] = 0
                    continue
                left = pull[c, k]
                for n in range(count):
                    left -= own[c, k, n] * out[c, n]
                new = max(out[c, k] + left / own[c, k, k], 0.0)
                root = np.sqrt(own[c, k, k])
                change = max(change, abs(new - out[c, k]) * root)
                scale = max(scale, new * root)
                out[c, k] = new
            if change <= 1e-3 * scale:
                break
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shape_step(
    own: Array,
    across: Array,
    curvature: Array,
    slope: Array,
    amplitudes: Array,
    size_px2: float,
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
        matrix[p, p] += DAMPING * curvature[p, p] + 1 / allowed**2
    return np.linalg.solve(matrix, right), follow


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _moved(shape: Array, step: Array, peak: Array) -> Array:
    """The shape after a step, within its bounds."""
    out = shape.copy()
    for a in range(2):
        out[a] += min(max(step[a], -0.5), 0.5)
    away = np.hypot(out[0] - peak[0], out[1] - peak[1])
    if away > MAX_OFFSET_PX:
        for a in range(2):
            out[a] = peak[a] + (out[a] - peak[a]) * MAX_OFFSET_PX / away
    limit = 0.5 * (shape[2] + shape[4])  # no more than half as large again in one step
    most = max(abs(step[2]), abs(step[3]), abs(step[4]), 1e-300)
    scale = min(1.0, limit / most)
    yy, yx, xx = shape[2] + scale * step[2], shape[3] + scale * step[3], shape[4] + scale * step[4]
    middle, half = 0.5 * (yy + xx), np.hypot(0.5 * (yy - xx), yx)
    large = max(middle + half, MIN_VARIANCE_PX2)
    small = max(middle - half, MIN_VARIANCE_PX2, MIN_AXIS_RATIO**2 * large)
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
) -> int:
    """Half side of the box that holds a source's light."""
    out = float(RADII_PX[0])
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
                if top > FAINTEST_SIGMA * noise[c]:
                    far = 2 * np.log(top / (FAINTEST_SIGMA * noise[c]))
                    out = max(out, np.sqrt(far * max(yy, xx)))
    return int(min(np.ceil(out), RADII_PX[1]))


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
) -> None:
    """Fit the sources in `order`, each to what all others leave, in place.

    Parameters
    ----------
    residual, weights : (C, H, W) float32, image less all models; 1/variance.
    noise : (C,) typical sigma of a pixel.
    peaks, shapes, amplitudes, radii : (N, 2), (N, 5), (N, C, K) float64, (N,) int64.
    """
    bands, height, width = residual.shape
    count = len(widths)
    for n in order:
        cy, cx = int(np.rint(shapes[n, 0])), int(np.rint(shapes[n, 1]))
        r = radii[n]
        y0, y1 = max(cy - r, 0), min(cy + r + 1, height)
        x0, x1 = max(cx - r, 0), min(cx + r + 1, width)
        if y1 <= y0 or x1 <= x0:
            continue
        templates = np.empty((bands, count, y1 - y0, x1 - x0), np.float32)
        moving = move and amplitudes[n].max() > 0
        sides = (y1 - y0, x1 - x0) if moving else (0, 0)
        slopes = np.empty((bands, SHAPE, *sides), np.float32)
        render(y0, x0, shapes[n], amplitudes[n], widths, psf_weights, psf_covariances,
               templates, slopes)  # fmt: skip
        data = residual[:, y0:y1, x0:x1]  # a view: the source's light is added back in place
        w = weights[:, y0:y1, x0:x1]
        _add(data, templates, amplitudes[n], 1.0)
        own, pull, across, curvature, slope = equations(templates, slopes, data, w)
        best = _amplitudes(own, pull, amplitudes[n])
        if moving:
            size = 0.5 * (shapes[n, 2] + shapes[n, 4])
            step, follow = _shape_step(own, across, curvature, slope, best, size)
            chi2 = _chi2(data, w, templates, best)
            trial = np.empty_like(templates)
            for part in (1.0, 0.3):
                shape = _moved(shapes[n], part * step, peaks[n])
                changed = _followed(best, follow, shape - shapes[n])
                render(y0, x0, shape, changed, widths, psf_weights, psf_covariances, trial,
                       slopes[:, :, :0])  # fmt: skip
                if _chi2(data, w, trial, changed) < chi2:
                    shapes[n], best, templates = shape, changed, trial
                    break
        amplitudes[n] = best
        wanted = _radius(shapes[n], best, noise, widths, psf_weights, psf_covariances)
        ny, nx = int(np.rint(shapes[n, 0])), int(np.rint(shapes[n, 1]))
        if wanted == r and ny == cy and nx == cx:
            _add(data, templates, best, -1.0)
            continue
        radii[n] = wanted
        y0, y1 = max(ny - wanted, 0), min(ny + wanted + 1, height)
        x0, x1 = max(nx - wanted, 0), min(nx + wanted + 1, width)
        templates = np.empty((bands, count, y1 - y0, x1 - x0), np.float32)
        slopes = np.empty((bands, SHAPE, 0, 0), np.float32)
        render(y0, x0, shapes[n], best, widths, psf_weights, psf_covariances, templates, slopes)
        _add(residual[:, y0:y1, x0:x1], templates, best, -1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add(image: Array, templates: Array, amplitudes: Array, sign: float) -> None:
    """The source added to (C, h, w), in place."""
    for c in range(templates.shape[0]):
        for k in range(templates.shape[1]):
            a = np.float32(sign * amplitudes[c, k])
            if a != 0:
                for i in range(templates.shape[2]):
                    for j in range(templates.shape[3]):
                        image[c, i, j] += a * templates[c, k, i, j]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _chi2(data: Array, weights: Array, templates: Array, amplitudes: Array) -> float:
    left = data.copy()
    _add(left, templates, amplitudes, -1.0)
    total = 0.0
    for c in range(left.shape[0]):
        for i in range(left.shape[1]):
            for j in range(left.shape[2]):
                total += weights[c, i, j] * left[c, i, j] * left[c, i, j]
    return total
