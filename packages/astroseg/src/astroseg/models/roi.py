"""Second stage: pool each region from its pyramid level, then class, box and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import batched_nms, nms, roi_align

from astroseg.models import boxes as bx
from astroseg.models.layers import Conv, head_norm, start_msra, start_normal, start_xavier
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.spec import ModelSpec

# Regions that pass the heads at once in prediction. A hundred masks of the 256-channel head
# are 80 MB a layer; all 1000 of a crowded image would be 800 MB.
BOX_CHUNK = 1000
MASK_CHUNK = 100


@dataclass(frozen=True, eq=False)
class Truth:
    """Of one image, on the model's device; the masks stay where they are."""

    boxes: torch.Tensor
    labels: torch.Tensor
    masks: TruthMasks


@dataclass(frozen=True, eq=False)
class Detections:
    """Of one image, best first.

    Attributes
    ----------
    boxes : (N, 4). scores : (N,). labels : (N,).
    masks : (N, M, M) probabilities inside the box.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor


def region_levels(boxes: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Pyramid level of each box, counted from the finest (equation 1 of the FPN paper)."""
    size = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    level = torch.floor(spec.canonical_level + torch.log2(size / spec.canonical_size + 1e-8))
    last = spec.first_level + len(spec.blocks) - 1
    return level.clamp(spec.first_level, last).long() - spec.first_level


def pool(
    features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], size: int, spec: ModelSpec
) -> torch.Tensor:
    """Features of every box of every image, (sum of boxes, C, size, size)."""
    image = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
    every = torch.cat(list(boxes))
    regions = torch.cat((image, every), dim=1).float()
    levels = region_levels(every, spec)
    members = [torch.nonzero(levels == level).flatten() for level in range(len(spec.blocks))]
    parts = []
    for level, here in enumerate(members):
        feature = features[level]
        # In float32 also under mixed precision: a bfloat16 coordinate of 1001 is 1000.
        part = roi_align(
            feature.float(),
            regions[here],
            output_size=size,
            spatial_scale=1.0 / spec.strides[level],
            sampling_ratio=spec.sampling_ratio,
            aligned=True,
        )
        parts.append(part.to(feature.dtype))
    return torch.cat(parts).index_select(0, torch.argsort(torch.cat(members)))


class BoxHead(nn.Sequential):
    """Fully connected layers fc1, fc2, ... with ReLUs."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        inputs = spec.fpn_channels * spec.box_pool**2
        self.add_module("flatten", nn.Flatten())
        for i in range(spec.box_head_layers):
            layer = nn.Linear(inputs, spec.box_head_dim)
            start_xavier(layer)
            self.add_module(f"fc{i + 1}", layer)
            self.add_module(f"fc_relu{i + 1}", nn.ReLU())
            inputs = spec.box_head_dim


class BoxPredictor(nn.Module):
    """Class scores (the background last) and one box per class."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.cls_score = nn.Linear(spec.box_head_dim, len(spec.classes) + 1)
        self.bbox_pred = nn.Linear(spec.box_head_dim, 4 * len(spec.classes))
        start_normal(self.cls_score, 0.01)
        start_normal(self.bbox_pred, 0.001)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


class MaskHead(nn.Sequential):
    """3x3 convolutions mask_fcn1, ..., doubling of the resolution, one mask per class."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        inputs, width = spec.fpn_channels, spec.mask_head_dim
        for i in range(spec.mask_head_layers):
            conv = Conv(inputs, width, 3, norm=head_norm(spec, width), relu=True)
            start_msra(conv)
            self.add_module(f"mask_fcn{i + 1}", conv)
            inputs = width
        deconv = nn.ConvTranspose2d(inputs, width, 2, stride=2)
        start_msra(deconv)
        self.add_module("deconv", deconv)
        self.add_module("deconv_relu", nn.ReLU(inplace=True))
        predictor = Conv(width, len(spec.classes), 1)
        start_normal(predictor, 0.001)
        self.add_module("predictor", predictor)


class RoiHeads(nn.Module):
    """The second stage."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.box_head = BoxHead(spec)
        self.box_predictor = BoxPredictor(spec)
        self.mask_head = MaskHead(spec)

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[torch.Tensor],
        truths: Sequence[Truth],
        spec: ModelSpec,
    ) -> dict[str, torch.Tensor]:
        """Class, box and mask losses over sampled proposals."""
        samples = [sample_proposals(p, t, spec) for p, t in zip(proposals, truths, strict=True)]
        boxes = [s.boxes for s in samples]
        scores, deltas = self.box_predictor(
            self.box_head(pool(features, boxes, spec.box_pool, spec))
        )
        labels = torch.cat([s.labels for s in samples])
        objects = torch.nonzero(labels < len(spec.classes)).flatten()
        target = bx.encode(
            torch.cat(boxes)[objects], torch.cat([s.truth_boxes for s in samples]), spec.box_weights
        )
        deltas = deltas.reshape(len(deltas), -1, 4)[objects, labels[objects]]
        # Over all sampled regions, not the objects alone: every object then weighs the same
        # whether an image has many or few (Detectron2's reason).
        box_loss = bx.regression_loss(deltas, target, spec.smooth_l1_beta) / max(len(labels), 1)
        return {
            "loss_cls": _class_loss(scores, labels),
            "loss_box_reg": box_loss,
            "loss_mask": self._mask_loss(features, samples, truths, spec),
        }

    def _mask_loss(
        self,
        features: Sequence[torch.Tensor],
        samples: Sequence[Sampled],
        truths: Sequence[Truth],
        spec: ModelSpec,
    ) -> torch.Tensor:
        regions = [s.boxes[: len(s.index)] for s in samples]
        labels = torch.cat([s.labels[: len(s.index)] for s in samples])
        logits = self.mask_head(pool(features, regions, spec.mask_pool, spec))
        if not len(labels):
            return logits.float().sum() * 0  # keeps the head in the graph for distributed training
        logits = logits[torch.arange(len(labels), device=labels.device), labels].float()
        targets = torch.cat(
            [
                t.masks.targets(s.index.cpu(), r.cpu(), 2 * spec.mask_pool)
                for t, s, r in zip(truths, samples, regions, strict=True)
            ]
        ).to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, targets)

    def detect(
        self,
        features: Sequence[torch.Tensor],
        proposals: torch.Tensor,
        shape: tuple[int, int],
        spec: ModelSpec,
    ) -> Detections:
        """Objects of one image of that (height, width)."""
        scores, boxes = [], []
        for chunk in torch.split(proposals, BOX_CHUNK):
            logits, deltas = self.box_predictor(
                self.box_head(pool(features, [chunk], spec.box_pool, spec))
            )
            scores.append(logits.float().softmax(dim=1))
            boxes.append(bx.clip(bx.decode(chunk, deltas, spec.box_weights), shape))
        box, score, label = select(torch.cat(boxes), torch.cat(scores), spec)
        side = 2 * spec.mask_pool
        masks = [box.new_zeros(0, side, side)]
        for region, kind in zip(
            torch.split(box, MASK_CHUNK), torch.split(label, MASK_CHUNK), strict=True
        ):
            logits = self.mask_head(pool(features, [region], spec.mask_pool, spec))
            masks.append(logits[torch.arange(len(kind)), kind].float().sigmoid())
        return Detections(box, score, label, torch.cat(masks))


@dataclass(frozen=True, eq=False)
class Sampled:
    """Proposals of one image chosen for the losses, objects first.

    Attributes
    ----------
    boxes : (N, 4).
    labels : (N,); the number of classes means background.
    index : (P,) truth of each of the first P, the objects.
    truth_boxes : (P, 4).
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    truth_boxes: torch.Tensor


@torch.no_grad()
def sample_proposals(proposals: torch.Tensor, truth: Truth, spec: ModelSpec) -> Sampled:
    """Choose proposals, with the truth's own boxes among them so that the first steps have any."""
    proposals = torch.cat((proposals, truth.boxes))
    index, label = bx.match(proposals, truth.boxes, spec.roi_iou)
    objects, others = bx.sample(label, spec.roi_batch, spec.roi_positive)
    index = index[objects]
    background = torch.full_like(others, len(spec.classes))
    return Sampled(
        boxes=proposals[torch.cat((objects, others))],
        labels=torch.cat((truth.labels[index], background)),
        index=index,
        truth_boxes=truth.boxes[index],
    )


def _class_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if not len(labels):
        return scores.float().sum() * 0
    return functional.cross_entropy(scores.float(), labels)


def select(
    boxes: torch.Tensor, scores: torch.Tensor, spec: ModelSpec
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Detections of one image by the spec's thresholds, best first.

    Parameters
    ----------
    boxes : (N, K, 4), one per class, inside the image.
    scores : (N, K + 1), the background last.

    Returns
    -------
    boxes (D, 4), scores (D,), labels (D,).
    """
    finite = torch.isfinite(boxes).all(dim=2).all(dim=1) & torch.isfinite(scores).all(dim=1)
    boxes, scores = boxes[finite], scores[finite, :-1]
    row, label = torch.nonzero(scores > spec.score_threshold, as_tuple=True)
    box, score = boxes[row, label], scores[row, label]
    full = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    box, score, label = box[full], score[full], label[full]
    kept = batched_nms(box, score, label, spec.nms_threshold)
    box, score, label = box[kept], score[kept], label[kept]
    if spec.nms_any_class is not None:
        kept = nms(box, score, spec.nms_any_class)
        box, score, label = box[kept], score[kept], label[kept]
    top = spec.detections_per_image
    return box[:top], score[:top], label[:top]
