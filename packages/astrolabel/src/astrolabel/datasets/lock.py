"""What the files of a dataset are: hashes in a lock file, and whether content is what it should.

The lock file lies beside its manifest, ``NAME.lock.yaml`` of ``NAME.yaml``. It is filled in
as files first come, and belongs with the manifest: whoever has both gets the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta

from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size, write_bytes
from astrolabel.core.yaml import read_yaml
from astrolabel.datasets.manifest_schema import Entry, convert
from astrolabel.io.integrity import check_sums

LOCK_SCHEMA = 1


class _LockKeys(Entry, frozen=True):
    schema: Annotated[
        Literal[1], Meta(description="1, or delete the file to record all hashes anew")
    ]
    files: dict[str, Any] | None = None


class _Hashes(Entry, frozen=True):
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits")]
    bytes: int | None = None
    query_sha256: str | None = None


@dataclass(frozen=True)
class Lock:
    """Hashes of the files as they first came.

    Attributes
    ----------
    path : the lock file.
    entries : by file name below the root: ``sha256`` of its bytes, ``bytes`` and, for a
        catalog that a query made, ``query_sha256`` of the SQL.
    """

    path: Path
    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_entry(self, file: str, entry: Mapping[str, Any]) -> Lock:
        """The lock with one more file, written."""
        entries = dict(sorted({**self.entries, file: dict(entry)}.items()))
        text = (
            "# What the files of this dataset are, as they first came; later ones must be the\n"
            "# same. Delete a file's entry to accept another in its place.\n"
        ) + yaml.safe_dump({"schema": LOCK_SCHEMA, "files": entries})
        write_bytes(self.path, text.encode())
        return Lock(self.path, entries)


def read_lock(manifest: Path) -> Lock:
    """The lock file of a manifest; an empty lock where there is none.

    Raises
    ------
    InputError
        When it is there and cannot be understood.
    """
    path = manifest.with_name(f"{manifest.stem}.lock.yaml")
    if not path.exists():
        return Lock(path)
    regular_size(path)  # a pipe beside a manifest is not waited for
    values = read_yaml(path, "see `astrolabel docs manifests`")
    files = convert(_LockKeys, values, path).files or {}
    for file in files:
        convert(_Hashes, files[file], path, str(file))
    return Lock(path, files)


def check_content(path: Path) -> None:
    """Whether a file can be what its name says: a whole FITS file, a table, no web page.

    Raises
    ------
    InputError
        Saying what it is instead.
    """
    regular_size(path)
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise InputError("is empty", file=path, remedy="fetch it again")
    if re.match(rb"\s*<(!doctype|html|head|body|\?xml)", head, re.IGNORECASE):
        raise InputError(
            "is a web page, not the file",
            file=path,
            remedy="see whether the account's name and password are right",
        )
    suffixes = path.name.lower().split(".")
    if suffixes[-1] in ("fits", "fit", "fz") or suffixes[-2:] in (["fits", "gz"], ["fit", "gz"]):
        check_sums(path)
    if suffixes[-1] == "parquet" and head[:4] != b"PAR1":
        raise InputError("is not a Parquet file", file=path, remedy="fetch it again")
