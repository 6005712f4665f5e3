"""The smooth elliptical profile of a connected object, and how much the object departs from it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Profile:
    """A parent, and the smooth elliptical profile about its main candidate.

    Attributes
    ----------
    centre : (2,) of the host.
    shape : (2, 2) of the ellipse: r^2 = d^T shape d, r in pixels of the geometric mean radius.
    step : width of a ring in pixels.
    levels : (R,) counts: median of each ring, falling outward.
    scatter : scatter about the profile as a part of it, noise included.
    area, total, concentration : pixels; counts; part of them within a seeing FWHM.
    """

    centre: Vector
    shape: Vector
    step: float
    levels: Vector
    scatter: float
    area: int
    total: float
    concentration: float

    @classmethod
    def of(
        cls,
        light: Array,
        variance: Array,
        smooth: Array,
        pixels: tuple[Array, Array],
        fwhm_px: float,
        centre: Vector,
    ) -> Profile:
        """Of the object at `pixels` (y, x) about `centre`.

        Parameters
        ----------
        light, variance, smooth : (H, W) counts, counts squared, and the light behind a Gaussian of
            0.7 of the seeing.
        """
        y, x = pixels
        values = smooth[y, x]
        weight = np.maximum(values, 0)
        weight = np.minimum(weight, np.percentile(weight, 80)) + 1e-30
        dy, dx = y - centre[0], x - centre[1]
        yy, yx, xx = (np.average(p, weights=weight) for p in (dy * dy, dy * dx, dx * dx))
        cov = np.array([[yy + 0.3, yx], [yx, xx + 0.3]])
        shape = np.linalg.inv(cov) * np.sqrt(np.linalg.det(cov))
        step = max(0.5 * fwhm_px, 1.0)
        ring = (np.sqrt(_squared(shape, dy, dx)) / step).astype(int)
        levels = _by_ring(values, ring)
        noise = np.sqrt(variance[y, x] / (4 * np.pi * (0.3 * fwhm_px) ** 2))
        model = levels[ring]
        seen = (ring > 1) & (model > 2 * noise)
        relative = (values[seen] - model[seen]) / model[seen]
        scatter = _spread(relative) if seen.sum() > 8 else 0.0
        near = dy * dy + dx * dx < fwhm_px**2
        own = light[y, x].astype(float)
        total = max(float(own.sum()), 1e-30)
        return cls(centre, shape, step, levels, scatter, len(y), total,
                   float(own[near].sum()) / total)  # fmt: skip

    def at(self, points: Vector) -> Vector:
        """(N,) level of the profile at (N, 2) points."""
        d = points - self.centre
        r = np.sqrt(_squared(self.shape, d[:, 0], d[:, 1])) / self.step - 0.5
        return np.interp(r, np.arange(len(self.levels)), self.levels)


def _squared(shape: Vector, dy: Array, dx: Array) -> Array:
    return shape[0, 0] * dy * dy + 2 * shape[0, 1] * dy * dx + shape[1, 1] * dx * dx


def _spread(values: Array) -> float:
    """Robust standard deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _by_ring(light: Array, ring: NDArray[np.int64]) -> Vector:
    """(R,) median of the light of each ring, falling outward."""
    order = np.argsort(ring, kind="stable")
    edges = np.searchsorted(ring[order], np.arange(ring.max() + 2))
    parts = [light[order[a:b]] for a, b in itertools.pairwise(edges)]
    known = np.flatnonzero([len(p) > 0 for p in parts])
    rings = np.arange(len(parts))
    levels = np.interp(rings, known, [np.median(parts[k]) for k in known])
    return np.maximum(np.minimum.accumulate(levels), 0)
