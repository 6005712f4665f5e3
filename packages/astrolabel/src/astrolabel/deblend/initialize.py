"""First guess of every source's size: the round Gaussian that is as wide as it is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from astrolabel.core.config import StartConfig
from astrolabel.core.numerics import kernel
from astrolabel.deblend.convolve import Kernels

Image = NDArray[np.float32]

LEAST_WIDTH = 0.5
"""In widths of the PSF. What was narrower before the PSF looks like a point."""
REACH = 3.0
"""In sigmas of its Gaussian: how far a source's light is another's ground."""
SMOOTHING = np.array([0.25, 0.5, 0.25])
"""Takes a pixel's noise down to 0.4,"""
SMOOTHING_PX = np.sqrt(0.5)
"""... and is as wide as this Gaussian."""


@dataclass(frozen=True, eq=False)
class Start:
    """A source before the fit.

    Attributes
    ----------
    centre : (y, x).
    sigma : pixels, of the Gaussian that it would be before the PSF; 0 for a point.
    radius : half side in pixels of the box that its light fills.
    """

    centre: tuple[float, float]
    sigma: float
    radius: int


def significance(image: Image, weights: Image) -> Image:
    """(H, W) sum of the bands by inverse variance, in sigma of a pixel, lightly smoothed."""
    total = weights.sum(axis=0)
    scale = np.sqrt(total, where=total > 0, out=np.ones_like(total))
    return _smooth(np.asarray((weights * image).sum(axis=0) / scale, np.float32))


def intrinsic_variances(
    light: Image,
    known: NDArray[np.bool_],
    peaks: NDArray[np.float64],
    fractions: NDArray[np.float64],
    psf_sigma: float,
    widest_px: int,
) -> NDArray[np.float64]:
    """(N,) pixels squared: of the round Gaussian that behind the PSF is as wide as each source.

    A source's radius is where the mean over a circle of the lesser of opposite pixels, which
    hardly sees a neighbour, falls to a fraction of the middle.

    Parameters
    ----------
    light : (H, W) float32, the bands added, lightly smoothed.
    known : (H, W) bool, measured in any band.
    peaks : (N, 2) of (y, x).
    fractions : (N,) between 0 and 1: half is the safest, a lower one sees a disc around a bulge.
    psf_sigma : pixels; a point's variance is that of `LEAST_WIDTH`.
    widest_px : no radius is more.
    """
    radii = radii_at(light, known, _pixels(peaks, light), fractions, widest_px)
    observed = radii**2 / (-2 * np.log(fractions))
    return np.maximum(observed - psf_sigma**2, (LEAST_WIDTH * psf_sigma) ** 2)


def first_guesses(
    image: Image,
    weights: Image,
    psfs: Image,
    peaks: NDArray[np.float64],
    kernels: Kernels,
    config: StartConfig,
) -> list[Start]:
    """A point or a round Gaussian for each source, in the order of the peaks.

    Parameters
    ----------
    image, weights : (C, H, W).
    psfs : (C, P, P), those of `kernels`.
    peaks : (N, 2) of (y, x).
    """
    psf_sigma = float(kernels.psf_sigma.mean())
    light = significance(image, weights)
    known = np.asarray((weights > 0).any(axis=0), bool)
    seen = float(np.hypot(psf_sigma, SMOOTHING_PX))
    at = tuple(_pixels(peaks, light).T)
    heights = light[at].astype(np.float64)
    fractions = np.clip(config.core_sigma / np.maximum(heights, 1e-30), config.core_fraction, 0.5)
    variances = intrinsic_variances(light, known, peaks, fractions, seen, config.max_radius_px)
    # Where a source stands on another its light does not end at its own: it begins small. The
    # other has more light around it: not the star in front of a galaxy, nor its brightest knot.
    extent = np.sqrt(np.count_nonzero(light > config.seen_sigma) / np.pi)
    width = max(seen, config.surroundings * extent)
    around = scipy.ndimage.gaussian_filter(light, width)[at]
    apart = np.hypot(*np.moveaxis(peaks[:, None] - peaks, -1, 0))
    on_another = (apart < REACH * np.sqrt(variances)) & (around[:, None] < around)
    variances[on_another.any(axis=1)] = (LEAST_WIDTH * seen) ** 2
    wide = variances > (LEAST_WIDTH * seen) ** 2
    psf = _profile(psfs, weights)
    sigmas = np.sqrt(variances)
    radii = [_radius(psf, *of, config) for of in zip(heights.tolist(), sigmas, strict=True)]
    centres = [(float(y), float(x)) for y, x in peaks]
    return [Start(*of) for of in zip(centres, np.where(wide, sigmas, 0), radii, strict=True)]


def _profile(psfs: Image, weights: Image) -> Image:
    """Profile of a point in `significance`, of equal flux in all bands; one in the middle."""
    mean = weights.mean(axis=(1, 2), dtype=float)
    psf = _smooth(np.asarray(np.tensordot(mean, psfs, 1), np.float32))
    half = psf.shape[0] // 2
    return np.asarray(np.maximum(psf[half, half:], psf[half:, half]) / psf.max(), np.float32)


def _radius(psf: Image, height: float, sigma: float, config: StartConfig) -> int:
    """Half side of the box that holds the light of a disc of this core to `faint_sigma`."""
    level = min(config.faint_sigma / max(height, 1e-30), 1.0)
    of_psf = float(np.count_nonzero(psf > level))
    if psf[-1] > level:  # wings beyond the stamp fall at least this fast
        of_psf *= (float(psf[-1]) / level) ** 0.25
    # An exponential's scale length is 0.7 of the sigma of the Gaussian of its core.
    of_disc = 0.7 * sigma * np.log(1 / level)
    return int(np.clip(np.hypot(of_psf, of_disc), config.min_radius_px, config.max_radius_px))


def _pixels(peaks: NDArray[np.float64], image: Image) -> NDArray[np.int64]:
    """(N, 2) whole pixels, inside the image."""
    return np.clip(np.rint(peaks), 0, np.array(image.shape) - 1).astype(np.int64)


def _smooth(image: Image) -> Image:
    rows: Image = scipy.ndimage.convolve1d(image, SMOOTHING, axis=0, mode="nearest")
    out: Image = scipy.ndimage.convolve1d(rows, SMOOTHING, axis=1, mode="nearest")
    return out


@kernel
def radii_at(image: Any, known: Any, pixels: Any, fractions: Any, widest: int) -> Any:
    """(N,) radii in pixels of the sources at `pixels`; see `intrinsic_variances`.

    Parameters
    ----------
    image : (H, W) float32.
    known : (H, W) bool; what is not takes the value of the pixel opposite.
    pixels : (N, 2) int64 of (y, x), inside.
    """
    height, width = image.shape
    out = np.empty(pixels.shape[0])
    for n in range(pixels.shape[0]):
        y, x = pixels[n, 0], pixels[n, 1]
        centre = image[y, x]
        out[n] = widest
        before = 1.0
        for r in range(1, widest):
            steps = max(4, int(np.pi * r))
            total, count = 0.0, 0
            for s in range(steps):
                dy = int(np.rint(r * np.sin(np.pi * s / steps)))
                dx = int(np.rint(r * np.cos(np.pi * s / steps)))
                least = np.inf
                for sign in (-1, 1):
                    a, b = y + sign * dy, x + sign * dx
                    if 0 <= a < height and 0 <= b < width and known[a, b]:
                        least = min(least, image[a, b])
                if least < np.inf:
                    total, count = total + least, count + 1
            now = total / max(count, 1) / centre if centre > 0 else 0.0
            if now < fractions[n]:
                out[n] = r - 1 + (before - fractions[n]) / max(before - now, 1e-6)
                break
            before = now
    return out
