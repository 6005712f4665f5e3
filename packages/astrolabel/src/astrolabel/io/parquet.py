"""A COCO document as one Parquet table, and back: for more labels than JSON is good for.

One row per annotation, attributes in columns of their own, so that pandas, polars, DuckDB
and TOPCAT open it as a catalog. What is not per annotation (info, images, categories)
lies in the file's metadata under ``astrolabel``, as JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path, regular_size
from astrolabel.io.stream import Annotations

METADATA = b"astrolabel"
ROWS_PER_GROUP = 100_000
"""Rows that a reader of some rows must decompress: some 10 MB."""
ROWS_PER_BATCH = 10_000
"""Rows that are plain objects at a time."""
_AGAIN = "make or copy it again"
_OWN = (
    "id",
    "image_id",
    "category_id",
    "category",
    "iscrowd",
    "area",
    "bbox_x",
    "bbox_y",
    "bbox_width",
    "bbox_height",
    "rle_height",
    "rle_width",
    "rle_counts",
)


def load_pyarrow() -> Any:
    """The library with its parts for Parquet and computing, where it is installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "pyarrow, which reads and writes Parquet, is not installed",
            remedy='pip install "astrolabel[parquet]"',
        ) from error
    return pyarrow


def write_parquet(path: str | Path, doc: Mapping[str, Any]) -> None:
    """Write a COCO document as a table, atomically; equal documents give equal bytes.

    Columns: ``id, image_id, category_id`` int64, ``category`` its name, ``iscrowd`` int64,
    ``area`` and ``bbox_x, bbox_y, bbox_width, bbox_height`` in pixels. The mask is in
    ``rle_height, rle_width`` int64 and ``rle_counts`` (COCO's compressed text). Then follows
    one column per attribute (``ra, dec, mag_i, ...``), null where an annotation lacks it.

    Raises
    ------
    InputError
        When pyarrow is missing, a mask is not compressed RLE, or an attribute has the name
        of another column or values of different kinds.
    OutputError
        When the file cannot be written.
    """
    pyarrow = load_pyarrow()
    names = {c["id"]: c["name"] for c in doc["categories"]}
    schema = None
    for chunk in _chunks(doc["annotations"]):  # the kinds of all columns, before any is written
        found = _table(pyarrow, chunk, names).schema
        schema = found if schema is None else _unified(pyarrow, [schema, found])
    assert schema is not None
    attributes = [key for key in schema.names if key not in _OWN]
    rest = {key: value for key, value in doc.items() if key != "annotations"}
    kept = json.dumps({"document": rest, "attributes": attributes}, sort_keys=True)
    with (
        atomic_path(path) as temporary,
        pyarrow.parquet.ParquetWriter(
            temporary, schema.with_metadata({METADATA: kept}), compression="zstd"
        ) as writer,
    ):
        for chunk in _chunks(doc["annotations"]):
            writer.write_table(_table(pyarrow, chunk, names, schema), ROWS_PER_GROUP)


def _chunks(items: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Annotations of one row group after another; one without any where there are none."""
    source = iter(items)
    chunk = list(itertools.islice(source, ROWS_PER_GROUP))
    yield chunk
    while chunk := list(itertools.islice(source, ROWS_PER_GROUP)):
        yield chunk


def _unified(pyarrow: Any, schemas: list[Any]) -> Any:
    try:
        return pyarrow.unify_schemas(schemas, promote_options="permissive")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise InputError(f"an attribute mixes kinds of values ({error})") from error


def _table(
    pyarrow: Any, items: list[Mapping[str, Any]], names: Mapping[int, str], schema: Any = None
) -> Any:
    """A table of some annotations, whose columns are those of `schema` where that is given."""
    attributes = _attributes(pyarrow, items, schema)
    if taken := [key for key in attributes if key in _OWN]:
        raise InputError(f"attribute {taken[0]!r} has the name of a column of the table")
    for a in items:
        mask = a["segmentation"]
        if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
            raise InputError(
                f"the mask of annotation {a['id']} is not compressed RLE",
                remedy="convert polygons with pycocotools.mask.frPyObjects and merge",
            )
    columns: dict[str, list[Any]] = {
        "id": [a["id"] for a in items],
        "image_id": [a["image_id"] for a in items],
        "category_id": [a["category_id"] for a in items],
        "category": [names.get(a["category_id"]) for a in items],
        "iscrowd": [a.get("iscrowd", 0) for a in items],
        "area": [a["area"] for a in items],
    }
    for k, side in enumerate(("x", "y", "width", "height")):
        columns[f"bbox_{side}"] = [a["bbox"][k] for a in items]
    columns["rle_height"] = [a["segmentation"]["size"][0] for a in items]
    columns["rle_width"] = [a["segmentation"]["size"][1] for a in items]
    columns["rle_counts"] = [a["segmentation"]["counts"] for a in items]
    return pyarrow.table({**columns, **attributes}, schema=schema)


def _attributes(pyarrow: Any, items: list[Mapping[str, Any]], schema: Any) -> dict[str, Any]:
    """A column of each attribute."""
    values = [a.get("attributes") or {} for a in items]
    kinds = {f.name: f.type for f in schema or () if f.name not in _OWN}
    kind = None if schema is None and values else pyarrow.struct(kinds.items())
    try:
        columns = pyarrow.array(values, kind)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        for key in dict.fromkeys(itertools.chain(*values)):  # one by one, to name it
            try:
                pyarrow.array([v.get(key) for v in values], kinds.get(key))
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
                raise InputError(f"attribute {key!r} mixes kinds of values ({error})") from error
        raise
    return dict(zip(columns.type.names, columns.flatten(), strict=True))


def read_parquet(path: str | Path) -> dict[str, Any]:
    """The COCO document that `write_parquet` wrote; equal to it, but for attributes that
    an annotation lacked, which are null now.

    Raises
    ------
    InputError
        When pyarrow is missing, or the file cannot be read or is another kind of table.
    """
    doc = stream_parquet(path)
    return {**doc, "annotations": list(doc["annotations"])}


def stream_parquet(path: str | Path) -> dict[str, Any]:
    """As `read_parquet`; its annotations are read as they are looped over (`Annotations`)."""
    pyarrow = load_pyarrow()
    path = Path(path)
    with _readable(path):
        if not path.exists():
            raise InputError("there is no such file", file=path, remedy="check the name")
        check_rows(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    kept = (schema.metadata or {}).get(METADATA)
    if kept is None:
        raise InputError(
            "is a Parquet table, but not of labels",
            file=path,
            remedy="give a file that `astrolabel export --to parquet` wrote",
        )
    with _readable(path):
        head = json.loads(kept)
        document, attributes = dict(head["document"]), list(head["attributes"])
        if lacking := {*_OWN, *attributes}.difference(schema.names):
            raise ValueError(f"no column {min(lacking, key=str)}")
        for name in attributes:
            if not _in_json(pyarrow, kind := schema.field(name).type):
                raise ValueError(f"the column {name} is of {kind}, which COCO does not have")

    def again() -> Iterator[dict[str, Any]]:
        with _readable(path), pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_PER_BATCH):
                for row in batch.to_pylist():
                    yield _annotation(row, attributes)

    return {**document, "annotations": Annotations(again, rows)}


def _in_json(pyarrow: Any, kind: Any) -> bool:
    """Whether the values of a column can be written as JSON."""
    types = pyarrow.types
    if types.is_struct(kind):
        return all(_in_json(pyarrow, field.type) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        return _in_json(pyarrow, kind.value_type)
    plain = ("integer", "floating", "boolean", "string", "large_string", "null")
    return any(getattr(types, f"is_{name}")(kind) for name in plain)


def check_rows(path: Path) -> None:
    """Refuse a table of more rows than its bytes can hold positions for.

    Columns of one value take no room, so a small file may declare any number of rows. Whoever
    reads it holds them all.

    Raises
    ------
    InputError
        For such a file, and for a pipe.
    """
    size = regular_size(path)
    rows = load_pyarrow().parquet.read_metadata(path).num_rows
    if rows > size:
        raise InputError(f"declares {rows} rows in {size} bytes", file=path, remedy=_AGAIN)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Anything wrong with a table becomes an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # pyarrow's readers raise many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"cannot be read as a table of labels ({lines[0]})", file=path, remedy=_AGAIN
        ) from error


def _annotation(row: Mapping[str, Any], attributes: list[str]) -> dict[str, Any]:
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
