"""Small blends made of Gaussians, and what is asked of a fit, for the tests of deblenders."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from astrolabel.deblend import Blend, BlendFit

FWHM = (4.9, 4.6, 4.0)
"""HSC's seeing in g, r, i in pixels."""
NOISE = 1.0
COLOUR = np.array([0.6, 1.0, 1.4])
THRESHOLD = 5 * NOISE * np.sqrt(len(FWHM))
"""Of a mask, in the sum of the bands, where the noise of each is one."""


def spot(shape, y: float, x: float, sigma: float, ratio: float = 1.0) -> np.ndarray:
    """A Gaussian of unit sum, `ratio` times as wide along x."""
    dy, dx = np.mgrid[: shape[0], : shape[1]] - np.array([y, x])[:, None, None]
    out = np.exp(-0.5 * ((dy / sigma) ** 2 + (dx / (sigma * ratio)) ** 2))
    return out / (2 * np.pi * sigma**2 * ratio)


def psfs() -> np.ndarray:
    stamps = np.stack([spot((43, 43), 21, 21, w / 2.3548) for w in FWHM])
    return (stamps / stamps.sum(axis=(1, 2), keepdims=True)).astype(np.float32)


def light(shape, y: float, x: float, flux: float, size: float = 0.0, ratio: float = 1.0):
    """(3, H, W): a Gaussian galaxy, or a star where `size` is zero, seen in all bands."""
    bands = []
    for colour, fwhm in zip(COLOUR, FWHM, strict=True):
        narrow = np.hypot(size, fwhm / 2.3548)
        wide = np.hypot(size * ratio, fwhm / 2.3548)
        bands.append(flux * colour * spot(shape, y, x, narrow, wide / narrow))
    return np.stack(bands)


def blend_of(*sources: np.ndarray, peaks, noise: float = NOISE, seed: int = 0) -> Blend:
    """The sum of the sources with white noise of that sigma."""
    truth = np.sum(sources, axis=0)
    image = truth + np.random.default_rng(seed).normal(0, noise, truth.shape)
    return Blend(
        image.astype(np.float32),
        np.full(truth.shape, noise**-2, np.float32),
        psfs(),
        np.array(peaks, float).reshape(-1, 2),
    )


def whole(fit: BlendFit, n: int, shape) -> np.ndarray:
    """(3, H, W): source n on the whole cutout."""
    source = fit.sources[n]
    out = np.zeros((len(source.model), *shape[-2:]))
    out[(slice(None), *source.box.slices)] = source.model
    return out


def chi2_per_pixel(blend: Blend, fit: BlendFit) -> float:
    """Of the sum of all sources."""
    shape = blend.image.shape
    model = np.sum([whole(fit, n, shape) for n in range(len(fit.sources))], axis=0)
    used = blend.weights > 0
    return float((blend.weights * (blend.image - model) ** 2)[used].sum() / used.sum())


def mask_of(images: np.ndarray, threshold: float, peak) -> np.ndarray:
    """Sum of the bands above threshold, connected to the brightest pixel at the peak."""
    total = images.sum(axis=0)
    labels, _ = ndimage.label(total > threshold, np.ones((3, 3)))
    y, x = (int(v) for v in np.rint(peak))
    near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
    label = labels[near].flat[int(total[near].argmax())]
    return (labels == label) & (label > 0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)
