"""Files that are files; without numpy, which the command line does not wait for."""

from __future__ import annotations

from pathlib import Path

from astroseg.core.errors import InputError


def check_regular(path: str | Path) -> None:
    """Refuse what is there but no file: a pipe would never end.

    Raises
    ------
    InputError
        For a folder, a pipe, a socket or a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe, socket or device"
        raise InputError(f"is {kind}, not a file", file=path, remedy="give a file")
