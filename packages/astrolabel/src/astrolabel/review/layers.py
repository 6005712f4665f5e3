"""What the page draws: labels, predictions and truth as masks on the pixels of coadds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs, to_pixels
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.frames import Frame, frames_of
from astrolabel.io.polygons import mask_of
from astrolabel.io.structure import check_results, check_structure

MIN_SCORE = 0.3
"""Predictions below this score are left out: they are most, and mean least."""
GRID_PX = 0.05
"""Another document's pixels must lie on those of the labels to this much."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Masks on coadds, in the order of the coadds.

    Attributes
    ----------
    items : the annotations.
    frame, image : (N,) int32 index of the coadd, and of the image among the labels' images
        (-1 where the mask is of another document).
    masks : (pixels, box) each; the box counts pixels of the coadd.
    """

    items: tuple[Mapping[str, Any], ...]
    frame: NDArray[np.int32]
    image: NDArray[np.int32]
    masks: tuple[tuple[NDArray[np.bool_], Box], ...]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def area(self) -> NDArray[np.int64]:
        """(N,) pixels."""
        return np.array([int(pixels.sum()) for pixels, _ in self.masks], np.int64)

    def text(self, categories: Mapping[int, str]) -> list[str]:
        """(N,) class names; empty where there is none, as of ignore regions."""
        return [
            "" if item.get("iscrowd") else categories.get(item.get("category_id", 0), "")
            for item in self.items
        ]


Place = tuple[int, int, int, int, tuple[int, int]]
"""Index of a coadd, index of an image or -1, (y, x) of the image in the coadd, its shape."""


def layer(items: Sequence[Mapping[str, Any]], places: Mapping[Any, Place]) -> Layer:
    """Annotations on the places of their images; those of other images are left out.

    Raises
    ------
    ValueError
        When a mask cannot be decoded.
    """
    found = []
    for item in items:
        place = places.get(item.get("image_id"))
        if place is not None and item.get("segmentation"):
            pixels, box = mask_of(item["segmentation"], place[4])
            if pixels.any():
                found.append((place[0], place[1], item, (pixels, box.shifted(*place[2:4]))))
    found.sort(key=lambda one: one[0])
    return Layer(
        tuple(one[2] for one in found),
        np.array([one[0] for one in found], np.int32),
        np.array([one[1] for one in found], np.int32),
        tuple(one[3] for one in found),
    )


def places_of(document: coco.Document, frames: Mapping[str, Frame]) -> dict[Any, Place]:
    """Where the images of the labels lie, by their ids."""
    index = {image["id"]: n for n, image in enumerate(document["images"])}
    return {
        image["id"]: (
            n, index[image["id"]], *offset, (int(image["height"]), int(image["width"]))
        )
        for n, frame in enumerate(frames.values())
        for image, offset in zip(frame.images, frame.offsets, strict=True)
    }  # fmt: skip


def read_layer(
    path: Path, document: coco.Document, frames: Mapping[str, Frame]
) -> tuple[Layer, dict[int, str]]:
    """Another file's masks on the labels' coadds, and its class names by id.

    Parameters
    ----------
    path : COCO results (on the labels' image ids), or a COCO document whose images have the
        names of the labels' images, or lie on their pixels by origin or WCS.

    Raises
    ------
    InputError
        When it cannot be read, or shares no image with the labels.
    """
    read = coco.read_json(path)
    places = places_of(document, frames)
    if isinstance(read, list):
        check_results(read, path)
        names = {c["id"]: str(c["name"]) for c in document["categories"]}
        items = read
    else:
        theirs = coco.as_document(read, path)
        check_structure(theirs, path)
        theirs = viewable(theirs, path)
        names = {c["id"]: str(c["name"]) for c in theirs["categories"]}
        places = _matched(theirs["images"], document, frames, places)
        items = theirs["annotations"]
    if not any(item["image_id"] in places for item in items):
        raise InputError(
            "has nothing on the images of the labels",
            file=path,
            remedy="give results on the same images, or a document of the same sky",
        )
    kept = [item for item in items if score_of(item) >= MIN_SCORE]
    try:
        return layer(kept, places), names
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot be drawn ({error})", file=path) from error


def score_of(item: Mapping[str, Any]) -> float:
    """Of a prediction; 1 where it has none."""
    return float((item.get("attributes") or {}).get("score", item.get("score", 1.0)))


def _matched(
    images: Sequence[Mapping[str, Any]],
    document: coco.Document,
    frames: Mapping[str, Frame],
    places: Mapping[Any, Place],
) -> dict[Any, Place]:
    """Where another document's images lie: by file name, by the survey's pixels, by WCS."""
    named = {Path(i["file_name"]).name: places[i["id"]] for i in document["images"]}
    theirs = frames_of(images)
    found: dict[Any, Place] = {}
    for other in theirs.values():
        for image, offset in zip(other.images, other.offsets, strict=True):
            shape = (int(image["height"]), int(image["width"]))
            same = named.get(Path(image["file_name"]).name)
            if same is not None and same[4] == shape:
                found[image["id"]] = same
                continue
            for n, frame in enumerate(frames.values()):
                shift = _shift(other, frame)
                if shift is not None:
                    found[image["id"]] = (n, -1, shift[0] + offset[0], shift[1] + offset[1], shape)
                    break
    return found


def _shift(other: Frame, frame: Frame) -> tuple[int, int] | None:
    """(y, x) of another coadd's first pixel on a coadd; None where their pixels differ."""
    mine, theirs = frame.wcs, other.wcs
    if mine is None or theirs is None:
        return None
    rows, columns = [0, other.shape[0] - 1], [0, other.shape[1] - 1]
    x, y = to_pixels(mine, *to_icrs(theirs, columns, rows))
    if not np.isfinite([*x, *y]).all():
        return None
    at = (round(float(y[0])), round(float(x[0])))
    apart = [y[0] - at[0], x[0] - at[1], y[1] - at[0] - rows[1], x[1] - at[1] - columns[1]]
    overlap = Box(*at, *other.shape) & Box.of_shape(frame.shape)
    return at if np.abs(apart).max() < GRID_PX and overlap.area else None
