"""Names of published transformer classifiers in ours.

Read are Swin's by its authors (Detectron2 distributes their files), by timm from 0.9 on and
by torchvision, and MViTv2's by its authors and by timm. All are the same networks, number
for number. None has the norms through which a detector's pyramid sees each stage.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from astroseg.core.errors import InputError

_BOTTOM_UP = "backbone.bottom_up."

_CLASSIFIER = re.compile(r"(?:norm|head)\..+|.+\.attn_mask")
"""Only classifiers have these; masks of shifted windows follow from the image's size."""

LACKS: tuple[str, ...] = (
    "norm.*",
    "head.*",
    "*.attn_mask",
    f"{_BOTTOM_UP}norm[0-9].*",
    f"{_BOTTOM_UP}scale[0-9]_norm.*",
)
"""What classifiers have and detectors have not, and the norms that only detectors have."""


@dataclass(frozen=True)
class Layout:
    """One publisher's names.

    Attributes
    ----------
    origin : for people.
    sign : a name that only such files have.
    absent : a name that they have not.
    rename : from names to ours below the backbone, "" for names of no such network.
    lacks : beside `LACKS`, patterns of what such files have not.
    """

    origin: str
    sign: str
    absent: str
    rename: Callable[[str, Mapping[str, torch.Tensor]], str]
    lacks: tuple[str, ...] = ()


_SWIN = re.compile(
    r"patch_embed\.(?:proj|norm)\.\w+"
    r"|layers\.\d\.downsample\.(?:norm|reduction)\.\w+"
    r"|layers\.\d\.blocks\.\d+\.(?:norm[12]|mlp\.fc[12]|attn\.qkv|attn\.proj)\.\w+"
    r"|layers\.\d\.blocks\.\d+\.attn\.relative_position_(?:bias_table|index)"
)
_MVIT = re.compile(
    r"patch_embed\.proj\.\w+"
    r"|blocks\.\d+\.(?:norm[12]|mlp\.fc[12]|proj|attn\.(?:qkv|proj|(?:pool|norm)_[qkv]))\.\w+"
    r"|blocks\.\d+\.attn\.rel_pos_[hw]"
)
_TIMM_DOWN = re.compile(r"layers\.(\d)\.downsample\.(.+)")
_TIMM_BLOCK = re.compile(r"stages\.(\d)\.blocks\.(\d+)\.(.+)")
_TORCHVISION_PART = re.compile(r"features\.(\d)\.(.+)")


def _swin(name: str, _: Mapping[str, torch.Tensor]) -> str:
    return name if _SWIN.fullmatch(name) else ""


def _mvit(name: str, _: Mapping[str, torch.Tensor]) -> str:
    return name if _MVIT.fullmatch(name) else ""


def _swin_timm(name: str, every: Mapping[str, torch.Tensor]) -> str:
    """timm merges at the beginning of a stage, the others at the end of the one before."""
    if found := _TIMM_DOWN.fullmatch(name):
        name = f"layers.{int(found[1]) - 1}.downsample.{found[2]}"
    return _swin(name, every)


def _swin_torchvision(name: str, every: Mapping[str, torch.Tensor]) -> str:
    """torchvision numbers stages and mergings in one row: 1, 3, 5, 7 and 2, 4, 6."""
    if (found := _TORCHVISION_PART.fullmatch(name)) is None:
        return ""
    part, rest = int(found[1]), found[2]
    if part == 0:
        name = rest.replace("0.", "patch_embed.proj.", 1).replace("2.", "patch_embed.norm.", 1)
    elif part % 2:
        rest = rest.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        name = f"layers.{part // 2}.blocks.{rest}"
    else:
        name = f"layers.{part // 2 - 1}.downsample.{rest}"
    return _swin(name, every)


def _mvit_timm(name: str, every: Mapping[str, torch.Tensor]) -> str:
    """timm numbers the blocks of each stage from 0, the others all in one row."""
    if found := _TIMM_BLOCK.fullmatch(name):
        stage, block = int(found[1]), int(found[2])
        before = {
            (other[1], other[2])
            for other in map(_TIMM_BLOCK.fullmatch, every)
            if other is not None and int(other[1]) < stage
        }
        rest = found[3].replace("shortcut_proj_attn.", "proj.")
        name = f"blocks.{len(before) + block}.{rest}"
    return _mvit(name, every)


_DOWN = "layers.0.downsample.reduction.weight"
_WINDOW = "layers.0.blocks.0.attn.relative_position_bias_table"
_INDEX = (f"{_BOTTOM_UP}*.relative_position_index",)  # made, not learned

LAYOUTS: tuple[Layout, ...] = (
    Layout("ImageNet classifier Swin", _DOWN, "", _swin, _INDEX),
    Layout("ImageNet classifier Swin of timm", _WINDOW, _DOWN, _swin_timm, _INDEX),
    Layout(
        "ImageNet classifier Swin of torchvision",
        "features.1.0.attn.relative_position_bias_table",
        "",
        _swin_torchvision,
    ),
    Layout("ImageNet classifier MViTv2", "blocks.0.attn.rel_pos_h", "", _mvit),
    Layout(
        "ImageNet classifier MViTv2 of timm", "stages.0.blocks.0.attn.rel_pos_h", "", _mvit_timm
    ),
)


def layout_of(tensors: Mapping[str, torch.Tensor]) -> Layout | None:
    """Whose names these are, None if of no known program."""
    for layout in LAYOUTS:
        if layout.sign in tensors and layout.absent not in tensors:
            return layout
    return None


def renamed(
    tensors: Mapping[str, torch.Tensor], layout: Layout, path: object
) -> dict[str, torch.Tensor]:
    """A classifier's tensors by our names; what only classifiers have keeps its own.

    Raises
    ------
    InputError
        When a name is of no such network: another edition of it.
    """
    found, unknown = {}, []
    for name, value in tensors.items():
        if _CLASSIFIER.fullmatch(name):
            found[name] = value
        elif ours := layout.rename(name, tensors):
            if ours.endswith(".relative_position_index") and value.ndim == 1:
                value = value.reshape(math.isqrt(len(value)), -1)
            found[_BOTTOM_UP + ours] = value
        else:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"looks like an {layout.origin}, but has {', '.join(sorted(unknown)[:3])}",
            file=str(path),
            remedy="give Swin-B of version 1 or MViTv2-B",
        )
    return found
