"""PSFs measured on the stars of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import optimize

from astrolabel.core import background
from astrolabel.core.config.prepare import StarConfig
from astrolabel.core.psf import MOFFAT_BETA, moffat
from astrolabel.prepare import mesh


@dataclass(frozen=True, eq=False)
class StarFits:
    """The stars of one band.

    Attributes
    ----------
    fits : (N, 4) of FWHM in pixels, beta, and two components of ellipticity.
    agree : whether they are enough, and of one width.
    """

    fits: NDArray[np.float64]
    agree: bool

    @property
    def fwhm_px(self) -> float:
        """Median FWHM; NaN without stars."""
        return float(np.median(self.fits[:, 0])) if len(self.fits) else float("nan")

    def stamp(self) -> NDArray[np.float32]:
        """A Moffat with the median of the fits."""
        fwhm, beta, e1, e2 = np.median(self.fits, axis=0)
        e = min(float(np.hypot(e1, e2)), 0.5)
        q, theta = (1 - e) / (1 + e), float(np.arctan2(e2, e1)) / 2
        return moffat(float(fwhm), float(beta), q=q, theta=theta)

    def told(self) -> str:
        _, beta, _, _ = np.median(self.fits, axis=0)
        return (
            f"Moffat of FWHM {self.fwhm_px:.2f} px, beta {beta:.1f}, "
            f"fitted to {len(self.fits)} stars"
        )


def fit_stars(
    relative: NDArray[np.float32], valid: NDArray[np.bool_], config: StarConfig
) -> list[NDArray[np.float64]]:
    """Moffats fitted to the stars of each band, as in `StarFits`.

    Stars are found once, on the sum of the bands: bright, round, isolated sources
    on empty ground, whose half-light radius lies in the narrow ridge at the small end of all
    radii; single pixels and the brightest twentieth, which may be saturated, are left out.
    In each band every star is fitted on its own.

    Parameters
    ----------
    relative : (C, H, W) images less their sky, over its noise.
    valid : (C, H, W).
    """
    data = np.where(valid, relative, 0).astype(np.float32)
    stars = _stars(background.native(data.mean(axis=0)), np.all(valid, axis=0), config)
    return [
        np.array(
            [f for y, x, r in stars if (f := _fit_moffat(band, y, x, r, config)) is not None]
        ).reshape(-1, 4)
        for band in data
    ]


def alike(fits: NDArray[np.float64], config: StarConfig) -> StarFits:
    """The stars among fits of one band: those of one width. The median of what is left does not
    care for a galaxy or two among them."""
    for _ in range(3):
        if len(fits) == 0:
            break
        middle = np.median(fits[:, 0])
        keep = np.abs(fits[:, 0] - middle) < config.scatter * middle
        if keep.all() or not keep.any():
            break
        fits, before = fits[keep], len(fits)
        if len(fits) < before / 2:
            fits = fits[:0]
    return StarFits(fits, len(fits) >= config.min_stars)


def _stars(
    data: NDArray[np.float32], valid: NDArray[np.bool_], config: StarConfig
) -> list[tuple[float, float, int]]:
    """(y, x, radius of the cutout to fit) of likely stars, the brightest first."""
    free = valid & (np.abs(data) < 4)
    _, rms = mesh.clipped(data[free])
    sep.set_extract_pixstack(max(data.size, 300_000))
    if not rms > 0:
        return []
    try:
        table = sep.extract(data, config.threshold_sigma, err=rms, mask=~valid, minarea=5)
    except Exception:  # sep raises this bare: too many pixels or sources in one object
        return []
    if len(table) == 0:
        return []
    radius, flags = sep.flux_radius(
        data, table["x"], table["y"], np.full(len(table), 12.0), 0.5, subpix=5
    )
    snr = table["flux"] / (rms * np.sqrt(np.maximum(table["npix"], 1)))
    good = (table["flag"] == 0) & (flags == 0) & (snr > config.min_snr)
    good &= table["b"] > config.min_axis_ratio * table["a"]
    bright = table["peak"] <= np.quantile(table["peak"], config.brightest)
    good &= bright if (good & bright).sum() >= config.min_stars else True
    good &= np.array(
        [
            _sharpness(data, y, x) < config.sharpest
            for y, x in zip(table["ypeak"], table["xpeak"], strict=True)
        ]
    )
    half = np.clip(np.ceil(4 * np.nan_to_num(radius, nan=2.0)), 8, 20).astype(int)
    good &= np.array(
        [
            _stands_alone(data, y, x, r, rms, config)
            for y, x, r in zip(table["y"], table["x"], half, strict=True)
        ]
    )
    if not good.any():
        return []
    # The stellar ridge: nothing is smaller than a star, so it is the first window of radii
    # that is nearly as full as the fullest. A lone smaller source is a cosmic ray.
    small, wide = np.sort(radius[good]), 1 + config.ridge_width
    counts = np.searchsorted(small, small * wide, side="right") - np.arange(len(small))
    least = max(min(config.min_stars, counts.max()), config.ridge_full * counts.max())
    low = small[int(np.argmax(counts >= least))]
    chosen = np.flatnonzero(good & (radius >= low) & (radius <= wide * low))
    chosen = chosen[np.argsort(table["flux"][chosen])[::-1]][: config.max_stars]
    return [(float(table["y"][k]), float(table["x"][k]), int(half[k])) for k in chosen]


def _sharpness(data: NDArray[np.float32], y: int, x: int) -> float:
    """Part of the light of 3x3 pixels that is in the middle one, or half of that in the
    brightest two."""
    around = data[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
    total = float(np.maximum(around, 0).sum())
    two = float(np.sort(around, axis=None)[-2:].sum())
    return max(float(data[y, x]), 0.6 * two) / total if total > 0 else 1.0


def _stands_alone(
    data: NDArray[np.float32], y: float, x: float, r: int, rms: float, config: StarConfig
) -> bool:
    """Whether there is nothing around a source: its cutout's rim is dark."""
    cy, cx = round(y), round(x)
    if min(cy, cx) < r or cy + r >= data.shape[0] or cx + r >= data.shape[1]:
        return False
    cut = data[cy - r : cy + r + 1, cx - r : cx + r + 1]
    rim = np.concatenate([cut[0], cut[-1], cut[1:-1, 0], cut[1:-1, -1]])
    return bool(np.median(rim) < config.ring * cut.max() + rms)


def _fit_moffat(
    data: NDArray[np.float32], y: float, x: float, r: int, config: StarConfig
) -> tuple[float, float, float, float] | None:
    """(fwhm, beta, e1, e2) of one star in units of the noise, from a cutout of radius `r`;
    None at the image's edge, too faint or without a good fit."""
    cy, cx = round(y), round(x)
    cut = data[cy - r : cy + r + 1, cx - r : cx + r + 1] if min(cy, cx) >= r else data[:0]
    if cut.shape != (2 * r + 1, 2 * r + 1) or cut.sum() < config.fit_snr * (2 * r + 1):
        return None
    gy, gx = np.mgrid[-r : r + 1, -r : r + 1].astype(float)

    def model(p: NDArray[np.float64]) -> NDArray[np.float64]:
        amplitude, dy, dx, fwhm, beta, e1, e2 = p
        e = np.hypot(e1, e2)
        q, theta = (1 - e) / (1 + e), np.arctan2(e2, e1) / 2
        u = (gx - dx) * np.cos(theta) + (gy - dy) * np.sin(theta)
        v = -(gx - dx) * np.sin(theta) + (gy - dy) * np.cos(theta)
        alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
        return np.asarray(amplitude * (1 + (u**2 * q + v**2 / q) / alpha**2) ** -beta)

    start = np.array([cut.max(), y - cy, x - cx, min(4.0, r / 2), MOFFAT_BETA, 0.01, 0.01])
    result = optimize.least_squares(
        lambda p: (model(p) - cut).ravel(),
        start,
        bounds=([0, -2, -2, 1.0, 1.5, -0.4, -0.4], [np.inf, 2, 2, r, 8, 0.4, 0.4]),
        loss="soft_l1",  # a neighbour in the stamp must not widen the star
        x_scale="jac",  # or bright stars take more steps than there are
    )
    fwhm, left = float(result.x[3]), model(result.x) - cut
    core = np.hypot(gy, gx) <= fwhm
    misfit = float(np.sqrt(np.mean(left[core] ** 2)))
    most = config.fit_noise_sigma + config.misfit * cut.max()
    if not result.success or not 1.05 < fwhm < 0.95 * r or misfit > most:
        return None
    return tuple(float(v) for v in result.x[3:])  # type: ignore[return-value]
