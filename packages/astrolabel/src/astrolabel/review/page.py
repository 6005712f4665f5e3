"""One page that shows a label file: the sky, every outline, and what is known of each label."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.colours import colours
from astrolabel.io.frames import Frame, frames_of, place_in_frames
from astrolabel.io.polygons import mask_of, outlines, rle_of
from astrolabel.io.residual_image import read_residual

JPEG_QUALITY = 90
MIN_SCORE = 0.3
"""Predictions below this score are left out: they are most, and mean least."""
RESIDUAL_SIGMA = 5.0
"""Residuals are full colour at this many sigma."""


def write_review(
    path: Path, out: Path, images: Path | None = None, predictions: Path | None = None
) -> Path:
    """Write the page of a label file, which holds all that it shows; the page.

    Parameters
    ----------
    path : a COCO file of any program.
    out : the page.
    images : folder of the images; found beside the file where None.
    predictions : COCO results, or a COCO document, on the same images.

    Raises
    ------
    InputError
        When a file cannot be read, or holds masks that cannot be decoded.
    OutputError
        When the page cannot be written.
    """
    document = viewable(coco.read(path), path, images)
    found = [] if predictions is None else _predictions(predictions, document)
    try:
        data = _data(document, path, found)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot be drawn ({error})", file=path, remedy=f"see `astrolabel validate {path}`"
        ) from error
    text = json.dumps(coco.plain(data), separators=(",", ":")).replace("</", "<\\/")
    template = resources.files("astrolabel.review").joinpath("page.html").read_text("utf-8")
    write_bytes(out, template.replace('"DATA"', text).encode("utf-8"))
    return out


def _predictions(path: Path, document: coco.Document) -> list[dict[str, Any]]:
    """Results, or the annotations of a document whose images have the same names."""
    read = coco.read_json(path)
    if isinstance(read, list):
        items = read
    else:
        images = coco.as_document(read, path)["images"]
        theirs = {i["id"]: Path(i["file_name"]).name for i in images}
        ours = {Path(i["file_name"]).name: i["id"] for i in document["images"]}
        items = [
            {**a, "image_id": ours.get(theirs.get(a["image_id"], ""), 0)}
            for a in read["annotations"]
        ]
    known = {image["id"] for image in document["images"]}
    return [
        {"score": 1.0, **item}
        for item in items
        if item.get("image_id") in known
        and item.get("segmentation")
        and (item.get("attributes") or {}).get("score", item.get("score", 1.0)) >= MIN_SCORE
    ]


def _data(
    document: coco.Document, path: Path, predictions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All that the page shows, as plain values."""
    frames = frames_of(document["images"])
    labels = place_in_frames(frames, document["annotations"])
    others = place_in_frames(frames, predictions)
    best = _best_iou(document, predictions)
    chi2 = _chi2(document, path.parent)
    tints = colours(document["categories"])
    categories = [
        {"id": c["id"], "name": str(c["name"]), "tint": tints[c["id"]]}
        for c in document["categories"]
    ]
    names = {image["id"]: str(image["file_name"]) for image in document["images"]}
    shown = []
    for name, frame in frames.items():
        upright = _upright(frame)
        items = []
        for one in labels[name]:
            item = one[0]
            extra = {"chi2": chi2.get(item["id"]), "iou": best.get(item["id"])}
            drawn = _outline(*one, frame, upright)
            attributes = {**(item.get("attributes") or {}), "area": item["area"]}
            items.append(
                {"id": item["id"], "cat": item["category_id"], "ignore": item.get("iscrowd", 0),
                 "image": names[item["image_id"]], **drawn, **extra, "attr": attributes}
            )  # fmt: skip
        shown.append(
            {
                "name": name,
                "width": frame.shape[1],
                "height": frame.shape[0],
                "upright": upright,
                "wcs": _tangent(frame),
                "tiles": _tiles(frame, path.parent, upright),
                "labels": items,
                "predictions": [
                    {"score": one[0]["score"], **_outline(*one, frame, upright)}
                    for one in others[name]
                ],
            }
        )
    return {"file": path.name, "categories": categories, "frames": shown}


def _upright(frame: Frame) -> bool:
    """Whether the first row goes to the bottom, as the sky is shown."""
    astro = frame.images[0].get("astro") or {}
    return bool(astro.get("wcs") or astro.get("cube"))


def _outline(
    item: Mapping[str, Any],
    shape: tuple[int, int],
    offset: tuple[int, int],
    frame: Frame,
    upright: bool,
) -> dict[str, Any]:
    """Rings of x and y in half pixels of the page's picture, and the box around them."""
    rings = []
    for ring in outlines(rle_of(item["segmentation"], shape)):
        points = ring + 0.5 + (offset[1], offset[0])
        if upright:
            points[:, 1] = frame.shape[0] - points[:, 1]
        rings.append(np.rint(2 * points).astype(int))
    every = np.concatenate(rings) if rings else np.zeros((1, 2), int)
    return {
        "rings": [ring.ravel().tolist() for ring in rings],
        "box": [*(every.min(0) / 2).tolist(), *(every.max(0) / 2).tolist()],
    }


def _tiles(frame: Frame, folder: Path, upright: bool) -> list[dict[str, Any]]:
    out = []
    for image, (dy, dx) in zip(frame.images, frame.offsets, strict=True):
        height = int(image["height"])
        residual = (image.get("astro") or {}).get("residual")
        out.append(
            {
                "x": dx,
                "y": frame.shape[0] - dy - height if upright else dy,
                "width": int(image["width"]),
                "height": height,
                "picture": _picture(folder / image["file_name"], upright),
                "residual": _residual(folder / residual, upright)
                if residual and (folder / residual).is_file()
                else None,
            }
        )
    return out


def _picture(path: Path, upright: bool) -> str:
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(
            f"the image cannot be opened ({error})", file=path, remedy="give --images DIR"
        ) from error
    return _uri(pixels, upright)


def _residual(path: Path, upright: bool) -> str:
    """Red: flux that no model explains; blue: models brighter than the image."""
    chi = np.nan_to_num(read_residual(path)) / RESIDUAL_SIGMA
    white = 1 - np.clip(np.abs(chi), 0, 1)
    rgb = np.stack([np.where(chi > 0, 1, white), white, np.where(chi < 0, 1, white)], axis=-1)
    return _uri((255 * rgb).astype(np.uint8), upright)


def _uri(pixels: NDArray[np.uint8], upright: bool) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[::-1] if upright else pixels)).save(
        stream, format="JPEG", quality=JPEG_QUALITY
    )
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _tangent(frame: Frame) -> dict[str, Any] | None:
    """Reference pixel (from 0), its ICRS degrees, and degrees a pixel, of a tangent plane."""
    wcs = frame.wcs
    if wcs is None or not str(wcs.wcs.ctype[0]).startswith("RA--"):
        return None
    return {
        "pixel": [float(v) - 1 for v in wcs.wcs.crpix],
        "sky": [float(v) for v in wcs.wcs.crval],
        "matrix": np.asarray(wcs.pixel_scale_matrix).tolist(),
    }


def _chi2(document: coco.Document, folder: Path) -> dict[int, float]:
    """Mean squared residual in each label's mask, sigma squared, where residuals are there."""
    found = {}
    for image in document["images"]:
        name = (image.get("astro") or {}).get("residual")
        if not name or not (folder / name).is_file():
            continue
        squared = read_residual(folder / name).astype(np.float64) ** 2
        for item in document["annotations"]:
            if item["image_id"] == image["id"]:
                mask, box = mask_of(item["segmentation"], squared.shape)
                values = squared[box.slices][mask]
                values = values[np.isfinite(values)]
                if values.size:
                    found[item["id"]] = round(float(values.mean()), 2)
    return found


def _best_iou(
    document: coco.Document, predictions: Sequence[Mapping[str, Any]]
) -> dict[int, float]:
    """Largest mask IoU of each label with a prediction on its image; empty without any."""
    found: dict[int, float] = {}
    if not predictions:
        return found
    for image in document["images"]:
        shape = (image["height"], image["width"])
        mine = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        theirs = [p for p in predictions if p["image_id"] == image["id"]]
        if not mine:
            continue
        iou = np.zeros((len(mine), 1))
        if theirs:
            ours, other = (
                [rle_of(a["segmentation"], shape) for a in group] for group in (mine, theirs)
            )
            iou = np.asarray(coco_mask.iou(ours, other, [0] * len(other)))
        found |= {
            a["id"]: round(float(best), 3) for a, best in zip(mine, iou.max(axis=1), strict=True)
        }
    return found
