"""Whether a source can be fitted at all: it needs data on its core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.psf import sigma_px


def has_core(
    known: NDArray[np.bool_],
    psfs: NDArray[np.float32],
    peaks: NDArray[np.float64],
    min_core: float,
) -> NDArray[np.bool_]:
    """(N,) bool: whether enough pixels within the PSF's HWHM have data in some band.

    Parameters
    ----------
    known : (H, W) where some band has data.
    psfs : (C, P, P).
    peaks : (N, 2) of (y, x).
    """
    radius = max(1.18 * sigma_px(psfs.mean(axis=0)), 1.0)
    y, x = np.mgrid[: known.shape[0], : known.shape[1]]
    out = np.zeros(len(peaks), bool)
    for n, (py, px) in enumerate(peaks):
        s = (Box.around(py, px, int(np.ceil(radius))) & Box.of_shape(known.shape)).slices
        near = np.hypot(y[s] - py, x[s] - px) <= radius
        out[n] = near.any() and known[s][near].mean() >= min_core
    return out
