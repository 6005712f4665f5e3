"""JSON documents with one very long list, which is read in pieces.

A label file of 840,000 annotations is a gigabyte of text and several as Python objects.
Here its list is found first and then decoded a piece at a time, so that memory holds one
piece. A file that is small, or not laid out as writers of COCO do it, is read whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from astroseg.core.files import parse_json, read_bytes

PIECE_BYTES = 4 << 20
"""Text decoded at a time: some 4,000 annotations, 10 MB as objects."""

WHOLE_BYTES = 32 << 20
"""Files up to this size are read whole."""


TRIES = 30
"""Places that may lie between two entries, tried from a piece's end: lists of points as
objects within an entry look alike."""

_BETWEEN = re.compile(rb"\}\s*,\s*\{")


@dataclass(frozen=True, eq=False)
class Document:
    """A JSON value whose long list is read when it is asked for.

    Attributes
    ----------
    value : the whole document; the list itself is empty in it when it is read in pieces.
    path : the file.
    key : of the list.
    pieces : where the pieces of the list begin and end in the file, () when `value` holds it.
    """

    value: Any
    path: Path
    key: str
    pieces: tuple[tuple[int, int], ...] = ()

    def rows(self, kind: Any = Any) -> Iterator[list[Any]]:
        """The list in pieces.

        Parameters
        ----------
        kind : TypedDict of the keys that are wanted; others may be left out.
        """
        if not self.pieces:
            items = self.value.get(self.key) if isinstance(self.value, dict) else None
            yield items if isinstance(items, list) else []
            return
        with self.path.open("rb") as file:
            for start, stop in self.pieces:
                file.seek(start)
                text = b"[" + file.read(stop - start) + b"]"
                try:
                    yield msgspec.json.decode(text, type=list[kind])
                except msgspec.ValidationError:  # an entry that is no object
                    yield msgspec.json.decode(text)


def open_document(
    path: str | Path,
    key: str = "annotations",
    *,
    piece: int = PIECE_BYTES,
    whole: int = WHOLE_BYTES,
) -> Document:
    """A JSON file with its long list still unread where it is large.

    Parameters
    ----------
    path : the file.
    key : of the list, in the object at the top.
    piece, whole : bytes, as `PIECE_BYTES` and `WHOLE_BYTES`.

    Raises
    ------
    InputError
        When the file is missing, cannot be read or is not JSON.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > whole:
        try:
            return _in_pieces(path, key, piece)
        except _Unusual:
            pass
    return Document(parse_json(read_bytes(path), path), path, key)


class _Unusual(Exception):
    """A layout that is read whole."""


def _in_pieces(path: Path, key: str, piece: int) -> Document:
    pattern = re.compile(rb'"' + key.encode() + rb'"\s*:\s*\[')
    with path.open("rb") as file:
        head = b""
        while (found := pattern.search(head)) is None:
            block = file.read(piece)
            if not block or len(head) > 16 * piece:
                raise _Unusual
            head += block
        bounds = [found.end()]
        while True:
            file.seek(bounds[-1])
            block = file.read(piece)
            cut = _last_cut(block)
            if not cut:
                break
            bounds.append(bounds[-1] + cut)
        # The last piece: the end of the list lies in this block or the next.
        length = _list_end(block + file.read(piece))
        stop = bounds[-1] + length
        file.seek(stop)
        text = head[: found.end()] + file.read()
    value = parse_json(text, path)
    # Only the list at the top leaves the rest a document with an empty one in its place.
    if not isinstance(value, dict) or value.get(key) != []:
        raise _Unusual
    pieces = [(a, b - 1) for a, b in pairwise(bounds)]
    return Document(value, path, key, (*pieces, (bounds[-1], stop)))


def _last_cut(block: bytes) -> int:
    """Bytes up to behind the last comma between entries; 0 where none is found.

    Text cut within an entry does not parse, so that a piece which does holds whole entries.
    """
    stop = len(block)
    for _ in range(TRIES):
        places = [m.end() for m in _BETWEEN.finditer(block, max(0, stop - 65536), stop)]
        if not places:
            return 0
        comma = block.rindex(b",", 0, places[-1])
        try:
            msgspec.json.decode(b"[" + block[:comma] + b"]", type=list[msgspec.Raw])
        except msgspec.DecodeError:
            stop = comma
            continue
        return comma + 1
    return 0


def _list_end(block: bytes) -> int:
    """Bytes up to the bracket that ends the list whose entries begin with the block."""
    text = block.decode("utf-8", "ignore")
    decoder, space = json.JSONDecoder(), re.compile(r"\s*")
    at = 0
    try:
        while True:
            at = space.match(text, at).end()  # type: ignore[union-attr]
            if text[at] == "]":
                break
            _, at = decoder.raw_decode(text, at)
            at = space.match(text, at).end()  # type: ignore[union-attr]
            if text[at] == ",":
                at += 1
    except (ValueError, IndexError, RecursionError) as error:
        raise _Unusual from error
    return len(text[:at].encode())
