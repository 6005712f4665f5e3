"""The labels of a COCO document as columns: half a million of them in 200 MB."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.celestial import wcs_of_cards
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.polygons import mask_of
from astrolabel.io.rle import decode_inside
from astrolabel.io.structure import Attributes
from astrolabel.io.validate import validate


@dataclass(frozen=True, eq=False)
class Labels:
    """N annotations of a COCO document, in its order, and what is around them.

    Attributes
    ----------
    path : the document; its images lie beside it.
    info, images, categories : as in the document.
    ids : (N,) int64 of the annotations; counted from 1 where they have none that is whole.
    image : (N,) int64, index into `images`.
    category : (N,) int64 category id.
    ignored : (N,) bool: ``iscrowd``.
    matched : (N,) bool: has an ``object_id``.
    boxes : (N, 4) float64 x, y, width, height in pixels.
    area : (N,) float64 pixels.
    values : every numeric attribute by name, (N,) float64 each, NaN where not given.
    flags : (N,) bool by name, of every flag that occurs or that the document explains.
    segmentations : COCO segmentations; an RLE as the text of its counts alone.
    """

    path: Path
    info: Mapping[str, Any]
    images: Sequence[Mapping[str, Any]]
    categories: Sequence[Mapping[str, Any]]
    ids: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    matched: NDArray[np.bool_]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    flags: Mapping[str, NDArray[np.bool_]]
    segmentations: Sequence[Any]

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def own(self) -> NDArray[np.bool_]:
        """(N,) bool: labels that count: no ignore regions, and none whose peak lies in a
        neighbouring tile, which has the source too."""
        return ~self.ignored & ~self.flags.get("peak_outside", np.zeros(len(self), bool))

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """(N,) bool: the mask does not touch the edge of its image."""
        x, y, width, height = self.boxes.T
        size = np.array([[i["width"], i["height"]] for i in self.images], float).reshape(-1, 2)
        w, h = size[self.image].T
        return np.asarray((x > 0) & (y > 0) & (x + width < w) & (y + height < h))

    @cached_property
    def by_image(self) -> list[NDArray[np.intp]]:
        """Rows of each image, ascending."""
        order = np.argsort(self.image, kind="stable")
        ends = np.searchsorted(self.image[order], np.arange(len(self.images) + 1))
        return [order[a:b] for a, b in itertools.pairwise(ends)]

    @cached_property
    def pixel_scale(self) -> NDArray[np.float64]:
        """(I,) arcseconds; NaN for images without a WCS."""
        frames = [self.wcs(k) for k in range(len(self.images))]
        return np.array(
            [
                np.nan
                if w is None
                else float(np.sqrt(w.proj_plane_pixel_area().to_value("arcsec2")))
                for w in frames
            ]
        )

    def value(self, name: str) -> NDArray[np.float64]:
        """(N,) of a numeric attribute; all NaN when the document does not have it."""
        return self.values.get(name, np.full(len(self), np.nan))

    def classes(self) -> list[tuple[int, str]]:
        """Id and name of the categories."""
        return [(int(c["id"]), str(c["name"])) for c in self.categories]

    def wcs(self, index: int) -> WCS | None:
        """The WCS of an image, from its header cards."""
        cards = (self.images[index].get("astro") or {}).get("wcs")
        return None if not cards else wcs_of_cards(cards)

    def mask(self, row: int) -> tuple[NDArray[np.bool_], Box]:
        """The pixels of a mask in its tight box, and the box in its image.

        Raises
        ------
        InputError
            When it cannot be decoded.
        """
        image = self.images[int(self.image[row])]
        shape = (int(image["height"]), int(image["width"]))
        segmentation = self.segmentations[row]
        try:
            if isinstance(segmentation, str):
                segmentation = {"size": list(shape), "counts": segmentation}
                x, y, width, height = (int(v) for v in self.boxes[row])
                box = Box(y, x, height, width)
                pixels = decode_inside(segmentation, box)
                if pixels.sum() == self.area[row]:  # so the box is right: half the work
                    return pixels, box
            return mask_of(segmentation, shape)
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(self.path, f"annotation {row + 1} of the list: {error}") from error

    def file(self, index: int, key: str = "") -> Path | None:
        """A file of an image, ``astro[key]`` or its picture; None where there is none."""
        entry = self.images[index]
        name = (entry.get("astro") or {}).get(key) if key else entry["file_name"]
        path = None if name is None else self.path.parent / name
        return path if path is not None and path.is_file() else None


def read_labels(path: str | Path, images: Path | None = None) -> Labels:
    """Read a COCO document into columns; its annotations are let go one by one.

    Parameters
    ----------
    images : folder of its pictures; then, and where entries lack what ours have, the document
        is read as a whole and mended (see `io.any_coco`).

    Raises
    ------
    InputError
        When it is no COCO document or an annotation lacks what every one needs.
    """
    path = Path(path)
    columns = _Columns(path)
    doc = coco.read(path, columns.take)
    gaps = path.suffix != ".parquet" and any(a is not None for a in doc["annotations"])
    if images is not None or gaps:
        columns = _Columns(path)
        doc = viewable(coco.read(path), path, images)
    for item in doc["annotations"]:
        if item is not None:  # of a Parquet file, or mended
            columns.add(item)
    if problems := validate({**doc, "annotations": []}):
        raise _broken(path, str(problems[0]))
    place = {image["id"]: n for n, image in enumerate(doc["images"])}
    try:
        image = np.array([place[int(i)] for i in columns.image], np.int64)
    except KeyError as error:
        raise _broken(path, f"an annotation is of image {error}, which is not there") from error
    kinds = {kind["id"] for kind in doc["categories"]}
    if strange := set(columns.category).difference(kinds):
        raise _broken(path, f"an annotation is of category {min(strange)}, which is not there")
    n, info = len(image), doc.get("info") or {}
    explained = sorted((info.get("flags") or {}).items(), key=_bit)
    names = [name for name, _ in explained]
    return Labels(
        path=path,
        info=info,
        images=doc["images"],
        categories=doc["categories"],
        ids=np.array(columns.ids, np.int64),
        image=image,
        category=np.array(columns.category, np.int64),
        ignored=np.array(columns.ignored, bool),
        matched=np.array(columns.matched, bool),
        boxes=np.array(columns.boxes, np.float64).reshape(-1, 4),
        area=np.array(columns.area, np.float64),
        values={name: _filled(n, *pair) for name, pair in columns.numbers.items()},
        flags={
            name: _set_at(n, columns.flags.get(name, array("q")))
            for name in [*names, *(f for f in columns.flags if f not in names)]
        },
        segmentations=columns.segmentations,
    )


def _bit(flag: tuple[str, Any]) -> int:
    """Where a flag stands in its registry; those without a bit last, as they come."""
    bit = flag[1].get("bit") if isinstance(flag[1], Mapping) else None
    return bit if isinstance(bit, int) else 64


def _filled(n: int, rows: array[int], values: array[float]) -> NDArray[np.float64]:
    column = np.full(n, np.nan)
    column[np.array(rows, np.int64)] = values
    return column


def _set_at(n: int, rows: array[int]) -> NDArray[np.bool_]:
    column = np.zeros(n, bool)
    column[np.array(rows, np.int64)] = True
    return column


def _broken(path: Path, what: str) -> InputError:
    return InputError(what, file=path, remedy=f"see what `astrolabel validate {path}` finds")


FAR = 1 << 40
"""px: boxes are of less."""

NEEDED = {"image_id", "category_id", "bbox", "area", "segmentation"}
"""What every annotation of ours has."""


class _Columns:
    """Takes annotations out of a document while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids, self.image, self.category = array("q"), array("q"), array("q")
        self.ignored, self.matched = array("b"), array("b")
        self.boxes, self.area = array("d"), array("d")
        self.numbers: dict[str, tuple[array[int], array[float]]] = {}
        self.flags: dict[str, array[int]] = {}
        self.segmentations: list[Any] = []

    def take(self, item: dict[str, Any]) -> Any:
        """None in place of an annotation, which is kept in the columns."""
        if "image_id" not in item or not item.keys() >= NEEDED:
            return item
        self.add(item)
        return None

    def add(self, item: Any) -> None:
        """Keep one annotation."""
        try:
            self._add(item)
        except (
            AttributeError, KeyError, OverflowError, TypeError, ValueError, msgspec.ValidationError,
        ) as error:  # fmt: skip
            what = f"annotation {len(self.segmentations) + 1} of the list is not whole ({error!r})"
            raise _broken(self.path, what) from error

    def _add(self, item: dict[str, Any]) -> None:
        row = len(self.segmentations)
        attributes = item.get("attributes") or {}
        msgspec.convert(attributes, Attributes)  # its flags, for one, are texts
        number = item.get("id")
        self.ids.append(number if type(number) is int and abs(number) < 2**63 else row + 1)
        self.image.append(item["image_id"])
        self.category.append(item["category_id"])
        self.ignored.append(bool(item.get("iscrowd", 0)))
        self.matched.append(attributes.get("object_id") is not None)
        x, y, width, height = item["bbox"]
        if not (abs(x) < FAR and abs(y) < FAR and 0 <= width < FAR and 0 <= height < FAR):
            raise ValueError("a bbox that is not finite or of a negative side")
        self.boxes.extend((x, y, width, height))
        self.area.append(item["area"])
        segmentation = item["segmentation"]
        if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), str):
            segmentation = segmentation["counts"]
        self.segmentations.append(segmentation)
        for name, value in attributes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                rows, values = self.numbers.setdefault(name, (array("q"), array("d")))
                rows.append(row)
                values.append(value)
        for name in attributes.get("flags") or ():
            self.flags.setdefault(name, array("q")).append(row)
