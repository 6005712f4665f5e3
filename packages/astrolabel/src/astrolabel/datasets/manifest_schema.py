"""Mappings of a YAML file as structs of msgspec; every mistake names its key and remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from astrolabel.core.errors import InputError
from astrolabel.core.names import nearest

T = TypeVar("T")

FileName = Annotated[
    str,
    Meta(
        pattern=r"^(?!/)(?!(.*/)?\.\.(/|$))[^\\:]*$",
        description="a path relative to the manifest's root, with / and without ..",
    ),
]
"""A file below the manifest's root: a manifest may not reach out of it."""
Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^/@?#]+([/?#].*)?)?$",
        description="an address such as https://host/path",
    ),
]
"""A web address without an account in it; or nothing."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping with known keys.

    What types cannot say, `__post_init__` checks: it raises ValueError with "problem; remedy".
    """


def convert(kind: type[T], values: Any, file: Path, where: str = "") -> T:
    """A struct from a mapping of a file.

    Parameters
    ----------
    kind : a subclass of `Entry`.
    where : name of the mapping in the file, "" for the file itself.

    Raises
    ------
    InputError
        Naming the key, what it holds and what it should hold.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at `$")
        steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.`\[\]]+", path)]
        problem, remedy = _in_words(kind, values, said, steps, where)
        raise InputError(problem, file=file, remedy=remedy) from error
    except UnicodeEncodeError as error:  # msgspec's patterns: a lone surrogate, as "\\ud800" gives
        raise InputError(
            f"holds text that is no Unicode ({error.object!a:.40})",
            file=file,
            remedy="write characters, not halves of them",
        ) from error


def _in_words(
    kind: Any, values: Any, said: str, steps: list[Any], where: str
) -> tuple[str, str | None]:
    """msgspec's message as a problem and its remedy."""
    if "; " in said:  # of a check of our own
        problem, _, remedy = said.partition("; ")
        return f"{_name(where, steps)}: {problem}".removeprefix(": "), remedy
    schema = msgspec.json.schema(kind)
    node = _resolved(schema, schema, values)
    key = re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", said)
    while not key and len(steps) > 1 and isinstance(steps[-1], int):
        steps = steps[:-1]  # a list of numbers is wrong as a whole
    for step in steps:
        values = values[step]
        inner = node["items"] if isinstance(step, int) else node["properties"][step]
        node = _resolved(schema, inner, values)
    name = _name(where, steps)
    if key is None:
        if isinstance(values, str) and "://" in values and "@" in values:  # maybe a password
            remedy = "take it out; credentials come from the environment or netrc"
            return f"{name} has an account name in it", remedy
        return f"{name} is {values!r}", f"give {_wanted(node)}"
    known, full = node["properties"], _name(where, [*steps, key[2]])
    if key[1] == "missing required":
        return f"no {full!r}", f"give {_wanted(_resolved(schema, known[key[2]], None))}"
    remedy = f"the keys{f' of {name}' if name else ''} are {', '.join(known)}"
    return f"unknown key {full!r}", f"{nearest(key[2], known)} {remedy}".lstrip()


def _name(where: str, steps: list[Any]) -> str:
    named = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return (where + named).lstrip(".")


def _resolved(schema: Any, node: Any, value: Any) -> Any:
    """A node of a JSON schema without references, and of several kinds the one of a value."""
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
            continue
        tag = node.get("discriminator")
        named = value.get(tag["propertyName"]) if tag and isinstance(value, dict) else None
        if isinstance(named, str) and named in tag["mapping"]:
            node = {"$ref": tag["mapping"][named]}
        else:
            node = {**node["anyOf"][0], **{k: node[k] for k in ("description",) if k in node}}
    return node


def _wanted(node: dict[str, Any]) -> str:
    """What a key should hold, for people."""
    if "properties" in node:
        return f"a mapping with the keys {', '.join(node['properties'])}"
    if "description" in node:
        return str(node["description"])
    if "enum" in node:
        *first, last = map(str, node["enum"])
        return f"{', '.join(first)} or {last}" if first else last
    if node.get("type") in ("number", "integer") and "minimum" in node:
        kind = "a number" if node["type"] == "number" else "a whole number"
        return f"{kind} from {node['minimum']:g} to {node['maximum']:g}"
    kinds = {"string": "a text", "boolean": "true or false", "array": "a list", "null": "none"}
    return kinds.get(str(node.get("type")), f"a value of type {node.get('type', 'any')}")


def expand_patches(given: Any) -> dict[str, tuple[str, ...]]:
    """Patches by tract, ranges written out, as given in each tract.

    ``"4,5"`` and ``12`` are patches of HSC and LSST; ``"3-5,4-5"`` stands for six and
    ``"10-14"`` for five.

    Raises
    ------
    ValueError
        With "problem; remedy".
    """
    if not isinstance(given, dict):
        raise ValueError(f'patches is {given!r}; give patches by tract: {{"9813": ["4,5"]}}')
    found: dict[str, tuple[str, ...]] = {}
    for tract, patches in given.items():
        if not re.fullmatch(r"\d+", str(tract)):
            raise ValueError(f"the tract {tract!r}; give a number")
        if not isinstance(patches, list | tuple) or not patches:
            raise _bad_patches(tract, patches)
        names = [name for patch in patches for name in _expand(tract, patch)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tract {tract} has patch {name} twice; give it once")
        found[str(tract)] = tuple(names)
    return found


def _bad_patches(tract: Any, given: Any) -> ValueError:
    return ValueError(
        f"the patches of tract {tract} are {given!r}; "
        'give a list such as ["4,5", "3-5,6"], for LSST [12, "20-24"]'
    )


def _expand(tract: Any, patch: Any) -> list[str]:
    # Nine digits for Euclid's tiles; a range of so many would be a slip.
    one = r"(\d{1,9})(?:-(\d{1,4}))?"
    found = re.fullmatch(rf"\s*{one}\s*(?:,\s*{one}\s*)?", str(patch))
    if isinstance(patch, bool) or not isinstance(patch, (str, int)) or found is None:
        raise _bad_patches(tract, patch)
    x0, x1, y0, y1 = found.groups()
    columns = range(int(x0), int(x1 or x0) + 1)
    rows = range(int(y0), int(y1 or y0) + 1) if y0 else None
    if not columns or (rows is not None and not rows):
        raise _bad_patches(tract, patch)
    if rows is None:
        return [str(x) for x in columns]
    return [f"{x},{y}" for y in rows for x in columns]
