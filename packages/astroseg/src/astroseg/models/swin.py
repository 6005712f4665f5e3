"""Swin transformer (Liu et al. 2021): attention inside windows that shift from block to block.

Features are (N, H, W, C) here. Parameter names, and the numbers, are Detectron2's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from astroseg.models.attention import Mlp, drop_chances, start_transformer
from astroseg.models.spec import ModelSpec

PATCH = 4
"""Side of the patches that become the first features, px."""

# Added to the scores of features that a shift made neighbours though they are not; the
# softmax of anything as low is 0. The published weights were made with this number.
_APART = -100.0


class PatchEmbed(nn.Module):
    """Every patch of the image to one feature, (N, C, H, W) to (N, H / 4, W / 4, E)."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, features, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return found


class WindowAttention(nn.Module):
    """Attention among the features of a window, with a learned bias for each displacement."""

    relative_position_index: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", displacements(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, apart: torch.Tensor | None) -> torch.Tensor:
        """New features of every window.

        Parameters
        ----------
        x : (N, V, M, C), the M features of each of the V windows of N images.
        apart : (V, M, M) to be added to the scores, or None.
        """
        images, windows, size, channels = x.shape
        split = self.qkv(x).reshape(images * windows, size, 3, self.heads, channels // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1)[None]
        if apart is not None:
            bias = (bias + apart[:, None]).repeat(images, 1, 1, 1)
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype)
        )
        together = found.transpose(1, 2).reshape(images, windows, size, channels)
        answer: torch.Tensor = self.proj(together)
        return answer


def displacements(window: int) -> torch.Tensor:
    """Row of the table of biases for each pair of a window's features, (M, M) int64."""
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)
    down = row[:, None] - row[None] + window - 1
    right = column[:, None] - column[None] + window - 1
    return down * (2 * window - 1) + right


def cut(x: torch.Tensor, window: int) -> torch.Tensor:
    """(N, H, W, C) to windows (N, V, window^2, C), row by row; H and W are multiples."""
    images, height, width, channels = x.shape
    grid = x.reshape(images, height // window, window, width // window, window, channels)
    return grid.transpose(2, 3).reshape(images, -1, window**2, channels)


def join(windows: torch.Tensor, window: int, height: int, width: int) -> torch.Tensor:
    """Undo `cut`."""
    images, _, _, channels = windows.shape
    grid = windows.reshape(images, height // window, width // window, window, window, channels)
    return grid.transpose(2, 3).reshape(images, height, width, channels)


def shift_mask(
    height: int, width: int, window: int, shift: int, device: torch.device
) -> torch.Tensor:
    """Which pairs of a shifted grid's windows came from opposite borders.

    Returns
    -------
    (V, M, M) float32: 0, or a number that forbids.
    """
    # Rolling brings the first rows and columns behind the last, into the last windows.
    rows = torch.arange(height, device=device) >= height - shift
    columns = torch.arange(width, device=device) >= width - shift
    part = (2 * rows[:, None] + columns[None].long())[None, :, :, None]
    [parts] = cut(part, window)
    return _APART * (parts != parts.transpose(1, 2)).float()


class SwinBlock(nn.Module):
    """Attention inside windows, then a feed-forward half, each around a shortcut."""

    def __init__(
        self, channels: int, heads: int, window: int, *, shift: int, drop_chance: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.drop_path = StochasticDepth(drop_chance, "row")
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
        """New features (N, H, W, C); apart as `shift_mask` of the padded size gives it."""
        x = x + self.drop_path(self._attend(self.norm1(x), apart))
        moved: torch.Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return moved

    def _attend(self, x: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        x = functional.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        padded = x.shape[1:3]
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        found = self.attn(cut(x, self.window), apart if self.shift else None)
        x = join(found, self.window, *padded)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Four neighbours to one feature of twice the channels; H and W are even."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Of the four the lower left comes second, before the upper right.
        four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        found: torch.Tensor = self.reduction(self.norm(torch.cat(four, dim=3)))
        return found


class SwinStage(nn.Module):
    """Blocks, every second one shifted by half a window, and the merging to the next stage."""

    def __init__(self, spec: ModelSpec, index: int, chances: list[float], *, last: bool) -> None:
        super().__init__()
        self.window = spec.attention_window
        channels, heads = spec.stage_channels[index], spec.attention_heads[index]
        self.shift = self.window // 2
        self.blocks = nn.ModuleList(
            SwinBlock(channels, heads, self.window, shift=self.shift * (i % 2), drop_chance=chance)
            for i, chance in enumerate(chances)
        )
        self.downsample = None if last else PatchMerging(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of this stage, (N, H, W, C)."""
        height, width = (-(-side // self.window) * self.window for side in x.shape[1:3])
        apart = shift_mask(height, width, self.window, self.shift, x.device)
        for block in self.blocks:
            x = block(x, apart)
        return x


class Swin(nn.Module):
    """Patches, then stages at strides 4, 8, 16, ..., each with a norm on its way out."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(spec.channels, spec.stage_channels[0])
        chances = drop_chances(spec)
        stages = []
        for i, blocks in enumerate(spec.blocks):
            here, chances = chances[:blocks], chances[blocks:]
            stages.append(SwinStage(spec, i, here, last=i + 1 == len(spec.blocks)))
            self.add_module(f"norm{i}", nn.LayerNorm(spec.stage_channels[i]))
        self.layers = nn.ModuleList(stages)
        start_transformer(self)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features (N, C, H, W) of every stage, finest first.

        Parameters
        ----------
        x : (N, C, H, W), H and W multiples of the last stage's stride.
        """
        x = self.patch_embed(x)
        features = []
        for i, stage in enumerate(self.layers):
            assert isinstance(stage, SwinStage)
            x = stage(x)
            features.append(getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return features
