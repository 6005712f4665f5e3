"""PSFs measured on the stars of an image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sep
from numpy.typing import NDArray

from astrolabel.core import background
from astrolabel.core.config.prepare import StarConfig
from astrolabel.core.psf import StampGrid, moffat
from astrolabel.prepare import mesh
from astrolabel.prepare.moffat import fit_moffat

FWHM, BETA = 2, 3
"""Columns of a star's fit: y, x, FWHM in pixels, beta, and two components of ellipticity."""
TERMS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Powers of y and x of the polynomials; those of order 0, 1, 2 are the first 1, 3, 6."""


@dataclass(frozen=True, eq=False)
class Variation:
    """Properties of stars over an image, as polynomials of place.

    Attributes
    ----------
    low, high : (2,) (y, x) of the corners of the part that holds the stars: beyond, the values are
        those of its border.
    coefficients : (T, V) of V properties. T is 1 where they are the same everywhere.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, V) properties at (N, 2) places."""
        return _powers(places, self.low, self.high, len(self.coefficients)) @ self.coefficients


def _powers(
    places: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], terms: int
) -> NDArray[np.float64]:
    """(N, terms) of places scaled to -1 to 1."""
    scaled = 2 * (np.clip(places, low, high) - low) / np.maximum(high - low, 1) - 1
    return np.stack([scaled[:, 0] ** a * scaled[:, 1] ** b for a, b in TERMS[:terms]], axis=1)


def variation(
    places: NDArray[np.float64], values: NDArray[np.float64], a_term: int = 4
) -> Variation:
    """The polynomials of the order, 0 to 2, that predicts a star best from all others.

    That is the least sum of squares of what each star differs by from the fit to the others
    (Allen's PRESS), a median standing for order 0. There are `a_term` stars for each
    term: fewer vary by chance.

    Parameters
    ----------
    places : (N, 2) of (y, x), N > 0.
    values : (N, V) of stars, in like units.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    middle = np.median(values, axis=0)[None]
    best, count = Variation(low, high, middle), len(places)
    least = ((values - middle) ** 2).sum() * (count / max(count - 1, 1)) ** 2
    for terms in (3, 6):
        if count < a_term * terms:
            break
        powers = _powers(places, low, high, terms)
        inverse = np.linalg.pinv(powers)
        coefficients = inverse @ values
        own = np.einsum("nt,tn->n", powers, inverse)  # a star's share in its own value
        left = (values - powers @ coefficients) / np.maximum(1 - own, 1e-3)[:, None]
        if (error := (left**2).sum()) < least:
            best, least = Variation(low, high, coefficients), error
    return best


@dataclass(frozen=True, eq=False)
class StarFits:
    """The stars of one band.

    Attributes
    ----------
    fits : (N, 6) as `fit_stars` gives them.
    agree : whether they are enough, and of one width where they are.
    """

    fits: NDArray[np.float64]
    agree: bool

    @property
    def fwhm_px(self) -> float:
        """Median FWHM; NaN without stars."""
        return float(np.median(self.fits[:, FWHM])) if len(self.fits) else float("nan")

    @cached_property
    def variation(self) -> Variation:
        """FWHM in parts of the median, and ellipticity, over the image."""
        _, _, fwhm, _, *ellipticity = self.fits.T
        return variation(self.fits[:, :2], np.stack([fwhm / self.fwhm_px, *ellipticity], axis=1))

    def stamps(self, places: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, P, P) Moffats at (N, 2) places (y, x), of the median beta."""
        beta, out = float(np.median(self.fits[:, BETA])), []
        for width, e1, e2 in self.variation.at(places):
            fwhm = width * self.fwhm_px
            e = min(float(np.hypot(e1, e2)), 0.5)
            q, theta = (1 - e) / (1 + e), float(np.arctan2(e2, e1)) / 2
            out.append(moffat(fwhm, beta, q=q, theta=theta))
        return np.stack(out)

    def grid(self, shape: tuple[int, int], spacing_px: int) -> StampGrid | None:
        """Stamps over an image, in the middles of equal parts; None where all are the same."""
        if len(self.variation.coefficients) == 1 or max(shape) <= spacing_px:
            return None
        parts = [-(-side // spacing_px) for side in shape]
        places = np.array([
            [(i + 0.5) * shape[0] / parts[0] - 0.5, (j + 0.5) * shape[1] / parts[1] - 0.5]
            for i in range(parts[0]) for j in range(parts[1])
        ])  # fmt: skip
        return StampGrid(places, self.stamps(places))

    def text(self) -> str:
        beta = np.median(self.fits[:, BETA])
        found, width = self.variation, f"{self.fwhm_px:.2f}"
        widths = found.at(self.fits[:, :2])[:, 0] * self.fwhm_px
        if len(found.coefficients) > 1:
            width = f"{widths.min():.2f} to {widths.max():.2f}"
        return f"Moffat of FWHM {width} px, beta {beta:.1f}, fitted to {len(self.fits)} stars"


def fit_stars(
    relative: NDArray[np.float32],
    valid: NDArray[np.bool_],
    config: StarConfig,
    photon: Sequence[float] | None = None,
) -> list[NDArray[np.float64]]:
    """Moffats fitted to the stars of each band: (N, 6) of y, x in pixels, FWHM in pixels, beta,
    and two components of ellipticity.

    Stars are found once, on the sum of the bands: bright, round, isolated sources
    on empty ground, whose half-light radius lies in the narrow ridge at the small end of all
    radii; single pixels and the brightest twentieth, which may be saturated, are left out.
    In each band every star is fitted on its own.

    Parameters
    ----------
    relative : (C, H, W) images less their sky, over its noise.
    valid : (C, H, W).
    photon : (C,) what one photon is in units of the noise, for counts of few; 0 where its noise
        is less than the sky's, as by default.
    """
    photon = [0.0] * len(relative) if photon is None else photon
    data = np.where(valid, relative, 0).astype(np.float32)
    number = np.maximum(valid.sum(axis=0), 1)  # of bands with data: noise is even then
    sum_ = background.native(data.sum(axis=0) / np.sqrt(number))
    taken: set[tuple[float, float, int]] = set()
    for _ in range(config.ridges):
        stars = _stars(sum_, np.asarray(valid.any(axis=0)), config, taken, any(photon))
        fits = [
            _without_hot_pixels(
                np.array([
                    f for star in stars
                    if (f := fit_moffat(band, known, *star, one, config)) is not None
                ]).reshape(-1, 6),
                config,
            )
            for band, known, one in zip(data, valid, photon, strict=True)
        ]  # fmt: skip
        if not stars or any(map(len, fits)):
            break
        taken.update(stars)  # hot pixels in twos and fours: no PSF fits any of them
    return fits


def _without_hot_pixels(fits: NDArray[np.float64], config: StarConfig) -> NDArray[np.float64]:
    """Fits without those as narrow as a pixel whose light falls on the pixels alike: so it does of
    hot pixels in fours, and stars are anywhere between pixels."""
    narrow = fits[:, FWHM] < config.hot_fwhm_px
    phases = np.exp(2j * np.pi * fits[narrow, :2])
    if narrow.any() and (np.abs(phases.mean(axis=0)) > config.one_phase).all():
        return fits[~narrow]
    return fits


def fit_compact(
    relative: NDArray[np.float32],
    valid: NDArray[np.bool_],
    config: StarConfig,
    photon: Sequence[float] | None = None,
) -> list[NDArray[np.float64]]:
    """(N,) FWHM in pixels, by band, of round, isolated sources down to `config.compact_snr`:
    stars, and galaxies, which are wider.

    Parameters
    ----------
    relative, valid, photon : as for `fit_stars`.
    """
    snr = config.compact_snr
    loose = replace(
        config, min_snr=snr, fit_snr=snr / 2, threshold_sigma=snr / 3, ridge_width=1e6,
        brightest=1.0,
    )  # fmt: skip
    return [fits[:, FWHM] for fits in fit_stars(relative, valid, loose, photon)]


def alike(fits: NDArray[np.float64], config: StarConfig) -> StarFits:
    """The stars among fits of one band: those of the width that stars have where they are. The
    median of what is left does not care for a galaxy or two among them."""
    if len(fits) == 0:
        return StarFits(fits, False)
    keep = np.ones(len(fits), bool)
    expected = np.full(len(fits), np.median(fits[:, FWHM]))
    for _ in range(4):
        before, keep = keep, np.abs(fits[:, FWHM] / expected - 1) < config.scatter
        if not keep.any() or (keep == before).all():
            break
        found = variation(fits[keep, :2], fits[keep, FWHM : FWHM + 1])
        expected = found.at(fits[:, :2])[:, 0]
    if keep.sum() < len(fits) / 2:
        keep[:] = False
    return StarFits(fits[keep], int(keep.sum()) >= config.min_stars)


def _stars(
    data: NDArray[np.float32],
    valid: NDArray[np.bool_],
    config: StarConfig,
    taken: Collection[tuple[float, float, int]],
    few: bool,
) -> list[tuple[float, float, int]]:
    """(y, x, radius of the cutout to fit) of likely stars, none of those `taken`, the brightest
    first; of counts of `few` photons or not."""
    free = valid & (np.abs(data) < 4)
    _, rms = mesh.clipped(data[free])
    if few and free.any():  # mostly of one value: the median deviation is none
        rms = float(data[free].std())
    sep.set_extract_pixstack(max(data.size, 300_000))
    if not rms > 0:
        return []
    try:
        table = sep.extract(data, config.threshold_sigma, err=rms, mask=~valid, minarea=5)
    except Exception:  # sep raises this bare: too many pixels or sources in one object
        return []
    # Of light that sums to nothing there is no middle.
    table = table[np.isfinite(table["x"]) & np.isfinite(table["y"])]
    if len(table) == 0:
        return []
    radius, flags = sep.flux_radius(
        data, table["x"], table["y"], np.full(len(table), 12.0), 0.5, subpix=5
    )
    snr = table["flux"] / (rms * np.sqrt(np.maximum(table["npix"], 1)))
    # An aperture that the frame cuts is no harm: `_stands_alone` sees to the cutout.
    whole = (flags & ~sep.APER_TRUNC) == 0
    good = (table["flag"] == 0) & whole & (snr > config.min_snr)
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
    good &= np.array(
        [(y, x, r) not in taken for y, x, r in zip(table["y"], table["x"], half, strict=True)]
    )
    if not good.any():
        return []
    # The stellar ridge: nothing is smaller than a star, so it is the first window of radii
    # that is nearly as full as the fullest. A lone smaller source is a cosmic ray.
    small, wide = np.sort(radius[good]), 1 + config.ridge_width
    counts = np.searchsorted(small, small * wide, side="right") - np.arange(len(small))
    least = max(min(config.min_stars, counts.max()), config.ridge_full * counts.max())
    low = small[int(np.argmax(counts >= least))]
    star = first = good & (radius >= low) & (radius <= wide * low)
    places = np.stack([table["y"], table["x"]], axis=1).astype(np.float64)
    for _ in range(20):  # where the PSF varies the ridge does, from the first stars on
        found = variation(places[star], np.asarray(radius, np.float64)[star, None], a_term=2)
        expected = found.at(places)[:, 0]
        near = np.abs(radius - expected) < config.ridge_width / 2 * expected
        before, star = star, first | (good & near)
        if (star == before).all():
            break
    chosen = np.flatnonzero(star)
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
