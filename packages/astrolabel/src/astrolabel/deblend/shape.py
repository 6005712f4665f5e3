"""Shapes of fitted sources in the field's terms: radius, axis ratio, angle, Sersic index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv

from astrolabel.deblend.components import Component
from astrolabel.deblend.profiles import (
    CENTRE_X,
    CENTRE_Y,
    LOG_INDEX,
    LOG_RADIUS,
    STRETCH_1,
    STRETCH_2,
)


@dataclass(frozen=True, eq=False)
class Profile:
    """One component of a source before the PSF: a point or a Sersic profile.

    Attributes
    ----------
    centre : (y, x) pixels.
    flux : (C,) counts, of either sign.
    radius : half-light radius, circularised (the root of both half axes' product), pixels; 0 of a
        point.
    axis_ratio : minor over major axis; 1 of a point.
    theta : degrees of the major axis from +x towards +y, above -90 to 90; 0 of a point.
    index : Sersic's n; NaN of a point.
    """

    centre: tuple[float, float]
    flux: NDArray[np.float64]
    radius: float = 0.0
    axis_ratio: float = 1.0
    theta: float = 0.0
    index: float = float("nan")


def profile_of(c: Component) -> Profile:
    """The profile of a component as it was fitted."""
    centre = float(c.shape[CENTRE_Y]), float(c.shape[CENTRE_X])
    if c.point:
        return Profile(centre, c.flux.copy())
    along, across = float(c.shape[STRETCH_1]), float(c.shape[STRETCH_2])
    stretch = float(np.hypot(along, across))
    return Profile(
        centre,
        c.flux.copy(),
        radius=float(np.exp(c.shape[LOG_RADIUS])),
        axis_ratio=float(np.exp(-stretch)),
        theta=float(np.degrees(0.5 * np.arctan2(across, along))),
        index=float(np.exp(c.shape[LOG_INDEX])),
    )


def half_light_radius(parts: Sequence[Profile]) -> float:
    """Half-light radius, circularised, of concentric profiles together, pixels.

    It is where the light of all bands reaches a half; each profile is counted in its own
    ellipses.
    """
    if len(parts) == 1:
        return parts[0].radius
    light = np.array([max(float(p.flux.sum()), 0.0) for p in parts])
    wide = [p for p, f in zip(parts, light, strict=True) if f > 0 and p.radius > 0]
    if light.sum() <= 0 or not wide:
        return max(p.radius for p in parts)

    def inside(radius: float) -> float:
        total = 0.0
        for part, flux in zip(parts, light, strict=True):
            total += flux * _enclosed(part, radius)
        return total / float(light.sum()) - 0.5

    # Within twice the largest radius is more than half of every profile.
    beyond = 2 * max(p.radius for p in wide)
    return float(brentq(inside, 0.0, beyond)) if inside(0.0) < 0 else 0.0


def _enclosed(part: Profile, radius: float) -> float:
    """Fraction of a profile's light inside a circularised radius."""
    if part.radius == 0:
        return 1.0
    b = gammaincinv(2 * part.index, 0.5)
    return float(gammainc(2 * part.index, b * (radius / part.radius) ** (1 / part.index)))
