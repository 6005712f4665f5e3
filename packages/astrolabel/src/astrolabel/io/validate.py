"""Find what is wrong with a COCO document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from PIL import Image
from pycocotools import mask as coco_mask

from astrolabel.core.config.tree import in_words
from astrolabel.io import positions
from astrolabel.io.rle import measure
from astrolabel.io.stream import Annotations

T = TypeVar("T")
Id = Annotated[int, Meta(ge=1)]
"""pycocotools' evaluation takes a matched id of 0 for "no match"."""
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


Found = tuple[str, str | None]
"""What is wrong, and the remedy."""


class _Image(msgspec.Struct):
    id: Id
    file_name: Annotated[str, Meta(min_length=1)]
    height: Annotated[int, Meta(ge=1)]
    width: Annotated[int, Meta(ge=1)]
    astro: Any = None


class _Category(msgspec.Struct):
    id: Id
    name: str


class _Annotation(msgspec.Struct):
    id: Id
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: Annotated[float, Meta(gt=0)]
    segmentation: dict[str, Any] | list[Any]
    iscrowd: Literal[0, 1]
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)


def validate(
    doc: Mapping[str, Any], folder: Path | None = None, *, sky: bool = False
) -> tuple[Problem, ...]:
    """What is wrong with a COCO document, in the order of its entries.

    Of an entry with values of wrong types, or without a key, each of these is named and nothing
    else is checked.

    Parameters
    ----------
    doc : the document as read, whatever it holds; its annotations may be `Annotations`.
    folder : where its images lie; None leaves the image files unchecked.
    sky : also whether `ra`, `dec` of annotations are where the WCS of their image puts their
        pixels: one problem for each image, after those of the entries. A document with such a
        fault can still be used as COCO.

    Returns
    -------
    tuple of Problem : empty for a sound document.
    """
    keys = ("images", "categories", "annotations")
    lacking = [k for k in keys if type(doc.get(k)) not in (list, Annotations)]
    if lacking:
        return tuple(Problem("document", f"has no list of {key}") for key in lacking)
    problems: list[Problem] = []
    images = list(_converted("image", doc["images"], _Image, problems))
    categories = list(_converted("category", doc["categories"], _Category, problems))
    of_images: list[Problem] = []
    for image in images:
        of_images += [Problem(f"image {image.id}", *found) for found in _image(image, folder)]
    of_images += _shared_files(images)
    # What has another fault is in the document all the same.
    shapes: dict[Any, tuple[int, int] | None] = dict.fromkeys(_ids(doc["images"]))
    shapes |= {image.id: (image.height, image.width) for image in images}
    known = {*_ids(doc["categories"]), *(category.id for category in categories)}
    of_annotations: list[Problem] = []
    for item in _converted("annotation", doc["annotations"], _Annotation, problems):
        where = f"annotation {item.id}"
        of_annotations += [Problem(where, *found) for found in _annotation(item, shapes, known)]
    problems += of_images + of_annotations
    if sky:
        problems += [
            Problem(f"image {number}", *found)
            for number, found in positions.of_document(doc["images"], doc["annotations"])
        ]
    return tuple(problems)


def _ids(items: list[Any]) -> set[int]:
    return {i["id"] for i in items if isinstance(i, dict) and type(i.get("id")) is int}


def _converted(
    kind: str, items: Iterable[Any], struct: type[T], problems: list[Problem]
) -> Iterator[T]:
    """The entries that have values of the right types; what is wrong with the others."""
    seen: set[int] = set()
    last = 0  # of ids from 1 in a row, which need no set: there may be millions
    for n, item in enumerate(items):
        named = isinstance(item, dict) and type(item.get("id")) is int
        where = f"{kind} {item['id']}" if named else f"{kind} at index {n}"
        try:
            entry: Any = msgspec.convert(item, struct)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # half a character
            wrong = _wrong_values(item, struct) or [(in_words(str(error)), None)]
            problems += [Problem(where, *found) for found in wrong]
            continue
        if entry.id <= last or entry.id in seen:
            remedy = "give every entry its own"
            problems.append(Problem(where, "id is used more than once", remedy))
        elif entry.id == last + 1:
            last = entry.id
        else:
            seen.add(entry.id)
        yield entry


def _wrong_values(item: Any, struct: type[Any]) -> list[Found]:
    """What is wrong with each value of an entry of wrong types."""
    if not isinstance(item, dict):
        return []
    found: list[Found] = []
    for one in msgspec.structs.fields(struct):
        if one.name not in item:
            if one.required:
                found.append((f"has no {one.name}", None))
            continue
        value = item[one.name]
        try:
            msgspec.convert(value, one.type)
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `$")
            below_one = one.name == "id" and type(value) is int
            said = in_words(f"{problem} - at `$.{one.name}{path or '`'}")
            found.append((said, "number from 1" if below_one else None))
        except UnicodeEncodeError as error:
            found.append((f"{one.name}: {error}", None))
    return found


def _image(image: _Image, folder: Path | None) -> Iterator[Found]:
    if _not_finite(image.astro):
        yield "astro holds NaN or infinity, which JSON does not know", "write null"
    name, shape = image.file_name, (image.height, image.width)
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
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        yield f"file {name} is not an image that can be opened ({error})", "write it as PNG"
    else:
        if (height, width) != shape:
            yield f"file {name} is {height}x{width} pixels, not {shape[0]}x{shape[1]}", None


def _shared_files(images: list[_Image]) -> Iterator[Problem]:
    seen: set[str] = set()
    for image in images:
        if image.file_name in seen:
            yield Problem(f"image {image.id}", f"file {image.file_name} is another image's too")
        seen.add(image.file_name)


def _annotation(
    item: _Annotation, shapes: Mapping[Any, tuple[int, int] | None], categories: set[int]
) -> Iterator[Found]:
    if item.image_id not in shapes:
        yield f"image {item.image_id} is not in the document", "add it or drop the annotation"
    if item.category_id not in categories:
        yield f"category {item.category_id} is not in the document", "add it to categories"
    if _not_finite(item.attributes):
        yield "attributes hold NaN or infinity, which JSON does not know", "write null"
    shape = shapes.get(item.image_id)
    wrong_box = _box(item.bbox, shape)
    if wrong_box:
        yield f"bbox {list(item.bbox)} {wrong_box}", None
    box = None if wrong_box else item.bbox
    yield from _segmentation(item.segmentation, box, item.area, shape)


def _not_finite(value: Any) -> bool:
    """Whether a NaN or an infinity is anywhere in a JSON value."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if not isinstance(value, (dict, list, tuple)):
        return False
    for item in value.values() if isinstance(value, dict) else value:
        # Most are plain numbers and texts: a call for each would be half of `validate`.
        if type(item) is float:
            if not math.isfinite(item):
                return True
        elif type(item) not in (str, int) and _not_finite(item):
            return True
    return False


def _box(box: tuple[float, ...], shape: tuple[int, int] | None) -> str:
    """What is wrong with a box; "" for nothing."""
    x, y, width, height = box
    if not all(math.isfinite(v) for v in box):
        return "is not finite"
    if width <= 0 or height <= 0:
        return "has no extent"
    if shape is not None and (
        min(x, y) < -TOLERANCE_PX
        or x + width > shape[1] + TOLERANCE_PX
        or y + height > shape[0] + TOLERANCE_PX
    ):
        return f"leaves its image of {shape[0]}x{shape[1]} pixels"
    return ""


def _segmentation(
    mask: dict[str, Any] | list[Any],
    box: tuple[float, ...] | None,
    area: float,
    shape: tuple[int, int] | None,
) -> Iterator[Found]:
    """What is wrong with a mask, and where the area and the box (if sound) do not fit it."""
    slack_box = slack_area = TOLERANCE_PX
    try:
        if isinstance(mask, dict):
            true_area, true_box = measure(mask)
            if shape is not None and tuple(mask["size"]) != shape:
                size = f"{mask['size'][0]}x{mask['size'][1]}"
                yield f"RLE is of a {size} image, not {shape[0]}x{shape[1]}", None
                return
        else:
            if shape is None:
                return  # the image's own problem is reported already
            true_area, true_box, slack_area = _measure_polygons(mask, shape)
            slack_box = 1.0  # a polygon may start anywhere in its first and last pixel
    except ValueError as error:
        yield str(error), None
        return
    if true_area == 0:
        yield "the mask is empty", "drop the annotation"
        return
    if abs(area - true_area) > slack_area:
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
    from astrolabel.io.polygons import check_polygons  # labels of ours are RLE: no need of shapely

    check_polygons(polygons, shape, beyond=1 / min(shape))
    rings = [np.reshape(polygon, (-1, 2)) for polygon in polygons]
    perimeter = sum(float(np.hypot(*(r - np.roll(r, 1, axis=0)).T).sum()) for r in rings)
    if not polygons:
        return 0, [0, 0, 0, 0], 0.0
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *shape))
    area, box = measure({"size": list(shape), "counts": rle["counts"].decode("ascii")})
    return area, box, 1.0 + 0.5 * perimeter
