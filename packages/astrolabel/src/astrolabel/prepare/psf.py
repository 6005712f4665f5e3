"""PSFs measured on the stars of an image."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import optimize

from astrolabel.core import background
from astrolabel.core.psf import MOFFAT_BETA, moffat
from astrolabel.prepare import noise


def from_stars(
    images: NDArray[np.float32], valid: NDArray[np.bool_], min_stars: int = 3
) -> tuple[tuple[NDArray[np.float32], str] | None, ...]:
    """A Moffat fitted to the stars of each band.

    Stars are found once, on the sum of the bands in units of their noise: bright (S/N >
    40), round, isolated sources whose half-light radius lies in the narrow ridge at the
    small end of all radii; saturated ones are shut out by leaving the brightest twentieth.
    In each band every star is fitted on its own; the median of the fits does not care for
    a galaxy or two among them.

    Parameters
    ----------
    images, valid : (C, H, W).

    Returns
    -------
    (stamp, note) by band; None for a band with fewer than `min_stars` good fits.
    """
    data = np.empty_like(images)
    for k, (image, good) in enumerate(zip(images, valid, strict=True)):
        sky = noise.source_free_sky(image, good)
        rms = float(np.median(sky.rms))
        data[k] = background.fill_invalid(image - sky.level, good) / (rms if rms > 0 else 1.0)
    stars = _stars(background.native(data.mean(axis=0)), np.all(valid, axis=0))
    found: list[tuple[NDArray[np.float32], str] | None] = []
    for band in data:
        fits_ = [f for y, x in stars if (f := _fit_moffat(band, y, x)) is not None]
        if len(fits_) < min_stars:
            found.append(None)
            continue
        fwhm, beta, e1, e2 = np.median(np.array(fits_), axis=0)
        e = min(float(np.hypot(e1, e2)), 0.5)
        q, theta = (1 - e) / (1 + e), float(np.arctan2(e2, e1)) / 2
        note = f"Moffat of FWHM {fwhm:.2f} px, beta {beta:.1f}, fitted to {len(fits_)} stars"
        found.append((moffat(float(fwhm), float(beta), q=q, theta=theta), note))
    return tuple(found)


def _stars(data: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 2) positions of likely stars, brightest first, at most 50."""
    rms = float(np.median(noise.source_free_sky(data, valid).rms))
    sep.set_extract_pixstack(max(data.size, 300_000))
    nothing = np.zeros((0, 2))
    if not rms > 0:
        return nothing
    table = sep.extract(data, 10.0, err=rms, mask=~valid, minarea=5)
    if len(table) == 0:
        return nothing
    radius, flags = sep.flux_radius(
        data, table["x"], table["y"], np.full(len(table), 12.0), 0.5, subpix=5
    )
    snr = table["flux"] / (rms * np.sqrt(np.maximum(table["npix"], 1)))
    good = (table["flag"] == 0) & (flags == 0) & (snr > 40) & (table["b"] > 0.8 * table["a"])
    good &= table["peak"] <= np.quantile(table["peak"], 0.95)
    if not good.any():
        return nothing
    # The stellar ridge: nothing is smaller than a star, so it is the first window of radii,
    # 10 % wide, that is nearly as full as the fullest. A lone smaller source is a cosmic ray.
    small = np.sort(radius[good])
    counts = np.searchsorted(small, small * 1.1, side="right") - np.arange(len(small))
    low = small[int(np.argmax(counts >= max(3, 0.4 * counts.max())))]
    stars = table[good & (radius >= low) & (radius <= 1.1 * low)]
    stars = stars[np.argsort(stars["flux"])[::-1]][:50]
    return np.stack([stars["y"], stars["x"]], axis=1).astype(np.float64)


def _fit_moffat(
    data: NDArray[np.float32], y: float, x: float
) -> tuple[float, float, float, float] | None:
    """(fwhm, beta, e1, e2) of one star in units of the noise; None at the image's edge,
    below S/N 20 or without a good fit."""
    r = 8
    cy, cx = round(y), round(x)
    cut = data[cy - r : cy + r + 1, cx - r : cx + r + 1] if min(cy, cx) >= r else data[:0]
    if cut.shape != (2 * r + 1, 2 * r + 1) or cut.sum() < 20 * (2 * r + 1):
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

    start = np.array([cut.max(), y - cy, x - cx, 4.0, MOFFAT_BETA, 0.01, 0.01])
    result = optimize.least_squares(
        lambda p: (model(p) - cut).ravel(),
        start,
        bounds=([0, -2, -2, 1.2, 1.5, -0.4, -0.4], [np.inf, 2, 2, 16, 8, 0.4, 0.4]),
        loss="soft_l1",  # a neighbour in the stamp must not widen the star
    )
    if not result.success:
        return None
    return tuple(float(v) for v in result.x[3:])  # type: ignore[return-value]
