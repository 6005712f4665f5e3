"""Label files as Parquet tables, the form that `astrolabel export --to parquet` writes.

One row per annotation: ``id``, ``image_id``, ``category_id``, ``iscrowd``, ``area``,
``bbox_x, bbox_y, bbox_width, bbox_height``, the mask as ``rle_height, rle_width,
rle_counts``, and the attributes. Everything else of the COCO document is JSON in the
file's metadata, under ``astrolabel``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from astroseg.core.errors import InputError
from astroseg.core.files import read_json

METADATA = b"astrolabel"
ROWS_AT_ONCE = 100_000
"""Rows that are Python objects at the same time as their table: some 100 MB."""


def read_labels(path: str | Path) -> Any:
    """What a label file holds: JSON, or a COCO document of a ``.parquet`` table.

    Raises
    ------
    InputError
        When the file cannot be read, or pyarrow is missing for a table, or the table holds
        something else.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        return read_json(path)
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
    rows = (
        row for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE) for row in batch.to_pylist()
    )
    annotations = [_annotation(row, head["attributes"]) for row in rows]
    return {**head["document"], "annotations": annotations}


def _annotation(row: dict[str, Any], attributes: list[str]) -> dict[str, Any]:
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
