"""MViTv2 (Li et al. 2022): attention on pooled queries, keys and values.

Features are (N, H, W, C) here. Parameter names, and the numbers, are Detectron2's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from astroseg.models.attention import Mlp, drop_chances, start_transformer
from astroseg.models.spec import ModelSpec

TABLE_SIZE = 56
"""Features along a side of the finest stage of the images that the published weights learned
from (224 px at stride 4): the length of the tables of relative positions follows from it."""

KEY_STRIDE = 4
"""Of the pooling of keys and values in the finest stage; halved from stage to stage."""


@dataclass(frozen=True)
class BlockShape:
    """What differs between the blocks.

    Attributes
    ----------
    inputs, outputs : channels.
    heads : of the attention.
    query_stride, key_stride : of the pooling of queries, and of keys and values.
    window : side of the windows of attention, in features before pooling; 0: everywhere.
    size : features along a side when the weights were made.
    """

    inputs: int
    outputs: int
    heads: int
    query_stride: int
    key_stride: int
    window: int
    size: int


def block_shapes(spec: ModelSpec) -> list[BlockShape]:
    """Of every block, first to last.

    The first block of a stage halves the resolution and still has the windows and tables of
    the stage before. The last block widens the channels no more than others do: the next
    stage's first block does that. In the last block of every stage but the first attention
    reaches everywhere, with keys twice as coarse where stages follow.
    """
    shapes = []
    inputs, last_stage = spec.stage_channels[0], len(spec.blocks) - 1
    for stage, (blocks, outputs, heads) in enumerate(
        zip(spec.blocks, spec.stage_channels, spec.attention_heads, strict=True)
    ):
        stride = max(KEY_STRIDE >> stage, 1)
        for i in range(blocks):
            ends = i == blocks - 1 and stage > 0
            enters = i == 0 and stage > 0
            earlier = stage - 1 if enters else stage
            shapes.append(
                BlockShape(
                    inputs=inputs,
                    outputs=outputs,
                    heads=heads,
                    query_stride=2 if enters else 1,
                    key_stride=stride * (2 if ends and stage < last_stage else 1),
                    window=0 if ends else spec.attention_window >> earlier,
                    size=TABLE_SIZE >> earlier,
                )
            )
            inputs = outputs
    return shapes


class PatchEmbed(nn.Module):
    """Overlapping 7x7 patches at stride 4, (N, C, H, W) to (N, H / 4, W / 4, E)."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, features, 7, stride=4, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.proj(x).permute(0, 2, 3, 1)
        return found


def pooling(channels: int, stride: int) -> nn.Conv2d:
    """3x3 convolution of every channel by itself."""
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def cut(x: torch.Tensor, side: int) -> torch.Tensor:
    """(N, H, W, C), padded with zeros to multiples, to windows (N * V, side, side, C)."""
    x = functional.pad(x, (0, 0, 0, -x.shape[2] % side, 0, -x.shape[1] % side))
    images, height, width, channels = x.shape
    grid = x.reshape(images, height // side, side, width // side, side, channels)
    return grid.transpose(2, 3).reshape(-1, side, side, channels)


def join(windows: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Undo `cut` for features of that (height, width)."""
    side, channels = windows.shape[1], windows.shape[3]
    rows, columns = -(-height // side), -(-width // side)
    grid = windows.reshape(-1, rows, columns, side, side, channels).transpose(2, 3)
    return grid.reshape(-1, rows * side, columns * side, channels)[:, :height, :width]


def relative_positions(table: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """Rows of a table for each pair of positions along one axis.

    Parameters
    ----------
    table : (L, C), stretched linearly where L is not twice the larger number, less one.
    queries, keys : how many there are; they span the same length.

    Returns
    -------
    (queries, keys, C).
    """
    length = 2 * max(queries, keys) - 1
    if len(table) != length:
        stretched = functional.interpolate(table.T[None], size=length, mode="linear")
        table = stretched[0].T
    at_query = torch.arange(queries, device=table.device) * max(keys / queries, 1.0)
    at_key = torch.arange(keys, device=table.device) * max(queries / keys, 1.0)
    offset = (keys - 1) * max(queries / keys, 1.0)
    return table[(at_query[:, None] - at_key[None] + offset).long()]


class PooledAttention(nn.Module):
    """Attention whose queries, keys and values are pooled; what it finds adds to the query."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.outputs // shape.heads
        self.qkv = nn.Linear(shape.inputs, 3 * shape.outputs)
        self.proj = nn.Linear(shape.outputs, shape.outputs)
        for name, stride in (
            ("q", shape.query_stride),
            ("k", shape.key_stride),
            ("v", shape.key_stride),
        ):
            self.add_module(f"pool_{name}", pooling(width, stride))
            self.add_module(f"norm_{name}", nn.LayerNorm(width, eps=1e-6))
        longest = max(shape.size // shape.query_stride, shape.size // shape.key_stride)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * longest - 1, width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * longest - 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """New features (N, H / s, W / s, C) with the queries' stride s."""
        images, heads, window = len(x), self.shape.heads, self.shape.window
        split = self.qkv(x).reshape(*x.shape[:3], 3, heads, -1).permute(3, 0, 4, 1, 2, 5)
        every = split.flatten(1, 2)  # (3, N * heads, H, W, C)
        pooled, key, value = (
            self._pool(part, name) for part, name in zip(every, "qkv", strict=True)
        )
        query = pooled
        if window:
            query = cut(query, window // self.shape.query_stride)
            key = cut(key, window // self.shape.key_stride)
            value = cut(value, window // self.shape.key_stride)
        found = functional.scaled_dot_product_attention(
            query.flatten(1, 2),
            key.flatten(1, 2),
            value.flatten(1, 2),
            attn_mask=self._position_scores(query, key.shape[1], key.shape[2]),
        ).reshape(query.shape)
        height, width = pooled.shape[1:3]
        if window:
            found = join(found, height, width)
        found = (found + pooled).reshape(images, heads, height, width, -1)
        answer: torch.Tensor = self.proj(found.permute(0, 2, 3, 1, 4).flatten(3))
        return answer

    def _pool(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Queries "q", keys "k" or values "v" at their stride."""
        found = getattr(self, f"pool_{name}")(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        normed: torch.Tensor = getattr(self, f"norm_{name}")(found)
        return normed

    def _position_scores(self, query: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """What a pair's displacement adds to its score, (B, queries, rows * columns).

        Parameters
        ----------
        query : (B, H, W, C).
        rows, columns : of the keys.
        """
        down = relative_positions(self.rel_pos_h, query.shape[1], rows).to(query.dtype)
        right = relative_positions(self.rel_pos_w, query.shape[2], columns).to(query.dtype)
        by_row = torch.einsum("bhwc,hkc->bhwk", query, down)
        by_column = torch.einsum("bhwc,wkc->bhwk", query, right)
        scores = by_row[..., :, None] + by_column[..., None, :]
        return scores.flatten(3).flatten(1, 2)


class MvitBlock(nn.Module):
    """Pooled attention, then a feed-forward half, each around a shortcut."""

    def __init__(self, shape: BlockShape, drop_chance: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.inputs, eps=1e-6)
        self.attn = PooledAttention(shape)
        self.drop_path = StochasticDepth(drop_chance, "row")
        self.norm2 = nn.LayerNorm(shape.outputs, eps=1e-6)
        self.mlp = Mlp(shape.outputs)
        self.widens = shape.inputs != shape.outputs
        if self.widens:
            self.proj = nn.Linear(shape.inputs, shape.outputs)
        self.stride = shape.query_stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(x)
        if self.widens:
            x = self.proj(normed)
        if self.stride > 1:
            wide = functional.max_pool2d(x.permute(0, 3, 1, 2), 3, stride=2, padding=1)
            x = wide.permute(0, 2, 3, 1)
        x = x + self.drop_path(self.attn(normed))
        moved: torch.Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return moved


class Mvit(nn.Module):
    """Patches, then stages at strides 4, 8, 16, ..., each with a norm on its way out."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(spec.channels, spec.stage_channels[0])
        pairs = zip(block_shapes(spec), drop_chances(spec), strict=True)
        self.blocks = nn.ModuleList(MvitBlock(shape, chance) for shape, chance in pairs)
        self.stages = spec.blocks
        for i, channels in enumerate(spec.stage_channels):
            self.add_module(f"scale{i + 2}_norm", nn.LayerNorm(channels, eps=1e-6))
        start_transformer(self)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features (N, C, H, W) of every stage, finest first.

        Parameters
        ----------
        x : (N, C, H, W), H and W multiples of the last stage's stride.
        """
        x = self.patch_embed(x)
        features = []
        blocks = iter(self.blocks)
        for i, count in enumerate(self.stages):
            for _ in range(count):
                x = next(blocks)(x)
            norm = getattr(self, f"scale{i + 2}_norm")
            features.append(norm(x).permute(0, 3, 1, 2))
        return features
