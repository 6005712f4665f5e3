"""The types that a COCO document must have before anything is done with it.

`validate` finds every fault of a document. What reads one for its contents needs only to know
that a list is a list and a number a number, and says the first that is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec

from astrolabel.core.errors import InputError

Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Side = Annotated[int, msgspec.Meta(ge=0, le=2**20)]
"""A million pixels: more than any picture has, and what masks of it need can be counted."""
Number = int | float
NAME = r"^([^/\x00-\x1f\x7f]{0,200}/){0,20}(?!\.{0,2}$)[^/\x00-\x1f\x7f]{1,200}$"
"""Of a file: parts that every file system takes, the last of them no folder. Exports name their
files after it."""
MAX_COORDINATE = 2**31
"""Of a box, in pixels: boxes may leave their image, but not for infinity."""
Numbers = list[Number | None] | None


class Astro(msgspec.Struct):
    """What is ours of an image."""

    bands: list[str] | None = None
    zeropoint: Numbers = None
    origin: list[int] | None = None
    wcs: dict[str, Any] | None = None
    cube: str | None = None
    residual: str | None = None
    tract: str | int | None = None
    patch: str | int | None = None
    sky_sigma: Numbers = None
    psf_fwhm_arcsec: Numbers = None


class Image(msgspec.Struct):
    id: Id
    file_name: Annotated[str, msgspec.Meta(pattern=NAME)]
    height: Side | None = None
    width: Side | None = None
    astro: Astro | None = None


class Category(msgspec.Struct):
    id: Id
    name: str


class Attributes(msgspec.Struct):
    flags: list[str] | str | None = None
    score: Number = 1.0


class Annotation(msgspec.Struct):
    id: Id
    image_id: Id
    category_id: Id
    bbox: list[Number] | None = None
    area: Number | None = None
    iscrowd: int | bool | None = None
    segmentation: dict[str, Any] | list[Any] | None = None
    attributes: Attributes | None = None


class Result(msgspec.Struct):
    """A prediction, as COCO's results list them."""

    image_id: Id
    category_id: Id = 0
    score: Number = 1.0
    segmentation: dict[str, Any] | list[Any] | None = None
    attributes: Attributes | None = None


class Tile(msgspec.Struct):
    name: str
    state: str


class Info(msgspec.Struct):
    config: dict[str, Any] | None = None
    tiles: list[Tile] | None = None
    inputs: list[dict[str, Any]] | None = None
    sources: dict[str, Number] | None = None
    catalog: dict[str, Any] | None = None
    flags: dict[str, Any] | None = None
    libraries: dict[str, Any] | None = None
    corrections: list[Any] | None = None


class Head(msgspec.Struct):
    """A document without its annotations, which a reader may have replaced by columns."""

    images: list[Image]
    categories: list[Category]
    info: Info | None = None
    licenses: list[dict[str, Any]] | None = None


def check_structure(doc: dict[str, Any], path: str | Path, *, annotations: bool = True) -> None:
    """Refuse a document whose values are of other types than COCO's.

    Parameters
    ----------
    annotations : whether they are in the document as objects.

    Raises
    ------
    InputError
        Naming the first value that is wrong.
    """
    with _in_words(path):
        msgspec.convert(doc, Head)
    if annotations:
        with _in_words(path, "annotations"):
            msgspec.convert(doc["annotations"], list[Annotation])
    images, kinds = ({entry["id"] for entry in doc[key]} for key in ("images", "categories"))
    for item in doc["annotations"] if annotations else ():
        what = ""
        if item["image_id"] not in images:
            what = f"is of image {item['image_id']}, which is not there"
        elif item["category_id"] not in kinds:
            what = f"is of category {item['category_id']}, which is not there"
        elif item.get("bbox") and not _is_box(item["bbox"]):
            what = f"has the box {item['bbox']!r:.80}, not [x, y, width, height]"
        if what:
            raise InputError(
                f"annotation {item['id']} {what}",
                file=path,
                remedy="`astrolabel validate` lists all that is wrong",
            )


def check_results(items: list[Any], path: str | Path) -> None:
    """Refuse COCO results whose values are of other types.

    Raises
    ------
    InputError
        Naming the first value that is wrong.
    """
    with _in_words(path, "results", "give image_id, category_id, segmentation and score of each"):
        msgspec.convert(items, list[Result])


@contextmanager
def _in_words(
    path: str | Path, name: str = "", remedy: str = "`astrolabel validate` lists all that is wrong"
) -> Iterator[None]:
    """What msgspec finds wrong, with the file and the value's place in it."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InputError("holds half a character", file=path, remedy="write it as UTF-8") from error
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = (name + where.strip("`").removeprefix("$")).lstrip(".") or "the document"
        raise InputError(
            f"{place}: {what[0].lower()}{what[1:]}", file=path, remedy=remedy
        ) from error


def _is_box(box: list[Any]) -> bool:
    finite = len(box) == 4 and all(abs(v) <= MAX_COORDINATE for v in box)
    return finite and min(box[2:]) >= 0
