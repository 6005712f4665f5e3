"""Truth and predictions files, checked against each other, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from astroseg.core.errors import InputError
from astroseg.core.files import read_json
from astroseg.core.rle import run_lengths
from astroseg.core.samples import Rle
from astroseg.data.convert import from_records, is_records
from astroseg.data.parquet import read_labels
from astroseg.evaluation.metrics.objects import EvaluationSet, Image, Objects, mask_areas

_ATTRIBUTES = ("snr", "n_blended", "blendedness")
"""Numbers of ``annotation["attributes"]`` that metrics are binned by, beside mag_<band>."""

_Entry = Mapping[str, Any]


def read(truth: str | Path, predictions: str | Path) -> EvaluationSet:
    """Read and check both files.

    Parameters
    ----------
    truth : COCO detection JSON: polygons or RLE, any ids; ``iscrowd: 1`` marks a region to
        ignore. Or a list of Detectron2 records, images numbered from 1 in its order.
    predictions : COCO results, ``[{image_id, category_id, bbox, score, segmentation}]``,
        with the truth's category ids; or an object that holds such a list under
        ``predictions`` or ``annotations``, with ``info``, ``images`` and ``categories``
        (matched to the truth's by name). Beside a bare list ``NAME.json``, a file
        ``NAME.info.json`` may hold these three; `astroseg.inference.predict` writes it.

    Raises
    ------
    InputError
        When a file cannot be read or is no such document, when the classes differ, when
        predictions are of images or classes the truth has not, or an entry makes no sense.
    """
    truth, predictions = Path(truth), Path(predictions)
    doc = read_labels(truth)
    if is_records(doc):
        doc = from_records(doc, truth)
    images = _images(doc, truth)
    class_of = _classes(doc, truth)
    index = {image.id: k for k, image in enumerate(images)}
    entries, head = _results(read_json(predictions), predictions)
    beside = predictions.with_suffix(".info.json")
    if not head and beside.is_file():
        head = _side_file(beside)
    names = tuple(doc_name for doc_name, _ in class_of.values())
    label_of_truth = {key: label for key, (_, label) in class_of.items()}
    label_of_prediction = _match_classes(head, names, label_of_truth, predictions)
    listed = _check_images(head, entries, index, images, predictions)
    return EvaluationSet(
        images=images,
        classes=names,
        truth=_objects(doc["annotations"], images, index, label_of_truth, truth, scored=False),
        detections=_objects(entries, images, index, label_of_prediction, predictions, scored=True),
        truth_info=doc.get("info") or {},
        prediction_info=head.get("info") or {},
        folder=truth.parent,
        without_predictions=tuple(i for i in index if listed is not None and i not in listed),
    )


def _images(doc: Any, path: Path) -> tuple[Image, ...]:
    keys = ("images", "annotations", "categories")
    if not isinstance(doc, dict) or not all(isinstance(doc.get(key), list) for key in keys):
        raise InputError(
            "is not a COCO document",
            file=path,
            remedy="give one JSON object with lists of images, annotations and categories",
        )
    if not doc["images"]:
        raise InputError("has no images", file=path, remedy="give a dataset with some")
    try:
        images = [
            Image(
                id=int(item["id"]),
                file_name=_first(item.get("file_name", "")),
                height=int(item["height"]),
                width=int(item["width"]),
                astro=item.get("astro") or {},
            )
            for item in doc["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"has an image without a proper id, height or width ({error!r})",
            file=path,
            remedy="give each image an integer id and its size in pixels",
        ) from error
    ids = [image.id for image in images]
    twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise InputError(
            f"uses image ids twice: {_some(twice)}", file=path, remedy="number images uniquely"
        )
    return tuple(sorted(images, key=lambda image: image.id))


def _first(name: Any) -> str:
    """The file of an image, or the first of its bands' files."""
    return str(name[0] if isinstance(name, list) and name else name)


def _classes(doc: Any, path: Path) -> dict[int, tuple[str, int]]:
    """Category id -> (name, label), labels counting from 0 in the order of the ids."""
    try:
        pairs = sorted((int(item["id"]), str(item["name"])) for item in doc["categories"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"has a category without id or name ({error!r})",
            file=path,
            remedy="give each category an integer id and a name",
        ) from error
    names = [name for _, name in pairs]
    if not names or len(set(names)) < len(names) or len({key for key, _ in pairs}) < len(names):
        raise InputError(
            f"has categories {names or 'of no kind'} that cannot be told apart",
            file=path,
            remedy="give at least one category, each with its own id and name",
        )
    return {key: (name, label) for label, (key, name) in enumerate(pairs)}


def _results(doc: Any, path: Path) -> tuple[list[_Entry], dict[str, Any]]:
    """The predictions, and what the document says beside them."""
    head: dict[str, Any] = doc if isinstance(doc, dict) else {}
    entries: Any = head.get("predictions", head.get("annotations")) if head else doc
    if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
        raise InputError(
            "holds no list of predictions",
            file=path,
            remedy="give COCO results: [{image_id, category_id, bbox, score, segmentation}, ...]",
        )
    return entries, head


def _side_file(path: Path) -> dict[str, Any]:
    """What lies beside a bare list of predictions."""
    head = read_json(path)
    if not isinstance(head, dict):
        raise InputError(
            "is no JSON object with info, images and categories",
            file=path,
            remedy="predict again, or remove it",
        )
    return head


def _match_classes(
    head: _Entry, names: tuple[str, ...], label_of: Mapping[int, int], path: Path
) -> dict[int, int]:
    """Category id in the predictions -> label; by name where the predictions have names."""
    if not isinstance(head.get("categories"), list):
        return dict(label_of)
    mine = _classes(head, path)
    given = {name for name, _ in mine.values()}
    if given != set(names):
        raise InputError(
            f"has the classes {sorted(given)}, the truth {sorted(names)}",
            file=path,
            remedy="evaluate against a truth with the model's classes, or rename categories",
        )
    return {key: names.index(name) for key, (name, _) in mine.items()}


def _check_images(
    head: _Entry,
    entries: Sequence[_Entry],
    index: Mapping[int, int],
    images: Sequence[Image],
    path: Path,
) -> set[int] | None:
    """The image ids the predictions list (None without a list), all known to the truth."""
    listed = None
    used = {item.get("image_id") for item in entries}
    if isinstance(head.get("images"), list):
        listed = {item.get("id") for item in head["images"]}
        used |= listed
    unknown = sorted(used - set(index), key=str)
    if unknown:
        raise InputError(
            f"has predictions for images the truth does not have: {_some(unknown)}",
            file=path,
            remedy="predict on the images of the truth file, keeping their ids",
        )
    for item in head.get("images") or []:
        image, theirs = images[index[item["id"]]], _first(item.get("file_name", ""))
        names = (image.file_name, image.astro.get("cube"), image.astro.get("files"))
        ours = [_first(name) for name in names if name]
        # Stems only: the same tile may be predicted from its cube and shown as a PNG.
        if ours and theirs and PurePath(theirs).stem not in {PurePath(o).stem for o in ours}:
            raise InputError(
                f"image {item['id']} is {theirs} here and {ours[0]} in the truth",
                file=path,
                remedy="predict on the images of the truth file, keeping their ids",
            )
    return listed


def _some(values: Sequence[Any]) -> str:
    """The first ten, and how many more."""
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return ", ".join(str(value) for value in values[:10]) + more


def _objects(
    entries: Sequence[_Entry],
    images: Sequence[Image],
    index: Mapping[int, int],
    label_of: Mapping[int, int],
    path: Path,
    *,
    scored: bool,
) -> Objects:
    """Columns of a list of annotations or predictions, sorted by image."""
    image = _column(entries, "image_id", index, path)
    order = np.argsort(image, kind="stable")
    entries, image = [entries[k] for k in order], image[order]
    label = _column(entries, "category_id", label_of, path)
    masks = _masks(entries, [images[k] for k in image], path)
    boxes = _boxes(entries, masks, path)
    if masks is None:
        mask_area, tight = boxes[:, 2] * boxes[:, 3], boxes
    elif masks:
        mask_area = mask_areas(masks)
        tight = np.asarray(rle.toBbox(list(masks)), np.float64).reshape(-1, 4)
    else:
        mask_area, tight = np.zeros(0), np.zeros((0, 4))
    if scored:
        score = _numbers([item.get("score") for item in entries], "score", path)
        area, crowd = boxes[:, 2] * boxes[:, 3], np.zeros(len(entries), bool)
    else:
        score = np.ones(len(entries))
        given = [item.get("area") for item in entries]
        filled = [m if a is None else a for a, m in zip(given, mask_area, strict=True)]
        area = _numbers(filled, "area", path)
        crowd = np.array([bool(item.get("iscrowd", 0)) for item in entries], bool)
    return Objects(
        image, label, boxes, area, masks, mask_area, tight, score, crowd, _attributes(entries, path)
    )


def _column(
    entries: Sequence[_Entry], key: str, index: Mapping[int, int], path: Path
) -> NDArray[np.int64]:
    """Images or classes by their index; unknown ones are named."""
    values = [item.get(key) for item in entries]
    unknown = sorted({value for value in values if value not in index}, key=str)
    if unknown:
        raise InputError(
            f"uses {key} {_some(unknown)}, which the truth does not have (it has "
            f"{_some(list(index))})",
            file=path,
            remedy="make both files from the same dataset",
        )
    return np.array([index[value] for value in values], np.int64)  # type: ignore[index]


def _boxes(
    entries: Sequence[_Entry], masks: tuple[Rle, ...] | None, path: Path
) -> NDArray[np.float64]:
    given = [item.get("bbox") for item in entries]
    if any(box is None or len(box) != 4 for box in given):
        if masks is None:
            raise InputError(
                "has entries with neither a bbox of four numbers nor a segmentation",
                file=path,
                remedy="give each entry bbox: [x, y, width, height]",
            )
        tight = np.asarray(rle.toBbox(list(masks)), np.float64).tolist()
        given = [
            box if box is not None and len(box) == 4 else own
            for box, own in zip(given, tight, strict=True)
        ]
    boxes = _numbers(given, "bbox", path).reshape(-1, 4)
    wrong = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if len(wrong):
        raise InputError(
            f"has a bbox of negative width or height: {given[int(wrong[0])]}",
            file=path,
            remedy="write boxes as [x, y, width, height], not as corners",
        )
    return boxes


def _numbers(values: list[Any], what: str, path: Path) -> NDArray[np.float64]:
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"has a {what} that is no number ({error})", file=path, remedy="write numbers"
        ) from error
    if not np.isfinite(numbers).all():
        bad = int(np.flatnonzero(~np.isfinite(numbers.reshape(len(values), -1)).all(axis=1))[0])
        raise InputError(
            f"has a {what} that is missing or not finite: {values[bad]}",
            file=path,
            remedy=f"give each entry a finite {what}",
        )
    return numbers


def _masks(
    entries: Sequence[_Entry], images: Sequence[Image], path: Path
) -> tuple[Rle, ...] | None:
    """Compressed RLEs; None when no entry has a mask."""
    lacking = [k for k, item in enumerate(entries) if not item.get("segmentation")]
    if entries and len(lacking) == len(entries):
        return None
    if lacking:
        raise InputError(
            f"has {len(lacking)} entries without a segmentation among {len(entries)}, the first "
            f"in image {entries[lacking[0]]['image_id']}",
            file=path,
            remedy="give every entry a segmentation, or none of them",
        )
    return tuple(
        _compressed(item["segmentation"], image, path)
        for item, image in zip(entries, images, strict=True)
    )


def _compressed(segmentation: Any, image: Image, path: Path) -> Rle:
    """RLE of polygons, uncompressed or compressed RLE, which must be of the image's size."""
    size = [image.height, image.width]
    try:
        if isinstance(segmentation, list):
            return rle.merge(rle.frPyObjects(segmentation, *size))
        if list(segmentation["size"]) != size:
            raise InputError(
                f"has a mask of {segmentation['size']} pixels in image {image.id} of {size}",
                file=path,
                remedy="make masks in the pixels of their image, size being [height, width]",
            )
        # pycocotools reads beyond its buffers where counts do not fill the image.
        run_lengths(segmentation)
        if isinstance(segmentation["counts"], list):
            return rle.frPyObjects(segmentation, *size)
        return {"size": size, "counts": segmentation["counts"]}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"has a segmentation in image {image.id} that is neither polygons nor RLE ({error!r})",
            file=path,
            remedy="write polygons [[x, y, ...], ...] or RLE {size, counts}",
        ) from error


def _attributes(entries: Sequence[_Entry], path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of the numbers metrics are binned by, NaN where an entry lacks one."""
    rows = [item.get("attributes") or {} for item in entries]
    names = sorted(
        {key for row in rows for key in row if key in _ATTRIBUTES or key.startswith("mag_")}
    )
    out = {}
    for name in names:
        values = [np.nan if row.get(name) is None else row[name] for row in rows]
        try:
            out[name] = np.array(values, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"has an attribute {name} that is no number ({error})",
                file=path,
                remedy="write numbers, or null where unknown",
            ) from error
    return out
