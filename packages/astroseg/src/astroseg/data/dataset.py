"""A COCO file as images and truth, ready to be cropped.

Boxes are taken from the masks, not from the file: published lists carry modelling boxes
that cut or dwarf their objects. Masks stay compressed until a crop needs them. Ignore
regions (``iscrowd`` 1) are kept apart and never become positives. What cannot be used is
counted under the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.files import sha256
from astroseg.core.rle import Rle, from_polygons, run_lengths
from astroseg.data.convert import from_records, is_records
from astroseg.data.images import is_eight_bit_picture, rows_upwards
from astroseg.data.parquet import read_labels


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
    """

    labels: NDArray[np.int64]
    masks: tuple[Rle, ...]
    ignored: tuple[Rle, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A COCO file.

    Attributes
    ----------
    path : of the file.
    classes : names in the order of the category ids.
    category_ids : of the classes.
    images, truth : one each per image.
    left_out : annotations that cannot be used, by reason.
    digest : SHA-256 of the file.
    """

    path: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    truth: tuple[Truth, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def objects(self) -> int:
        """Number of labelled objects."""
        return sum(len(truth) for truth in self.truth)

    @property
    def of_pictures(self) -> bool:
        """Whether the images are ordinary 8-bit pictures rather than fluxes."""
        return all(is_eight_bit_picture(record.files[0]) for record in self.images)


def read_dataset(
    path: str | Path,
    *,
    images: str | Path | None = None,
    classes: Sequence[str] = (),
    labelled: bool = True,
) -> Dataset:
    """Read a COCO document, or a list of Detectron2 records.

    Parameters
    ----------
    path : of the JSON file, or of astrolabel's Parquet table.
    images : folder the image names are relative to; by default that of the file.
    classes : names for a list of records, which has none; for a COCO document they must
        be its own.
    labelled : False for images to predict: annotations are not read, and neither they nor
        categories need be there.

    Raises
    ------
    InputError
        When the file is no dataset, or anything in it contradicts the rest.
    """
    path = Path(path)
    document = read_labels(path)
    if is_records(document):
        document = from_records(document, path, classes)
    if not labelled and isinstance(document, dict):
        document = {"categories": [], **document, "annotations": []}
    _check_document(document, path)
    if not document["images"]:
        raise InputError("lists no images", file=path, remedy="give a dataset with images")
    ids, names = _categories(document["categories"], path, needed=labelled)
    if classes and tuple(classes) != names:
        raise InputError(
            f"has the classes {', '.join(names)}, not {', '.join(classes)}",
            file=path,
            remedy="leave --classes out; it names the classes of files that do not",
        )
    root = path.parent if images is None else Path(images)
    records = tuple(_image(item, root, path) for item in document["images"])
    numbers = {record.id: i for i, record in enumerate(records)}
    if len(numbers) != len(records):
        raise InputError("has two images of one id", file=path, remedy="number them anew")
    truth, left_out = _truth(document["annotations"], records, numbers, ids, path)
    return Dataset(path, names, ids, records, truth, left_out, sha256(path))


def check_same_classes(first: Dataset, second: Dataset) -> None:
    """Raise InputError when two datasets do not number the same classes alike."""
    if first.classes != second.classes:
        raise InputError(
            f"has the classes {', '.join(second.classes)}, but {first.path} has "
            f"{', '.join(first.classes)}",
            file=second.path,
            remedy="give both files the same categories in the same order",
        )


def _check_document(document: Any, path: Path) -> None:
    needed = ("images", "annotations", "categories")
    if isinstance(document, dict) and all(isinstance(document.get(k), list) for k in needed):
        return
    if isinstance(document, list):
        what = "is a list"
        if document and isinstance(document[0], dict) and "score" in document[0]:
            what = "is a list of predictions"
    elif isinstance(document, dict):
        what = f"has the keys {', '.join(document) or 'none'}"
    else:
        what = f"holds a {type(document).__name__}"
    raise InputError(
        f"{what}, so it is no dataset",
        file=path,
        remedy="give a COCO file with images, annotations and categories",
    )


def _categories(
    items: Sequence[Any], path: Path, *, needed: bool
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    try:
        pairs = sorted((int(item["id"]), str(item["name"])) for item in items)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"has a category without id or name ({error})",
            file=path,
            remedy="give each category an id and a name",
        ) from error
    ids, names = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    if (needed and not names) or len(set(ids)) != len(ids) or len(set(names)) != len(names):
        raise InputError(
            f"has the categories {list(pairs)}",
            file=path,
            remedy="name at least one class, each once and with its own id",
        )
    return ids, names


def _image(item: Any, root: Path, path: Path) -> ImageRecord:
    try:
        astro = item.get("astro") or {}
        names = astro.get("cube") or astro.get("files") or item["file_name"]
        names = [names] if isinstance(names, str) else [str(name) for name in names]
        return ImageRecord(
            id=int(item["id"]),
            name=names[0],
            files=tuple(root / name for name in names),
            height=int(item["height"]),
            width=int(item["width"]),
            bands=tuple(str(band) for band in astro.get("bands") or ()),
            sky_sigma=_numbers(astro.get("sky_sigma")),
            zeropoint=_numbers(astro.get("zeropoint")),
            wcs=astro.get("wcs") or None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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


def _truth(
    annotations: Sequence[Any],
    records: Sequence[ImageRecord],
    numbers: Mapping[int, int],
    ids: Sequence[int],
    path: Path,
) -> tuple[tuple[Truth, ...], dict[str, int]]:
    label_of = {category: label for label, category in enumerate(ids)}
    labels: list[list[int]] = [[] for _ in records]
    masks: list[list[Rle]] = [[] for _ in records]
    ignored: list[list[Rle]] = [[] for _ in records]
    left_out: Counter[str] = Counter()
    for place, item in enumerate(annotations):
        name = item.get("id", f"number {place + 1}") if isinstance(item, Mapping) else place
        try:
            image = numbers[item["image_id"]]
            crowd = bool(item.get("iscrowd", 0))
            label = 0 if crowd else label_of[item["category_id"]]
            record = records[image]
            rle = _mask(item.get("segmentation"), (record.height, record.width))
        except KeyError as error:
            raise InputError(
                f"annotation {name} has no or an unknown {_missing(item, numbers)}",
                file=path,
                remedy="every annotation needs the ids of a listed image and category",
            ) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(
                f"annotation {name} cannot be used: {error}",
                file=path,
                remedy="mend or leave out that annotation",
            ) from error
        if rle is None:
            left_out["mask without a pixel"] += 1
        elif crowd:
            ignored[image].append(rle)
        else:
            labels[image].append(label)
            masks[image].append(rle)
    truth = tuple(
        Truth(np.asarray(chosen, np.int64), tuple(rles), tuple(regions))
        for chosen, rles, regions in zip(labels, masks, ignored, strict=True)
    )
    return truth, dict(left_out)


def _missing(item: Any, numbers: Mapping[int, int]) -> str:
    return "category_id" if item.get("image_id") in numbers else "image_id"


def _mask(segmentation: Any, shape: tuple[int, int]) -> Rle | None:
    """RLE of polygons or RLE, compressed or not; None when it has no pixel.

    Raises
    ------
    ValueError
        When there is no segmentation, or one of another size than the image.
    """
    if isinstance(segmentation, Mapping):
        lengths = run_lengths(segmentation)
        if tuple(segmentation["size"]) != shape:
            raise ValueError(
                f"its mask is of an image of {segmentation['size'][0]}x"
                f"{segmentation['size'][1]} pixels, not {shape[0]}x{shape[1]}"
            )
        if not lengths[1::2].any():
            return None
        counts = segmentation["counts"]
        return {
            "size": list(shape),
            "counts": counts if isinstance(counts, str) else lengths.tolist(),
        }
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("it has no segmentation, and a box alone does not train masks")
    # pycocotools needs three corners; two are a line without a pixel.
    polygons = [p for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
    if not polygons:
        return None
    rle = from_polygons(polygons, shape)
    return rle if run_lengths(rle)[1::2].any() else None
