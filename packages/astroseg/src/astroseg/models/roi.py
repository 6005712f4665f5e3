"""Second stage: pool each region from its level, then class, box and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.ops import batched_nms, nms, roi_align

from astroseg.models import boxes as bx
from astroseg.models.layers import Conv, head_norm, start_msra, start_normal, start_xavier
from astroseg.models.roi_losses import (
    Sampled,
    Truth,
    class_and_box_losses,
    mask_loss,
    sample_proposals,
)
from astroseg.models.spec import ModelSpec
from astroseg.models.targets import TargetHead, in_units, target_loss

# Pooled values, and regions, that pass the heads at once in prediction: 50 MB, which a
# thousand regions of a pyramid fill, or sixty of the 1024 channels of "c4". A hundred masks of
# the 256-channel head are 80 MB a layer; all 1000 of a dense image would be 800 MB.
BOX_VALUES = 12_500_000
BOX_CHUNK = 1000
MASK_CHUNK = 100


@dataclass(frozen=True, eq=False)
class Detections:
    """Of one image, best first.

    Attributes
    ----------
    boxes : (N, 4). scores : (N,). labels : (N,).
    masks : (N, M, M) probabilities inside the region.
    regions : (N, 4) of the masks: the boxes with the margin.
    probabilities : (N, K) of each class.
    limited : whether the limit of detections left some out.
    mixtures : (N, T, 3, K) of each target, in its unit; None without targets.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    regions: torch.Tensor
    probabilities: torch.Tensor
    limited: bool
    mixtures: torch.Tensor | None = None


def region_levels(boxes: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Pyramid level of each box, counted from the finest (equation 1 of the FPN paper)."""
    size = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    level = torch.floor(spec.canonical_level + torch.log2(size / spec.canonical_size + 1e-8))
    last = spec.first_level + spec.pool_levels - 1
    return level.clamp(spec.first_level, last).long() - spec.first_level


def pool(
    features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], size: int, spec: ModelSpec
) -> torch.Tensor:
    """Features of every box of every image, (sum of boxes, C, size, size)."""
    image = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
    every = torch.cat(list(boxes))
    regions = torch.cat((image, every), dim=1).float()
    levels = region_levels(every, spec)
    members = [torch.nonzero(levels == level).flatten() for level in range(spec.pool_levels)]
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
    if len(parts) == 1:  # all in order, and as large as a hundred megabytes
        return parts[0]
    return torch.cat(parts).index_select(0, torch.argsort(torch.cat(members)))


class BoxHead(nn.Sequential):
    """3x3 convolutions conv1, ..., then fully connected layers fc1, fc2, ..., all with ReLUs."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        channels = spec.feature_channels
        for i in range(spec.box_convs):
            norm = head_norm(spec, spec.box_conv_dim)
            conv = Conv(channels, spec.box_conv_dim, 3, norm=norm, relu=True)
            start_msra(conv)
            self.add_module(f"conv{i + 1}", conv)
            channels = spec.box_conv_dim
        inputs = channels * spec.box_pool**2
        self.add_module("flatten", nn.Flatten())
        for i in range(spec.box_head_layers):
            layer = nn.Linear(inputs, spec.box_head_dim)
            start_xavier(layer)
            self.add_module(f"fc{i + 1}", layer)
            self.add_module(f"fc_relu{i + 1}", nn.ReLU())
            inputs = spec.box_head_dim


class BoxPredictor(nn.Module):
    """Class scores (the background last), and one box per class or one for all.

    Parameters
    ----------
    inputs : channels of a region's features.
    boxes : the number of classes, or 1.
    """

    def __init__(self, spec: ModelSpec, inputs: int, boxes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(inputs, len(spec.classes) + 1)
        self.bbox_pred = nn.Linear(inputs, 4 * boxes)
        start_normal(self.cls_score, 0.01)
        start_normal(self.bbox_pred, 0.001)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


class MaskHead(nn.Sequential):
    """3x3 convolutions mask_fcn1, ..., doubling of the resolution, one mask per class."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        inputs, width = spec.mask_channels, spec.mask_head_dim
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
    """The second stage: one box head and one mask head, each on its own pooled regions."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.add_heads(spec)
        self.mask_head = MaskHead(spec)
        if spec.targets:
            self.target_head = TargetHead(spec, self.target_inputs(spec))

    def add_heads(self, spec: ModelSpec) -> None:
        """Make what answers with classes and boxes."""
        self.box_head: nn.Module = BoxHead(spec)
        classes = len(spec.classes)
        self.box_predictor: nn.Module = BoxPredictor(spec, box_features(spec), classes)

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[torch.Tensor],
        truths: Sequence[Truth],
        shapes: Sequence[tuple[int, int]],
        spec: ModelSpec,
    ) -> dict[str, torch.Tensor]:
        """Class, box and mask losses over sampled proposals.

        Parameters
        ----------
        features : one (N, C, H, W) per level.
        proposals : (P, 4) of each image.
        shapes : (height, width) of each image.
        """
        samples = [sample_proposals(p, t, spec) for p, t in zip(proposals, truths, strict=True)]
        regions = [
            bx.grown(s.boxes[: len(s.index)], spec.mask_margin, shape)
            for s, shape in zip(samples, shapes, strict=True)
        ]
        logits = self.mask_head(pool(features, regions, spec.mask_pool, spec))
        return {
            **self.box_losses(features, samples, truths, shapes, spec),
            "loss_mask": mask_loss(logits, regions, samples, truths, spec),
            **self.target_losses(features, samples, truths, spec),
        }

    def target_losses(
        self,
        features: Sequence[torch.Tensor],
        samples: Sequence[Sampled],
        truths: Sequence[Truth],
        spec: ModelSpec,
    ) -> dict[str, torch.Tensor]:
        """Loss of the targets over the sampled objects; none where the model has no targets."""
        if not spec.targets:
            return {}
        regions = [s.boxes[: len(s.index)] for s in samples]
        unknown = [s.boxes.new_full((len(s.index), len(spec.targets)), torch.nan) for s in samples]
        values = [
            none if t.targets is None else t.targets[s.index]
            for t, s, none in zip(truths, samples, unknown, strict=True)
        ]
        mixtures = self.mixtures(features, regions, spec)
        return {"loss_targets": target_loss(mixtures, torch.cat(values), spec)}

    def mixtures(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], spec: ModelSpec
    ) -> torch.Tensor:
        """(N, T, 3, K) of the boxes of every image, see `TargetHead`."""
        found: torch.Tensor = self.target_head(
            self.target_features(features, boxes, spec), torch.cat(list(boxes))
        )
        return found

    def target_inputs(self, spec: ModelSpec) -> int:
        """Channels of `target_features`."""
        return box_features(spec)

    def target_features(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], spec: ModelSpec
    ) -> torch.Tensor:
        """(N, channels) features that class and box come from, of the boxes of every image."""
        found: torch.Tensor = self.box_head(pool(features, boxes, spec.box_pool, spec))
        return found

    def box_losses(
        self,
        features: Sequence[torch.Tensor],
        samples: Sequence[Sampled],
        truths: Sequence[Truth],
        shapes: Sequence[tuple[int, int]],
        spec: ModelSpec,
    ) -> dict[str, torch.Tensor]:
        """Class and box losses by name."""
        pooled = pool(features, [s.boxes for s in samples], spec.box_pool, spec)
        scores, deltas = self.box_predictor(self.box_head(pooled))
        return class_and_box_losses(scores, deltas, samples, spec.box_weights, spec)

    def classify(
        self,
        features: Sequence[torch.Tensor],
        proposals: torch.Tensor,
        shape: tuple[int, int],
        spec: ModelSpec,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (N, K, 4) inside the image, and probabilities (N, K + 1), of proposals."""
        pooled = pool(features, [proposals], spec.box_pool, spec)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        boxes = bx.clip(bx.decode(proposals, deltas, spec.box_weights), shape)
        return boxes, logits.float().softmax(dim=1)

    def mask_logits(
        self, features: Sequence[torch.Tensor], boxes: torch.Tensor, spec: ModelSpec
    ) -> torch.Tensor:
        """Mask of each class (N, K, M, M) in boxes of one image."""
        logits: torch.Tensor = self.mask_head(pool(features, [boxes], spec.mask_pool, spec))
        return logits

    def detect(
        self,
        features: Sequence[torch.Tensor],
        proposals: torch.Tensor,
        shape: tuple[int, int],
        spec: ModelSpec,
    ) -> Detections:
        """Objects of one image of that (height, width)."""
        room = min(BOX_CHUNK, max(1, BOX_VALUES // (spec.feature_channels * spec.box_pool**2)))
        parts = [
            self.classify(features, chunk, shape, spec) for chunk in torch.split(proposals, room)
        ]
        boxes, scores = (torch.cat(kind) for kind in zip(*parts, strict=True))
        top = spec.most_detections(shape)
        found = select(boxes, scores, spec)
        box, score, label, probability = (values[:top] for values in found)
        side = 2 * spec.mask_pool
        regions = bx.grown(box, spec.mask_margin, shape)
        masks = [box.new_zeros(0, side, side)]
        for region, kind in zip(
            torch.split(regions, MASK_CHUNK), torch.split(label, MASK_CHUNK), strict=True
        ):
            logits = self.mask_logits(features, region, spec)
            masks.append(logits[torch.arange(len(kind)), kind].float().sigmoid())
        limited = len(found[0]) > top
        mixtures = None
        if spec.targets:
            found_in = [self.mixtures(features, [part], spec) for part in torch.split(box, room)]
            mixtures = in_units(torch.cat(found_in), spec)
        drawn = torch.cat(masks)
        return Detections(box, score, label, drawn, regions, probability, limited, mixtures)


def box_features(spec: ModelSpec) -> int:
    """Channels that a `BoxHead` gives."""
    if spec.box_head_layers:
        return spec.box_head_dim
    return spec.feature_channels * spec.box_pool**2


def select(
    boxes: torch.Tensor, scores: torch.Tensor, spec: ModelSpec
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Detections of one image by the spec's thresholds, best first, however many.

    Parameters
    ----------
    boxes : (N, K, 4), one per class, or (N, 1, 4), one for all, inside the image.
    scores : (N, K + 1), the background last.

    Returns
    -------
    boxes (D, 4), scores (D,), labels (D,), probabilities (D, K).
    """
    finite = torch.isfinite(boxes).all(dim=2).all(dim=1) & torch.isfinite(scores).all(dim=1)
    boxes, scores = boxes[finite], scores[finite, :-1]
    row, label = torch.nonzero(scores > spec.score_threshold, as_tuple=True)
    column = label if boxes.shape[1] > 1 else torch.zeros_like(label)
    box, score = boxes[row, column], scores[row, label]
    full = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    box, score, label, row = box[full], score[full], label[full], row[full]
    kept = batched_nms(box, score, label, spec.nms_threshold)
    if spec.nms_any_class is not None:
        kept = kept[nms(box[kept], score[kept], spec.nms_any_class)]
    return box[kept], score[kept], label[kept], scores[row[kept]]
