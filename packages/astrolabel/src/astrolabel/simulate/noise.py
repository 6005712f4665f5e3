"""Noise of a coadd's sky: white, correlated as warping leaves it, or worse."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrolabel.core.config.simulate import NoiseConfig

Array = NDArray[np.float64]

SHIFTS = 8
"""Subpixel shifts, evenly spaced, of the exposures that a coadd averages."""


def noise_power(config: NoiseConfig, shape: tuple[int, int]) -> Array:
    """(H, W // 2 + 1) power spectrum of the noise on an image; its mean over all is one."""
    ky = np.fft.fftfreq(shape[0]).astype(np.float64)
    kx = np.fft.rfftfreq(shape[1]).astype(np.float64)
    if config.kind == "lanczos":
        power = np.multiply.outer(_lanczos_power(ky, config), _lanczos_power(kx, config))
    elif config.kind == "gaussian":
        # A Gaussian of sigma s has the transform exp(-2 pi^2 s^2 k^2); power is its square.
        power = np.exp(-4 * np.pi**2 * config.gaussian_px**2 * np.add.outer(ky**2, kx**2))
    else:
        return np.ones((len(ky), len(kx)))
    # The columns that the real transform leaves out repeat those between the first and last.
    twice = np.full(len(kx), 2.0)
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    return np.asarray(power * shape[0] * shape[1] / (power * twice).sum())


def _lanczos_power(k: Array, config: NoiseConfig) -> Array:
    """Mean power that a Lanczos warp by any part of a pixel leaves of white noise."""
    a = config.lanczos_order
    taps = np.arange(-a - 1, a + 2)
    power = np.zeros(len(k))
    for shift in (np.arange(SHIFTS) + 0.5) / SHIFTS - 0.5:
        x = taps + shift
        kernel = np.where(np.abs(x) < a, np.sinc(x) * np.sinc(x / a), 0.0)
        transform = np.exp(-2j * np.pi * k[:, None] * taps) @ (kernel / kernel.sum())
        power += np.abs(transform) ** 2
    return power / SHIFTS


def draw_noise(config: NoiseConfig, rng: Generator, shape: tuple[int, int, int]) -> Array:
    """(C, H, W) noise of unit variance in each pixel."""
    if config.kind == "blocks":
        side = config.block_px
        cells = [-(-n // side) for n in shape[1:]]
        coarse = rng.standard_normal((shape[0], *cells))
        whole = coarse.repeat(side, axis=1).repeat(side, axis=2)
        return whole[:, : shape[1], : shape[2]]
    white = rng.standard_normal(shape)
    if config.kind == "white":
        return white
    amplitude = np.sqrt(noise_power(config, shape[1:]))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=shape[1:]))
