"""Checkpoints of other programs: read without running anything in them, in our names.

Pickles are read by machines that build arrays and dictionaries and nothing else: numpy's
(Detectron2's ``.pkl``) by `astroseg.weights.unpickle`, torch's (``.pth``) by `torch.load` with
``weights_only``. The names then show what kind of file it is:

- Detectron2's detectors, also DeepDISC's: their names are ours.
- Caffe2's backbones, as Detectron2 distributes them for its own training (``R-50.pkl``).
- torchvision's ImageNet classifiers, whose names timm's ResNets have too: blocks renamed;
  the first convolution turned from red first to blue first, so that every residual network
  sees the same order. They halve the resolution in the 3x3 convolution and want deviations
  divided out, which `Converted.fields` says.
- Classifiers Swin and MViTv2, of their authors, timm and torchvision:
  `astroseg.weights.transformer_names`. They saw red first, as the models here do.

torchvision's own Mask R-CNN is refused: it pools regions half a feature pixel off
(``aligned=False``), so its second stage would not be the network it was trained as.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from astroseg.core.errors import InputError
from astroseg.models.spec import ZOO_STD_X101_BGR
from astroseg.weights.transformer_names import LACKS, layout_of, renamed
from astroseg.weights.unpickle import StoredArray, load_arrays

_ZIP = b"PK\x03\x04"
_PROTOCOL = b"\x80"
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""First object in torch's format from before it became a zip archive."""

BACKBONE_LACKS: tuple[str, ...] = (
    "backbone.fpn_*",
    "proposal_generator.*",
    "roi_heads.box_*",
    "roi_heads.mask_*",
    "*.conv2_offset.*",
)
"""Parts of a detector that a classifier has not: patterns of names that stay fresh."""

# Buffers that old Detectron2 stored with its detectors; the spec has them here.
_DETECTOR_EXTRAS = ("pixel_mean", "pixel_std", "*anchor_generator.cell_anchors*")

_NORM_CAFFE2 = {
    "bn_gamma": "weight",
    "bn_s": "weight",
    "bn_beta": "bias",
    "bn_b": "bias",
    "bn_bias": "bias",
    "bn_running_mean": "running_mean",
    "bn_rm": "running_mean",
    "bn_running_var": "running_var",
    "bn_riv": "running_var",
}
_BRANCH_CAFFE2 = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_BLOCK_CAFFE2 = re.compile(r"(res[2-5])_(\d+)_branch(1|2a|2b|2c)_(w|bn_\w+)")
_STEM_CAFFE2 = re.compile(r"(?:res_)?conv1_(w|b|bn_\w+)")
_UNUSED_CAFFE2 = re.compile(r"(?:fc1000|pred)_[wb]|\w+_momentum")

_BLOCK_TORCHVISION = re.compile(r"layer([1-4])\.(\d+)\.(conv|bn|downsample\.)([0-3])\.(\w+)")


@dataclass(frozen=True, eq=False)
class Converted:
    """A checkpoint of another program.

    Attributes
    ----------
    origin : what kind of file it is, for people.
    tensors : by our names; of a backbone alone from ``stem`` and ``res2`` on, because where
        they go depends on the model: a C4 model keeps res5 among its heads.
    lacks : patterns of names that files of this kind have and no model has, or the reverse.
    fields : of the model's spec, as these weights need them.
    """

    origin: str
    tensors: Mapping[str, torch.Tensor]
    lacks: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


def is_pickle(path: Path) -> bool:
    """Whether a file is a zip archive or a bare pickle: torch's formats and Detectron2's."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its header, which may look like a pickle.
    if start[4:] == b"\0\0\0\0{":
        return False
    return start[:1] == _PROTOCOL or start[:4] == _ZIP or path.suffix == ".pkl"


def read_converted(path: Path) -> Converted:
    """A ``.pkl`` or ``.pth`` file in our names.

    Raises
    ------
    InputError
        When reading it could run code, when it is broken, or of no kind that is known.
    """
    return convert(_tensors(_content(path), path), path)


def convert(tensors: Mapping[str, torch.Tensor], path: Path) -> Converted:
    """Tensors by another program's names in ours.

    Raises
    ------
    InputError
        When the names are of a kind that cannot be converted.
    """
    if tensors and all(name.startswith("module.") for name in tensors):
        # What torch's distributed wrapper adds.
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    if any(name.startswith("backbone.body.") for name in tensors):
        raise InputError(
            "is a detector of torchvision, whose second stage pools regions half a pixel off "
            "(aligned=False) and so cannot be carried over",
            file=path,
            remedy="start from Detectron2's weights of the same network, see astroseg models",
        )
    if any(_BLOCK_CAFFE2.fullmatch(name) for name in tensors):
        return _from_caffe2(tensors, path)
    if "layer1.0.conv1.weight" in tensors and "conv1.weight" in tensors:
        return _from_torchvision(tensors, path)
    if (layout := layout_of(tensors)) is not None:
        lacks = (*BACKBONE_LACKS, *LACKS, *layout.lacks)
        return Converted(layout.origin, renamed(tensors, layout, path), lacks)
    if "stem.conv1.weight" in tensors:
        raise InputError(
            "is a lone backbone with Detectron2's names, which hold neither its order of "
            "colours nor where it halves the resolution",
            file=path,
            remedy="give the file it was converted from",
        )
    return Converted("detector with Detectron2's names", dict(tensors), _DETECTOR_EXTRAS)


def _from_caffe2(tensors: Mapping[str, torch.Tensor], path: Path) -> Converted:
    found: dict[str, torch.Tensor] = {}
    unknown = []
    for name, value in tensors.items():
        if _UNUSED_CAFFE2.fullmatch(name):
            found[name] = value
            continue
        if block := _BLOCK_CAFFE2.fullmatch(name):
            stage, number, branch, kind = block.groups()
            place = f"{stage}.{number}.{_BRANCH_CAFFE2[branch]}"
        elif stem := _STEM_CAFFE2.fullmatch(name):
            place, kind = "stem.conv1", stem[1]
        else:
            place, kind = "", ""
        if kind in _NORM_CAFFE2:
            found[f"{place}.norm.{_NORM_CAFFE2[kind]}"] = value
        elif kind in ("w", "b"):
            found[f"{place}.{'weight' if kind == 'w' else 'bias'}"] = value
        else:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"has names of Caffe2 that belong to no backbone: {', '.join(sorted(unknown)[:3])}",
            file=path,
            remedy="give a backbone's file, or a detector of Detectron2's own model zoo",
        )
    # The first convolution of MSRA's R-50 has a bias beside its norm. Detectron2 leaves it
    # out, and its model zoo was trained so.
    unused = ("fc1000_*", "pred_*", "*_momentum", "stem.conv1.bias")
    return Converted("ImageNet backbone of Caffe2", found, BACKBONE_LACKS + unused)


def _from_torchvision(tensors: Mapping[str, torch.Tensor], path: Path) -> Converted:
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if block := _BLOCK_TORCHVISION.fullmatch(name):
            stage, number, layer, index, kind = block.groups()
            norm = layer == "bn" or (layer == "downsample." and index == "1")
            which = "shortcut" if layer == "downsample." else f"conv{index}"
            found[f"res{int(stage) + 1}.{number}.{which}{'.norm' if norm else ''}.{kind}"] = value
        elif name == "conv1.weight":
            found["stem.conv1.weight"] = value.flip(1)  # red first to blue first
        elif name.startswith("bn1."):
            found[f"stem.conv1.norm.{name.removeprefix('bn1.')}"] = value
        else:
            found[name] = value
    if "res2.0.conv3.weight" not in found:
        raise InputError(
            "is a ResNet of two convolutions a block; the models here have three",
            file=path,
            remedy="give ResNet-50, ResNet-101 or ResNeXt-101",
        )
    return Converted(
        "ImageNet classifier of torchvision or timm",
        found,
        (*BACKBONE_LACKS, "fc.*", "*.num_batches_tracked"),
        MappingProxyType({"stride_in_1x1": False, "pixel_std": ZOO_STD_X101_BGR}),
    )


def _content(path: Path) -> Any:
    """What is in a file, as arrays or tensors in dictionaries."""
    try:
        with path.open("rb") as file:
            if file.read(4) != _ZIP:
                file.seek(0)
                content = load_arrays(file)
                if content != _TORCH_MAGIC:
                    return content
        return _load_torch(path)
    except Exception as problem:
        # A broken or hostile stream makes its reader raise anything at all.
        raise InputError(
            f"is refused: {_reason(problem)}",
            file=path,
            remedy="copy it again if it was cut short, or save its state_dict as safetensors "
            "where you trust it",
        ) from problem


def _load_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        # Of pickle protocols torch may not know in full: then it fails, which is enough.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(problem: BaseException) -> str:
    if wanted := re.search(r"GLOBAL (\S+)", str(problem)):
        return f"reading it could run code, for it asks for {wanted[1]}"
    first = (str(problem).splitlines() or [type(problem).__name__])[0]
    return f"reading it could run code, or it is broken ({first})"


def _tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The tensors by name in what a file held."""
    for key in ("model", "blobs", "model_state", "state_dict"):
        # Detectron2 keeps optimizer and iteration beside the model, Caffe2 its configuration;
        # MViT's authors and Lightning have names of their own for it.
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        content = {"": content}
    found = {}
    for name, value in content.items():
        tensor = value
        if isinstance(value, StoredArray) and value.array is not None:
            tensor = torch.from_numpy(value.array)
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"holds something else than tensors by name: {str(name)[:40]!r} is "
                + (
                    "an array of no numbers"
                    if isinstance(value, StoredArray)
                    else f"of the type {type(value).__name__}"
                ),
                file=path,
                remedy="give a file of a model's state_dict",
            )
        found[name] = tensor
    for wrapper in ("module.", "model."):  # of DistributedDataParallel and of Lightning
        if found and all(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}
    return found
