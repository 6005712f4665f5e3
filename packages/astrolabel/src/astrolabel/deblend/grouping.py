"""Which sources are fitted together: footprints to groups, groups to cutouts.

Connected footprints, widened by the wings around them, are groups. One that holds more
peaks or pixels than the fit should take is divided into the basins of its peaks (watershed
of the significance), which are joined again over the highest passes first for as long as
the bounds allow: what stays apart is parted at its weakest bridges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.core.numerics import kernel
from astrolabel.deblend.base import Blend, Noise

EIGHT = np.ones((3, 3))
"""Footprints that touch at a corner are one: they overlap in their wings."""

NO_GROUP = -1
UNCLAIMED = -2
"""A footprint without a peak: light of something that no model stands for."""


@dataclass(frozen=True, eq=False)
class Group:
    """Sources to be fitted together.

    Attributes
    ----------
    peaks : (n,) int64 indices into the peaks that were grouped.
    box : the cutout: its footprint and the padding, inside the image.
    state : ``ok``, or ``skipped:<reason>`` where it exceeds a bound and cannot be cut.
    """

    peaks: NDArray[np.int64]
    box: Box
    state: str = "ok"


@dataclass(frozen=True, eq=False)
class Grouping:
    """All groups of an image.

    Attributes
    ----------
    groups : by the index of their first peak.
    territory : (H, W) int32: for each pixel the group whose footprint is nearest (its own
        inside a footprint), `UNCLAIMED` where that is a footprint without a peak. In the
        cutout of one group the pixels of another's territory have no weight, for their
        light is not modelled there. `NO_GROUP` where there is no footprint at all.
    n_blended : (N,) int64, peaks in the connected footprint of each peak, itself
        included: of the footprint as given (and the discs), before wings and cuts.
    """

    groups: tuple[Group, ...]
    territory: NDArray[np.int32]
    n_blended: NDArray[np.int64]


def group_footprints(
    footprint: NDArray[np.bool_],
    significance: NDArray[np.float32],
    peaks: NDArray[np.float64],
    config: DeblendConfig,
) -> Grouping:
    """Group peaks by connected footprint, within the bounds of `config`.

    Parameters
    ----------
    footprint : (H, W) bool, pixels above the detection threshold (or a lower one).
    significance : (H, W) float32, in sigma of a pixel; says how far wings reach and where
        a group is cut. What is not finite counts as zero.
    peaks : (N, 2) (y, x). Those outside every footprint get a disc of `peak_radius_px`.
    config : `grouping_sigma`, `max_peaks`, `max_pixels` and `padding_px` are used.

    Returns
    -------
    Grouping
        Every peak is in exactly one group.
    """
    shape = footprint.shape
    peaks = np.asarray(peaks, float).reshape(-1, 2)
    pixels = np.clip(np.rint(peaks), 0, np.array(shape) - 1).astype(np.int64)
    covered = _with_discs(footprint, pixels, config.peak_radius_px)
    n_blended = _companions(covered, pixels)
    known = np.nan_to_num(significance, posinf=0, neginf=0)
    covered |= (
        scipy.ndimage.gaussian_filter(known, config.grouping_smoothing_px) > config.grouping_sigma
    )
    labels, count = scipy.ndimage.label(covered, EIGHT)
    of_peak = labels[pixels[:, 0], pixels[:, 1]]
    owner = np.full(shape, NO_GROUP, np.int32)
    groups: list[Group] = []
    slices = scipy.ndimage.find_objects(labels)
    members = _members(of_peak, count)
    for label in dict.fromkeys(of_peak.tolist()):
        part = slices[label - 1]
        corner = np.array([part[0].start, part[1].start])
        inside = labels[part] == label
        split = _split(inside, significance[part], pixels[members[label]] - corner, config)
        for chosen, mask, state in split:
            owner[part][mask] = len(groups)
            box = _padded(_tight(mask).shifted(*corner), shape, config)
            groups.append(Group(members[label][chosen], box, state))
    owner[covered & (owner == NO_GROUP)] = UNCLAIMED
    return Grouping(tuple(groups), _nearest(owner), n_blended)


def brightest_first(
    grouping: Grouping, peaks: NDArray[np.float64], significance: NDArray[np.float32]
) -> list[int]:
    """Indices of the groups by the significance at their brightest peak.

    The wings of the brighter reach into the cutouts of the fainter, and are subtracted
    there when these are fitted later.
    """
    limit = np.array(significance.shape) - 1
    y, x = np.clip(np.rint(np.asarray(peaks, float).reshape(-1, 2)), 0, limit).astype(int).T
    known = np.nan_to_num(significance[y, x], posinf=0, neginf=0)
    return sorted(
        range(len(grouping.groups)),
        key=lambda k: (-float(known[grouping.groups[k].peaks].max()), k),
    )


def cut_blend(
    image: NDArray[np.float32],
    weights: NDArray[np.float32],
    psfs: NDArray[np.float32],
    peaks: NDArray[np.float64],
    grouping: Grouping,
    index: int,
    noise: Noise | None = None,
    saturated: NDArray[np.bool_] | None = None,
) -> Blend:
    """The cutout of group `index`, ready for a deblender.

    Parameters
    ----------
    image, weights : (C, H, W) float32 of the whole image: counts, and 1/variance, zero
        where not valid. Pixels without weight may hold anything.
    psfs : (C, P, P) float32.
    peaks : (N, 2), those that were grouped.
    noise : of `Blend`.
    saturated : (H, W) bool, pixels saturated in any band: they get no weight in any.

    Returns
    -------
    Blend
        Without weight also where another group's footprint is nearer than its own.
    """
    group = grouping.groups[index]
    s = (slice(None), *group.box.slices)
    own = grouping.territory[group.box.slices] == index
    full = None
    if saturated is not None and (own & saturated[group.box.slices]).any():
        full = own & saturated[group.box.slices]
    kept = own if full is None else own & ~full
    w = np.where(kept, weights[s], np.float32(0))
    shown = w > 0 if full is None else (w > 0) | (full & np.isfinite(image[s]))
    pixels = np.where(shown, image[s], np.float32(0))
    corner = (group.box.y0, group.box.x0)
    low, high = np.zeros(2), np.array(group.box.shape) - 1.0
    inside = np.clip(np.asarray(peaks, float)[group.peaks] - corner, low, high)
    return Blend(pixels.astype(np.float32), w.astype(np.float32), psfs, inside, noise, full)


def _with_discs(
    footprint: NDArray[np.bool_], pixels: NDArray[np.int64], r: int
) -> NDArray[np.bool_]:
    covered = footprint.copy()
    disc = np.hypot(*np.mgrid[-r : r + 1, -r : r + 1]) <= r
    frame = Box.of_shape(footprint.shape)
    for y, x in pixels[~footprint[pixels[:, 0], pixels[:, 1]]]:
        whole = Box.around(y, x, r)
        inside = whole & frame
        covered[inside.slices] |= disc[inside.slices_in(whole)]
    return covered


def _companions(covered: NDArray[np.bool_], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) number of peaks in each peak's connected footprint."""
    labels, count = scipy.ndimage.label(covered, EIGHT)
    of_peak = labels[pixels[:, 0], pixels[:, 1]]
    return np.bincount(of_peak, minlength=count + 1)[of_peak].astype(np.int64)


def _members(of_peak: NDArray[Any], count: int) -> list[NDArray[np.int64]]:
    """Indices of the peaks of each label, in order."""
    order = np.argsort(of_peak, kind="stable").astype(np.int64)
    return np.split(order, np.searchsorted(of_peak[order], np.arange(1, count + 1)))


def _tight(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box.from_corners(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)


def _padded(box: Box, shape: tuple[int, ...], config: DeblendConfig) -> Box:
    """The cutout of a footprint: the larger it is, the farther its wings reach."""
    frame = Box.of_shape(shape)
    wide = (
        box.expanded(max(config.padding_px, int(config.padding_fraction * max(box.shape)))) & frame
    )
    return wide if wide.area <= config.max_pixels else box.expanded(config.padding_px) & frame


def _nearest(owner: NDArray[np.int32]) -> NDArray[np.int32]:
    empty = owner == NO_GROUP
    if empty.all():
        return owner
    at = scipy.ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.asarray(owner[tuple(at)], np.int32)


def _split(
    inside: NDArray[np.bool_],
    significance: NDArray[np.float32],
    pixels: NDArray[np.int64],
    config: DeblendConfig,
) -> list[tuple[NDArray[np.int64], NDArray[np.bool_], str]]:
    """One footprint as bounded parts: (positions of their peaks, mask, state)."""
    pad = 2 * config.padding_px
    everything = np.arange(len(pixels))
    area = (inside.shape[0] + pad) * (inside.shape[1] + pad)
    if len(pixels) <= config.max_peaks and area <= config.max_pixels:
        return [(everything, inside, "ok")]
    height = np.where(inside, np.nan_to_num(significance, posinf=0, neginf=0), 0).astype(np.float32)
    basins = flood(height, inside, pixels)
    # A peak on another's pixel has no basin of its own and goes with that one.
    of_peak = basins[pixels[:, 0], pixels[:, 1]]
    joined = _joined(basins, height, of_peak, config)
    out = []
    for root in dict.fromkeys(joined[of_peak].tolist()):
        chosen = np.flatnonzero(joined[of_peak] == root)
        mask = inside & (joined[np.maximum(basins, 0)] == root) & (basins >= 0)
        box = _tight(mask)
        state = "ok"
        if len(chosen) > config.max_peaks:
            state = f"skipped:more than {config.max_peaks} peaks in one basin"
        elif (box.height + pad) * (box.width + pad) > config.max_pixels:
            state = f"skipped:footprint larger than {config.max_pixels} pixels"
        out.append((chosen, mask, state))
    return out


def _joined(
    basins: NDArray[np.int32],
    height: NDArray[np.float32],
    of_peak: NDArray[np.int32],
    config: DeblendConfig,
) -> NDArray[np.int64]:
    """For every basin the one it is joined to; highest passes first, within the bounds."""
    root = np.arange(int(basins.max()) + 1)
    count = np.bincount(of_peak, minlength=root.size)
    boxes = {
        i: Box.from_corners(s[0].start, s[1].start, s[0].stop, s[1].stop)
        for i, s in enumerate(scipy.ndimage.find_objects(basins + 1))
        if s is not None
    }

    def find(i: int) -> int:
        while root[i] != i:
            i = int(root[i])
        return i

    for a, b in _passes(basins, height):
        i, j = sorted((find(a), find(b)))
        if i == j or count[i] + count[j] > config.max_peaks:
            continue
        box = boxes[i] | boxes[j]
        if box.expanded(config.padding_px).area > config.max_pixels:
            continue
        root[j], boxes[i] = i, box
        count[i] += count[j]
    return np.array([find(i) for i in range(root.size)])


def _passes(basins: NDArray[np.int32], height: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs of neighbouring basins, by falling height of the pass between them."""
    best: dict[tuple[int, int], float] = {}
    for one, other in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(1, None)), (slice(None, -1), slice(None, -1))),
        ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))),
    ):
        a, b = basins[one], basins[other]
        border = (a != b) & (a >= 0) & (b >= 0)
        level = np.minimum(height[one], height[other])[border]
        low, high = np.minimum(a, b)[border], np.maximum(a, b)[border]
        for i, j, value in zip(low.tolist(), high.tolist(), level.tolist(), strict=True):
            best[i, j] = max(best.get((i, j), -np.inf), value)
    return sorted(best, key=lambda pair: (-best[pair], pair))


@kernel
def _sift(heap_key: Any, heap_at: Any, size: int, key: float, at: int) -> None:
    """Put an entry into a max-heap of `size` entries (ties: the earlier index first)."""
    i = size
    while i > 0:
        parent = (i - 1) // 2
        if heap_key[parent] > key or (heap_key[parent] == key and heap_at[parent] <= at):
            break
        heap_key[i], heap_at[i] = heap_key[parent], heap_at[parent]
        i = parent
    heap_key[i], heap_at[i] = key, at


@kernel
def flood(height: Any, inside: Any, pixels: Any) -> Any:
    """Watershed basins of the peaks: pixels join a basin from the highest down.

    Parameters
    ----------
    height : (H, W) float32.
    inside : (H, W) bool, where to flood.
    pixels : (N, 2) int64 seeds, inside.

    Returns
    -------
    (H, W) int32: the index of the peak, -1 outside and where no peak is connected.
    """
    h, w = height.shape
    basins = np.full((h, w), -1, np.int32)
    heap_key = np.empty(h * w, np.float32)
    heap_at = np.empty(h * w, np.int64)
    size = 0
    for n in range(pixels.shape[0]):
        y, x = pixels[n, 0], pixels[n, 1]
        if basins[y, x] < 0:
            basins[y, x] = n
            _sift(heap_key, heap_at, size, height[y, x], y * w + x)
            size += 1
    while size > 0:
        at = heap_at[0]
        size -= 1
        key, last = heap_key[size], heap_at[size]
        i = 0
        while True:
            child = 2 * i + 1
            if child >= size:
                break
            other = child + 1
            if other < size and (
                heap_key[other] > heap_key[child]
                or (heap_key[other] == heap_key[child] and heap_at[other] < heap_at[child])
            ):
                child = other
            if key > heap_key[child] or (key == heap_key[child] and last <= heap_at[child]):
                break
            heap_key[i], heap_at[i] = heap_key[child], heap_at[child]
            i = child
        heap_key[i], heap_at[i] = key, last
        y, x = at // w, at % w
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                v, u = y + dy, x + dx
                if 0 <= v < h and 0 <= u < w and inside[v, u] and basins[v, u] < 0:
                    basins[v, u] = basins[y, x]
                    _sift(heap_key, heap_at, size, height[v, u], v * w + u)
                    size += 1
    return basins
