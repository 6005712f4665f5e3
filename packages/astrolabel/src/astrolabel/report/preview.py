"""Colour pictures of coadds, and of their labels as outlines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.io.any_coco import viewable
from astrolabel.io.coco import annotations_by_image, read, validate
from astrolabel.io.colours import IGNORED, colours
from astrolabel.io.pictures import channels, read_rgb, upright, write_png
from astrolabel.io.polygons import mask_of
from astrolabel.report.render import render

PICTURE_SIDE = 2100
"""Pictures with outlines are enlarged a whole number of times up to this side in pixels:
twice for tiles of 1050. The median source is 6.5 px wide, no more than its outline."""
LARGEST_SCALE = 8
THUMBNAIL_SIDE = 360


def draw_outlines(
    picture: NDArray[np.uint8],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    scale: int = 1,
) -> NDArray[np.uint8]:
    """A picture with the innermost pixels of each mask's edge coloured by class.

    Parameters
    ----------
    picture : (H, W, 3) uint8, left unchanged.
    annotations : COCO annotations of this image; ``iscrowd`` ones are dotted in grey.
    categories : COCO categories.
    scale : how many times the result is enlarged; the outlines stay one or two pixels wide.

    Returns
    -------
    (scale*H, scale*W, 3) uint8.

    Raises
    ------
    ValueError
        When a mask cannot be decoded.
    """
    height, width = picture.shape[:2]
    result = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    by_category = {key: channels(colour) for key, colour in colours(categories).items()}
    # Labels last, so that they are on top of ignore regions.
    for item in sorted(annotations, key=lambda item: -int(item.get("iscrowd", 0))):
        mask, box = mask_of(item["segmentation"], (height, width))
        if not mask.size:
            continue
        mask = np.pad(mask.repeat(scale, axis=0).repeat(scale, axis=1), 1)
        thickness = 2 if scale >= 4 else 1  # else too thin to see on a shrunken picture
        inner = ndimage.binary_erosion(mask, iterations=thickness)
        edge = (mask & ~inner)[1:-1, 1:-1]
        part = result[
            scale * box.y0 : scale * box.y1, scale * box.x0 : scale * box.x1
        ]  # a view: drawing on it draws on the result
        if item.get("iscrowd", 0):
            y, x = np.indices(edge.shape)
            part[edge & ((x + y) % 4 < 2)] = channels(IGNORED)
        else:
            part[edge] = by_category.get(item.get("category_id", 0), channels(IGNORED))
    return result


def preview(
    coco_path: str | Path, out: str | Path | None = None, images: str | Path | None = None
) -> list[Path]:
    """Draw the labels of a COCO document on its images.

    Parameters
    ----------
    coco_path : the document, of any program.
    out : folder of the pictures; ``preview`` beside the document where it is None.
    images : folder of its images; found beside it where None (see `io.any_coco`).

    Returns
    -------
    list of Path : ``<image>_labels.png`` for each image in the document's order, the sky
        `upright`, then ``index.html``, the page that shows them all.

    Raises
    ------
    InputError
        When the document or one of its images cannot be read; nothing is written then
        if an image is missing.
    OutputError
        When the pictures cannot be written.
    """
    coco_path = Path(coco_path)
    out = coco_path.parent / "preview" if out is None else Path(out)
    doc = viewable(read(coco_path), coco_path, None if images is None else Path(images))
    if problems := validate({**doc, "annotations": []}):
        raise InputError(str(problems[0]), file=coco_path, remedy=_validate_it(coco_path))
    for image in doc["images"]:
        if not (coco_path.parent / image["file_name"]).is_file():
            raise InputError(
                "the image is missing",
                file=coco_path.parent / image["file_name"],
                remedy="give the folder of the images: --images DIR",
            )
    by_image = annotations_by_image(doc)
    written, cards = [], []
    for image in doc["images"]:
        items = by_image[image["id"]]
        picture = _labelled(coco_path, image, items, doc["categories"])
        # Names in folders of the same name end differ by the folder.
        stem = str(Path(image["file_name"]).with_suffix("")).replace("../", "").replace("/", "_")
        path, thumbnail = out / f"{stem}_labels.png", out / "thumbnails" / f"{stem}.png"
        write_png(path, picture)
        write_png(thumbnail, _small(picture))
        written.append(path)
        cards.append(
            {
                "image": image,
                "picture": path.name,
                "thumbnail": thumbnail.name,
                "counts": _counts(items, doc["categories"]),
            }
        )
    page = out / "index.html"
    total = _counts(doc["annotations"], doc["categories"])
    text = render("preview.html.j2", name=coco_path.name, cards=cards, total=total)
    write_bytes(page, text.encode("utf-8"))
    return [*written, page]


def _labelled(
    coco_path: Path,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> NDArray[np.uint8]:
    path = coco_path.parent / image["file_name"]
    picture = read_rgb(path)
    scale = min(max(PICTURE_SIDE // max(picture.shape[:2]), 1), LARGEST_SCALE)
    try:
        return upright(draw_outlines(picture, annotations, categories, scale), image)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the labels of {image['file_name']} cannot be drawn ({error})",
            file=coco_path,
            remedy=_validate_it(coco_path),
        ) from error


def _validate_it(coco_path: Path) -> str:
    return f"see what `astrolabel validate {coco_path}` finds"


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = Image.fromarray(picture)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return np.asarray(small)


def _counts(
    annotations: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, int]]:
    """Name, colour and number of labels of each category, then of ignore regions."""
    number = Counter(a.get("category_id") for a in annotations if not a.get("iscrowd", 0))
    colour = colours(categories)
    result = [(str(c["name"]), colour[c["id"]], number[c["id"]]) for c in categories]
    if ignored := sum(1 for a in annotations if a.get("iscrowd", 0)):
        result.append(("ignored", IGNORED, ignored))
    return result
