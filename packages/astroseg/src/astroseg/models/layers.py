"""Convolutions with their norm inside, and how weights start.

A convolution's norm is its child ``norm``, as in Detectron2, so the parameters are named
``conv1.weight``, ``conv1.norm.weight`` and so on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d, deform_conv2d

from astroseg.models.spec import ModelSpec

WIDE = 1024
"""Channels of a ResNet's third and last stages, seen by the proposals of C4 and DC5."""


class FreezableBatchNorm(nn.BatchNorm2d):
    """Batch norm that stops updating its statistics while its scale takes no gradient."""

    def train(self, mode: bool = True) -> FreezableBatchNorm:
        super().train(mode and self.weight.requires_grad)
        return self


class FrozenBatchNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """Batch norm of given statistics; in one pass where no gradient goes through it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (x.requires_grad and torch.is_grad_enabled()) or x.dtype != self.weight.dtype:
            found: torch.Tensor = super().forward(x)
            return found
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W), at every place for itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)  # D2's

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm_layer(kind: str, channels: int, groups: int) -> nn.Module | None:
    """A norm by name; none for the empty name.

    Parameters
    ----------
    kind : "FrozenBN", "BN", "GN", "LN" or "".
    groups : of GN; must divide the channels.
    """
    if kind == "FrozenBN":
        return FrozenBatchNorm(channels)
    if kind == "BN":
        return FreezableBatchNorm(channels)
    if kind == "LN":
        return ChannelNorm(channels)
    return nn.GroupNorm(groups, channels) if kind == "GN" else None


class Conv(nn.Conv2d):
    """Convolution, then its norm and a ReLU if it has them. It has no bias if it has a norm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: nn.Module | None = None,
        bias: bool | None = None,
        relu: bool = False,
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            size,
            stride=stride,
            padding=dilation * (size // 2),
            dilation=dilation,
            groups=groups,
            bias=norm is None if bias is None else bias,
        )
        if norm is not None:
            self.norm = norm
        self.has_norm = norm is not None
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        if self.has_norm:
            x = self.norm(x)
        return nn.functional.relu_(x) if self.relu else x


class DeformConv(nn.Module):
    """3x3 convolution that reads each of its nine values at a place shifted by an offset.

    Dai et al. (2017); torchvision's operator, which trains on CPUs too.
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
    ) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, 3, 3))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Convolve, norm, ReLU.

        Parameters
        ----------
        x : (N, C, H, W).
        offset : (N, 18, H', W') shifts of the nine places, row by row, each (y, x), in px
            of x.

        Returns
        -------
        (N, outputs, H', W').
        """
        # In float32 also under mixed precision: a place must be finer than a bfloat16.
        found = deform_conv2d(
            x.float(),
            offset.float(),
            self.weight.float(),
            stride=self.stride,
            padding=self.dilation,
            dilation=self.dilation,
        )
        return nn.functional.relu_(self.norm(found.to(x.dtype)))


def backbone_norm(spec: ModelSpec, channels: int) -> nn.Module | None:
    """Of the bottom-up network."""
    return norm_layer(spec.norm, channels, spec.norm_groups)


def head_norm(spec: ModelSpec, channels: int) -> nn.Module | None:
    """Of the pyramid, the box head's convolutions and the mask head."""
    return norm_layer(spec.head_norm, channels, spec.norm_groups)


def lay_out(model: nn.Module) -> None:
    """Weights in the order in which a network is fastest; numbers change by rounding alone.

    Channels last, but for 3x3 convolutions of `WIDE` inputs and more, which take up to 40 % longer
    so on CPUs (oneDNN with AVX-512).
    """
    model.to(memory_format=torch.channels_last)
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d) or layer.in_channels < WIDE:
            continue
        if layer.groups == 1 and layer.kernel_size[0] > 1:
            layer.weight.data = layer.weight.data.contiguous()
            layer.register_forward_pre_hook(_contiguous_on_cpus)


def _contiguous_on_cpus(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """The input in the order of the weights: one of them channels last makes both so."""
    return None if inputs[0].is_cuda else (inputs[0].contiguous(), *inputs[1:])


def start_msra(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Normal weights that keep the gradient's variance through ReLUs, zero biases.

    He et al. (2015); what Detectron2 gives backbones and the mask head.
    """
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def start_xavier(layer: nn.Conv2d | nn.Linear) -> None:
    """Uniform weights of variance 1 / inputs, zero biases.

    Caffe2's XavierFill; what Detectron2 gives the pyramid and the box head.
    """
    nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def start_normal(layer: nn.Conv2d | nn.Linear, deviation: float) -> None:
    """Normal weights of that deviation, zero biases; for the layers that give the answers."""
    nn.init.normal_(layer.weight, std=deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
