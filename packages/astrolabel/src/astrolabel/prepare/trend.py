"""Polynomials over a mesh: what gradients and vignetting leave in a sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box

ROUNDS = 30
"""Of reweighting: cells on sources have lost their weight by then."""


@dataclass(frozen=True, eq=False)
class Trend:
    """A polynomial of place.

    Attributes
    ----------
    coefficients : (D+1, D+1) of the powers of y and x, which go from -1 to 1 between the middles of
        the outermost cells; zero beyond a total power of D.
    cells : (ny, nx) of the mesh.
    """

    coefficients: NDArray[np.float64]
    cells: tuple[int, int]

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1

    @property
    def terms(self) -> int:
        return (self.degree + 1) * (self.degree + 2) // 2

    @property
    def values(self) -> NDArray[np.float64]:
        """(ny, nx) at the middles of the cells."""
        y, x = (np.linspace(-1, 1, n) for n in self.cells)
        return self._at(y, x)

    @property
    def both_ways(self) -> float:
        """Part of the curvature (Laplacian, by cell) of the rarer sign: 0 for a dome or a bowl, up
        to a half for a peak whose foot runs out."""
        y, x = (np.linspace(-1, 1, n) for n in self.cells)
        across = [np.polynomial.polynomial.polyder(self.coefficients, 2, axis=k) for k in (0, 1)]
        bent = [
            np.polynomial.polynomial.polygrid2d(y, x, part) * ((n - 1) / 2) ** -2
            for part, n in zip(across, self.cells, strict=True)
        ]
        total = np.sum(bent, axis=0)
        up, down = np.maximum(total, 0).sum(), np.maximum(-total, 0).sum()
        return float(min(up, down) / max(up + down, 1e-300))

    def in_pixels(self, shape: tuple[int, int], box: Box) -> NDArray[np.float64]:
        """(h, w) in the pixels of `box` of an image of `shape`."""
        y, x = (
            2 * ((np.arange(start, stop) + 0.5) * n / length - 0.5) / (n - 1) - 1
            for n, length, start, stop in zip(
                self.cells, shape, (box.y0, box.x0), (box.y1, box.x1), strict=True
            )
        )
        return self._at(y, x)

    def _at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        rows, columns = (np.polynomial.polynomial.polyvander(v, self.degree) for v in (y, x))
        return np.asarray(rows @ self.coefficients @ columns.T)


def fit(cells: NDArray[np.float64], degree: int) -> Trend | None:
    """The polynomial that most cells are nearest to: least absolute deviations, so that a few on a
    source do not bend it.

    None with fewer cells along an axis than powers, or in all than twice as many.

    Parameters
    ----------
    cells : (ny, nx), NaN where not known.
    """
    known = np.isfinite(cells)
    powers = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    ny, nx = cells.shape
    if known.sum() < 2 * len(powers) or min(ny, nx) <= degree:
        return None
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    terms = np.stack([y[known] ** a * x[known] ** b for a, b in powers], axis=-1)
    values = cells[known]
    weight = np.ones(len(values))
    for _ in range(ROUNDS):
        fitted, *_ = np.linalg.lstsq(terms * weight[:, None], values * weight, rcond=None)
        left = np.abs(values - terms @ fitted)
        weight = 1 / np.sqrt(np.maximum(left, 1e-3 * left.mean() + 1e-300))
    coefficients = np.zeros((degree + 1, degree + 1))
    for (a, b), value in zip(powers, fitted, strict=True):
        coefficients[a, b] = value
    return Trend(coefficients, (ny, nx))
