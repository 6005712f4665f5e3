"""Noise that is correlated between neighbouring pixels, and what it does to a filtered image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.coadd import Coadd


def filter_power(response: NDArray[np.floating], correlation: NDArray[np.floating] | None) -> float:
    """Variance of a filtered image over that of its pixels.

    Parameters
    ----------
    response : (K, K) the filter's image of one pixel.
    correlation : (2R+1, 2R+1) correlation of the noise by offset (1 in the middle); None for
        white noise.
    """
    if correlation is None:
        return float((response**2).sum())
    radius = correlation.shape[0] // 2
    wide = np.pad(response, radius)
    rows, columns = response.shape
    total = 0.0
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            if correlation[dy, dx]:
                shifted = wide[dy : dy + rows, dx : dx + columns]
                total += float(correlation[dy, dx]) * float((response * shifted).sum())
    # A measured correlation may be no possible one: less than none at all it cannot be.
    return max(total, 1e-3 * float((response**2).sum()))


def correlation_of_sum(coadd: Coadd, weights: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """(2R+1, 2R+1) correlation of the noise of a weighted sum of the bands; None for white
    noise in all of them."""
    if coadd.noise_correlation is None:
        return None
    typical = [
        float(np.median(v[ok])) if ok.any() else 0.0
        for v, ok in zip(coadd.variance, coadd.valid, strict=True)
    ]
    share = np.asarray(weights, float) ** 2 * np.array(typical)
    if not share.sum() > 0:
        return None
    return np.asarray(np.tensordot(share / share.sum(), coadd.noise_correlation, 1))
