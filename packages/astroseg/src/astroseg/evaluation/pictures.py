"""Pictures of tiles with outlines of truth and detections, for the evaluation's page."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight
from astroseg.data.images import is_eight_bit_picture, read_pixels, rows_upwards
from astroseg.data.sky_picture import sky_picture
from astroseg.evaluation.metrics.matching import Pairs
from astroseg.evaluation.metrics.objects import EvaluationSet, Image, Objects

LineStyle = str | tuple[float, tuple[float, ...]]
"""A name of matplotlib's or an offset and lengths of dashes and gaps."""

CLASS_COLOURS = ("#35c9ff", "#ffd43b", "#b197fc", "#63e6be", "#ffa94d", "#f783ac")
"""Of outlines on dark images, by class; reused from the start beyond six."""

WRONG = "#ff2bd6"
"""Of missed truths and false detections: magenta, for many sources are red and none is this."""


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, in pixels: [x0, x1) and [y0, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int

    def holds(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) bool, which XYWH boxes touch it."""
        x, y, w, h = boxes.T
        return (x < self.x1) & (x + w > self.x0) & (y < self.y1) & (y + h > self.y0)


def whole(image: Image) -> Window:
    """The window that is all of an image."""
    return Window(0, 0, image.width, image.height)


def around(image: Image, box: NDArray[np.float64], least: int = 48) -> Window:
    """A square window, three times a box's size and at least `least` pixels, in the image."""
    side = int(max(3 * box[2], 3 * box[3], least))
    x0, y0 = (int(box[k] + box[k + 2] / 2 - side / 2) for k in (0, 1))
    x0 = max(min(x0, image.width - side), 0)
    y0 = max(min(y0, image.height - side), 0)
    return Window(x0, y0, min(x0 + side, image.width), min(y0 + side, image.height))


def densest(image: Image, points: NDArray[np.float64], side: int = 512) -> Window:
    """The window of at most `side` pixels that holds most of (N, 2) points x, y.

    512: outlines of sources of ten pixels are still distinct on a page.
    """
    if max(image.width, image.height) <= side:
        return whole(image)
    width, height = min(side, image.width), min(side, image.height)
    windows = [
        Window(x, y, x + width, y + height)
        for y in _starts(image.height, height)
        for x in _starts(image.width, width)
    ]
    held = [
        int(
            (
                (points[:, 0] >= w.x0)
                & (points[:, 0] < w.x1)
                & (points[:, 1] >= w.y0)
                & (points[:, 1] < w.y1)
            ).sum()
        )
        for w in windows
    ]
    return windows[int(np.argmax(held))]


def _starts(length: int, side: int) -> list[int]:
    return [*range(0, length - side, side // 4), length - side]


def picture(image: Image, folder: pathlib.Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 of an image: its picture file, else made from its FITS cube.

    None where neither can be opened or has the image's size: the page then shows outlines
    alone, which is still of use.
    """
    for name in (image.file_name, image.astro.get("cube")):
        if not name:
            continue
        path = folder / name
        try:
            pixels = read_pixels([path], (image.height, image.width)).whole()
        except InputError:  # missing, broken or of another size: not a reason for no page
            continue
        return _rgb(pixels, is_eight_bit_picture(path))
    return None


def _rgb(planes: NDArray[np.float32], ready: bool) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of (C, H, W): pictures as they are, fluxes from blue to red."""
    if ready:
        pick = planes[:3] if len(planes) >= 3 else planes[[0, 0, 0]]
        return np.clip(pick, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return sky_picture(planes)


def show(axes: Axes, image: Image, rgb: NDArray[np.uint8] | None, window: Window) -> None:
    """Draw a window of an image's picture (or grey where there is none), the sky upwards."""
    extent = (window.x0, window.x1, window.y0, window.y1)
    if rgb is None:
        axes.set_facecolor("#202428")
    else:
        part = rgb[window.y0 : window.y1, window.x0 : window.x1]
        axes.imshow(part, origin="lower", extent=extent, interpolation="nearest")
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:] if _upwards(image) else extent[:1:-1])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _upwards(image: Image) -> bool:
    names = image.astro.get("cube") or image.astro.get("files") or image.file_name
    files = [names] if isinstance(names, str) else names
    return rows_upwards([pathlib.Path(name) for name in files], image.astro.get("wcs"))


def outline(
    axes: Axes,
    objects: Objects,
    rows: Sequence[int] | NDArray[np.int64],
    colours: Sequence[str],
    *,
    width: float = 1.0,
    style: LineStyle = "-",
) -> None:
    """Draw the masks' exact edges (boxes where there are no masks) of some objects."""
    for colour in sorted(set(colours)):
        points = np.concatenate(
            [
                edges(objects, int(row)).reshape(-1, 2)
                for row, mine in zip(rows, colours, strict=True)
                if mine == colour
            ]
        )
        # One path for all: a thousand outlines as a path each take seconds to draw.
        codes = np.tile([Path.MOVETO, Path.LINETO], len(points) // 2)
        axes.add_patch(
            PathPatch(
                Path(points, codes),
                fill=False,
                edgecolor=colour,
                linewidth=width,
                linestyle=style,
                capstyle="round",
            )
        )


def edges(objects: Objects, row: int) -> NDArray[np.float64]:
    """(S, 2, 2) segments between set and unset pixels, x and y in pixel edges."""
    if objects.masks is None:
        x, y, w, h = objects.boxes[row]
        corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]])
        return np.stack([corners[:-1], corners[1:]], axis=1)
    bitmap, (y0, x0) = decode_tight(objects.masks[row])
    padded = np.pad(bitmap, 1).astype(np.int8)
    r, c = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    level = np.stack([np.stack([c, r], 1), np.stack([c + 1, r], 1)], axis=1)
    r, c = np.nonzero(np.diff(padded, axis=1)[1:-1])
    upright = np.stack([np.stack([c, r], 1), np.stack([c, r + 1], 1)], axis=1)
    return np.concatenate([level, upright]).astype(np.float64) + np.array([x0, y0])


def draw_truth(
    axes: Axes, data: EvaluationSet, pairs: Pairs, image: int, window: Window, width: float = 1.0
) -> None:
    """Outline an image's truths in their class's colour, those nothing found in magenta."""
    _draw(axes, data.truth, ~data.truth.ignored, pairs.missed, image, window, width)
    regions = data.truth.ignored & (data.truth.image == image) & window.holds(data.truth.boxes)
    rows = np.flatnonzero(regions)
    outline(axes, data.truth, rows, ["#adb5bd"] * len(rows), width=width, style=":")


def draw_detections(
    axes: Axes, data: EvaluationSet, pairs: Pairs, image: int, window: Window, width: float = 1.0
) -> None:
    """Outline an image's detections in the class given, those of nothing in magenta."""
    _draw(axes, data.detections, ~pairs.below, pairs.spurious, image, window, width)


def _draw(
    axes: Axes,
    objects: Objects,
    shown: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    image: int,
    window: Window,
    width: float,
) -> None:
    rows = np.flatnonzero(shown & (objects.image == image) & window.holds(objects.boxes))
    colours = [
        WRONG if wrong[row] else CLASS_COLOURS[objects.label[row] % len(CLASS_COLOURS)]
        for row in rows
    ]
    outline(axes, objects, rows, colours, width=width)
