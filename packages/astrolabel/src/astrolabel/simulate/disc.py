"""Structured discs: spiral arms, star-forming knots, dust lanes, lopsidedness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, gammaincinv

from astrolabel.core.config.simulate import MorphologyConfig
from astrolabel.simulate.profiles import Grid

EXPONENTIAL_HALF_LIGHT = float(gammaincinv(2, 0.5))
"""Half-light radius of an exponential disc in scale lengths, 1.678."""
KNOT_SLOPE = 0.8
"""Cumulative counts of knots fall as luminosity to the minus this: HII regions of nearby
spirals have differential slopes of 1.7 to 2 (Kennicutt, Edgar & Hodge 1989)."""
BRIGHTEST_KNOT = 60.0
"""... and end at this many times the faintest that is drawn."""
KNOT_SCALES = (0.04, 0.12)
"""Gaussian sigma of the faintest and brightest knots in scale lengths of the disc: 150 to 450 pc
in one of 3.7 kpc."""
RIM_SCALES = 4.5
"""Star formation ends at so many scale lengths."""
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Structure:
    """How the disc of a galaxy departs from a smooth one.

    Attributes
    ----------
    arms : number of spiral arms; 0 for an irregular galaxy.
    pitch_rad : angle of the arms to a circle; phase_rad : azimuth of the first.
    contrast : of the arms, 0 none, 3 grand design (exponent of a von Mises profile).
    patchiness : scatter of the log of the young light, in patches; flocculence.
    lopsided : amplitude of the first azimuthal harmonic at two scale lengths.
    knots : number of star-forming knots drawn.
    knot_share : of the young light in knots.
    young : (C,) share of the disc's light that is young: larger in bluer bands.
    dust : (C,) optical depth in the lanes along the arms' inner edges, and across the
        disc where it is seen edge-on.
    seed : of patches and knots.
    """

    arms: int
    pitch_rad: float
    phase_rad: float
    contrast: float
    patchiness: float
    lopsided: float
    knots: int
    knot_share: float
    young: Array
    dust: Array
    seed: int


def draw_structure(rng: Generator, n_bands: int, config: MorphologyConfig) -> Structure:
    """Grand design, flocculent or irregular, a third each but for the irregular ones."""
    kind = rng.random()
    irregular = kind > 1 - config.irregular_fraction
    grand = kind < 0.4
    lopsided = rng.uniform(config.lopsided_min, config.lopsided_max)
    return Structure(
        arms=0 if irregular else int(rng.choice((2, 2, 3, 4))),
        pitch_rad=float(rng.uniform(0.2, 0.5)),
        phase_rad=float(rng.uniform(0, 2 * np.pi)),
        contrast=float(rng.uniform(2.0, 3.5) if grand else rng.uniform(0.8, 2.0)),
        patchiness=float(rng.uniform(0.2, 0.4) if grand else rng.uniform(0.4, 0.7)),
        lopsided=float(2.5 * lopsided if irregular else lopsided),
        knots=int(rng.integers(30, 150)),
        knot_share=float(rng.uniform(0.15, 0.4)),
        young=np.linspace(0.75, 0.4, n_bands) * rng.uniform(0.7, 1.1),
        # A galactic law between g and z: depth falls as about wavelength to the -1.3.
        dust=rng.uniform(0.2, 1.2) * np.linspace(1.0, 0.55, n_bands),
        seed=int(rng.integers(2**31)),
    )


def paint(
    structure: Structure, half_light_px: float, axis_ratio: float, angle_rad: float, grid: Grid
) -> Array:
    """A disc of unit flux before the PSF.

    Parameters
    ----------
    half_light_px : circularised; axis_ratio, angle_rad : as of a `Component`.

    Returns
    -------
    (C, H, W) float64, surface brightness per pixel at the fine pixels.
    """
    rng = np.random.default_rng(structure.seed)
    along, across = grid.axes(angle_rad)
    scale = half_light_px / EXPONENTIAL_HALF_LIGHT
    # In the disc's plane, in scale lengths; the area is kept.
    u, v = along * np.sqrt(axis_ratio) / scale, across / np.sqrt(axis_ratio) / scale
    r, theta = np.hypot(u, v), np.arctan2(v, u)
    psi = _arm_phase(structure, rng, r, theta)
    arm = np.exp(structure.contrast * (np.cos(psi) - 1)) if structure.arms else np.ones_like(r)
    outside = np.clip((r - 0.3) / 0.7, 0, 1)  # the bar or bulge has the middle
    tilt = 1 + structure.lopsided * np.cos(theta - structure.phase_rad) * np.minimum(r / 2, 1.5)
    tilt = np.maximum(tilt, 0.05)
    old = np.exp(-r) * tilt * (1 + 0.4 * outside * (arm - 0.5))
    young = np.exp(-r / 1.3) * tilt * (0.3 + 0.7 * outside * arm)
    young *= _patches(structure, rng, grid, scale) * expit((RIM_SCALES - r) / 0.2)
    knots = _knots(structure, rng, young, scale * grid.oversampling)
    lane = outside * np.exp(4 * (np.cos(psi + 0.9) - 1)) if structure.arms else 0 * r
    if axis_ratio < 0.35:  # seen edge-on, the dust lies before the middle plane
        thin = 0.25 * scale * axis_ratio
        lane = np.exp(-0.5 * ((across - thin) / (0.5 * thin + 1)) ** 2) * np.exp(-np.abs(u) / 3)
    share = structure.knot_share
    smooth = (1 - share) * _unit(young)
    out = np.empty((len(structure.young), *r.shape))
    for n, part in enumerate(structure.young):
        dusty = ((1 - part) * _unit(old) + part * smooth) * np.exp(-structure.dust[n] * lane)
        out[n] = _unit(dusty + part * share * knots)
    return out * grid.oversampling**2


def _unit(light: Array) -> Array:
    total = light.sum()
    return light / total if total > 0 else light


def _arm_phase(structure: Structure, rng: Generator, r: Array, theta: Array) -> Array:
    """Logarithmic spirals that wander: 0 on the arms' ridges."""
    log_r = np.log(np.maximum(r, 0.05))
    psi = structure.arms * (theta - structure.phase_rad - log_r / np.tan(structure.pitch_rad))
    for order in (1, 2, 3):
        amplitude, wave, phase = rng.normal(0, 0.35 / order), rng.uniform(1, 4), rng.uniform(0, 6)
        psi = psi + amplitude * np.sin(order * theta + wave * log_r + phase)
    return np.asarray(psi)


def _patches(structure: Structure, rng: Generator, grid: Grid, scale_px: float) -> Array:
    """Log-normal patches of a third of a scale length."""
    noise = rng.standard_normal(grid.fine_shape)
    field = ndimage.gaussian_filter(noise, max(0.15 * scale_px * grid.oversampling, 1.0))
    return np.asarray(np.exp(structure.patchiness * field / field.std()))


def _knots(structure: Structure, rng: Generator, young: Array, scale: float) -> Array:
    """Knots where the young light is, of a power law of fluxes; summing to one.

    Parameters
    ----------
    scale : scale length of the disc in fine pixels.
    """
    out = np.zeros_like(young)
    if structure.knots == 0:
        return out
    cumulative = np.cumsum(young)
    places = np.searchsorted(cumulative, rng.random(structure.knots) * cumulative[-1])
    # A power law cut at both ends, by its inverse distribution.
    low = BRIGHTEST_KNOT**-KNOT_SLOPE
    flux = (low + (1 - low) * rng.random(structure.knots)) ** (-1 / KNOT_SLOPE)
    size = KNOT_SCALES[0] + np.ptp(KNOT_SCALES) * np.log(flux) / np.log(BRIGHTEST_KNOT)
    if size.max() * scale < 0.8:  # smaller than a fine pixel, all of them
        np.add.at(out.ravel(), places, flux)
        return _unit(out)
    for place, light, relative in zip(places, flux, size, strict=True):
        sigma = max(relative * scale, 0.8)
        y, x = np.unravel_index(place, young.shape)
        reach = int(np.ceil(4 * sigma))
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        part = out[top : int(y) + reach + 1, left : int(x) + reach + 1]
        rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        distance = (rows - y) ** 2 + (columns - x) ** 2
        part += light / sigma**2 * np.exp(-0.5 * distance / sigma**2)
    return _unit(out)
