"""Lists of Detectron2 records, as DeepDISC keeps its datasets, from and to COCO documents.

Such a file is a bare JSON list with one record per image: its files (``file_name``, or
``filename``, or one ``filename_<band>`` each), ``height``, ``width``, ``image_id``, and
``annotations`` with ``bbox``, ``bbox_mode``, ``segmentation`` and ``category_id`` from 0.
It names no classes. What is wrong in the published lists is mended on the way in: boxes of
the deblender's model instead of the mask, areas of boxes, contours through pixel centres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.polygons import edge_polygons, fill_contours, mask_of
from astrolabel.io.rle import decode_inside, measure
from astrolabel.io.structure import check_structure

XYWH_ABS = 1
"""Detectron2's BoxMode: left, top, width, height in pixels."""
_OWN = ("bbox", "bbox_mode", "segmentation", "category_id", "area", "iscrowd", "attributes")


def is_records(document: Any) -> bool:
    """Whether a JSON value looks like a list of Detectron2 records."""
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], Mapping)
        and "annotations" in document[0]
        and "images" not in document[0]
    )


def to_records(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A document as a list of records, one an image.

    ``file_name`` is the picture, ``filename`` the array that `export` writes beside (absent
    where the document has no cubes). Masks are polygons, which is what DeepDISC's mappers
    expect, along the pixels' edges: rasterised as Detectron2 does, they are the same masks.
    ``astrolabel`` holds what the records have no place for.
    """
    number = {c["id"]: k for k, c in enumerate(doc["categories"])}
    by_image: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in doc["images"]}
    for item in doc["annotations"]:
        by_image[item["image_id"]].append(item)
    records = []
    for image in doc["images"]:
        shape = (image["height"], image["width"])
        record = {
            "file_name": image["file_name"],
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "annotations": [_to_item(a, shape, number) for a in by_image[image["id"]]],
            "astrolabel": {
                "polygons": "edges",
                "categories": [dict(c) for c in doc["categories"]],
                "astro": image.get("astro"),
            },
        }
        if (image.get("astro") or {}).get("cube"):
            record["filename"] = array_name(image)
        records.append(record)
    return records


def array_name(image: Mapping[str, Any]) -> str:
    """Where `export` puts the array of an image's cube."""
    return f"deepdisc/{Path(image['astro']['cube']).stem}.npy"


def _to_item(
    item: Mapping[str, Any], shape: tuple[int, int], number: Mapping[int, int]
) -> dict[str, Any]:
    mask, box = mask_of(item["segmentation"], shape)
    return {
        "bbox": list(item["bbox"]),
        "bbox_mode": XYWH_ABS,
        "area": item["area"],
        "segmentation": edge_polygons(mask, box),
        "category_id": number[item["category_id"]],
        "iscrowd": item.get("iscrowd", 0),
        "attributes": dict(item.get("attributes") or {}),
    }


def from_records(
    records: Sequence[Mapping[str, Any]],
    path: Path,
    classes: Sequence[str] = (),
    polygons: str = "centres",
) -> dict[str, Any]:
    """A COCO document of a list of records.

    Masks become RLE, with tight boxes and true areas. What an annotation has beyond COCO
    (``imag``, ``redshift``) goes under its attributes. One whose mask has no pixel in the
    image is left out and counted in ``info.dropped``.

    Parameters
    ----------
    path : the file, for messages.
    classes : names in the order of the category ids from 0. Without them those that
        `to_records` wrote, else class_0, class_1 and so on.
    polygons : what the points of polygons at whole numbers are, ``centres`` of pixels
        (OpenCV's, and so DeepDISC's) or ``edges``. Records of `to_records` hold this themselves.

    Raises
    ------
    InputError
        When a record lacks what it needs or a category has no name.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    dropped = 0
    # Published lists give every record of one tile the same image_id: the place counts.
    for number, record in enumerate(records, start=1):
        try:
            own = record.get("astrolabel") or {}
            images.append(_image(record, number))
            # Sizes are bounded before masks of them are made.
            check_structure({"images": images[-1:], "categories": [], "annotations": []}, path)
            shape = (images[-1]["height"], images[-1]["width"])
            for item in record["annotations"]:
                found = _from_item(item, shape, own.get("polygons", polygons))
                if found is None:
                    dropped += 1
                    continue
                annotations.append({**found, "id": len(annotations) + 1, "image_id": number})
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"record {number} of the list cannot be used ({type(error).__name__}: {error})",
                file=path,
                remedy="give file_name, height, width and annotations in each record",
            ) from error
    return {
        "info": {"description": f"Detectron2 records of {path.name}", "dropped": dropped},
        "licenses": [],
        "categories": _categories(records, annotations, classes, path),
        "images": images,
        "annotations": annotations,
    }


def _categories(
    records: Sequence[Mapping[str, Any]],
    annotations: list[dict[str, Any]],
    classes: Sequence[str],
    path: Path,
) -> list[dict[str, Any]]:
    """By the user's names, else the records' own; annotations get the matching ids."""
    used = max((a["category_id"] for a in annotations), default=0)
    own = (records[0].get("astrolabel") or {}).get("categories") if records else None
    if own and not classes:
        categories = [dict(c) for c in own]
    else:
        names = list(classes) or [f"class_{k}" for k in range(used)]
        categories = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    if used > len(categories):
        raise InputError(
            f"uses category_id {used - 1} (from 0), but {len(categories)} classes are named",
            file=path,
            remedy="give all names with --classes in the order of the ids",
        )
    for a in annotations:
        a["category_id"] = categories[a["category_id"] - 1]["id"]
    return categories


def _image(record: Mapping[str, Any], number: int) -> dict[str, Any]:
    files, bands = record_files(record)
    own = record.get("astrolabel") or {}
    if own.get("astro"):
        astro = dict(own["astro"])
    else:
        astro = {"files": files, **({"bands": bands} if bands else {})}
    return {
        "id": number,
        "file_name": str(record.get("file_name", files[0])) if own else files[0],
        "height": int(record["height"]),
        "width": int(record["width"]),
        "astro": astro,
    }


def record_files(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """(files, bands) of a record; no bands where its keys do not name them."""
    per_band = {
        key.split("_", 1)[1].lower(): str(value)
        for key, value in record.items()
        if key.lower().startswith("filename_")
    }
    if per_band:
        return list(per_band.values()), list(per_band)
    for key in ("filename", "file_name"):
        if key in record:
            value = record[key]
            files = [value] if isinstance(value, str) else [str(name) for name in value]
            if files:
                return files, []
    raise KeyError("file_name")


def _from_item(
    item: Mapping[str, Any], shape: tuple[int, int], polygons: str
) -> dict[str, Any] | None:
    category = int(item["category_id"])
    if category < 0:
        raise ValueError(f"category_id {category}")
    mask, box = _mask(item["segmentation"], shape, polygons)
    if not mask.any():
        return None
    extra = {key: value for key, value in item.items() if key not in _OWN}
    return coco.annotation(
        mask=mask,
        box=box,
        image_shape=shape,
        category_id=category + 1,
        iscrowd=int(item.get("iscrowd", 0)),
        attributes={**extra, **(item.get("attributes") or {})},
    )


def _mask(
    segmentation: Any, shape: tuple[int, int], polygons: str
) -> tuple[NDArray[np.bool_], Box]:
    if isinstance(segmentation, list):
        whole = all(float(v).is_integer() for ring in segmentation for v in ring)
        if polygons == "centres" and whole:
            return fill_contours(segmentation, shape)
        rings = [ring for ring in segmentation if len(ring) >= 6]
        return mask_of(rings, shape) if rings else (np.zeros((0, 0), bool), Box(0, 0, 0, 0))
    counts = segmentation["counts"]
    rle = {
        "size": [int(n) for n in segmentation["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }
    if tuple(rle["size"]) != shape:
        raise ValueError(f"RLE of size {rle['size']} in an image of {list(shape)}")
    _, (x, y, width, height) = measure(rle)
    box = Box(y, x, height, width)
    return decode_inside(rle, box), box
