"""LabelMe's files: a picture and a JSON of polygons each, out and in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.io import coco
from astrolabel.io.names import flat_name
from astrolabel.io.pictures import copy_picture
from astrolabel.io.polygons import edge_polygons, mask_of, rle_of
from astrolabel.io.rle import decode_inside, measure

VERSION = "5.5.0"
"""Of LabelMe's layout."""
CORNERS = {"rectangle": 2, "circle": 2, "polygon": 3}
"""Shapes with pixels, and their least number of points; lines and points have none."""
CIRCLE_POINTS = 72


def write_labelme(folder: Path, doc: coco.Document, images: Path) -> list[Path]:
    """One picture and one JSON an image; the JSON files.

    Polygons run along the edges of pixels, so that they hold a mask's pixels and no others. A
    mask in several pieces, or with a hole, is several polygons of one ``group_id``, which is
    the label's id. Ignore regions have the shape's flag ``ignored``.

    Parameters
    ----------
    images : folder that the document's pictures lie in.

    Raises
    ------
    InputError
        When a picture is missing.
    OutputError
        When the folder cannot be written.
    """
    names = {c["id"]: str(c["name"]) for c in doc["categories"]}
    of_image = coco.annotations_by_image(doc)
    written = []
    for image in doc["images"]:
        target = folder / flat_name(image["file_name"])
        copy_picture(images / image["file_name"], target, remedy="give --images DIR")
        shapes = [one for item in of_image[image["id"]] for one in _shapes(item, image, names)]
        value = {
            "version": VERSION, "flags": {}, "shapes": shapes, "imagePath": target.name,
            "imageData": None, "imageHeight": image["height"], "imageWidth": image["width"],
        }  # fmt: skip
        path = target.with_suffix(".json")
        write_bytes(path, json.dumps(coco.plain(value), indent=1).encode("utf-8"))
        written.append(path)
    return written


def _shapes(
    item: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    mask, box = mask_of(item["segmentation"], (image["height"], image["width"]))
    ignored = bool(item.get("iscrowd", 0))
    for ring in edge_polygons(mask, box):
        yield {
            "label": names[item["category_id"]], "shape_type": "polygon", "group_id": item["id"],
            "points": np.reshape(ring, (-1, 2)).tolist(), "description": "",
            "flags": {"ignored": True} if ignored else {}, "mask": None,
        }  # fmt: skip


def is_labelme(path: Path) -> bool:
    """Whether a file is one of LabelMe's, by its name and keys."""
    if path.suffix != ".json":
        return False
    value = coco.read_json(path)
    return isinstance(value, dict) and isinstance(value.get("shapes"), list)


Label = tuple[NDArray[np.bool_], Box, str, str]
"""Pixels, box, class, id."""


def read_labelme(path: Path, shape: tuple[int, int]) -> Iterator[Label]:
    """The labels of a LabelMe file; shapes of one ``group_id`` and class are one label.

    Polygons, rectangles and circles; lines and points, which have no pixels, and shapes with
    the flag ``ignored`` are left out.

    Parameters
    ----------
    shape : (H, W) of the image.

    Raises
    ------
    InputError
        When the file is of an image of another size, or a shape is faulty.
    """
    value = coco.read_json(path)
    size = value.get("imageHeight"), value.get("imageWidth")
    if None not in size and size != shape:
        raise InputError(
            f"is of an image of {size[0]}x{size[1]} pixels, not {shape[0]}x{shape[1]}",
            file=path,
            remedy="give the image that it was drawn on",
        )
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for n, one in enumerate(value["shapes"], 1):
        try:
            kind, points = one["shape_type"], np.asarray(one["points"], float)
            if kind not in CORNERS or (one.get("flags") or {}).get("ignored"):
                continue
            if points.ndim != 2 or points.shape[1] != 2 or len(points) < CORNERS[kind]:
                raise ValueError(f"points of shape {points.shape}")
            group = one.get("group_id")
            key = str(one["label"]), f"shape {n}" if group is None else str(group)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"shape {n} is faulty ({error})", file=path) from error
        groups.setdefault(key, []).append(_ring(kind, points).ravel().tolist())
    for (name, group), rings in groups.items():
        try:
            rle = rle_of(rings, shape)
        except ValueError as error:
            raise InputError(f"{group} of {name} is faulty ({error})", file=path) from error
        _, (x, y, width, height) = measure(rle)
        box = Box(y, x, height, width)
        yield decode_inside(rle, box), box, name, "" if group.startswith("shape ") else group


def _ring(kind: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) corners of a polygon: of a rectangle from two, of a circle from centre and rim."""
    if kind == "polygon":
        return points
    (x0, y0), (x1, y1) = points[:2]
    if kind == "rectangle":
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    angle = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
    radius = np.hypot(x1 - x0, y1 - y0)
    return np.stack([x0 + radius * np.cos(angle), y0 + radius * np.sin(angle)], axis=1)
