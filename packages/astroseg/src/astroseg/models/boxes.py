"""Boxes: anchors, coding against a reference, matching to truth, sampling for a loss.

All boxes are (N, 4) float32 XYXY in pixel edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional
from torchvision.ops import box_iou

# exp of more than this would make boxes over 62 times the reference, which means nothing
# at the start of training but can overflow (Detectron2's clamp).
SCALE_CLAMP = math.log(1000.0 / 16)

# IoU values held at once while matching: 16 MB in float32. A 1000x1000 image has 250 000
# anchors; with 1000 objects the whole matrix would be 1 GB, and its making four.
MATCH_BUDGET = 4_000_000


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> torch.Tensor:
    """Anchors around the origin, unrounded: every ratio (height / width) of every size.

    Returns
    -------
    (len(sizes) * len(ratios), 4), ratios varying fastest; each has the area size^2.
    """
    rows = []
    for size in sizes:
        for ratio in ratios:
            width = size / math.sqrt(ratio)
            height = width * ratio
            rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(rows, dtype=torch.float32)


def grid_anchors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    cells: Sequence[torch.Tensor],
    device: torch.device,
) -> list[torch.Tensor]:
    """Anchors of every level: the cell's anchors around the centre of each feature pixel.

    Parameters
    ----------
    shapes : (rows, columns) of each level's features.

    Returns
    -------
    One (rows * columns * A, 4) per level, in that order of axes.
    """
    levels = []
    for (rows, columns), stride, cell in zip(shapes, strides, cells, strict=True):
        x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * stride
        y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1).reshape(-1, 1, 4)
        levels.append((centres + cell.to(device)).reshape(-1, 4))
    return levels


def _centre_size(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * size, size


def encode(reference: torch.Tensor, boxes: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """What takes each reference box to its box: (dx, dy, log dw, log dh) times the weights."""
    centre, size = _centre_size(reference)
    wanted_centre, wanted_size = _centre_size(boxes)
    deltas = torch.cat(((wanted_centre - centre) / size, torch.log(wanted_size / size)), dim=1)
    return deltas * deltas.new_tensor(weights)


def decode(reference: torch.Tensor, deltas: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """The inverse of `encode`, in float32, for K boxes per reference.

    Parameters
    ----------
    reference : (N, 4).
    deltas : (N, K * 4).

    Returns
    -------
    (N, K, 4).
    """
    deltas = deltas.float().reshape(len(deltas), -1, 4)
    deltas = deltas / deltas.new_tensor(weights)
    centre, size = _centre_size(reference.float())
    new_centre = deltas[..., :2] * size[:, None] + centre[:, None]
    half = 0.5 * torch.exp(deltas[..., 2:].clamp(max=SCALE_CLAMP)) * size[:, None]
    return torch.cat((new_centre - half, new_centre + half), dim=-1)


def clip(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Boxes cut at the edges of an image of that (height, width).

    Parameters
    ----------
    boxes : (..., 4).
    """
    height, width = shape
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def match(
    boxes: torch.Tensor,
    truth: torch.Tensor,
    thresholds: tuple[float, float],
    *,
    best_of_each: bool,
    budget: int = MATCH_BUDGET,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The truth each box overlaps most, and whether it is an object.

    Parameters
    ----------
    boxes : (N, 4) anchors or proposals.
    truth : (M, 4).
    thresholds : IoU below the first: background; from the second: object; between: neither.
    best_of_each : whether the boxes with the largest IoU with each truth are objects
        whatever that IoU is. They keep the truth they overlap most, as in Detectron2.
    budget : IoU values held at once.

    Returns
    -------
    index : (N,) int64 into truth (0 where there is none).
    label : (N,) int8: 1 object, 0 background, -1 neither.
    """
    count = len(boxes)
    index = torch.zeros(count, dtype=torch.int64, device=boxes.device)
    label = torch.zeros(count, dtype=torch.int8, device=boxes.device)
    if not len(truth) or not count:
        return index, label
    chunks = torch.split(boxes, max(1, budget // len(truth)))
    parts, best_of_truth = [], truth.new_zeros(len(truth))
    for chunk in chunks:
        iou = box_iou(chunk, truth)
        parts.append(iou.max(dim=1))
        best_of_truth = torch.maximum(best_of_truth, iou.max(dim=0).values)
    overlap = torch.cat([part.values for part in parts])
    index = torch.cat([part.indices for part in parts])
    label[overlap >= thresholds[0]] = -1
    label[overlap >= thresholds[1]] = 1
    if best_of_each:
        # Computed a second time rather than kept: the same chunks give the same bits.
        wanted = best_of_truth.masked_fill(best_of_truth <= 0, 2.0)
        ious = [iou] if len(chunks) == 1 else (box_iou(chunk, truth) for chunk in chunks)
        label[torch.cat([(part == wanted).any(dim=1) for part in ious])] = 1
    return index, label


def sample(label: torch.Tensor, count: int, positive: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random objects and backgrounds for a loss.

    At most ``int(count * positive)`` objects; backgrounds fill the rest.

    Parameters
    ----------
    label : (N,) 1 object, 0 background, else neither.

    Returns
    -------
    Indices of the objects and of the backgrounds, int64.
    """
    chosen = []
    room = int(count * positive)
    for kind in (1, 0):
        found = torch.nonzero(label == kind).flatten()
        order = torch.randperm(len(found), device=label.device)[:room]
        chosen.append(found[order])
        room = count - len(order)
    return chosen[0], chosen[1]


def regression_loss(found: torch.Tensor, wanted: torch.Tensor, beta: float) -> torch.Tensor:
    """Sum of smooth L1 distances; plain L1 where beta is 0."""
    if beta <= 0:
        return functional.l1_loss(found.float(), wanted, reduction="sum")
    return functional.smooth_l1_loss(found.float(), wanted, reduction="sum", beta=beta)
