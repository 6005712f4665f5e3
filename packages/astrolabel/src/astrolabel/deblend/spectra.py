"""Least-squares fluxes of all sources of a blend, given their shapes; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.numerics import summing

Array = NDArray[Any]


@summing
def gram(
    templates: Array, starts: Array, boxes: Array, image: Array, weights: Array
) -> tuple[Array, Array]:
    """Normal equations of all sources' fluxes, band by band.

    Parameters
    ----------
    templates : flat float32; source n's (C, h, w) begin at ``starts[n]``.
    boxes : (N, 4) int64, inside the cutout.

    Returns
    -------
    (C, N, N) and (C, N) float64.
    """
    bands, count = image.shape[0], boxes.shape[0]
    matrix, vector = np.empty((bands, count, count)), np.empty((bands, count))
    for n in range(count):
        y0, x0, h, w = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
        for c in range(bands):
            weighted = np.empty((h, w), np.float32)
            total = 0.0
            for i in range(h):
                row = starts[n] + (c * h + i) * w
                # Slices, for an index that might be negative is not taken several at a time.
                template, line = templates[row : row + w], weighted[i]
                weight, data = weights[c, y0 + i, x0 : x0 + w], image[c, y0 + i, x0 : x0 + w]
                for j in range(w):
                    line[j] = template[j] * weight[j]
                part = np.float32(0)
                for j in range(w):
                    part += line[j] * data[j]
                total += float(part)
            vector[c, n] = total
            for m in range(n, count):
                v0, u0, g, f = boxes[m, 0], boxes[m, 1], boxes[m, 2], boxes[m, 3]
                ya, yb = max(y0, v0), min(y0 + h, v0 + g)
                xa, xb = max(x0, u0), min(x0 + w, u0 + f)
                total = 0.0
                for y in range(ya, yb):
                    row = starts[m] + (c * g + y - v0) * f - u0
                    line, other = weighted[y - y0, xa - x0 :], templates[row + xa : row + xb]
                    part = np.float32(0)
                    for j in range(other.size):
                        part += line[j] * other[j]
                    total += float(part)
                matrix[c, n, m] = total
                matrix[c, m, n] = total
    return matrix, vector


@summing
def best_fluxes(template: Array, data: Array, weights: Array) -> tuple[Array, float]:
    """Non-negative flux of a template in each band that fits data best, and chi2 then.

    Parameters
    ----------
    template, data, weights : (C, h, w) float32.

    Returns
    -------
    (C,) float64 and chi2.
    """
    bands, height, width = template.shape
    flux, chi2 = np.empty(bands), 0.0
    for c in range(bands):
        pull, norm = 0.0, 0.0
        for i in range(height):
            a, b = np.float32(0), np.float32(0)
            for j in range(width):
                t = template[c, i, j]
                a += weights[c, i, j] * t * data[c, i, j]
                b += weights[c, i, j] * t * t
            pull += float(a)
            norm += float(b)
        flux[c] = pull / norm if norm > 0 and pull > 0 else 0.0
        f = np.float32(flux[c])
        for i in range(height):
            a = np.float32(0)
            for j in range(width):
                d = data[c, i, j] - f * template[c, i, j]
                a += weights[c, i, j] * d * d
            chi2 += float(a)
    return flux, chi2
