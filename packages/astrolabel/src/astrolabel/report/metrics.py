"""Labels against truth: how many sources have a label, how many labels have a source,
how well their masks agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_pixels
from astrolabel.io import rle
from astrolabel.report import bins

MATCH_RADIUS_PX = 3.0
"""A label this close to a source may be its label: about half the seeing's FWHM and half
the pixel's diagonal, since blends pull centres."""


@dataclass(frozen=True, eq=False)
class Instances:
    """Masks on one common pixel frame.

    Attributes
    ----------
    centres : (N, 2) float64 of (y, x).
    masks : N masks, each with its box in that frame.
    blended : (N,) bool.
    whole : (N,) bool: not cut by the edge of its image.
    """

    centres: NDArray[np.float64]
    masks: Sequence[tuple[NDArray[np.bool_], Box]]
    blended: NDArray[np.bool_]
    whole: NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """Labels against truth.

    Attributes
    ----------
    n_truth, n_blended, n_labels : sources with a mask, those of them whose mask touches
        another's, labels; all without those that an image edge cuts.
    completeness, completeness_blended : fraction of sources that have a label.
    purity : fraction of labels that have a source, of any brightness.
    iou_isolated, iou_blended : median mask IoU of the pairs, by the truth's blending.
    """

    n_truth: int
    n_blended: int
    n_labels: int
    completeness: float
    completeness_blended: float
    purity: float
    iou_isolated: float
    iou_blended: float


def instances(document: Mapping[str, Any], frame: WCS) -> Instances:
    """The labels of a COCO document on the pixels of `frame`.

    Centres are taken from ``ra`` and ``dec``, masks are moved by whole pixels to where
    the tile's ``origin`` puts them relative to the frame's first image. Labels whose peak
    is in another tile, and ignore regions, are left out: they are not this tile's own.
    """
    images = {image["id"]: image for image in document["images"]}
    own = [
        a
        for a in document["annotations"]
        if not a.get("iscrowd") and "peak_outside" not in a["attributes"].get("flags", ())
    ]
    sky = np.array([[a["attributes"]["ra"], a["attributes"]["dec"]] for a in own], float)
    x, y = to_pixels(frame, *sky.reshape(-1, 2).T)
    masks = []
    for a in own:
        left, top, width, height = (int(v) for v in a["bbox"])
        box = Box(top, left, height, width)
        dy, dx = images[a["image_id"]]["astro"]["origin"]
        masks.append((rle.decode_inside(a["segmentation"], box), box.shifted(dy, dx)))
    return Instances(
        np.stack([y, x], axis=1),
        masks,
        np.array([a["attributes"]["n_blended"] > 1 for a in own], bool),
        np.array([_whole(a, images[a["image_id"]]) for a in own], bool),
    )


def _whole(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> bool:
    x, y, w, h = annotation["bbox"]
    return bool(x > 0 and y > 0 and x + w < image["width"] and y + h < image["height"])


def match(a: NDArray[np.float64], b: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """One-to-one matches of (N, 2) positions `a` with (M, 2) `b`: (P, 2) index pairs.

    Nearest pairs first; a pair within the radius is taken when both are still free.
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros((0, 2), np.int64)
    near = cKDTree(a).sparse_distance_matrix(cKDTree(b), radius, output_type="coo_matrix")
    order = np.lexsort((near.col, near.row, near.data))
    free_a, free_b = np.ones(len(a), bool), np.ones(len(b), bool)
    pairs = []
    for i, j in zip(near.row[order], near.col[order], strict=True):
        if free_a[i] and free_b[j]:
            free_a[i] = free_b[j] = False
            pairs.append((i, j))
    return np.array(pairs, np.int64).reshape(-1, 2)


def iou(a: tuple[NDArray[np.bool_], Box], b: tuple[NDArray[np.bool_], Box]) -> float:
    """Intersection over union of two masks, each given with its box."""
    common = a[1] & b[1]
    shared = 0
    if common.area:
        shared = int((a[0][common.slices_in(a[1])] & b[0][common.slices_in(b[1])]).sum())
    return shared / (int(a[0].sum()) + int(b[0].sum()) - shared)


@dataclass(frozen=True, eq=False)
class Paired:
    """L labels matched with T truths.

    Attributes
    ----------
    pairs : (P, 2) int64, rows of truth and labels.
    found : (T,) bool: has a label.
    real : (L,) bool: has a source, of any brightness.
    iou : (P,) float64 of the masks; NaN where an edge cuts either.
    """

    pairs: NDArray[np.int64]
    found: NDArray[np.bool_]
    real: NDArray[np.bool_]
    iou: NDArray[np.float64]


def pair(
    labels: Instances, truth: Instances, injected: NDArray[np.float64] | None = None
) -> Paired:
    """Match labels with the truth, one to one within `MATCH_RADIUS_PX`.

    Parameters
    ----------
    injected : (K, 2) positions of every source there is, also of those too faint for a
        mask: a label on one of these is not false. The truth's own where not given.
    """
    pairs = match(truth.centres, labels.centres, MATCH_RADIUS_PX)
    found = np.zeros(len(truth.centres), bool)
    found[pairs[:, 0]] = True
    everything = truth.centres if injected is None else injected
    real = np.zeros(len(labels.centres), bool)
    real[match(everything, labels.centres, MATCH_RADIUS_PX)[:, 1]] = True
    values = [
        iou(truth.masks[i], labels.masks[j]) if truth.whole[i] and labels.whole[j] else np.nan
        for i, j in pairs
    ]
    return Paired(pairs, found, real, np.array(values, np.float64))


def compare(
    labels: Instances, truth: Instances, injected: NDArray[np.float64] | None = None
) -> Quality:
    """How labels compare with the truth (see `pair`)."""
    return summarise(pair(labels, truth, injected), labels, truth)


def summarise(paired: Paired, labels: Instances, truth: Instances) -> Quality:
    """The numbers of a match.

    Notes
    -----
    What an image edge cuts may be matched, but is not counted: its centre is nowhere
    known, and its cut mask agrees for free.
    """
    kept = np.isfinite(paired.iou)
    blended, values = truth.blended[paired.pairs[kept, 0]], paired.iou[kept]
    return Quality(
        n_truth=int(truth.whole.sum()),
        n_blended=int((truth.blended & truth.whole).sum()),
        n_labels=int(labels.whole.sum()),
        completeness=_mean(paired.found[truth.whole]),
        completeness_blended=_mean(paired.found[truth.whole & truth.blended]),
        purity=_mean(paired.real[labels.whole]),
        iou_isolated=bins.median(values[~blended]),
        iou_blended=bins.median(values[blended]),
    )


NO_SOURCE, ANOTHER = -1, -2
"""Owner of a label that no source is at, and of one at a source that has no mask."""


def labels_per_object(
    labels: Instances,
    truth: Instances,
    objects: NDArray[np.int64],
    injected: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """How many labels each of some true objects has: one where it is whole, more in shreds.

    A label counts for an object when its centre, or more than half of its mask, lies in the
    object's true mask. Labels of other true sources, by the one-to-one match within
    `MATCH_RADIUS_PX`, do not count.

    Parameters
    ----------
    objects : (K,) indices into `truth`.
    injected : (J, 2) positions of every source there is, the objects' own among them: as in
        `pair`, a label on one that is too faint for a mask is no part of the object. The
        truth's own where not given.

    Returns
    -------
    (K,) int64; 0 where the object has no label at all.
    """
    owner = np.full(len(labels.centres), NO_SOURCE, np.int64)
    pairs = match(truth.centres, labels.centres, MATCH_RADIUS_PX)
    if injected is not None:
        faint = cKDTree(truth.centres[objects]).query(injected)[0] > MATCH_RADIUS_PX
        owner[match(injected[faint], labels.centres, MATCH_RADIUS_PX)[:, 1]] = ANOTHER
    owner[pairs[:, 1]] = pairs[:, 0]
    counts = np.zeros(len(objects), np.int64)
    for k, index in enumerate(objects):
        whole = truth.masks[index]
        for label in np.flatnonzero((owner < 0) | (owner == index)):
            # A faint source may lie where the middle of the object's own label is.
            if owner[label] != ANOTHER or iou(labels.masks[int(label)], whole) > 0.5:
                counts[k] += _is_part(labels, int(label), whole)
    return counts


def _is_part(labels: Instances, label: int, whole: tuple[NDArray[np.bool_], Box]) -> bool:
    mask, box = whole
    y, x = labels.centres[label]
    row, column = int(np.floor(y + 0.5)) - box.y0, int(np.floor(x + 0.5)) - box.x0
    if box.contains(y, x) and mask[row, column]:
        return True
    own, place = labels.masks[label]
    common = place & box
    if not common.area:
        return False
    shared = int((own[common.slices_in(place)] & mask[common.slices_in(box)]).sum())
    return 2 * shared > int(own.sum())


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")
