"""What is on the sky: positions, magnitudes, colours, sizes and shapes.

The numbers are those of deep fields in round figures: they make scenes that look and
count like COSMOS to a detector, a deblender and a classifier, and are no model of
galaxy evolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc

from astrolabel.core.config.simulate import SimulateConfig
from astrolabel.core.config.surveys import SurveySpec
from astrolabel.simulate.disc import Structure, draw_structure
from astrolabel.simulate.profiles import sersic_b
from astrolabel.simulate.real import Appearance, Gallery, read_catalog
from astrolabel.simulate.star_artifacts import StarArtifacts

GALAXY_COUNT_SLOPE = 0.30
"""d log N / d mag of galaxies; 0.4 at i = 20, 0.3 from 22 to 25 and less beyond, in every
deep field."""
STAR_COUNT_SLOPE = 0.20
"""The same of stars at high galactic latitude, which thin out beyond the disc."""
CLUSTER_COUNT_SLOPE = 0.25
"""The same of the stars of a globular cluster, from the giant branch down."""
MARGIN_ARCSEC = 4.0
"""Sources are drawn this far beyond the image's edge, so that some are cut by it."""
BULGE_MAG = 23.0
"""Galaxies brighter than this in i are drawn as disc and bulge; fainter ones are hardly
resolved from the ground, and one Sersic profile does."""
SPHEROID_INDICES = (2.0, 2.5, 3.0, 4.0)
RESOLVED = 0.4
"""Half-light radius in FWHM of the seeing, above which a galaxy shows substructure."""
BULGE_INDEX = 2.0
"""Sersic n of bright spirals' bulges; bars have 0.5, a Gaussian."""
BRIGHT_GALAXIES = (-1.0, 1.5)
"""i magnitudes beyond the survey's brightest that added bright galaxies have,"""
BRIGHT_STARS = (-3.0, 0.0)
"""... and added stars: all are saturated."""
SURFACE_BRIGHTNESS = (22.0, 0.5)
"""Mean and scatter of the i magnitude per square arcsecond inside half the light:
Freeman's discs (central 21.65 in B) have about this."""


FloatOrArray = TypeVar("FloatOrArray", float, NDArray[np.float64])


@dataclass(frozen=True, eq=False)
class Component:
    """One Sersic profile.

    Attributes
    ----------
    index : Sersic n; radius_arcsec : half-light radius, circularised.
    axis_ratio : minor over major; angle_rad : of the major axis, from +x to +y.
    flux : (C,) float64 counts.
    """

    index: float
    radius_arcsec: float
    axis_ratio: float
    angle_rad: float
    flux: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Body:
    """A star or galaxy before it is drawn.

    Attributes
    ----------
    y, x : centre in the image's pixels, perhaps outside.
    mags : (C,) float64 total AB magnitudes; i_mag : in i, whatever the bands.
    components : a galaxy's profiles; none for a star.
    flux : (C,) float64 total counts.
    structure : of the disc, its last component; None where it is smooth.
    artifacts : of a bright star.
    bright : added on top of the field.
    real : the picture of a real galaxy, instead of components.
    """

    y: float
    x: float
    i_mag: float
    mags: NDArray[np.float64]
    flux: NDArray[np.float64]
    components: tuple[Component, ...] = ()
    structure: Structure | None = None
    artifacts: StarArtifacts | None = None
    real: Appearance | None = None
    bright: bool = False

    @property
    def is_star(self) -> bool:
        return not self.components and self.real is None

    @property
    def half_light_arcsec(self) -> float:
        """Circularised radius of half the light, in the reddest band, before the PSF."""
        if self.is_star:
            return 0.0
        if self.real is not None:
            return self.real.radius_arcsec
        radii = [c.radius_arcsec for c in self.components]

        def excess(radius: float) -> float:
            light = sum(
                c.flux[-1]
                * gammainc(
                    2 * c.index, sersic_b(c.index) * (radius / c.radius_arcsec) ** (1 / c.index)
                )
                for c in self.components
            )
            return float(light / self.flux[-1] - 0.5)

        if len(radii) == 1 or max(radii) == min(radii):
            return radii[0]
        return float(brentq(excess, min(radii), max(radii)))


def typical_radius_arcsec(mag: FloatOrArray) -> FloatOrArray:
    """Median half-light radius of galaxies of an i magnitude.

    0.29 arcsec at i = 25, growing by a tenth of a decade a magnitude: about what HST sees
    in COSMOS.
    """
    return 10 ** (-0.54 - 0.1 * (mag - 25))


@dataclass(frozen=True, eq=False)
class Sky:
    """What sources are drawn from.

    Attributes
    ----------
    config : what was asked.
    gallery : looks of real galaxies; None draws parametric ones.
    """

    config: SimulateConfig
    gallery: Gallery | None = None

    @classmethod
    def of(cls, config: SimulateConfig) -> Sky:
        """With the catalog that the configuration names.

        Raises
        ------
        InputError
            When that catalog cannot be read.
        """
        if not config.galaxies:
            return cls(config)
        return cls(config, read_catalog(Path(config.galaxies), config.galaxy_subset))


def draw_system(rng: Generator, sky: Sky) -> list[Body]:
    """A star, or a galaxy with the companions that cluster about it."""
    spec, side = sky.config.spec, sky.config.side
    margin = MARGIN_ARCSEC / spec.pixel_scale_arcsec
    y, x = rng.uniform(-0.5 - margin, side - 0.5 + margin, 2)
    if rng.random() < spec.star_fraction:
        # Stars end brighter than galaxies do: the faintest dwarfs are rare even in the halo.
        mag = draw_magnitude(rng, spec.bright_mag, spec.faint_mag - 0.7, STAR_COUNT_SLOPE)
        return [draw_star(rng, spec, y, x, mag)]
    mag = draw_magnitude(rng, spec.bright_mag + 0.5, spec.faint_mag, GALAXY_COUNT_SLOPE)
    bodies = [_galaxy(rng, sky, y, x, mag, red=None)]
    red = bool(bodies[0].mags[0] - bodies[0].mags[-1] > 1.3)
    for distance_arcsec, fainter in _companions(rng, spec, bodies[0], sky.config.pair_fraction):
        angle = rng.uniform(0, 2 * np.pi)
        step = distance_arcsec / spec.pixel_scale_arcsec
        # Group members share their host's colour more often than not.
        near = (y + step * np.sin(angle), x + step * np.cos(angle))
        bodies.append(_galaxy(rng, sky, *near, fainter, red=red if rng.random() < 0.5 else None))
    return bodies


def _companions(
    rng: Generator, spec: SurveySpec, host: Body, pair_fraction: float
) -> list[tuple[float, float]]:
    """(distance in arcseconds, i magnitude) of a galaxy's companions."""
    mag = host.i_mag
    # Not in the heart of a large host, where no survey separates them from its substructure.
    heart = host.half_light_arcsec
    found = []
    if rng.random() < pair_fraction:
        # Near equals among the many faint; two large discs in one another are a rare sight.
        step = rng.uniform(-0.5, 1.5) if mag > spec.faint_mag - 4.0 else rng.uniform(1.5, 4.0)
        found.append((max(heart, 0.5) + 1.3 * rng.random(), mag + step))
    # Satellites: none for the faint, some five to a bright host, one host in 25 a group.
    above = spec.faint_mag - 2.5 - mag
    if above > 0:
        expected = 1.0 + 1.2 * above
        if rng.random() < 0.04:
            expected += 12
        for _ in range(rng.poisson(expected)):
            # Surface density about as 1/r^1.5, to 10 arcsec: 70 kpc at a redshift of 0.6.
            distance = max(heart, 0.7) + 9.5 * rng.random() ** 2
            faintest = spec.faint_mag
            found.append(
                (
                    distance,
                    draw_magnitude(rng, min(mag + 1.0, faintest), faintest, GALAXY_COUNT_SLOPE),
                )
            )
    return [(distance, min(m, spec.faint_mag)) for distance, m in found]


def draw_magnitude(rng: Generator, bright: float, faint: float, slope: float) -> float:
    """One magnitude of counts that rise as 10^(slope m) between two limits."""
    low, high = 10 ** (slope * np.array([bright, faint]))
    return float(np.log10(rng.uniform(low, high)) / slope)


def draw_star(rng: Generator, spec: SurveySpec, y: float, x: float, mag: float) -> Body:
    """A star on the stellar locus."""
    # Bright stars at high latitude are turn-off stars of the disc and halo; the fainter,
    # the more of them are M dwarfs, which run up in r-i at constant g-r.
    dwarf = rng.random() < np.clip((mag - 16) / 8, 0.1, 0.75)
    if dwarf:
        r_i = rng.uniform(0.5, 1.7)
        g_r = 1.33 + 0.12 * r_i
    else:
        g_r = rng.uniform(0.2, 1.2)
        r_i = 0.02 + 0.36 * g_r
    g_r, r_i = rng.normal((g_r, r_i), 0.03)
    mags, flux = photometry(spec, mag, g_r, r_i, 0.05 + 0.55 * r_i)
    return Body(y, x, mag, mags, flux)


def _galaxy(rng: Generator, sky: Sky, y: float, x: float, mag: float, red: bool | None) -> Body:
    """A galaxy; red ones are rounder, smaller and more concentrated."""
    spec = sky.config.spec
    if red is None:
        # From a half at i = 19 to a twelfth at 26: the blue population outnumbers.
        red = bool(rng.random() < np.clip(0.5 - 0.06 * (mag - 19), 0.08, 0.5))
    g_r, r_i, i_z = _galaxy_colours(rng, mag, red)
    mags, flux = photometry(spec, mag, g_r, r_i, i_z)
    # Log-normal about the typical size with 0.18 dex of scatter; passive galaxies are a
    # fifth smaller. Limits: the pixel of no survey, and what an image of minutes holds.
    factor = 10 ** (rng.normal(0, 0.18) - (0.1 if red else 0.0))
    radius = float(np.clip(typical_radius_arcsec(mag) * factor, 0.05, 4.0))
    angle = rng.uniform(0, np.pi)
    if sky.gallery is not None:
        picture = sky.gallery.draw(rng, mag, early=red)
        mirrored, angle = bool(rng.random() < 0.5), 2 * angle
        return Body(y, x, mag, mags, flux, real=Appearance(picture, radius, angle, mirrored))
    # A disc of intrinsic thickness 0.2 seen at a random inclination; spheroids are rounder.
    disc_ratio = float(np.sqrt(0.04 + 0.96 * rng.random() ** 2))
    round_ratio = float(rng.uniform(0.55, 1.0))
    bulge_index = float(rng.choice(SPHEROID_INDICES))
    bulge_share = float(rng.beta(4, 2) if red else rng.beta(1.2, 5))
    morphology = sky.config.morphology
    structure = None
    # Below this the seeing hides it all.
    resolved = radius > RESOLVED * min(b.fwhm_arcsec for b in spec.bands)
    if resolved and not red and rng.random() < morphology.structured_fraction:
        structure = draw_structure(rng, len(flux), morphology)
    if mag > BULGE_MAG or (structure is not None and not structure.arms):
        index, ratio = (bulge_index, round_ratio) if red else (1.0, disc_ratio)
        only = (Component(index, radius, ratio, angle, flux),)
        return Body(y, x, mag, mags, flux, only, structure)
    # Bulges are redder than their discs: their share grows by a third over the bands. Both
    # are always there, so that the half-light radius lies between theirs.
    shares = np.clip(bulge_share * np.linspace(0.75, 1.05, len(flux)), 0.02, 0.95)
    bulge = Component(bulge_index, 0.45 * radius, round_ratio, angle, flux * shares)
    disc = Component(1.0, 1.25 * radius, disc_ratio, angle, flux * (1 - shares))
    return Body(y, x, mag, mags, flux, (bulge, disc), structure)


def _galaxy_colours(rng: Generator, mag: float, red: bool) -> NDArray[np.float64]:
    """(g-r, r-i, i-z) of a passive or a star-forming galaxy."""
    if red:
        # Redshift moves the break through g and r: g-r saturates while r-i still grows.
        z = np.clip(rng.normal(0.25 + 0.07 * (mag - 19), 0.15), 0.08, 1.0)
        middle = [min(0.7 + 1.8 * z, 1.55), 0.32 + 0.75 * max(z - 0.15, 0) ** 1.1, 0.22 + 0.2 * z]
        return rng.normal(middle, (0.08, 0.06, 0.06))
    # Blue ones grow bluer as they grow fainter.
    g_r = rng.normal(0.62 - 0.05 * (np.clip(mag, 19, 26) - 19), 0.2)
    r_i = 0.12 + 0.3 * g_r + rng.normal(0, 0.12)
    return np.array([g_r, r_i, rng.normal(0.6 * r_i + 0.05, 0.1)])


def photometry(
    spec: SurveySpec, mag: float, g_r: float, r_i: float, i_z: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Magnitudes and counts in the survey's bands."""
    by_band = {"g": mag + r_i + g_r, "r": mag + r_i, "i": mag, "z": mag - i_z}
    mags = np.array([by_band[name] for name in spec.band_names])
    return mags, np.array([spec.counts(m) for m in mags])


def draw_bright(rng: Generator, config: SimulateConfig) -> list[Body]:
    """``config.bright`` structured galaxies and as many bright stars, well apart from each other.

    They stand in cells of a square grid, off its middle by up to a quarter of a cell.
    """
    count, side = config.bright, config.side
    cells = int(np.ceil(np.sqrt(2 * count)))
    places = rng.permutation(cells**2)[: 2 * count]
    bodies = []
    for number, place in enumerate(places):
        y, x = (np.array(divmod(int(place), cells)) + rng.uniform(0.25, 0.75, 2)) * side / cells
        draw = _bright_galaxy if number % 2 == 0 else _bright_star
        bodies.append(draw(rng, config, float(y - 0.5), float(x - 0.5)))
    return bodies


def _bright_galaxy(rng: Generator, config: SimulateConfig, y: float, x: float) -> Body:
    """A large disc with arms, knots and dust, a bulge, and in every second one a bar."""
    spec = config.spec
    low, high = (spec.bright_mag + step for step in BRIGHT_GALAXIES)
    mag = draw_magnitude(rng, low, high, GALAXY_COUNT_SLOPE)
    mags, flux = photometry(
        spec, mag, rng.normal(0.55, 0.1), rng.normal(0.28, 0.05), rng.normal(0.2, 0.05)
    )
    # The light inside half the light: mean brightness = mag + 2.5 log10(2 pi r^2).
    mean = rng.normal(*SURFACE_BRIGHTNESS)
    radius = float(10 ** ((mean - mag - 2.5 * np.log10(2 * np.pi)) / 5))
    ratio = float(np.sqrt(0.03 + 0.97 * rng.random() ** 2))
    angle = rng.uniform(0, np.pi)
    # Bulges and bars are old: their share grows towards the red.
    redder = np.linspace(0.7, 1.1, len(flux))
    bulge = rng.uniform(0.03, 0.2) * redder
    bar = (rng.uniform(0.05, 0.15) if rng.random() < 0.5 else 0.02) * redder
    bar_angle = angle + rng.uniform(-0.8, 0.8)
    components = (
        Component(BULGE_INDEX, 0.2 * radius, max(ratio, 0.6), angle, flux * bulge),
        Component(0.5, 0.3 * radius, max(0.35 * ratio, 0.15), bar_angle, flux * bar),
        Component(1.0, radius, ratio, angle, flux * (1 - bulge - bar)),
    )
    structure = draw_structure(rng, len(flux), config.morphology)
    return Body(y, x, mag, mags, flux, components, structure, bright=True)


def _bright_star(rng: Generator, config: SimulateConfig, y: float, x: float) -> Body:
    spec = config.spec
    low, high = (spec.bright_mag + step for step in BRIGHT_STARS)
    mag = draw_magnitude(rng, low, high, STAR_COUNT_SLOPE)
    artifacts = StarArtifacts(
        # The spider turns little between the exposures of one field.
        spike_angle_rad=float(rng.normal(np.pi / 4, 0.05)),
        beads=float(rng.uniform(0.1, 0.3)),
        bead_period_px=float(rng.uniform(8, 16)),
        bead_phase=float(rng.uniform(0, 2 * np.pi)),
        bleed_axis=spec.bleed_axis,
        trail_px=float(rng.uniform(10, 25)),
    )
    return replace(draw_star(rng, spec, y, x, mag), artifacts=artifacts, bright=True)


def draw_cluster(rng: Generator, config: SimulateConfig) -> list[Body]:
    """A globular cluster: stars of a Plummer profile, with the counts of its giant branch."""
    spec, defects = config.spec, config.defects
    y, x = rng.uniform(0.2, 0.8, 2) * config.side
    # Half of a Plummer sphere's light in projection is within its scale radius.
    share = rng.random(defects.cluster_stars)
    radius = defects.cluster_arcsec / spec.pixel_scale_arcsec * np.sqrt(share / (1 - share))
    angle = rng.uniform(0, 2 * np.pi, len(radius))
    bodies = []
    for r, a in zip(np.minimum(radius, config.side), angle, strict=True):
        mag = draw_magnitude(rng, spec.bright_mag + 2, spec.faint_mag - 3, CLUSTER_COUNT_SLOPE)
        bodies.append(draw_star(rng, spec, float(y + r * np.sin(a)), float(x + r * np.cos(a)), mag))
    return bodies
