"""A user's Detectron2 configuration file, read; and a model built from what was kept of it.

A ``.py`` is Python, and so may a lazy ``.yaml`` be: reading them runs them, as Detectron2
does. What is kept for a checkpoint is plain: names, numbers and text. Building from that
calls nothing but Detectron2's and torch's layers, looked up one by one, so that a checkpoint
of a stranger cannot run anything else.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from astroseg.engines.detectron2_config import GROUP_NORM_GROUPS as GROUPS
from astroseg.engines.detectron2_library import (
    Library,
    deformable_by_torchvision,
    library,
    need_timm,
    zoo_resources,
)
from astroseg.engines.detectron2_override import Tree, applied, write_text
from astroseg.errors import InputError
from astroseg.models.spec import ModelSpec

ARCHITECTURE = "GeneralizedRCNN"
"""The one of Detectron2's that has boxes and masks of objects: Mask R-CNN and its kin."""

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

_WITH_TIMM = (".SwinTransformer", ".MViT", ".ViT")

# What building a model raises where its configuration contradicts itself.
_BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_config(path: str | Path) -> str:
    """The model's part of a configuration file, as a checkpoint keeps it.

    Raises
    ------
    InputError : Detectron2 or the file is absent, the file is no configuration of
        Detectron2's, of a model without boxes and masks, or of parts that a checkpoint
        cannot keep.
    """
    path, d2 = Path(path), library()
    if not path.is_file():
        raise InputError("no such file", file=path, remedy="give --config a Detectron2 config")
    if path.suffix not in (".py", ".yaml", ".yml"):
        raise _no_config(path, f"its name ends with {path.suffix!r}, not .yaml or .py")
    if path.suffix == ".py" or re.search(r"\b_target_\s*:", path.read_text(errors="replace")):
        return write_text("lazy", _read_lazy(path, d2))
    return write_text("yacs", _read_yacs(path, d2))


def _no_config(path: Path, why: str) -> InputError:
    return InputError(
        f"is not a Detectron2 configuration: {why}",
        file=path,
        remedy="give one of its .yaml files, or a LazyConfig .py with a `model`",
    )


def _no_masks(path: Path, what: str, remedy: str) -> InputError:
    return InputError(f"describes a model without what is needed: {what}", file=path, remedy=remedy)


def _read_yacs(path: Path, d2: Library) -> Tree:
    config = d2.get_cfg()
    try:
        plain = config.load_yaml_with_base(str(path), allow_unsafe=False)
        if not isinstance(plain, dict) or "MODEL" not in plain:
            raise _no_config(path, "it has no MODEL")
        config.merge_from_file(str(path), allow_unsafe=False)
    except InputError:
        raise
    except Exception as problem:  # of yaml, yacs and whatever opens files, each of its own kind
        why = " ".join(str(problem).split())
        if "2002:python/" in why:
            raise InputError(
                f"has Python code in it, which is not run ({why})",
                file=path,
                remedy="write the values out, or use a LazyConfig .py",
            ) from problem
        raise _no_config(path, f"{type(problem).__name__}, {why}") from problem
    model = config.MODEL
    if model.META_ARCHITECTURE != ARCHITECTURE:
        raise _no_masks(
            path,
            f"MODEL.META_ARCHITECTURE is {model.META_ARCHITECTURE}",
            f"give a config of a {ARCHITECTURE}",
        )
    if not model.MASK_ON:
        raise _no_masks(path, "it has no mask head", "set MODEL.MASK_ON: True")
    return {
        "MODEL": _plain(model),
        "INPUT": {"FORMAT": config.INPUT.FORMAT, "MASK_FORMAT": config.INPUT.MASK_FORMAT},
        "TEST": {"DETECTIONS_PER_IMAGE": config.TEST.DETECTIONS_PER_IMAGE},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _read_lazy(path: Path, d2: Library) -> Tree:
    omegaconf = importlib.import_module("omegaconf")
    try:
        with zoo_resources(), _import_restored():
            found = d2.LazyConfig.load(str(path))
        model = found.get("model")
        if model is not None:
            mode = omegaconf.SCMode.INSTANTIATE
            model = omegaconf.OmegaConf.to_container(
                model, resolve=True, structured_config_mode=mode
            )
    except Exception as problem:  # it is a program, and may fail as programs do
        why = " ".join(str(problem).split())
        raise InputError(
            f"cannot be run as a Detectron2 LazyConfig ({type(problem).__name__}: {why})",
            file=path,
            remedy="run it with detectron2.config.LazyConfig.load to see where it fails",
        ) from problem
    if not isinstance(model, dict) or "_target_" not in model:
        raise _no_config(path, "it defines no `model` = LazyCall(...)(...)")
    try:
        tree: Tree = keep(model, "model")
    except InputError as problem:
        raise InputError(problem.problem, file=path, remedy=problem.remedy) from problem
    _check_lazy(tree, path)
    return tree


def _check_lazy(tree: Tree, path: Path) -> None:
    if not tree["_target_"].endswith(f".{ARCHITECTURE}"):
        raise _no_masks(
            path, f"its model is a {tree['_target_']}", f"give a config of a {ARCHITECTURE}"
        )
    heads = tree.get("roi_heads") or {}
    if not any(name.startswith("mask_head") for name in heads):
        raise _no_masks(path, "it has no mask head", "give roi_heads a mask_head")
    rpn = tree.get("proposal_generator") or {}
    if not {"pre_nms_topk", "post_nms_topk", "batch_size_per_image"} <= set(rpn):
        raise _no_masks(path, "its proposals do not come from an RPN", "use Detectron2's RPN")
    if not ({"box_predictor", "box_predictors"} & set(heads) and "batch_size_per_image" in heads):
        raise _no_masks(path, "its roi_heads predict no boxes", "use Detectron2's ROI heads")


@contextmanager
def _import_restored() -> Iterator[None]:
    """Detectron2 replaces Python's import while it reads, and after an error for good."""
    own = builtins.__import__
    try:
        yield
    finally:
        builtins.__import__ = own


def keep(value: Any, place: str) -> Any:
    """A part of a lazy configuration in plain values.

    Calls keep the names of what they call; classes among the arguments become
    ``{"_name_": name}`` and `functools.partial` ``{"_partial_": name, "arguments": ...}``.

    Raises
    ------
    InputError : something else, or of other libraries than Detectron2 and torch.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [keep(inner, f"{place}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, dict):
        return {
            key: _name(_located(inner), place)
            if key == "_target_"
            else keep(inner, f"{place}.{key}")
            for key, inner in value.items()
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"_target_": _name(type(value), place), **keep(fields, place)}
    if isinstance(value, functools.partial) and not value.args:
        name = _name(value.func, place)
        return {"_partial_": name, "arguments": keep(value.keywords, place)}
    return _norm_name(value, place) or {"_name_": _name(value, place)}


_NORMS = ("BN", "GN", "LN", "FrozenBN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N")


def _norm_name(value: Any, place: str) -> str:
    """Detectron2's own name of the norm that a function makes, "" if it has none.

    Its configurations write some as lambdas, which have no name themselves.
    """
    if not (place.endswith("norm") and inspect.isfunction(value)):
        return ""
    get_norm = importlib.import_module("detectron2.layers").get_norm
    made = value(GROUPS)

    def plain(norm: nn.Module) -> tuple[type, dict[str, Any]]:
        return type(norm), {k: v for k, v in vars(norm).items() if isinstance(v, int | float | str)}

    same = (name for name in _NORMS if plain(get_norm(name, GROUPS)) == plain(made))
    return next(same, "")


def _located(target: Any) -> Any:
    """A call's target, which lazy files in YAML have by its name."""
    return find(target) if isinstance(target, str) else target


def _name(target: Any, place: str) -> str:
    """The name by which `find` finds a class or function again."""
    module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
    if "<lambda>" in name or not name:
        raise InputError(
            f"{place} is {target!r}, which a checkpoint cannot keep",
            remedy="write functools.partial(a class of detectron2 or torch.nn, name=value)",
        )
    full = f"{module}.{name}"
    if find(full) is not target:
        raise InputError(
            f"{place} is {full}, which is not found again by that name",
            remedy="define it at the top of its module",
        )
    return full


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


def revive(value: Any) -> Any:
    """Undo `keep`: calls by what they call, ready for Detectron2's instantiation."""
    if isinstance(value, list):
        return [revive(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "_name_" in value:
        return find(value["_name_"])
    if "_partial_" in value:
        return functools.partial(find(value["_partial_"]), **revive(value["arguments"]))
    return {
        key: find(inner) if key == "_target_" else revive(inner) for key, inner in value.items()
    }


def build_config(spec: ModelSpec, d2: Library) -> Any:
    """The model of a spec's configuration, with the spec's bands, classes and limits.

    Raises
    ------
    InputError : Detectron2 cannot build it, or the model is not one that can be trained here.
    """
    kind, tree = applied(spec)
    if any(f'{name}"' in spec.config for name in _WITH_TIMM):
        need_timm(spec.name)
    try:
        with deformable_by_torchvision(d2):
            if kind == "lazy":
                model = d2.instantiate(revive(tree))
            else:
                config = d2.get_cfg()
                config.merge_from_other_cfg(type(config)(tree))
                model = d2.build_model(config)
    except InputError:
        raise
    except _BUILD_ERRORS as problem:
        raise InputError(
            f"Detectron2 cannot build the model of config {spec.name} "
            f"({type(problem).__name__}: {' '.join(str(problem).split())})",
            remedy="mend the config; what it registers in Python of its own is not known here",
        ) from problem
    _check_model(model, spec, d2)
    return model


def _check_model(model: Any, spec: ModelSpec, d2: Library) -> None:
    heads = getattr(model, "roi_heads", None)
    problem = ""
    if not isinstance(getattr(model, "proposal_generator", None), d2.RPN):
        problem = "its proposals do not come from an RPN"
    elif not getattr(heads, "mask_on", False):
        problem = "it has no mask head"
    elif getattr(heads, "keypoint_on", False):
        problem = "it has a keypoint head, and there are no keypoints to learn from"
    else:
        bands = entrance(model)[1].in_channels
        if bands != spec.channels:
            problem = f"its backbone takes {bands} bands, the images have {spec.channels}"
    if problem:
        raise InputError(
            f"the model of config {spec.name} cannot be used: {problem}",
            remedy="give another config, or --bands",
        )


def bottom_up(model: Any) -> str:
    """Start of the names of the parameters that come pre-trained from classification."""
    for inner in ("bottom_up", "net"):  # of a pyramid, of ViTDet's
        if hasattr(model.backbone, inner):
            return f"backbone.{inner}."
    return "backbone."


def entrance(model: Any) -> tuple[str, nn.Conv2d]:
    """The convolution that meets the image's bands, and its name."""
    start = bottom_up(model)
    network = model.get_submodule(start.rstrip("."))
    return next(
        (start + name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    )
