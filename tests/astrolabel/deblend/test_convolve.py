"""PSFs with their wings, and their transforms."""

from __future__ import annotations

import numpy as np
import pytest

from astrolabel.deblend.convolve import KernelCache, fft_length


def moffat(size: int, fwhm: float, beta: float = 3.0) -> np.ndarray:
    half = size // 2
    r2 = (np.mgrid[-half : half + 1, -half : half + 1] ** 2).sum(axis=0)
    alpha2 = fwhm**2 / (4 * (2 ** (1 / beta) - 1))
    out = (1 + r2 / alpha2) ** -beta
    return (out / out.sum()).astype(np.float32)


@pytest.fixture
def psfs() -> np.ndarray:
    return np.stack([moffat(31, 4.9), moffat(31, 4.0)])


@pytest.mark.parametrize("pixels", [1, 17, 57, 101, 333])
def test_fft_length_is_at_least_what_is_asked_and_a_multiple_of_four(pixels: int) -> None:
    assert fft_length(pixels) >= pixels
    assert fft_length(pixels) % 4 == 0


def test_kernel_cache_forgets_and_gives_the_same_again(psfs) -> None:
    cache = KernelCache(size=1)
    first = cache.get(psfs)
    assert cache.get(psfs.copy()) is first
    cache.get(psfs[::-1])
    again = cache.get(psfs)
    assert again is not first
    np.testing.assert_array_equal(again.psf_transform((48, 48)), first.psf_transform((48, 48)))
