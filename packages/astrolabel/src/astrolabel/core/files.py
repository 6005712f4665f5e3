"""Write a file whole or not at all; hash one."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astrolabel.core.errors import InputError, OutputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Missing folders are made. The temporary name starts with a dot and ends like
    `path`, so that writers which go by the suffix (astropy, pillow) do the right thing.
    Whoever reads `path` sees the old file or the whole new one, also after a crash or a
    power cut: the contents are flushed to the disk before the name is given.

    Raises
    ------
    OutputError
        When the folder cannot be made or the file cannot be written.
    """
    path = Path(path)
    # In the same folder: os.replace is atomic only within one file system.
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        if os.name == "posix":  # elsewhere a folder cannot be opened to be flushed
            _flush(path.parent)
    except OSError as error:
        _discard(temporary)
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            file=path,
            remedy="choose a folder that exists, is writable and has room",
        ) from error
    except BaseException:
        _discard(temporary)
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(temporary: Path) -> None:
    # The folder may be what is wrong; the error on its way up says so better.
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
