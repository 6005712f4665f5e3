"""Bright, large, structured galaxies and bright stars: what detection likes to shred."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from astrolabel.core.config.surveys import SurveySpec
from astrolabel.simulate.disc import Structure
from astrolabel.simulate.glare import AUREOLE_ARCSEC, Glare
from astrolabel.simulate.population import (
    GALAXY_COUNT_SLOPE,
    STAR_COUNT_SLOPE,
    Body,
    Component,
    draw_magnitude,
    draw_star,
    photometry,
)

GALAXY_RANGE = (-1.0, 1.5)
"""i magnitudes beyond the survey's brightest that structured galaxies have."""
STAR_RANGE = (-3.0, 0.0)
"""The same of stars: all are saturated."""
SURFACE_BRIGHTNESS = (22.0, 0.5)
"""Mean and scatter of the i magnitude per square arcsecond inside half the light:
Freeman's discs (central 21.65 in B) have about this."""
BULGE_INDEX = 2.0
"""Sersic n of spirals' bulges; bars have 0.5, a Gaussian."""


def draw_bright(rng: Generator, spec: SurveySpec, side: int, count: int) -> list[Body]:
    """`count` structured galaxies and as many bright stars, well apart from each other.

    They stand in cells of a square grid, off its middle by up to a quarter of a cell.
    """
    cells = int(np.ceil(np.sqrt(2 * count)))
    places = rng.permutation(cells**2)[: 2 * count]
    bodies = []
    for number, place in enumerate(places):
        y, x = (np.array(divmod(int(place), cells)) + rng.uniform(0.25, 0.75, 2)) * side / cells
        draw = _structured_galaxy if number % 2 == 0 else _bright_star
        bodies.append(draw(rng, spec, float(y - 0.5), float(x - 0.5)))
    return bodies


def _structured_galaxy(rng: Generator, spec: SurveySpec, y: float, x: float) -> Body:
    """A disc with arms, knots and dust, a bulge, and in every second one a bar."""
    low, high = (spec.bright_mag + step for step in GALAXY_RANGE)
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
    return Body(
        y,
        x,
        mag,
        mags,
        flux,
        (
            Component(BULGE_INDEX, 0.2 * radius, max(ratio, 0.6), angle, flux * bulge),
            Component(0.5, 0.3 * radius, max(0.35 * ratio, 0.15), bar_angle, flux * bar),
            Component(1.0, radius, ratio, angle, flux * (1 - bulge - bar)),
        ),
        structure=_structure(rng, len(flux)),
    )


def _structure(rng: Generator, n_bands: int) -> Structure:
    """One third grand design, one third flocculent, the rest irregular or in between."""
    kind = rng.random()
    irregular = kind > 0.85
    young = np.linspace(0.75, 0.4, n_bands) * rng.uniform(0.7, 1.1)
    return Structure(
        arms=0 if irregular else int(rng.choice((2, 2, 3, 4))),
        pitch_rad=float(rng.uniform(0.2, 0.5)),
        phase_rad=float(rng.uniform(0, 2 * np.pi)),
        contrast=float(rng.uniform(2.0, 3.5) if kind < 0.4 else rng.uniform(0.8, 2.0)),
        patchiness=float(rng.uniform(0.2, 0.4) if kind < 0.4 else rng.uniform(0.4, 0.7)),
        lopsided=float(rng.uniform(0.25, 0.5) if irregular else rng.uniform(0.0, 0.25)),
        knots=int(rng.integers(30, 150)),
        knot_share=float(rng.uniform(0.15, 0.4)),
        young=young,
        # A galactic law between g and z: depth falls as about wavelength to the -1.3.
        dust=rng.uniform(0.2, 1.2) * np.linspace(1.0, 0.55, n_bands),
        seed=int(rng.integers(2**31)),
    )


def _bright_star(rng: Generator, spec: SurveySpec, y: float, x: float) -> Body:
    low, high = (spec.bright_mag + step for step in STAR_RANGE)
    mag = draw_magnitude(rng, low, high, STAR_COUNT_SLOPE)
    glare = Glare(
        # The spider turns little between the exposures of one field.
        spike_angle_rad=float(rng.normal(np.pi / 4, 0.05)),
        aureole_px=AUREOLE_ARCSEC / spec.pixel_scale_arcsec,
        beads=float(rng.uniform(0.1, 0.3)),
        bead_period_px=float(rng.uniform(8, 16)),
        bead_phase=float(rng.uniform(0, 2 * np.pi)),
        bleed_axis=spec.bleed_axis,
        trail_px=float(rng.uniform(10, 25)),
    )
    return draw_star(rng, spec, y, x, mag, glare)
