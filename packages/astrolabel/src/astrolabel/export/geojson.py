"""Outlines as GeoJSON, in pixels, as QuPath, napari and web maps of pictures read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import shapely

from astrolabel.core.files import write_bytes
from astrolabel.io.coco import Document, plain
from astrolabel.io.colours import IGNORED, colours
from astrolabel.io.names import flat_name
from astrolabel.io.pictures import channels
from astrolabel.io.polygons import rle_of, shape_of


def write_geojson(folder: Path, doc: Document) -> list[Path]:
    """One FeatureCollection an image: a polygon, or several, for each label.

    Coordinates are pixels of the picture, x to the right and y down from its first row, pixel
    edges at whole numbers. Holes are kept. Properties: id, classification, and the
    annotation's attributes.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    names = {c["id"]: str(c["name"]) for c in doc["categories"]}
    tints = colours(doc["categories"])
    written = []
    for image in doc["images"]:
        features = [
            _feature(item, image, names, tints)
            for item in doc["annotations"]
            if item["image_id"] == image["id"]
        ]
        text = json.dumps(plain({"type": "FeatureCollection", "features": features}))
        path = folder / Path(flat_name(image["file_name"])).with_suffix(".geojson")
        write_bytes(path, text.encode("utf-8"))
        written.append(path)
    return written


def _feature(
    item: Mapping[str, Any],
    image: Mapping[str, Any],
    names: Mapping[int, str],
    tints: Mapping[int, str],
) -> dict[str, Any]:
    rle = rle_of(item["segmentation"], (image["height"], image["width"]))
    shape = shapely.transform(shape_of(rle), lambda xy: xy + 0.5).simplify(0)
    ignored = bool(item.get("iscrowd", 0))
    name = "ignored" if ignored else names.get(item["category_id"], "")
    tint = IGNORED if ignored else tints.get(item["category_id"], IGNORED)
    return {
        "type": "Feature",
        "id": str(item["id"]),
        "geometry": shapely.geometry.mapping(shape),
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": list(channels(tint))},
            **(item.get("attributes") or {}),
        },
    }
