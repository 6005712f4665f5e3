"""Corrections that the review page saves: read, matched with labels by place, applied.

A correction names what was done, when, and to which place; not only the id, for labels made
again have other ids. The file is a list that only grows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.polygons import mask_of

ACTIONS = ("accept", "reject", "merge", "class")
NEAR_PX = 3.0
"""A label whose box has its centre this near to the place of a correction is the one meant."""


@dataclass(frozen=True)
class Applied:
    """What became of the corrections: how many by action, and those without a label."""

    document: coco.Document
    done: Mapping[str, int]
    lost: tuple[str, ...]

    def summary(self) -> str:
        """A line for people."""
        made = ", ".join(f"{n} {action}" for action, n in self.done.items() if n) or "none"
        return f"corrections: {made}" + (f"; {len(self.lost)} without a label" if self.lost else "")


def read_corrections(path: Path) -> list[dict[str, Any]]:
    """The corrections of a file that the page saved.

    Raises
    ------
    InputError
        When it is no such file.
    """
    read = coco.read_json(path)
    items = read.get("corrections") if isinstance(read, dict) else None
    if not isinstance(items, list):
        raise InputError("holds no corrections", file=path, remedy="save them from the review page")
    for n, item in enumerate(items, 1):
        good = isinstance(item, dict) and item.get("action") in ACTIONS
        places = [item, *(item.get("with") or [])] if good else []
        if not good or not all(_is_place(place) for place in places):
            raise InputError(f"correction {n} is not whole: {item!r}", file=path)
        if item["action"] == "class" and not isinstance(item.get("class"), str):
            raise InputError(f"correction {n} names no class", file=path)
    return items


def _is_place(place: Any) -> bool:
    return (
        isinstance(place, dict)
        and isinstance(place.get("image"), str)
        and all(isinstance(place.get(k), int | float) and math.isfinite(place[k]) for k in "xy")
    )


def apply(document: coco.Document, corrections: Sequence[Mapping[str, Any]]) -> Applied:
    """The document after the corrections, in their order.

    A correction is of the label whose box's centre lies nearest to its place on the image of
    the same name, within `NEAR_PX`. ``attributes.reviewed`` holds the last action on a label.

    Raises
    ------
    InputError
        When a correction names a class that the document does not have.
    """
    classes = {str(c["name"]): c["id"] for c in document["categories"]}
    images = {i["file_name"]: i for i in document["images"]}
    items = {item["id"]: dict(item) for item in document["annotations"]}
    done, lost = dict.fromkeys(ACTIONS, 0), []
    for n, correction in enumerate(corrections, 1):
        action = correction["action"]
        if action == "class" and correction["class"] not in classes:
            raise InputError(
                f"correction {n}: no class {correction['class']!r}",
                remedy=f"the document has {', '.join(classes)}",
            )
        wanted = [correction, *(correction.get("with") or [])]
        found = [_nearest(place, items.values(), images) for place in wanted]
        if any(one is None for one in found):
            lost.append(f"correction {n} ({action}): no label there")
            continue
        first, *rest = (items[one] for one in found if one is not None)
        done[action] += 1
        if action == "reject":
            del items[first["id"]]
            continue
        if action == "merge":
            first = _merged(first, rest, images)
            for other in rest:
                items.pop(other["id"], None)
        if action == "class":
            first = {**first, "category_id": classes[correction["class"]], "iscrowd": 0}
        attributes = {**(first.get("attributes") or {}), "reviewed": action}
        items[first["id"]] = {**first, "attributes": attributes}
    info = {**(document.get("info") or {}), "corrections": list(corrections)}
    made = {**document, "info": info, "annotations": list(items.values())}
    return Applied(made, done, tuple(lost))


def _nearest(place: Mapping[str, Any], items: Any, images: Mapping[str, Any]) -> int | None:
    """Id of the label at a place; None where there is none."""
    image = images.get(place["image"])
    if image is None:
        return None
    best, least = None, NEAR_PX
    for item in items:
        if item["image_id"] == image["id"]:
            x, y, width, height = item["bbox"]
            far = math.hypot(x + width / 2 - place["x"], y + height / 2 - place["y"])
            # Of labels at the same place the one of the same id.
            if far < least or (far == least and item["id"] == place.get("id")):
                best, least = item["id"], far
    return best


def _merged(
    first: Mapping[str, Any], rest: Sequence[Mapping[str, Any]], images: Mapping[str, Any]
) -> dict[str, Any]:
    """One label with the pixels of several, and the sum of their fluxes."""
    image = next(i for i in images.values() if i["id"] == first["image_id"])
    shape = (image["height"], image["width"])
    whole = np.zeros(shape, bool)
    for item in (first, *rest):
        mask, box = mask_of(item["segmentation"], shape)
        whole[box.slices] |= mask
    made = coco.annotation(
        mask=whole, box=Box.of_shape(shape), image_shape=shape,
        category_id=first["category_id"], attributes=_summed(first, rest),
        iscrowd=first.get("iscrowd", 0),
    )  # fmt: skip
    return {**first, **made}


def _summed(first: Mapping[str, Any], rest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first's attributes with summed fluxes, and the magnitudes of the sums."""
    every = [item.get("attributes") or {} for item in (first, *rest)]
    out = dict(every[0])
    for key, value in every[0].items():
        values = [float(v) for a in every if isinstance(v := a.get(key), int | float)]
        if value is None or len(values) < len(every):
            continue
        if key.startswith("flux_err_"):
            out[key] = math.hypot(*values)
        elif key.startswith("flux_"):
            out[key] = sum(values)
        elif key.startswith("mag_"):
            out[key] = round(-2.5 * math.log10(sum(10 ** (-0.4 * v) for v in values)), 4)
    return out
