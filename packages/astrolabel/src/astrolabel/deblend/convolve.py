"""PSFs with their wings, and their Fourier transforms."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from astrolabel.core.psf import sigma_px

WING_SLOPES = (2.5, 8.0)
"""Falls of a PSF's wings that are believed, as powers of the radius: 3 of scattered light,
4 and 6 of Moffats of beta 2 and 3; a Gaussian's are steeper and hold nothing."""
CACHE_BYTES = 24 * 2**20
"""Transforms kept at most, per set of PSFs; what was used longest ago goes first."""

Image = NDArray[np.float32]


def with_wings(psfs: Image) -> Image:
    """Stamps continued to twice their radius by the power law of their outermost ring.

    Parameters
    ----------
    psfs : (C, P, P) float32, P odd, each summing to one.

    Returns
    -------
    (C, 2P - 1, 2P - 1) float32, each summing to one. A stamp whose ring holds no light, or
    none that falls like a PSF's (`WING_SLOPES`), is continued by zeros.
    """
    half = psfs.shape[-1] // 2
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    inner = (radius > 0.55 * half) & (radius <= 0.75 * half)
    outer = (radius > 0.75 * half) & (radius <= 0.95 * half)
    wide = np.hypot(*np.mgrid[-2 * half : 2 * half + 1, -2 * half : 2 * half + 1])
    out = np.zeros((len(psfs), *wide.shape), np.float32)
    core = slice(half, 3 * half + 1)
    for c, psf in enumerate(psfs):
        if outer.any() and min(float(psf[inner].mean()), float(psf[outer].mean())) > 0:
            near, far = float(psf[inner].mean()), float(psf[outer].mean())
            r_near, r_far = float(radius[inner].mean()), float(radius[outer].mean())
            slope = np.log(near / far) / np.log(r_far / r_near)
            if WING_SLOPES[0] <= slope <= WING_SLOPES[1]:
                out[c] = far * (np.maximum(wide, half) / r_far) ** -slope
        # The corners of a stamp are farther out than the middles of its sides, and faint.
        out[c, core, core] = np.where(radius <= half, psf, out[c, core, core])
        if not out[c, 0, 2 * half] > 0:
            out[c, core, core] = psf
    return out / out.sum(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)


def convolved(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(H + h - 1, W + w - 1) convolution of two images, by transforms.

    That of `scipy.signal` takes most of a second to import.
    """
    full = [m + n - 1 for m, n in zip(a.shape, b.shape, strict=True)]
    fast = [fft_length(n) for n in full]
    product = scipy.fft.rfft2(a, fast) * scipy.fft.rfft2(b, fast)
    out: NDArray[Any] = scipy.fft.irfft2(product, fast)[: full[0], : full[1]]
    return out


def convolved_same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(H, W) middle of `convolved`."""
    y, x = ((n - 1) // 2 for n in b.shape)
    return convolved(a, b)[y : y + a.shape[0], x : x + a.shape[1]]


class Kernels:
    """One set of PSFs, with their transforms by FFT shape.

    What a method returns depends on its arguments alone; the cache only saves time.

    Attributes
    ----------
    psf_sigma : (C,) Gaussian-equivalent widths of the observed PSFs, pixels.
    psf_peak : (C,) brightest pixel of each PSF.
    psf_power : (C,) sum of the squares of each PSF: one over the variance of a point's flux
        at unit weight.
    """

    def __init__(self, psfs: Image) -> None:
        self.psf_sigma = np.array([sigma_px(p) for p in psfs])
        self._psfs = with_wings(psfs)
        self.psf_peak = psfs.max(axis=(1, 2)).astype(float)
        self.psf_power = (psfs.astype(float) ** 2).sum(axis=(1, 2))
        self._cache: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def psf_transform(self, shape: tuple[int, int]) -> NDArray[Any]:
        """(C, F, G//2+1) complex64 of the PSFs, cut to fit, centre at the origin."""
        half = self._psfs.shape[-1] // 2
        reach = min(half, (min(shape) - 1) // 2)
        cut = self._psfs[:, half - reach : half + reach + 1, half - reach : half + reach + 1]
        return self._kept(shape, cut, shape)

    def _kept(self, key: tuple[int, ...], cut: Image, shape: tuple[int, int]) -> NDArray[Any]:
        """The transform of a stamp centred at the origin, from the cache if it is there."""
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        reach = cut.shape[-1] // 2
        pad = np.zeros((len(cut), *shape), np.float32)
        pad[:, : cut.shape[1], : cut.shape[2]] = cut
        pad = np.roll(pad, (-reach, -reach), axis=(1, 2))
        result: NDArray[Any] = scipy.fft.rfft2(pad)
        self._cache[key] = result
        self._bytes += result.nbytes
        while self._bytes > CACHE_BYTES and len(self._cache) > 1:
            self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return result


class KernelCache:
    """`Kernels` of the last few sets of PSFs; empties itself when pickled."""

    def __init__(self, size: int = 9) -> None:
        self.size = size
        self._kept: OrderedDict[bytes, Kernels] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "_kept": OrderedDict()}

    def get(self, psfs: Image) -> Kernels:
        """The kernels of these (C, P, P) PSFs."""
        psfs = np.ascontiguousarray(psfs, np.float32)
        key = hashlib.sha256(psfs.tobytes() + bytes(str(psfs.shape), "ascii")).digest()
        if key not in self._kept:
            self._kept[key] = Kernels(psfs)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def fft_length(pixels: int) -> int:
    """A quick transform length of at least `pixels`, a multiple of four.

    Few distinct lengths keep the cache of transforms small.
    """
    length = int(pixels)
    while length % 4 or scipy.fft.next_fast_len(length, real=True) != length:
        length += 1
    return length
