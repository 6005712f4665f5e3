"""What the transformers share: their feed-forward half, skipped blocks, how weights start."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from astroseg.models.spec import ModelSpec

MLP_RATIO = 4
"""Width of the hidden layer, in channels."""


class Mlp(nn.Module):
    """Two linear layers around a GELU, of every feature by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.gelu(self.fc1(x))
        found: torch.Tensor = self.fc2(hidden)
        return found


def drop_chances(spec: ModelSpec) -> list[float]:
    """Of every block, first to last, that a training image skips it (Huang et al. 2016)."""
    count = sum(spec.blocks)
    return [spec.drop_path * i / max(count - 1, 1) for i in range(count)]


def start_transformer(network: nn.Module) -> None:
    """Normal weights of deviation 0.02 and zero biases in all linear layers; norms do nothing."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
