"""Tables as a few typed arrays in compressed text, which a browser opens in a moment."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 2.0**24
"""Whole numbers up to here are the same in single precision."""
PRECISE = ("ra", "dec")
"""Columns that single precision is too coarse for: 1e-5 degrees."""


def pack(columns: Mapping[str, NDArray[Any]], texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Columns for the page's script.

    Parameters
    ----------
    columns : int32, uint8, int16, float32 or float64 arrays by name.
    texts : of each column of numbers that stands for texts, the texts; a row without one
        holds -1.

    Returns
    -------
    dict : ``columns`` (name, kind, place in the bytes, length, texts), and ``data``: the
        bytes, deflated, in base 64.
    """
    parts, listed, at = [], [], 0
    for name, values in columns.items():
        values = np.ascontiguousarray(values)
        raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
        one: dict[str, Any] = {
            "name": name, "kind": f"{values.dtype.kind}{values.dtype.itemsize}", "at": at,
            "length": int(values.size),
        }  # fmt: skip
        if name in texts:
            one["texts"] = list(texts[name])
        listed.append(one)
        parts.append(raw + bytes(-len(raw) % 8))  # typed arrays begin at multiples of 8
        at += len(parts[-1])
    data = base64.b64encode(zlib.compress(b"".join(parts), 6)).decode("ascii")
    return {"columns": listed, "data": data}


def attribute_columns(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """Attributes of labels as columns, named ``attr.<name>``: numbers, or numbers of texts.

    What is neither number nor text is kept as its JSON. Missing numbers are NaN.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, NDArray[Any]] = {}
    texts: dict[str, list[str]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if all(v is None or (type(v) in (int, float) and abs(v) < 1e300) for v in values):
            numbers = np.array([math.nan if v is None else v for v in values], np.float64)
            large = name in PRECISE or (np.abs(numbers) > EXACT).any()
            columns[f"attr.{name}"] = numbers if large else numbers.astype(np.float32)
            continue
        known: dict[str, int] = {}
        written = [
            None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values
        ]
        columns[f"attr.{name}"] = np.array(
            [-1 if v is None else known.setdefault(v, len(known)) for v in written], np.int32
        )
        texts[f"attr.{name}"] = list(known)
    return columns, texts
