"""Large galaxies with structure in the scenes that the built-in model is trained on.

Spirals, rings and irregular galaxies that are made of knots and arms, and real galaxies of the
right half of the Hubble Deep Field. In the simulator's own scenes large galaxies are few, and of
one kind.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from real_galaxies import HDF, hdf
from training_scenes import knotty

from astrolabel.core.config.simulate import SimulateConfig
from astrolabel.simulate.artist import Artist
from astrolabel.simulate.population import Body, photometry
from astrolabel.simulate.real import Appearance, Picture, measured_picture

STREAM = 9
"""Stream of random numbers; the scene's own are 1 to 8."""
RADII_PX = (4.0, 50.0)
"""Half-light radii."""
BRIGHTNESS = (0.3, 2.5)
"""log10 of the mean surface brightness within it, in sigmas of a pixel of the middle band."""
MADE = 0.6
"""Part of them that are made of knots and arms."""


def large_galaxies(config: SimulateConfig) -> Iterator[Body]:
    """One or two, sometimes three, for a scene; real ones where the scene has real galaxies."""
    rng = np.random.default_rng([config.seed, STREAM])
    spec, sigma = config.spec, Artist(config).sky_sigma
    middle = len(sigma) // 2
    for _ in range(1 + rng.binomial(2, 0.25)):
        radius = float(np.exp(rng.uniform(*np.log(RADII_PX))))
        counts = 2 * np.pi * radius**2 * 10 ** rng.uniform(*BRIGHTNESS) * sigma[middle]
        colours = rng.normal(0.55, 0.2), rng.normal(0.28, 0.1), rng.normal(0.2, 0.1)
        mag = spec.zeropoint - 2.5 * float(np.log10(counts))
        mag += mag - float(photometry(spec, mag, *colours)[0][middle])
        mags, flux = photometry(spec, mag, *colours)
        real = config.galaxies and rng.random() > MADE
        picture = _of_the_sky(int(rng.integers(len(HDF["train"]["late"])))) if real else _made(rng)
        appearance = Appearance(
            picture,
            radius * spec.pixel_scale_arcsec,
            rng.uniform(0, 2 * np.pi),
            bool(rng.random() < 0.5),
            rng.uniform(0, 0.6),
        )
        y, x = rng.uniform(0.05, 0.95, 2) * config.side
        yield Body(float(y), float(x), mag, mags, flux, real=appearance, bright=True)


@functools.cache
def _of_the_sky(number: int) -> Picture:
    return hdf(*HDF["train"]["late"][number], "late")


def _made(rng: np.random.Generator) -> Picture:
    light = knotty(rng, rng.uniform(12, 30))
    middle = ((light.shape[0] - 1) / 2, (light.shape[1] - 1) / 2)
    return measured_picture("knots and arms", light[None], middle)
