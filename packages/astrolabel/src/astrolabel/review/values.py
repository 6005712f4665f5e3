"""What the page knows of labels beside their attributes: chi2, comparisons, and their doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.io import coco
from astrolabel.io.layers import open_fits
from astrolabel.review.disagreement import Compared, compare
from astrolabel.review.doubt import OTHER, REASONS, doubts
from astrolabel.review.layers import Layer, Place, score_of
from astrolabel.review.light import Light, detection_plane, measure

MISSED_IOU = 0.1
"""A prediction, or a true source, whose best IoU is below has no label."""

Columns = dict[str, NDArray[Any]]
Texts = dict[str, list[str]]


def chi2_of(
    labels: Layer, residuals: Mapping[int, NDArray[np.float32]], places: Mapping[Any, Place]
) -> NDArray[np.float32]:
    """Mean squared residual of each label in sigma; NaN where there is none.

    Parameters
    ----------
    residuals : of images, by their index.
    """
    found = np.full(len(labels), np.nan, np.float32)
    corner = {place[1]: place[2:4] for place in places.values()}
    for n, (pixels, box) in enumerate(labels.masks):
        chi = residuals.get(int(labels.image[n]))
        if chi is not None:
            dy, dx = corner[int(labels.image[n])]
            values = chi[box.shifted(-dy, -dx).slices][pixels].astype(np.float64)
            values = values[np.isfinite(values)]
            if values.size:
                found[n] = round(float((values**2).mean()), 2)
    return found


def light_of(
    labels: Layer, document: coco.Document, places: Mapping[Any, Place], folder: Path
) -> Light:
    """The light of the labels in the float cubes; unknown where an image has none."""
    found = Light.unknown(len(labels))
    for image in document["images"]:
        astro = image.get("astro") or {}
        path = folder / astro["cube"] if astro.get("cube") else None
        _, index, dy, dx, shape = places[image["id"]]
        rows = np.flatnonzero(labels.image == index)
        if path is None or not path.is_file() or not len(rows):
            continue
        with open_fits(path) as hdus:
            cube = np.asarray(hdus[0].data, np.float32)
        if cube.shape[-2:] != shape:
            continue
        masks = [labels.masks[k] for k in rows]
        inside = [(pixels, box.shifted(-dy, -dx)) for pixels, box in masks]
        plane = detection_plane(cube.reshape(-1, *shape), astro.get("sky_sigma"))
        found.put(rows, measure(inside, plane))
    for n, item in enumerate(labels.items):
        if "saturated" in ((item.get("attributes") or {}).get("flags") or ()):
            found.second[n] = 0  # a core that is cut off has peaks anywhere
    return found


def compared_with(
    kind: str,
    labels: Layer,
    other: Layer,
    names: Mapping[int, str],
    theirs: Mapping[int, str],
    order: Mapping[str, int],
) -> tuple[Compared, Columns, NDArray[np.int16], Columns]:
    """Labels against predictions or truth: the comparison and its columns of the labels; the
    other layer's classes, by the index of the labels', and its columns."""
    mine, of_other = compare(labels, other, labels.text(names), other.text(theirs))
    classes = np.array([order.get(name, -1) for name in other.text(theirs)], np.int16)
    columns: Columns = {
        f"iou_{kind}": mine.iou.astype(np.float32),
        # The last one stands for "none", which is at index -1.
        f"class_{kind}": np.append(classes, np.int16(-1))[mine.best],
    }
    missed = missed_of(other, of_other)
    about: Columns = {
        "iou": of_other.iou.astype(np.float32),
        "disagreement": missed.astype(np.float32),
        "doubt": (OTHER * missed).astype(np.float32),
    }
    if kind == "predictions":
        about["attr.score"] = np.array([score_of(i) for i in other.items], np.float32)
    return mine, columns, classes, about


def missed_of(other: Layer, compared: Compared) -> NDArray[np.float64]:
    """Disagreement of predictions, or true sources, that have no label; 0 of the others."""
    sure = np.array([score_of(item) for item in other.items])
    ignored = np.array([bool(item.get("iscrowd")) for item in other.items], bool)
    return np.where(~ignored & (compared.iou < MISSED_IOU), compared.score * sure, 0)


def doubt_columns(
    light: Light,
    classes: NDArray[np.int16],
    ignored: NDArray[np.bool_],
    compared: Sequence[Compared],
) -> tuple[Columns, Texts]:
    """The doubt of each label and its reason; the disagreement where there is another layer."""
    found = doubts(light, np.where(ignored, -1, classes).astype(np.int64), compared)
    columns: Columns = {
        "doubt": found.score.astype(np.float32),
        "doubt_for": (found.reason - 1).astype(np.int32),
    }
    if compared:
        most = np.max([c.score for c in compared], axis=0)
        columns["disagreement"] = most.astype(np.float32)
    return columns, {"doubt_for": list(REASONS[1:])}
