"""Cascade R-CNN (Cai and Vasconcelos 2018): box heads in a row, each fed the last one's boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from astroseg.models import boxes as bx
from astroseg.models.roi import BoxHead, BoxPredictor, RoiHeads, box_features, pool
from astroseg.models.roi_losses import Sampled, Truth, class_and_box_losses, leave_out
from astroseg.models.spec import ModelSpec


class CascadeHeads(RoiHeads):
    """The second stage with several box heads, each asking for a higher IoU than the last.

    One box serves all classes. The mask head trains on the first head's samples.
    """

    def add_heads(self, spec: ModelSpec) -> None:
        """Make the box heads and predictors 0, 1, ..."""
        heads = range(len(spec.cascade_weights))
        inputs = box_features(spec)
        self.box_head = nn.ModuleList([BoxHead(spec) for _ in heads])
        self.box_predictor = nn.ModuleList([BoxPredictor(spec, inputs, 1) for _ in heads])

    def _run(
        self,
        index: int,
        features: Sequence[torch.Tensor],
        boxes: Sequence[torch.Tensor],
        spec: ModelSpec,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, K + 1) and deltas (N, 4) of one head."""
        assert isinstance(self.box_head, nn.ModuleList)
        assert isinstance(self.box_predictor, nn.ModuleList)
        pooled = pool(features, boxes, spec.box_pool, spec)
        heads = len(spec.cascade_weights)
        if pooled.requires_grad:
            # Each head learns at full rate, the features below from the heads' mean.
            pooled.register_hook(lambda gradient: gradient / heads)
        scores, deltas = self.box_predictor[index](self.box_head[index](pooled))
        return scores, deltas

    def target_features(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], spec: ModelSpec
    ) -> torch.Tensor:
        """(N, channels) of the last head, which knows the objects best."""
        assert isinstance(self.box_head, nn.ModuleList)
        found: torch.Tensor = self.box_head[-1](pool(features, boxes, spec.box_pool, spec))
        return found

    def box_losses(
        self,
        features: Sequence[torch.Tensor],
        samples: Sequence[Sampled],
        truths: Sequence[Truth],
        shapes: Sequence[tuple[int, int]],
        spec: ModelSpec,
    ) -> dict[str, torch.Tensor]:
        """Class and box losses of every head, ``loss_cls_stage0`` and so on."""
        losses: dict[str, torch.Tensor] = {}
        for index, weights in enumerate(spec.cascade_weights):
            regions = [s.boxes for s in samples]
            scores, deltas = self._run(index, features, regions, spec)
            found = class_and_box_losses(scores, deltas, samples, weights, spec)
            losses |= {f"{name}_stage{index}": value for name, value in found.items()}
            if index + 1 < len(spec.cascade_weights):
                moved = next_boxes(regions, deltas.detach(), shapes, weights)
                iou = spec.cascade_iou[index + 1]
                samples = [
                    label_boxes(boxes, truth, iou, spec)
                    for boxes, truth in zip(moved, truths, strict=True)
                ]
        return losses

    def classify(
        self,
        features: Sequence[torch.Tensor],
        proposals: torch.Tensor,
        shape: tuple[int, int],
        spec: ModelSpec,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last head's boxes (N, 1, 4), and the heads' mean probabilities (N, K + 1)."""
        total = proposals.new_zeros(len(proposals), len(spec.classes) + 1)
        for index, weights in enumerate(spec.cascade_weights):
            logits, deltas = self._run(index, features, [proposals], spec)
            total = total + logits.float().softmax(dim=1)
            # Empty boxes stay: the heads' answers are averaged row by row.
            proposals = bx.clip(bx.decode(proposals, deltas, weights)[:, 0], shape)
        return proposals[:, None], total / len(spec.cascade_weights)


def next_boxes(
    regions: Sequence[torch.Tensor],
    deltas: torch.Tensor,
    shapes: Sequence[tuple[int, int]],
    weights: Sequence[float],
) -> list[torch.Tensor]:
    """Where a head moved the regions of each image: inside the image, without empty ones.

    Parameters
    ----------
    regions : (N, 4) of each image.
    deltas : (sum of N, 4).
    """
    moved = []
    for region, delta, shape in zip(
        regions, deltas.split([len(r) for r in regions]), shapes, strict=True
    ):
        box = bx.clip(bx.decode(region, delta, weights)[:, 0], shape)
        moved.append(box[(box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])])
    return moved


def label_boxes(boxes: torch.Tensor, truth: Truth, iou: float, spec: ModelSpec) -> Sampled:
    """All boxes as samples, objects first: those that overlap a truth by at least the IoU."""
    index, label = bx.match(boxes, truth.boxes, iou)
    leave_out(label, boxes, truth.ignored, spec)
    objects = torch.nonzero(label == 1).flatten()
    others = torch.nonzero(label == 0).flatten()
    index = index[objects]
    return Sampled(
        boxes=boxes[torch.cat((objects, others))],
        labels=torch.cat((truth.labels[index], torch.full_like(others, len(spec.classes)))),
        index=index,
        truth_boxes=truth.boxes[index],
        weights=None if truth.weights is None else truth.weights[index],
    )
