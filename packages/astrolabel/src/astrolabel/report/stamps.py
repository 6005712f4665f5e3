"""Pictures for the report: labels as cutouts beside what their model left, and whole tiles."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io.colours import IGNORED, colours
from astrolabel.io.pictures import channels, read_rgb, upright
from astrolabel.report.examples import Mask, Stamp
from astrolabel.report.labels import Labels
from astrolabel.report.preview import draw_outlines
from astrolabel.report.residuals import residual_of

LEAST_SIDE = 36
"""Pixels a cutout has at least: five times the median source."""
SHOWN_SIDE = 144
"""Side of a cutout on the page; small ones are enlarged a whole number of times."""
TILE_SIDE = 500
RESIDUAL_SIGMA = 5.0
"""Residual of the full colour, red above and blue below the model."""
JPEG_QUALITY = 88
"""Noise and one-pixel outlines stay clean at a third of PNG's size."""
SUBJECT = "#ffffff"
TRUTH = "#ff5cff"


def draw(labels: Labels, stamp: Stamp) -> str:
    """The cutout as a data URI: picture with outlines, and the residual where there is one.

    Raises
    ------
    InputError
        When the image or a mask cannot be read.
    """
    entry = labels.images[stamp.image]
    window = _window(stamp.box, (entry["height"], entry["width"]))
    scale = max(SHOWN_SIDE // window.height, 1)
    picture = _enlarged(_picture(labels, stamp.image)[window.slices], scale)
    by_category = {k: channels(c) for k, c in colours(labels.categories).items()}
    subject = None if stamp.row is None else labels.mask(stamp.row)
    for row in labels.by_image[stamp.image]:
        x, y, width, height = (int(v) for v in labels.boxes[row])
        if (Box(y, x, height, width) & window).area and row != stamp.row:
            grey = labels.ignored[row]
            colour = by_category.get(int(labels.category[row]), channels(IGNORED))
            _outline(picture, labels.mask(int(row)), window, scale,
                     channels(IGNORED) if grey else colour)  # fmt: skip
    panels = [picture]
    chi = residual_of(labels, stamp.image)
    if chi is not None:
        panels.append(_enlarged(residual_colours(chi[window.slices]), scale))
    for n, panel in enumerate(panels):
        if stamp.truth is not None:
            _outline(panel, stamp.truth, window, scale, channels(TRUTH))
        if subject is not None:
            _outline(panel, subject, window, scale, channels(SUBJECT if n == 0 else "#000000"))
    gap = np.full((panels[0].shape[0], 2 * scale, 3), 255, np.uint8)
    joined = [panels[0]] + [part for panel in panels[1:] for part in (gap, panel)]
    return encode(upright(np.concatenate(joined, axis=1), entry), 2 * SHOWN_SIDE * 2)


def _window(box: Box, shape: tuple[int, int]) -> Box:
    """A square around a box, inside the image; smaller than square where the image is."""
    side = max(LEAST_SIDE, round(1.5 * max(box.height, box.width)))
    height, width = min(side, shape[0]), min(side, shape[1])
    y0 = min(max((box.y0 + box.y1 - height) // 2, 0), shape[0] - height)
    x0 = min(max((box.x0 + box.x1 - width) // 2, 0), shape[1] - width)
    return Box(y0, x0, height, width)


def _enlarged(picture: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture.repeat(scale, axis=0).repeat(scale, axis=1))


def _outline(
    canvas: NDArray[np.uint8], mask: Mask, window: Box, scale: int, colour: tuple[int, int, int]
) -> None:
    """Colour the innermost pixels of a mask's edge on an enlarged window."""
    pixels, box = mask
    inside = box & window
    if not inside.area:
        return
    large = np.pad(_enlarged_mask(pixels, scale), 1)
    edge = (large & ~ndimage.binary_erosion(large))[1:-1, 1:-1]
    y, x = inside.y0 - box.y0, inside.x0 - box.x0
    part = edge[y * scale : (y + inside.height) * scale, x * scale : (x + inside.width) * scale]
    y, x = inside.y0 - window.y0, inside.x0 - window.x0
    canvas[y * scale : (y + inside.height) * scale, x * scale : (x + inside.width) * scale][
        part
    ] = colour


def _enlarged_mask(pixels: NDArray[np.bool_], scale: int) -> NDArray[np.bool_]:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def residual_colours(chi: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3): white where the model is right, red above it, blue below, grey unknown."""
    part = np.clip(np.nan_to_num(chi) / RESIDUAL_SIGMA, -1, 1)
    ends = np.where(part[..., None] > 0, (178, 24, 43), (33, 102, 172))
    colour = 255 + np.abs(part)[..., None] * (ends - 255.0)
    colour[~np.isfinite(chi)] = 160
    return np.asarray(np.rint(colour), np.uint8)


def tile_pictures(labels: Labels, index: int) -> tuple[str, str]:
    """A tile with its outlines and its residual, each as a data URI.

    The residual is averaged over blocks and scaled to the noise of their means, so that
    noise stays noise and what is large and faint shows.
    """
    items = [
        {
            "segmentation": _rle(labels, int(row)),
            "category_id": int(labels.category[row]),
            "iscrowd": int(labels.ignored[row]),
        }
        for row in labels.by_image[index]
    ]
    picture = _picture(labels, index)
    scale = max(TILE_SIDE // max(picture.shape[:2]), 1)
    entry = labels.images[index]
    outlined = upright(draw_outlines(picture, items, labels.categories, scale), entry)
    chi = residual_of(labels, index)
    if chi is None:
        return encode(outlined, TILE_SIDE), ""
    left = _enlarged(residual_colours(rebin(chi, -(-max(chi.shape) // TILE_SIDE))), scale)
    return encode(outlined, TILE_SIDE), encode(upright(left, entry), TILE_SIDE)


def rebin(chi: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Means over blocks in sigma of such a mean; the last rows and columns may be cut off."""
    if block == 1:
        return chi
    height, width = (n // block * block for n in chi.shape)
    parts = chi[:height, :width].reshape(height // block, block, width // block, block)
    known = np.isfinite(parts).sum(axis=(1, 3))
    total = np.nansum(parts, axis=(1, 3))
    return np.where(known > 0, total / np.sqrt(np.maximum(known, 1)), np.nan).astype(np.float32)


def _rle(labels: Labels, row: int) -> object:
    segmentation, image = labels.segmentations[row], labels.images[int(labels.image[row])]
    if isinstance(segmentation, str):
        return {"size": [image["height"], image["width"]], "counts": segmentation}
    return segmentation


def _picture(labels: Labels, index: int) -> NDArray[np.uint8]:
    entry = labels.images[index]
    path = labels.path.parent / entry["file_name"]
    picture = read_rgb(path, "give the folder of the images: --images DIR")
    if picture.shape[:2] != (entry["height"], entry["width"]):
        raise InputError(
            f"the image is of {picture.shape[1]}x{picture.shape[0]} pixels, in the document of "
            f"{entry['width']}x{entry['height']}",
            file=path,
            remedy="keep the document's own PNG files beside it",
        )
    return picture


def encode(picture: NDArray[np.uint8], longest: int) -> str:
    """A picture as a JPEG data URI, shrunk where its longer side is longer."""
    made = Image.fromarray(picture)
    made.thumbnail((longest, longest))
    stream = io.BytesIO()
    made.save(stream, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
