"""A COCO file as images and truth, ready to be cropped.

Boxes are taken from the masks, not from the file: published lists carry modelling boxes
that cut or dwarf their objects. Masks stay compressed until a crop needs them. Ignore
regions (``iscrowd`` 1) are kept apart and never become positives. What cannot be used is
counted under the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.config import DataConfig
from astroseg.core.errors import InputError
from astroseg.core.files import sha256
from astroseg.core.samples import Rle
from astroseg.data.annotations import Annotations
from astroseg.data.attributes import REVIEWED
from astroseg.data.coco import ImageEntry, read_coco
from astroseg.data.images import is_eight_bit_picture, rows_upwards
from astroseg.data.repairs import Repairs


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset.

    Attributes
    ----------
    id : of the COCO file.
    name : as the COCO file names it, for people.
    files : one cube or picture, or one file per band.
    height, width : in pixels.
    bands : names in the order of the file's planes, () when unknown.
    sky_sigma : noise per band in the image's flux unit, () when unknown.
    zeropoint : AB magnitude of one unit of flux per band, () when unknown.
    wcs : FITS cards of the world coordinate system, None when unknown.
    """

    id: int
    name: str
    files: tuple[Path, ...]
    height: int
    width: int
    bands: tuple[str, ...] = ()
    sky_sigma: tuple[float, ...] = ()
    zeropoint: tuple[float, ...] = ()
    wcs: Mapping[str, Any] | None = None

    @property
    def upwards(self) -> bool:
        """Whether its first row is drawn at the bottom; see `rows_upwards`."""
        return rows_upwards(self.files, self.wcs)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is labelled in one image.

    Attributes
    ----------
    labels : (N,) int64 from 0.
    masks : N RLEs of (H, W), none of them empty.
    ignored : RLEs of the regions without truth.
    targets : (N, T) float32 of the attributes to learn, NaN where unknown; None where there
        are none.
    weights : (N,) float32 in the losses; None where all weigh 1.
    """

    labels: NDArray[np.int64]
    masks: Sequence[Rle]
    ignored: Sequence[Rle] = ()
    targets: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)


class Truths(Sequence[Truth]):
    """The truth of each image, made when it is asked for.

    Parameters
    ----------
    annotations : of all images, sorted by image, with masks.
    images : how many there are.
    least_pixels : objects of fewer pixels are ignore regions.
    targets : attributes to learn.
    reviewed_weight : of the objects that a person has looked at.
    """

    def __init__(
        self,
        annotations: Annotations,
        images: int,
        least_pixels: int = 0,
        targets: tuple[str, ...] = (),
        reviewed_weight: float = 1.0,
    ) -> None:
        self._annotations, self._least = annotations, least_pixels
        self.targets, self._weight = targets, reviewed_weight
        self._bounds = np.searchsorted(annotations.image, np.arange(images + 1))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start, stop = self._bounds[index % len(self) : index % len(self) + 2]
        masks = self._annotations.masks
        assert masks is not None
        left_out = self._ignored(start, stop)
        chosen, ignored = start + np.flatnonzero(~left_out), start + np.flatnonzero(left_out)
        labels = self._annotations.category[chosen].astype(np.int64)
        targets = self._targets(chosen) if self.targets else None
        weights = self._weights(chosen)
        return Truth(labels, tuple(masks[chosen]), tuple(masks[ignored]), targets, weights)

    def _ignored(self, start: int, stop: int) -> NDArray[np.bool_]:
        one = self._annotations
        assert one.masks is not None
        return one.ignored[start:stop] | (one.masks.area[start:stop] < self._least)

    def _targets(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        known = self._annotations.attributes
        none = np.full(len(rows), np.nan)
        columns = [known[name][rows] if name in known else none for name in self.targets]
        return np.stack(columns, axis=1).astype(np.float32)

    def _weights(self, rows: NDArray[np.intp]) -> NDArray[np.float32] | None:
        reviewed = self._annotations.attributes.get(REVIEWED)
        if reviewed is None or self._weight == 1:
            return None
        return np.where(reviewed[rows] == 1, self._weight, 1.0).astype(np.float32)

    @property
    def reviewed(self) -> int:
        """Objects that a person has looked at, where that was read."""
        found = self._annotations.attributes.get(REVIEWED)
        own = ~self._ignored(0, len(self._annotations))
        return 0 if found is None else int(np.count_nonzero(found[own] == 1))

    def all_targets(self) -> NDArray[np.float32]:
        """(N, T) attributes to learn of the objects of all images, NaN where unknown."""
        return self._targets(np.flatnonzero(~self._ignored(0, len(self._annotations))))

    def without_small(self, least_pixels: int) -> Truths:
        """The same with objects of fewer pixels as ignore regions."""
        return Truths(self._annotations, len(self), least_pixels, self.targets, self._weight)

    def rows(self, indices: Sequence[int]) -> Annotations:
        """The annotations of some images, which they number anew from 0, as their file has them."""
        starts, stops = self._bounds[list(indices)], self._bounds[np.asarray(indices, int) + 1]
        spans = zip(starts, stops, strict=True)
        chosen = np.concatenate([np.zeros(0, np.int64), *(np.arange(*span) for span in spans)])
        one = self._annotations
        assert one.masks is not None
        masks, boxes, area = one.masks[chosen], one.boxes[chosen], one.area[chosen]
        return Annotations(
            image=np.repeat(np.arange(len(starts)), stops - starts).astype(np.int32),
            category=one.category[chosen],
            ignored=one.ignored[chosen],
            masks=masks,
            # Those of the masks where the file's were not read.
            boxes=np.where(np.isnan(boxes), masks.boxes, boxes),
            area=np.where(np.isnan(area), masks.area, area),
            score=np.ones(len(chosen)),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A COCO file.

    Attributes
    ----------
    path : of the file.
    classes : names in the order of the category ids.
    category_ids : of the classes.
    images, truth : one each per image.
    objects, ignored : how many labelled objects and ignore regions there are.
    repairs : what was repaired and left out in reading.
    digest : SHA-256 of the file.
    """

    path: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    truth: Truths
    objects: int = 0
    ignored: int = 0
    repairs: Repairs = field(default_factory=Repairs)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def left_out(self) -> Mapping[str, int]:
        """Annotations that were not used, by reason."""
        return self.repairs.left_out

    @property
    def of_pictures(self) -> bool:
        """Whether the images are ordinary 8-bit pictures rather than fluxes."""
        return all(is_eight_bit_picture(record.files[0]) for record in self.images)

    def without_small(self, least_pixels: int) -> Dataset:
        """The same with objects of fewer pixels as ignore regions."""
        return dataclasses.replace(self, truth=self.truth.without_small(least_pixels))

    def notes(self) -> list[str]:
        """What a user should know of the labels, one line each."""
        lines = self.repairs.lines()
        if self.ignored:
            lines.insert(
                0,
                f"ignore regions: {self.ignored} of {self.ignored + self.objects} labels have "
                "iscrowd 1 and are neither objects nor background (some tools write it for "
                "every RLE mask; --data.iscrowd object takes them as objects)",
            )
        return lines

    def require_objects(self) -> None:
        """Raise InputError when there is no labelled object."""
        if self.objects:
            return
        said = f" ({'; '.join(self.notes())})" if self.notes() else ""
        raise InputError(
            f"labels no objects{said}", file=self.path, remedy="give a labelled dataset"
        )


def read_dataset(
    path: str | Path,
    *,
    images: str | Path | None = None,
    classes: Sequence[str] = (),
    labelled: bool = True,
    strict: bool = False,
    ignored_as_objects: bool = False,
    measured: bool = False,
    targets: Sequence[str] = (),
    reviewed_weight: float = 1.0,
) -> Dataset:
    """Read a COCO document, or a list of Detectron2 records.

    Parameters
    ----------
    reviewed_weight : in the losses, of the objects that a person has looked at.
    See `astroseg.data.coco.read_coco`; `configured_dataset` takes them from settings.

    Raises
    ------
    InputError
        When the file is no dataset, or anything in it contradicts the rest.
    """
    coco = read_coco(
        path,
        images=images,
        classes=classes,
        labelled=labelled,
        strict=strict,
        ignored_as_objects=ignored_as_objects,
        measured=measured,
        targets=targets,
        reviewed=reviewed_weight != 1,
    )
    found = coco.annotations
    if found.masks is None:
        raise InputError(
            f"has no segmentation in any of its {len(found)} annotations, and boxes alone do "
            "not train masks",
            file=coco.path,
            remedy="give annotations with polygons or RLE",
        )
    ignored = int(found.ignored.sum())
    return Dataset(
        path=coco.path,
        classes=coco.classes,
        category_ids=coco.category_ids,
        images=tuple(_record(entry, coco.path) for entry in coco.images),
        truth=Truths(
            found, len(coco.images), targets=tuple(targets), reviewed_weight=reviewed_weight
        ),
        objects=len(found) - ignored,
        ignored=ignored,
        repairs=coco.repairs,
        digest=sha256(coco.path),
    )


def configured_dataset(
    path: str | Path,
    data: DataConfig,
    *,
    labelled: bool = True,
    measured: bool = False,
    targets: Sequence[str] = (),
) -> Dataset:
    """`read_dataset` as settings say."""
    return read_dataset(
        path,
        images=data.images or None,
        classes=data.classes,
        labelled=labelled,
        strict=data.strict,
        ignored_as_objects=data.iscrowd == "object",
        measured=measured,
        targets=targets,
        reviewed_weight=data.reviewed_weight,
    )


def check_same_classes(first: Dataset, second: Dataset) -> None:
    """Raise InputError when two datasets do not number the same classes alike."""
    if first.classes != second.classes:
        raise InputError(
            f"has the classes {', '.join(second.classes)}, but {first.path} has "
            f"{', '.join(first.classes)}",
            file=second.path,
            remedy="give both files the same categories in the same order",
        )


def _record(entry: ImageEntry, path: Path) -> ImageRecord:
    astro = entry.astro
    wcs = astro.get("wcs")
    try:
        if not entry.files:
            raise ValueError("no file_name")
        return ImageRecord(
            id=entry.id,
            name=str(astro.get("cube") or entry.file_name),
            files=entry.files,
            height=entry.height,
            width=entry.width,
            bands=tuple(str(band) for band in astro.get("bands") or ()),
            sky_sigma=_numbers(astro.get("sky_sigma")),
            zeropoint=_numbers(astro.get("zeropoint")),
            wcs=wcs if wcs and isinstance(wcs, Mapping) else None,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"has an image without what it needs ({type(error).__name__}: {error})",
            file=path,
            remedy="give each image an integer id, file_name, height and width",
        ) from error


def _numbers(value: Any) -> tuple[float, ...]:
    """A number or list of numbers as a tuple; null, which stands for NaN, is NaN."""
    if value is None:
        return ()
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(float("nan") if v is None else float(v) for v in values)
