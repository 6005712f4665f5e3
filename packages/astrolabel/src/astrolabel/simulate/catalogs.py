"""Catalogs of a scene as two surveys would have made them, with their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrolabel.core.celestial import to_icrs
from astrolabel.simulate.draw import Scene, Source
from astrolabel.simulate.population import typical_radius_arcsec

HSC_ERRORS, HST_ERRORS = 3, 4
"""Streams of random numbers; the sky and its noise have 1 and 2."""
CATALOG_SNR = 5.0
"""Sources without a mask are catalogued from this signal-to-noise ratio up in the
reddest band: the survey detects on seeing-matched images, which reach deeper."""
FLOOR_MAG = 0.02
"""Scatter of model magnitudes that no photon explains."""
FLOOR_ARCSEC = 0.02
"""Scatter of positions between two surveys' astrometry."""
UNKNOWN_FRACTION = 0.01
"""Unsaturated sources whose measurement failed: flags set, magnitudes NaN."""
FAKE_FRACTION = 0.015
"""Entries of the space catalog that are no objects (mu_class 3)."""
FIRST_HST_NUMBER = 100_001


@dataclass(frozen=True)
class Confusion:
    """How extendedness fails, as a logistic in i from nothing to `worst` at `middle_mag`.

    Together with the numbers of stars and galaxies these give, at i = 25 of the Deep layer, 90 %
    of galaxies and slightly more than half of the stars right. Slightly more than 40 % of what is
    called a star is one. There is next to no error at 22.5 (Bosch et al. 2018 and Aihara et al.
    2018, whom the paper's 3.2 and 4.1 cite).
    """

    worst: float
    middle_mag: float
    width_mag: float

    def rate(self, mag: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chance of a wrong class."""
        return self.worst / (1 + np.exp(-(mag - self.middle_mag) / self.width_mag))


STAR_CONFUSION = Confusion(worst=0.55, middle_mag=24.2, width_mag=0.45)
GALAXY_CONFUSION = Confusion(worst=0.14, middle_mag=24.9, width_mag=0.42)
DEPTH_OF_RATES = 26.9
"""The i depth these rates are for; a shallower survey fails as much earlier."""


def wrong_class_rate(scene: Scene, sources: list[Source], band: int) -> NDArray[np.float64]:
    """(N,) chance that a band's extendedness names the wrong class."""
    depth = scene.spec.bands[band].depth_mag
    # Taken at the band's own signal-to-noise ratio, put as an i magnitude of equal ratio;
    # a redder source is better seen in i, so the reference band fails last.
    mag = np.array([s.body.mags[band] for s in sources]) + DEPTH_OF_RATES - depth
    is_star = np.array([s.body.is_star for s in sources], bool)
    # Galaxies as small as the seeing fail, large ones do not; the mean stays the rate.
    size = np.array([s.body.half_light_arcsec for s in sources])
    compact = np.clip(2.0 - size / typical_radius_arcsec(mag), 0.0, 2.0)
    galaxy = np.clip(GALAXY_CONFUSION.rate(mag) * compact, 0, 1)
    return np.where(is_star, STAR_CONFUSION.rate(mag), galaxy)


def hsc_catalog(scene: Scene) -> Table:
    """A forced catalog: cmodel magnitudes, extendedness, flags; primary rows and parents.

    Neighbours closer than about a seeing disc are often one entry, with both fluxes.
    Saturated stars, and a few others, have NaN for magnitude and extendedness.
    """
    rng = np.random.default_rng([scene.config.seed, HSC_ERRORS])
    sources = [s for s in scene.sources if _is_inside(s, scene) and _is_seen(s, scene)]
    sources, flux = _merge_close(rng, sources, scene)
    n = len(sources)
    error = _flux_errors(scene, sources)
    saturated = np.array([s.saturated for s in sources], bool)
    failed = saturated | (rng.random(n) < UNKNOWN_FRACTION)
    ra, dec = _positions(rng, scene, sources, error)
    wrong = rng.random(n)  # one number for all bands: their errors go together
    is_star = np.array([s.body.is_star for s in sources], bool)
    blended = np.array([s.blendedness for s in sources])
    columns: dict[str, NDArray[np.generic]] = {
        "object_id": np.array([s.object_id for s in sources], np.int64),
        "ra": ra,
        "dec": dec,
        "isprimary": np.ones(n, bool),
    }
    for band, name in enumerate(scene.spec.band_names):
        # Deblending shares light wrongly by about a third of a neighbour's part.
        sigma = np.hypot(1.0857 * error[:, band] / flux[:, band], FLOOR_MAG + 0.3 * blended**2)
        mag = _mag(flux[:, band], scene) + rng.normal(0, np.minimum(sigma, 1.0))
        extended = (~is_star ^ (wrong < wrong_class_rate(scene, sources, band))).astype(float)
        columns[f"{name}_cmodel_mag"] = np.where(failed, np.nan, mag)
        columns[f"{name}_cmodel_magerr"] = np.where(failed, np.nan, sigma)
        columns[f"{name}_extendedness_value"] = np.where(failed, np.nan, extended)
        columns[f"{name}_cmodel_flag"] = failed
        columns[f"{name}_pixelflags_saturatedcenter"] = saturated
    table = Table(columns)
    _append_parents(table, sources, flux, scene)
    return table


def hst_catalog(scene: Scene) -> Table:
    """A space-based catalog: complete to below the masks' limit, classes nearly all right."""
    rng = np.random.default_rng([scene.config.seed, HST_ERRORS])
    sources = [s for s in scene.sources if _is_inside(s, scene) and _is_seen(s, scene)]
    n_fake = round(FAKE_FRACTION * len(sources))
    n = len(sources)
    y = np.array([s.body.y for s in sources])
    x = np.array([s.body.x for s in sources])
    # Fakes are cosmic rays and the halos of bright stars: anywhere, and faint.
    y = np.concatenate([y, rng.uniform(0, scene.shape[0] - 1, n_fake)])
    x = np.concatenate([x, rng.uniform(0, scene.shape[1] - 1, n_fake)])
    ra, dec = to_icrs(scene.wcs, x, y)
    ra, dec = _scatter(rng, ra, dec, np.full(n + n_fake, FLOOR_ARCSEC))
    mag = np.array([s.body.i_mag for s in sources])
    is_star = np.array([s.body.is_star for s in sources], bool)
    # With a PSF of 0.1 arcsec the classes hold to 25.5; one in 300 is wrong before.
    rate = 0.003 + 0.1 / (1 + np.exp(-(mag - 26.5) / 0.3))
    star = is_star ^ (rng.random(n) < rate)
    faint = rng.uniform(scene.spec.faint_mag - 2, scene.spec.faint_mag, n_fake)
    stellarity = np.clip(np.where(star, 0.97, 0.03) + rng.normal(0, 0.02, n), 0, 1)
    mag_auto = np.concatenate([mag + rng.normal(0, 0.03 + 0.3 * rate), faint])
    return Table(
        {
            "number": np.arange(FIRST_HST_NUMBER, FIRST_HST_NUMBER + n + n_fake, dtype=np.int32),
            "ra": ra,
            "dec": dec,
            "mag_auto": mag_auto,
            "mu_class": np.concatenate([np.where(star, 2, 1), np.full(n_fake, 3)]).astype(np.int16),
            "class_star": np.concatenate([stellarity, rng.uniform(0, 1, n_fake)]),
            "flags": np.concatenate(
                [np.where([s.n_blended > 1 for s in sources], 2, 0), np.zeros(n_fake)]
            ).astype(np.int16),
        }
    )


def _is_inside(source: Source, scene: Scene) -> bool:
    """Whether its centre lies on a pixel with data."""
    body, (height, width) = source.body, scene.shape
    if not (-0.5 <= body.y < height - 0.5 and -0.5 <= body.x < width - 0.5):
        return False
    return bool(np.isfinite(scene.image[0, round(body.y), round(body.x)]))


def _is_seen(source: Source, scene: Scene) -> bool:
    if source.has_mask:
        return True
    reddest = _flux_errors(scene, [source])[0, -1]
    return bool(source.body.flux[-1] > CATALOG_SNR * reddest)


def _flux_errors(scene: Scene, sources: list[Source]) -> NDArray[np.float64]:
    """(N, C) counts: sky noise under a matched filter of the source's size, and Poisson."""
    flux = np.array([s.body.flux for s in sources]).reshape(-1, len(scene.spec.bands))
    size = np.array([s.body.half_light_arcsec for s in sources])[:, None]
    fwhm = np.array([b.fwhm_arcsec for b in scene.spec.bands])
    gain = np.array([b.electrons_per_count for b in scene.spec.bands])
    # The noise at the depth is that of a point source; it grows with the seen radius.
    point = np.array([scene.spec.counts(b.depth_mag) / 5 for b in scene.spec.bands])
    sky = point * np.sqrt(1 + (2 * size / fwhm) ** 2)
    return np.sqrt(sky**2 + flux / gain)


def _merge_close(
    rng: Generator, sources: list[Source], scene: Scene
) -> tuple[list[Source], NDArray[np.float64]]:
    """The sources catalogued on their own, and (N, C) counts with what was not added.

    The chance that the survey misses a source falls with the distance to the nearest
    brighter one in units of the seeing: 0.9 at half a disc, 0.1 at one and a half.
    """
    flux = np.array([s.body.flux for s in sources]).reshape(-1, len(scene.spec.bands)).copy()
    if not sources:
        return [], flux
    fwhm_px = scene.spec.bands[-1].fwhm_arcsec / scene.spec.pixel_scale_arcsec
    points = np.array([(s.body.y, s.body.x) for s in sources])
    tree = cKDTree(points)
    draws = rng.random(len(sources))
    kept = np.ones(len(sources), bool)
    for n in np.argsort(flux.sum(1), kind="stable"):  # the faint are lost to the bright
        near = [m for m in tree.query_ball_point(points[n], 3 * fwhm_px) if m != n and kept[m]]
        brighter = [m for m in near if flux[m].sum() > flux[n].sum()]
        if not brighter:
            continue
        apart = np.hypot(*(points[brighter] - points[n]).T) / fwhm_px
        nearest = int(np.argmin(apart))
        if draws[n] < 1 / (1 + np.exp((apart[nearest] - 1.0) / 0.23)):
            kept[n] = False
            flux[brighter[nearest]] += flux[n]
    own = [s for s, k in zip(sources, kept, strict=True) if k]
    return own, flux[kept]


def _positions(
    rng: Generator, scene: Scene, sources: list[Source], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(ra, dec) in degrees as measured in the reddest band."""
    flux = np.array([s.body.flux[-1] for s in sources])
    y = np.array([s.body.y for s in sources])
    x = np.array([s.body.x for s in sources])
    ra, dec = to_icrs(scene.wcs, x, y)
    # A centroid's error is the seeing's sigma over the signal-to-noise ratio, 0.2" at worst.
    sigma = scene.spec.bands[-1].fwhm_arcsec / 2.355 * error[:, -1] / flux
    return _scatter(rng, ra, dec, np.hypot(np.minimum(sigma, 0.2), FLOOR_ARCSEC))


def _scatter(
    rng: Generator, ra: NDArray[np.float64], dec: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in degrees, moved by `sigma` arcseconds on either axis."""
    step = rng.normal(0, 1, (2, len(ra))) * sigma / 3600
    return ra + step[0] / np.cos(np.radians(dec)), dec + step[1]


def _mag(flux: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    return np.asarray(scene.spec.zeropoint - 2.5 * np.log10(flux))


def _append_parents(
    table: Table, sources: list[Source], flux: NDArray[np.float64], scene: Scene
) -> None:
    """Add the undeblended parent of every blend, as the survey lists them: not primary."""
    by_group: dict[int, list[int]] = {}
    for n, source in enumerate(sources):
        if source.group:
            by_group.setdefault(source.group, []).append(n)
    next_id = max((s.object_id for s in scene.sources), default=0) + 1
    for members in by_group.values():
        if len(members) < 2:
            continue
        brightest = max(members, key=lambda n: flux[n].sum())
        row = {name: table[name][brightest] for name in table.colnames}
        row["object_id"], row["isprimary"] = next_id, False
        for band, name in enumerate(scene.spec.band_names):
            row[f"{name}_cmodel_mag"] = _mag(flux[members, band].sum(), scene)
            row[f"{name}_extendedness_value"] = 1.0
        table.add_row(row)
        next_id += 1
