"""From a source rendered alone to its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box

_EIGHT = np.ones((3, 3), bool)  # diagonal neighbours touch, as in sep


@dataclass(frozen=True, eq=False)
class Mask:
    """Pixels of one source: `pixels` (h, w) bool, tight in `box`; never empty."""

    pixels: NDArray[np.bool_]
    box: Box

    @property
    def area(self) -> int:
        return int(self.pixels.sum())

    def light_inside(
        self, light: NDArray[np.float32], box: Box
    ) -> tuple[tuple[float, float], float]:
        """((y, x) of the centre, sum) of the light inside the mask; `light` lies at `box`."""
        inside = np.where(self.pixels, light[self.box.slices_in(box)], 0).astype(np.float64)
        rows, columns = np.indices(self.box.shape)
        total = float(inside.sum())
        y, x = (float((axis * inside).sum() / total) for axis in (rows, columns))
        return (self.box.y0 + y, self.box.x0 + x), total

    def clipped(self, frame: Box) -> Mask | None:
        """The part inside `frame`, in the frame's own pixels; None when nothing is."""
        box = self.box & frame
        if box.area == 0:
            return None
        inside = self.pixels[box.slices_in(self.box)]
        return tighten(inside, box.shifted(-frame.y0, -frame.x0))


def tighten(pixels: NDArray[np.bool_], box: Box) -> Mask | None:
    """The mask in the smallest box that holds it; None when it has no pixel."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if rows.size == 0:
        return None
    inner = Box.from_corners(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    return Mask(pixels[inner.slices], inner.shifted(box.y0, box.x0))


def threshold_mask(
    light: NDArray[np.float32],
    box: Box,
    threshold: NDArray[np.float32],
    peak: tuple[float, float],
) -> Mask | None:
    """Pixels of a source above threshold, connected to its peak.

    Parameters
    ----------
    light : (h, w) the source rendered alone on the detection image, counts.
    box : where `light` lies in the frame of `threshold` and `peak`.
    threshold : (H, W) counts, the number of sigma times the sky noise.
    peak : (y, x) of the source in that frame; the brightest pixel within one pixel of
        it is taken as the seed, since a fit may move the centre.

    Returns
    -------
    Mask or None when the source is nowhere above threshold at its peak.
    """
    above = light > threshold[box.slices]
    y, x = round(peak[0]) - box.y0, round(peak[1]) - box.x0
    y0, x0 = max(y - 1, 0), max(x - 1, 0)
    near = np.where(above, light, -np.inf)[y0 : y + 2, x0 : x + 2]
    if near.size == 0 or not np.isfinite(near).any():
        return None
    dy, dx = np.unravel_index(int(near.argmax()), near.shape)
    labels, _ = ndimage.label(above, structure=_EIGHT)
    return tighten(labels == labels[y0 + dy, x0 + dx], box)
