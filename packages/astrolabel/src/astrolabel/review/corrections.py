"""Corrections that people make on the review page: read, matched with labels by place, applied.

A correction names what was done, who did it when, and to which place: the image and the pixel,
and RA and Dec where the image has a WCS. Labels made again have other ids, and perhaps other
tiles. The file is a list that only grows: JSON as the page saves it, or one JSON object a line
as the server writes it, where an ``undo`` takes back the one before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size
from astrolabel.io import coco
from astrolabel.io.rle import measure
from astrolabel.review import edit
from astrolabel.review.places import Places

ACTIONS = ("accept", "reject", "merge", "class", "split", "add")


@dataclass(frozen=True)
class Applied:
    """What became of the corrections: how many by action, and those without a label."""

    document: coco.Document
    done: Mapping[str, int]
    lost: tuple[str, ...]

    def summary(self) -> str:
        """A line for people."""
        made = ", ".join(f"{n} {action}" for action, n in self.done.items() if n) or "none"
        return f"corrections: {made}" + (f"; {len(self.lost)} without a label" if self.lost else "")


def read_corrections(path: Path) -> list[dict[str, Any]]:
    """The corrections of a file, those that were undone left out.

    Raises
    ------
    InputError
        When it is no such file.
    """
    items = _lines(path) if path.suffix == ".jsonl" else _saved(path)
    kept: list[dict[str, Any]] = []
    for n, item in enumerate(items, 1):
        if isinstance(item, dict) and item.get("action") == "undo":
            if kept:
                kept.pop()
            continue
        check(item, f"correction {n}", path)
        kept.append(item)
    return kept


def _saved(path: Path) -> list[Any]:
    read = coco.read_json(path)
    items = read.get("corrections") if isinstance(read, dict) else None
    if not isinstance(items, list):
        raise InputError("holds no corrections", file=path, remedy="save them from the review page")
    return items


def _lines(path: Path) -> list[Any]:
    try:
        regular_size(path)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", file=path) from error
    found = []
    for n, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"line {n} is not JSON", file=path, remedy="take the line away"
            ) from error
    return found


def check(item: Any, name: str, path: Path | None = None) -> None:
    """Refuse what is no whole correction.

    Raises
    ------
    InputError
        Says what is missing.
    """
    good = isinstance(item, dict) and item.get("action") in ACTIONS
    others = item.get("with") or [] if good else []
    good = good and isinstance(others, list) and all(_is_place(p) for p in [item, *others])
    if good and item["action"] == "split":
        good = _is_point(item.get("peak"))
    if good and item["action"] == "add":
        good = _is_outline(item.get("outline"))
    if good and item["action"] == "merge":
        good = bool(others)
    if good:
        good = _is_made(item.get("made", []))
    if not good:
        raise InputError(f"{name} is not whole: {str(item)[:200]}", file=path)
    if item["action"] in ("class", "add") and not isinstance(item.get("class"), str):
        raise InputError(f"{name} names no class", file=path)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_outline(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(r, list) and len(r) >= 8 and all(map(_is_number, r)) for r in value)
    )


def _is_made(value: Any) -> bool:
    """Whether the masks of a fit can be decoded."""
    try:
        return all(measure(one["segmentation"])[0] > 0 for one in value)
    except (TypeError, KeyError, ValueError, AttributeError):
        return False


def _is_place(place: Any) -> bool:
    return (
        isinstance(place, dict)
        and isinstance(place.get("image"), str)
        and all(_is_number(place.get(k)) for k in "xy")
        and all(place.get(k) is None or _is_number(place[k]) for k in ("ra", "dec"))
    )


def apply(
    document: coco.Document,
    corrections: Sequence[Mapping[str, Any]],
    folder: Path | None = None,
) -> Applied:
    """The document after the corrections, in their order.

    A correction is of the label at its place (see `review.places`). What the deblender made of
    a split or a merge is in the correction; a split without is fitted here. In
    ``attributes.reviewed`` is the last action on a label, in ``reviewed_by`` who did it.

    Parameters
    ----------
    folder : of the document, for the pixels of fits that are still to be made.

    Raises
    ------
    InputError
        When a correction names a class that the document does not have, or a fit cannot be
        made.
    """
    classes = {str(c["name"]): c["id"] for c in document["categories"]}
    places = Places(document)
    done, lost = dict.fromkeys(ACTIONS, 0), []
    for n, correction in enumerate(corrections, 1):
        action = correction["action"]
        if action in ("class", "add") and correction["class"] not in classes:
            raise InputError(
                f"correction {n}: no class {correction['class']!r}",
                remedy=f"the document has {', '.join(classes)}",
            )
        problem = _one(places, correction, classes, document, folder)
        if problem:
            lost.append(f"correction {n} ({action}): {problem}")
        else:
            done[action] += 1
    info = {**(document.get("info") or {})}
    info["corrections"] = [*(info.get("corrections") or []), *corrections]
    made = {**document, "info": info, "annotations": places.annotations()}
    return Applied(made, done, tuple(lost))


def _one(
    places: Places,
    correction: Mapping[str, Any],
    classes: Mapping[str, int],
    document: coco.Document,
    folder: Path | None,
) -> str:
    """Apply one correction; what is wrong with it, or nothing."""
    action = correction["action"]
    at = places.find(correction)
    if at is None:
        return "no image there"
    if action == "add":
        made = edit.added(correction, at, classes[correction["class"]])
        if made is None:
            return "no pixel of its outline is in the image"
        places.put(_reviewed(made, correction), at)
        return ""
    spots = [at, *(places.find(p) for p in correction.get("with") or [])]
    found = [None if spot is None else places.label_at(spot) for spot in spots]
    labels = [one for one in found if one is not None]
    if len(labels) < len(found):
        return "no label there"
    if len({item["id"] for item in labels}) < len(labels):
        return "the labels are one already"
    if len({item["image_id"] for item in labels}) > 1:
        return "the labels are in different images now"
    first, *rest = labels
    for item in labels:
        places.remove(item)
    if action == "reject":
        return ""
    if action in ("merge", "split") and correction.get("made"):
        results: Iterable[dict[str, Any]] = edit.moved(correction["made"], first, at, classes)
    elif action == "split":
        results = _split(first, correction, at, document, places, folder)
    elif action == "merge":
        results = [edit.merged(first, rest, at.image)]
    elif action == "class":
        results = [{**first, "category_id": classes[correction["class"]], "iscrowd": 0}]
    else:
        results = [first]
    for item in results:
        places.put(_reviewed(item, correction), at)
    return ""


def _split(
    first: Mapping[str, Any],
    correction: Mapping[str, Any],
    at: Any,
    document: coco.Document,
    places: Places,
    folder: Path | None,
) -> list[dict[str, Any]]:
    from astrolabel.review.refit import Neighbourhood, split

    if folder is None:
        raise InputError("a split needs the pixels", remedy="give the folder of the document")
    near = Neighbourhood.read(document, at.image, first, places.annotations(), folder)
    peak = (correction["peak"][0] + at.shift[1], correction["peak"][1] + at.shift[0])
    return split(near, first, peak)


def _reviewed(item: Mapping[str, Any], correction: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {**(item.get("attributes") or {}), "reviewed": correction["action"]}
    if correction.get("who"):
        attributes["reviewed_by"] = str(correction["who"])
    return {**item, "attributes": attributes}
