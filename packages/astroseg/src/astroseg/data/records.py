"""DeepDISC's lists of Detectron2 records as COCO documents.

Such a file is a bare JSON list with one record per image: its files, `height`, `width`,
`image_id` and `annotations`. The files are under one `filename_<band>` each, or under
`filename` or `file_name`, a name or a list of names. Annotations have `bbox` and `bbox_mode`,
`segmentation` as polygons or RLE, and `category_id` from 0. Other numbers of an annotation, such
as `redshift` and `mag_i`, are its attributes. It names no classes. Polygons of whole numbers are
OpenCV's contours, which run through the centres of the masks' border pixels; records that
`astrolabel` wrote say that theirs run along the edges, as COCO's do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astroseg.core.errors import InputError
from astroseg.data.identifiers import key_of

# Detectron2's BoxMode, as it comes out of JSON: a number, or a name perhaps with more around it.
_MODES = {"0": "XYXY_ABS", "1": "XYWH_ABS", "None": "XYWH_ABS"}
_MODE = re.compile(r"(?<![A-Z])(XYXY|XYWH)_ABS(?![A-Z_])")

_STANDARD = ("id", "image_id", "bbox_mode", "category_id", "iscrowd", "area")


def is_records(document: Any) -> bool:
    """Whether a JSON value looks like a list of Detectron2 records."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(record, Mapping) for record in document)
        and any("annotations" in record for record in document)
    )


def from_records(
    records: Sequence[Mapping[str, Any]], path: Path, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """A COCO document of a list of records.

    Parameters
    ----------
    records : as read from JSON.
    path : the file, for messages.
    classes : names in the order of the records' category ids from 0; without them the
        classes are called class_0, class_1 and so on up to the largest id.

    Raises
    ------
    InputError
        When a record lacks what it needs or a category has no name.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    # Published lists give every record of one tile the same image_id, so the place in the
    # list counts.
    for number, record in enumerate(records, start=1):
        try:
            files, bands = _files(record)
            own = record.get("astrolabel") or {}
            image: dict[str, Any] = {
                "id": number,
                "file_name": files[0] if len(files) == 1 else files,
                "height": int(record["height"]),
                "width": int(record["width"]),
                "astro": {**(own.get("astro") or {}), **({"bands": bands} if bands else {})},
            }
            image["astro"].pop("cube", None)  # beside the labels, not beside the records
            images.append(image)
            contours = own.get("polygons") != "edges"
            for item in record.get("annotations", ()):
                one = _annotation(item, number, len(annotations) + 1)
                annotations.append(one | {"contours": contours})
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"record {number} of the list is incomplete ({type(error).__name__}: {error})",
                file=path,
                remedy="give file_name, height, width and annotations in each record",
            ) from error
    used = max((item["category_id"] for item in annotations), default=0)
    names = list(classes) or _own_classes(records) or [f"class_{i}" for i in range(used)]
    if used > len(names):
        raise InputError(
            f"uses category_id {used - 1} (from 0), but {len(names)} classes are named",
            file=path,
            remedy="give all names with --classes in the order of the ids",
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    return {
        "info": {"description": f"Detectron2 records of {path.name}"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _own_classes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names that astrolabel wrote beside its records."""
    own = records[0].get("astrolabel")
    categories = own.get("categories") if isinstance(own, Mapping) else None
    return [str(one["name"]) for one in categories or () if isinstance(one, Mapping)]


def _files(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Files of a record, and the bands their keys name.

    DeepDISC's readers take the files by band, or `filename`, an array of fluxes, before
    `file_name`, which may be a picture of them or one band.
    """
    per_band = {
        key.split("_", 1)[1]: str(value)
        for key, value in record.items()
        if key.lower().startswith("filename_")
    }
    if per_band:
        return list(per_band.values()), list(per_band)
    for key in ("filename", "file_name"):
        if value := record.get(key):
            return [value] if isinstance(value, str) else [str(name) for name in value], []
    raise KeyError("file_name")


def _annotation(item: Mapping[str, Any], image_id: int, number: int) -> dict[str, Any]:
    mode = item.get("bbox_mode")
    if isinstance(mode, Mapping):  # an enumeration written field by field
        mode = mode.get("value", mode.get("_value_"))
    named = _MODE.search(_MODES.get(str(key_of(mode)), str(mode)))
    if named is None:
        raise ValueError(f"bbox_mode {mode!r} is neither XYXY_ABS (0) nor XYWH_ABS (1)")
    box = None
    if item.get("bbox") is not None or not item.get("segmentation"):
        x, y, a, b = (float(value) for value in item["bbox"])
        box = [x, y, a - x, b - y] if named[1] == "XYXY" else [x, y, a, b]
    numbers = {k: v for k, v in item.items() if type(v) in (int, float) and k not in _STANDARD}
    category = int(item["category_id"])
    if category < 0:
        raise ValueError(f"category_id {category}")
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category + 1,
        "bbox": box,
        "segmentation": item.get("segmentation"),
        "iscrowd": item.get("iscrowd", 0),
        "attributes": numbers | dict(item.get("attributes") or {}),
    }
