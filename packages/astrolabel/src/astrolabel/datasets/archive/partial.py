"""Partial downloads: what is kept of one that was cut short, for the next run to resume.

For a file NAME: ``.part.NAME`` and ``.part.NAME.json``, by which the server knows whether the
rest still belongs to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from astrolabel.core.errors import InputError


def part_of(target: Path) -> Path:
    """Where what came of a file is kept; the name keeps its suffix, which checks go by."""
    return target.with_name(f".part.{target.name}")


def write_note(part: Path, url: str, params: Mapping[str, str] | None, validator: str) -> None:
    """Note what a part is of, and what the server knows its version by."""
    note = {"url": _whole(url, params), "validator": validator}
    _note_of(part).write_text(json.dumps(note))


def held(part: Path, url: str, params: Mapping[str, str] | None) -> tuple[int, str]:
    """(bytes held, what the server knows their version by); (0, "") where they are of no use."""
    try:
        note = json.loads(_note_of(part).read_text())
    except (OSError, ValueError):
        return 0, ""
    if not isinstance(note, dict) or note.get("url") != _whole(url, params):
        return 0, ""
    validator = note.get("validator")
    return (size(part), validator) if isinstance(validator, str) and validator else (0, "")


def size(part: Path | None) -> int:
    """Bytes held; 0 where there is no file."""
    return part.stat().st_size if part is not None and part.is_file() else 0


def discard(part: Path) -> None:
    """Remove a part and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def checked(part: Path, check: Callable[[Path], None] | None) -> None:
    """Run `check`, and drop a file that it finds not to be what it should."""
    try:
        if check is not None:
            check(part)
    except InputError:
        discard(part)
        raise


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _whole(url: str, params: Mapping[str, str] | None) -> str:
    return url + ("?" + "&".join(f"{k}={v}" for k, v in sorted(params.items())) if params else "")
