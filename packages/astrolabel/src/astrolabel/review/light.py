"""What the pixels under the labels say of them: light, width, second peaks, cuts through light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box

SMOOTHING_PX = 1.0
"""Sigma of the smoothing before peaks are looked for."""
SMOOTH_NOISE = 1 / (2 * np.sqrt(np.pi) * SMOOTHING_PX)
"""Noise of a pixel after that, in units of what it was."""
OVERLAP = 0.1
"""Two labels that share this part of the smaller one are two sources on each other: the parts of a
source that was cut share nothing."""

Masks = Sequence[tuple[NDArray[np.bool_], Box]]
Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Light:
    """Of each of N labels; NaN where its image has no float pixels.

    Attributes
    ----------
    median : brightness of a pixel of the mask, in sigma of the sky of all bands together.
    flux : its light inside the mask, same unit.
    width : that over its highest pixel: pixels.
    second : by how many sigma a second peak stands out of the line to the highest one.
    border : brightness where the mask meets another one that it does not overlap, in units of the
        fainter one's peak, 1 at most.
    """

    median: NDArray[np.float64]
    flux: NDArray[np.float64]
    width: NDArray[np.float64]
    second: NDArray[np.float64]
    border: NDArray[np.float64]

    @classmethod
    def unknown(cls, number: int) -> Light:
        return cls(*(np.full(number, np.nan) for _ in range(5)))

    def put(self, rows: NDArray[np.intp], other: Light) -> None:
        """Fill in the labels of one image."""
        for name in ("median", "flux", "width", "second", "border"):
            getattr(self, name)[rows] = getattr(other, name)


def detection_plane(cube: Plane, sigma: Sequence[float | None] | None) -> Plane:
    """(H, W) sum of the bands over its noise, the median of each band's sky subtracted.

    Parameters
    ----------
    cube : (C, H, W) counts; NaN without data.
    sigma : (C,) noise of the sky, measured where it is None.
    """
    total, variance = np.zeros(cube.shape[1:], np.float32), 0.0
    for n, band in enumerate(cube):
        known = band[np.isfinite(band)]
        if not known.size:
            continue
        sample = known[:: max(1, known.size // 100_000)]
        level = float(np.median(sample))
        noise = None if sigma is None else sigma[n]
        if noise is None:
            noise = 1.4826 * float(np.median(np.abs(sample - level)))
        total += np.nan_to_num(band - np.float32(level))
        variance += float(noise) ** 2
    return total / np.float32(np.sqrt(variance) if variance > 0 else 1)


def measure(masks: Masks, plane: Plane) -> Light:
    """The light of the labels of one image.

    Parameters
    ----------
    masks : with boxes in the pixels of `plane`.
    plane : see `detection_plane`.
    """
    smooth = ndimage.gaussian_filter(plane, SMOOTHING_PX)
    found = Light(*np.zeros((5, len(masks))))
    peak = np.zeros(len(masks))
    for k, (pixels, box) in enumerate(masks):
        values = plane[box.slices][pixels]
        peak[k] = max(float(smooth[box.slices][pixels].max()), 1e-3)
        found.median[k], found.flux[k] = np.median(values), values.sum(dtype=float)
    found.width[:] = np.maximum(found.flux, 0) / peak
    top, below = _owners(masks, smooth.shape)
    found.second[:] = _second_peaks(top, smooth, len(masks))
    areas = np.array([int(pixels.sum()) for pixels, _ in masks], np.int64)
    found.border[:] = _borders(top, below, smooth, peak, areas)
    return found


def _owners(masks: Masks, shape: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(H, W) index of the smallest label of each pixel, and of the next; -1 without one."""
    top, below = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    for k in sorted(range(len(masks)), key=lambda k: -int(masks[k][0].sum())):
        pixels, box = masks[k]
        below[box.slices][pixels] = top[box.slices][pixels]
        top[box.slices][pixels] = k
    return top, below


def _second_peaks(top: NDArray[np.int32], smooth: Plane, number: int) -> NDArray[np.float64]:
    """(N,) see `Light.second`: peaks that lie in no smaller label."""
    maxima = (top >= 0) & (smooth == ndimage.maximum_filter(smooth, 3))
    y, x = np.nonzero(maxima)
    order = np.lexsort((-smooth[y, x], top[y, x]))
    y, x = y[order], x[order]
    owner = top[y, x]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    found = np.zeros(number)
    for start, stop in zip(first, np.append(first, len(owner))[1:], strict=True):
        for k in range(start + 1, min(stop, start + 4)):  # the highest few
            steps = int(max(abs(y[k] - y[start]), abs(x[k] - x[start]))) + 1
            line = smooth[
                np.rint(np.linspace(y[start], y[k], steps)).astype(int),
                np.rint(np.linspace(x[start], x[k], steps)).astype(int),
            ]
            rise = float(smooth[y[k], x[k]] - line.min()) / SMOOTH_NOISE
            found[owner[k]] = max(found[owner[k]], rise)
    return found


def _borders(
    top: NDArray[np.int32],
    below: NDArray[np.int32],
    smooth: Plane,
    peak: NDArray[np.float64],
    areas: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(N,) see `Light.border`."""
    number, found = len(peak), np.zeros(len(peak))
    both = below >= 0
    shared: dict[int, int] = {}
    if both.any():
        keys, counts = np.unique(_key(top[both], below[both], number), return_counts=True)
        shared = dict(zip(keys.tolist(), counts.tolist(), strict=True))
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        a, b = top[one], top[other]
        meets = (a >= 0) & (b >= 0) & (a != b)
        a, b = a[meets], b[meets]
        height = np.maximum(smooth[one][meets], smooth[other][meets])
        part = np.minimum(height / np.minimum(peak[a], peak[b]), 1)
        common = np.array([shared.get(k, 0) for k in _key(a, b, number).tolist()])
        part = part * (1 - np.minimum(common / (OVERLAP * np.minimum(areas[a], areas[b])), 1))
        np.maximum.at(found, a, part)
        np.maximum.at(found, b, part)
    return found


def _key(a: NDArray[np.int32], b: NDArray[np.int32], number: int) -> NDArray[np.int64]:
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b)
    return np.asarray(low * number + high, np.int64)
