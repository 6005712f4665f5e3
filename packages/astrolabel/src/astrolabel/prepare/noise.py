"""Noise: the photons' of the sources, the correlation of pixels, and whether what a file gives
is the scatter of its sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from astrolabel.core.background import native
from astrolabel.core.config.prepare import NoiseConfig, PrepareConfig
from astrolabel.prepare import mesh


@dataclass(frozen=True, eq=False)
class NoiseCheck:
    """The noise that a file gives, against the scatter of its empty sky.

    Attributes
    ----------
    ratio : scatter over given sigma, of single pixels; NaN with too little sky.
    cells : (N,) the same in those cells of the mesh where it is known.
    """

    ratio: float
    cells: NDArray[np.float64]

    @property
    def uneven(self) -> float:
        """The ratio in the cells, 90 over 10 %."""
        low, high = np.percentile(self.cells, [10, 90]) if self.cells.size > 3 else (1.0, 1.0)
        return float(high / low)


def check_given(
    relative: NDArray[np.float32],
    free: NDArray[np.bool_],
    cells: tuple[int, int],
    grain: mesh.Grain,
    config: PrepareConfig,
) -> NoiseCheck:
    """Compare given noise with scatter.

    Parameters
    ----------
    relative : (H, W) image less its sky, over the given sigma.
    free : (H, W) bool, empty sky.
    cells : (ny, nx) of the mesh.
    grain : of the image, over a typical sigma.
    """
    if np.count_nonzero(free) < config.noise.min_sky_px:
        return NoiseCheck(float("nan"), np.zeros(0))
    _, scatter = mesh.measure(relative, free, cells, config.sky.min_free, grain=grain)
    _, ratio = mesh.clipped(relative[free], grain)
    return NoiseCheck(ratio, scatter[np.isfinite(scatter) & (scatter > 0)])


def correlation(
    relative: NDArray[np.float32], free: NDArray[np.bool_], config: NoiseConfig
) -> NDArray[np.float32] | None:
    """(2R+1, 2R+1) correlation of the noise by offset, 1 in the middle; None with too little
    sky.

    Parameters
    ----------
    relative : (H, W) image less its sky, over its noise.
    config : its `correlation_radius_px` is R.
    """
    side, radius = config.correlation_side_px, config.correlation_radius_px
    top, left = ((max(n - side, 0)) // 2 for n in free.shape)
    part = (slice(top, top + side), slice(left, left + side))
    known = free[part]
    if np.count_nonzero(known) < 10 * config.min_sky_px:
        return None
    values = relative[part]
    middle, sigma = mesh.clipped(values[known])
    # Of counts that are mostly zero the scatter is none, but their noise is known.
    known = known & (np.abs(values - middle) < config.correlation_clip_sigma * max(sigma, 1))
    flat = np.where(known, values - values[known].mean(), 0).astype(np.float32)
    out = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    rows, columns = flat.shape
    weight = known.astype(np.float32)
    power = float((flat**2).sum()) / max(float(weight.sum()), 1)
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            one = (slice(0, rows - dy), slice(max(-dx, 0), columns - max(dx, 0)))
            other = (slice(dy, rows), slice(max(dx, 0), columns - max(-dx, 0)))
            pairs = float(np.vdot(weight[one], weight[other]))
            value = float(np.vdot(flat[one], flat[other])) / max(pairs, 1) / max(power, 1e-30)
            value = value if abs(value) > config.correlation_floor else 0.0
            out[radius + dy, radius + dx] = out[radius - dy, radius - dx] = value
    out[radius, radius] = 1
    return out


HIGH_PASS = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
"""Fourth difference, along both axes: of a source as wide as a PSF it leaves a thousandth, of
noise all."""


@dataclass(frozen=True, eq=False)
class Scatter:
    """The noise of an image at the highest frequencies, to which sources as wide as the PSF add
    nothing: that of bright pixels beside that of the sky.

    Attributes
    ----------
    light, squared : (N,) of bright pixels, in sigma of the sky and its square.
    sky_px : number of sky pixels.
    sky_squared : median of theirs; NaN of none.
    rms : the sky's, counts; median of all pixels.
    """

    light: NDArray[np.floating[Any]]
    squared: NDArray[np.float64]
    sky_px: int
    sky_squared: float
    rms: float


def scatter_of(
    image: NDArray[np.float32],
    sky_rms: NDArray[np.float32],
    valid: NDArray[np.bool_],
    stamp: NDArray[np.float32],
    config: NoiseConfig,
) -> Scatter | None:
    """The noise of an image's sources and sky; None where the PSF is so narrow that its own shape
    would count as noise (below about 3 px).

    Parameters
    ----------
    image, sky_rms, valid : (H, W) counts, sky subtracted.
    stamp : (P, P) PSF.
    """

    def sharp(array: NDArray[Any]) -> NDArray[np.float64]:
        rows = ndimage.convolve1d(array.astype(np.float64), HIGH_PASS, 0, mode="nearest")
        return np.asarray(ndimage.convolve1d(rows, HIGH_PASS, 1, mode="nearest"))

    power = float((HIGH_PASS**2).sum())
    shape = float(np.abs(sharp(np.pad(stamp, 4))).max() / stamp.max() / power)
    least, most = config.photon_sigma
    most = min(most, 1 / max(shape, 1e-9))
    if most < 4 * least:
        return None
    known = ndimage.binary_erosion(valid & (sky_rms > 0), np.ones((5, 5)))
    relative = np.where(known, image / np.where(sky_rms > 0, sky_rms, 1), 0)
    smooth = ndimage.gaussian_filter(relative, config.photon_smoothing_px)
    squared = sharp(relative) ** 2
    # Where the kernel reaches pixels that are set to zero it sees an edge.
    known = ndimage.binary_erosion(known, np.ones((5, 5)))
    bright = known & (smooth > least) & (smooth < most)
    sky = known & (np.abs(smooth) < 1)
    return Scatter(
        smooth[bright],
        squared[bright],
        int(sky.sum()),
        float(np.median(squared[sky])) if sky.any() else float("nan"),
        float(np.median(sky_rms[known])) if known.any() else float("nan"),
    )


def electrons_per_count(parts: Sequence[Scatter], config: NoiseConfig) -> float | None:
    """Light per photon noise squared, measured in the sources of the sections of an image.

    The scatter is compared between bright pixels and the sky; so correlated noise does not
    matter.

    Returns
    -------
    Counts over counts squared: ``variance = sky_rms**2 + image / electrons_per_count``. None
    where sources show no more noise than the sky, or where too few pixels are bright.
    """
    bright = sum(len(part.light) for part in parts)
    if min(bright, sum(part.sky_px for part in parts)) < config.min_photon_px:
        return None
    light = np.concatenate([part.light for part in parts])
    scatter = np.concatenate([part.squared for part in parts])
    level = float(np.nanmedian([part.sky_squared for part in parts]))

    def excess(slope: float) -> float:
        return float(np.median(scatter / (1 + slope * light))) - level

    if not level > 0 or excess(0.0) <= 0:
        return None
    slope = float(optimize.brentq(excess, 0.0, 1e6 * excess(0.0) / level, maxiter=1000))
    return 1 / (slope * float(np.nanmedian([part.rms for part in parts])))


def with_photons(
    image: NDArray[np.float32],
    sky_rms: NDArray[np.float32],
    electrons: float | None,
    config: NoiseConfig,
    few: bool = False,
) -> NDArray[np.float32]:
    """(H, W) float32 variance: the sky's, and the photon noise of the sources (see
    `electrons_per_count`; None adds nothing). `few` for counts of few photons."""
    variance = sky_rms**2
    if electrons is not None:
        finite = np.nan_to_num(image, posinf=0, neginf=0)
        width = config.few_smoothing_px if few else config.photon_smoothing_px
        light = np.maximum(ndimage.gaussian_filter(finite, width), 0)
        bright = light > config.photon_least_sigma * sky_rms
        return native(variance + np.where(bright, light, 0) / electrons)
    return native(variance)
