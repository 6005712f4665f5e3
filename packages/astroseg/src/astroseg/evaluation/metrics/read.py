"""Truth and predictions files, checked against each other, as columns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from astroseg.core.errors import InputError
from astroseg.core.files import read_json
from astroseg.core.masks import Masks
from astroseg.core.stream import Document, open_document
from astroseg.core.targets import SUFFIXES, learned
from astroseg.data.annotations import Annotations, Frame, read_rows
from astroseg.data.coco import CocoFile, read_coco
from astroseg.data.identifiers import key_of
from astroseg.data.repairs import Repairs
from astroseg.evaluation.metrics.objects import EvaluationSet, Image, Objects


def read(
    truth: str | Path,
    predictions: str | Path,
    *,
    classes: Sequence[str] = (),
    strict: bool = False,
    ignored_as_objects: bool = False,
) -> EvaluationSet:
    """Read and check both files.

    Parameters
    ----------
    truth : COCO detection JSON: polygons or RLE, any ids; ``iscrowd: 1`` marks a region to
        ignore. Or a list of Detectron2 records, images numbered from 1 in its order, whose
        classes are named by the predictions where `classes` does not.
    predictions : COCO results, ``[{image_id, category_id, bbox, score, segmentation}]``,
        with the truth's category ids. Or an object that holds such a list under
        ``predictions`` or ``annotations``, with ``info``, ``images`` and ``categories``
        (matched to the truth's by name). Beside a bare list ``NAME.json``, a file
        ``NAME.info.json`` may hold these three; `astroseg.inference.predict` writes it.
        Learned attributes are ``attributes: {redshift, redshift_std, redshift_lo,
        redshift_hi}``, compared with the truth's ``attributes: {redshift}``.
    classes, strict, ignored_as_objects : as of `astroseg.data.coco.read_coco`.

    Raises
    ------
    InputError
        When a file cannot be read or is no such document, when the classes differ, when
        predictions are of images or classes the truth has not, or an entry makes no sense.
    """
    truth, predictions = Path(truth), Path(predictions)
    document, head = _results(predictions)
    names = tuple(classes) or _names_of_records(truth, head)
    targets = _targets(document)
    coco = read_coco(
        truth, classes=names, strict=strict, ignored_as_objects=ignored_as_objects, targets=targets
    )
    if not len(coco.annotations) and coco.repairs.left_out:
        raise InputError(
            f"has no annotation that can be used ({'; '.join(coco.repairs.lines())})",
            file=truth,
            remedy="give the objects polygons or RLE, in px",
        )
    label_of = _match_classes(head, coco, predictions)
    repairs = Repairs()
    listed = _check_images(head, coco, predictions)
    columns = tuple(name + suffix for name in targets for suffix in SUFFIXES)
    frame = Frame(predictions, coco.shapes, coco.image_of, label_of, scored=True, targets=columns)
    found = read_rows(document.rows(), frame, repairs)
    if strict:
        repairs.refuse(predictions)
    order = sorted(range(len(coco.images)), key=lambda place: coco.images[place].id)
    images = tuple(
        Image(one.id, one.file_name, one.height, one.width, one.astro)
        for one in (coco.images[place] for place in order)
    )
    return EvaluationSet(
        images=images,
        classes=coco.classes,
        truth=objects_of(coco.annotations, order),
        detections=objects_of(found, order, scored=True),
        truth_info=coco.info,
        prediction_info=head["info"] if isinstance(head.get("info"), Mapping) else {},
        folder=truth.parent,
        without_predictions=()
        if listed is None
        else tuple(images[k].id for k, place in enumerate(order) if place not in listed),
        repairs=tuple(
            [f"truth: {line}" for line in coco.repairs.lines()]
            + [f"predictions: {line}" for line in repairs.lines()]
        ),
        targets=targets,
    )


def _targets(document: Document) -> tuple[str, ...]:
    """Learned attributes: those that the first prediction with attributes has quantiles of."""
    rows = next(document.rows(), [])
    given = (row.get("attributes") for row in rows if isinstance(row, dict))
    return learned(next((one for one in given if isinstance(one, dict) and one), {}))


def _results(path: Path) -> tuple[Document, Mapping[str, Any]]:
    """The predictions, and what the document or the file beside it says of them."""
    document = open_document(path)
    head = document.value
    if isinstance(head, list):
        document = Document({"annotations": head}, path, "annotations")
        beside = path.with_suffix(".info.json")
        head = _side_file(beside) if beside.is_file() else {}
    elif isinstance(head, dict) and "predictions" in head:
        document = Document(head, path, "predictions")
    rows = document.value.get(document.key) if isinstance(document.value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            "holds no list of predictions",
            file=path,
            remedy="give COCO results: [{image_id, category_id, bbox, score, segmentation}, ...]",
        )
    return document, head


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


def _named(head: Mapping[str, Any], path: Path) -> dict[Hashable, str]:
    """Names of the predictions' categories by the keys of their ids."""
    named = {}
    for item in head["categories"]:
        key = key_of(item.get("id")) if isinstance(item, Mapping) else None
        if key is None or not item.get("name"):
            raise InputError(
                "has a category without id or name",
                file=path,
                remedy="give each category an integer id and a name",
            )
        named[key] = str(item["name"])
    return named


def _names_of_records(truth: Path, head: Mapping[str, Any]) -> tuple[str, ...]:
    """The predictions' classes, for a truth that is a list and so has no names."""
    categories = head.get("categories")
    if not isinstance(categories, list) or truth.suffix == ".parquet" or not truth.is_file():
        return ()
    with truth.open("rb") as file:
        begin = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not begin.startswith(b"["):
        return ()
    return tuple(name for _, name in sorted(_named(head, truth).items(), key=lambda i: str(i[0])))


def _match_classes(head: Mapping[str, Any], coco: CocoFile, path: Path) -> Mapping[Hashable, int]:
    """Label by category id in the predictions; by name where the predictions have names."""
    if not isinstance(head.get("categories"), list):
        return coco.label_of
    named = _named(head, path)
    given = set(named.values())
    if given != set(coco.classes):
        raise InputError(
            f"has the classes {sorted(given)}, the truth {sorted(coco.classes)}",
            file=path,
            remedy="evaluate against a truth with the model's classes, or rename categories",
        )
    return {key: coco.classes.index(name) for key, name in named.items()}


def _check_images(head: Mapping[str, Any], coco: CocoFile, path: Path) -> set[int] | None:
    """Places of the images the predictions list (None without a list), all known."""
    items = head.get("images")
    if not isinstance(items, list):
        return None
    listed = set()
    for item in items:
        key = key_of(item.get("id")) if isinstance(item, Mapping) else None
        place = coco.image_of.get(key)
        if place is None:
            raise InputError(
                f"has predictions for images the truth does not have: {key}",
                file=path,
                remedy="predict on the images of the truth file, keeping their ids",
            )
        listed.add(place)
        image, theirs = coco.images[place], _first(item.get("file_name", ""))
        ours = [image.file_name, *(file.name for file in image.files)]
        # Stems only: the same tile may be predicted from its cube and shown as a PNG.
        if any(ours) and theirs and _stem(theirs) not in {_stem(name) for name in ours}:
            raise InputError(
                f"image {item['id']} is {theirs} here and {ours[0]} in the truth",
                file=path,
                remedy="predict on the images of the truth file, keeping their ids",
            )
    return listed


def _first(name: Any) -> str:
    """The file of an image, or the first of its bands' files."""
    return str(name[0] if isinstance(name, list) and name else name)


def _stem(name: str) -> str:
    return PurePath(name.replace("\\", "/")).stem


def objects_of(found: Annotations, order: Sequence[int], *, scored: bool = False) -> Objects:
    """The rows as metrics take them, images in `order`."""
    rank = np.empty(len(order), np.int64)
    rank[list(order)] = np.arange(len(order))
    image = rank[found.image] if len(found) else np.zeros(0, np.int64)
    rows = np.argsort(image, kind="stable")
    boxes = found.boxes[rows]
    masks: Masks | None = None if found.masks is None else found.masks[rows]
    sides = boxes[:, 2] * boxes[:, 3]
    return Objects(
        image=image[rows],
        label=found.category[rows].astype(np.int64),
        boxes=boxes,
        area=sides if scored else found.area[rows],
        masks=masks,
        mask_area=sides if masks is None else masks.area.astype(np.float64),
        tight=boxes if masks is None else masks.boxes.astype(np.float64),
        score=found.score[rows],
        ignored=found.ignored[rows] & (not scored),
        attributes={name: column[rows] for name, column in found.attributes.items()},
    )
