"""What `tiny` and its like need beside Detectron2's own parts, made from its classes.

Imports Detectron2: nothing but its own instantiation of a lazy configuration imports this.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import Conv2d, get_norm
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.proposal_generator import RPN
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from astroseg.models.spec import ModelSpec


class Stem(nn.Module):
    """3x3 convolution at full resolution, where Detectron2's own stem goes to stride 4."""

    stride = 1

    def __init__(self, in_channels: int, out_channels: int, norm: Any) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = Conv2d(
            in_channels, out_channels, 3, padding=1, bias=False, norm=get_norm(norm, out_channels)
        )
        c2_msra_fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        return nn.functional.relu_(self.conv1(x))


class ExtraLevel(LastLevelMaxPool):  # type: ignore[misc]
    """One more level from a pyramid's coarsest, whatever its name."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self.in_feature = last


class AreaRPN(RPN):  # type: ignore[misc]
    """Proposals whose number may go with each image's area (`ModelSpec.top_n`)."""

    def __init__(self, spec: ModelSpec, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.spec = spec

    def predict_proposals(
        self,
        anchors: list[Any],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Any]:
        """Detectron2's, image by image."""
        found = []
        for i, size in enumerate(image_sizes):
            shape = (int(size[0]), int(size[1]))
            before, after = self.spec.top_n(shape, prediction=not self.training)
            self.pre_nms_topk[self.training] = before
            self.post_nms_topk[self.training] = after
            one = slice(i, i + 1)
            found += super().predict_proposals(
                anchors,
                [level[one] for level in pred_objectness_logits],
                [level[one] for level in pred_anchor_deltas],
                [size],
            )
        return found
