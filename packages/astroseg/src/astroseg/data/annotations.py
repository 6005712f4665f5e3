"""Annotations and predictions as columns: checked rows in, arrays out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from astroseg.core.errors import InputError
from astroseg.core.masks import BadCounts, Masks, from_counts, joined
from astroseg.core.memory import give_back
from astroseg.core.rle import encode_at
from astroseg.data.attributes import attribute_columns
from astroseg.data.identifiers import key_of
from astroseg.data.repairs import Repairs
from astroseg.data.segmentation import FRACTIONS, LeftOut, Shape, are_fractions, compressed

BATCH = 5_000
"""Rows checked together: some 20 MB."""

NO_IMAGE = "of an image that is not listed"
NO_CATEGORY = "of a category that is not listed"
NO_REGION = "neither a mask nor a box"


@dataclass(frozen=True, eq=False)
class Annotations:
    """N annotations or predictions in the order of the images, then of the file.

    Attributes
    ----------
    image : (N,) int32, place of the image.
    category : (N,) int32, place of the category.
    ignored : (N,) bool, ignore regions.
    masks : N masks, None where the whole file has boxes only.
    boxes : (N, 4) float64 XYWH as the file has them; those of the masks where it has none.
    area : (N,) float64 px as the file has it; the mask's where it has none, else the box's.
    score : (N,) float64, 1 without one.
    attributes : (N,) float64 each, NaN where a row lacks it.
    """

    image: NDArray[np.int32]
    category: NDArray[np.int32]
    ignored: NDArray[np.bool_]
    masks: Masks | None
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    score: NDArray[np.float64]
    attributes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class Frame:
    """What rows refer to.

    Attributes
    ----------
    path : the file, for messages.
    shapes : (I, 2) int32, (H, W) of the images.
    images, categories : place of each by key (`key_of`).
    ignored_as_objects : whether rows of iscrowd 1 are objects like the others.
    scored : whether the rows are predictions.
    measured : whether boxes, areas and attributes of the file are wanted beside the masks.
    targets : attributes to learn or to compare, read whether measured or not.
    reviewed : whether it is wanted which rows a person has looked at (`REVIEWED`).
    """

    path: Path
    shapes: NDArray[np.int32]
    images: Mapping[Hashable, int]
    categories: Mapping[Hashable, int]
    ignored_as_objects: bool = False
    scored: bool = False
    measured: bool = True
    targets: tuple[str, ...] = ()
    reviewed: bool = False

    @property
    def kind(self) -> Any:
        """Of the rows: the keys that are read."""
        if self.measured:
            return Any
        return TargetRow if self.targets or self.reviewed else MaskRow


class MaskRow(TypedDict, total=False):
    """Keys of a row that are read where no measurement is wanted."""

    id: Any
    image_id: Any
    category_id: Any
    iscrowd: Any
    bbox: Any
    segmentation: Any


class TargetRow(MaskRow, total=False):
    """The same with attributes."""

    attributes: Any


@dataclass
class _Batch:
    """Columns of some rows while they grow."""

    names: list[Any] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    category: list[int] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    boxed: list[bool] = field(default_factory=list)
    counts: list[str | bytes] = field(default_factory=list)
    boxes: list[Sequence[float]] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    attributes: list[Any] = field(default_factory=list)


_NO_BOX = (math.nan,) * 4


def read_rows(pieces: Iterable[list[Any]], frame: Frame, repairs: Repairs) -> Annotations:
    """Columns of the rows of a document.

    Raises
    ------
    InputError
        For a row that contradicts itself, with its id; and when no row can be used because
        none refers to a listed image and category.
    """
    parts: list[_Part] = []
    unknown: Counter[str] = Counter()
    first, total = "", 0
    for rows in pieces:
        for start in range(0, len(rows), BATCH):
            batch = _Batch()
            for row in rows[start : start + BATCH]:
                total += 1
                reason = _add(batch, row, total, frame, repairs)
                if reason in (NO_IMAGE, NO_CATEGORY):
                    field_name = "image_id" if reason == NO_IMAGE else "category_id"
                    value = row.get(field_name)
                    unknown[f"{field_name} {value}"] += 1
                    first = first or f"annotation {_name(row, total)} has {field_name} {value!r}"
                if reason:
                    repairs.left_out[reason] += 1
            parts.append(_part(batch, frame, repairs))
        del rows
        give_back()
    used = sum(len(part.image) for part in parts)
    if unknown and (frame.scored or not used):
        raise InputError(
            f"uses {_some(list(unknown))}, which is not listed"
            + ("" if frame.scored else f" ({first}), and no annotation remains"),
            file=frame.path,
            remedy="every annotation needs the ids of a listed image and category",
        )
    return _joined(parts, frame, repairs)


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return ", ".join(values[:10]) + more


def _name(row: Mapping[str, Any], place: int) -> str:
    return str(row.get("id", f"number {place}"))[:40]


def _add(batch: _Batch, row: Any, place: int, frame: Frame, repairs: Repairs) -> str:
    """Take a row into the batch; returns why it is left out, "" if it is not."""
    if not isinstance(row, dict):
        return "an entry that is no object"
    image = frame.images.get(_key(row.get("image_id"), "image ids", repairs))
    if image is None:
        return NO_IMAGE
    category = frame.categories.get(_key(row.get("category_id"), "category ids", repairs))
    ignored = _flag(row.get("iscrowd", 0), repairs) and not frame.ignored_as_objects
    if category is None:
        if not ignored:
            return NO_CATEGORY
        category = 0
    shape: Shape = (int(frame.shapes[image, 0]), int(frame.shapes[image, 1]))
    try:
        wanted = frame.measured or not row.get("segmentation")
        box = _box(row.get("bbox"), repairs) if wanted else None
        boxed, counts = _counts(row, box, shape, repairs)
        if boxed and box is not None and not frame.scored:
            if not any(box[2:]):
                raise LeftOut(NO_REGION)
            if are_fractions(box):
                raise LeftOut(f"box {FRACTIONS}")
        score = _score(row) if frame.scored else 1.0
    except LeftOut as error:
        return str(error)
    except ValueError as error:
        raise _unusable(frame, _name(row, place), str(error)) from error
    batch.names.append(row.get("id", f"number {place}"))
    batch.image.append(image)
    batch.category.append(category)
    batch.ignored.append(ignored)
    batch.boxed.append(boxed)
    batch.counts.append(counts)
    batch.boxes.append(box or _NO_BOX)
    batch.area.append(_area(row.get("area"), repairs) if frame.measured else math.nan)
    batch.score.append(score)
    if frame.measured or frame.targets or frame.reviewed:
        batch.attributes.append(row.get("attributes"))
    return ""


def _unusable(frame: Frame, name: str, problem: str) -> InputError:
    what = "prediction" if frame.scored else "annotation"
    return InputError(
        f"{what} {name} cannot be used: {problem}",
        file=frame.path,
        remedy=f"mend or leave out that {what}",
    )


def _key(value: Any, what: str, repairs: Repairs) -> Hashable:
    if type(value) is int:
        return value
    key = key_of(value)
    if isinstance(key, int):
        repairs.mended[f"{what} written as text or fractions"] += 1
    return key


def _flag(value: Any, repairs: Repairs) -> bool:
    if value in (0, 1):  # True and False too
        return bool(value)
    if str(value).strip().lower() in ("1", "true", "0", "false"):
        return str(value).strip().lower() in ("1", "true")
    if value is not None:
        repairs.mended["iscrowd values that are neither 0 nor 1, taken as 0"] += 1
    return False


def _box(value: Any, repairs: Repairs) -> Sequence[float] | None:
    """A box of four numbers, None for one that is missing or no box."""
    if value is None or value == []:
        return None
    try:
        box = [float(v) for v in value]
        good = len(box) == 4 and all(abs(v) < 1e9 for v in box)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        repairs.mended["boxes that are not four finite numbers, drawn anew"] += 1
        return None
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"has a bbox of negative width or height: {value}")
    return box


def _counts(
    row: Mapping[str, Any], box: Sequence[float] | None, shape: Shape, repairs: Repairs
) -> tuple[bool, str | bytes]:
    """Counts of a row's mask; of its box, and True, where it has no mask."""
    segmentation = row.get("segmentation")
    if segmentation:
        contours = repairs.read_as if row.get("contours") else None
        return False, compressed(segmentation, shape, repairs.mended, contours=contours)
    if box is None:
        raise LeftOut(NO_REGION)
    x0, y0 = (max(0, math.floor(v + 0.5)) for v in box[:2])
    x1 = min(shape[1], math.floor(box[0] + box[2] + 0.5))
    y1 = min(shape[0], math.floor(box[1] + box[3] + 0.5))
    if x1 <= x0 or y1 <= y0:
        return True, _empty(shape)
    solid = np.array([[x0, y0, x1 - x0, y1 - y0]], np.float64)
    return True, bytes(coco_mask.frPyObjects(solid, *shape)[0]["counts"])


@lru_cache(maxsize=64)
def _empty(shape: Shape) -> str:
    return str(encode_at(np.zeros((0, 0), np.bool_), (0, 0), shape)["counts"])


def _score(row: Mapping[str, Any]) -> float:
    value = row.get("score")
    try:
        score = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"its score is missing or not finite: {value!r}")
    return score


def _area(value: Any, repairs: Repairs) -> float:
    if value is None:
        return math.nan
    try:
        area = float(value)
    except (TypeError, ValueError, OverflowError):
        area = math.nan
    if not 0 <= area < math.inf:
        repairs.mended["areas that are no finite number, counted anew"] += 1
        return math.nan
    return area


@dataclass(frozen=True, eq=False)
class _Part(Annotations):
    """Columns of a batch; masks of boxes stand in for those of rows without one."""

    boxed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


def _part(batch: _Batch, frame: Frame, repairs: Repairs) -> _Part:
    image = np.array(batch.image, np.int32)
    try:
        masks = from_counts(batch.counts, frame.shapes[image])
    except BadCounts as error:
        name = str(batch.names[error.index])[:40]
        raise _unusable(frame, name, str(error)) from error
    boxed = np.array(batch.boxed, np.bool_)
    kept = np.ones(len(image), np.bool_)
    if not frame.scored:
        kept = (masks.area > 0) | boxed
        if (~kept).any():
            repairs.left_out["mask without a pixel"] += int((~kept).sum())
    attributes = attribute_columns(
        batch.attributes,
        repairs,
        measured=frame.measured,
        targets=frame.targets,
        reviewed=frame.reviewed,
        scored=frame.scored,
    )
    if frame.measured:
        boxes, area, score = (c[kept] for c in _measurements(batch, masks, boxed))
    else:
        boxes, area, score = _none(int(kept.sum()))
    return _Part(
        image[kept],
        np.array(batch.category, np.int32)[kept],
        np.array(batch.ignored, np.bool_)[kept],
        masks[kept],
        boxes,
        area,
        score,
        {name: column[kept] for name, column in attributes.items()},
        boxed[kept],
    )


_Measurements = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _measurements(batch: _Batch, masks: Masks, boxed: NDArray[np.bool_]) -> _Measurements:
    """Boxes, areas and scores of the file; of the masks where it has none."""
    boxes = np.array(batch.boxes, np.float64).reshape(-1, 4)
    absent = np.isnan(boxes[:, 0])
    boxes[absent] = masks.boxes[absent]
    area = np.array(batch.area, np.float64)
    own = np.where(boxed, boxes[:, 2] * boxes[:, 3], masks.area)
    return boxes, np.where(np.isnan(area), own, area), np.array(batch.score, np.float64)


def _none(count: int) -> _Measurements:
    """The same unknown, in no memory: these columns would take as much as the masks."""
    boxes = np.broadcast_to(np.float64(np.nan), (count, 4))
    return boxes, boxes[:, 0], boxes[:, 0]


def _joined(parts: list[_Part], frame: Frame, repairs: Repairs) -> Annotations:
    """All batches, sorted by image. The list is emptied: memory holds no column twice."""
    if not parts:
        parts.append(_part(_Batch(), frame, repairs))
    columns = {
        name: [getattr(part, name) for part in parts]
        for name in ("image", "category", "ignored", "boxed", "boxes", "area", "score", "masks")
    }
    names = sorted({name for part in parts for name in part.attributes})
    attributes = {
        name: [part.attributes.get(name, np.full(len(part), np.nan)) for part in parts]
        for name in names
    }
    parts.clear()
    image = np.concatenate(columns.pop("image"))
    order: Any = slice(None)
    if (np.diff(image) < 0).any():
        order = np.argsort(image, kind="stable")
        image = image[order]
    ignored, boxed = (np.concatenate(columns.pop(name))[order] for name in ("ignored", "boxed"))
    masks: Masks | None = None
    if not len(boxed) or not boxed.all():
        masks = joined(columns.pop("masks"))[order]
        give_back()
        ignored = ignored | boxed if _boxes_ignored(boxed, ignored, frame, repairs) else ignored
    if frame.measured:
        boxes, area, score = (
            np.concatenate(columns.pop(name))[order] for name in ("boxes", "area", "score")
        )
    else:
        boxes, area, score = _none(len(image))
    category = np.concatenate(columns.pop("category"))[order]
    numbers = {name: np.concatenate(attributes.pop(name))[order] for name in names}
    return Annotations(image, category, ignored, masks, boxes, area, score, numbers)


def _boxes_ignored(
    boxed: NDArray[np.bool_], ignored: NDArray[np.bool_], frame: Frame, repairs: Repairs
) -> bool:
    """Whether rows without a mask are ignore regions of a file that has masks; counted."""
    if not boxed.any():
        return False
    if frame.scored:
        raise InputError(
            f"has {int(boxed.sum())} predictions without a segmentation among {len(boxed)}",
            file=frame.path,
            remedy="give every prediction a segmentation, or none of them",
        )
    if new := int((boxed & ~ignored).sum()):
        repairs.mended["boxes without a mask, taken as ignore regions"] += new
    return True
