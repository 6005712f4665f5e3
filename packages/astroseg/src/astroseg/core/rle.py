"""COCO run-length masks of small objects in large images, handled box by box.

COCO counts pixels down the columns of the whole image: lengths of unset and set runs in
turn, unset first. Everything here works on the runs, so its cost goes with the objects'
sizes and never with objects times image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from astroseg.core.masks import check_runs, checked_runs

Rle = dict[str, Any]
Bitmap = NDArray[np.bool_]


def decode_tight(rle: Mapping[str, Any]) -> tuple[Bitmap, tuple[int, int]]:
    """The mask inside its tight box.

    Returns
    -------
    bitmap : (h, w) bool, set on all four edges; (0, 0) when the mask is empty.
    corner : (y0, x0) of the bitmap in the image.

    Raises
    ------
    ValueError
        When the counts are broken or do not fill the size.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not (isinstance(counts, str) and isinstance(size, list)):
        return _decoded(rle)
    found = _bitmaps.get((counts, *size)) or _kept((counts, *size), *_decoded(rle))
    return found[0].copy(), found[1]


_bitmaps: dict[tuple[Any, ...], tuple[Bitmap, tuple[int, int]]] = {}
"""Of the masks that were made or read last. Each step of a prediction asks for those of a tile."""
MOST_BITMAPS = 2048


def _kept(
    key: tuple[Any, ...], bitmap: Bitmap, corner: tuple[int, int]
) -> tuple[Bitmap, tuple[int, int]]:
    if len(_bitmaps) >= MOST_BITMAPS:
        _bitmaps.clear()
    _bitmaps[key] = bitmap, corner
    return bitmap, corner


def _decoded(rle: Mapping[str, Any]) -> tuple[Bitmap, tuple[int, int]]:
    lengths = run_lengths(rle)
    height = int(rle["size"][0])
    stops = np.cumsum(lengths)
    set_runs = np.flatnonzero(lengths[1::2]) * 2 + 1
    if not len(set_runs):
        return np.zeros((0, 0), np.bool_), (0, 0)
    first, last = stops[set_runs] - lengths[set_runs], stops[set_runs] - 1
    x0, x1 = int(first[0]) // height, int(last[-1]) // height + 1
    if (first // height == last // height).all():
        y0, y1 = int((first % height).min()), int((last % height).max()) + 1
    else:  # a run over a column's end holds the last row of one and the first of the next
        y0, y1 = 0, height
    # The runs in the box alone: columns of a coadd are hundreds of times as high as a source.
    begin = (first // height - x0) * (y1 - y0) + first % height - y0
    edges = np.stack([begin, begin + last - first + 1], axis=1).ravel()
    edges = np.append(edges, (x1 - x0) * (y1 - y0))
    columns = np.repeat(np.arange(len(edges)) % 2 == 1, np.diff(edges, prepend=0))
    return np.ascontiguousarray(columns.reshape(x1 - x0, y1 - y0).T), (y0, x0)


def encode_at(bitmap: Bitmap, corner: tuple[int, int], shape: tuple[int, int]) -> Rle:
    """Compressed RLE of a mask that lies at `corner` of an image; what is outside is cut.

    Parameters
    ----------
    bitmap : (h, w) bool.
    corner : (y0, x0), may be negative.
    shape : (H, W) of the image.

    Returns
    -------
    dict : what pycocotools gives for the whole frame, with counts as text.
    """
    height, width = int(shape[0]), int(shape[1])
    y0, x0 = corner
    part = bitmap[max(0, -y0) : max(0, height - y0), max(0, -x0) : max(0, width - x0)]
    y0, x0 = max(y0, 0), max(x0, 0)
    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    lengths = [height * width]
    if rows.size:
        y0, x0 = y0 + int(rows[0]), x0 + int(columns[0])
        part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.bool_)
        lengths = _counts(part, (y0, x0), (height, width))
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    counts = rle["counts"].decode("ascii")
    if rows.size:
        _kept((counts, height, width), part, (y0, x0))
    return {"size": [height, width], "counts": counts}


def _counts(bitmap: Bitmap, corner: tuple[int, int], shape: tuple[int, int]) -> list[int]:
    """Run lengths of a bitmap that lies inside the image."""
    height, width = shape
    (y0, x0), (h, w) = corner, bitmap.shape
    columns = np.zeros((w, h + 2), np.int8)
    columns[:, 1:-1] = bitmap.T
    column, row = np.nonzero(np.diff(columns))  # where each run of a column begins and ends
    edges = (column + x0) * height + row + y0
    if h == height:  # a run up to a column's end goes on at the top of the next
        goes_on = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
        edges = np.delete(edges, [goes_on, goes_on + 1])
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    rest = height * width - (int(edges[-1]) if len(edges) else 0)
    # pycocotools ends with the last run that holds a pixel.
    return [*lengths, rest] if rest or not lengths else lengths


def run_lengths(rle: Mapping[str, Any]) -> NDArray[np.int64]:
    """Lengths of the runs, of compressed counts or a plain list, checked to fill the size.

    Raises
    ------
    ValueError
        With what is wrong: size, type, characters, negative runs or their sum.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(int(n) > 0 for n in size)):
        raise ValueError(f"RLE size {size!r} is not [height, width]")
    shape = np.array([size], np.int64)
    if isinstance(counts, str | bytes):
        return checked_runs([counts], shape)[0]
    if not isinstance(counts, Sequence):
        raise ValueError(f"RLE counts of type {type(counts).__name__} are not text or a list")
    lengths = np.asarray(counts, np.int64)
    check_runs(lengths, np.zeros(len(lengths), np.int64), shape)
    return lengths
