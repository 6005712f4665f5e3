"""Mask outlines as ds9 regions: one file per image, on the sky where the image has a WCS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from astrolabel.core.celestial import to_icrs, wcs_of_cards
from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.io.coco import annotations_by_image
from astrolabel.io.polygons import outlines

COLOURS = ("cyan", "orange", "green", "magenta", "yellow", "red")
"""By order of the categories; galaxies and stars as in the previews."""
IGNORED_COLOUR = "gray"


def region_text(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> str:
    """The ds9 region file of one image's labels.

    Polygons in ICRS degrees where the image has a WCS, else in ds9's image coordinates,
    which count from 1. Each has its class as a tag and its id as text.
    """
    colour = {c["id"]: COLOURS[k % len(COLOURS)] for k, c in enumerate(categories)}
    names = {c["id"]: c["name"] for c in categories}
    cards = (image.get("astro") or {}).get("wcs")
    rings = [(a, ring) for a in annotations for ring in outlines(a["segmentation"])]
    points = np.concatenate([ring for _, ring in rings]) if rings else np.zeros((0, 2))
    if cards:
        frame, digits = "icrs", 7
        points = np.stack(to_icrs(wcs_of_cards(cards), *points.T), axis=1)
    else:
        frame, digits = "image", 1
        points = points + 1
    lines = ["# Region file format: DS9 version 4.1", "global width=1 fill=0", frame]
    start = 0
    for a, ring in rings:
        part = points[start : start + len(ring)]
        start += len(ring)
        numbers = ",".join(f"{v:.{digits}f}" for v in part.ravel())
        drawn = IGNORED_COLOUR if a.get("iscrowd") else colour.get(a["category_id"], IGNORED_COLOUR)
        lines.append(
            f"polygon({numbers}) # color={drawn} text={{{a['id']}}} "
            f"tag={{{names.get(a['category_id'], 'unknown')}}}"
        )
    return "\n".join(lines) + "\n"


def write_regions(folder: str | Path, doc: Mapping[str, Any]) -> list[Path]:
    """Write one ``.reg`` file per image, named after it, into `folder`; their paths.

    Raises
    ------
    InputError
        When a mask is a polygon, naming its annotation.
    OutputError
        When a file cannot be written.
    """
    by_image = annotations_by_image(doc)
    for a in doc["annotations"]:
        if not isinstance(a["segmentation"], dict):
            raise InputError(
                f"the mask of annotation {a['id']} is not RLE",
                remedy="convert polygons with pycocotools.mask.frPyObjects and merge",
            )
    written = []
    for image in doc["images"]:
        path = Path(folder) / f"{Path(image['file_name']).stem}.reg"
        text = region_text(image, by_image[image["id"]], doc["categories"])
        write_bytes(path, text.encode("ascii"))
        written.append(path)
    return written
