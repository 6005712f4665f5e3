"""Backbones: bottom-up networks, and the feature pyramid on their stages.

Weights start as in Detectron2 (`layers.start_msra`, `layers.start_xavier`), with one
addition. In the small network the last norm of each block starts at zero: every block
starts as the identity, and a hundred steps are enough to see something.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn
from torch.nn import functional

from astroseg.models.layers import (
    Conv,
    DeformConv,
    backbone_norm,
    head_norm,
    start_msra,
    start_xavier,
)
from astroseg.models.mvit import Mvit
from astroseg.models.spec import ModelSpec
from astroseg.models.swin import Swin


def _added(x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    """Rectified sum, in the memory of the first where mixed precision gave both one type."""
    return functional.relu_(x.add_(shortcut) if x.dtype == shortcut.dtype else x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut.

    A deformable 3x3 takes its offsets from a convolution beside it that starts at zero, so
    that it starts as an ordinary one.
    """

    def __init__(
        self,
        spec: ModelSpec,
        inputs: int,
        width: int,
        outputs: int,
        stride: int,
        *,
        dilation: int = 1,
        deform: bool = False,
    ) -> None:
        super().__init__()
        self.projects = inputs != outputs or stride > 1
        self.deform = deform
        first, second = (stride, 1) if spec.stride_in_1x1 else (1, stride)
        if self.projects:
            self.shortcut = Conv(
                inputs, outputs, 1, stride=stride, norm=backbone_norm(spec, outputs)
            )
        norm = backbone_norm(spec, width)
        self.conv1 = Conv(inputs, width, 1, stride=first, norm=norm, relu=True)
        norm = backbone_norm(spec, width)
        self.conv2: Conv | DeformConv
        if deform:
            self.conv2_offset = Conv(width, 18, 3, stride=second, dilation=dilation)
            self.conv2 = DeformConv(
                width, width, stride=second, dilation=dilation, groups=spec.groups, norm=norm
            )
        else:
            self.conv2 = Conv(
                width,
                width,
                3,
                stride=second,
                dilation=dilation,
                groups=spec.groups,
                norm=norm,
                relu=True,
            )
        self.conv3 = Conv(width, outputs, 1, norm=backbone_norm(spec, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut(x) if self.projects else x
        x = self.conv1(x)
        x = self.conv2(x, self.conv2_offset(x)) if self.deform else self.conv2(x)
        return _added(self.conv3(x), shortcut)


class Basic(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.projects = inputs != outputs or stride > 1
        if self.projects:
            self.shortcut = Conv(
                inputs, outputs, 1, stride=stride, norm=backbone_norm(spec, outputs)
            )
        norm = backbone_norm(spec, outputs)
        self.conv1 = Conv(inputs, outputs, 3, stride=stride, norm=norm, relu=True)
        self.conv2 = Conv(outputs, outputs, 3, norm=backbone_norm(spec, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut(x) if self.projects else x
        return _added(self.conv2(self.conv1(x)), shortcut)


class Stem(nn.Module):
    """First convolution: 7x7 and pooling to stride 4, or 3x3 at full resolution."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.small = spec.backbone == "small"
        size, stride = (3, 1) if self.small else (7, 2)
        norm = backbone_norm(spec, spec.stem_channels)
        self.conv1 = Conv(
            spec.channels, spec.stem_channels, size, stride=stride, norm=norm, relu=True
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return x if self.small else functional.max_pool2d(x, 3, stride=2, padding=1)


def stage(spec: ModelSpec, index: int, inputs: int) -> nn.Sequential:
    """Residual stage of that index (0 is res2), weights not started yet.

    In a ResNet res2 keeps the stem's stride of 4; in the small network it halves the stem's
    stride of 1. Every other stage halves the resolution, but for res5 of "dc5".
    """
    resnet = spec.backbone == "resnet"
    dilation = 2 if spec.features == "dc5" and index == 3 else 1
    stride = 1 if (index == 0 and resnet) or dilation > 1 else 2
    width = spec.groups * spec.group_width * 2**index
    outputs = spec.stage_channels[index]
    deform = spec.stages[index] in spec.deform_stages
    blocks: list[nn.Module] = []
    for i in range(spec.blocks[index]):
        step = stride if i == 0 else 1
        if resnet:
            block: nn.Module = Bottleneck(
                spec, inputs, width, outputs, step, dilation=dilation, deform=deform
            )
        else:
            block = Basic(spec, inputs, outputs, step)
        blocks.append(block)
        inputs = outputs
    return nn.Sequential(*blocks)


def start_stages(spec: ModelSpec, network: nn.Module) -> None:
    """Give all residual blocks in a network their first weights."""
    for name, module in network.named_modules():
        if isinstance(module, Conv):
            start_msra(module)
        if name.endswith("conv2_offset"):
            nn.init.zeros_(module.get_parameter("weight"))
        if spec.backbone == "small" and name.endswith("conv2.norm"):
            nn.init.zeros_(module.get_parameter("weight"))


class BottomUp(nn.Module):
    """Stem and residual stages res2, res3, ...; without the last in "c4"."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.stem = Stem(spec)
        self.names = spec.stages[:-1] if spec.features == "c4" else spec.stages
        inputs = spec.stem_channels
        for i, name in enumerate(self.names):
            self.add_module(name, stage(spec, i, inputs))
            inputs = spec.stage_channels[i]
        start_stages(spec, self)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of every stage, finest first."""
        x = self.stem(x)
        features = []
        for name in self.names:
            x = getattr(self, name)(x)
            features.append(x)
        return features


class Single(BottomUp):
    """The last stage's features alone, for "c4" and "dc5"."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features (N, C, H / 16, W / 16), the only level."""
        return super().forward(x)[-1:]


BOTTOM_UP: Mapping[str, type[nn.Module]] = MappingProxyType({"swin": Swin, "mvit": Mvit})
"""Backbones that have a class of their own."""


class Pyramid(nn.Module):
    """FPN (Lin et al. 2017): every stage gets the sum of all coarser ones."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.bottom_up = BOTTOM_UP.get(spec.backbone, BottomUp)(spec)
        self.extra_level = spec.fpn_extra_level
        self.levels = [spec.first_level + i for i in range(len(spec.blocks))]
        for level, inputs in zip(self.levels, spec.stage_channels, strict=True):
            for name, channels, size in (("lateral", inputs, 1), ("output", spec.fpn_channels, 3)):
                norm = head_norm(spec, spec.fpn_channels)
                conv = Conv(channels, spec.fpn_channels, size, norm=norm)
                start_xavier(conv)
                self.add_module(f"fpn_{name}{level}", conv)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of every level, finest first.

        Parameters
        ----------
        x : (N, C, H, W), H and W multiples of the spec's divisor.
        """
        outputs: list[torch.Tensor] = []
        above: torch.Tensor | None = None
        pairs = list(zip(self.levels, self.bottom_up(x), strict=True))
        for level, stage in reversed(pairs):
            here = getattr(self, f"fpn_lateral{level}")(stage)
            if above is not None:
                here = here + functional.interpolate(above, scale_factor=2.0, mode="nearest")
            above = here
            outputs.insert(0, getattr(self, f"fpn_output{level}")(here))
        if self.extra_level:
            outputs.append(functional.max_pool2d(outputs[-1], 1, stride=2))
        return outputs
