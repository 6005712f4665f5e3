"""Mappings of a YAML file read key by key, so that every mistake names its key and remedy."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import urlsplit

from astrolabel.core.errors import InputError


class Keys:
    """One mapping of a manifest.

    Parameters
    ----------
    path : the file, for messages.
    where : name of the mapping in it, "" for the file itself.
    values : what is to be a mapping.
    known : the keys it may have.

    Raises
    ------
    InputError
        For what is not a mapping, and for an unknown key, with the nearest known one.
    """

    def __init__(self, path: Path, where: str, values: Any, known: Sequence[str]) -> None:
        self.path, self.where = path, where
        if not isinstance(values, dict):
            raise InputError(
                f"{where} is {values!r}",
                file=path,
                remedy=f"give a mapping with the keys {', '.join(known)}",
            )
        self.values: Mapping[Any, Any] = values
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                guess = f"did you mean {near[0]!r}? " if near else ""
                raise InputError(
                    f"unknown key {self.name(str(key))!r}",
                    file=path,
                    remedy=f"{guess}the keys{f' of {where}' if where else ''} are "
                    + ", ".join(known),
                )

    def name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raise the error that says what the key should be."""
        if key not in self.values:
            raise InputError(f"no {self.name(key)!r}", file=self.path, remedy=f"give {wanted}")
        raise InputError(
            f"{self.name(key)} is {self.values[key]!r}", file=self.path, remedy=f"give {wanted}"
        )

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str, default: str | None = None, wanted: str = "a text") -> str:
        """The text of a key; `default` where it is absent, an error where there is none."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            self.refuse(key, wanted)
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self.values.get(key, default)
        if value not in choices:
            self.refuse(key, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return str(value)

    def truth(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """The number of a key, low <= number <= high; None where it is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not is_number(value) or not low <= value <= high:
            self.refuse(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int | None:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int) or not is_number(value)):
            self.refuse(key, f"a whole number from {low} to {high}")
        found = self.number(key, low, high)
        return None if found is None else int(found)

    def texts(self, key: str, wanted: str) -> tuple[str, ...]:
        """A list of different texts, not empty."""
        value = self.values.get(key)
        good = isinstance(value, list) and value and all(isinstance(v, str) and v for v in value)
        if not good or len(set(value)) != len(value):  # type: ignore[arg-type]
            self.refuse(key, wanted)
        return tuple(value)  # type: ignore[arg-type]

    def file(self, key: str, default: str | None = None) -> str:
        """A file's name below the manifest's root: a manifest may not reach out of it."""
        value = self.text(key, default, "the name of a file")
        if value and (
            PurePosixPath(value).is_absolute()
            or ".." in PurePosixPath(value).parts
            or "\\" in value
            or ":" in value
        ):
            self.refuse(key, "a path relative to the manifest's root, with / and without ..")
        return value

    def url(self, key: str, default: str | None = None) -> str:
        """A web address; one with a password in it is refused."""
        value = self.text(key, default, "an address such as https://host/path")
        if not value:
            return value
        parts = urlsplit(value)
        if "@" in parts.netloc:
            # Not shown: it may hold the password.
            raise InputError(
                f"{self.name(key)} has an account name in it",
                file=self.path,
                remedy="take it out; credentials come from the environment or netrc",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            self.refuse(key, "an address such as https://host/path")
        return value


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def expand_patches(path: Path, where: str, given: Any) -> dict[str, tuple[str, ...]]:
    """Patches by tract, ranges written out, as given in each tract.

    ``"4,5"`` and ``12`` are patches of HSC and LSST; ``"3-5,4-5"`` stands for six and
    ``"10-14"`` for five.
    """
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"{where} is {given!r}", file=path, remedy='give patches by tract: {"9813": ["4,5"]}'
        )
    found: dict[str, tuple[str, ...]] = {}
    for tract, patches in given.items():
        if not re.fullmatch(r"\d+", str(tract)):
            raise InputError(f"{where} has the tract {tract!r}", file=path, remedy="give a number")
        if not isinstance(patches, list) or not patches:
            raise _bad_patches(path, tract, patches)
        names = [name for patch in patches for name in _expand(path, tract, patch)]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"tract {tract} has patch {name} twice", file=path)
        found[str(tract)] = tuple(names)
    return found


def _bad_patches(path: Path, tract: Any, given: Any) -> InputError:
    return InputError(
        f"the patches of tract {tract} are {given!r}",
        file=path,
        remedy='give a list such as ["4,5", "3-5,6"], for LSST [12, "20-24"]',
    )


def _expand(path: Path, tract: Any, patch: Any) -> list[str]:
    parts = []
    if isinstance(patch, bool) or not isinstance(patch, (str, int)):
        raise _bad_patches(path, tract, patch)
    for part in str(patch).split(","):
        # Nine digits for Euclid's tiles; a range of so many would be a slip.
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,4}))?", part.strip())
        if found is None or str(patch).count(",") > 1:
            raise _bad_patches(path, tract, patch)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise _bad_patches(path, tract, patch)
        parts.append([str(n) for n in range(first, last + 1)])
    if len(parts) == 1:
        return parts[0]
    return [f"{x},{y}" for y in parts[1] for x in parts[0]]
