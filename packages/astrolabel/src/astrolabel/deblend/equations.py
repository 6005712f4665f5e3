"""Normal equations of the components of a blend, of their fluxes and shapes together.

A component's parameters are its flux in each band, then those of its shape, which all bands
share. Components come one after the other in flat arrays: component n has ``counts[n]`` images
(the template of unit flux, then its derivatives by the shape) of all bands in the box
``boxes[n] = (y0, x0, height, width)``, float32 from ``starts[n]`` on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.numerics import dot, inlined, kernel, part, solve

Array = NDArray[Any]


def places(counts: Array, bands: int) -> Array:
    """(N + 1,) where each component's parameters begin."""
    return np.concatenate([[0], np.cumsum(bands + counts - 1)])


@part
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


@part
def _flat(image: Array, part: tuple[int, ...]) -> Array:
    """(pixels,) of (H, W) where `part` is."""
    y0, y1, x0, x1 = part
    width = x1 - x0
    out = np.empty((y1 - y0) * width, np.float32)
    for i in range(y1 - y0):
        line, into = image[y0 + i, x0:x1], out[i * width : (i + 1) * width]
        for j in range(width):
            into[j] = line[j]
    return out


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
    at = places(counts, len(weights))
    matrix, vector = np.zeros((at[-1], at[-1])), np.zeros(at[-1])
    _add_equations(flat, starts, counts, at, boxes, fluxes, residual, weights, matrix, vector)
    return matrix, vector


@kernel
def _add_equations(
    flat: Array,
    starts: Array,
    counts: Array,
    at: Array,
    boxes: Array,
    fluxes: Array,
    residual: Array,
    weights: Array,
    matrix: Array,
    vector: Array,
) -> None:
    bands = weights.shape[0]
    for n in range(counts.size):
        for m in range(n + 1):
            a, b = boxes[n], boxes[m]
            y0, y1 = max(a[0], b[0]), min(a[0] + a[2], b[0] + b[2])
            x0, x1 = max(a[1], b[1]), min(a[1] + a[3], b[1] + b[3])
            if y1 <= y0 or x1 <= x0:
                continue
            part, size = (y0, y1, x0, x1), (y1 - y0) * (x1 - x0)
            left = np.empty((counts[n], size), np.float32)
            right = np.empty((counts[m], size), np.float32)
            for c in range(bands):
                weight = _flat(weights[c], part)
                _cut(flat, starts[n], boxes[n], bands, c, part, left)
                for p in range(left.shape[0]):
                    line = left[p]
                    for j in range(size):
                        line[j] *= weight[j]
                _cut(flat, starts[m], boxes[m], bands, c, part, right)
                block = matrix[at[n] : at[n + 1], at[m] : at[m + 1]]
                _add_products(left, right, c, fluxes[n], fluxes[m], n == m, block)
                if n == m:
                    rest = _flat(residual[c], part)
                    vector[at[n] + c] = dot(left[0], rest)
                    for p in range(1, counts[n]):
                        vector[at[n] + bands + p - 1] += fluxes[n, c] * dot(left[p], rest)
    for i in range(vector.size):
        for j in range(i):
            matrix[j, i] = matrix[i, j]


@inlined
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
    bands = len(weights)
    at = places(counts, bands)
    out = np.zeros((at[-1], at[-1]))
    if not common.any():
        return out
    root = np.sqrt(weights)
    for n in range(len(counts)):
        for m in range(n + 1):
            low = np.maximum(boxes[n, :2], boxes[m, :2])
            high = np.minimum(boxes[n, :2] + boxes[n, 2:], boxes[m, :2] + boxes[m, 2:])
            if (high <= low).any():
                continue
            weight = root[:, low[0] : high[0], low[1] : high[1]]
            sides = []
            for k in (n, m):
                _, _, h, w = boxes[k]
                y, x = low - boxes[k, :2]
                images = flat[starts[k] : starts[k] + counts[k] * bands * h * w]
                images = images.reshape(counts[k], bands, h, w)
                part = images[:, :, y : y + weight.shape[1], x : x + weight.shape[2]].astype(float)
                part = part * weight
                sides.append(part.reshape(counts[k] * bands, -1))
            products = (sides[0] @ sides[1].T).reshape(counts[n], bands, counts[m], bands)
            block = _across_bands(products * common[:, None], fluxes[n], fluxes[m])
            out[at[n] : at[n + 1], at[m] : at[m + 1]] = block
            out[at[m] : at[m + 1], at[n] : at[n + 1]] = block.T
    return out


def _across_bands(products: Array, a: Array, b: Array) -> Array:
    """Of two components' parameters, from the products (P, C, Q, C) of their images."""
    rows = np.concatenate([products[0], np.einsum("c,pcqd->pqd", a, products[1:])])
    return np.concatenate([rows[:, 0], np.einsum("d,rqd->rq", b, rows[:, 1:])], axis=1)


@kernel
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
    size = vector.size
    for p in range(precision.size):
        matrix[bands + p, bands + p] += precision[p]
        vector[bands + p] -= precision[p] * away[p]
    for p in range(bands, size):
        matrix[p, p] *= 1 + damping
    trace = 0.0
    for p in range(size):
        trace += matrix[p, p]
    ridge = 1e-9 * trace / size + 1e-30
    out = np.empty((1, size))
    for p in range(size):
        matrix[p, p] += ridge
        out[0, p] = vector[p]
    solve(matrix, out)
    return out[0, bands:]
