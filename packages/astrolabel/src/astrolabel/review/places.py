"""Which label a correction is of, by its place on the sky or in the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.wcs import WCS

from astrolabel.core.celestial import to_pixels
from astrolabel.io.coco import Document
from astrolabel.io.frames import wcs_of
from astrolabel.io.polygons import mask_of

NEAR_PX = 3.0
"""A label whose box has its centre this near to the place of a correction is the one meant."""


@dataclass(frozen=True, eq=False)
class Spot:
    """A place of a correction in the document as it is now.

    Attributes
    ----------
    image : the entry of the document.
    x, y : pixels of the image, edges at whole numbers as in ``bbox``.
    shift : (y, x) whole pixels from the image of the correction to this one.
    id : of the label when the correction was made; None where unknown.
    """

    image: Mapping[str, Any]
    x: float
    y: float
    shift: tuple[int, int]
    id: Any = None


class Places:
    """The labels of a document while corrections are applied to them."""

    def __init__(self, document: Document) -> None:
        self._images = list(document["images"])
        self._wcs: dict[Any, WCS | None] = {}
        self._items = {item["id"]: dict(item) for item in document["annotations"]}
        self._by_image: dict[Any, list[Any]] = {}
        for item in self._items.values():
            self._by_image.setdefault(item["image_id"], []).append(item["id"])
        self._next = max([0, *(i for i in self._items if isinstance(i, int))]) + 1

    def annotations(self) -> list[dict[str, Any]]:
        return list(self._items.values())

    def find(self, place: Mapping[str, Any]) -> Spot | None:
        """Where a place is now: in the image of the same name, if its pixels are at the same
        sky; else in the image that holds its RA and Dec; None where there is neither."""
        name = place["image"]
        same = [i for i in self._images if i["file_name"] == name] or [
            i for i in self._images if Path(i["file_name"]).name == Path(name).name
        ]
        others = [i for i in self._images if i not in same[:1]]
        ra, dec = place.get("ra"), place.get("dec")
        if ra is None or dec is None:
            return self._spot(same[0], place, place["x"], place["y"]) if same else None
        for image in [*same[:1], *others]:
            wcs = self._wcs_of(image)
            if wcs is None:
                if image in same:
                    return self._spot(image, place, place["x"], place["y"])
                continue
            x, y = (float(v) + 0.5 for v in to_pixels(wcs, ra, dec))
            if 0 <= x <= image["width"] and 0 <= y <= image["height"]:
                return self._spot(image, place, x, y)
        return None

    def _spot(self, image: Mapping[str, Any], place: Mapping[str, Any], x: float, y: float) -> Spot:
        shift = (round(y - place["y"]), round(x - place["x"]))
        return Spot(image, x, y, shift, place.get("id"))

    def _wcs_of(self, image: Mapping[str, Any]) -> WCS | None:
        if image["id"] not in self._wcs:
            self._wcs[image["id"]] = wcs_of(image)
        return self._wcs[image["id"]]

    def label_at(self, spot: Spot) -> dict[str, Any] | None:
        """The label whose box's centre is nearest, within `NEAR_PX`; else the smallest whose
        mask holds the place. Labels without a mask, which no page shows, are not found."""
        best, least = None, NEAR_PX
        around = []
        for one in self._by_image.get(spot.image["id"], []):
            item = self._items[one]
            if not item.get("segmentation"):
                continue
            x, y, width, height = item["bbox"]
            far = math.hypot(x + width / 2 - spot.x, y + height / 2 - spot.y)
            # Of labels at the same place the one of the same id.
            if far < least or (far == least and one == spot.id):
                best, least = item, far
            if x <= spot.x < x + width and y <= spot.y < y + height:
                around.append(item)
        if best is not None:
            return best
        shape = (spot.image["height"], spot.image["width"])
        for item in sorted(around, key=lambda a: a["area"]):
            mask, box = mask_of(item["segmentation"], shape)
            if mask[int(spot.y) - box.y0, int(spot.x) - box.x0]:
                return item
        return None

    def remove(self, item: Mapping[str, Any]) -> None:
        del self._items[item["id"]]
        self._by_image[item["image_id"]].remove(item["id"])

    def put(self, item: Mapping[str, Any], spot: Spot) -> dict[str, Any]:
        """Add a label, or put back a changed one; without an id it gets a new one."""
        made = {**item, "image_id": spot.image["id"]}
        if made.get("id") is None or made["id"] in self._items:
            made["id"], self._next = self._next, self._next + 1
        self._items[made["id"]] = made
        self._by_image.setdefault(made["image_id"], []).append(made["id"])
        return made
