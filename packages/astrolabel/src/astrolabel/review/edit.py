"""Labels that corrections make: merged, moved to another grid, drawn by an outline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from astrolabel.core.box import Box
from astrolabel.io import coco
from astrolabel.io.polygons import mask_of, rle_of
from astrolabel.io.rle import decode
from astrolabel.review.places import Spot


def shape_of(image: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) of an image of a document."""
    return int(image["height"]), int(image["width"])


def merged(
    first: Mapping[str, Any], rest: Sequence[Mapping[str, Any]], image: Mapping[str, Any]
) -> dict[str, Any]:
    """One label with the pixels of several, and the sum of their fluxes."""
    shape = shape_of(image)
    whole = np.zeros(shape, bool)
    for item in (first, *rest):
        mask, box = mask_of(item["segmentation"], shape)
        whole[box.slices] |= mask
    made = coco.annotation(
        mask=whole, box=Box.of_shape(shape), image_shape=shape,
        category_id=first["category_id"], attributes=summed(first, rest),
        iscrowd=first.get("iscrowd", 0),
    )  # fmt: skip
    return {**first, **made}


def summed(first: Mapping[str, Any], rest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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


def added(correction: Mapping[str, Any], at: Spot, category_id: int) -> dict[str, Any] | None:
    """A label with the pixels inside an outline, holes left out; None where there are none."""
    shape = shape_of(at.image)
    whole = np.zeros(shape, bool)
    for ring in correction["outline"]:
        points = np.asarray(ring, float).reshape(-1, 2) + np.array(at.shift[::-1])
        points = np.clip(points, 0, (shape[1], shape[0]))  # what leaves the image is cut off
        whole ^= decode(rle_of([points.ravel().tolist()], shape))
    if not whole.any():
        return None
    sky = {k: correction[k] for k in ("ra", "dec") if correction.get(k) is not None}
    return coco.annotation(
        mask=whole, box=Box.of_shape(shape), image_shape=shape, category_id=category_id,
        attributes={**sky, "flags": []},
    )  # fmt: skip


def moved(
    made: Sequence[Mapping[str, Any]],
    first: Mapping[str, Any],
    at: Spot,
    classes: Mapping[str, int],
) -> list[dict[str, Any]]:
    """What the deblender made of a correction, on the pixels of the image as it is now.

    The first keeps the id of the label that was corrected. What is cut off by the image's
    edge is left out.
    """  # fmt: skip
    out: list[dict[str, Any]] = []
    for item in made:
        mask, box = mask_of(item["segmentation"], tuple(item["segmentation"]["size"]))
        to = box.shifted(*at.shift)
        if not (to & Box.of_shape(shape_of(at.image))).area:
            continue
        one = coco.annotation(
            mask=mask, box=to, image_shape=shape_of(at.image),
            category_id=classes.get(item.get("class", ""), first["category_id"]),
            attributes=item.get("attributes") or {},
        )  # fmt: skip
        out.append({**one, "id": None if out else first["id"]})
    return out
