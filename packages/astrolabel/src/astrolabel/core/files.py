"""Write a file whole or not at all; hash one; names that may be trusted with a folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

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


MAX_NAME = 255
"""Bytes of one part of a path: the limit of all common file systems."""


def below(
    root: str | Path, name: object, *, file: str | Path | None = None, links: bool = False
) -> Path:
    """The path of `name` inside `root`, where the name comes from a document.

    The one place where names of manifests, label files and archives become paths. What the
    name means is looked up too: a link that leads out of the root is refused.

    Parameters
    ----------
    file : the document, for the message.
    links : whether a link inside `root` may lead out of it: for folders that the user filled,
        from which is only read.

    Raises
    ------
    InputError
        For a name that is no text, empty, absolute, has ``..``, a backslash or a character
        that no file name should have, is too long, or leads out of `root`.
    """
    what = "" if isinstance(name, str) else f"is a {type(name).__name__}, not a text"
    text = name if isinstance(name, str) else ""
    parts = PurePosixPath(text).parts
    if not what and not parts:
        what = "is empty"
    elif any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 or c in "\\\x7f" for c in text):
        what = "holds a backslash or a character that cannot be shown"
    elif text.startswith("/") or ".." in parts or (len(text) > 1 and text[1] == ":"):
        what = "leads out of its folder"
    elif len(text) > 4096 or any(len(os.fsencode(part)) > MAX_NAME for part in parts):
        what = "is too long"
    if not what:
        path = Path(root) / text
        if links or path.resolve().is_relative_to(Path(root).resolve()):
            return path
        what = "leads out of its folder by a link"
    shown = ascii(name)
    raise InputError(
        f"the file name {shown if len(shown) < 80 else shown[:76] + '...'} {what}",
        file=file,
        remedy=f"give a path below {root}, with / and without ..",
    )


def regular_size(path: Path) -> int:
    """Bytes of a regular file; a pipe, which would never end, is refused.

    Raises
    ------
    InputError
        For what is not there, not a file, a pipe, a socket or a device.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = "no such file" if isinstance(error, FileNotFoundError) else f"no file ({error})"
        raise InputError(why, file=ascii(str(path))[1:-1]) from error
    if not stat.S_ISREG(info.st_mode):
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise InputError(f"is {kind}, not a file", file=path, remedy="give a file")
    return info.st_size


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    regular_size(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
