"""Heads of the "c4" networks: the backbone's last stage runs on each region (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from astroseg.models import boxes as bx
from astroseg.models.backbone import stage, start_stages
from astroseg.models.roi import BoxPredictor, RoiHeads, pool
from astroseg.models.roi_losses import Truth, class_and_box_losses, mask_loss, sample_proposals
from astroseg.models.spec import ModelSpec


class C4Heads(RoiHeads):
    """The second stage with one pooling and one residual stage for boxes and masks alike."""

    def add_heads(self, spec: ModelSpec) -> None:
        """Make the residual stage, and what answers on the mean of its features."""
        last = len(spec.blocks) - 1
        self.res5 = stage(spec, last, spec.stage_channels[last - 1])
        start_stages(spec, self.res5)
        self.box_predictor = BoxPredictor(spec, spec.stage_channels[last], len(spec.classes))

    def _regions(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], spec: ModelSpec
    ) -> torch.Tensor:
        """Features (N, C, box_pool / 2, box_pool / 2) of all boxes."""
        regions: torch.Tensor = self.res5(pool(features, boxes, spec.box_pool, spec))
        return regions

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[torch.Tensor],
        truths: Sequence[Truth],
        shapes: Sequence[tuple[int, int]],
        spec: ModelSpec,
    ) -> dict[str, torch.Tensor]:
        """Class, box and mask losses over sampled proposals."""
        samples = [sample_proposals(p, t, spec) for p, t in zip(proposals, truths, strict=True)]
        regions = self._regions(features, [s.boxes for s in samples], spec)
        scores, deltas = self.box_predictor(regions.mean(dim=(2, 3)))
        labels = torch.cat([s.labels for s in samples])
        logits = self.mask_head(regions[labels < len(spec.classes)])
        objects = [s.boxes[: len(s.index)] for s in samples]
        return {
            **class_and_box_losses(scores, deltas, samples, spec.box_weights, spec),
            "loss_mask": mask_loss(logits, objects, samples, truths, spec),
            **self.target_losses(features, samples, truths, spec),
        }

    def target_inputs(self, spec: ModelSpec) -> int:
        """Channels of `target_features`."""
        return spec.stage_channels[-1]

    def target_features(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], spec: ModelSpec
    ) -> torch.Tensor:
        """(N, channels) features that class and box come from, of the boxes of every image."""
        return self._regions(features, boxes, spec).mean(dim=(2, 3))

    def classify(
        self,
        features: Sequence[torch.Tensor],
        proposals: torch.Tensor,
        shape: tuple[int, int],
        spec: ModelSpec,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (N, K, 4) inside the image, and probabilities (N, K + 1), of proposals."""
        regions = self._regions(features, [proposals], spec)
        logits, deltas = self.box_predictor(regions.mean(dim=(2, 3)))
        boxes = bx.clip(bx.decode(proposals, deltas, spec.box_weights), shape)
        return boxes, logits.float().softmax(dim=1)

    def mask_logits(
        self, features: Sequence[torch.Tensor], boxes: torch.Tensor, spec: ModelSpec
    ) -> torch.Tensor:
        """Mask of each class (N, K, M, M) in boxes of one image."""
        logits: torch.Tensor = self.mask_head(self._regions(features, [boxes], spec))
        return logits
