"""The one door through which COCO-like documents come in: checked, and repaired once.

Labelling tools write COCO in many spellings. What plainly means something is read as that;
what plainly holds nothing is left out. Both are counted by reason (`Repairs`), printed, and
refused when `strict`. What contradicts itself is refused with the annotation's id. After
this no other part of the program meets an unchecked value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.stream import Document
from astroseg.data.annotations import Annotations, Frame, read_rows
from astroseg.data.identifiers import key_of, locate, numbered, readable
from astroseg.data.images import read_pixels
from astroseg.data.parquet import open_labels
from astroseg.data.records import from_records, is_records
from astroseg.data.repairs import Repairs

MOST_PIXELS = 1 << 32
"""Of an image: pycocotools counts them in 32 bits."""

BACKGROUND = ("background", "_background_", "__background__", "__ignore__")
"""Categories that tools list for what has no label."""


@dataclass(frozen=True)
class ImageEntry:
    """One image of a document.

    Attributes
    ----------
    id : of 63 bits.
    file_name : as the document has it, for people.
    files : the document's names of its pixels: one cube or picture, or one file per band;
        found below the folder of the images.
    height, width : in px.
    astro : the survey's own entry (cube, bands, zero point), empty where there is none.
    """

    id: int
    file_name: str
    files: tuple[Path, ...]
    height: int
    width: int
    astro: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A document.

    Attributes
    ----------
    path : of the file.
    info : what the document says of itself.
    images : in the document's order.
    classes : names in the order of the categories' ids.
    category_ids : of the classes.
    image_of, label_of : place of an image and label of a class by the key of an id.
    annotations : `category` counts the classes; empty for a document that is not labelled.
    repairs : what was repaired and left out.
    """

    path: Path
    info: Mapping[str, Any]
    images: tuple[ImageEntry, ...]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_of: Mapping[Hashable, int]
    label_of: Mapping[Hashable, int]
    annotations: Annotations
    repairs: Repairs

    @property
    def shapes(self) -> NDArray[np.int32]:
        """(I, 2) int32, (H, W) of the images."""
        return shapes_of(self.images)


def shapes_of(images: Sequence[ImageEntry]) -> NDArray[np.int32]:
    """(I, 2) int32, (H, W) of images."""
    return np.array([(i.height, i.width) for i in images], np.int32).reshape(-1, 2)


def read_coco(
    path: str | Path,
    *,
    images: str | Path | None = None,
    classes: Sequence[str] = (),
    labelled: bool = True,
    strict: bool = False,
    ignored_as_objects: bool = False,
    measured: bool = True,
    targets: Sequence[str] = (),
    reviewed: bool = False,
) -> CocoFile:
    """Read a COCO document, a list of Detectron2 records, or a Parquet table of labels.

    Parameters
    ----------
    path : of the file.
    images : folder the image names are relative to; by default that of the file.
    classes : names for a list of records, which has none; for a COCO document they must be
        its own.
    labelled : False for images to predict: annotations are not read, and neither they nor
        categories need be there.
    strict : refuse what would be repaired or left out.
    ignored_as_objects : take ``iscrowd: 1`` as objects, for tools that write it for every RLE.
    measured : whether boxes, areas and attributes are wanted beside the masks.
    targets : attributes that are wanted in any case.
    reviewed : whether it is wanted which annotations a person has looked at.

    Raises
    ------
    InputError
        When the file is no dataset, or anything in it contradicts the rest.
    """
    path = Path(path)
    document = _opened(path, classes, labelled)
    value = document.value
    repairs = Repairs()
    root = path.parent if images is None else Path(images)
    entries, image_of = read_images(value["images"], root, path, repairs, only=images is not None)
    categories = _read_categories(value.get("categories") or [], path, repairs)
    frame = Frame(
        path,
        shapes_of(entries),
        image_of,
        categories.place_of,
        ignored_as_objects=ignored_as_objects,
        measured=measured,
        targets=tuple(targets),
        reviewed=reviewed,
    )
    found = read_rows(document.rows(frame.kind) if labelled else [], frame, repairs)
    used = set(np.unique(found.category).tolist()) if labelled else None
    names, ids, label_of_place = _classes(categories, used, path, repairs)
    _check_classes(names, classes, labelled, path)
    if strict:
        repairs.refuse(path)
    if len(found):
        found.category[:] = label_of_place[found.category]
    return CocoFile(
        path=path,
        info=value["info"] if isinstance(value.get("info"), Mapping) else {},
        images=entries,
        classes=names,
        category_ids=ids,
        image_of=image_of,
        label_of=_labels(categories, label_of_place),
        annotations=found,
        repairs=repairs,
    )


def _labels(
    categories: _Categories, label_of_place: NDArray[np.integer[Any]]
) -> dict[Hashable, int]:
    """Class of each category that has one, by its id."""
    return {
        key: int(label_of_place[place])
        for key, place in categories.place_of.items()
        if label_of_place[place] >= 0
    }


def _opened(path: Path, classes: Sequence[str], labelled: bool) -> Document:
    """A file as a COCO document; its annotations may still be unread."""
    document = open_labels(path)
    if is_records(document.value):
        document = Document(from_records(document.value, path, classes), path, "annotations")
    _check_document(document.value, path, labelled)
    return document


def _check_classes(
    names: tuple[str, ...], wanted: Sequence[str], labelled: bool, path: Path
) -> None:
    if labelled and not names:
        raise InputError(
            "names no class", file=path, remedy="name at least one class in its categories"
        )
    if wanted and tuple(wanted) != names:
        raise InputError(
            f"has the classes {', '.join(names)}, not {', '.join(wanted)}",
            file=path,
            remedy="leave --classes out; it names the classes of files that do not",
        )


def _check_document(document: Any, path: Path, labelled: bool) -> None:
    needed = ("images", "annotations", "categories") if labelled else ("images",)
    if isinstance(document, dict) and all(isinstance(document.get(k), list) for k in needed):
        if not document["images"]:
            raise InputError("lists no images", file=path, remedy="give a dataset with images")
        return
    if isinstance(document, list):
        what = "is a list"
        if document and isinstance(document[0], dict) and "score" in document[0]:
            what = "is a list of predictions"
    elif isinstance(document, dict):
        what = f"has the keys {', '.join(map(readable, list(document)[:20])) or 'none'}"
    else:
        what = f"holds a {type(document).__name__}"
    raise InputError(
        f"{what}, so it is no dataset",
        file=path,
        remedy="give a COCO file with images, annotations and categories",
    )


def read_images(
    items: Sequence[Any], root: Path, path: Path, repairs: Repairs, *, only: bool = False
) -> tuple[tuple[ImageEntry, ...], dict[Hashable, int]]:
    """The images, and their places by the keys of their ids.

    Parameters
    ----------
    root : folder of the images.
    only : whether `root` was asked for: whole paths to other folders are not followed.

    Raises
    ------
    InputError
        For an image without id or size, and for two of one id.
    """
    keys: list[Hashable] = []
    for item in items:
        key = key_of(item.get("id")) if isinstance(item, Mapping) else None
        if key is None:
            raise _incomplete(path, "id", item)
        keys.append(key)
    if twice := sorted({str(key) for key, n in Counter(keys).items() if n > 1}):
        raise InputError(
            f"uses image ids twice: {', '.join(twice[:10])}",
            file=path,
            remedy="number images uniquely",
        )
    numbers = numbered(keys, repairs.mended, "image")
    entries = tuple(
        _image(item, number, root, path, repairs, only)
        for item, number in zip(items, numbers, strict=True)
    )
    _refuse_one_file(entries, path)
    # Predictions written for an image that was numbered anew carry its number.
    places: dict[Hashable, int] = {number: i for i, number in enumerate(numbers)}
    return entries, places | {key: i for i, key in enumerate(keys)}


def _refuse_one_file(entries: Sequence[ImageEntry], path: Path) -> None:
    """Raise InputError where names of unlike folders are found as one file."""
    names: dict[tuple[Path, ...], str] = {}
    for entry in entries:
        other = names.setdefault(entry.files, entry.file_name)
        if entry.files and other != entry.file_name:
            raise InputError(
                f"has the images {other} and {entry.file_name}, and both would be read from "
                f"{entry.files[0]}",
                file=path,
                remedy="give the folder that holds their folders with --images",
            )


def _incomplete(path: Path, what: str, item: Any) -> InputError:
    text = readable(repr(item))
    return InputError(
        f"has an image without a proper {what} ({text[:120]})",
        file=path,
        remedy="give each image an integer id, file_name, height and width",
    )


def _image(
    item: Any, number: int, root: Path, path: Path, repairs: Repairs, only: bool
) -> ImageEntry:
    astro = item.get("astro") or {}
    if not isinstance(astro, Mapping):
        repairs.mended["astro entries that are no object, ignored"] += 1
        astro = {}
    shown = item.get("file_name", "")
    names = astro.get("cube") or astro.get("files") or shown
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _incomplete(path, "file_name", item)
    if isinstance(shown, list):
        shown = shown[0] if shown else ""
    files = tuple(locate(name, root, only=only) for name in names if name)
    height, width = _size(item, files, path, repairs)
    name = str(shown) or (names[0] if names else "")
    return ImageEntry(number, readable(name), files, height, width, astro)


def _size(
    item: Mapping[str, Any], files: tuple[Path, ...], path: Path, repairs: Repairs
) -> tuple[int, int]:
    size = tuple(key_of(item.get(side)) for side in ("height", "width"))
    if all(isinstance(n, int) and n > 0 for n in size):
        height, width = int(str(size[0])), int(str(size[1]))
        if height * width < MOST_PIXELS:
            return height, width
        raise InputError(
            f"has an image of {height}x{width} pixels, more than COCO's masks can hold",
            file=path,
            remedy="mend its height and width, or cut it into tiles",
        )
    if not files or any(item.get(side) for side in ("height", "width")):
        raise _incomplete(path, "height or width", item)
    repairs.mended["image sizes read from the images themselves"] += 1
    return read_pixels(files).shape


@dataclass(frozen=True)
class _Categories:
    """Categories as listed: number, name and supercategory of each, and places by key."""

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    supers: tuple[str, ...]
    place_of: Mapping[Hashable, int]


def _read_categories(items: Any, path: Path, repairs: Repairs) -> _Categories:
    if not isinstance(items, list):
        raise InputError(
            f"has categories that are no list ({readable(repr(items))[:80]})",
            file=path,
            remedy="give each category an id and a name",
        )
    rows: list[tuple[Hashable, str, str]] = []
    for item in items:
        key = key_of(item.get("id")) if isinstance(item, Mapping) else None
        name = item.get("name") if isinstance(item, Mapping) else None
        if key is None or not str(name or "").strip():
            raise InputError(
                f"has a category without id or name ({readable(repr(item))[:80]})",
                file=path,
                remedy="give each category an id and a name",
            )
        rows.append((key, readable(str(name).strip()), str(item.get("supercategory") or "")))
    keys = [key for key, _, _ in rows]
    if len(set(keys)) < len(keys):
        raise InputError(
            f"has the categories {[(k, n) for k, n, _ in rows]}, two of one id",
            file=path,
            remedy="give each category its own id",
        )
    numbers = numbered(keys, repairs.mended, "category")
    return _Categories(
        tuple(numbers),
        tuple(name for _, name, _ in rows),
        tuple(parent for _, _, parent in rows),
        {number: i for i, number in enumerate(numbers)} | {key: i for i, key in enumerate(keys)},
    )


def _classes(
    categories: _Categories, used: set[int] | None, path: Path, repairs: Repairs
) -> tuple[tuple[str, ...], tuple[int, ...], NDArray[np.int32]]:
    """Classes by their ids, these, and the label of each category's place, -1 for none.

    A category that has no annotation and is the parent of another, or has the name of
    another, is no class: Roboflow puts its project's name there. Nor is the background that
    LabelMe's converter lists.
    """
    names, parents = categories.names, set(categories.supers)
    empty = [used is None or place not in used for place in range(len(names))]
    alike = Counter(names)
    dropped = [
        empty[place]
        and (
            (name in BACKGROUND and used is not None)
            or (name in parents and categories.supers[place] in ("", "none"))
            or (used is not None and alike[name] > 1)
        )
        for place, name in enumerate(names)
    ]
    if all(dropped):  # a name twice, and no annotation shows which one is used
        dropped = [name in names[:place] for place, name in enumerate(names)]
    if n := sum(dropped):
        repairs.mended[
            "categories without annotations that only name a group or the background, left out"
        ] += n
    kept = [place for place in range(len(names)) if not dropped[place]]
    kept.sort(key=lambda place: categories.numbers[place])
    classes = tuple(names[place] for place in kept)
    if len(set(classes)) < len(classes):
        raise InputError(
            f"has categories {list(classes)} of the same name",
            file=path,
            remedy="give each category its own name",
        )
    label = np.full(max(1, len(names)), -1, np.int32)
    label[kept] = np.arange(len(kept))
    return classes, tuple(categories.numbers[place] for place in kept), label
