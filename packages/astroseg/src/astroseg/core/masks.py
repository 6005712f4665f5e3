"""Run-length masks of many objects as columns: some 70 bytes each instead of 500.

A list of RLE dictionaries costs more memory than the masks, and every process that touches
it makes its own copy. Columns are read-only arrays, which forked loader workers share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from astroseg.core.memory import give_back
from astroseg.core.samples import Rle

_BITS = 5  # payload of one character of compressed counts
_MAX_CHARACTERS = 7  # 35 bits: more pixels than any image has


@dataclass(frozen=True, eq=False)
class Masks(Sequence[Rle]):
    """N compressed RLEs.

    Attributes
    ----------
    text : uint8, the counts of all masks one after the other, as COCO writes them.
    first, last : (N,) int64, where the counts of each begin and end.
    shape : (N, 2) int32, (H, W) of the image of each.
    area : (N,) int64, pixels.
    boxes : (N, 4) int32 XYWH around the pixels; 0 for an empty mask.
    """

    text: NDArray[np.uint8]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    shape: NDArray[np.int32]
    area: NDArray[np.int64]
    boxes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.first)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Rle: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any]) -> Masks: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            counts = self.text[self.first[index] : self.last[index]].tobytes().decode("ascii")
            return {"size": self.shape[index].tolist(), "counts": counts}
        columns = (self.first, self.last, self.shape, self.area, self.boxes)
        return Masks(self.text, *(column[index] for column in columns))

    def __iter__(self) -> Iterator[Rle]:
        return (self[i] for i in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Memory of the columns."""
        columns = (self.text, self.first, self.last, self.shape, self.area, self.boxes)
        return sum(column.nbytes for column in columns)


def from_counts(counts: Sequence[str | bytes], shape: NDArray[np.int32]) -> Masks:
    """Columns of compressed counts, all of them checked at once.

    Parameters
    ----------
    counts : N texts.
    shape : (N, 2) int32, (H, W) of the image of each.

    Raises
    ------
    BadCounts
        For the first text that is not COCO's or does not fill its image: pycocotools reads
        beyond its buffers when it is fed such counts.
    """
    if not len(counts):
        empty = np.zeros(0, np.int64)
        boxes = np.zeros((0, 4), np.int32)
        return Masks(np.zeros(0, np.uint8), empty, empty, shape.reshape(-1, 2), empty, boxes)
    text, last = _packed(counts)
    runs, owner = _runs(text, last)
    check_runs(runs, owner, shape)
    area, boxes = _measure(runs, owner, shape)
    return Masks(text, np.append(0, last[:-1]), last, shape, area, boxes)


def checked_runs(
    counts: Sequence[str | bytes], shape: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of the runs of compressed counts, and the mask that each belongs to.

    Raises
    ------
    BadCounts
        See `from_counts`.
    """
    runs, owner = _runs(*_packed(counts))
    check_runs(runs, owner, shape)
    return runs, owner


def _packed(counts: Sequence[str | bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All texts one after the other, and where each ends."""
    raw = [item.encode("utf-8", "replace") if isinstance(item, str) else item for item in counts]
    last = np.cumsum(np.fromiter((len(item) for item in raw), np.int64, len(raw)))
    return np.frombuffer(b"".join(raw), np.uint8), last


def joined(parts: list[Masks]) -> Masks:
    """The masks of several columns one after the other. The list is emptied, and each column
    freed when it is joined: memory holds no column twice."""
    if not parts:
        return from_counts([], np.zeros((0, 2), np.int32))
    starts = np.cumsum([0, *(len(part.text) for part in parts)]).tolist()
    first = [part.first + start for part, start in zip(parts, starts, strict=False)]
    last = [part.last + start for part, start in zip(parts, starts, strict=False)]
    columns = [[getattr(part, name) for part in parts] for name in ("shape", "area", "boxes")]
    text = [part.text for part in parts]
    parts.clear()
    rest: list[NDArray[Any]] = []
    for column in (text, first, last, *columns):
        rest.append(np.concatenate(column))
        column.clear()
        give_back()
    return Masks(*rest)


class BadCounts(ValueError):
    """Counts that are not those of a mask of their image.

    Attributes
    ----------
    index : of the first such mask.
    """

    def __init__(self, problem: str, index: int) -> None:
        super().__init__(problem)
        self.index = index


def _runs(
    text: NDArray[np.uint8], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of all runs, and the mask that each belongs to.

    Each character less 48 holds five bits, low ones first, and a sixth that says whether the
    number goes on; bit 5 of a number's last character is its sign. From the fourth number of
    a mask on, the run before the last is to be added.
    """
    if (empty := np.diff(last, prepend=0) == 0).any():
        raise BadCounts("RLE counts are empty", int(np.argmax(empty)))
    code = text.astype(np.int64) - 48
    bad = np.flatnonzero((code < 0) | (code > 63))
    cut = np.flatnonzero(code[last - 1] & 32)
    if len(bad) or len(cut):
        index = int(np.searchsorted(last, bad[0], "right")) if len(bad) else int(cut[0])
        raise BadCounts("RLE counts are cut off or hold characters COCO does not use", index)
    ends = np.flatnonzero((code & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    owner = np.searchsorted(last, ends, "right")
    digits = ends - starts + 1
    if digits.max() > _MAX_CHARACTERS:
        index = int(owner[np.argmax(digits)])
        raise BadCounts("RLE counts hold a number that no image has pixels for", index)
    shift = _BITS * (np.arange(len(code)) - np.repeat(starts, digits))
    values = np.add.reduceat((code & 31) << shift, starts)
    values -= np.where(code[ends] & 16, np.int64(1) << (_BITS * digits), 0)
    place = _places(owner)
    for chain in (place % 2 == 1, (place % 2 == 0) & (place > 0)):
        values[chain] = _cumulative(values[chain], owner[chain])
    return values, owner


def _places(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each value among those of its owner; owners never fall."""
    count = np.bincount(owner)
    first = np.repeat(np.cumsum(count) - count, count)
    return np.arange(len(owner)) - first


def _cumulative(values: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Running sums that start anew with each owner."""
    total = np.cumsum(values)
    begin = np.arange(len(owner)) - _places(owner)
    return total - np.where(begin > 0, total[begin - 1], 0)


def check_runs(
    runs: NDArray[np.int64], owner: NDArray[np.int64], shape: NDArray[np.integer[Any]]
) -> None:
    """Raise `BadCounts` for runs that are negative or do not fill their image."""
    if (runs < 0).any():
        raise BadCounts("RLE counts hold a negative run", int(owner[np.argmax(runs < 0)]))
    covered = np.bincount(owner, weights=runs, minlength=len(shape)).astype(np.int64)
    pixels = shape[:, 0].astype(np.int64) * shape[:, 1]
    if (covered != pixels).any():
        i = int(np.argmax(covered != pixels))
        raise BadCounts(
            f"RLE counts cover {covered[i]} pixels, its size {shape[i, 0]}x{shape[i, 1]} has "
            f"{pixels[i]}",
            i,
        )


def _measure(
    runs: NDArray[np.int64], owner: NDArray[np.int64], shape: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(N,) pixels and (N, 4) tight boxes XYWH of the masks."""
    place = _places(owner)
    stop = _cumulative(runs, owner)
    solid = (place % 2 == 1) & (runs > 0)
    area = np.zeros(len(shape), np.int64)
    boxes = np.zeros((len(shape), 4), np.int32)
    if not solid.any():
        return area, boxes
    mine, begin, end = owner[solid], (stop - runs)[solid], stop[solid] - 1
    height = shape[mine, 0].astype(np.int64)
    # A run over a column's end holds the last row of one and the first of the next.
    split = begin // height != end // height
    top = np.where(split, 0, begin % height)
    bottom = np.where(split, height, end % height + 1)
    which, at = np.unique(mine, return_index=True)
    area[which] = np.add.reduceat(end - begin + 1, at)
    x0 = np.minimum.reduceat(begin // height, at)
    y0 = np.minimum.reduceat(top, at)
    boxes[which, 0], boxes[which, 1] = x0, y0
    boxes[which, 2] = np.maximum.reduceat(end // height + 1, at) - x0
    boxes[which, 3] = np.maximum.reduceat(bottom, at) - y0
    return area, boxes
