"""Losses of the second stage: proposals chosen for them, class and box, mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from astroseg.models import boxes as bx
from astroseg.models.mask_targets import IgnoreRegions, TruthMasks
from astroseg.models.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Truth:
    """Of one image, on the model's device."""

    boxes: torch.Tensor
    labels: torch.Tensor
    masks: TruthMasks
    ignored: IgnoreRegions | None = None
    targets: torch.Tensor | None = None
    weights: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Sampled:
    """Proposals of one image chosen for the losses, objects first.

    Attributes
    ----------
    boxes : (N, 4).
    labels : (N,); the number of classes means background.
    index : (P,) truth of each of the first P, the objects.
    truth_boxes : (P, 4).
    weights : (P,) of the objects in the losses; None where all weigh 1.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    truth_boxes: torch.Tensor
    weights: torch.Tensor | None = None


@torch.no_grad()
def sample_proposals(proposals: torch.Tensor, truth: Truth, spec: ModelSpec) -> Sampled:
    """Choose proposals, with the truth's own boxes among them so that the first steps have any."""
    proposals = torch.cat((proposals, truth.boxes))
    index, label = bx.match(proposals, truth.boxes, spec.roi_iou)
    leave_out(label, proposals, truth.ignored, spec)
    objects, others = bx.sample(label, spec.roi_batch, spec.roi_positive)
    index = index[objects]
    background = torch.full_like(others, len(spec.classes))
    return Sampled(
        boxes=proposals[torch.cat((objects, others))],
        labels=torch.cat((truth.labels[index], background)),
        index=index,
        truth_boxes=truth.boxes[index],
        weights=None if truth.weights is None else truth.weights[index],
    )


def weights_of(samples: Sequence[Sampled], background: bool) -> torch.Tensor | None:
    """Weights of all objects in the losses, in their order, the background's 1 among them where
    that is asked for; None where all are 1."""
    if all(s.weights is None for s in samples):
        return None
    every = []
    for s in samples:
        one = s.boxes.new_ones(len(s.labels) if background else len(s.index))
        if s.weights is not None:
            one[: len(s.index)] = s.weights
        every.append(one)
    return torch.cat(every)


def leave_out(
    label: torch.Tensor, boxes: torch.Tensor, ignored: IgnoreRegions | None, spec: ModelSpec
) -> None:
    """Set the label of background that lies in a region without truth to -1, neither."""
    if ignored is not None:
        label[(label == 0) & (ignored.cover(boxes) > spec.ignore_cover)] = -1


def class_and_box_losses(
    scores: torch.Tensor,
    deltas: torch.Tensor,
    samples: Sequence[Sampled],
    weights: Sequence[float],
    spec: ModelSpec,
) -> dict[str, torch.Tensor]:
    """Cross entropy of the classes, distance of the objects' boxes.

    Parameters
    ----------
    scores : (N, K + 1) logits of all samples.
    deltas : (N, K * 4), or (N, 4) where one box serves all classes.
    weights : of the deltas, see `astroseg.models.boxes.encode`.
    """
    labels = torch.cat([s.labels for s in samples])
    objects = torch.nonzero(labels < len(spec.classes)).flatten()
    reference = torch.cat([s.boxes for s in samples])[objects]
    target = bx.encode(reference, torch.cat([s.truth_boxes for s in samples]), weights)
    deltas = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)
    column = labels[objects] if deltas.shape[1] > 1 else torch.zeros_like(objects)
    found, weight = deltas[objects, column], weights_of(samples, background=True)
    total: torch.Tensor | int = max(len(labels), 1)
    if weight is not None:
        single = bx.regression_losses(found, target, spec.smooth_l1_beta)
        distance, total = (single * weight[objects]).sum(), weight.sum().clamp(min=1)
    else:
        distance = bx.regression_loss(found, target, spec.smooth_l1_beta)
    return {
        "loss_cls": class_loss(scores, labels, spec, weight),
        # Over all sampled regions, not the objects alone: every object then weighs the same
        # whether an image has many or few (Detectron2's reason).
        "loss_box_reg": distance / total,
    }


def class_loss(
    scores: torch.Tensor,
    labels: torch.Tensor,
    spec: ModelSpec,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy of the classes, or its focal and weighted kinds.

    Parameters
    ----------
    scores : (N, K + 1) logits.
    labels : (N,); K means background.
    weight : (N,) of the samples, beside that of their classes; None for 1.
    """
    scores = scores.float()
    if not len(labels):
        return scores.sum() * 0
    weights = scores.new_tensor([*spec.class_weights, 1.0]) if spec.class_weights else None
    if not spec.focal_gamma and weight is None:
        return functional.cross_entropy(scores, labels, weights)
    plain = functional.cross_entropy(scores, labels, reduction="none")
    share = torch.ones_like(plain) if weights is None else weights[labels]
    share = share if weight is None else share * weight
    loss = share * plain
    if spec.focal_gamma:
        loss = loss * (1 - torch.exp(-plain)).clamp(min=0) ** spec.focal_gamma
    return loss.sum() / share.sum()


def mask_loss(
    logits: torch.Tensor,
    regions: Sequence[torch.Tensor],
    samples: Sequence[Sampled],
    truths: Sequence[Truth],
    spec: ModelSpec,
) -> torch.Tensor:
    """Cross entropy of the masks of all sampled objects, (N, K, M, M), each of its own class.

    Parameters
    ----------
    regions : (S, 4) that the masks were asked for in, of each image.
    """
    labels = torch.cat([s.labels[: len(s.index)] for s in samples])
    if not len(labels):
        return logits.float().sum() * 0  # keeps the head in the graph for distributed training
    logits = logits[torch.arange(len(labels), device=labels.device), labels].float()
    side = 2 * spec.mask_pool
    pairs = list(zip(truths, samples, regions, strict=True))
    targets = torch.cat([t.masks.targets(s.index, boxes, side) for t, s, boxes in pairs])
    weight = weights_of(samples, background=False)
    if weight is None and all(truth.ignored is None for truth in truths):
        return functional.binary_cross_entropy_with_logits(logits, targets)
    unknown = [
        targets.new_zeros(len(boxes), side, side, dtype=torch.bool)
        if t.ignored is None
        else t.ignored.cells(boxes, side)
        for t, _, boxes in pairs
    ]
    # A cell of the object's own mask is known wherever it lies.
    known = (~torch.cat(unknown) | (targets > 0)).float()
    known = known if weight is None else known * weight[:, None, None]
    loss = functional.binary_cross_entropy_with_logits(logits, targets, known, reduction="sum")
    return loss / known.sum().clamp(min=1)
