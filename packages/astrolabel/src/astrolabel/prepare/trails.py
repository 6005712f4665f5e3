"""Trails of satellites and aircraft: straight, thin and evenly bright from end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    n = config.trail_bin_px
    if min(binned.shape) < 8:
        return ()
    low = binned[known & (binned < 0)]
    sigma = MAD_TO_SIGMA * float(np.median(-low)) if low.size > 100 else np.inf
    bright = known & (binned > config.trail_sigma * sigma)
    parts, _ = ndimage.label(bright, np.ones((3, 3)))
    least = min(config.trail_length * min(shape), config.trail_length_px) / n
    found = []
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        down, right = (s.stop - s.start for s in where)
        if np.hypot(down, right) < least:
            continue
        rows, columns = np.nonzero(parts[where] == number)
        line = _line(rows + where[0].start, columns + where[1].start, binned, least, config)
        if line is not None:
            y, x, angle, length = line
            middle = ((y + 0.5) * n - 0.5, (x + 0.5) * n - 0.5)
            found.append(Trail(*middle, angle, 0.0, length * n))
    return tuple(found)


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


def _line(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    binned: NDArray[np.float32],
    least: float,
    config: ArtifactConfig,
) -> tuple[float, float, float, float] | None:
    """(y, x, angle, length) of the line that most pixels of a region lie on, in bins; None
    where it is too short, too thick, or not evenly bright."""
    keep = np.ones(len(rows), bool)
    for _ in range(8):  # what hangs on the line, stars and all, is left out by and by
        y, x = float(rows[keep].mean()), float(columns[keep].mean())
        moments = np.cov(np.stack([columns[keep], rows[keep]]))
        values, vectors = np.linalg.eigh(moments)
        angle = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        nearer = np.abs(across) <= max(2.0, 2 * MAD_TO_SIGMA * float(np.median(np.abs(across))))
        if nearer.sum() < 10 or (nearer == keep).all():
            break
        keep = nearer
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    length = float(np.ptp(along[keep]))
    width = max(np.sqrt(12 * max(float(values[0]), 0)), 1.0)
    if length < least or length / width < config.trail_thin or keep.mean() < config.trail_straight:
        return None
    # Brightness of pieces from end to end; a star on one of them makes it brighter only.
    pieces = config.trail_pieces
    place = (along[keep] - along[keep].min()) / length
    piece = np.minimum((place * pieces).astype(int), pieces - 1)
    light = binned[rows[keep], columns[keep]]
    means = np.array(
        [np.median(light[piece == k]) if (piece == k).any() else 0.0 for k in range(pieces)]
    )
    inner = means[1:-1]
    if np.percentile(inner, 10) < config.trail_even * np.percentile(inner, 90):
        return None
    return y, x, angle, length


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


def half_width(profiles: Sequence[Profile], config: ArtifactConfig) -> float:
    """Pixels from the middle line at which the mean profile ends in the noise.

    Parameters
    ----------
    profiles : of the sections that a trail may cross (see `profile`).
    """
    distance = np.concatenate([d for d, _ in profiles])
    values = np.concatenate([v for _, v in profiles])
    for pixels in range(1, MAX_HALF_WIDTH):
        ring = values[distance == pixels]
        if ring.size and np.median(ring) < config.trail_edge_sigma:
            return float(pixels)
    return float(MAX_HALF_WIDTH)
