"""Compiled functions: how they are compiled, and the sums and equations that they share.

What numba compiles slowly stays out of them, for a machine's first run waits for it: numpy's
linear algebra (two seconds), arrays assigned to slices (two seconds, for the error message
alone), expressions of whole arrays. Loops compile in a tenth of a second. So do each rank and dtype
of `np.empty`; of `np.zeros` in two tenths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])

SUMS = {"reassoc", "nsz"}
"""Lets the compiler add up several lanes at a time. A loop that sums must not also write.
The compiler would keep a second version for arrays that might overlap, and the last digit
would depend on where the arrays lie in memory."""
PIECE = 512
"""So many products are added in float32 before they go into a float64 sum."""


def kernel(function: F) -> F:
    """Compiled at its first call, kept on disk; releases the interpreter's lock.

    Dividing by zero gives infinity, as in numpy. Pass C-contiguous arrays of one dtype: every
    other layout or dtype is compiled anew.
    """
    return _compiled(function, cache=True)


def part(function: F) -> F:
    """A part of several kernels, which alone can call it: no wrapper for Python, not kept."""
    return _compiled(function, no_cpython_wrapper=True)


def inlined(function: F) -> F:
    """A part of one `kernel`, compiled with that: half the time of a function of its own."""
    return _compiled(function, inline="always")


def summing(function: F) -> F:
    """A `kernel` whose sums are taken several numbers at a time."""
    return _compiled(function, cache=True, fastmath=SUMS)


def _compiled(function: F, **options: Any) -> F:
    options |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**options)(function))


@summing
def dot(a: Array, b: Array) -> float:
    """Sum of the products of two flat float32 arrays."""
    total = 0.0
    for start in range(0, a.size, PIECE):
        # Slices, for an index that might be negative is not taken several at a time.
        x, y = a[start : start + PIECE], b[start : start + PIECE]
        part = np.float32(0)
        for j in range(x.size):
            part += x[j] * y[j]
        total += float(part)
    return total


@kernel
def solve(matrix: Array, right: Array) -> None:
    """Solutions of ``matrix.x = right``, positive definite, over `right`.

    Parameters
    ----------
    matrix : (N, N) float64; its lower half is read and written over (by L.D.L^T).
    right : (M, N) float64, one right side a row.
    """
    size = matrix.shape[0]
    for i in range(size):
        for j in range(i):
            ratio = matrix[i, j] / matrix[j, j]
            for k in range(j + 1, i + 1):
                matrix[i, k] -= ratio * matrix[k, j]
    for m in range(right.shape[0]):
        for i in range(size):
            for j in range(i):
                right[m, i] -= matrix[i, j] / matrix[j, j] * right[m, j]
        for i in range(size - 1, -1, -1):
            right[m, i] /= matrix[i, i]
            for j in range(i):
                right[m, j] -= matrix[i, j] * right[m, i]


RIDGE = 1e-6
"""Part of its own curvature that is added to every unknown's: some are nearly the same."""


@part
def positive(values: Array) -> Array:
    """Indices of those above zero."""
    out = np.empty(values.size, np.int64)
    count = 0
    for k in range(values.size):
        if values[k] > 0:
            out[count] = k
            count += 1
    return out[:count]


@part
def among(matrix: Array, at: Array) -> Array:
    """(N, N) of the unknowns `at`, its diagonal a millionth larger."""
    out = np.empty((at.size, at.size))
    for i in range(at.size):
        for j in range(at.size):
            out[i, j] = matrix[at[i], at[j]]
        out[i, i] *= 1 + RIDGE
    return out


@kernel
def non_negative(matrix: Array, pull: Array, start: Array, least_gain: float) -> Array:
    """Minimum of ``x.M.x/2 - p.x`` over x >= 0, by active sets (Lawson & Hanson 1974).

    Parameters
    ----------
    matrix, pull, start : (N, N), (N,) and (N,) float64; M positive semi-definite. The set of the
        positive ones begins as that of `start`, which is mostly right.
    least_gain : fall of twice the function (of chi2) for which one more becomes positive.
    """
    count = pull.size
    x, free = np.empty(count), np.empty(count)
    for k in range(count):
        x[k] = start[k] if matrix[k, k] > 0 else 0.0
        free[k] = 1.0 if x[k] > 0 else 0.0
    added = -1
    for _ in range(5 * count):
        at = positive(free)
        solved = np.empty((1, at.size))
        for n in range(at.size):
            solved[0, n] = pull[at[n]]
        solve(among(matrix, at), solved)
        part, first = 1.0, -1
        for n in range(at.size):
            old, new = x[at[n]], solved[0, n]
            if new <= 0 and old < part * (old - new):
                part, first = old / (old - new), at[n]
        for n in range(at.size):
            x[at[n]] += part * (solved[0, n] - x[at[n]])
        if first >= 0:
            x[first], free[first] = 0.0, 0.0
            if first == added:  # its gain was a rounding error
                break
            continue
        gain, best = least_gain, -1
        for k in range(count):
            if free[k] > 0 or matrix[k, k] <= 0:
                continue
            left = pull[k]
            for n in range(count):
                left -= matrix[k, n] * x[n]
            if left > 0 and left * left / matrix[k, k] > gain:
                gain, best = left * left / matrix[k, k], k
        if best < 0:
            break
        free[best], added = 1.0, best
    return x
