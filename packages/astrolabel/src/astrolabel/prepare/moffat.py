"""A Moffat profile fitted to one star."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from astrolabel.core.config.prepare import StarConfig
from astrolabel.core.psf import MOFFAT_BETA


def fit_moffat(
    data: NDArray[np.float32],
    valid: NDArray[np.bool_],
    y: float,
    x: float,
    r: int,
    photon: float,
    config: StarConfig,
) -> tuple[float, ...] | None:
    """(y, x, fwhm, beta, e1, e2) of one star in units of the noise, from a cutout of radius `r`,
    one photon being `photon`;
    None at the image's edge, with half of its pixels not valid, too faint or without a good
    fit."""
    cy, cx = round(y), round(x)
    if min(cy, cx) < r:
        return None
    part = (slice(cy - r, cy + r + 1), slice(cx - r, cx + r + 1))
    cut, known = data[part], valid[part]
    if cut.shape != (2 * r + 1, 2 * r + 1) or cut.sum() < config.fit_snr * (2 * r + 1):
        return None
    if known.mean() < 0.5:
        return None
    at = np.argwhere(known).astype(np.float64) - r
    seen = cut[known].astype(np.float64)
    start = np.array([cut.max(), y - cy, x - cx, min(4.0, r / 2), MOFFAT_BETA, 0.01, 0.01])
    # The noise is of the model's photons: were it the pixels', low ones would count for more.
    noise = np.ones(len(seen))
    for _ in range(2 if photon else 1):
        result = optimize.least_squares(
            lambda p, noise=noise: (profile(p, at) - seen) / noise,
            start,
            lambda p, noise=noise: slopes(p, at) / noise[:, None],
            bounds=(
                [0, -2, -2, 0.9 * config.least_fwhm_px, 1.5, -0.4, -0.4],
                [np.inf, 2, 2, r, config.most_beta, 0.4, 0.4],
            ),
            loss="soft_l1",  # a neighbour in the stamp must not widen the star
            # Noise of few photons is lopsided: below so many sigma its mean is wanted.
            f_scale=config.fit_noise_sigma if photon else 1.0,
            x_scale="jac",  # or bright stars take more steps than there are
            # The default needs hundreds of steps for a star as narrow as a pixel, near the bounds;
            # and widths are wanted to a thousandth.
            method="dogbox",
            ftol=1e-6,
            xtol=1e-6,
        )
        noise = np.sqrt(1 + photon * profile(result.x, at))
    fwhm, left = float(result.x[3]), (profile(result.x, at) - seen) / noise
    core = np.hypot(*at.T) <= fwhm
    misfit = float(np.sqrt(np.mean(left[core] ** 2)))
    most = config.fit_noise_sigma + config.misfit * (seen / noise).max()
    if not result.success or not config.least_fwhm_px < fwhm < 0.95 * r or misfit > most:
        return None
    _, dy, dx, *shape = (float(v) for v in result.x)
    return cy + dy, cx + dx, *shape


def profile(p: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) elliptical Moffat at (N, 2) places (y, x).

    Parameters
    ----------
    p : peak, y, x, FWHM in pixels (of the circle of the same area), beta, and the components
        along x and along the diagonal of an ellipticity of (1 - q) / (1 + q), q the axis ratio.
    """
    *_, squared = _distance(p, at)
    return np.asarray(p[0] * (1 + squared) ** -p[4])


def slopes(p: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 7) derivatives of `profile` by its parameters: by differences it is a fit's whole
    time."""
    peak, _, _, fwhm, beta, e1, e2 = p
    y, x, v, u, squared = _distance(p, at)
    unit = (1 + squared) ** -beta
    fall = -beta * peak * unit / (1 + squared)  # by the squared distance
    scale = _scale(fwhm, beta) / (1 - e1**2 - e2**2)
    root = 2 ** (1 / beta)
    by_beta = -np.log1p(squared) * peak * unit
    by_beta -= fall * squared * root * np.log(2) / (beta**2 * (root - 1))
    return np.stack(
        [
            unit,
            2 * scale * fall * (e2 * u - (1 + e1) * v),
            2 * scale * fall * (e2 * v - (1 - e1) * u),
            -2 / fwhm * fall * squared,
            by_beta,
            2 * fall * (scale * (v * y - u * x) + squared * e1 / (1 - e1**2 - e2**2)),
            2 * fall * (-scale * (u * y + v * x) + squared * e2 / (1 - e1**2 - e2**2)),
        ],
        axis=1,
    )


def _distance(p: NDArray[np.float64], at: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Of each place y and x from the centre, the same made round, and the square of their distance
    over the profile's radius."""
    _, dy, dx, fwhm, beta, e1, e2 = p
    y, x = at[:, 0] - dy, at[:, 1] - dx
    v, u = (1 + e1) * y - e2 * x, (1 - e1) * x - e2 * y
    return y, x, v, u, _scale(fwhm, beta) / (1 - e1**2 - e2**2) * (v**2 + u**2)


def _scale(fwhm: float, beta: float) -> float:
    """One over the square of the Moffat's radius."""
    return float(4 * (2 ** (1 / beta) - 1) / fwhm**2)
