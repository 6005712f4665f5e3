"""Build, merge, read and write a COCO document.

The document is standard COCO detection JSON; what is ours lies under ``info``, under
``images[].astro`` and under ``annotations[].attributes``, where other tools leave it be.
Masks are compressed RLE, boxes tight around them, areas their true pixel counts.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path, regular_size, write_bytes
from astrolabel.io.parquet import read_parquet, stream_parquet
from astrolabel.io.rle import decode, encode, tight_box
from astrolabel.io.stream import Annotations
from astrolabel.io.structure import check_structure
from astrolabel.io.validate import Problem, validate

__all__ = ["Problem", "decode", "encode", "tight_box", "validate"]

Document = dict[str, Any]

_FILES = ("cube", "residual")
"""Files under ``images[].astro``, named from the document's folder as `file_name` is."""

_KEY_ORDER = ("info", "licenses", "categories", "image", "images", "annotations")
"""Head of a document first, so that the first screen of the file says what it is."""


def annotation(
    *,
    mask: NDArray[np.bool_],
    box: Box,
    image_shape: tuple[int, int],
    category_id: int,
    attributes: Mapping[str, Any],
    iscrowd: int = 0,
) -> dict[str, Any]:
    """One annotation, but for the ids that `merge` gives it.

    Parameters
    ----------
    mask : (h, w) bool, the shape of `box`.
    box : where it lies in the image; what is outside is cut off.
    image_shape : (H, W) in pixels.
    category_id : from 1.
    attributes : our own values; NaN is written as null.
    iscrowd : 1 makes it an ignore region.

    Raises
    ------
    ValueError
        When no pixel of the mask is in the image: there is nothing to label.
    """
    inside = box & Box.of_shape(image_shape)
    cut = mask[inside.slices_in(box)] if inside.area else np.zeros((0, 0), bool)
    if not cut.any():
        raise ValueError(f"no pixel of the mask at {box} is in an image of shape {image_shape}")
    return {
        "category_id": int(category_id),
        "segmentation": encode(cut, inside, image_shape),
        "bbox": tight_box(cut, inside),
        "area": int(np.count_nonzero(cut)),
        "iscrowd": int(iscrowd),
        "attributes": dict(attributes),
    }


def merge(
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
    licenses: Sequence[Mapping[str, Any]] = (),
) -> Document:
    """One document from the tiles' shards, numbered from 1 in the order given.

    Parameters
    ----------
    info : goes into the document as it is.
    categories : ``{"id", "name"}`` each.
    shards : each ``{"image": {...} or None, "annotations": [...], ...}``; one whose image
        is None (a rejected tile) adds nothing. The shards are left unchanged.
    licenses : of the images, if known.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for shard in shards:
        if shard["image"] is None:
            if shard["annotations"]:
                raise ValueError("a shard without an image has annotations")
            continue
        images.append({**shard["image"], "id": len(images) + 1})
        for item in shard["annotations"]:
            annotations.append({**item, "id": len(annotations) + 1, "image_id": len(images)})
    return {
        "info": dict(info),
        "licenses": [dict(item) for item in licenses],
        "categories": [dict(item) for item in categories],
        "images": images,
        "annotations": annotations,
    }


def read_json(path: str | Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """What a JSON file holds.

    Parameters
    ----------
    object_hook : takes each object when it has been read, and gives what to keep in its
        place (see `json.loads`); so a large file can be read without being held.

    Raises
    ------
    InputError
        When it cannot be read, is empty, cut off or not JSON.
    """
    path, text = Path(path), ""
    if path.exists():  # a pipe would never end
        regular_size(path)
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise InputError("is empty", file=path, remedy="make it again")
    except (OSError, ValueError) as error:
        what, remedy = _why_unread(error, text)
        raise InputError(what, file=path, remedy=remedy) from error
    return _parsed(text, path, object_hook)


def _parsed(
    text: str, path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """The value of a JSON text, which is a file's or a part of it (see `read_json`)."""
    try:
        found = json.loads(text, object_hook=object_hook)
        if re.search(r"\\u[dD][89a-fA-F]", text):  # halves of characters, perhaps alone
            whole = found if object_hook is None else json.loads(text)
            json.dumps(whole, ensure_ascii=False).encode()
        return found
    except (RecursionError, ValueError) as error:
        what, remedy = _why_unread(error, text)
        raise InputError(what, file=path, remedy=remedy) from error


def _why_unread(error: Exception, text: str) -> tuple[str, str]:
    """What is wrong with a file that is no JSON, and the remedy."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "check the name"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})", "give a JSON file"
    if isinstance(error, UnicodeDecodeError):
        return "is not text, so not JSON", "give the .json file itself"
    if isinstance(error, json.JSONDecodeError):
        cut = error.pos >= len(text.rstrip()) or "Unterminated" in error.msg
        place = f"(line {error.lineno}, column {error.colno}: {error.msg})"
        return f"is {'cut off' if cut else 'not valid JSON'} {place}", "make or copy it again"
    if isinstance(error, RecursionError):
        return "is nested too deeply", "give a COCO document"
    # An integer of thousands of digits, or half a character.
    reason = str(error).partition(";")[0]
    return f"holds a value that cannot be read ({reason})", "give a COCO document"


def read(
    path: str | Path,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
    *,
    checked: bool = True,
) -> Document:
    """A COCO document, its three lists present and all values of the right types.

    A file that ends in ``.parquet`` is read as `astrolabel.io.parquet` wrote it.

    Parameters
    ----------
    object_hook : see `read_json`; a Parquet file does not go through it.
    checked : whether types are checked; False for `validate`, which lists all faults.

    Raises
    ------
    InputError
        When the file is not JSON or not a COCO document, saying what it looks like.
    """
    table = Path(path).suffix == ".parquet"
    doc = as_document(read_parquet(path) if table else read_json(path, object_hook), path)
    if checked:
        check_structure(doc, path, annotations=table or object_hook is None)
    return doc


def read_stream(path: str | Path) -> Document:
    """A COCO document whose annotations are `Annotations`, so that memory does not grow with
    their number: of a Parquet table, or of JSON as `write_json` lays it out. Any other file is
    read as by `read`. Types are not checked; `validate` does.

    Raises
    ------
    InputError
        As `read`; also in the loops over the annotations.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        table = stream_parquet(path)
        as_document({**table, "annotations": []}, path)
        return table
    found = _laid_out(path) if path.is_file() else None
    if found is None:
        return read(path, checked=False)
    text, start, count = found
    doc = as_document({**_parsed(text, path), "annotations": []}, path)

    def again() -> Iterator[Any]:
        with path.open("rb") as stream:
            stream.seek(start)
            for _ in range(count):
                yield _parsed_line(stream.readline().rstrip(b",\n"), path)

    return {**doc, "annotations": Annotations(again, count)}


def _parsed_line(line: bytes, path: Path) -> Any:
    """`_parsed`, a third of its time where nothing is wrong."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):  # also of NaN, which `validate` names
        return _parsed(line.decode("utf-8", "replace"), path)


def _laid_out(path: Path) -> tuple[str, int, int] | None:
    """(text of the document without annotations, where the first of these begins, their number)
    of a file with a line for each, the last of its keys; None for any other."""
    with path.open("rb") as stream:
        head: list[bytes] = []
        for line in stream:
            if line == b'"annotations": [\n':
                break
            if not head and line != b"{\n":
                return None
            head.append(line)
        else:
            return None
        start, count, more = sum(map(len, head)) + len(line), 0, True
        for line in stream:
            if line == b"]\n":
                break
            if not more or not line.startswith(b"{"):
                return None
            more = line.endswith(b"},\n")
            count += 1
        if more or stream.read() != b"}\n":
            return None
    try:
        text = b"".join(head).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text.rstrip().removesuffix(",") + "}", start, count


def as_document(doc: Any, path: str | Path) -> Document:
    """What a JSON file holds, if that is a COCO document (see `read`).

    Raises
    ------
    InputError
        When it is not, saying what it looks like.
    """
    what, remedy = "", "give one JSON object with images, annotations and categories"
    if isinstance(doc, list):
        what = f"is {_kind_of_list(doc)}, not a COCO document"
        if "Detectron2" in what:
            remedy = f"make one of it: astrolabel export {Path(path).name} --to coco"
    elif not isinstance(doc, dict):
        what = f"holds a {type(doc).__name__}, not a COCO document"
    else:
        needed = ("images", "annotations", "categories")
        missing = [key for key in needed if not isinstance(doc.get(key), list)]
        if missing:
            what = (
                f"has no list of {', '.join(missing)} (its keys: {', '.join(doc) or 'none'}), "
                "so it is not a COCO detection document"
            )
    if what:
        raise InputError(what, file=path, remedy=remedy)
    return doc


def _kind_of_list(items: list[Any]) -> str:
    """What a JSON list probably is, by its first entry."""
    if not items or not isinstance(items[0], dict):
        return f"a list of {len(items)} entries"
    first = items[0]
    if "annotations" in first and ("file_name" in first or "filename" in first):
        return f"a list of {len(items)} Detectron2 records (one per image)"
    if "score" in first and "image_id" in first:
        return f"a list of {len(items)} COCO results (predictions)"
    return f"a list of {len(items)} objects with the keys {', '.join(sorted(first))}"


def write_json(path: str | Path, obj: Mapping[str, Any]) -> None:
    """Write a JSON object, atomically, one line per key and per entry of its lists.

    Equal objects give equal bytes: keys are sorted (those of the top level with the head
    of a COCO document first). NaN and infinity, which JSON does not know, become null;
    numpy numbers and arrays become plain ones, float32 with the digits it has.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    write_bytes(path, to_json(obj).encode("ascii"))


def write_document(path: str | Path, doc: Mapping[str, Any]) -> None:
    """Write a document as `write_json` does, its annotations one at a time."""
    head = {key: value for key, value in doc.items() if key != "annotations"}
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii") as stream:
        stream.writelines(document_lines(head, doc["annotations"]))


def to_json(obj: Mapping[str, Any]) -> str:
    """The text that `write_json` writes."""
    known = [key for key in _KEY_ORDER if key in obj]
    keys = known + sorted(key for key in obj if key not in _KEY_ORDER)
    lines = []
    for key in keys:
        value = obj[key]
        if isinstance(value, (list, tuple)) and value:
            text = "[\n" + ",\n".join(_dumps(item) for item in value) + "\n]"
        else:
            text = _dumps(value)
        lines.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def document_lines(
    head: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """The text that `write_json` writes of a document, its annotations one at a time.

    Parameters
    ----------
    head : the document without its annotations.
    """
    yield to_json(head).removesuffix("\n}\n")
    opening = ',\n"annotations": [\n'
    for item in annotations:
        yield opening + _dumps(item)
        opening = ",\n"
    yield "\n]\n}\n" if opening == ",\n" else ',\n"annotations": []\n}\n'


def list_json(items: Sequence[Mapping[str, Any]]) -> str:
    """The text of a JSON list, one line per entry, as `write_json` writes objects."""
    return "[\n" + ",\n".join(_dumps(item) for item in items) + "\n]\n"


def _dumps(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError:  # NaN or infinity somewhere; rare, so looked for only now
        return _ENCODER.encode(plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, np.float32):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_ENCODER = json.JSONEncoder(
    sort_keys=True, allow_nan=False, separators=(",", ":"), default=_plain, check_circular=False
)


def plain(value: Any) -> Any:
    """A copy with None in place of every NaN and infinity."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = _plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def annotations_by_image(doc: Mapping[str, Any]) -> dict[Any, list[Any]]:
    """The annotations of each image, by its id; of images that are not listed, too."""
    found: dict[Any, list[Any]] = {image["id"]: [] for image in doc["images"]}
    for item in doc["annotations"]:
        found.setdefault(item.get("image_id"), []).append(item)
    return found


def rebased(image: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """An entry of ``images`` whose files are named from another folder."""

    def name(value: str | None) -> str | None:
        return None if value is None else Path(os.path.relpath(old / value, new)).as_posix()

    moved = {**image, "file_name": name(image["file_name"])}
    if image.get("astro") is not None:
        files = {key: name(image["astro"][key]) for key in _FILES if key in image["astro"]}
        moved["astro"] = {**image["astro"], **files}
    return moved
