"""The real Detectron2: found, checked, imported only when asked for, and made to work here.

Nothing but its models, structures and configuration is imported. Its model zoo needs
`pkg_resources`, which setuptools removed in version 82, and its trainer leans on iopath in
ways that change; neither is touched.
"""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.ops import deform_conv2d

from astroseg.core.errors import InputError
from astroseg.models.layers import FreezableBatchNorm

GUIDE = "https://detectron2.readthedocs.io/tutorials/install.html"
"""Detectron2's own installation guide; it is not on PyPI."""

REMEDY = f"install it by its own guide, {GUIDE}, or use --engine torchvision"

# What differs between libraries of this name, and what the engine uses.
_NEEDED = {
    "config": ("LazyConfig", "get_cfg", "instantiate"),
    "modeling": ("build_model",),
    "modeling.backbone": ("resnet",),
    "modeling.poolers": ("ROIPooler",),
    "modeling.proposal_generator.rpn": ("RPN",),
    "modeling.roi_heads.fast_rcnn": ("FastRCNNOutputLayers",),
    "modeling.roi_heads.mask_head": ("BaseMaskRCNNHead",),
    "structures": ("Boxes", "Instances"),
    "utils.events": ("EventStorage",),
}


@dataclass(frozen=True)
class Library:
    """What the engine uses of Detectron2. It has no type information."""

    version: str
    LazyConfig: Any
    get_cfg: Any
    instantiate: Any
    build_model: Any
    resnet: Any
    ROIPooler: Any
    RPN: Any
    FastRCNNOutputLayers: Any
    BaseMaskRCNNHead: Any
    Boxes: Any
    Instances: Any
    EventStorage: Any


def library() -> Library:
    """Detectron2, imported.

    Raises
    ------
    InputError : it is not installed, does not import, or is another library of that name.
    """
    try:
        spec = importlib.util.find_spec("detectron2")
    except ValueError:  # a module put together by hand
        spec = None
    if spec is None:
        raise InputError("Detectron2 is not installed", remedy=REMEDY)
    names: dict[str, Any] = {}
    try:
        with warnings.catch_warnings():
            # Deprecations of its own making, some twenty of them.
            warnings.simplefilter("ignore")
            for module, attributes in _NEEDED.items():
                found = importlib.import_module(f"detectron2.{module}")
                names |= {name: getattr(found, name) for name in attributes}
            version = str(getattr(importlib.import_module("detectron2"), "__version__", "unknown"))
    except (ImportError, AttributeError, OSError, RuntimeError, TypeError) as problem:
        raise _unusable(spec, problem) from problem
    # Its anchors are made in a way that torch wants spelled out; it says so in every run.
    warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
    return Library(version=version, **names)


def need_timm(model: str) -> None:
    """Import what Detectron2's transformers take from timm.

    Raises
    ------
    InputError : it is not installed, or lacks that.
    """
    try:
        with warnings.catch_warnings():
            # Detectron2 imports it by a name that timm deprecates.
            warnings.simplefilter("ignore")
            layers = importlib.import_module("timm.models.layers")
            _ = layers.DropPath, layers.Mlp
    except (ImportError, AttributeError) as problem:
        raise InputError(
            f"Detectron2 takes parts of {model} from timm, which does not give them ({problem})",
            remedy="pip install timm (known to work: 1.0.31), or use --engine torchvision",
        ) from problem


@contextmanager
def zoo_resources() -> Iterator[None]:
    """While a configuration is read that takes parts from Detectron2's model zoo.

    The zoo finds its files by `pkg_resources`, which setuptools has no more from version 82;
    the one function of it that is used stands in.
    """
    name = "pkg_resources"
    if importlib.util.find_spec(name) is not None:
        yield
        return
    stand_in: Any = types.ModuleType(name)
    stand_in.resource_exists = lambda package, path: _resource(package, path).exists()
    stand_in.resource_filename = lambda package, path: str(_resource(package, path))
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


def _resource(package: str, path: str) -> Path:
    return Path(str(importlib.resources.files(package))) / path


def _unusable(spec: Any, problem: Exception) -> InputError:
    place = spec.origin or ", ".join(spec.submodule_search_locations or ())
    own = getattr(problem, "name", None) or ""
    if isinstance(problem, AttributeError) or own.startswith("detectron2"):
        return InputError(
            f"the library called detectron2 at {place} is not the Detectron2 that engine "
            f"detectron2 needs ({problem})",
            remedy=f"remove it or leave its folder, then {REMEDY}",
        )
    return InputError(
        f"Detectron2 at {place} does not import ({type(problem).__name__}: {problem})",
        remedy="give it what it lacks; known to work: fvcore 0.1.5, iopath 0.1.9 and 0.1.10, "
        f"omegaconf 2.3 and 2.4. Or {REMEDY}",
    )


def adapt(model: nn.Module, d2: Library) -> None:
    """Make a fresh Detectron2 model behave under freezing and mixed precision.

    No weight and no name changes, and in full precision no number.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            # Frozen for a stage, it must stop counting too.
            module.__class__ = FreezableBatchNorm
        elif isinstance(module, d2.ROIPooler):
            module.register_forward_pre_hook(_pool_in_full_precision)
        elif isinstance(module, d2.RPN):
            module.rpn_head.register_forward_hook(_answer_in_full_precision)
        elif isinstance(module, d2.FastRCNNOutputLayers):
            module.register_forward_hook(_answer_in_full_precision)
        elif isinstance(module, d2.BaseMaskRCNNHead):
            module.predictor.register_forward_hook(_answer_in_full_precision)


def _pool_in_full_precision(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Features as float32: Detectron2 gives the boxes the features' type, and a bfloat16
    coordinate of 1001 is 1000."""
    features, *others = arguments
    return ([feature.float() for feature in features], *others)


def _answer_in_full_precision(module: nn.Module, arguments: tuple[Any, ...], answer: Any) -> Any:
    """Tensors, however nested, as float32: losses and thresholds want all digits."""
    if isinstance(answer, torch.Tensor):
        return answer.float()
    return type(answer)(_answer_in_full_precision(module, arguments, part) for part in answer)


@contextmanager
def deformable_by_torchvision(d2: Library) -> Iterator[None]:
    """While a model is built, its deformable convolutions become torchvision's.

    Detectron2 calls that operator itself on CPUs, but without its gradient, and does not
    make the layer at all where its own operators are not compiled. So it trains everywhere;
    weights and their names are the same.
    """
    own = d2.resnet.DeformConv, d2.resnet.ModulatedDeformConv
    d2.resnet.DeformConv = d2.resnet.ModulatedDeformConv = _DeformConv
    try:
        yield
    finally:
        d2.resnet.DeformConv, d2.resnet.ModulatedDeformConv = own


class _DeformConv(nn.Module):
    """The layer by Detectron2's arguments, names and start; the ReLU is its caller's.

    ``others`` say what is always so there (3x3, padded, without bias) or what the offsets'
    number says (their groups).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        dilation: int,
        groups: int,
        norm: nn.Module | None,
        **others: Any,
    ) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, 3, 3))
        self.bias = None  # looked for when weights are started
        self.norm = nn.Identity() if norm is None else norm

    def forward(
        self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Convolve (N, C, H, W) at places shifted by (N, 18, H', W'), then norm.

        The second version of it, "modulated", weighs what is read there: (N, 9, H', W').
        """
        # In float32 also under mixed precision: a place must be finer than a bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            found = deform_conv2d(
                x.float(),
                offset.float(),
                self.weight.float(),
                stride=self.stride,
                padding=self.dilation,
                dilation=self.dilation,
                mask=None if mask is None else mask.float(),
            )
        normed: torch.Tensor = self.norm(found.to(x.dtype))
        return normed
