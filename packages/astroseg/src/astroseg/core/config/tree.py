"""A tree of frozen dataclasses as settings: strict reading, YAML with comments, nearest names.

A setting is a leaf of the tree. Its name is the path to it with dots,
``mask.threshold_sigma``; its help is the docstring below the attribute; its type is the
annotation, which `msgspec` checks (bounds too: ``Annotated[float, Meta(gt=0)]``).
"""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml

from astroseg.core.errors import InputError
from astroseg.core.names import nearest
from astroseg.core.yaml import parse_yaml

T = TypeVar("T")

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class Setting:
    """One leaf of a tree.

    Attributes
    ----------
    name : dotted path from the root.
    type : its annotation.
    default : its value in the tree that it was read from.
    owner : the dataclass that it is a field of.
    """

    name: str
    type: Any
    default: Any
    owner: Any

    @property
    def help(self) -> str:
        """The docstring below the attribute, in one line."""
        return _docs(self.owner).get(self.name.rpartition(".")[2], "")

    @property
    def option(self) -> str:
        """As an option of the command line: ``--mask.threshold-sigma``."""
        return "--" + self.name.replace("_", "-")

    @property
    def kind(self) -> str:
        """What a value looks like, for help."""
        return _kind(self.type)


def settings_of(tree: Any, prefix: str = "") -> Iterator[Setting]:
    """The leaves of a tree (a dataclass instance), in order of definition.

    Parameters
    ----------
    prefix : dotted name of the tree within a larger one.
    """
    owner: Any = type(tree)
    hints = _hints(owner)
    for field in dataclasses.fields(tree):
        value, name = getattr(tree, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{name}.")
        else:
            yield Setting(name, hints[field.name], value, owner)


def to_dict(tree: Any) -> dict[str, Any]:
    """Plain values by name, nested as the tree is."""
    return dataclasses.asdict(tree)


def from_dict(
    kind: type[T], values: Mapping[str, Any], base: T | None = None, file: Path | None = None
) -> T:
    """A tree from nested plain values; what is not given is as in `base`.

    Parameters
    ----------
    kind : the dataclass of the tree's root.
    base : values of what is not given; the defaults where absent.
    file : where the values are from, for messages.

    Raises
    ------
    InputError
        For an unknown name (the nearest known one is named), or a value of a wrong type or
        out of its bounds.
    """
    start = kind() if base is None else base
    _check_names(start, values, "", file)
    merged = _merged(dataclasses.asdict(start), values)  # type: ignore[call-overload]
    try:
        made = msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise InputError(_in_words(str(error)), file=file) from error
    for one in settings_of(made):
        if any(not math.isfinite(v) for v in _numbers(one.default)):
            raise InputError(f"{one.name}: not a finite number", file=file)
    return made


def changed(tree: T, values: Mapping[str, Any], file: Path | None = None) -> T:
    """A tree with other values, by dotted name: ``{"mask.threshold_sigma": 3}``."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.replace("-", "_").split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return from_dict(type(tree), nested, tree, file)


def parse(setting: Setting, text: str) -> Any:
    """A setting's value from the text of an option.

    Lists are written with commas, ``0.43,0.28``, or as YAML, ``[0.43, 0.28]``.

    Raises
    ------
    InputError
        When the text is no such value.
    """
    wanted = setting.type
    if text == "none" and type(None) in typing.get_args(_plain(wanted)):
        return None
    try:
        if text[:1] in ("[", "{") and _plain(wanted) is not str:
            return msgspec.convert(parse_yaml(text), wanted)
        if any(typing.get_origin(kind) is tuple for kind in _kinds(wanted)):
            return msgspec.convert(
                list(map(_digits, filter(None, text.split(",")))), wanted, strict=False
            )
        return msgspec.convert(
            text if _plain(wanted) is str else _digits(text), wanted, strict=False
        )
    except (ValueError, yaml.YAMLError) as error:  # also half a character
        problem = _in_words(str(error).splitlines()[0])
        raise InputError(
            f"{setting.option} {text!r}: {problem}", remedy=f"give {setting.kind}"
        ) from error


def _digits(text: str) -> str:
    """Numbers such as ``.5``, ``5.`` and ``+5`` with the digits that msgspec asks for."""
    found = re.fullmatch(r"\s*\+?(-?)(\d*)(\.?)(\d*)\s*", text)
    if found is None or not found[2] + found[4]:
        return text
    sign, whole, point, part = found.groups()
    return sign + (whole or "0") + (f".{part or 0}" if point else "")


def to_yaml(tree: Any, comments: bool = True, indent: str = "") -> str:
    """The tree as YAML that `from_dict` reads back, each setting below its help."""
    owner: Any = type(tree)
    docs, lines = _docs(owner), []
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        if dataclasses.is_dataclass(value):
            lines.append(f"{indent}{field.name}:")
            lines.append(to_yaml(value, comments, indent + "  "))
            continue
        if comments:
            lines += textwrap.wrap(
                docs.get(field.name, ""),
                98,
                initial_indent=f"{indent}# ",
                subsequent_indent=f"{indent}# ",
            )
        lines.append(f"{indent}{field.name}: {_flow(value)}")
    return "\n".join(lines)


def _check_names(tree: Any, values: Any, prefix: str, file: Path | None) -> None:
    """Refuse names that the tree does not have, naming the nearest."""
    if not isinstance(values, Mapping):
        raise InputError(
            f"{prefix.rstrip('.')}: expected settings by name, got {values!r}", file=file
        )
    known = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    for key, value in values.items():
        if key not in known:
            siblings = [prefix + name for name in known]
            everything = [one.name for one in settings_of(tree, prefix)]
            remedy = nearest(f"{prefix}{key}", siblings) or nearest(str(key), everything)
            raise InputError(
                f"unknown setting {prefix}{key}", file=file, remedy=remedy or "see --help-config"
            )
        if dataclasses.is_dataclass(known[key]):
            _check_names(known[key], value, f"{prefix}{key}.", file)


def _merged(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merged(base[key], value)
        if isinstance(base[key], dict) and isinstance(value, Mapping) and base[key]
        else value
        for key, value in values.items()
    }
    return {**base, **nested}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@cache
def _docs(kind: Any) -> dict[str, str]:
    """The docstring below each attribute of a class, in one line."""
    import ast
    import inspect

    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[one.target.id] = " ".join(after.value.value.split())
    return found


def _plain(kind: Any) -> Any:
    """A type without its bounds."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _kinds(kind: Any) -> tuple[Any, ...]:
    """A type without its bounds, or those that it may be any of."""
    kind = _plain(kind)
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return tuple(map(_plain, typing.get_args(kind))) if union else (kind,)


def _kind(kind: Any) -> str:
    kind = _plain(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(map(str, inner))
    if origin is tuple:
        return f"{_kind(inner[0])},..." if inner[-1] is Ellipsis else ",".join(map(_kind, inner))
    if origin in (typing.Union, types.UnionType):
        return "|".join(_kind(one) for one in inner)
    named = {float: "NUMBER", int: "INTEGER", bool: "true|false", str: "TEXT"}
    return named.get(kind, "none" if kind is type(None) else "VALUE")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _numbers(one)


def _flow(value: Any) -> str:
    """A plain value on one line of YAML that reads back as the same."""
    text: str = yaml.safe_dump(
        msgspec.to_builtins(value), default_flow_style=True, width=math.inf, allow_unicode=True
    )
    return text.strip().removesuffix("\n...").strip()


def _in_words(problem: str) -> str:
    """msgspec's message with the setting's name first."""
    problem, _, path = problem.partition(" - at `$")
    words = re.sub("`", "", problem)
    for theirs, ours in (
        ("float", "number"), ("int", "integer"), ("str", "text"), ("bool", "true or false"),
        ("array", "list"), ("object", "settings by name"),
    ):  # fmt: skip
        words = re.sub(rf"\b{theirs}\b", ours, words)
    name = path.rstrip("`").lstrip(".")
    words = words[0].lower() + words[1:]
    return f"{name}: {words}" if name else words
