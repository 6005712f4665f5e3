"""The annotations of a document as an astropy table with units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, QTable
from numpy.typing import NDArray

from astrolabel.io.coco import Document
from astrolabel.io.column_meaning import meaning_of
from astrolabel.io.frames import Frame
from astrolabel.io.polygons import mask_of

AB_ZEROPOINT_NJY = 31.4
"""AB magnitude of one nanojansky."""
ELSEWHERE = {"x", "y", "ra", "dec"}
Place = tuple[str, Mapping[str, Any], tuple[int, int]]
"""Of an annotation: its coadd, its image's entry, the image's (y, x) in the coadd."""


def label_table(document: Document, frames: Mapping[str, Frame]) -> QTable:
    """One row an annotation, in the document's order.

    Parameters
    ----------
    frames : the coadds of the document's images (see `astrolabel.io.frames`).

    Returns
    -------
    QTable
        What and where each label is, then the annotations' attributes: magnitudes in AB, fluxes
        in nJy (in counts where a zero point is unknown), lists as text. ``bbox_*`` are edges of the
        mask's box in the coadd, pixels. ``info.description``, and ``info.meta["ucd"]``, say
        what each column is (see `io.column_meaning`).
    """
    items = document["annotations"]
    place = {
        image["id"]: (frame.name, image, offset)
        for frame in frames.values()
        for image, offset in zip(frame.images, frame.offsets, strict=True)
    }
    names = {c["id"]: c["name"] for c in document["categories"]}
    at = [place[item["image_id"]] for item in items]
    offsets = np.array([offset for *_, offset in at], float).reshape(-1, 2)
    centres = np.array([_centre(a, image) for a, (_, image, _) in zip(items, at, strict=True)])
    centres = centres.reshape(-1, 2) + offsets
    boxes = np.array([item["bbox"] for item in items], float).reshape(-1, 4)
    attributes = [item.get("attributes") or {} for item in items]

    def numbers(key: str) -> NDArray[np.float64]:
        return np.array([_number(a.get(key)) for a in attributes], np.float64)

    table = QTable()
    table["id"] = np.array([item["id"] for item in items], np.int64)
    table["coadd"] = _text([name for name, *_ in at])
    table["image"] = _text([image["file_name"] for _, image, _ in at])
    table["class"] = _text([names.get(item["category_id"], "") for item in items])
    table["ra"], table["dec"] = numbers("ra") * u.deg, numbers("dec") * u.deg
    table["x"], table["y"] = centres[:, 1] * u.pix, centres[:, 0] * u.pix
    table["area"] = np.array([item["area"] for item in items], float) * u.pix**2
    table["ignore"] = np.array([bool(item.get("iscrowd", 0)) for item in items], bool)
    for k, name in enumerate(("bbox_x", "bbox_y", "bbox_width", "bbox_height")):
        shift = offsets[:, 1 - k] if k < 2 else 0
        table[name] = (boxes[:, k] + shift) * u.pix
    for key in dict.fromkeys(key for a in attributes for key in a):
        if key not in ELSEWHERE:
            table[key] = _column(key, [a.get(key) for a in attributes], at)
    for name in table.colnames:
        meaning = meaning_of(name)
        if meaning.description:
            table[name].info.description = meaning.description
        if meaning.ucd:
            table[name].info.meta = {"ucd": meaning.ucd}
    return table


def _column(key: str, values: Sequence[Any], at: Sequence[Place]) -> Any:
    """One attribute as a column, with its unit."""
    known = [v for v in values if v is not None]
    unit, is_flux = meaning_of(key).unit, key.startswith("flux_")
    if known and all(type(v) is bool for v in values):
        return np.array(values, bool)
    if known and all(type(v) is int for v in values):
        return np.array(values, np.int64)
    if not all(isinstance(v, int | float) for v in known) or (not known and unit is None):
        text = [",".join(map(str, v)) if isinstance(v, list) else str(v or "") for v in values]
        return MaskedColumn(text, mask=[v is None for v in values]) if values else _text(text)
    array = np.array([_number(v) for v in values], np.float64)
    if not is_flux:
        return array if unit is None else array * unit
    band = key.removeprefix("flux_").removeprefix("err_")
    scale = _njy_per_count([image for _, image, _ in at], band)
    return array * u.ct if scale is None else array * scale * u.nJy


def _njy_per_count(images: Sequence[Mapping[str, Any]], band: str) -> NDArray[np.float64] | None:
    """nJy of one count in each image; None where one is unknown."""
    points = []
    for image in images:
        astro = image.get("astro") or {}
        bands, zeropoints = astro.get("bands") or [], astro.get("zeropoint") or []
        points.append(_number(zeropoints[bands.index(band)]) if band in bands else np.nan)
    found = np.array(points, np.float64)
    return 10 ** (-0.4 * (found - AB_ZEROPOINT_NJY)) if np.isfinite(found).all() else None


def _centre(item: Mapping[str, Any], image: Mapping[str, Any]) -> tuple[float, float]:
    """(y, x) of a label in its image: the attributes', else the middle of its mask's pixels."""
    attributes = item.get("attributes") or {}
    if attributes.get("x") is not None and attributes.get("y") is not None:
        return float(attributes["y"]), float(attributes["x"])
    mask, box = mask_of(item["segmentation"], (image["height"], image["width"]))
    rows, columns = np.nonzero(mask)
    return box.y0 + float(rows.mean()), box.x0 + float(columns.mean())


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _text(values: Sequence[str]) -> Column:
    return Column(np.array(values, dtype=str if values else "U1"))
