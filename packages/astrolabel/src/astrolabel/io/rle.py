"""COCO run-length encoding of masks that cover a small part of a large image.

COCO counts pixels down the columns: run lengths of unset and set pixels in turn,
starting with unset ones. Everything here works on the runs or on an object's columns, so its
cost does not go with the area of the image it lies in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from astrolabel.core.box import Box

SHORT = 300
"""Characters, and runs, up to which a loop is faster than some forty calls of numpy. Most masks of
galaxies have fewer."""
DIGITS = 7
"""Of a number in COCO's text, 5 bits each: 35 bits are more than any image has pixels."""
Rle = dict[str, Any]
"""``{"size": [H, W], "counts": ASCII str}``."""


def encode(mask: NDArray[np.bool_], box: Box, shape: tuple[int, int]) -> Rle:
    """Compressed RLE of a mask that lies at `box` in an image.

    Parameters
    ----------
    mask : (h, w) bool, the shape of `box`.
    box : where it lies; what is outside the image is cut off.
    shape : (H, W) of the image in pixels.

    Returns
    -------
    dict : ``{"size": [H, W], "counts": str}``, what pycocotools gives for the full frame.
    """
    if mask.shape != box.shape:
        raise ValueError(f"a mask of shape {mask.shape} cannot lie at {box}")
    height, width = int(shape[0]), int(shape[1])
    inside = box & Box(0, 0, height, width)
    counts = [height * width]
    if inside.area:
        counts = _counts(mask[inside.slices_in(box)], inside, (height, width))
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def _counts(mask: NDArray[np.bool_], box: Box, shape: tuple[int, int]) -> list[int]:
    """Run lengths down the columns of `shape`, of a mask whose box is inside it."""
    height, width = shape
    columns = np.zeros((box.width, height), np.int8)  # the box's columns of the image
    columns[:, box.y0 : box.y1] = mask.T
    edges = np.flatnonzero(np.diff(columns.ravel(), prepend=0, append=0)) + box.x0 * height
    runs: list[int] = np.diff(edges, prepend=0).tolist()
    rest = height * width - (int(edges[-1]) if len(edges) else 0)
    # pycocotools ends with the last run that holds a pixel.
    return [*runs, rest] if rest or not runs else runs


def runs(rle: Rle) -> NDArray[np.int64]:
    """Run lengths of an RLE, compressed or not, checked to fill its size exactly.

    pycocotools reads beyond its buffers when fed counts that do not, so what comes
    from a file goes through here first.

    Raises
    ------
    ValueError
        With what is wrong: size, type, characters, negative runs, or their sum.
    """
    return np.asarray(_lengths(rle), np.int64)


def _lengths(rle: Rle) -> list[int] | NDArray[np.int64]:
    """`runs`; a list where there are few."""
    size, counts = rle.get("size"), rle.get("counts")
    if not (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(type(n) is int and n > 0 for n in size)
    ):
        raise ValueError(f"RLE size {size!r} is not two positive integers [height, width]")
    if isinstance(counts, bytes):
        raise ValueError("RLE counts are bytes, which JSON cannot hold; they must be ASCII text")
    lengths: list[int] | NDArray[np.int64]
    if isinstance(counts, str):
        lengths = _decompress(counts)
    elif isinstance(counts, (list, tuple)) and all(type(n) is int for n in counts):
        if any(abs(n) >= 1 << 35 for n in counts):
            raise ValueError("RLE counts hold a number that no image has pixels for")
        lengths = list(counts) if len(counts) <= SHORT else np.asarray(counts, np.int64)
    else:
        raise ValueError(f"RLE counts of type {type(counts).__name__} are not ASCII text")
    if isinstance(lengths, list):
        least, total = min(lengths, default=0), sum(lengths)
    else:
        least, total = int(lengths.min()), int(lengths.sum())
    if least < 0:
        raise ValueError("RLE counts hold a negative run")
    if total != size[0] * size[1]:
        raise ValueError(
            f"RLE counts cover {total} pixels, but its size {size[0]}x{size[1]} has "
            f"{size[0] * size[1]}"
        )
    return lengths


def _decompress(counts: str) -> list[int] | NDArray[np.int64]:
    """Run lengths from COCO's text.

    A character from 48 up holds 5 bits; bit 6 continues a number, bit 5 of its last character
    is the sign. From the fourth number on, the run before the last is subtracted.
    """
    try:
        text = counts.encode("ascii")
    except UnicodeEncodeError as error:
        raise ValueError("RLE counts are not ASCII text") from error
    if not text or min(text) < 48 or max(text) > 111 or (text[-1] - 48) & 32:
        raise ValueError("RLE counts are empty, cut off or hold characters that COCO does not use")
    if len(text) <= SHORT:
        return _decompress_short(text)
    code = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((code & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    if digits.max() > DIGITS:
        raise ValueError("RLE counts hold a number that no image has pixels for")
    place = np.arange(len(code)) - np.repeat(first, digits)
    values = np.add.reduceat((code & 31) << (5 * place), first)
    values -= np.where(code[last] & 16, np.int64(1) << (5 * digits), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _decompress_short(text: bytes) -> list[int]:
    """`_decompress` a character at a time."""
    values: list[int] = []
    value = bits = 0
    for code in text:
        value |= ((code - 48) & 31) << bits
        bits += 5
        if (code - 48) & 32:
            continue
        if bits > 5 * DIGITS:
            raise ValueError("RLE counts hold a number that no image has pixels for")
        if (code - 48) & 16:
            value -= 1 << bits
        values.append(value + values[-2] if len(values) > 2 else value)
        value = bits = 0
    return values


def measure(rle: Rle) -> tuple[int, list[int]]:
    """Area in pixels and tight box [x, y, w, h] of an RLE, without decoding it.

    An empty mask has area 0 and the box [0, 0, 0, 0].
    """
    lengths = _lengths(rle)
    height = int(rle["size"][0])
    if isinstance(lengths, list):
        return _measure_short(lengths, height)
    stops = np.cumsum(lengths)
    set_ = np.flatnonzero(lengths[1::2]) * 2 + 1
    if not len(set_):
        return 0, [0, 0, 0, 0]
    first, last = stops[set_] - lengths[set_], stops[set_] - 1
    x0, x1 = int(first[0] // height), int(last[-1] // height)
    if (first // height != last // height).any():
        # A run over a column's end holds the last row of one and the first of the next.
        y0, y1 = 0, height - 1
    else:
        y0, y1 = int((first % height).min()), int((last % height).max())
    return int(lengths[1::2].sum()), [x0, y0, x1 - x0 + 1, y1 - y0 + 1]


def _measure_short(lengths: list[int], height: int) -> tuple[int, list[int]]:
    """`measure` a run at a time."""
    area = start = x1 = y1 = 0
    x0 = y0 = -1
    for unset, length in zip(lengths[::2], lengths[1::2], strict=False):
        start += unset
        if length:
            area += length
            (column, top), (x1, bottom) = divmod(start, height), divmod(start + length - 1, height)
            if column != x1:  # over a column's end
                top, bottom = 0, height - 1
            x0 = column if x0 < 0 else x0
            y0, y1 = top if y0 < 0 else min(y0, top), max(y1, bottom)
        start += length
    return (area, [x0, y0, x1 - x0 + 1, y1 - y0 + 1]) if area else (0, [0, 0, 0, 0])


def decode(rle: Rle) -> NDArray[np.bool_]:
    """(H, W) bool mask of an RLE.

    Raises
    ------
    ValueError
        When the RLE is broken (see `runs`).
    """
    height, width = rle["size"]
    return decode_inside(rle, Box(0, 0, height, width))


def decode_inside(rle: Rle, box: Box) -> NDArray[np.bool_]:
    """(h, w) bool: the part of an RLE's mask in `box`, which must lie in the image."""
    lengths = runs(rle)
    height, width = rle["size"]
    if box & Box(0, 0, height, width) != box:
        raise ValueError(f"{box} is not inside an image of {height}x{width} pixels")
    # Only the box's columns are laid out: runs are clipped to them.
    stops = np.clip(np.cumsum(lengths) - box.x0 * height, 0, box.width * height)
    values = np.arange(len(lengths)) % 2 == 1
    columns = np.repeat(values, np.diff(stops, prepend=0)).reshape(box.width, height)
    return np.ascontiguousarray(columns[:, box.y0 : box.y1].T)


def tight_box(mask: NDArray[np.bool_], box: Box) -> list[int]:
    """[x, y, w, h] of the set pixels of a mask that lies at `box`.

    In COCO's convention: left edge of the first pixel, size in pixels. An empty mask
    has [0, 0, 0, 0].
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [
        int(columns[0]) + box.x0,
        int(rows[0]) + box.y0,
        int(columns[-1] - columns[0]) + 1,
        int(rows[-1] - rows[0]) + 1,
    ]
