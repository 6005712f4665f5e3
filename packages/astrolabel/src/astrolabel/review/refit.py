"""Splits and merges of labels, made by the built-in deblender on the pixels around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.frames import wcs_of
from astrolabel.io.polygons import mask_of
from astrolabel.label.records import Source
from astrolabel.label.refit import refit
from astrolabel.label.saved import Item, Peak, box_of, config_of, peak_of, saved_coadd
from astrolabel.review.edit import shape_of

APART_PX = 3.0
"""Peaks nearer than this to the one that is added are that one."""
SMOOTHING_PX = 1.0
"""Sigma of the smoothing before a label's own peak is looked for: noise has peaks too."""
MARGIN_PX = 40
"""Pixels around a label that are fitted with it: its wings and its neighbours'."""


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The pixels around a label, and the labels on them.

    Attributes
    ----------
    coadd : the cutout.
    box : where it lies in the image.
    image : the entry of the document.
    labels : those with their peak in the box.
    peaks : by the labels' ids.
    config : the recipe that the labels were made by.
    """

    coadd: Coadd
    box: Box
    image: Item
    labels: tuple[Item, ...]
    peaks: Mapping[Any, Peak]
    config: LabelConfig

    @classmethod
    def read(
        cls,
        document: coco.Document,
        image: Item,
        item: Item,
        annotations: Sequence[Item],
        folder: Path,
        others: Sequence[Item] = (),
    ) -> Neighbourhood:
        """The neighbourhood of a label, and of `others` that are fitted with it.

        Raises
        ------
        InputError
            When the image has no float cube, or it cannot be read.
        """
        frame = Box.of_shape(shape_of(image))
        box = box_of(item)
        for other in others:
            box |= box_of(other)
        box = box.expanded(MARGIN_PX) & frame
        coadd = saved_coadd(image, folder, box)
        wcs = wcs_of(image)
        labels, peaks = [], {}
        for one in [item, *others, *annotations]:
            near = one["image_id"] == image["id"] and not one.get("iscrowd")
            if one["id"] in peaks or not near or not (box_of(one) & box).area:
                continue
            x, y = peak_of(one, wcs, coadd, box)
            if box.contains(y, x):
                labels.append(one)
                peaks[one["id"]] = (x, y)
        return cls(coadd, box, image, tuple(labels), peaks, config_of(document))

    def fit(
        self, peaks: Sequence[Peak], keep_models: bool = False
    ) -> list[tuple[Source, dict[str, Any]]]:
        """Fits of sources at these peaks, with their models where they are asked for."""
        at = np.array([(y - self.box.y0, x - self.box.x0) for x, y in peaks], float)
        return refit(self.coadd, at.reshape(-1, 2), self.config, keep_models)


def split(near: Neighbourhood, item: Item, peak: Peak) -> list[dict[str, Any]]:
    """The two labels of one, with another source at `peak`; both are of its class.

    Raises
    ------
    InputError
        When the peak is outside the pixels around the label, or a source of the two has no
        pixel above the mask's threshold.
    """
    if not near.box.contains(peak[1], peak[0]):
        raise InputError("the second peak is too far from the label")
    own = _other_peak(near, item, peak)
    others = [near.peaks[one["id"]] for one in near.labels if one["id"] != item["id"]]
    fitted = near.fit([own, peak, *others])[:2]
    return [
        _label(near, found, item if k == 0 else {**item, "id": None}, np.zeros(0, bool), k)
        for k, found in enumerate(fitted)
    ]


def _other_peak(near: Neighbourhood, item: Item, peak: Peak) -> Peak:
    """The brightest local maximum of a label's light that is not the given peak.

    The middle of the light, where the label is said to be, lies between its two sources.
    """
    light = ndimage.gaussian_filter(np.nan_to_num(near.coadd.image.sum(axis=0)), SMOOTHING_PX)
    pixels, box = mask_of(item["segmentation"], shape_of(near.image))
    inside = np.zeros(near.box.shape, bool)
    inside[box.slices_in(near.box)] = pixels
    rows, columns = np.indices(near.box.shape)
    far = np.hypot(rows + near.box.y0 - peak[1], columns + near.box.x0 - peak[0]) >= APART_PX
    top = inside & far & (light == ndimage.maximum_filter(light, 3))
    if not top.any():
        raise InputError(
            f"the label has no peak {APART_PX:g} pixels or more from the one given",
            remedy="choose another place",
        )
    y, x = np.unravel_index(int(np.where(top, light, -np.inf).argmax()), light.shape)
    return float(x + near.box.x0), float(y + near.box.y0)


def merge(near: Neighbourhood, item: Item, rest: Sequence[Item]) -> dict[str, Any]:
    """One label of several: one source at the brightest peak, with the pixels of them all.

    Raises
    ------
    InputError
        When that source has no pixel above the mask's threshold.
    """
    shape = shape_of(near.image)
    joined = np.zeros(near.box.shape, bool)
    members = [item, *rest]
    for one in members:
        pixels, box = mask_of(one["segmentation"], shape)
        joined[box.slices_in(near.box)] |= pixels
    light = near.coadd.image.sum(axis=0)
    peaks = [near.peaks[one["id"]] for one in members if one["id"] in near.peaks]
    if not peaks:
        raise InputError("no peak of these labels is in the image")

    def height(peak: Peak) -> float:
        y, x = round(peak[1]) - near.box.y0, round(peak[0]) - near.box.x0
        return float(np.nan_to_num(light[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]).max())

    ids = {one["id"] for one in members}
    others = [near.peaks[one["id"]] for one in near.labels if one["id"] not in ids]
    fitted = near.fit([max(peaks, key=height), *others])
    return _label(near, fitted[0], item, joined, 0)


def _label(
    near: Neighbourhood, found: tuple[Source, dict[str, Any]], item: Item, also: Any, k: int
) -> dict[str, Any]:
    """The annotation of a fit; class and catalog's match are those of `item`, if it has an id."""
    source, attributes = found
    if source.mask is None:
        which = "the second peak" if k else "the label's own peak"
        raise InputError(
            f"the fit finds no source at {which} ({source.state.partition(':')[2]})",
            remedy="choose another place, or reject the label",
        )
    whole = np.zeros(near.box.shape, bool) if not also.size else also.copy()
    whole[source.mask.box.slices] |= source.mask.pixels
    if item.get("id") is not None:
        attributes |= {
            name: (item.get("attributes") or {}).get(name) for name in ("object_id", "class_source")
        }
    made = coco.annotation(
        mask=whole, box=near.box, image_shape=shape_of(near.image),
        category_id=item["category_id"], attributes=coco.plain(attributes),
    )  # fmt: skip
    return {**made, "id": item.get("id"), "image_id": near.image["id"]}
