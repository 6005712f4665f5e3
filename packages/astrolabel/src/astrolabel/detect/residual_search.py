"""Iterative detection: candidates in the image minus the models of the sources.

The sources found so far are fitted as sums of Gaussians (`mog`) and subtracted. Where the
residual, filtered with the PSF, stands out of the noise a candidate is added; all that touch it
are fitted again; candidates that one's model absorbed are added (`close_pairs`); and both are
done once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrolabel.core.config import FitConfig, ResidualConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.deblend.initialize import LEAST_WIDTH, intrinsic_variances
from astrolabel.detect import close_pairs, fit, mog
from astrolabel.detect.features import Fits
from astrolabel.detect.psf_mog import mixture

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sky:
    """What the models are fitted to.

    Attributes
    ----------
    image : (C, H, W) float32 counts, finite.
    weights : (C, H, W) float32, 1/variance; zero where a pixel must not be used.
    psfs : (C, P, P) float32.
    fwhm_px : seeing, mean of the bands.
    """

    image: NDArray[np.float32]
    weights: NDArray[np.float32]
    psfs: NDArray[np.float32]
    fwhm_px: float


def searched(
    sky: Sky, peaks: NDArray[np.float64], possible: NDArray[np.bool_], config: ResidualConfig
) -> Models:
    """Models of `peaks` and of what is found beside them, fitted together.

    Parameters
    ----------
    peaks : (N, 2) of (y, x) in pixels, N > 0.
    possible : (H, W) bool, where a peak may be added.

    Returns
    -------
    Models
        Their first N peaks are the given ones; the others are whole pixels.
    """
    sigma = sky.fwhm_px / FWHM_PER_SIGMA
    of_bands = sky.weights.mean(axis=(1, 2))
    light = np.tensordot(of_bands / max(float(of_bands.sum()), 1e-30), sky.image, 1)
    # Takes off half of a pixel's noise.
    light = ndimage.gaussian_filter(light.astype(np.float32), 0.7)
    everywhere = np.ones(light.shape, bool)
    half = np.full(len(peaks), 0.5)
    widest = config.fit.start_width_px
    variances = intrinsic_variances(light, everywhere, peaks, half, sigma, widest)
    models = Models(sky, peaks, variances, config.fit)
    for turn in range(config.fit.first_passes):
        models.one_pass(move=turn > 0)
    changed = np.ones(len(peaks), bool)  # since the last search for close pairs
    for _ in range(config.rounds):
        new = _residual_peaks(sky, models, possible, config)
        changed = np.concatenate([changed, np.ones(len(new), bool)])
        changed |= _fitted_with(models, new, sigma, config)
        new = _close_pairs(sky, models, possible, changed, config)
        changed = _fitted_with(models, new, sigma, config)
    return models


def _fitted_with(
    models: Models, new: NDArray[np.float64], sigma: float, config: ResidualConfig
) -> NDArray[np.bool_]:
    """Add sources to the models; (N,) bool: those that were fitted, the new and all near them."""
    if len(new) == 0:
        return np.zeros(len(models.peaks), bool)
    models.add(new, np.full(len(new), (LEAST_WIDTH * sigma) ** 2))
    apart = cKDTree(new).query(models.shapes[:, :2])[0]
    near: NDArray[np.bool_] = apart < models.radii + config.fit.min_radius_px
    for turn in range(config.fit.next_passes):
        models.one_pass(move=turn > 0, which=near)
    return near


class Models:
    """All sources of a tile while they are fitted; see `fit.one_pass` for the arrays."""

    def __init__(self, sky: Sky, peaks: Array, variances: Array, config: FitConfig) -> None:
        self._config = config
        self._mixture = mixture(sky.psfs)
        self._sky = sky
        self.residual = sky.image.copy()
        typical = [np.median(w[w > 0]) if (w > 0).any() else np.inf for w in sky.weights]
        self._noise = 1 / np.sqrt(np.array(typical))
        self._widths = np.array(mog.WIDTHS)
        bands = len(sky.image)
        self.peaks = np.zeros((0, 2))
        self.shapes = np.zeros((0, mog.SHAPE))
        self.amplitudes = np.zeros((0, bands, len(self._widths)))
        self.radii = np.zeros(0, np.int64)
        self.add(peaks, variances)

    def add(self, peaks: Array, variances: Array) -> None:
        """Sources without light yet, round, of these intrinsic variances in pixels squared."""
        n = len(peaks)
        shapes = np.zeros((n, mog.SHAPE))
        shapes[:, :2] = peaks
        shapes[:, 2] = shapes[:, 4] = variances
        seeing = (self._sky.fwhm_px / FWHM_PER_SIGMA) ** 2
        radii = np.clip(
            3 * np.sqrt(4 * variances + seeing),
            self._config.min_radius_px,
            self._config.start_width_px,
        )
        self.peaks = np.concatenate([self.peaks, peaks])
        self.shapes = np.concatenate([self.shapes, shapes])
        self.amplitudes = np.concatenate(
            [self.amplitudes, np.zeros((n, *self.amplitudes.shape[1:]))]
        )
        self.radii = np.concatenate([self.radii, radii.astype(np.int64)])

    def fits(self) -> Fits:
        """What the models say of every source."""
        n, bands = len(self.peaks), len(self.amplitudes[0])
        gain, part, flux = np.zeros(n), np.zeros(n), self.amplitudes.sum(axis=(1, 2))
        total = np.maximum((self._sky.image - self.residual).sum(axis=0), 1e-30)
        height, width = total.shape
        for k in range(n):
            y, x = np.rint(self.shapes[k, :2]).astype(int)
            r = self.radii[k]
            y0, y1 = max(y - r, 0), min(y + r + 1, height)
            x0, x1 = max(x - r, 0), min(x + r + 1, width)
            if y1 <= y0 or x1 <= x0:
                continue
            light = np.empty((bands, y1 - y0, x1 - x0), np.float32)
            mog.light_of(y0, x0, self.shapes[k], self.amplitudes[k], *self.profiles, light)
            box = (slice(None), slice(y0, y1), slice(x0, x1))
            weights, left = self._sky.weights[box], self.residual[box]
            gain[k] = float((weights * light * (light + 2 * left)).sum())
            at = np.clip(self.peaks[k].astype(int), (y0, x0), (y1 - 1, x1 - 1))
            part[k] = light[:, at[0] - y0, at[1] - x0].sum() / total[tuple(at)]
        size = (self.amplitudes.sum(axis=1) * self._widths**2).sum(axis=1)
        size *= 0.5 * (self.shapes[:, 2] + self.shapes[:, 4]) / np.maximum(flux, 1e-30)
        host = np.zeros(n)
        for k in np.argsort(flux):  # the brightest that holds a peak comes last
            host[np.abs(self.peaks - self.shapes[k, :2]).max(axis=1) <= self.radii[k]] = flux[k]
        return Fits(gain, np.clip(part, 0, 2),
                    np.sqrt(np.maximum(size, 0)) * FWHM_PER_SIGMA / self._sky.fwhm_px,
                    flux, host, self.residual, self._sky.weights)  # fmt: skip

    @property
    def noise(self) -> NDArray[np.float64]:
        """(C,) counts: typical sigma of a pixel."""
        return self._noise

    @property
    def profiles(self) -> tuple[Array, Array, Array]:
        """Widths of the Gaussians, and the PSFs' weights and covariances."""
        return self._widths, self._mixture.weights, self._mixture.covariances

    def host(self, n: int, half: int) -> close_pairs.Host:
        """Source `n` with the pixels within `half` of it."""
        y, x = np.rint(self.shapes[n, :2]).astype(int)
        y0, x0 = max(y - half, 0), max(x - half, 0)
        box = (slice(None), slice(y0, y + half + 1), slice(x0, x + half + 1))
        near = (np.ascontiguousarray(a[box]) for a in (self.residual, self._sky.weights))
        return close_pairs.Host(y0, x0, self.shapes[n], self.amplitudes[n], *near)

    def one_pass(self, *, move: bool, which: NDArray[np.bool_] | None = None) -> None:
        """Fit each source once, the brightest first."""
        at = tuple(self.peaks.astype(int).T)
        order = np.argsort(-self._sky.image[:, at[0], at[1]].sum(axis=0), kind="stable")
        if which is not None:
            order = order[which[order]]
        fit.one_pass(
            order,
            move,
            self.residual,
            self._sky.weights,
            self._noise,
            self.peaks,
            self.shapes,
            self.amplitudes,
            self.radii,
            self._widths,
            self._mixture.weights,
            self._mixture.covariances,
            fit.limits(self._config),
        )


def _residual_peaks(
    sky: Sky, models: Models, possible: NDArray[np.bool_], config: ResidualConfig
) -> NDArray[np.float64]:
    """(M, 2) peaks of the residual, the most significant first."""
    sigma = sky.fwhm_px / FWHM_PER_SIGMA

    def blur(planes: Array, width: float) -> Array:
        return np.stack([ndimage.gaussian_filter(p, width, truncate=3.0) for p in planes])

    pull = np.maximum(blur(sky.weights * models.residual, sigma), 0)
    # The square of a Gaussian is one 1/sqrt(2) as wide, of integral 1/(4 pi sigma^2).
    noise2 = blur(sky.weights, sigma / np.sqrt(2)) / (4 * np.pi * sigma**2)
    chi = np.sqrt((pull**2 / np.maximum(noise2, 1e-12)).sum(axis=0))
    light = np.maximum(blur(sky.weights * sky.image, sigma), 0).sum(axis=0)
    inside = np.zeros(light.shape, bool)
    edge = round(sky.fwhm_px)  # the models of what the edge cuts are the worst
    inside[edge:-edge, edge:-edge] = True
    found = (
        possible
        & inside
        & (chi == ndimage.maximum_filter(chi, size=3))
        & (chi > config.threshold_sigma)
        & (pull.sum(axis=0) > config.contrast * light)
    )
    strongest = np.argsort(-chi[found], kind="stable")
    at: NDArray[np.float64] = np.argwhere(found)[strongest].astype(np.float64)
    if len(at) == 0:
        return at
    nearest = [cKDTree(p).query(at)[0] for p in (models.peaks, models.shapes[:, :2])]
    at = at[np.minimum(*nearest) > config.separation_fwhm * sky.fwhm_px]
    return _apart(at, config.spacing_fwhm * sky.fwhm_px)


def _close_pairs(
    sky: Sky,
    models: Models,
    possible: NDArray[np.bool_],
    which: NDArray[np.bool_],
    config: ResidualConfig,
) -> NDArray[np.float64]:
    """(M, 2) peaks that the model of a source, of `which`, hides; at most one beside each."""
    sigma = sky.fwhm_px / FWHM_PER_SIGMA
    least, most = (f * sky.fwhm_px for f in config.pair_fwhm)
    # Of a point source in all bands together, in counts.
    noise = np.sqrt((models.noise**2).sum() * 4 * np.pi * sigma**2)
    flux = models.amplitudes.sum(axis=(1, 2))
    tree = cKDTree(models.shapes[:, :2])
    found, gains = [], []
    for n in np.flatnonzero(which & (flux > config.pair_snr * noise)):
        host = models.host(int(n), int(np.ceil(most)) + round(2.5 * sigma))
        _, h, w = host.residual.shape
        y, x = np.indices((h, w))
        at = np.stack([y + host.y0, x + host.x0], axis=-1)
        apart = np.hypot(*np.moveaxis(at - host.shape[:2], -1, 0))
        ring = (apart > least) & (apart < most)
        ring &= possible[host.y0 : host.y0 + h, host.x0 : host.x0 + w]
        ring[ring] = tree.query(at[ring])[1] == n  # what is nearer to another is looked for there
        if not ring.any():
            continue
        gain, second = close_pairs.gain_of_second(host, ring, sigma, *models.profiles)
        gain = np.where(second > config.pair_contrast * flux[n], gain, 0)
        best = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[best] < config.pair_gain:
            continue
        found.append(at[best])
        gains.append(gain[best])
    order = np.argsort(-np.array(gains), kind="stable")
    return _apart(np.array(found, float).reshape(-1, 2)[order], config.spacing_fwhm * sky.fwhm_px)


def _apart(points: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Those that are not within `distance` of an earlier one that is kept."""
    if len(points) == 0:
        return points
    keep = np.ones(len(points), bool)
    for i, others in enumerate(cKDTree(points).query_ball_point(points, distance)):
        if keep[i]:
            keep[[j for j in others if j > i]] = False
    return points[keep]
