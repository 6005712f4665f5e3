"""Saturated pixels and photon noise guessed from the images alone, against the truth.

    python benchmarks/saturation.py [--seeds 71 72 73] [--size 700] [--bright 4]

Simulated scenes of both surveys, ordinary ones and some with as many saturated stars more, of
which the guess sees the image of each band and its PSF. A star is found when any pixel of its
saturated core, in any band, is; a region is false when none of the truth's is within 4 px.
"Electrons" is the measured number per count over the true one, in the median of the bands.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from astrolabel.core.config.prepare import NoiseConfig, SaturationConfig, SkyConfig
from astrolabel.prepare import noise
from astrolabel.prepare import sky as empty_sky
from astrolabel.prepare.saturation import saturated_cores
from astrolabel.simulate import SURVEYS, SimulateConfig, simulate
from astrolabel.simulate.planes import BITS


def scene(config: SimulateConfig) -> tuple[np.ndarray, list[float]]:
    """(stars, found, regions, false, pixels missed, pixels in all), and measured electrons over
    the true ones."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = simulate(Path(folder), config).scene
    truth = ((drawn.mask & (1 << BITS["SAT"])) != 0).any(axis=0)
    guess = np.zeros_like(truth)
    ratios = []
    for image, psf, band in zip(drawn.image, drawn.psfs, config.spec.bands, strict=True):
        valid = np.isfinite(image)
        sky = empty_sky.measure([image], [valid], SkyConfig(), 2.9e-7)[0]
        image = image - sky.level.whole
        electrons = noise.electrons_per_count(image, sky.rms.whole, valid, psf, NoiseConfig())
        variance = noise.with_photons(image, sky.rms.whole, electrons, NoiseConfig())
        guess |= saturated_cores(image, variance, valid, psf, SaturationConfig())
        if electrons is not None:
            ratios.append(electrons / band.electrons_per_count)
    stars, found = _hit(truth, guess)
    regions, real = _hit(guess, truth)
    missed = int((truth & ~guess).sum())
    return np.array([stars, found, regions, regions - real, missed, int(truth.sum())]), ratios


def _hit(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Number of regions of `one`, apart by more than 8 px, and of those with `other` in it."""
    regions, count = ndimage.label(ndimage.binary_dilation(one, iterations=4))
    return count, len(np.setdiff1d(regions[other], 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[71, 72, 73])
    parser.add_argument("--size", type=int, default=700)
    parser.add_argument("--bright", type=int, default=4)
    options = parser.parse_args()
    print("survey    bright  stars  found  regions  false  pixels  missed  electrons")
    for survey in SURVEYS:
        for bright in (0, options.bright):
            total, ratios = np.zeros(6, int), []
            for seed in options.seeds:
                config = SimulateConfig(survey=survey, seed=seed, size=options.size, bright=bright)
                numbers, measured = scene(config)
                total += numbers
                ratios += measured
            stars, found, regions, false, missed, pixels = total
            print(
                f"{survey:8s}  {bright:6d}  {stars:5d}  {found:5d}  {regions:7d}  {false:5d}  "
                f"{pixels:6d}  {missed:6d}  {np.median(ratios) if ratios else np.nan:9.2f}"
            )


if __name__ == "__main__":
    main()
