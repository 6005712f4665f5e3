"""Mask R-CNN (He et al. 2017) in Detectron2's structure and names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from astroseg.models.backbone import Pyramid, Single
from astroseg.models.c4 import C4Heads
from astroseg.models.cascade import CascadeHeads
from astroseg.models.roi import Detections, RoiHeads
from astroseg.models.roi_losses import Truth
from astroseg.models.rpn import ProposalGenerator
from astroseg.models.spec import ModelSpec


class MaskRcnn(nn.Module):
    """A network made from its spec.

    Attributes
    ----------
    spec : may be replaced by one that differs in thresholds and limits only.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Pyramid(spec) if spec.features == "fpn" else Single(spec)
        self.proposal_generator = ProposalGenerator(spec)
        self.roi_heads = _heads(spec)
        for name in ("pixel_mean", "pixel_std"):
            values = torch.tensor(getattr(spec, name), dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(
        self, images: Sequence[torch.Tensor], truths: Sequence[Truth] | None = None
    ) -> dict[str, torch.Tensor] | list[Detections]:
        """Losses by name if truths are given, else the detections of each image.

        Parameters
        ----------
        images : (C, H, W) float32 on the model's device, of any sizes.
        """
        shapes = [(image.shape[-2], image.shape[-1]) for image in images]
        features = self.features(images)
        proposals, losses = self.proposal_generator(features, shapes, self.spec, truths)
        if truths is not None:
            second = self.roi_heads.losses(features, proposals, truths, shapes, self.spec)
            return {**losses, **second}
        return [
            self.roi_heads.detect([f[i : i + 1] for f in features], proposal, shape, self.spec)
            for i, (proposal, shape) in enumerate(zip(proposals, shapes, strict=True))
        ]

    def features(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the backbone makes of images, (N, C, h, w) of each level."""
        found: list[torch.Tensor] = self.backbone(self._stack(images))
        return found

    def _stack(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scaled images, padded right and below with zeros to one size the network can halve."""
        step = self.spec.divisor
        height = -(-max(image.shape[-2] for image in images) // step) * step
        width = -(-max(image.shape[-1] for image in images) // step) * step
        stack = images[0].new_zeros(len(images), self.spec.channels, height, width)
        stack = stack.contiguous(memory_format=torch.channels_last)
        for room, image in zip(stack, images, strict=True):
            seen = image.flip(0) if self.spec.reverse_channels else image
            scaled = (seen - self.pixel_mean) / self.pixel_std
            room[:, : image.shape[-2], : image.shape[-1]] = scaled
        return stack


def _heads(spec: ModelSpec) -> RoiHeads:
    if spec.cascade_weights:
        return CascadeHeads(spec)
    return C4Heads(spec) if spec.features == "c4" else RoiHeads(spec)
