"""Bright-star artifacts: diffraction spikes and bleed trails. The halo is the PSF's wings."""

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
BRIGHT_SPIKE_FLUX = 0.015
"""The same with the light that the vanes' edges scatter, which a star far beyond saturation
shows: its spikes reach a hundred pixels."""
OVERFULL = 1.001
"""A bled pixel holds this much of the saturation level: the observation clips and marks it."""
TRAIL_LEVEL = 0.003
"""Level, in parts of the saturation, of what the coadd keeps of a trail beyond its saturated
part. With a fall by e in 15 pixels it gives DECam's 0.016 nanomaggies 25 pixels from the
saturated star of a real DR7 cutout."""
TRAIL_WIDTH_PX = 1.5


@dataclass(frozen=True)
class StarArtifacts:
    """What a bright star shows.

    Attributes
    ----------
    spike_angle_rad : of the first of the four spikes, from +x.
    beads, bead_period_px, bead_phase : relative amplitude, period and phase of the
        brightness along a spike.
    bleed_axis : 0 along columns of the image, 1 along rows.
    trail_px : length over which the trail's remains fall by e.
    """

    spike_angle_rad: float
    beads: float
    bead_period_px: float
    bead_phase: float
    bleed_axis: int
    trail_px: float


def spikes(
    box: Box,
    y: float,
    x: float,
    angle_rad: float = SPIKE_ANGLE_RAD,
    artifacts: StarArtifacts | None = None,
) -> NDArray[np.float32]:
    """Four diffraction spikes that fall as 1/r^2, summing to one."""
    rows, columns = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
    out = np.zeros(box.shape)
    for angle in (angle_rad, angle_rad + np.pi / 2):
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
        # Flat inside 4 px, where the saturated core hides them anyway.
        line = np.exp(-0.5 * (across / SPIKE_WIDTH_PX) ** 2) / np.maximum(np.abs(along), 4) ** 2
        if artifacts is not None:
            wave = 2 * np.pi * along / artifacts.bead_period_px + artifacts.bead_phase
            line = line * (1 + artifacts.beads * np.sin(wave))
        out += line
    return (out / out.sum()).astype(np.float32)


def add_artifacts(
    stamp: NDArray[np.float32],
    box: Box,
    y: float,
    x: float,
    flux: NDArray[np.float64],
    limits: NDArray[np.float64],
    artifacts: StarArtifacts,
) -> NDArray[np.float32]:
    """A star's stamp with spikes and bleed trails.

    Parameters
    ----------
    stamp : (C, h, w) counts of the star under the PSF alone, in `box`.
    flux : (C,) total counts; limits : (C,) counts at which a pixel is full.

    Returns
    -------
    (C, h, w) float32. The light is kept: spikes take theirs from the star, and what a full
    pixel cannot hold spills along its column (or row) into the next that can. Only the
    remains of the trail, one part in a hundred at most, come on top.
    """
    rows, columns = np.ogrid[box.y0 : box.y1, box.x0 : box.x1]
    extra = BRIGHT_SPIKE_FLUX * spikes(box, y, x, artifacts.spike_angle_rad, artifacts)
    light = (1 - BRIGHT_SPIKE_FLUX) * stamp + flux[:, None, None] * extra
    across, along = (
        (columns - x, rows - y) if artifacts.bleed_axis == 0 else (rows - y, columns - x)
    )
    trail = np.exp(-0.5 * (across / TRAIL_WIDTH_PX) ** 2 - np.abs(along) / artifacts.trail_px)
    out = np.empty_like(stamp)
    for n, limit in enumerate(limits):
        full = light[n] > limit
        lines = np.moveaxis(light[n], artifacts.bleed_axis, -1)
        bled = np.stack([bleed(line, float(limit)) for line in lines])
        out[n] = np.moveaxis(bled, -1, artifacts.bleed_axis)
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
