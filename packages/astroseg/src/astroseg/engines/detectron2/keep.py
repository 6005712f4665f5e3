"""A lazy configuration's calls in plain values, as a checkpoint keeps them, and back.

Going back calls nothing but Detectron2's and torch's layers, looked up one by one, so that a
checkpoint of a stranger cannot run anything else. What else a configuration file has, classes
and functions of its user's, is kept by its place alone, and comes from the file again.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from astroseg.core.errors import InputError
from astroseg.engines.detectron2.config import GROUP_NORM_GROUPS as GROUPS

Own = dict[str, Any]
"""A file's own parts by their place in it."""

_LAYERS = ("detectron2.modeling", "detectron2.layers", "torch.nn")
"""Packages a model may be made from."""

# Not layers, but parts of them, that do nothing but hold their arguments or make layers.
_HELPERS = frozenset(
    {
        "detectron2.layers.shape_spec.ShapeSpec",
        "detectron2.modeling.backbone.resnet.ResNet.make_default_stages",
        "detectron2.modeling.backbone.resnet.ResNet.make_stage",
        "detectron2.modeling.box_regression.Box2BoxTransform",
        "detectron2.modeling.box_regression.Box2BoxTransformLinear",
        "detectron2.modeling.matcher.Matcher",
    }
)


def keep(value: Any, place: str, own: Own) -> Any:
    """A part of a lazy configuration in plain values.

    Calls keep the names of what they call; classes among the arguments become
    ``{"_name_": name}`` and `functools.partial` ``{"_partial_": name, "arguments": ...}``.
    What is neither plain nor of Detectron2 or torch becomes ``{"_own_": place, "is": name}``
    and is put into ``own`` at its place.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [keep(inner, f"{place}[{i}]", own) for i, inner in enumerate(value)]
    if isinstance(value, dict):
        return {
            key: _target(inner, f"{place}.{key}", own)
            if key == "_target_"
            else keep(inner, f"{place}.{key}", own)
            for key, inner in value.items()
        }
    if isinstance(value, functools.partial):
        name = "" if value.args else _name(value.func)
        arguments = {"arguments": keep(value.keywords, place, own)} if name else {}
        return {"_partial_": name, **arguments} if name else _kept_out(value, place, own)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and _name(type(value)):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"_target_": _name(type(value)), **keep(fields, place, own)}
    if norm := _norm_name(value, place):
        return norm
    name = _name(value)
    return {"_name_": name} if name else _kept_out(value, place, own)


def _target(target: Any, place: str, own: Own) -> Any:
    """Name of what a call calls; lazy files in YAML have it by its name already."""
    return _name(target) or _kept_out(target, place, own)


def _kept_out(value: Any, place: str, own: Own) -> dict[str, str]:
    own[place] = value
    # Of its name only what is the same whenever the file is run.
    name = value if isinstance(value, str) else getattr(value, "__qualname__", "")
    return {"_own_": place, "is": name or type(value).__qualname__}


_NORMS = ("BN", "GN", "LN", "FrozenBN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N")


def _norm_name(value: Any, place: str) -> str:
    """Detectron2's own name of the norm that a function makes, "" if it has none.

    Its configurations write some as lambdas, which have no name themselves.
    """
    if not (place.endswith("norm") and inspect.isfunction(value)):
        return ""
    get_norm = importlib.import_module("detectron2.layers").get_norm
    try:
        made = value(GROUPS)
    except Exception:  # a function of the user's, which may want something else
        return ""

    def plain(norm: nn.Module) -> tuple[type, dict[str, Any]]:
        return type(norm), {k: v for k, v in vars(norm).items() if isinstance(v, int | float | str)}

    if not isinstance(made, nn.Module):
        return ""
    same = (name for name in _NORMS if plain(get_norm(name, GROUPS)) == plain(made))
    return next(same, "")


def _name(target: Any) -> str:
    """The name by which `find` finds a class or function again, "" if it does not."""
    full = target
    if not isinstance(target, str):
        module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
        full = f"{module}.{name}"
    try:
        found = find(full)
    except InputError:
        return ""
    if isinstance(target, str):
        return f"{found.__module__}.{found.__qualname__}"
    return full if found is target else ""


def find(name: str) -> Callable[..., Any]:
    """A layer of Detectron2 or torch, or one of its helpers, by its full name.

    Raises
    ------
    InputError : there is none, or it is anything else: a name cannot lead anywhere.
    """
    name = str(name)
    parts, found = name.split("."), None
    if any(name.startswith(f"{package}.") for package in _LAYERS):
        count = 2
        module: Any = importlib.import_module(".".join(parts[:count]))
        while count < len(parts) and (inner := _submodule(module, parts[count])) is not None:
            module, count = inner, count + 1
        found = module
        for part in parts[count:]:
            found = inspect.getattr_static(found, part, None)
            found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
            if isinstance(found, types.ModuleType):  # an import of something else
                found = None
    full = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    own = any(full.startswith(f"{package}.") for package in _LAYERS)
    layer = isinstance(found, type) and issubclass(found, nn.Module)
    if not (own and callable(found) and (layer or full in _HELPERS)):
        raise InputError(
            f"{name} is not a layer of Detectron2 or torch.nn: a checkpoint must not call it",
            remedy="build the model from classes of detectron2.modeling, detectron2.layers and "
            "torch.nn alone",
        )
    return found


def _submodule(module: types.ModuleType, name: str) -> types.ModuleType | None:
    """A module's own submodule of that name."""
    full = f"{module.__name__}.{name}"
    if not hasattr(module, "__path__"):
        return None
    if importlib.util.find_spec(full) is None:
        return None
    return importlib.import_module(full)


def revive(value: Any, own: Mapping[str, Any]) -> Any:
    """Undo `keep`: calls by what they call, ready for Detectron2's instantiation.

    Raises
    ------
    InputError : a name that `find` refuses, or a part that is not in ``own``.
    """
    if isinstance(value, list):
        return [revive(inner, own) for inner in value]
    if not isinstance(value, dict):
        return value
    if "_own_" in value:
        return _own_part(str(value["_own_"]), own)
    if "_name_" in value:
        return find(value["_name_"])
    if "_partial_" in value:
        return functools.partial(find(value["_partial_"]), **revive(value["arguments"], own))
    return {
        key: find(inner)
        if key == "_target_" and not isinstance(inner, dict)
        else revive(inner, own)
        for key, inner in value.items()
    }


def _own_part(place: str, own: Mapping[str, Any]) -> Any:
    if place not in own:
        raise InputError(
            f"{place} is of the configuration file's own making, and no such file is at hand",
            remedy="give --config with the file",
        )
    return own[place]
