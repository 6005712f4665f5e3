"""Region proposals: which anchors hold an object, and where its box is (Ren et al. 2015)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import batched_nms

from astroseg.models import boxes as bx
from astroseg.models.layers import Conv, start_normal
from astroseg.models.roi_losses import Truth, leave_out
from astroseg.models.spec import ModelSpec

_UNIT = (1.0, 1.0, 1.0, 1.0)  # weights of the first stage's deltas


class RpnHead(nn.Module):
    """3x3 convolutions, then an objectness and four deltas per anchor; same for all levels."""

    def __init__(self, channels: int, anchors: int, convs: int = 1) -> None:
        super().__init__()
        every = [Conv(channels, channels, 3, relu=True) for _ in range(convs)]
        # Detectron2 names a single one as such, several by their number.
        several = nn.Sequential(OrderedDict((f"conv{i}", conv) for i, conv in enumerate(every)))
        self.conv = every[0] if convs == 1 else several
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (*every, self.objectness_logits, self.anchor_deltas):
            start_normal(layer, 0.01)

    def forward(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, H * W * A) and deltas (N, H * W * A, 4), in the order of the anchors."""
        hidden = self.conv(feature)
        logits = self.objectness_logits(hidden)
        deltas = self.anchor_deltas(hidden)
        count, anchors, rows, columns = logits.shape
        logits = logits.permute(0, 2, 3, 1).reshape(count, -1)
        deltas = deltas.reshape(count, anchors, 4, rows, columns).permute(0, 3, 4, 1, 2)
        return logits, deltas.reshape(count, -1, 4)


class ProposalGenerator(nn.Module):
    """Proposals and, in training, the two losses of the first stage."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.cells = [bx.cell_anchors(sizes, spec.aspect_ratios) for sizes in spec.anchor_sizes]
        self.rpn_head = RpnHead(spec.feature_channels, len(self.cells[0]), spec.rpn_convs)

    def forward(
        self,
        features: Sequence[torch.Tensor],
        shapes: Sequence[tuple[int, int]],
        spec: ModelSpec,
        truths: Sequence[Truth] | None = None,
    ) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """Proposals of each image, best first, and the losses if truths are given.

        Parameters
        ----------
        features : one (N, C, H, W) per level.
        shapes : (height, width) of each image before padding.
        truths : of each image.
        """
        grids = [(f.shape[-2], f.shape[-1]) for f in features]
        levels = bx.grid_anchors(
            grids, spec.strides, self.cells, features[0].device, spec.anchor_offset
        )
        anchors = bx.Anchors(levels, grids, spec.strides, self.cells, spec.anchor_offset)
        heads = [self.rpn_head(feature) for feature in features]
        logits = [head[0] for head in heads]
        deltas = [head[1] for head in heads]
        losses = {} if truths is None else _losses(anchors, logits, deltas, truths, spec)
        with torch.no_grad():
            proposals = [
                _propose(
                    levels,
                    [level[i].detach().float() for level in logits],
                    [level[i].detach() for level in deltas],
                    shape,
                    spec,
                    prediction=truths is None,
                )
                for i, shape in enumerate(shapes)
            ]
        return proposals, losses


def _propose(
    anchors: Sequence[torch.Tensor],
    logits: Sequence[torch.Tensor],
    deltas: Sequence[torch.Tensor],
    shape: tuple[int, int],
    spec: ModelSpec,
    *,
    prediction: bool,
) -> torch.Tensor:
    """Best boxes of one image: top of each level, clipped, suppressed per level, top of all."""
    found, scores, levels = [], [], []
    before, after = spec.top_n(shape, prediction=prediction)
    for level, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
        top, order = logit.topk(min(len(logit), before))
        found.append(bx.decode(anchor[order], delta[order], _UNIT)[:, 0])
        scores.append(top)
        levels.append(torch.full_like(order, level))
    boxes, score, owner = torch.cat(found), torch.cat(scores), torch.cat(levels)
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(score)
    boxes = bx.clip(boxes, shape)
    kept = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, score, owner = boxes[kept], score[kept], owner[kept]
    order = batched_nms(boxes, score, owner, spec.rpn_nms)
    return boxes[order[:after]]


def _losses(
    anchors: bx.Anchors,
    logits: Sequence[torch.Tensor],
    deltas: Sequence[torch.Tensor],
    truths: Sequence[Truth],
    spec: ModelSpec,
) -> dict[str, torch.Tensor]:
    """Objectness and box losses over sampled anchors, per anchor of a full sample."""
    every = torch.cat(list(anchors.levels))
    logit, delta = torch.cat(list(logits), dim=1), torch.cat(list(deltas), dim=1)
    objectness, location = [], []
    for i, truth in enumerate(truths):
        with torch.no_grad():
            index, label = bx.match_anchors(anchors, truth.boxes, spec.rpn_iou)
            leave_out(label, every, truth.ignored, spec)
            objects, others = bx.sample(label, spec.rpn_batch, spec.rpn_positive)
            both = torch.cat((objects, others))
            wanted = torch.zeros(len(both), device=logit.device)
            wanted[: len(objects)] = 1
            target = bx.encode(every[objects], truth.boxes[index[objects]], _UNIT)
        objectness.append(
            functional.binary_cross_entropy_with_logits(
                logit[i, both].float(), wanted, reduction="sum"
            )
        )
        location.append(bx.regression_loss(delta[i, objects], target, spec.smooth_l1_beta))
    count = spec.rpn_batch * len(truths)
    return {
        "loss_rpn_cls": torch.stack(objectness).sum() / count,
        "loss_rpn_loc": torch.stack(location).sum() / count,
    }
