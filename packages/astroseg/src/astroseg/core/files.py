"""Read and write files whole: JSON in, JSON and anything else out atomically."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from astroseg.core.errors import InputError, OutputError
from astroseg.core.regular import check_regular


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well.

    It lies in the same folder (made when missing), because a rename is atomic only within
    one file system, and ends like `path`, because some writers go by the suffix. Contents
    reach the disk before the name does: after a crash there is the old file or the new.

    Raises
    ------
    OutputError
        When the folder cannot be made or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        # safetensors makes files that only their owner may read; a model is to be shared.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            file=path,
            remedy="give a folder that exists, is writable and has room",
        ) from error
    finally:
        # Gone already after a rename; a remainder would only confuse.
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: str | Path, names: Sequence[str]) -> None:
    """Remove what processes that were killed while writing these files left of them.

    Call it where no other process writes there: before a run begins.
    """
    parts = re.compile(r"\.[0-9a-f]{8}\.(?P<name>.+)")
    for path in Path(folder).glob(".*"):
        match = parts.fullmatch(path.name)
        if match and match["name"] in names:
            path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, *, indent: int | None = None) -> None:
    """Write JSON, whole or not at all; NaN and infinity, unknown to JSON, become null.

    A list is written one entry a line, so that a file of many predictions can be looked
    at and compared line by line.
    """
    if indent is None and isinstance(value, list):
        write_rows(path, value)
    else:
        write_text(path, _dumps(value, indent) + "\n")


def write_rows(path: str | Path, rows: Iterable[Any]) -> None:
    """Write a JSON list as `write_json` does, of rows that memory need not hold at once."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        before = "[\n"
        for row in rows:
            file.write(before + _dumps(row, None))
            before = ",\n"
        file.write("[]\n" if before == "[\n" else "\n]\n")


def _dumps(value: Any, indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(_plain(value), indent=indent, separators=separators, allow_nan=False)


def _plain(value: Any) -> Any:
    """A copy in plain Python values; float32 keeps the digits it has, and no more."""
    if isinstance(value, np.floating):
        value = float(str(value)) if math.isfinite(value) else None
    elif isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    InputError
        When it is missing, cannot be read or is not JSON.
    """
    return parse_json(read_bytes(path), path)


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes, or InputError when it is missing or cannot be read."""
    check_regular(path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError("there is no such file", file=path, remedy="check the name") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(
            f"cannot be read ({getattr(error, 'strerror', None) or error})",
            file=path,
            remedy="give a JSON file",
        ) from error


def parse_json(text: bytes, path: str | Path) -> Any:
    """The value of a JSON text in UTF-8, or in UTF-16 or UTF-32 as some programs of Windows
    write it, with or without a byte order mark.

    Raises
    ------
    InputError
        When it is not JSON, nested too deeply, or holds a number of thousands of digits.
    """
    try:
        decoded = text.decode(json.detect_encoding(text))
        if text and not decoded:  # a byte order mark and no character
            raise UnicodeError
        return json.loads(decoded)
    except UnicodeError as error:
        raise InputError(
            "is not text, so not JSON", file=path, remedy="give the .json file itself"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg})",
            file=path,
            remedy="it may be cut off; make or copy it again",
        ) from error
    except (RecursionError, ValueError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(
            f"cannot be read as JSON ({what})", file=path, remedy="give a COCO file"
        ) from error


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
