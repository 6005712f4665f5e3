"""Compiled inner loops of the built-in deblender.

Morphologies of one blend lie one after the other in a flat array: source n has the pixels
``offsets[n] .. offsets[n+1]`` of its box ``boxes[n] = (y0, x0, height, width)``, row by
row. Every function releases the interpreter's lock and is compiled once per machine.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from astrolabel.core.numerics import SUMS

Array = NDArray[Any]


@numba.njit(cache=True, nogil=True)
def monotonic(s: Array, cy: int, cx: int) -> None:
    """Lower pixels, in place, until none exceeds the one nearer the centre on its ray.

    Square rings are visited from the inside out. The ray from (cy, cx) through a pixel of
    ring k crosses ring k-1 between two pixels; their linear interpolation is the limit.

    Parameters
    ----------
    s : (h, w) float32.
    cy, cx : the centre's pixel, inside the array.
    """
    h, w = s.shape
    for k in range(1, max(max(cy, h - 1 - cy), max(cx, w - 1 - cx)) + 1):
        shrink = (k - 1.0) / k
        for side in (-1, 1):
            y = cy + side * k
            if 0 <= y < h:
                yi = y - side
                for d in range(max(-k, -cx), min(k, w - 1 - cx) + 1):
                    at = cx + d * shrink
                    lo = int(np.floor(at))
                    f = at - lo
                    limit = s[yi, lo]
                    if f > 0:
                        limit = (1 - f) * limit + f * s[yi, lo + 1]
                    if s[y, cx + d] > limit:
                        s[y, cx + d] = limit
            x = cx + side * k
            if 0 <= x < w:
                xi = x - side
                for d in range(max(-k + 1, -cy), min(k - 1, h - 1 - cy) + 1):
                    at = cy + d * shrink
                    lo = int(np.floor(at))
                    f = at - lo
                    limit = s[lo, xi]
                    if f > 0:
                        limit = (1 - f) * limit + f * s[lo + 1, xi]
                    if s[cy + d, x] > limit:
                        s[cy + d, x] = limit


@numba.njit(cache=True, nogil=True)
def assemble(s: Array, offsets: Array, boxes: Array, spectra: Array, scene: Array) -> None:
    """Sum of all sources in the model frame, written over `scene` (C, F, G).

    Pixels of `scene` beyond the cutout are the transforms' padding and become zero.
    """
    scene[:] = 0
    for n in range(boxes.shape[0]):
        y0, x0, h, w = boxes[n]
        for c in range(scene.shape[0]):
            a = spectra[n, c]
            if a == 0:
                continue
            for i in range(h):
                row = offsets[n] + i * w
                for j in range(w):
                    scene[c, y0 + i, x0 + j] += a * s[row + j]


@numba.njit(cache=True, nogil=True, fastmath=SUMS)
def weighted_residual(model: Array, image: Array, weights: Array, out: Array) -> float:
    """chi2 of `model`; ``weights * (model - image)`` is written over `out` (C, F, G)."""
    out[:] = 0
    chi2 = 0.0
    for c in range(image.shape[0]):
        for y in range(image.shape[1]):
            part = np.float32(0)
            for x in range(image.shape[2]):
                out[c, y, x] = weights[c, y, x] * (model[c, y, x] - image[c, y, x])
            for x in range(image.shape[2]):
                part += out[c, y, x] * (model[c, y, x] - image[c, y, x])
            chi2 += float(part)
    return chi2


@numba.njit(cache=True, nogil=True)
def step_sizes(
    share: Array,
    offsets: Array,
    boxes: Array,
    spectra: Array,
    curvature: Array,
    total: Array,
    out: Array,
) -> None:
    """Inverse of a diagonal that majorises the Hessian of chi2/2 in all morphologies.

    ``K^T W K`` lies below the diagonal `curvature` (row sums, K >= 0), and at one pixel
    the rank-one coupling of the sources below ``sum_m a_m u_m / u_n`` for any positive
    u: a pixel's correction is divided among the sources in proportion to `share`.

    Parameters
    ----------
    share : (total pixels,) float32 u, positive.
    curvature : (C, H, W) float32, ``|K|^T W``.
    total : (C, F, G) float32, sum of u times spectrum over the sources.
    out : (total pixels,) float32, written.
    """
    for n in range(boxes.shape[0]):
        y0, x0, h, w = boxes[n]
        for i in range(h):
            row = offsets[n] + i * w
            for j in range(w):
                d = np.float32(0)
                for c in range(total.shape[0]):
                    d += spectra[n, c] * curvature[c, y0 + i, x0 + j] * total[c, y0 + i, x0 + j]
                out[row + j] = share[row + j] / d if d > 0 else np.float32(0)


@numba.njit(cache=True, nogil=True)
def balance(s: Array, sy: int, sx: int, steps: Array, weight: float) -> None:
    """Draw pixels and their mirror images in the centre towards each other, in place.

    The proximal step of a penalty on ``(s - mirror)^2``, `weight` times as stiff as the
    data where the source is faint or contested, and less where the difference that an
    asymmetry of a tenth makes is well measured. A pixel without data, whose step is zero,
    takes its mirror image's value if that has data. (sy, sx) is twice the centre, so that
    this may lie on a pixel or between two.
    """
    h, w = s.shape
    for i in range(max(0, sy - h + 1), min(h, sy // 2 + 1)):
        u = sy - i
        for j in range(max(0, sx - w + 1), min(w, sx + 1)):
            v = sx - j
            if i == u and j >= v:
                break
            if steps[i, j] <= 0 or steps[u, v] <= 0:
                if steps[i, j] > 0:
                    s[u, v] = s[i, j]
                elif steps[u, v] > 0:
                    s[i, j] = s[u, v]
                continue
            step = max(steps[i, j], steps[u, v])
            mean = np.float32(0.5) * (s[i, j] + s[u, v])
            asymmetry = np.float32(0.01) * mean * mean / step
            pull = np.float32(weight) / (np.float32(weight) + 1 + asymmetry)
            s[i, j] += pull * (mean - s[i, j])
            s[u, v] += pull * (mean - s[u, v])


@numba.njit(cache=True, nogil=True)
def extrapolate(
    now: Array, ahead: Array, steps: Array, lo: int, new: Array, momentum: float
) -> float:
    """Move one source, which begins at `lo`, to `new`, and `ahead` beyond it.

    Returns
    -------
    The t of the next step; one where this step ran against the momentum.
    """
    against = 0.0
    for k in range(new.size):
        if steps[lo + k] > 0:
            against += (ahead[lo + k] - new[k]) * (new[k] - now[lo + k]) / steps[lo + k]
    t_next = 0.5 * (1 + np.sqrt(1 + 4 * momentum * momentum))
    beta = np.float32((momentum - 1) / t_next)
    if against > 0:
        t_next, beta = 1.0, np.float32(0)
    for k in range(new.size):
        ahead[lo + k] = new[k] + beta * (new[k] - now[lo + k])
        now[lo + k] = new[k]
    return t_next


@numba.njit(cache=True, nogil=True)
def proximal_step(
    now: Array,
    ahead: Array,
    momentum: Array,
    steps: Array,
    offsets: Array,
    boxes: Array,
    peaks: Array,
    centres: Array,
    spectra: Array,
    penalty: Array,
    gradient: Array,
    symmetry: float,
) -> None:
    """One accelerated proximal step of every morphology, in place.

    From the extrapolated point `ahead`, where `gradient` was taken, down the gradient,
    then non-negative and monotonic; then extrapolate (Beck & Teboulle 2009). A source
    whose step runs against its momentum starts over (O'Donoghue & Candes 2015).

    Parameters
    ----------
    now, ahead, steps : (total pixels,) float32.
    momentum : (N,) float64, the t of FISTA.
    peaks : (N, 2) int64, centre pixels in the cutout.
    penalty : (N,) float32 added to the gradient: the price of a count of light.
    gradient : (C, F, G) float32 of chi2/2 with respect to the scene in the model frame.
    """
    for n in range(boxes.shape[0]):
        y0, x0, h, w = boxes[n]
        lo = offsets[n]
        new = np.empty((h, w), np.float32)
        for i in range(h):
            row = new[i]
            row[:] = penalty[n]
            for c in range(gradient.shape[0]):
                a = spectra[n, c]
                line = gradient[c, y0 + i, x0 : x0 + w]
                for j in range(w):
                    row[j] += a * line[j]
            at = lo + i * w
            for j in range(w):
                row[j] = max(ahead[at + j] - steps[at + j] * row[j], np.float32(0))
        cy, cx = peaks[n, 0] - y0, peaks[n, 1] - x0
        sy = int(np.rint(2 * (centres[n, 0] - y0)))
        sx = int(np.rint(2 * (centres[n, 1] - x0)))
        balance(new, sy, sx, steps[lo : lo + h * w].reshape(h, w), symmetry)
        monotonic(new, cy, cx)
        momentum[n] = extrapolate(now, ahead, steps, lo, new.ravel(), momentum[n])


@numba.njit(cache=True, nogil=True)
def symmetric_profile(
    image: Array, known: Array, cy: int, cx: int, floor: float, max_radius: int
) -> tuple[Array, int]:
    """The part of an image that is symmetric about, and falls away from, a peak.

    Each pixel is lowered to its mirror image in the peak, then made monotonic; a pixel
    not `known` takes its mirror's value, or the limit of its ray. It ends at the first
    ring that lies below `floor` throughout.

    Returns
    -------
    (2R+1, 2R+1) float32 centred on the peak, and R.
    """
    h, w = image.shape
    size = 2 * max_radius + 1
    out = np.zeros((size, size), np.float32)
    top = image[cy, cx] if known[cy, cx] else np.float32(0)
    if not known[cy, cx]:
        for y in range(max(cy - 1, 0), min(cy + 2, h)):
            for x in range(max(cx - 1, 0), min(cx + 2, w)):
                if known[y, x]:
                    top = max(top, image[y, x])
    out[max_radius, max_radius] = max(top, np.float32(0))
    radius = max_radius
    for k in range(1, max_radius + 1):
        shrink = (k - 1.0) / k
        highest = np.float32(0)
        for q in range(8 * k):
            along, side = q % (2 * k) - k, q // (2 * k)
            if side == 0:
                dy, dx = -k, along
            elif side == 1:
                dy, dx = along, k
            elif side == 2:
                dy, dx = k, -along
            else:
                dy, dx = -along, -k
            value = np.float32(np.inf)
            for sign in (-1, 1):
                y, x = cy + sign * dy, cx + sign * dx
                if 0 <= y < h and 0 <= x < w and known[y, x]:
                    value = min(value, image[y, x])
            ay, ax = max_radius + dy * shrink, max_radius + dx * shrink
            ly, lx = int(np.floor(ay)), int(np.floor(ax))
            fy, fx = np.float32(ay - ly), np.float32(ax - lx)
            limit = (1 - fy) * (1 - fx) * out[ly, lx]
            if fy > 0:
                limit += fy * (1 - fx) * out[ly + 1, lx]
            if fx > 0:
                limit += (1 - fy) * fx * out[ly, lx + 1]
            value = max(min(value, limit), np.float32(0))
            out[max_radius + dy, max_radius + dx] = value
            highest = max(highest, value)
        if highest < floor:
            radius = k
            break
    lo, hi = max_radius - radius, max_radius + radius + 1
    return out[lo:hi, lo:hi].copy(), radius
