"""Normal equations of the components of a blend, of their fluxes and shapes together; compiled.

A component's parameters are its flux in each band, then those of its shape, which all bands
share. Components come one after the other in flat arrays: component n has ``counts[n]`` images
(the template of unit flux, then its derivatives by the shape) of all bands in the box
``boxes[n] = (y0, x0, height, width)``, float32 from ``starts[n]`` on.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from astrolabel.core.numerics import dot

Array = NDArray[Any]


@numba.njit(cache=True, nogil=True)
def places(counts: Array, bands: int) -> Array:
    """(N + 1,) where each component's parameters begin."""
    at = np.zeros(counts.size + 1, np.int64)
    for n in range(counts.size):
        at[n + 1] = at[n] + bands + counts[n] - 1
    return at


@numba.njit(cache=True, nogil=True)
def _overlap(a: Array, b: Array) -> tuple[int, int, int, int]:
    """Rows y0 <= y < y1 and columns x0 <= x < x1 that two boxes share; none where y1 <= y0."""
    y0, y1 = max(a[0], b[0]), min(a[0] + a[2], b[0] + b[2])
    x0, x1 = max(a[1], b[1]), min(a[1] + a[3], b[1] + b[3])
    return (y0, y1, x0, x1) if x1 > x0 else (y0, y0, x0, x0)


@numba.njit(cache=True, nogil=True)
def _cut(
    flat: Array, start: int, box: Array, bands: int, band: int, part: tuple[int, ...], out: Array
) -> None:
    """One band of a component's images where `part` is, into (P, pixels)."""
    y0, y1, x0, x1 = part
    plane = box[2] * box[3]
    # Unsigned, for an index that might be negative is not taken several at a time.
    width, stride = np.uint64(x1 - x0), np.uint64(box[3])
    for p in range(out.shape[0]):
        first = start + (p * bands + band) * plane + (y0 - box[0]) * box[3] + x0 - box[1]
        row, k = np.uint64(first), np.uint64(0)
        line = out[p]
        for _ in range(y1 - y0):
            for j in range(width):
                line[k + j] = flat[row + j]
            row += stride
            k += width


@numba.njit(cache=True, nogil=True)
def _scale(images: Array, factor: Array) -> None:
    for p in range(images.shape[0]):
        line = images[p]
        for j in range(factor.size):
            line[j] *= factor[j]


@numba.njit(cache=True, nogil=True)
def normal_equations(
    flat: Array,
    starts: Array,
    counts: Array,
    boxes: Array,
    fluxes: Array,
    residual: Array,
    weights: Array,
) -> tuple[Array, Array]:
    """Of all parameters: the matrix and the vector, float64.

    Parameters
    ----------
    flat, starts, counts, boxes : the components, see the module.
    fluxes : (N, C) float64.
    residual, weights : (C, H, W) float32, image less all models; 1/variance.
    """
    bands = weights.shape[0]
    at = places(counts, bands)
    matrix, vector = np.zeros((at[-1], at[-1])), np.zeros(at[-1])
    for n in range(counts.size):
        for m in range(n + 1):
            part = _overlap(boxes[n], boxes[m])
            y0, y1, x0, x1 = part
            size = (y1 - y0) * (x1 - x0)
            if size <= 0:
                continue
            left = np.empty((counts[n], size), np.float32)
            right = np.empty((counts[m], size), np.float32)
            for c in range(bands):
                weight = weights[c, y0:y1, x0:x1].copy().reshape(size)
                _cut(flat, starts[n], boxes[n], bands, c, part, left)
                _scale(left, weight)
                _cut(flat, starts[m], boxes[m], bands, c, part, right)
                block = matrix[at[n] : at[n + 1], at[m] : at[m + 1]]
                _add_products(left, right, c, fluxes[n], fluxes[m], n == m, block)
                if n == m:
                    rest = residual[c, y0:y1, x0:x1].copy().reshape(size)
                    vector[at[n] + c] = dot(left[0], rest)
                    for p in range(1, counts[n]):
                        vector[at[n] + bands + p - 1] += fluxes[n, c] * dot(left[p], rest)
    _mirror(matrix)
    return matrix, vector


@numba.njit(cache=True, nogil=True)
def _add_products(
    left: Array, right: Array, c: int, a: Array, b: Array, lower: bool, out: Array
) -> None:
    """One band's share of the equations of two components; of one only the lower half."""
    bands = a.size
    out[c, c] += dot(left[0], right[0])
    for p in range(1, left.shape[0]):
        row = bands + p - 1
        out[row, c] += a[c] * dot(left[p], right[0])
        for q in range(1, p + 1 if lower else right.shape[0]):
            out[row, bands + q - 1] += a[c] * b[c] * dot(left[p], right[q])
    if not lower:
        for q in range(1, right.shape[0]):
            out[c, bands + q - 1] += b[c] * dot(left[0], right[q])


@numba.njit(cache=True, nogil=True)
def _mirror(matrix: Array) -> None:
    """The upper half of a symmetric matrix from its lower one."""
    for i in range(matrix.shape[0]):
        for j in range(i):
            matrix[j, i] = matrix[i, j]


@numba.njit(cache=True, nogil=True)
def shared_noise(
    flat: Array,
    starts: Array,
    counts: Array,
    boxes: Array,
    fluxes: Array,
    weights: Array,
    common: Array,
) -> Array:
    """What noise common to the bands adds to the covariance of the `normal_equations`.

    Parameters
    ----------
    common : (C, C) float64 correlation of the bands' noise, zero on the diagonal.
    """
    bands = weights.shape[0]
    at = places(counts, bands)
    out = np.zeros((at[-1], at[-1]))
    if not common.any():
        return out
    for n in range(counts.size):
        for m in range(n + 1):
            part = _overlap(boxes[n], boxes[m])
            y0, y1, x0, x1 = part
            size = (y1 - y0) * (x1 - x0)
            if size <= 0:
                continue
            left = np.empty((bands, counts[n], size), np.float32)
            right = np.empty((bands, counts[m], size), np.float32)
            for c in range(bands):
                root = np.sqrt(weights[c, y0:y1, x0:x1]).reshape(size)
                _cut(flat, starts[n], boxes[n], bands, c, part, left[c])
                _scale(left[c], root)
                _cut(flat, starts[m], boxes[m], bands, c, part, right[c])
                _scale(right[c], root)
            block = out[at[n] : at[n + 1], at[m] : at[m + 1]]
            _across_bands(left, right, fluxes[n], fluxes[m], common, block)
    _mirror(out)
    return out


@numba.njit(cache=True, nogil=True)
def _across_bands(left: Array, right: Array, a: Array, b: Array, common: Array, out: Array) -> None:
    """The share of two components: of every pair of bands, by what these have in common."""
    bands = a.size
    for c in range(bands):
        for d in range(bands):
            out[c, d] = common[c, d] * dot(left[c, 0], right[d, 0])
    for q in range(1, right.shape[1]):
        column = bands + q - 1
        for c in range(bands):
            mixed = _mixed(right[:, q], common[c] * b)
            out[c, column] = dot(left[c, 0], mixed)
            for p in range(1, left.shape[1]):
                out[bands + p - 1, column] += a[c] * dot(left[c, p], mixed)
    for p in range(1, left.shape[1]):
        for d in range(bands):
            out[bands + p - 1, d] = dot(_mixed(left[:, p], common[d] * a), right[d, 0])


@numba.njit(cache=True, nogil=True)
def _mixed(images: Array, factors: Array) -> Array:
    """(pixels,) float32: images of all bands added up."""
    out = np.zeros(images.shape[1], np.float32)
    for c in range(factors.size):
        factor, line = np.float32(factors[c]), images[c]
        for j in range(out.size):
            out[j] += factor * line[j]
    return out


@numba.njit(cache=True, nogil=True)
def damped_step(
    matrix: Array, vector: Array, bands: int, precision: Array, away: Array, damping: float
) -> Array:
    """Step of one component's shape that its fluxes follow.

    Parameters
    ----------
    matrix, vector : of one component's `normal_equations`; changed.
    precision, away : of the priors of the shape, and how far it is from them; empty without.
    damping : in units of the curvature.
    """
    for p in range(precision.size):
        matrix[bands + p, bands + p] += precision[p]
        vector[bands + p] -= precision[p] * away[p]
    for p in range(bands, len(vector)):
        matrix[p, p] *= 1 + damping
    ridge = 1e-9 * np.trace(matrix) / len(matrix) + 1e-30
    for p in range(len(vector)):
        matrix[p, p] += ridge
    return np.linalg.solve(matrix, vector)[bands:]
