"""Segmentations in every spelling that labelling tools write, as compressed RLE.

Nothing reaches pycocotools unchecked: its C code takes all memory for a far coordinate and
reads beyond its buffers for counts that do not fill their image.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from astroseg.core.masks import from_counts
from astroseg.core.rle import encode_at

Shape = tuple[int, int]

FAR = 10
"""Sides of the image that a polygon may reach beyond it: more is degrees, metres or a broken
export, and costs memory in proportion."""

LONGEST = 2_000_000
"""px of outline: pycocotools takes 100 bytes for each."""

_BYTES = re.compile(r"b(?P<quote>['\"])(?P<counts>[^'\"]*)(?P=quote)")
"""Counts that were turned to text with Python's str() of bytes."""


FRACTIONS = "within 0 to 1 px, perhaps fractions of the image's sides"


class LeftOut(Exception):
    """A segmentation without a use, which says why."""


AS_CONTOURS = (
    "polygons of whole numbers are read as contours through the centres of border pixels, as "
    'DeepDISC writes them; where they are edges, give the records "astrolabel": '
    '{"polygons": "edges"}'
)


def compressed(
    segmentation: Any, shape: Shape, mended: Counter[str], *, contours: Counter[str] | None = None
) -> str | bytes:
    """Counts of the mask of polygons or RLE.

    Compressed counts are passed on as they are, for `astroseg.core.masks.from_counts` to
    check.

    Parameters
    ----------
    segmentation : RLE, compressed or not, or a list of RLEs; polygons as lists of x, y, x, y, of
        points [x, y], of OpenCV's points [[x, y]], of objects {x, y}, or of {all_points_x,
        all_points_y}; one polygon without its list; any of it as JSON in a text.
    shape : (H, W) of the image.
    mended : counts what was repaired.
    contours : counts polygons of whole numbers, which are then the centres of the mask's border
        pixels, as OpenCV and so DeepDISC have them (`filled_contours`); None where they are edges.

    Raises
    ------
    LeftOut
        For what has no pixel.
    ValueError
        For what cannot be a segmentation of the image.
    """
    if isinstance(segmentation, str):
        segmentation = _parsed(segmentation, mended)
    if _is_rle(segmentation):
        return _rle(segmentation, shape, mended)
    if isinstance(segmentation, list) and segmentation and all(map(_is_rle, segmentation)):
        return _union(segmentation, shape, mended)
    polygons = _polygons(segmentation, mended)
    for polygon in polygons:
        _check(polygon, shape, FAR if contours is None else 1)
    whole = all(float(v).is_integer() for polygon in polygons for v in polygon.flat)
    if contours is not None and whole:
        contours[AS_CONTOURS] += 1
        return filled_contours([polygon.astype(np.int64) for polygon in polygons], shape)
    if all(map(are_fractions, polygons)):
        raise LeftOut(f"polygon {FRACTIONS}")
    good = [polygon for polygon in polygons if len(polygon) >= 3]
    if not good:
        raise LeftOut("polygon of fewer than three points")
    if len(good) < len(polygons):
        mended["polygons of fewer than three points taken out of masks of several"] += 1
    parts = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in good], *shape)
    merged = coco_mask.merge(parts) if len(parts) > 1 else parts[0]
    return bytes(merged["counts"])


def are_fractions(numbers: Any) -> bool:
    """Whether coordinates all lie in 0 to 1 and are not all whole: what covers no pixel, or one
    in the corner, and is how other formats write whole images."""
    values = np.asarray(numbers, np.float64)
    inside = values.size and values.min() >= 0 and values.max() <= 1
    return bool(inside and (values % 1 != 0).any())


def _parsed(text: str, mended: Counter[str]) -> Any:
    """What a table that was turned into JSON holds as text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("neither polygons nor RLE") from None
    mended["segmentations written as text"] += 1
    return value


def _is_rle(value: Any) -> bool:
    return isinstance(value, Mapping) and "counts" in value


def _union(rles: Sequence[Any], shape: Shape, mended: Counter[str]) -> bytes:
    """Counts of all masks of a list as one."""
    parts = [_rle(rle, shape, mended) for rle in rles]
    from_counts(parts, np.tile(np.array(shape, np.int32), (len(parts), 1)))  # pycocotools' door
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    mended["masks as lists of RLE"] += 1
    merged = coco_mask.merge([{"size": list(shape), "counts": counts} for counts in raw])
    return bytes(merged["counts"])


def _rle(rle: Mapping[str, Any], shape: Shape, mended: Counter[str]) -> str | bytes:
    size, counts = rle.get("size"), rle["counts"]
    try:
        matches = [int(n) for n in size or ()] == list(shape)
    except (TypeError, ValueError, OverflowError):
        matches = False
    if not matches:
        raise ValueError(
            f"its mask is of an image of {_size(size)} pixels, not {shape[0]}x{shape[1]}"
        )
    if isinstance(counts, str) and (found := _BYTES.fullmatch(counts)):
        mended["RLE counts that were written as Python's bytes"] += 1
        return found["counts"].replace("\\\\", "\\")
    if isinstance(counts, str | bytes):
        return counts
    if not isinstance(counts, Sequence):
        raise ValueError(f"RLE counts of type {type(counts).__name__} are not text or a list")
    try:
        runs = [int(run) for run in counts]
    except (TypeError, ValueError, OverflowError):
        raise ValueError("RLE counts that are no whole numbers") from None
    if any(isinstance(run, float) and not run.is_integer() for run in counts):
        raise ValueError("RLE counts that are no whole numbers")
    if min(runs, default=-1) < 0 or sum(runs) != shape[0] * shape[1]:
        raise ValueError(
            f"RLE counts cover {sum(runs)} pixels, its size {shape[0]}x{shape[1]} has "
            f"{shape[0] * shape[1]}"
        )
    packed = coco_mask.frPyObjects({"size": list(shape), "counts": runs}, *shape)
    return bytes(packed["counts"])


def _size(size: Any) -> str:
    return "x".join(map(str, size)) if isinstance(size, list | tuple) else repr(size)


def _polygons(value: Any, mended: Counter[str]) -> list[NDArray[np.float64]]:
    """Polygons (n, 2) of x, y."""
    value = _without_nesting(value)
    if _is_points(value) or (_is_numbers(value) and value):
        value = [value]
        mended["polygons without a list around them"] += 1
    elif isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError("neither polygons nor RLE")
    parts = [_points(_without_nesting(item), mended) for item in value if item is not None]
    even = [np.array(part, np.float64).reshape(-1, 2) for part in parts if len(part) % 2 == 0]
    if not even:
        raise LeftOut("polygon with an odd number of coordinates")
    if len(even) < len(parts):
        mended["polygons with an odd number of coordinates taken out of masks of several"] += 1
    return even


def _without_nesting(value: Any) -> Any:
    """Points [x, y] of OpenCV's contours [[x, y]]; all else as it is."""
    if not isinstance(value, list) or len(value) < 3:
        return value
    nested = all(isinstance(p, list) and len(p) == 1 and _is_numbers(p[0]) for p in value)
    return [p[0] for p in value] if nested and all(len(p[0]) == 2 for p in value) else value


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_number(v) for v in value)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _is_points(value: Any) -> bool:
    """Whether a list is one polygon of points: objects, or at least three pairs."""
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(item, Mapping) and "x" in item for item in value):
        return True
    return len(value) >= 3 and all(_is_numbers(item) and len(item) == 2 for item in value)


def _points(item: Any, mended: Counter[str]) -> list[float]:
    """x, y, x, y of one polygon; NaN where a number is missing."""
    if isinstance(item, Mapping) and "all_points_x" in item and "all_points_y" in item:
        mended["polygons as two lists, of x and of y"] += 1
        columns = item["all_points_x"], item["all_points_y"]
        if not all(map(_is_numbers, columns)):
            raise ValueError("neither polygons nor RLE")
        item = [v for pair in zip(*columns, strict=False) for v in pair]
    elif _is_points(item) or (isinstance(item, list) and item and not _is_number(item[0])):
        try:
            pairs = [(p["x"], p["y"]) if isinstance(p, Mapping) else p for p in item]
            if any(len(pair) != 2 for pair in pairs):
                raise ValueError("a polygon has points that are no pairs of x and y")
        except (KeyError, TypeError):
            raise ValueError("neither polygons nor RLE") from None
        item = [v for pair in pairs for v in pair]
        mended["polygons as lists of points"] += 1
    if not _is_numbers(item):
        raise ValueError("neither polygons nor RLE")
    try:
        return [math.nan if v is None else float(v) for v in item]
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a polygon has coordinates that are no numbers") from None


def _check(polygon: NDArray[np.float64], shape: Shape, far: int) -> None:
    """Raise ValueError for coordinates that pycocotools must not see."""
    if not np.isfinite(polygon).all():
        raise ValueError("a polygon has coordinates that are missing or not finite")
    if not len(polygon):
        return
    side = max(shape)
    if polygon.min() < -far * side or polygon.max() > (far + 1) * side:
        worst = polygon.flat[np.argmax(np.abs(polygon))]
        raise ValueError(
            f"a polygon reaches to {worst:.6g} px, far outside its image of "
            f"{shape[0]}x{shape[1]}; it may be in other units"
        )
    steps = np.abs(np.diff(polygon, axis=0, append=polygon[:1])).max(axis=1)
    if steps.sum() > LONGEST:
        raise ValueError(f"a polygon has an outline of {steps.sum():.3g} px")


def filled_contours(contours: Sequence[NDArray[np.int64]], shape: Shape) -> str:
    """Counts of the mask around which OpenCV traced contours through its border pixels.

    COCO's polygons run along the edges of pixels; filled as such, contours lose 10 % of the
    area of small sources and half a pixel of position. Contours of holes run the other way
    round and are open again.

    Parameters
    ----------
    contours : (n, 2) x, y, whole numbers, pixel (0, 0) having its centre at (0, 0).
    shape : (H, W) of the image.

    Raises
    ------
    LeftOut
        When there is no point.
    """
    rings = [ring for ring in contours if len(ring)]
    if not rings:
        raise LeftOut("polygon of fewer than three points")
    points = np.concatenate(rings)
    x0, y0 = points.min(axis=0)
    width, height = points.max(axis=0) - (x0, y0) + 1
    mask = np.zeros((height, width), np.bool_)
    areas = [_signed_area(ring) for ring in rings]
    for k in sorted(range(len(rings)), key=lambda k: -abs(areas[k])):
        ring = rings[k] - (x0, y0)
        border, filled = (
            _drawn(ring, (mask.shape[0], mask.shape[1]), fill) for fill in (False, True)
        )
        # Outer contours have a negative area, y downwards. One the other way round that lies
        # on no mask yet is another program's outer contour.
        if areas[k] > 0 and mask[border].all():
            mask &= ~filled | border
        else:
            mask |= filled
    return str(encode_at(mask, (int(y0), int(x0)), shape)["counts"])


def _signed_area(ring: NDArray[np.int64]) -> float:
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _drawn(ring: NDArray[np.int64], shape: Shape, fill: bool) -> NDArray[np.bool_]:
    """Pixels on the lines between the points and, filled, those inside of them."""
    picture = Image.new("1", shape[::-1])
    points = [(int(x), int(y)) for x, y in ring]
    if fill and len(points) > 2:
        ImageDraw.Draw(picture).polygon(points, fill=1, outline=1)
    ImageDraw.Draw(picture).line([*points, points[0]], fill=1)
    return np.array(picture)
