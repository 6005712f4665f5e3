"""Polygons of masks, and masks of polygons, without losing a pixel.

A polygon can mean two things. Along the *edges* of the pixels it encloses them: that is how
COCO and Detectron2 fill polygons, and what is written here. OpenCV's contours, of which
DeepDISC's records are made, run through the *centres* of the border pixels instead: filled
as COCO does, they enclose 0.90 of the area (measured on its published HSC records).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.io.rle import Rle, decode_inside, encode, measure, runs

LARGEST = 1e15
"""Of a coordinate that is looked at, px."""


def outlines(rle: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """Outer outlines of an RLE mask along the edges of its pixels.

    Returns
    -------
    list of (N, 2) float64 : (x, y), with pixel centres at whole numbers from 0; one per
        piece that shares no pixel side with another, largest first. Holes are left out,
        which a ds9 polygon cannot have.

    Raises
    ------
    ValueError
        When the RLE is faulty.
    """
    pieces = sorted(shapely.get_parts(shape_of(rle)), key=lambda p: -p.area)
    return [shapely.get_coordinates(shapely.simplify(p, 0).exterior)[:-1] for p in pieces]


def shape_of(rle: Mapping[str, Any]) -> Any:
    """The pixels of an RLE mask as one shape of shapely, holes included.

    Pixel centres are at whole numbers from 0. An empty mask is an empty shape.

    Raises
    ------
    ValueError
        When the RLE is faulty.
    """
    lengths = runs(dict(rle))
    height = int(rle["size"][0])
    stops = np.cumsum(lengths)
    first, last = (stops - lengths)[1::2], stops[1::2]
    boxes = []
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        while start < stop:  # a run may continue in the next column
            column, row = divmod(start, height)
            length = min(stop - start, height - row)
            boxes.append((column - 0.5, row - 0.5, column + 0.5, row + length - 0.5))
            start += length
    if not boxes:
        return shapely.MultiPolygon()
    # Boxes side by side have no common corner points where their runs differ in length;
    # a grid of half pixels makes the union exact all the same.
    return shapely.union_all(shapely.box(*np.array(boxes).T), grid_size=0.5)


def check_polygons(polygons: Any, shape: tuple[int, int], beyond: float = 0.5) -> None:
    """Refuse polygons that pycocotools would lay out pixel by pixel, however far they go.

    Parameters
    ----------
    beyond : how far points may lie outside of the image, in image sides: annotators draw over
        borders, but not farther than half an image.

    Raises
    ------
    ValueError
        For what is no list of finite points, and for points far outside of the image.
    """
    for polygon in polygons:
        sound = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        # A whole number may be too large for a float, which comparing it is not.
        if not sound or not all(type(v) in (int, float) and abs(v) < LARGEST for v in polygon):
            raise ValueError("a polygon is not a list of three or more finite points x, y")
        points = np.asarray(polygon, float).reshape(-1, 2) / shape[::-1]
        if points.min() < -beyond or points.max() > 1 + beyond:
            raise ValueError(f"a polygon leaves its image of {shape[0]}x{shape[1]} pixels")


def rle_of(segmentation: Any, shape: tuple[int, int]) -> Rle:
    """A COCO segmentation (RLE or polygons) as the RLE of an image of `shape`.

    Raises
    ------
    ValueError
        When it cannot be decoded or is of another image's size.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            raise ValueError("a list of no polygons")
        check_polygons(segmentation, shape)
        merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, *shape))
        segmentation = {"size": list(shape), "counts": merged["counts"].decode("ascii")}
    if tuple(segmentation["size"]) != shape:
        raise ValueError(f"RLE of size {segmentation['size']} in an image of {list(shape)}")
    return dict(segmentation)


def mask_of(segmentation: Any, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], Box]:
    """The pixels of a COCO segmentation (RLE or polygons) in its tight box, and the box.

    Raises
    ------
    ValueError
        When it cannot be decoded or is of another image's size.
    """
    segmentation = rle_of(segmentation, shape)
    _, (x, y, width, height) = measure(segmentation)
    box = Box(y, x, height, width)
    return decode_inside(segmentation, box), box


def edge_polygons(mask: NDArray[np.bool_], box: Box) -> list[list[float]]:
    """Polygons along the pixels' edges that together hold a mask's pixels and no others.

    Parameters
    ----------
    mask : (h, w) bool, the shape of `box`.
    box : where it lies.

    Returns
    -------
    list of [x, y, x, y, ...] : the left upper corner of pixel (0, 0) is (0, 0). A polygon
        has no holes, so that a piece with a hole is cut in two through it.
    """
    pieces, count = ndimage.label(mask)  # by their sides: corners alone do not join
    found = []
    for k in range(1, count + 1):
        piece = pieces == k
        holes = ndimage.binary_fill_holes(piece) & ~piece
        if holes.any():
            cut = int(np.flatnonzero(holes.any(axis=0))[0]) + 1
            left, right = piece.copy(), piece.copy()
            left[:, cut:] = False
            right[:, :cut] = False
            found += edge_polygons(left, box) + edge_polygons(right, box)
            continue
        rle = encode(piece, Box(0, 0, *piece.shape), piece.shape)
        for ring in outlines(rle):
            corners = ring + 0.5 + np.array([box.x0, box.y0])
            found.append(corners.ravel().tolist())
    return found


def fill_contours(
    contours: Sequence[Sequence[float]], shape: tuple[int, int]
) -> tuple[NDArray[np.bool_], Box]:
    """The mask whose contours OpenCV would have traced through its border pixels' centres.

    Contours of holes run the other way round, and are left open: OpenCV's own drawing, and
    everyone who takes them for outlines, fills them.

    Parameters
    ----------
    contours : [x, y, x, y, ...] each, whole numbers: pixel (0, 0) has its centre at (0, 0).
    shape : (H, W) of the image; what is outside is cut off.

    Returns
    -------
    (mask, box) : tight around the contours, inside the image; perhaps of area 0.
    """
    rings = [np.rint(np.asarray(c, float)).astype(int).reshape(-1, 2) for c in contours]
    rings = [ring for ring in rings if len(ring)]
    if not rings:
        return np.zeros((0, 0), bool), Box(0, 0, 0, 0)
    points = np.concatenate(rings)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    full = Box.from_corners(int(y0), int(x0), int(y1) + 1, int(x1) + 1)
    out = np.zeros(full.shape, bool)
    areas = [_signed_area(ring) for ring in rings]
    for k in sorted(range(len(rings)), key=lambda k: -abs(areas[k])):
        ring = rings[k] - np.array([full.x0, full.y0])
        border, filled = _drawn(ring, full.shape, False), _drawn(ring, full.shape, True)
        # Outer contours have negative areas with y downwards. One the other way round that
        # lies on no mask is an outer contour of another program.
        if areas[k] > 0 and out[border].all():
            out &= ~filled | border
        else:
            out |= filled
    box = full & Box.of_shape(shape)
    return (out[box.slices_in(full)] if box.area else np.zeros((0, 0), bool)), box


def _signed_area(ring: NDArray[np.int64]) -> float:
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _drawn(ring: NDArray[np.int64], shape: tuple[int, int], fill: bool) -> NDArray[np.bool_]:
    """Pixels on the lines between the points and, filled, those inside of them."""
    picture = Image.new("1", shape[::-1])
    points = [(int(x), int(y)) for x, y in ring]
    if fill and len(points) > 2:
        ImageDraw.Draw(picture).polygon(points, fill=1, outline=1)
    ImageDraw.Draw(picture).line([*points, points[0]], fill=1)
    return np.array(picture)
