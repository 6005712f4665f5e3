"""Pixels that are no measurements though their values are numbers: fill values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.config.prepare import NoDataConfig
from astrolabel.prepare.mesh import clipped, grain_of


@dataclass(frozen=True)
class Fill:
    """Pixels that are no measurements.

    Attributes
    ----------
    value : of them, or of most.
    pixels : their number.
    kind : ``block`` for blocks of one value, ``smooth`` for blocks without noise, ``wild`` for
        values that no sky has.
    """

    value: float
    pixels: int
    kind: str

    def text(self, size: int) -> str:
        """A clause on them in an image of so many pixels."""
        share = 100 * self.pixels / size
        if self.kind == "block":
            return f"blocks of the value {self.value:g} over {share:.2g} % of the image: no data"
        if self.kind == "smooth":
            return f"blocks without noise, about {self.value:g}, over {share:.2g} %: no data"
        return f"{self.pixels} pixels of {self.value:g}, which no sky has: no data"


def gathered(fills: Iterable[Fill]) -> list[Fill]:
    """Those of several sections, one of a kind."""
    found: dict[float | str, Fill] = {}
    for fill in fills:
        key = fill.value if fill.kind == "block" else fill.kind
        before = found.get(key)
        found[key] = fill if before is None else replace(before, pixels=before.pixels + fill.pixels)
    return list(found.values())


def rough_sky(values: NDArray[np.floating], sample_px: int) -> tuple[float, float]:
    """(level, sigma) of some `sample_px` values of an image; of most of the different ones where
    one fill value is in the majority."""
    sample = values[:: max(values.size // sample_px, 1)].astype(np.float64)
    kinds, counts = np.unique(sample, return_counts=True)
    if len(kinds) > 100 and counts.max() > 0.02 * sample.size:
        sample = sample[sample != kinds[counts.argmax()]]
    return clipped(sample)


def no_data(
    image: NDArray[np.float32], valid: NDArray[np.bool_], config: NoDataConfig
) -> tuple[NDArray[np.bool_], tuple[Fill, ...]]:
    """(H, W) bool, valid pixels that are no measurements, and each kind of them.

    Kinds are blocks, rows and columns of one value, and values that no sky has.
    """
    out = np.zeros(image.shape, bool)
    fills: list[Fill] = []
    if not valid.any():
        return out, ()
    low, high = float(image[valid].min()), float(image[valid].max())
    if low == high:
        return valid.copy(), (Fill(low, int(valid.sum()), "block"),)
    level, sigma = rough_sky(image[valid], config.sample_px)
    if sigma > 0:
        wild = valid & ((image < level - config.low_sigma * sigma) | (image > config.high * sigma))
        if wild.any():
            kinds, counts = np.unique(image[wild], return_counts=True)
            fills.append(Fill(float(kinds[counts.argmax()]), int(counts.sum()), "wild"))
        out |= wild
    flat = _repeated(image, valid & ~out, config)
    for value, where in flat:
        bright = level + config.star_sigma * sigma
        if sigma > 0 and value > bright:
            where = _without_stars(image, valid & ~out, where, bright)
        if not where.any():
            continue
        fills.append(Fill(value, int(where.sum()), "block"))
        out |= where
    smooth = _smooth(image, valid & ~out, config) & (image < level + config.star_sigma * sigma)
    if smooth.any():
        fills.append(Fill(float(np.median(image[smooth])), int(smooth.sum()), "smooth"))
        out |= smooth
    return out, tuple(fills)


def _smooth(
    image: NDArray[np.float32], valid: NDArray[np.bool_], config: NoDataConfig
) -> NDArray[np.bool_]:
    """(H, W) bool, blocks without noise: fill values less a model of the sky, or interpolation.

    Their second differences are no part of those of the noise. Values in steps are left out:
    they repeat by chance.
    """
    side = config.smooth_side_px
    if min(image.shape) < side or not valid.any() or grain_of(image[valid]).step:
        return np.zeros(image.shape, bool)
    work = np.where(valid, image, np.nan)
    bent = np.zeros((2, *image.shape), np.float32)  # at the image's edge it is not known
    bent[0, 1:-1] = np.abs(work[2:] - 2 * work[1:-1] + work[:-2])
    bent[1, :, 1:-1] = np.abs(work[:, 2:] - 2 * work[:, 1:-1] + work[:, :-2])
    known = bent[np.isfinite(bent)]
    least = config.smooth_part * np.median(known[:: max(known.size // 10**5, 1)])
    flat = (bent < least).all(axis=0)
    where = _opened(flat, (side, side))
    if not where.any():
        return where
    where = ndimage.binary_propagation(where, np.ones((3, 3)), mask=flat)
    # Differences at the rim are those of a fill and its neighbour.
    return np.asarray(ndimage.binary_dilation(where, np.ones((3, 3))) & valid)


def _without_stars(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    where: NDArray[np.bool_],
    bright: float,
) -> NDArray[np.bool_]:
    """Pixels of one value without the saturated middles of stars, whose light goes on around them
    (not around bleed trails, so of a tenth); around a fill is the sky."""
    out = where.copy()
    parts, _ = ndimage.label(where, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        near = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in box)
        part = parts[near] == number
        around = ndimage.binary_dilation(part, np.ones((5, 5))) & valid[near] & ~where[near]
        if not around.any() or np.percentile(image[near][around], 90) > bright:
            out[near] &= ~part
    return out


def _repeated(
    image: NDArray[np.float32], valid: NDArray[np.bool_], config: NoDataConfig
) -> list[tuple[float, NDArray[np.bool_]]]:
    """Values, and where blocks, rows or columns of them are."""
    same = valid[:, 1:] & valid[:, :-1] & (image[:, 1:] == image[:, :-1])
    kinds, counts = np.unique(image[:, 1:][same], return_counts=True)
    order = np.argsort(counts)[::-1][: config.values]
    # Pixels that were doubled in size repeat every value: a fill is much commoner.
    common = counts > (5 * np.median(counts) if len(kinds) > config.values else 0)
    chosen = kinds[order[common[order]]]
    found = []
    for value in chosen:
        is_it = valid & (image == value)
        share = _share_of(is_it, image, valid, value, config.sample_px)
        if share > config.most_share:
            continue
        size = math.log(config.repeated_chance / image.size) / math.log(share)
        side, length = max(math.ceil(math.sqrt(size)), 3), max(math.ceil(size), 9)
        longest = max(image.shape) if share < 0.01 else config.max_block_px
        where = np.zeros(image.shape, bool)
        for window in ((side, side), (1, length), (length, 1)):
            if max(window) <= longest:
                where |= _opened(is_it, window)
        if where.any():
            if (is_it & ~where).sum() < 0.01 * valid.sum():  # rare elsewhere: whole patches
                where = ndimage.binary_propagation(where, np.ones((3, 3)), mask=is_it)
            found.append((float(value), where))
    return found


def _share_of(
    is_it: NDArray[np.bool_],
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    value: float,
    sample_px: int,
) -> float:
    """How common a value is where it makes no block: by its neighbours in value, of which a
    sky of few different values has as many."""
    sample = image[valid][:: max(valid.sum() // sample_px, 1)]
    kinds, counts = np.unique(sample, return_counts=True)
    rest = counts[kinds != value]
    total = max(int(counts.sum()), 1)
    if rest.size == 0:
        return 1 - 1e-9
    typical = float(rest.max()) / total
    own = float(is_it.sum()) / max(int(valid.sum()), 1)
    # A continuous sky repeats nothing; that of counts repeats its commonest values.
    continuous = rest.size > 0.2 * total
    share = typical if continuous else max(own, typical)
    return float(np.clip(share, 1e-6, 1 - 1e-9))


def _opened(where: NDArray[np.bool_], window: tuple[int, int]) -> NDArray[np.bool_]:
    """The part of `where` that windows (of odd sides) inside of it cover."""
    size = tuple(n | 1 for n in window)
    inside = ndimage.minimum_filter(where.astype(np.uint8), size, mode="constant")
    return np.asarray(ndimage.maximum_filter(inside, size, mode="constant").astype(bool))
