"""A user's Detectron2 configuration file, read; and a model built from what was kept of it.

A ``.py`` is Python, and so may a lazy ``.yaml`` be: reading them runs them, as Detectron2
does. What is kept for a checkpoint is plain (`detectron2_keep`): names, numbers and text. A
model that this can build needs its file no more. One with parts of the user's own is built
only beside the same file, which its user gives again, and which is not run before it is known
to be the same.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from astroseg.core.errors import InputError
from astroseg.engines.detectron2.keep import Own, keep, revive
from astroseg.engines.detectron2.library import (
    Library,
    deformable_by_torchvision,
    library,
    need_timm,
    zoo_resources,
)
from astroseg.engines.detectron2.override import Tree, applied, write_text
from astroseg.models.spec import ModelSpec

ARCHITECTURE = "GeneralizedRCNN"
"""The one of Detectron2's that has boxes and masks of objects: Mask R-CNN and its kin."""

YACS_NAME = "cfg"
"""What a ``.py`` calls its keys and values, where it has no lazy `model`."""

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


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file that was read.

    Attributes
    ----------
    text : the model's part, as a checkpoint keeps it.
    program : text of the file where the model needs it to be run, else "".
    own : the file's own parts by their place; of a yacs program the whole, at "cfg".
    """

    text: str
    program: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)


def digest(program: str) -> str:
    """SHA-256 of a file of that text, in hexadecimal digits."""
    return hashlib.sha256(program.encode()).hexdigest()


def read_config(path: str | Path, same: str = "") -> ConfigFile:
    """A configuration file, run where it is a program.

    Parameters
    ----------
    same : text that the file must have to be run; "" for any.

    Raises
    ------
    InputError : Detectron2 or the file is absent, the file is no configuration of
        Detectron2's, of a model without boxes and masks, or another than ``same``.
    """
    path, d2 = Path(path), library()
    if not path.is_file():
        raise InputError("no such file", file=path, remedy="give --config a Detectron2 config")
    if path.suffix not in (".py", ".yaml", ".yml"):
        raise _no_config(path, f"its name ends with {path.suffix!r}, not .yaml or .py")
    try:
        program = path.read_bytes().decode()
    except UnicodeDecodeError as problem:
        raise _no_config(path, f"it is not text in UTF-8 ({problem})") from problem
    if same and program != same:
        raise InputError(
            f"has sha256 {digest(program)}, the file that the model was made from {digest(same)}",
            file=path,
            remedy="give that file: the checkpoint has its text, "
            "astroseg.weights.checkpoint.read_header(checkpoint).spec.config_program. "
            "Or train with this "
            "one into another --out, with the checkpoint as --weights if the network is the same",
        )
    if path.suffix == ".py" or re.search(r"\b_target_\s*:", program):
        tree, own = _read_program(path, d2)
        kind = "yacs" if YACS_NAME in own else "lazy"
        return ConfigFile(write_text(kind, tree), program if own else "", own)
    return ConfigFile(write_text("yacs", _read_yacs(path, d2)))


def _no_config(path: Path, why: str) -> InputError:
    return InputError(
        f"is not a Detectron2 configuration: {why}",
        file=path,
        remedy="give one of its .yaml files, or a LazyConfig .py with a `model`, or a .py with "
        "a `cfg`",
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
    return _yacs_tree(config, path)


def _yacs_tree(config: Any, path: Path) -> Tree:
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


def _read_program(path: Path, d2: Library) -> tuple[Tree, Own]:
    """Tree of the `model` of a file that is run, or of its `cfg`; and its own parts."""
    omegaconf = importlib.import_module("omegaconf")
    try:
        with zoo_resources(), _import_restored():
            found = d2.LazyConfig.load(str(path))
        mode = {"resolve": True, "structured_config_mode": omegaconf.SCMode.INSTANTIATE}
        parts = {
            name: omegaconf.OmegaConf.to_container(found[name], **mode)
            for name in ("model", YACS_NAME)
            if name in found
        }
    except Exception as problem:  # it is a program, and may fail as programs do
        why = " ".join(str(problem).split())
        raise InputError(
            f"cannot be run as a Detectron2 LazyConfig ({type(problem).__name__}: {why})",
            file=path,
            remedy="run it with detectron2.config.LazyConfig.load to see where it fails",
        ) from problem
    model, config = parts.get("model"), parts.get(YACS_NAME)
    if isinstance(config, dict) and "MODEL" in config and model is None:
        whole = type(d2.get_cfg())(config)
        return _yacs_tree(whole, path), {YACS_NAME: whole}
    if not isinstance(model, dict) or "_target_" not in model:
        raise _no_config(path, "it defines no `model` = LazyCall(...)(...)")
    own: Own = {}
    tree: Tree = keep(model, "model", own)
    _check_lazy(tree, path)
    return tree, own


def _check_lazy(tree: Tree, path: Path) -> None:
    target = tree["_target_"]
    if isinstance(target, dict) or not target.endswith(f".{ARCHITECTURE}"):
        name = target["is"] if isinstance(target, dict) else target
        raise _no_masks(path, f"its model is a {name}", f"give a config of a {ARCHITECTURE}")
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


def build_config(spec: ModelSpec, d2: Library, file: ConfigFile | None = None) -> Any:
    """The model of a spec's configuration, with the spec's bands, classes and limits.

    Parameters
    ----------
    file : that it was made from, needed where it has parts of the user's own.

    Raises
    ------
    InputError : Detectron2 cannot build it, the model is not one that can be trained here, or
        its file is another or not given.
    """
    kind, tree = applied(spec)
    own = _own_parts(spec, file)
    if any(f'{name}"' in spec.config for name in _WITH_TIMM):
        need_timm(spec.name)
    try:
        with deformable_by_torchvision(d2):
            if kind == "lazy":
                model = d2.instantiate(revive(tree, own))
            else:
                config = own[YACS_NAME].clone() if YACS_NAME in own else d2.get_cfg()
                config.merge_from_other_cfg(type(config)(tree))
                model = d2.build_model(config)
    except InputError:
        raise
    except _BUILD_ERRORS as problem:
        raise InputError(
            f"Detectron2 cannot build the model of config {spec.name} "
            f"({type(problem).__name__}: {' '.join(str(problem).split())})",
            remedy="mend the config; where its parts are registered in Python of your own, "
            "give --config a .py that imports them and has the configuration as `cfg`",
        ) from problem
    _check_model(model, spec, d2)
    return model


def _own_parts(spec: ModelSpec, file: ConfigFile | None) -> Mapping[str, Any]:
    """What only the configuration's file can give, checked to be that of the spec."""
    if not spec.config_program:
        return {}
    if file is None:
        raise InputError(
            f"the model {spec.name} has parts of its configuration file's own making, which a "
            "checkpoint does not run",
            remedy=f"give --config with that file, sha256 {digest(spec.config_program)}",
        )
    if (file.program, file.text) != (spec.config_program, spec.config):
        raise InputError(
            f"the configuration file of {spec.name} is the same and gives another model",
            remedy="bring back what it imports as it was when the model was trained",
        )
    return file.own


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
