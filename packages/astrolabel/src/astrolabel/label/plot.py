"""A coadd in colour with its labels as outlines, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from astrolabel.io.coco import Document
from astrolabel.io.colours import IGNORED, colours
from astrolabel.io.frames import Frame
from astrolabel.io.pictures import read_rgb
from astrolabel.io.polygons import outlines, rle_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_labels(
    document: Document, frame: Frame, folder: Path, ax: Axes | None, with_outlines: bool
) -> Axes:
    """See `astrolabel.Labels.plot`."""
    from matplotlib import pyplot
    from matplotlib.collections import PolyCollection

    if ax is None:
        _, ax = pyplot.subplots(figsize=(8, 8 * frame.shape[0] / frame.shape[1]))
    # The sky has its first row at the bottom, as DS9 shows it; photographs at the top.
    astro = frame.images[0].get("astro") or {}
    upright = bool(astro.get("wcs") or astro.get("cube"))
    height, width = frame.shape
    ax.imshow(picture(frame, folder), interpolation="nearest")
    by_class = colours(document["categories"])
    names = {c["id"]: c["name"] for c in document["categories"]}
    shapes: dict[str, list[NDArray[np.float64]]] = {}
    if with_outlines:
        shift = {
            image["id"]: (image, offset)
            for image, offset in zip(frame.images, frame.offsets, strict=True)
        }
        for item in document["annotations"]:
            image, (dy, dx) = shift[item["image_id"]]
            rle = rle_of(item["segmentation"], (image["height"], image["width"]))
            key = "ignored" if item.get("iscrowd") else names.get(item["category_id"], "")
            shapes.setdefault(key, []).extend(ring + np.array([dx, dy]) for ring in outlines(rle))
        tint = {name: by_class[key] for key, name in names.items()} | {"ignored": IGNORED}
        for name, rings in shapes.items():
            colour = tint.get(name, IGNORED)
            ax.add_collection(
                PolyCollection(rings, facecolors="none", edgecolors=colour, linewidths=0.8)
            )
            ax.plot([], [], color=colour, label=name)
        if shapes:
            ax.legend(loc="upper right", framealpha=0.8)
    ax.set(
        title=frame.name, xlabel="x (pixels)", ylabel="y (pixels)",
        xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5) if upright else (height - 0.5, -0.5),
    )  # fmt: skip
    return ax


def picture(frame: Frame, folder: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of the frame from the pictures of its tiles; black where one is missing."""
    out = np.zeros((*frame.shape, 3), np.uint8)
    for image, (dy, dx) in zip(frame.images, frame.offsets, strict=True):
        path = folder / image["file_name"]
        if path.is_file():
            part = read_rgb(path)
            out[dy : dy + part.shape[0], dx : dx + part.shape[1]] = part
    return out
