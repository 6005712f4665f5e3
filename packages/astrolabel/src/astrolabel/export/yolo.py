"""YOLO's segmentation data set: pictures, one text of polygons each, and data.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from astrolabel.core.files import write_bytes
from astrolabel.io.coco import Document, annotations_by_image
from astrolabel.io.names import flat_name
from astrolabel.io.pictures import copy_picture
from astrolabel.io.polygons import outlines, rle_of


def write_yolo(folder: Path, doc: Document, images: Path) -> Path:
    """Write ``images/``, ``labels/`` and ``data.yaml``; the last of them.

    A line is a class from 0 and the outline's x and y as fractions of the picture. Of a mask in
    several pieces the largest is written, for a line holds one polygon. Ignore regions, which
    YOLO does not know, are left out.

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
    of_image = annotations_by_image(doc)
    classes = {c["id"]: k for k, c in enumerate(doc["categories"])}
    for image in doc["images"]:
        name = flat_name(image["file_name"])
        copy_picture(
            images / image["file_name"], folder / "images" / name, remedy="give --images DIR"
        )
        own = [item for item in of_image[image["id"]] if not item.get("iscrowd", 0)]
        lines = [_line(item, image, classes) for item in own]
        text = folder / "labels" / Path(name).with_suffix(".txt")
        write_bytes(text, "".join(lines).encode("ascii"))
    names = {k: str(c["name"]) for k, c in enumerate(doc["categories"])}
    # Without "path" the folders are those beside data.yaml, wherever training is started.
    data = {"train": "images", "val": "images", "names": names}
    head = "# One set: divide it by `astrolabel split` before you train.\n"
    text = folder / "data.yaml"
    write_bytes(text, (head + yaml.safe_dump(data, sort_keys=False)).encode("utf-8"))
    return text


def _line(item: Mapping[str, Any], image: Mapping[str, Any], classes: Mapping[int, int]) -> str:
    height, width = image["height"], image["width"]
    ring = outlines(rle_of(item["segmentation"], (height, width)))[0]
    points = ((ring + 0.5) / (width, height)).ravel()  # from centres at 0 to edges at 0
    return f"{classes[item['category_id']]} {' '.join(f'{v:.6f}' for v in points)}\n"
