"""COCO files of any program, made ready to be viewed: pictures found, gaps filled.

Other programs number from 0, leave out ``iscrowd`` and areas, give boxes alone, and keep their
pictures in a folder of another name. `viewable` mends what has one meaning only; what has none
stays for `validate` to find.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from astrolabel.core.errors import InputError
from astrolabel.io.coco import Document
from astrolabel.io.polygons import mask_of
from astrolabel.io.rle import tight_box


def viewable(doc: Document, path: Path, images: Path | None = None) -> Document:
    """A document whose pictures are named from its own folder, with what entries lack.

    Parameters
    ----------
    path : the document.
    images : folder of the pictures; where absent, they are looked for beside the document and
        in the folders that COCO's own data sets use.

    Raises
    ------
    InputError
        When a size is missing and the picture cannot be read, or a mask cannot be decoded.
    """
    made = [_image(image, path, images) for image in doc["images"]]
    place = {image.get("id"): n for n, image in enumerate(made)}
    filled = [_annotation(a, made, place, path) for a in doc["annotations"]]
    whole = {**doc, "images": made, "annotations": filled}
    return whole if _numbered(whole) else _renumbered(whole)


def find_picture(name: str, path: Path, images: Path | None = None) -> Path:
    """Where a picture of a document lies; beside the document if it is nowhere."""
    if images is not None and not images.is_dir():
        raise InputError("no such folder", file=images, remedy="give the folder of the pictures")
    for candidate in _candidates(name, path, images):
        if candidate.is_file():
            return candidate
    return path.parent / name


def _candidates(name: str, path: Path, images: Path | None) -> Iterator[Path]:
    base = Path(name).name
    if images is not None:
        yield from (images / name, images / base)
    yield path.parent / name
    # annotations/instances_val2017.json, with val2017/ or images/val2017/ beside the folder
    split = path.stem.partition("_")[2]
    for folder in (path.parent, path.parent.parent):
        for further in ("", "images", split, f"images/{split}"):
            yield from (folder / further / name, folder / further / base)


def _image(image: Mapping[str, Any], path: Path, images: Path | None) -> dict[str, Any]:
    file = find_picture(image["file_name"], path, images)
    found = {**image, "file_name": Path(os.path.relpath(file, path.parent)).as_posix()}
    if type(image.get("height")) is not int or type(image.get("width")) is not int:
        try:
            if not file.is_file():  # also a pipe
                raise OSError("no such file")
            with Image.open(file) as opened:
                found["width"], found["height"] = opened.size
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(
                f"an image has no size, and the picture cannot be opened ({error})",
                file=file,
                remedy="give --images DIR",
            ) from error
    return found


def _annotation(
    item: Any, images: Sequence[Mapping[str, Any]], place: Mapping[Any, int], path: Path
) -> Any:
    if not isinstance(item, Mapping):
        return item
    found = {**item, "iscrowd": item.get("iscrowd") or 0}
    box = item.get("bbox")
    if not found.get("segmentation") and isinstance(box, list) and len(box) == 4:
        x, y, width, height = box
        found["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    if "area" in found and "bbox" in found:
        return found
    try:
        image = images[place[item.get("image_id")]]
        mask, where = mask_of(found["segmentation"], (image["height"], image["width"]))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"annotation {item.get('id')}: no area or box, and no mask to measure ({error!r})",
            file=path,
            remedy="`astrolabel validate` lists such entries",
        ) from error
    measured = {"area": int(np.count_nonzero(mask)), "bbox": tight_box(mask, where)}
    return {**measured, **found}


def _numbered(doc: Document) -> bool:
    """Whether every id is a whole number from 1, as ours are, and one of 32 bits."""
    entries = [*doc["images"], *doc["categories"], *doc["annotations"]]
    return all(
        isinstance(e, Mapping) and type(e.get("id")) is int and 0 < e["id"] < 2**31 for e in entries
    )


def _renumbered(doc: Document) -> Document:
    """The document with ids from 1 in the order of its entries."""
    images = {image.get("id"): n for n, image in enumerate(doc["images"], 1)}
    classes = {one.get("id"): n for n, one in enumerate(doc["categories"], 1)}
    return {
        **doc,
        "images": [{**image, "id": n} for n, image in enumerate(doc["images"], 1)],
        "categories": [{**one, "id": n} for n, one in enumerate(doc["categories"], 1)],
        "annotations": [
            {
                **item,
                "id": n,
                "image_id": images.get(item.get("image_id"), 0),
                "category_id": classes.get(item.get("category_id"), 0),
            }
            for n, item in enumerate(doc["annotations"], 1)
        ],
    }
