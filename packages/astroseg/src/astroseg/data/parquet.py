"""Label files as Parquet tables, the form that `astrolabel export --to parquet` writes.

One row per annotation: ``id``, ``image_id``, ``category_id``, ``iscrowd``, ``area``,
``bbox_x, bbox_y, bbox_width, bbox_height``, the mask as ``rle_height, rle_width,
rle_counts``, and the attributes. Everything else of the COCO document is JSON in the
file's metadata, under ``astrolabel``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astroseg.core.errors import InputError
from astroseg.core.stream import Document, open_document

METADATA = b"astrolabel"
ROWS_AT_ONCE = 5_000
"""Rows that are Python objects at a time: some 5 MB."""


def read_labels(path: str | Path) -> Any:
    """What a label file holds, whole: JSON, or a COCO document of a ``.parquet`` table.

    Raises
    ------
    InputError
        See `open_labels`.
    """
    document = open_labels(path)
    if not document.pieces and not isinstance(document, Table):
        return document.value
    return document.value | {document.key: [row for rows in document.rows() for row in rows]}


@dataclass(frozen=True, eq=False)
class Table(Document):
    """A document whose annotations are the rows of a Parquet table.

    Attributes
    ----------
    table : of the annotations.
    attributes : names of its columns that are attributes.
    """

    table: Any = None
    attributes: tuple[str, ...] = ()

    def rows(self, kind: Any = Any) -> Iterator[list[Any]]:
        """The annotations in pieces."""
        for batch in self.table.to_batches(max_chunksize=ROWS_AT_ONCE):
            yield [_annotation(row, self.attributes) for row in batch.to_pylist()]


def open_labels(path: str | Path) -> Document:
    """A label file, its annotations still unread: JSON, or a ``.parquet`` table.

    Raises
    ------
    InputError
        When the file cannot be read, or pyarrow is missing for a table, or the table holds
        something else.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        return open_document(path)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet labels need pyarrow",
            file=path,
            remedy="pip install astroseg[parquet], or give the JSON file",
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError as error:
        raise InputError("there is no such file", file=path, remedy="check the name") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"cannot be read as Parquet ({str(error).splitlines()[0]})",
            file=path,
            remedy="make or copy it again",
        ) from error
    kept = (table.schema.metadata or {}).get(METADATA)
    if kept is None:
        raise InputError(
            "is a Parquet table, but not of labels",
            file=path,
            remedy="give a file that `astrolabel export --to parquet` wrote",
        )
    head = json.loads(kept)
    document = {**head["document"], "annotations": []}
    return Table(document, path, "annotations", (), table, tuple(head["attributes"]))


def _annotation(row: dict[str, Any], attributes: Sequence[str]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": {
            "size": [row["rle_height"], row["rle_width"]],
            "counts": row["rle_counts"],
        },
        "bbox": [row[f"bbox_{side}"] for side in ("x", "y", "width", "height")],
        "area": row["area"],
        "iscrowd": row["iscrowd"],
        "attributes": {key: row[key] for key in attributes},
    }
