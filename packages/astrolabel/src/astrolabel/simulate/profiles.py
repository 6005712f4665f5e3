"""Light before and after the PSF: Sersic and Moffat profiles on fine pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammainc, gammaincinv

Array = NDArray[np.float64]

CUSP_SAMPLES = 9
"""Samples across a fine pixel near the centre of a Sersic profile,"""
CUSP_PX = 4
"""... in the fine pixels within this many of it."""


@dataclass(frozen=True)
class Grid:
    """The fine pixels of a stamp.

    Attributes
    ----------
    shape : (h, w) of the stamp.
    centre : (y, x) of the source in the stamp's pixels.
    oversampling : fine pixels across a pixel. Every so many-th of them is a pixel's centre.
    """

    shape: tuple[int, int]
    centre: tuple[float, float]
    oversampling: int = 2

    @property
    def fine_shape(self) -> tuple[int, int]:
        h, w = self.shape
        return self.oversampling * (h - 1) + 1, self.oversampling * (w - 1) + 1

    def axes(self, angle_rad: float = 0.0) -> tuple[Array, Array]:
        """Offsets of the fine pixels' centres from the source, pixels: along an axis, across it."""
        rows, columns = np.ogrid[: self.fine_shape[0], : self.fine_shape[1]]
        dy = rows / self.oversampling - self.centre[0]
        dx = columns / self.oversampling - self.centre[1]
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        return dx * cos + dy * sin, dy * cos - dx * sin


def sersic_b(index: float) -> float:
    """The constant that makes the Sersic radius the half-light radius."""
    return float(gammaincinv(2 * index, 0.5))


def sersic(
    grid: Grid, index: float, half_light_px: float, axis_ratio: float, angle_rad: float
) -> Array:
    """Surface brightness of a Sersic profile of unit flux, per pixel.

    Parameters
    ----------
    half_light_px : circularised.

    Returns
    -------
    (H, W) float64 at the fine pixels; means over them near the centre, where it is steep.
    """
    b = sersic_b(index)
    peak = b ** (2 * index) / (2 * np.pi * index * gamma(2 * index) * half_light_px**2)
    root = np.sqrt(axis_ratio)

    def brightness(along: Array, across: Array) -> Array:
        radius = np.hypot(along * root, across / root) / half_light_px
        return np.asarray(peak * np.exp(-b * radius ** (1 / index)))

    along, across = grid.axes(angle_rad)
    out = brightness(along, across)
    near = np.nonzero(along**2 + across**2 < (CUSP_PX / grid.oversampling) ** 2)
    if len(near[0]):
        step = (np.arange(CUSP_SAMPLES) - CUSP_SAMPLES // 2) / CUSP_SAMPLES / grid.oversampling
        u = along[near][:, None, None] + step[:, None]
        v = across[near][:, None, None] + step[None, :]
        fine = brightness(u, v)
        out[near] = fine.mean((1, 2))
        # What the samples miss of the cusp itself.
        inside = np.hypot(u * root, v / root) < CUSP_PX / 2 / grid.oversampling * root
        area = 1 / (grid.oversampling * CUSP_SAMPLES) ** 2
        edge = CUSP_PX / 2 / grid.oversampling * root / half_light_px
        missing = gammainc(2 * index, b * edge ** (1 / index))
        missing -= float((fine * inside).sum()) * area
        middle = np.argmin(along[near] ** 2 + across[near] ** 2)
        out[near[0][middle], near[1][middle]] += missing * grid.oversampling**2
    return out


def sersic_reach(flux: float, index: float, radius: float, edge: float) -> float:
    """Radius in pixels at which a Sersic profile falls to `edge` counts a pixel."""
    if flux <= 0:
        return 0.0
    b = sersic_b(index)
    centre = flux * b ** (2 * index) / (2 * np.pi * index * gamma(2 * index) * radius**2)
    return float(radius * (max(np.log(centre / edge), 0.0) / b) ** index)


@dataclass(frozen=True)
class Moffat:
    """A PSF of unit flux.

    Attributes
    ----------
    fwhm_px, beta : of the profile; shear : (g1, g2), which keeps the area.
    """

    fwhm_px: float
    beta: float
    shear: tuple[float, float] = (0.0, 0.0)

    @property
    def alpha(self) -> float:
        return self.fwhm_px / (2 * np.sqrt(2 ** (1 / self.beta) - 1))

    @property
    def peak(self) -> float:
        return float((self.beta - 1) / (np.pi * self.alpha**2))

    def on(self, grid: Grid) -> Array:
        """(H, W) surface brightness per pixel at the fine pixels' centres."""
        dx, dy = grid.axes()
        g1, g2 = self.shear
        norm = np.sqrt(1 - g1**2 - g2**2)
        u, v = ((1 - g1) * dx - g2 * dy) / norm, ((1 + g1) * dy - g2 * dx) / norm
        return np.asarray(self.peak * (1 + (u**2 + v**2) / self.alpha**2) ** -self.beta)

    def reach(self, flux: float, edge: float) -> float:
        """Radius in pixels at which a star falls to `edge` counts a pixel."""
        ratio = flux * self.peak / edge
        return float(self.alpha * np.sqrt(max(ratio ** (1 / self.beta) - 1, 0.0)))
