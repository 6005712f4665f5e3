"""Trails of satellites and aircraft: straight, thin and evenly bright from end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.config.prepare import ArtifactConfig
from astrolabel.prepare.mesh import MAD_TO_SIGMA


@dataclass(frozen=True)
class Trail:
    """A straight band across a coadd.

    Attributes
    ----------
    y, x : a point of its middle line, pixels of the coadd.
    angle : of its direction from +x, radians.
    half_width : pixels from the middle line to the edge; 0 where not measured yet.
    length : pixels.
    """

    y: float
    x: float
    angle: float
    half_width: float
    length: float

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """(h, w) bool in the pixels of `box`; the line goes on to the coadd's border."""
        y = np.arange(box.y0, box.y1)[:, None] - self.y
        x = np.arange(box.x0, box.x1)[None] - self.x
        return np.abs(y * np.cos(self.angle) - x * np.sin(self.angle)) <= self.half_width


def find_trails(
    binned: NDArray[np.float32],
    known: NDArray[np.bool_],
    shape: tuple[int, int],
    config: ArtifactConfig,
) -> tuple[Trail, ...]:
    """The trails of one image, but for their widths.

    Parameters
    ----------
    binned, known : see `binned_down`.
    shape : (H, W) of the image.
    """
    found: list[Trail] = []
    for scale in SCALES:
        if min(binned.shape) < 8 * scale:
            break
        found += _of_scale(binned, known, shape, config, scale, found)
    return tuple(replace(trail, half_width=0.0) for trail in found)


SCALES = (1, 2)
"""Bins of which lines are made, in those of the image: a trail out of focus is wider than what
the first is compared with."""


def _averaged(
    binned: NDArray[np.float32], known: NDArray[np.bool_], scale: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Means of so many known bins along both axes, and where half of them are known."""
    rows, columns = (size // scale for size in binned.shape)
    cut, shape = np.s_[: rows * scale, : columns * scale], (rows, scale, columns, scale)
    number = known[cut].reshape(shape).sum(axis=(1, 3))
    total = np.where(known, binned, 0)[cut].reshape(shape).sum(axis=(1, 3))
    return (total / np.maximum(number, 1)).astype(np.float32), number * 2 >= scale**2


def _of_scale(
    binned: NDArray[np.float32],
    known: NDArray[np.bool_],
    shape: tuple[int, int],
    config: ArtifactConfig,
    scale: int,
    before: Sequence[Trail],
) -> list[Trail]:
    """The trails that are a few times `scale` bins wide and none of those of before, with a width
    to a bin."""
    n, fine = config.trail_bin_px * scale, (binned, known)
    if scale > 1:
        binned, known = _averaged(binned, known, scale)
    low = binned[known & (binned < 0)]
    sigma = MAD_TO_SIGMA * float(np.median(-low)) if low.size > 100 else np.inf
    # Over what is around, or all lines on a galaxy that fills the frame would be bright.
    side = 2 * SIDE_BINS + 1
    around = ndimage.median_filter(binned, (side, 1), mode="nearest")
    around = ndimage.median_filter(around, (1, side), mode="nearest")
    bright = known & (binned - around > config.trail_sigma * sigma)
    free = known.copy()  # of trails: what lies on one is neither part of another nor its end
    for trail in before:
        y, x = ((at + 0.5) / n - 0.5 for at in (trail.y, trail.x))
        free &= ~replace(trail, y=y, x=x, half_width=trail.half_width / n + 1).mask(
            Box.of_shape(bright.shape)
        )
    least = min(config.trail_length * min(shape), config.trail_length_px) / n
    found: list[Trail] = []
    for _ in range(config.most_trails - len(before)):
        line = _longest_line(bright & free, free, binned, least, config)
        if line is None:
            break
        y, x, angle, length = line
        at = ((y + 0.5) * scale - 0.5, (x + 0.5) * scale - 0.5)
        half = _half_bins(*fine, *at, angle, config) / scale
        if length >= config.trail_thin * 2 * half:
            middle = ((y + 0.5) * n - 0.5, (x + 0.5) * n - 0.5)
            found.append(Trail(*middle, angle, half * n, length * n))
        free &= ~Trail(y, x, angle, half + 1, length).mask(Box.of_shape(bright.shape))
    return found


def binned_down(
    relative: NDArray[np.float32], valid: NDArray[np.bool_], config: ArtifactConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Means of `config.trail_bin_px` pixels along both axes, and where half of them are valid.

    Parameters
    ----------
    relative : (H, W) image less its sky, over its noise.
    valid : (H, W) bool.
    """
    n, data = config.trail_bin_px, np.clip(relative, -20, 20)
    rows, columns = (size // n for size in data.shape)
    cut = (slice(0, rows * n), slice(0, columns * n))
    shape = (rows, n, columns, n)
    known = valid[cut].reshape(shape).sum(axis=(1, 3))
    total = np.where(valid, data, 0)[cut].reshape(shape).sum(axis=(1, 3))
    return (total / np.maximum(known, 1)).astype(np.float32), known * 2 >= n * n


def _longest_line(
    bright: NDArray[np.bool_],
    free: NDArray[np.bool_],
    binned: NDArray[np.float32],
    least: float,
    config: ArtifactConfig,
) -> tuple[float, float, float, float] | None:
    """(y, x, angle, length) of the line with the most bright bins that are evenly bright over
    `least` bins without gaps but those that are not `free`, in bins; None where there is none. A
    Hough transform."""
    rows, columns = (axis.astype(np.float32) for axis in np.nonzero(bright))
    if len(rows) < least:
        return None
    reach = int(np.ceil(np.hypot(*bright.shape)))
    steps = int(np.ceil(np.pi * max(bright.shape)))  # a bin at the end of a line as long
    lines = []
    for angle in np.arange(steps, dtype=np.float32) * np.float32(np.pi / steps):
        across = rows * np.cos(angle) - columns * np.sin(angle) + np.float32(reach)
        counts = np.bincount(across.astype(np.uint16), minlength=2 * reach + 1)
        counts[1:] += counts[:-1].copy()  # a trail is seldom on one row of bins
        best = np.argpartition(-counts, LINES_AN_ANGLE)[:LINES_AN_ANGLE]
        lines += [(int(counts[k]), float(angle), int(k) - reach) for k in best]
    lines.sort(key=lambda line: -line[0])
    for count, angle, offset in lines[: config.trail_tries]:
        if count < least:
            return None
        line = _stretch(rows, columns, free, binned, angle, offset, least, config)
        if line is not None:
            return line
    return None


LINES_AN_ANGLE = 3
"""Parallel lines that are looked at: the bins beside a trail make one as full."""


def _stretch(
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    free: NDArray[np.bool_],
    binned: NDArray[np.float32],
    angle: float,
    offset: float,
    least: float,
    config: ArtifactConfig,
) -> tuple[float, float, float, float] | None:
    """(y, x, angle, length) of the longest part of a line that stands out evenly, in bins."""
    near = np.abs(rows * np.cos(angle) - columns * np.sin(angle) - offset) <= 1.5
    along = columns[near] * np.cos(angle) + rows[near] * np.sin(angle)
    first = along.min()
    place = np.rint(along - first).astype(np.int64)
    weight = np.full(int(place.max()) + 1, -config.trail_gap)
    steps = first + np.arange(len(weight))
    line = (offset * np.cos(angle) + steps * np.sin(angle),
            steps * np.cos(angle) - offset * np.sin(angle))  # fmt: skip
    line = tuple(np.clip(np.rint(at), 0, n - 1).astype(int)
                 for at, n in zip(line, free.shape, strict=True))  # fmt: skip
    weight[~free[line]] = 0
    weight[place] = 1
    start, stop = _run(weight)
    if (weight[start:stop] == 1).sum() < least:
        return None
    on = (place >= start) & (place < stop)
    y, x = rows[near][on].astype(np.int64), columns[near][on].astype(np.int64)
    # How far pieces stand out of either side from end to end: galaxies have bright lines, too.
    pieces = config.trail_pieces
    piece = np.minimum((place[on] - start) * pieces // (stop - start), pieces - 1)
    inner = [piece == k for k in range(1, pieces - 1) if (piece == k).any()]
    light = binned[y, x]
    sides = [_beside(binned, y, x, angle, d) for d in (-SIDE_BINS, SIDE_BINS)]
    excess = np.array([[np.median(light[k]) - np.median(side[k]) for k in inner] for side in sides])
    low, high = np.percentile(excess.mean(axis=0), [10, 90])
    edge = np.percentile(excess, 25, axis=1).min()  # other sources are beside a few of them
    if min(low, edge) < config.trail_even * high or high <= 0:
        return None
    _, vectors = np.linalg.eigh(np.cov(np.stack([x, y]), aweights=np.maximum(light, 0)))
    middle = np.average([y, x], axis=1, weights=np.maximum(light, 1e-9))
    turned = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
    return float(middle[0]), float(middle[1]), turned, float(stop - start)


SIDE_BINS = 5
"""Distance from the middle line to its sides: more than half of any trail's width."""


def _beside(
    binned: NDArray[np.float32],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    angle: float,
    distance: float,
) -> NDArray[np.float32]:
    """(N,) the bins at a distance across from those at (y, x); the border's own beyond it."""
    rows = np.rint(y + distance * np.cos(angle)).astype(np.int64)
    columns = np.rint(x - distance * np.sin(angle)).astype(np.int64)
    height, width = binned.shape
    return binned[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]


def _run(values: NDArray[np.float64]) -> tuple[int, int]:
    """First and one past the last of the consecutive values with the largest sum."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    lowest = np.minimum.accumulate(total)
    stop = int(np.argmax(total - lowest))
    return int(np.argmin(total[: stop + 1])), stop


def _half_bins(
    binned: NDArray[np.float32],
    known: NDArray[np.bool_],
    y: float,
    x: float,
    angle: float,
    config: ArtifactConfig,
) -> float:
    """About how many bins a line is wide on each side."""
    n = config.trail_bin_px
    rows, columns = np.indices(binned.shape)
    across = np.abs((rows - y) * np.cos(angle) - (columns - x) * np.sin(angle))
    near = known & (across * n < MAX_HALF_WIDTH)
    rounded = np.maximum(np.rint(across[near]), 1) * n
    return half_width([(rounded.astype(np.uint8), binned[near])], config, n) / n


Profile = tuple[NDArray[np.uint8], NDArray[np.float32]]


def profile(
    relative: NDArray[np.float32], valid: NDArray[np.bool_], box: Box, trail: Trail
) -> Profile:
    """(distance, value) of the valid pixels near a trail's middle line, which are those in
    `box`; distances in whole pixels, from 1 on."""
    rows = np.arange(box.y0, box.y1)[:, None] - trail.y
    columns = np.arange(box.x0, box.x1)[None] - trail.x
    across = np.abs(rows * np.cos(trail.angle) - columns * np.sin(trail.angle))
    near = valid & (across >= 0.5) & (across < MAX_HALF_WIDTH - 0.5)
    return np.floor(across[near] + 0.5).astype(np.uint8), relative[near]


MAX_HALF_WIDTH = 100
"""Pixels from its middle line beyond which nothing is masked."""


def half_width(profiles: Sequence[Profile], config: ArtifactConfig, step: int = 1) -> float:
    """Pixels from the middle line at which the median profile ends in what is around, which is no
    empty sky in a dense field.

    Parameters
    ----------
    profiles : of the sections that a trail may cross (see `profile`).
    step : between their distances.
    """
    distance = np.concatenate([d for d, _ in profiles])
    values = np.concatenate([v for _, v in profiles])
    far = values[distance > MAX_HALF_WIDTH // 2]
    around = float(np.median(far)) if far.size else 0.0
    for pixels in range(step, MAX_HALF_WIDTH, step):
        ring = values[distance == pixels]
        if ring.size and np.median(ring) < around + config.trail_edge_sigma:
            return float(pixels)
    return float(MAX_HALF_WIDTH)
