"""Ids and names as documents write them, and the places they stand for."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

BITS = 63  # of the ids that catalogs and other programs hold

_WHOLE = re.compile(r"\s*(?P<number>[+-]?\d{1,19})(\.0+)?\s*")


def key_of(value: Any) -> Hashable:
    """An id as it is looked up: whole numbers as such, however they are written.

    None stands for what cannot be an id.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value)
        return int(found["number"]) if found else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def numbered(keys: Sequence[Hashable], mended: Counter[str], what: str) -> list[int]:
    """The keys themselves where all are whole numbers of 64 bits, else their places from 1."""
    numbers = [key for key in keys if isinstance(key, int) and abs(key) < 1 << BITS]
    if len(numbers) == len(keys):
        return numbers
    mended[f"{what} ids that are no 64-bit numbers, numbered from 1 in their order"] += len(keys)
    return list(range(1, len(keys) + 1))


def readable(text: str) -> str:
    """A name that can be written anywhere: lone surrogates and control characters escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def locate(name: str, root: Path, *, only: bool = False) -> Path:
    """The file that a document of another machine names.

    The name as it is, in `root` where it is relative; else the longest tail of it that is
    there, so that neither another machine's folders nor Windows' separators matter; of a web
    address, its path or Label Studio's ``?d=``, with ``%20`` and its like resolved; accents as
    one letter or, as macOS writes them, as two. What is nowhere is returned as it would be in
    `root`, for the message.

    Parameters
    ----------
    only : look for files of whole paths in `root` too, wherever these are.
    """
    moved = only and Path(name).is_absolute()
    plain = root / (Path(name).name if moved else name)
    if not moved and is_file(plain):
        return plain
    plainly = unquote(name)
    forms = (unicodedata.normalize(form, plainly) for form in ("NFC", "NFD"))
    for text in dict.fromkeys((name, plainly, *forms)):
        for path in (text, text.partition("?")[0], text.partition("?d=")[2]):
            parts = [part for part in re.split(r"[\\/]+", path) if part not in ("", ".", "..")]
            for first in range(len(parts)):
                if is_file(found := root.joinpath(*parts[first:])):
                    return found
    return plain


def is_file(path: Path) -> bool:
    """Whether there is such a file; False also for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
