"""Sums of products that the compiler takes several numbers at a time."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

SUMS = {"reassoc", "nsz"}
"""Lets the compiler add up several lanes at a time. A loop that sums must not also write:
the compiler then keeps a second version for arrays that might overlap, and which one runs,
so the last digit, would depend on where the arrays lie in memory."""
PIECE = 512
"""So many products are added in float32 before they go into a float64 sum."""


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def dot(a: NDArray[Any], b: NDArray[Any]) -> float:
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
