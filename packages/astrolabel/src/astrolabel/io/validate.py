"""Find what is wrong with a COCO document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from astrolabel.io.polygons import check_polygons
from astrolabel.io.rle import measure

TOLERANCE_PX = 1e-3
"""Boxes and areas of RLE masks are whole numbers; this only forgives decimal rounding."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    where : the entry, e.g. ``annotation 17``.
    what : what is wrong with it, in one clause.
    remedy : what to do about it, where that is not plain.
    """

    where: str
    what: str
    remedy: str | None = None

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return f"{text}; {self.remedy}" if self.remedy else text


def validate(doc: Mapping[str, Any], folder: Path | None = None) -> tuple[Problem, ...]:
    """Everything that is wrong with a COCO document, in the order of its entries.

    Parameters
    ----------
    doc : the document as read, whatever it holds.
    folder : where its images lie; None leaves the image files unchecked.

    Returns
    -------
    tuple of Problem : empty for a sound document.
    """
    lists = {}
    problems = []
    for key in ("images", "annotations", "categories"):
        value = doc.get(key)
        if isinstance(value, list):
            lists[key] = value
        else:
            problems.append(Problem("document", f"has no list of {key}"))
    if problems:
        return tuple(problems)
    images, categories, annotations = lists["images"], lists["categories"], lists["annotations"]
    problems += _entries("image", images, {"id", "file_name", "height", "width"})
    problems += _entries("category", categories, {"id", "name"})
    problems += _entries("annotation", annotations, _ANNOTATION_KEYS)
    for n, image in enumerate(images):
        if isinstance(image, dict):
            where = _where("image", n, image)
            problems += [Problem(where, *found) for found in _image(image, folder)]
    problems += _shared_files(images)
    shapes = {
        image["id"]: _shape(image)
        for image in images
        if isinstance(image, dict) and _is_id(image.get("id"))
    }
    known = {item["id"] for item in categories if isinstance(item, dict) and _is_id(item.get("id"))}
    for n, item in enumerate(annotations):
        if isinstance(item, dict):
            where = _where("annotation", n, item)
            problems += [Problem(where, *found) for found in _annotation(item, shapes, known)]
    return tuple(problems)


_ANNOTATION_KEYS = {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd"}

Found = tuple[str, str | None]
"""What is wrong, and the remedy."""


def _is_id(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _where(kind: str, n: int, item: Any) -> str:
    """The name of an entry: by its id, or by its place where it has none to go by."""
    if isinstance(item, dict) and _is_id(item.get("id")):
        return f"{kind} {item['id']}"
    return f"{kind} at index {n}"


def _entries(kind: str, items: list[Any], keys: set[str]) -> Iterator[Problem]:
    """Missing keys, ids that are not whole numbers from 1, and ids used twice."""
    seen: set[int] = set()
    for n, item in enumerate(items):
        where = _where(kind, n, item)
        if not isinstance(item, dict):
            yield Problem(where, f"is a {type(item).__name__}, not an object")
            continue
        if missing := sorted(keys - item.keys()):
            yield Problem(where, f"has no {', '.join(missing)}")
        if "id" not in item:
            continue
        if not _is_id(item["id"]):
            yield Problem(where, f"id {item['id']!r} is not an integer")
        elif item["id"] < 1:
            # pycocotools' evaluation takes a matched id of 0 for "no match".
            yield Problem(where, "id is below 1", "number from 1")
        elif item["id"] in seen:
            yield Problem(where, "id is used more than once", "give every entry its own")
        else:
            seen.add(item["id"])


def _shape(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W), or None where the image does not say it properly."""
    height, width = image.get("height"), image.get("width")
    if type(height) is int and type(width) is int and height > 0 and width > 0:
        return height, width
    return None


def _image(image: Mapping[str, Any], folder: Path | None) -> Iterator[Found]:
    shape = _shape(image)
    if "height" in image and "width" in image and shape is None:
        size = f"{image['height']!r} x {image['width']!r}"
        yield f"height x width {size} are not positive integers", None
    if _not_finite(image.get("astro")):
        yield "astro holds NaN or infinity, which JSON does not know", "write null"
    name = image.get("file_name")
    if name is None:
        return
    if not isinstance(name, str) or not name:
        yield f"file_name {name!r} is not a name", None
        return
    if folder is None:
        return
    try:
        if not (folder / name).is_file():  # also a pipe, which would never end
            raise FileNotFoundError
        with Image.open(folder / name) as picture:
            width, height = picture.size
    except FileNotFoundError:
        yield (
            f"file {ascii(name)[1:-1][:200]} is missing from {folder}",
            "keep the images beside the document",
        )
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        yield f"file {name} is not an image that can be opened ({error})", "write it as PNG"
    else:
        if shape is not None and (height, width) != shape:
            yield f"file {name} is {height}x{width} pixels, not {shape[0]}x{shape[1]}", None


def _shared_files(images: list[Any]) -> Iterator[Problem]:
    seen: set[str] = set()
    for n, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if isinstance(name, str):
            if name in seen:
                yield Problem(_where("image", n, image), f"file {name} is another image's too")
            seen.add(name)


def _annotation(
    item: Mapping[str, Any], shapes: Mapping[int, tuple[int, int] | None], categories: set[Any]
) -> Iterator[Found]:
    image_id, category_id = item.get("image_id"), item.get("category_id")
    shape = None
    if "image_id" in item:
        if type(image_id) is not int:
            yield f"image_id {image_id!r} is not an integer", None
        elif image_id not in shapes:
            yield f"image {image_id} is not in the document", "add it or drop the annotation"
        else:
            shape = shapes[image_id]
    if "category_id" in item:
        if not _is_id(category_id):
            yield f"category_id {category_id!r} is not an integer", None
        elif category_id not in categories:
            yield f"category {category_id} is not in the document", "add it to categories"
    if "iscrowd" in item and not (type(item["iscrowd"]) is int and item["iscrowd"] in (0, 1)):
        yield f"iscrowd {item['iscrowd']!r} is neither 0 nor 1", None
    attributes = item.get("attributes", {})
    if not isinstance(attributes, dict):
        yield f"attributes are a {type(attributes).__name__}, not an object", None
    elif _not_finite(attributes):
        yield "attributes hold NaN or infinity, which JSON does not know", "write null"
    box_found = list(_box(item["bbox"], shape)) if "bbox" in item else []
    area_found = list(_area(item["area"])) if "area" in item else []
    yield from box_found
    yield from area_found
    if "segmentation" in item:
        yield from _segmentation(
            item["segmentation"],
            None if box_found else item.get("bbox"),
            None if area_found else item.get("area"),
            shape,
        )


def _not_finite(value: Any) -> bool:
    """Whether a NaN or an infinity is anywhere in a JSON value."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_not_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_not_finite(item) for item in value)
    return False


def _box(box: Any, shape: tuple[int, int] | None) -> Iterator[Found]:
    if not (isinstance(box, (list, tuple)) and len(box) == 4 and all(_is_number(v) for v in box)):
        yield f"bbox {box!r} is not four numbers [x, y, width, height]", None
        return
    x, y, width, height = box
    if not all(math.isfinite(v) for v in box):
        yield f"bbox {list(box)} is not finite", None
    elif width <= 0 or height <= 0:
        yield f"bbox {list(box)} has no extent", None
    elif shape is not None and (
        min(x, y) < -TOLERANCE_PX
        or x + width > shape[1] + TOLERANCE_PX
        or y + height > shape[0] + TOLERANCE_PX
    ):
        yield f"bbox {list(box)} leaves its image of {shape[0]}x{shape[1]} pixels", None


def _area(area: Any) -> Iterator[Found]:
    if not _is_number(area) or not math.isfinite(area) or area <= 0:
        yield f"area {area!r} is not a positive number of pixels", None


def _segmentation(
    mask: Any, box: Any, area: float | None, shape: tuple[int, int] | None
) -> Iterator[Found]:
    """What is wrong with a mask, and where the box and area (if sound) do not fit it."""
    slack_box = slack_area = TOLERANCE_PX
    try:
        if isinstance(mask, dict):
            true_area, true_box = measure(mask)
            if shape is not None and tuple(mask["size"]) != shape:
                size = f"{mask['size'][0]}x{mask['size'][1]}"
                yield f"RLE is of a {size} image, not {shape[0]}x{shape[1]}", None
                return
        elif isinstance(mask, list):
            if shape is None:
                return  # the image's own problem is reported already
            true_area, true_box, slack_area = _measure_polygons(mask, shape)
            slack_box = 1.0  # a polygon may start anywhere in its first and last pixel
        else:
            yield f"segmentation is a {type(mask).__name__}, neither RLE nor polygons", None
            return
    except ValueError as error:
        yield str(error), None
        return
    if true_area == 0:
        yield "the mask is empty", "drop the annotation"
        return
    if area is not None and abs(area - true_area) > slack_area:
        yield f"area {area:g} disagrees with the mask's {true_area} pixels", None
    if box is not None and not _same_box(box, true_box, slack_box):
        yield f"bbox {list(box)} is not tight: the mask's is {true_box}", None


def _same_box(one: Any, two: list[int], slack: float) -> bool:
    corners = zip(
        (one[0], one[1], one[0] + one[2], one[1] + one[3]),
        (two[0], two[1], two[0] + two[2], two[1] + two[3]),
        strict=True,
    )
    return all(abs(a - b) <= slack for a, b in corners)


def _measure_polygons(polygons: list[Any], shape: tuple[int, int]) -> tuple[int, list[int], float]:
    """Area and tight box of the pixels that polygons cover, and how far off the exact
    area of the polygons may be: half a pixel all along their outlines."""
    check_polygons(polygons, shape, beyond=1 / min(shape))
    rings = [np.reshape(polygon, (-1, 2)) for polygon in polygons]
    perimeter = sum(float(np.hypot(*(r - np.roll(r, 1, axis=0)).T).sum()) for r in rings)
    if not polygons:
        return 0, [0, 0, 0, 0], 0.0
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *shape))
    area, box = measure({"size": list(shape), "counts": rle["counts"].decode("ascii")})
    return area, box, 1.0 + 0.5 * perimeter
