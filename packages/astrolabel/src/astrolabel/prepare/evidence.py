"""What the pixels of a band show of its sky and noise, of a section or of a whole coadd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.config.prepare import PrepareConfig, SkyConfig
from astrolabel.prepare import mesh, noise, sky
from astrolabel.prepare.mesh import Mesh
from astrolabel.prepare.pixels import Plane
from astrolabel.prepare.sections import whole
from astrolabel.prepare.sky import BandSky


@dataclass(frozen=True, eq=False)
class Evidence:
    """A band's sky, its noise, and how far the noise that its files give is from that.

    Attributes
    ----------
    level, rms, cells, scatter, tail : as in `BandSky`.
    free, valid, pixels : numbers of pixels of empty sky, with data, and of all.
    photon : counts of one photon, for counts of few; else 0.
    step : counts in which values come (see `Grain`).
    within : scatter in small blocks (see `mesh.scatter_within`), counts; NaN where not known.
    cut : part of the pixels that has the lowest value, where faint ones were cut off; else 0.
    check : of the noise that the files give; None where they give none that is wanted.
    noise_word : what that is, for people.
    relative_weight : whether it is of a weight without a unit.
    """

    level: Mesh
    rms: Mesh
    cells: NDArray[np.float64]
    scatter: NDArray[np.float64]
    tail: float
    free: int
    valid: int
    pixels: int
    photon: float
    step: float
    within: float
    cut: float
    check: noise.NoiseCheck | None
    noise_word: str
    relative_weight: bool

    @property
    def typical(self) -> tuple[float, float]:
        """Level and rms of the middle cell."""
        return float(np.median(self.level.values)), float(np.median(self.rms.values))

    @property
    def darkest(self) -> float:
        """How far the darkest of the cells is below the level, counts; 0 for none that is."""
        below = (self.level.values - self.cells)[np.isfinite(self.cells)]
        return float(max(below.max(initial=0), 0))

    @property
    def spread(self) -> float:
        """Of the level among cells, 5 to 95 %, counts."""
        known = self.cells[np.isfinite(self.cells)]
        if known.size < 4:
            return 0.0
        low, high = np.percentile(known, [5, 95])
        return float(high - low)


def of_section(plane: Plane, found: BandSky, config: PrepareConfig) -> Evidence:
    """What the pixels of one section show."""
    check = None
    grain = mesh.grain_of(plane.image[found.free])
    if plane.variance is not None and config.noise.trust != "pixels":
        root = np.sqrt(np.where(plane.valid, plane.variance, 1))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            relative = ((plane.image - found.level.whole) / root).astype(np.float32)
        ny, nx = found.cells.shape
        free = found.free & np.isfinite(relative)
        step = grain.step / float(np.median(root[free])) if free.any() else 0.0
        check = noise.check_given(relative, free, (ny, nx), replace(grain, step=step), config)
    return Evidence(
        found.level, found.rms, found.cells, found.scatter, found.tail,
        int(found.free.sum()), int(plane.valid.sum()), plane.valid.size,
        grain.step if grain.few else 0.0, grain.step,
        mesh.scatter_within(plane.image, plane.valid, config.sky.block_px),
        _cut_off(plane, config.sky), check, plane.noise_word, plane.relative_weight,
    )  # fmt: skip


def _cut_off(plane: Plane, config: SkyConfig) -> float:
    """Part of the pixels with the lowest value, where that is much commoner than any other: values
    below it were set to it. Counts of few photons are mostly zero, too."""
    values = plane.image[plane.valid]
    if values.size == 0 or mesh.grain_of(values).few:
        return 0.0
    lowest = float((values == values.min()).mean())
    if lowest < config.cut_off:
        return 0.0
    above = values[values > values.min()]
    _, counts = np.unique(above[:: max(above.size // CUT_SAMPLE, 1)], return_counts=True)
    commonest = counts.max(initial=0) / max(counts.sum(), 1) * (1 - lowest)
    return lowest if lowest > config.cut_over * commonest else 0.0


CUT_SAMPLE = 20_000
"""Pixels that the commonest value is looked for in."""


def together(
    rows: Sequence[Sequence[Evidence]], shape: tuple[int, int], config: SkyConfig
) -> Evidence:
    """What the sections of a coadd show, in the rows of a `Grid`."""
    parts = [part for row in rows for part in row]
    if len(parts) == 1:
        return parts[0]
    free, pixels = sum(p.free for p in parts), sum(p.pixels for p in parts)
    cells = whole([[p.cells for p in row] for row in rows])
    scatter = whole([[p.scatter for p in row] for row in rows])
    before = (
        Mesh(whole([[p.level.values for p in row] for row in rows]), shape),
        Mesh(whole([[p.rms.values / np.float32(p.tail) for p in row] for row in rows]), shape),
    )
    level, rms = sky.smoothed(cells, scatter, free / pixels, before, config)
    with_data = [p for p in parts if p.valid] or parts
    tail = float(np.median([p.tail for p in with_data]))
    return replace(
        parts[0],
        level=level,
        rms=rms.times(tail),
        cells=cells,
        scatter=scatter,
        tail=tail,
        free=free,
        valid=sum(p.valid for p in parts),
        pixels=pixels,
        within=float(np.median([p.within for p in with_data if np.isfinite(p.within)] or [np.nan])),
        cut=float(np.median([p.cut for p in with_data])),
        check=_checks_together([p.check for p in parts if p.check is not None]),
    )


def _checks_together(checks: Sequence[noise.NoiseCheck]) -> noise.NoiseCheck | None:
    if not checks:
        return None
    ratios = [c.ratio for c in checks if np.isfinite(c.ratio)]
    ratio = float(np.median(ratios)) if ratios else float("nan")
    return noise.NoiseCheck(ratio, np.concatenate([c.cells for c in checks]))
