"""Level and scatter of an image on a coarse mesh, measured on the pixels free of sources."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.prepare.trend import Trend

MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, eq=False)
class Mesh:
    """A smooth field over a coadd.

    Attributes
    ----------
    values : (ny, nx) float32 at the middles of equal cells.
    shape : (H, W) of the coadd in pixels.
    trend : what of the values is known between the middles, too.
    """

    values: NDArray[np.float32]
    shape: tuple[int, int]
    trend: Trend | None = None

    def at(self, box: Box) -> NDArray[np.float32]:
        """(h, w) float32 in the pixels of `box`: linear between the cells' middles, and on
        beyond the outermost, but for the trend."""
        rows = _interpolation(self.values.shape[0], self.shape[0], box.y0, box.y1)
        columns = _interpolation(self.values.shape[1], self.shape[1], box.x0, box.x1)
        if self.trend is None:
            return np.asarray(rows @ self.values @ columns.T, np.float32)
        left = rows @ (self.values - self.trend.values) @ columns.T
        return np.asarray(left + self.trend.in_pixels(self.shape, box), np.float32)

    def times(self, factor: float) -> Mesh:
        """That of the noise, which has no trend."""
        return Mesh(self.values * np.float32(factor), self.shape)

    @property
    def whole(self) -> NDArray[np.float32]:
        return self.at(Box.of_shape(self.shape))


def _interpolation(cells: int, length: int, start: int, stop: int) -> NDArray[np.float32]:
    """(stop - start, cells) weights of the cells in each pixel."""
    place = (np.arange(start, stop) + 0.5) * cells / length - 0.5
    out = np.zeros((stop - start, cells), np.float32)
    if cells == 1:
        out[:] = 1
        return out
    below = np.clip(np.floor(place), 0, cells - 2).astype(int)
    part = place - below
    rows = np.arange(stop - start)
    out[rows, below], out[rows, below + 1] = 1 - part, part
    return out


def count_cells(shape: tuple[int, int], box: int) -> tuple[int, int]:
    """(ny, nx) cells of about `box` pixels a side, at least one."""
    return max(round(shape[0] / box), 1), max(round(shape[1] / box), 1)


def measure(
    data: NDArray[np.float32],
    free: NDArray[np.bool_],
    cells: tuple[int, int],
    min_free: float,
    around: Mesh | None = None,
    grain: Grain | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(level, scatter) of the free pixels of each of so many cells, each of shape `cells`; NaN in
    cells with fewer than `min_free` of them.

    Parameters
    ----------
    around : a level about which scatter is measured, so that its gradient is none.
    grain : of the values as they were read; by default of the data in each cell.
    """
    rows, columns = (
        np.rint(np.linspace(0, n, count + 1)).astype(np.int64)
        for n, count in zip(free.shape, cells, strict=True)
    )
    level = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    scatter = level.copy()
    middle = np.zeros(level.shape, np.float32) if around is None else around.values
    smooth = None if around is None else around.whole
    for i, (top, bottom) in enumerate(itertools.pairwise(rows)):
        for j, (left, right) in enumerate(itertools.pairwise(columns)):
            chosen = free[top:bottom, left:right]
            count = np.count_nonzero(chosen)
            if count >= max(min_free * chosen.size, 30):
                values = data[top:bottom, left:right][chosen]
                steps = grain_of(values) if grain is None else grain
                if smooth is not None:
                    values = values - smooth[top:bottom, left:right][chosen]
                above, scatter[i, j] = clipped(values, steps)
                level[i, j] = middle[i, j] + above
    return level, scatter


def scatter_within(data: NDArray[np.float32], valid: NDArray[np.bool_], side: int) -> float:
    """Scatter in blocks of so many pixels a side about a plane of each, that of the quietest
    quarter; NaN with fewer than four whole blocks. No light that is smooth over a block adds to
    it."""
    rows, columns = (n // side for n in data.shape)
    part = (slice(0, rows * side), slice(0, columns * side))
    shape = (rows, side, columns, side)
    blocks = data[part].reshape(shape).swapaxes(1, 2).reshape(-1, side * side)
    whole = valid[part].reshape(shape).swapaxes(1, 2).reshape(-1, side * side).all(axis=1)
    if whole.sum() < 4:
        return float("nan")
    y, x = (v.ravel() - (side - 1) / 2 for v in np.indices((side, side)))
    values = blocks[whole].astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    power = (values**2).sum(axis=1)
    power -= ((values @ y) ** 2 + (values @ x) ** 2) / (y**2).sum()
    return float(np.percentile(np.sqrt(np.maximum(power, 0) / (side * side - 3)), 25))


@dataclass(frozen=True)
class Grain:
    """In which steps values come.

    Attributes
    ----------
    few : whether they are counts of few photons: from zero on, and few in kind.
    step : between neighbouring ones, where they repeat; else 0.
    """

    few: bool
    step: float


def grain_of(values: NDArray[np.floating]) -> Grain:
    """From a sample."""
    sample = values[:: max(values.size // FEW_OF, 1)][:FEW_OF]
    kinds = np.unique(sample)
    if len(kinds) < FEW_KINDS:  # nearly all may be zero
        kinds = np.unique(values)
    if len(kinds) < 2:
        return Grain(False, 0.0)
    if kinds[0] == 0 and (sample > 0).mean() < 1 - LEAST_ZEROS:
        low, middle = np.percentile(values[values > 0], [10, 50])
        if low > 0.5 * middle:  # not so of noise that was cut off below zero
            return Grain(True, float(low))  # over an exposure that varies it is about this
    if len(kinds) > 0.5 * sample.size:
        return Grain(False, 0.0)
    step = float(np.percentile(np.diff(kinds), 25))
    most = np.searchsorted(kinds, np.percentile(sample, 95), side="right")  # but for stars
    return Grain(bool(0 <= kinds[0] < 0.1 * step and most < FEW_KINDS), step)


def clipped(values: NDArray[np.floating], grain: Grain | None = None) -> tuple[float, float]:
    """(level, sigma) of values with outliers; NaN of none.

    The scatter is that of the median deviation. Values in steps, of which that would be one, are
    spread over them; of counts so few that most are zero, it is the root mean square of all but
    the brightest thousandth.

    Parameters
    ----------
    grain : of the values as they were read; by default of these.
    """
    if values.size == 0:
        return float("nan"), float("nan")
    grain = grain_of(values) if grain is None else grain
    if grain.few:
        most = max(np.percentile(values, 99.9), values.min() + 1.5 * grain.step)
        inside = values[values <= most].astype(np.float64)
        if inside.size == 0:  # not a number among them
            return float("nan"), float("nan")
        return float(inside.mean()), float(inside.std())
    if grain.step:  # evenly over a step, without a random number
        values = values + (np.arange(values.size) * GOLDEN % 1 - 0.5) * grain.step
    middle = float(np.median(values))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    inside = values[np.abs(values - middle) <= 3 * sigma].astype(np.float64)
    mean = float(inside.mean())
    # As SExtractor: the mean, but where sources make the distribution lopsided.
    level = mean if abs(mean - middle) < 0.3 * sigma else middle
    if grain.step > 0.5 * sigma:
        # No Gaussian any more. Rounding makes noise of a step over root 12; so does spreading.
        squared = float(inside.var()) / CLIPPED_VARIANCE - grain.step**2 / 12
        sigma = max(squared, grain.step**2 / 12) ** 0.5
    return level, sigma


CLIPPED_VARIANCE = 0.973
"""Of a Gaussian of unit variance within three sigma."""
GOLDEN = 0.6180339887498949
LEAST_ZEROS = 0.25
"""Of counts of few photons, divided by an exposure, more than this part is zero."""
FEW_OF, FEW_KINDS = 2000, 15
"""Counts of few photons have fewer than so many different values among so many."""


def filled(cells: NDArray[np.float64], outlier: float) -> NDArray[np.float32]:
    """Cells without outliers or gaps: each gap takes the mean of what is near.

    Parameters
    ----------
    outlier : in the units of the cells; what is farther from the median of the 3x3 around it
        takes that median.
    """
    known = np.isfinite(cells)
    if not known.any():
        return np.zeros(cells.shape, np.float32)
    around = ndimage.generic_filter(cells, _median, 3, mode="constant", cval=np.nan)
    wrong = known & (np.abs(cells - around) > outlier)
    out = np.where(wrong, around, cells)
    reach = 1.0
    while not np.isfinite(out).all():
        share = ndimage.gaussian_filter(np.isfinite(out).astype(float), reach, mode="nearest")
        total = ndimage.gaussian_filter(np.where(np.isfinite(out), out, 0), reach, mode="nearest")
        near = np.isnan(out) & (share > 0.02)
        out = np.where(near, total / np.maximum(share, 1e-9), out)
        reach *= 1.5
    return out.astype(np.float32)


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def plane(cells: NDArray[np.float64], dark_weight: float) -> NDArray[np.float64]:
    """(ny, nx) the plane through the darker cells: what stands above it is a large source.

    A constant where fewer than six cells are known.

    Parameters
    ----------
    dark_weight : of the cells above the plane; those below have the rest.
    """
    known = np.isfinite(cells)
    if not known.any():
        return np.zeros(cells.shape)
    if known.sum() < 6 or min(cells.shape) < 2:
        return np.full(cells.shape, float(np.median(cells[known])))
    y, x = np.indices(cells.shape)
    terms = np.stack([np.ones(cells.shape), y, x], axis=-1).astype(float)
    weight = known.astype(float)
    values = np.where(known, cells, 0)
    for _ in range(30):
        root = np.sqrt(weight)[..., None]
        fitted, *_ = np.linalg.lstsq(
            (terms * root).reshape(-1, 3), (values * root[..., 0]).ravel(), rcond=None
        )
        weight = np.where(values > terms @ fitted, dark_weight, 1 - dark_weight) * known
    return np.asarray(terms @ fitted)
