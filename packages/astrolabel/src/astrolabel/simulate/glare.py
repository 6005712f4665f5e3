"""What optics and detectors add to a bright star: spikes, an aureole, bleed trails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box

SPIKE_FLUX = 0.006
"""Part of a saturated star's light in its diffraction spikes, about what the four vanes
of Subaru's spider take."""
SPIKE_WIDTH_PX = 1.2
"""Gaussian width across a spike, a third of the seeing."""
SPIKE_ANGLE_RAD = 0.78
"""Angle of the first of the four spikes from +x."""
GLARE_SPIKE_FLUX = 0.015
"""The same with the light that the vanes' edges scatter, which a star far beyond saturation
shows: its spikes reach a hundred pixels."""
AUREOLE_FLUX = 0.05
"""Part of the light in the aureole beyond the seeing,"""
AUREOLE_ARCSEC = 2.1
"""... its core radius,"""
AUREOLE_SLOPE = 3.4
"""... and the power of the radius by which it falls beyond that: together they give the
profile of the saturated star of a real DR7 cutout from 30 to 60 pixels (in r, 0.0075 falling
to 0.0009 where it has 0.92 at 9 pixels)."""
OVERFULL = 1.001
"""A bled pixel holds this much of the saturation level: the observation clips and marks it."""
TRAIL_LEVEL = 0.003
"""Level, in parts of the saturation, of what the coadd keeps of a trail beyond its saturated
part. With a fall by e in 15 pixels it gives DECam's 0.016 nanomaggies 25 pixels from the
saturated star of a real DR7 cutout."""
TRAIL_WIDTH_PX = 1.5


@dataclass(frozen=True)
class Glare:
    """A bright star's own.

    Attributes
    ----------
    spike_angle_rad : of the first of the four spikes, from +x.
    aureole_px : core radius of the aureole.
    beads, bead_period_px, bead_phase : relative amplitude, period and phase of the
        brightness along a spike.
    bleed_axis : 0 along columns of the image, 1 along rows.
    trail_px : length over which the trail's remains fall by e.
    """

    spike_angle_rad: float
    aureole_px: float
    beads: float
    bead_period_px: float
    bead_phase: float
    bleed_axis: int
    trail_px: float


def spikes(
    box: Box, y: float, x: float, angle_rad: float = SPIKE_ANGLE_RAD, glare: Glare | None = None
) -> NDArray[np.float32]:
    """Four diffraction spikes that fall as 1/r^2, summing to one."""
    rows, columns = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
    out = np.zeros(box.shape)
    for angle in (angle_rad, angle_rad + np.pi / 2):
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
        # Flat inside 4 px, where the saturated core hides them anyway.
        line = np.exp(-0.5 * (across / SPIKE_WIDTH_PX) ** 2) / np.maximum(np.abs(along), 4) ** 2
        if glare is not None:
            wave = 2 * np.pi * along / glare.bead_period_px + glare.bead_phase
            line = line * (1 + glare.beads * np.sin(wave))
        out += line
    return (out / out.sum()).astype(np.float32)


def aureole_reach(glare: Glare, flux: NDArray[np.float64], edge: NDArray[np.float64]) -> float:
    """Radius in pixels at which the aureole of (C,) counts falls to `edge` counts a pixel."""
    # The profile's integral over the plane is 2 pi a^2 / (slope - 2).
    area = 2 * np.pi * glare.aureole_px**2 / (AUREOLE_SLOPE - 2)
    ratio = float((AUREOLE_FLUX * flux / area / edge).max())
    return float(glare.aureole_px * np.sqrt(max(ratio ** (2 / AUREOLE_SLOPE) - 1, 0.0)))


def add_glare(
    stamp: NDArray[np.float32],
    box: Box,
    y: float,
    x: float,
    flux: NDArray[np.float64],
    limits: NDArray[np.float64],
    glare: Glare,
) -> NDArray[np.float32]:
    """A star's stamp with aureole, spikes and bleeding.

    Parameters
    ----------
    stamp : (C, h, w) counts of the star under the PSF alone, in `box`.
    flux : (C,) total counts; limits : (C,) counts at which a pixel is full.

    Returns
    -------
    (C, h, w) float32. The light is kept: spikes and aureole take theirs from the core, and
    what a full pixel cannot hold spills along its column (or row) into the next that can.
    Only the remains of the trail, one part in a hundred at most, come on top.
    """
    rows, columns = np.ogrid[box.y0 : box.y1, box.x0 : box.x1]
    distance = np.hypot(rows - y, columns - x)
    aureole = (1 + (distance / glare.aureole_px) ** 2) ** (-AUREOLE_SLOPE / 2)
    extra = GLARE_SPIKE_FLUX * spikes(box, y, x, glare.spike_angle_rad, glare)
    extra = extra + AUREOLE_FLUX * aureole / aureole.sum()
    light = (1 - GLARE_SPIKE_FLUX - AUREOLE_FLUX) * stamp + flux[:, None, None] * extra
    across, along = (columns - x, rows - y) if glare.bleed_axis == 0 else (rows - y, columns - x)
    trail = np.exp(-0.5 * (across / TRAIL_WIDTH_PX) ** 2 - np.abs(along) / glare.trail_px)
    out = np.empty_like(stamp)
    for n, limit in enumerate(limits):
        full = light[n] > limit
        lines = np.moveaxis(light[n], glare.bleed_axis, -1)
        bled = np.stack([bleed(line, float(limit)) for line in lines])
        out[n] = np.moveaxis(bled, -1, glare.bleed_axis)
        if full.any():
            out[n] += (TRAIL_LEVEL * limit * trail).astype(np.float32)
    return out


def bleed(line: NDArray[np.floating], limit: float) -> NDArray[np.float64]:
    """One line of pixels with what is above `limit` spilt to both sides equally.

    A pixel that was full, or has been filled, holds `OVERFULL` times the limit. Charge
    that reaches the line's end is lost.
    """
    out = line.astype(np.float64)
    excess = float(np.maximum(out - limit, 0).sum())
    if excess <= 0:
        return out
    over = np.flatnonzero(out > limit)
    out[over] = limit
    between = out[over[0] : over[-1] + 1]  # a hollow between two full pixels fills first
    hollow = limit - between
    part = min(excess / max(float(hollow.sum()), excess), 1.0)
    between += part * hollow
    excess -= part * float(hollow.sum())
    between[between >= limit] = limit * OVERFULL
    for places in (range(over[0] - 1, -1, -1), range(over[-1] + 1, len(out))):
        left = excess / 2
        for k in places:
            room = limit - out[k]
            if left < room:
                out[k] += left
                break
            left -= room
            out[k] = limit * OVERFULL
    return out
