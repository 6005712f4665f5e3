"""A tile's shard: what a worker leaves of a tile, whole and provably what it wrote.

``OUT/tiles/<tile>.json`` is written last, after the tile's picture, cube and residual. Its first
line holds the sha256 of the rest, and the rest holds the sha256 of the other files: a rerun
takes a tile only where all of them are what the worker wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from astrolabel.core.errors import AstrolabelError, OutputError
from astrolabel.core.files import atomic_path, file_hash, regular_size, write_bytes
from astrolabel.io.coco import to_json

FOLDERS = ("tiles", "images", "cubes", "residuals")
LOCK = ".astrolabel.lock"
HALF_WRITTEN = f".{'[0-9a-f]' * 8}.*"
MARK = ".running-"
"""Names of files that a killed run leaves: see `core.files.atomic_path` and `running`."""
CRASH = "failed:crash"
"""State of a tile that was given up since workers died of it."""

Shard = dict[str, Any]


def path_of(out: Path, name: str) -> Path:
    """Where a tile's shard lies."""
    return out / "tiles" / f"{name}.json"


def write(out: Path, shard: Mapping[str, Any]) -> None:
    """Write a shard; the files that it names must be there already."""
    text = to_json({**shard, "files": {n: file_hash(out / n) for n in _names(shard)}})
    body = text.removeprefix("{\n").encode("ascii")
    first = json.dumps({"sha256": hashlib.sha256(body).hexdigest()})[:-1] + ",\n"
    write_bytes(path_of(out, shard["name"]), first.encode("ascii") + body)


def read(out: Path, name: str) -> Shard | None:
    """A tile's shard as it was written; None where it is absent or was changed since."""
    path = path_of(out, name)
    try:
        regular_size(path)  # a pipe would never end
        first, _, body = path.read_bytes().partition(b"\n")
    except (OSError, AstrolabelError):
        return None
    found = re.fullmatch(rb'\{"sha256": "([0-9a-f]{64})",', first)
    if found is None or hashlib.sha256(body).hexdigest() != found[1].decode():
        return None
    shard: Shard = msgspec.json.decode(b"{" + body)
    return shard if shard["name"] == name else None


def read_whole(out: Path, name: str, key: str) -> Shard | None:
    """A tile's shard of this key, if all its files are what was written too; else None."""
    shard = read(out, name)
    if shard is None or shard["key"] != key:
        return None
    try:
        same = all(file_hash(out / n) == digest for n, digest in shard["files"].items())
    except AstrolabelError:
        return None
    return shard if same else None


def read_done(out: Path, name: str, key: str) -> Shard | None:
    """`read_whole` of a tile that need not be done again; else None.

    What failed, or had no room, is tried again: another machine may have more memory.
    """
    shard = read_whole(out, name, key)
    if shard is None or shard["state"].startswith(("failed", "skipped:memory")):
        return None
    return shard


def _names(shard: Mapping[str, Any]) -> list[str]:
    """The files that belong to a shard, by name below the output folder."""
    image = shard["image"]
    if image is None:
        return []
    named = (image["file_name"], image["astro"]["cube"], image["astro"]["residual"])
    return [name for name in named if name is not None]


@contextmanager
def opened(out: Path) -> Iterator[None]:
    """The output folder with its folders, for this run alone.

    Raises
    ------
    OutputError
        When it cannot be written or another run is at it.
    """
    try:
        for name in ("", *FOLDERS):
            (out / name).mkdir(parents=True, exist_ok=True)
        with FileLock(out / LOCK, timeout=0):
            with atomic_path(out / "tiles" / "writable") as probe:
                probe.write_bytes(b"")
            (out / "tiles" / "writable").unlink()
            clear(out, HALF_WRITTEN)
            try:
                yield
            finally:
                clear(out, HALF_WRITTEN, f"{MARK}*")
    except Timeout:
        raise OutputError(
            "another run is writing into this folder",
            file=out,
            remedy="wait for it to end, or choose another place with --out",
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            file=out,
            remedy="choose another place with --out",
        ) from error


def clear(out: Path, *patterns: str) -> None:
    """Remove the files of these patterns from the output folder and its folders."""
    for folder in (out, *(out / name for name in FOLDERS)):
        for pattern in patterns:
            for file in folder.glob(pattern):
                file.unlink(missing_ok=True)


@contextmanager
def running(out: Path, name: str) -> Iterator[None]:
    """Mark a tile as being worked on: the mark is left where its worker or the run dies of it."""
    mark = _mark(out, name)
    mark.touch()
    yield
    mark.unlink(missing_ok=True)


def was_running(out: Path, name: str) -> bool:
    """Whether the tile's mark is there; it is taken away."""
    try:
        _mark(out, name).unlink()
    except FileNotFoundError:
        return False
    return True


def was_deadly(out: Path, name: str) -> bool:
    """Whether a run may have died of this tile, or gave it up since workers did.

    The mark of a run that was killed is taken away.
    """
    shard = read(out, name)
    return was_running(out, name) or (shard is not None and shard["state"].startswith(CRASH))


def _mark(out: Path, name: str) -> Path:
    return out / "tiles" / f"{MARK}{name}"
