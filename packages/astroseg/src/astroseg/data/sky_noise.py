"""Level and noise of the sky in pixels that also hold sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astroseg.core.config import DataConfig

MAD_TO_SIGMA = 1.482602  # of a Gaussian: 1 / Phi^-1(3/4)
SIGMA_PIXELS = 1_000_000  # enough to estimate sigma to 0.2 %, and quick
CLIP_ROUNDS = 20  # of `sky_noise`, which ends when nothing is left out


def sky_noise(
    values: NDArray[Any], clip_sigma: float = DataConfig.clip_sigma
) -> tuple[float, float]:
    """Level and noise (one sigma) of the sky among pixels that also hold sources.

    Median and median absolute deviation, values beyond `clip_sigma` left out in turn until
    none is. Of the rest, the lower half alone is used for the noise: sources have no
    negative light.
    """
    # In order, what is left out is a number from either end, and medians are places in the middle.
    values = np.sort(values[np.isfinite(values)]).astype(np.float64)
    level, sigma = math.nan, math.nan
    for _ in range(CLIP_ROUNDS):
        if not len(values):
            break
        level = _middle(values)
        sigma = MAD_TO_SIGMA * (level - _middle(values[: np.searchsorted(values, level, "right")]))
        first = np.searchsorted(values, level - clip_sigma * sigma, "left")
        last = np.searchsorted(values, level + clip_sigma * sigma, "right")
        if sigma == 0 or last - first == len(values):
            break
        values = values[first:last]
    return level, sigma


def _middle(values: NDArray[np.float64]) -> float:
    """Median of values in order."""
    n = len(values)
    return float(values[(n - 1) // 2] + values[n // 2]) / 2


def no_data(flux: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """(C, H, W) pixels without data, None where there are none.

    They are not finite, or equal to all their neighbours: surveys and programs fill what was not
    observed with one value, be it 0, -999 or a sky level.
    """
    empty = ~np.isfinite(flux)
    for plane, out in zip(flux, empty, strict=True):
        out |= _constant(plane)
    return empty if empty.any() else None


def _constant(plane: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W) pixels in blocks of three by three of one value; at an edge the image goes on."""
    rows = _equal_to_both(plane.T).T
    if not rows.any():
        return rows
    middle = ndimage.binary_erosion(rows, np.ones((3, 1)), border_value=1) & _equal_to_both(plane)
    return np.asarray(ndimage.binary_dilation(middle, np.ones((3, 3))))


def _equal_to_both(plane: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W) pixels equal to those above and below, as far as there are any."""
    equal = np.ones((len(plane) + 1, *plane.shape[1:]), np.bool_)
    np.equal(plane[1:], plane[:-1], out=equal[1:-1])
    return equal[1:] & equal[:-1]
