"""Whether pixels are linear in flux, or a root or logarithm of it without a card that says so.

Of linear pixels all stars have one shape, and bright ones have the noise of the sky and that of
their photons. A root makes bright stars flatter than faint ones, and their noise less than the
sky's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from astrolabel.core.config.prepare import LinearConfig, StarConfig
from astrolabel.core.ranks import rank_correlation
from astrolabel.prepare.noise import Scatter
from astrolabel.prepare.psf import FWHM, fit_stars


def widths(
    relative: NDArray[np.float32],
    valid: NDArray[np.bool_],
    stars: StarConfig,
    config: LinearConfig,
    photon: Sequence[float] | None = None,
) -> list[NDArray[np.float64]]:
    """(N, 2) peak and FWHM of round, isolated sources of any width, by band.

    Parameters
    ----------
    relative, valid, photon : as for `fit_stars`.
    """
    loose = replace(
        stars, min_snr=config.min_snr, fit_snr=config.min_snr / 2, ridge_width=1e6,
        brightest=1.0, max_stars=math.ceil(config.share * stars.max_stars),
    )  # fmt: skip
    found = []
    for data, fits in zip(relative, fit_stars(relative, valid, loose, photon), strict=True):
        y, x = np.rint(fits[:, :2]).astype(int).T
        found.append(np.stack([data[y, x].astype(np.float64), fits[:, FWHM]], axis=1))
    return found


def wider(sources: NDArray[np.float64], config: LinearConfig) -> float:
    """By how much bright stars are wider than faint ones, where that is a law; else 1.

    A law is that all widths are on one curve that rises: those of galaxies are on none.

    Parameters
    ----------
    sources : (N, 2) as of `widths`.
    """
    if len(sources) < config.min_stars:
        return 1.0
    peak, width = sources[np.argsort(sources[:, 0])].T
    width = np.log(width)
    if np.ptp(width) == 0:
        return 1.0
    correlation, chance = rank_correlation(peak, width)
    curve = optimize.isotonic_regression(width).x
    # The faintest may be narrow and the brightest wide by chance, or a galaxy.
    growth = float(np.exp(curve[-2] - curve[len(curve) // 5]))
    on_it = float(np.median(np.abs(width - curve))) < config.scatter
    law = correlation > 0 and chance < config.chance and on_it
    return growth if law and growth > config.growth else 1.0


def quieter(parts: Sequence[Scatter], config: LinearConfig) -> float:
    """Noise (variance) of the brightest pixels over the sky's, where that is less; else 1."""
    light = np.concatenate([part.light for part in parts]) if parts else np.zeros(0)
    if len(light) < config.bright_px:
        return 1.0
    brightest = np.argsort(light)[-config.bright_px :]
    squared = np.concatenate([part.squared for part in parts])[brightest]
    level = float(np.nanmedian([part.sky_squared for part in parts]))
    ratio = float(np.median(squared)) / level if level > 0 else 1.0
    return ratio if ratio < config.quiet else 1.0
