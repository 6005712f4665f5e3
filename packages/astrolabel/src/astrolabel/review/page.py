"""One page that shows a label file: the sky, every outline, and what is known of each label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.colours import colours
from astrolabel.io.frames import Frame, frames_of
from astrolabel.io.residual_image import read_residual
from astrolabel.io.trace import trace
from astrolabel.review.columns import attribute_columns, pack
from astrolabel.review.layers import Layer, layer, places_of, read_layer
from astrolabel.review.pictures import RGB, Overview, picture, residual_picture, upright, uri
from astrolabel.review.values import (
    Columns,
    chi2_of,
    compared_with,
    doubt_columns,
    light_of,
)

SCRIPTS = ("store.js", "sky.js", "panel.js", "stamps.js", "corrections.js")
INDEX, PICTURES = "index.html", "pictures"


def write_review(
    path: Path,
    out: Path,
    images: Path | None = None,
    predictions: Path | None = None,
    truth: Path | None = None,
) -> Path:
    """Write the page of a label file, which needs no network and no server; the page.

    Parameters
    ----------
    path : a COCO file of any program.
    out : a folder, which gets ``index.html`` and the pictures; or a name that ends in
        ``.html`` for one file with the pictures in it.
    images : folder of the images; found beside the file where None.
    predictions : COCO results, or a COCO document, on the same images or the same sky.
    truth : a COCO document of the true sources, on the same images or the same sky.

    Raises
    ------
    InputError
        When a file cannot be read, or holds masks that cannot be decoded.
    OutputError
        When the page cannot be written.
    """
    document = viewable(coco.read(path), path, images)
    page, folder = (out, None) if out.suffix == ".html" else (out / INDEX, out)
    data = page_data(document, path, predictions, truth, folder)
    write_bytes(page, page_text(data).encode("utf-8"))
    return page


def page_text(data: Mapping[str, Any]) -> str:
    """The page, with its scripts and its data in it."""
    here = resources.files("astrolabel.review")
    text = json.dumps(coco.plain(data), separators=(",", ":")).replace("</", "<\\/")
    scripts = "".join(here.joinpath(name).read_text("utf-8") for name in SCRIPTS)
    page = here.joinpath("page.html").read_text("utf-8")
    return page.replace("/*STYLE*/", here.joinpath("page.css").read_text("utf-8")).replace(
        "/*SCRIPT*/", f'"use strict";\nconst D = {text};\n{scripts}'
    )


def page_data(
    document: coco.Document,
    path: Path,
    predictions: Path | None = None,
    truth: Path | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """All that the page shows, as plain values.

    Parameters
    ----------
    document : made ready by `io.any_coco.viewable`.
    path : its file; pictures are named from its folder.
    folder : where the page's pictures are written; they are in the values where None.

    Raises
    ------
    InputError
        When a file cannot be read, or holds masks that cannot be decoded.
    """
    frames = frames_of(document["images"])
    try:
        places = places_of(document, frames)
        labels = layer(document["annotations"], places)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot be drawn ({error})", file=path, remedy=f"see `astrolabel validate {path}`"
        ) from error
    names = {c["id"]: str(c["name"]) for c in document["categories"]}
    order = {name: n for n, name in enumerate(names.values())}
    tints = colours(document["categories"])
    residuals: dict[int, NDArray[np.float32]] = {}
    keep = _keeper(folder)
    shown = [
        _frame(name, frame, document, path.parent, residuals, keep)
        for name, frame in frames.items()
    ]
    extra: Columns = {"chi2": chi2_of(labels, residuals, places)}
    layers: dict[str, Any] = {}
    compared = []
    for kind, file in (("predictions", predictions), ("truth", truth)):
        if file is not None:
            other, theirs = read_layer(file, document, frames)
            one, columns, classes, about = compared_with(kind, labels, other, names, theirs, order)
            compared.append(one)
            extra |= columns
            layers[kind] = _packed(other, shown, classes, about)
    mine = np.array([order[names[i["category_id"]]] for i in labels.items], np.int16)
    ignored = np.array([bool(i.get("iscrowd")) for i in labels.items], bool)
    light = light_of(labels, document, places, path.parent)
    columns, texts = doubt_columns(light, mine, ignored, compared)
    packed = _packed(labels, shown, mine, extra | columns, texts)
    return {
        "file": path.name,
        "categories": [
            {"id": c["id"], "name": str(c["name"]), "tint": tints[c["id"]]}
            for c in document["categories"]
        ],
        "images": [
            {key: image[key] for key in ("file_name", "width", "height")}
            for image in document["images"]
        ],
        "frames": shown,
        "layers": {"labels": packed, **layers},
        # A browser keeps unsaved corrections by this, for files of one name may differ.
        "digest": hashlib.sha256(packed["data"].encode("ascii")).hexdigest()[:16],
    }


def _keeper(folder: Path | None) -> Callable[[RGB], str]:
    """What keeps a picture and gives its address.

    In a folder it is a script of one line, not a JPEG: a page that was opened from a disk may
    load scripts beside it, and may then read the picture's pixels.
    """
    if folder is None:
        return uri
    count = iter(range(1_000_000))

    def keep(pixels: RGB) -> str:
        name = f"{PICTURES}/{next(count)}.js"
        write_bytes(folder / name, f'arrived("{name}","{uri(pixels)}")'.encode("ascii"))
        return name

    return keep


def _frame(
    name: str,
    frame: Frame,
    document: coco.Document,
    folder: Path,
    residuals: dict[int, NDArray[np.float32]],
    keep: Callable[[RGB], str],
) -> dict[str, Any]:
    """A coadd with its pictures; its residuals are added to those by the index of an image."""
    flip = upright(frame)
    overview = Overview(frame.shape)
    index = {image["id"]: n for n, image in enumerate(document["images"])}
    tiles = []
    for image, (dy, dx) in zip(frame.images, frame.offsets, strict=True):
        pixels = picture(folder / image["file_name"], flip)
        y = frame.shape[0] - dy - int(image["height"]) if flip else dy
        overview.add(pixels, dx, y)
        residual = (image.get("astro") or {}).get("residual")
        chi = None
        if residual and (folder / residual).is_file():
            chi = residuals[index[image["id"]]] = read_residual(folder / residual)
        tiles.append(
            {
                "image": index[image["id"]],
                "x": dx,
                "y": y,
                "picture": keep(pixels),
                "residual": None if chi is None else keep(residual_picture(chi, flip)),
            }
        )
    bands = (frame.images[0].get("astro") or {}).get("bands") or []
    return {
        "name": name,
        "width": frame.shape[1],
        "height": frame.shape[0],
        "upright": flip,
        "wcs": _tangent(frame),
        "bands": bands if len(bands) == 3 else ["blue", "green", "red"],
        "overview": keep(overview.pixels) if len(tiles) > 1 else None,
        "tiles": tiles,
    }


def _packed(
    of: Layer,
    shown: Sequence[Mapping[str, Any]],
    classes: NDArray[np.int16],
    extra: Columns,
    more_texts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """A layer for the page: boxes and rings in pixels of the coadds as shown."""
    boxes = np.zeros((len(of), 4), np.int32)
    rings, points, n_rings, n_points = [0], [], [0], 0
    for n, (pixels, box) in enumerate(of.masks):
        frame = shown[of.frame[n]]
        flip = frame["upright"]
        y0 = frame["height"] - box.y1 if flip else box.y0
        boxes[n] = box.x0, y0, box.x1, y0 + box.height
        corners, starts = trace(pixels)
        if flip:
            corners[:, 1] = box.height - corners[:, 1]
        rings += (starts[1:] + n_points).tolist()
        n_points += len(corners)
        n_rings.append(n_rings[-1] + len(starts) - 1)
        points.append(corners.astype(np.int16))
    every = np.concatenate(points) if points else np.zeros((0, 2), np.int16)
    attributes, texts = attribute_columns([item.get("attributes") or {} for item in of.items])
    columns: Columns = {
        "id": np.array([item.get("id", n + 1) for n, item in enumerate(of.items)], np.int32),
        "cat": classes,
        "ignore": np.array([bool(item.get("iscrowd")) for item in of.items], np.uint8),
        "frame": of.frame,
        "image": of.image,
        "area": of.area.astype(np.int32),
        "box": boxes.ravel(),
        "rings_of": np.array(n_rings, np.int32),
        "rings": np.array(rings, np.int32),
        "points": every.ravel(),
        **attributes,
        **extra,
    }
    return {"n": len(of), **pack(columns, {**texts, **(more_texts or {})})}


def _tangent(frame: Frame) -> dict[str, Any] | None:
    """Reference pixel (from 0), its ICRS degrees, and degrees a pixel, of a tangent plane."""
    wcs = frame.wcs
    if wcs is None or not str(wcs.wcs.ctype[0]).startswith("RA--"):
        return None
    return {
        "pixel": [float(v) - 1 for v in wcs.wcs.crpix],
        "sky": [float(v) for v in wcs.wcs.crval],
        "matrix": np.asarray(wcs.pixel_scale_matrix, float).tolist(),
    }
