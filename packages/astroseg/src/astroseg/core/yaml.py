"""YAML files as plain values: keys given twice are errors, and 1e-4 is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from astroseg.core.errors import InputError
from astroseg.core.regular import check_regular

MAX_CHARACTERS = 2**24
"""Longest text that is read: a thousand times the longest manifest."""


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """YAML 1.1 as usual, but a key given twice is an error, and 1e-4 is a number."""

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii():
            value.encode()  # half a character, which "\\ud800" makes, is a ValueError
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"the key {key.value!r} is given twice, line {line}")
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+|\.\d+)$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """The value that a text of YAML holds.

    Raises
    ------
    yaml.YAMLError, ValueError, TypeError, RecursionError
        For what is not YAML; impossible dates raise ValueError, lists as keys TypeError.
    """
    try:
        return yaml.load(text, Loader=Loader)
    except (ArithmeticError, AttributeError, LookupError) as error:
        # What a tag promises and its value does not hold: `!!float ''`, `!!bool x`.
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from error


def read_yaml(path: Path, remedy: str | None = None) -> dict[Any, Any]:
    """The mapping that a YAML file holds; empty for an empty file.

    Parameters
    ----------
    remedy : what to do about a faulty file, for the message.

    Raises
    ------
    InputError
        For what cannot be read, is not YAML or not a mapping, or has a key twice.
    """
    check_regular(path)
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"more than {MAX_CHARACTERS} characters")
        values = parse_yaml(text)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        said = " ".join(str(error).split())[:150]
        raise InputError(f"not YAML ({said})", file=path, remedy=remedy) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError("not a mapping of keys to values", file=path, remedy=remedy)
    return values
