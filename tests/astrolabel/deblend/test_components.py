"""Images of one component of a blend."""

from __future__ import annotations

import numpy as np
import pytest

from astrolabel.core.box import Box
from astrolabel.deblend.components import rendered
from astrolabel.deblend.convolve import Kernels


def star(fwhm: float, y: float, x: float, size: int = 41) -> np.ndarray:
    """A Moffat of beta 3 averaged over each pixel, off the middle by (y, x)."""
    fine = (np.arange(9) - 4) / 9
    c = (np.arange(size) - size // 2)[:, None] + fine
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / 3) - 1)
    r2 = (c - y)[:, :, None, None] ** 2 + (c - x) ** 2
    return ((1 + r2 / alpha**2) ** -3).mean(axis=(1, 3)) * 2 / np.pi / alpha**2


@pytest.mark.parametrize(("fwhm", "most"), [(1.0, 0.03), (1.5, 0.02), (2.0, 0.01), (4.0, 0.001)])
@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (0.5, 0.5), (0.3, -0.1), (-0.5, 0.0)])
def test_a_star_between_pixels_does_not_ring_however_narrow_it_is(fwhm, most, y, x) -> None:
    kernels = Kernels(star(fwhm, 0, 0)[None].astype(np.float32))
    shape = np.array([40 + y, 40 + x, 0, 0, 0, 0])
    _, images = rendered(kernels, Box(0, 0, 81, 81), (40, 40), 20, shape, True)
    expected = star(fwhm, y, x)
    assert np.abs(images[0, 0] - expected).max() < most * expected.max()
