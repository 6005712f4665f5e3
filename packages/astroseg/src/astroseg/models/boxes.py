"""Boxes: anchors, coding against a reference, matching to truth, sampling for a loss.

All boxes are (N, 4) float32 XYXY in pixel edges.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from torchvision.ops import box_iou

# exp of more than this would make boxes over 62 times the reference, which means nothing
# at the start of training but can overflow (Detectron2's clamp).
SCALE_CLAMP = math.log(1000.0 / 16)

# Pairs held at once while matching: 16 MB for each value of float32. A 1000x1000 image has
# 250 000 anchors; with 1000 objects all pairs would be 1 GB a value.
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
    offset: float,
) -> list[torch.Tensor]:
    """Anchors of every level: the cell's anchors at (i + offset) * stride of either axis.

    Parameters
    ----------
    shapes : (rows, columns) of each level's features.
    offset : 0.5 is the centre of the feature's square of pixels, 0 its corner.

    Returns
    -------
    One (rows * columns * A, 4) per level, in that order of axes.
    """
    levels = []
    for (rows, columns), stride, cell in zip(shapes, strides, cells, strict=True):
        x = (torch.arange(columns, device=device, dtype=torch.float32) + offset) * stride
        y = (torch.arange(rows, device=device, dtype=torch.float32) + offset) * stride
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
    deltas = deltas.float().reshape(len(deltas), deltas.shape[1] // 4, 4)
    deltas = deltas / deltas.new_tensor(weights)
    centre, size = _centre_size(reference.float())
    new_centre = deltas[..., :2] * size[:, None] + centre[:, None]
    half = 0.5 * torch.exp(deltas[..., 2:].clamp(max=SCALE_CLAMP)) * size[:, None]
    return torch.cat((new_centre - half, new_centre + half), dim=-1)


def grown(boxes: torch.Tensor, margin: float, shape: tuple[int, int]) -> torch.Tensor:
    """Boxes (N, 4) about their centres, their sides longer by that part, inside the image."""
    if not margin:
        return boxes
    half = (boxes[:, 2:] - boxes[:, :2]) * (margin / 2)
    return clip(torch.cat((boxes[:, :2] - half, boxes[:, 2:] + half), dim=1), shape)


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


def label_overlaps(overlap: torch.Tensor, thresholds: tuple[float, float]) -> torch.Tensor:
    """1 (object) from the second threshold, 0 (background) below the first, -1 between."""
    label = torch.zeros(overlap.shape, dtype=torch.int8, device=overlap.device)
    label[overlap >= thresholds[0]] = -1
    label[overlap >= thresholds[1]] = 1
    return label


def match(
    boxes: torch.Tensor, truth: torch.Tensor, threshold: float, budget: int = MATCH_BUDGET
) -> tuple[torch.Tensor, torch.Tensor]:
    """The truth each box overlaps most, and whether it is an object.

    Parameters
    ----------
    boxes : (N, 4) proposals.
    truth : (M, 4).
    threshold : IoU from which a box is an object.
    budget : IoU values held at once.

    Returns
    -------
    index : (N,) int64 into truth, the first among equals (0 where there is none).
    label : (N,) int8: 1 object, 0 background.
    """
    index = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    overlap = truth.new_zeros(len(boxes))
    if len(truth) and len(boxes):
        chunks = torch.split(boxes, max(1, budget // len(truth)))
        parts = [box_iou(chunk, truth).max(dim=1) for chunk in chunks]
        overlap = torch.cat([part.values for part in parts])
        index = torch.cat([part.indices for part in parts])
    return index, label_overlaps(overlap, (threshold, threshold))


@dataclass(frozen=True, eq=False)
class Anchors:
    """All anchors of an image, and the grids they stand on.

    Attributes
    ----------
    levels : one (rows * columns * A, 4) per level, as `grid_anchors` lays them.
    shapes : (rows, columns) of each level.
    strides : of each level, px.
    cells : (A, 4) anchors around the origin, of each level.
    offset : as of `grid_anchors`.
    """

    levels: Sequence[torch.Tensor]
    shapes: Sequence[tuple[int, int]]
    strides: Sequence[int]
    cells: Sequence[torch.Tensor]
    offset: float

    def windows(self, truth: torch.Tensor) -> Windows:
        """The part of each grid whose anchors can overlap each truth."""
        parts = []
        start = 0
        for (rows, columns), stride, cell in zip(
            self.shapes, self.strides, self.cells, strict=True
        ):
            cell = cell.to(truth.device)
            # One anchor to spare on either side for rounding: an IoU of 0 does no harm.
            low = torch.floor((truth[None, :, :2] - cell[:, None, 2:]) / stride - self.offset)
            high = torch.ceil((truth[None, :, 2:] - cell[:, None, :2]) / stride - self.offset)
            last = low.new_tensor([columns - 1, rows - 1])
            low, high = low.clamp(min=0).long(), torch.minimum(high, last).long()
            kind = torch.arange(len(cell), device=truth.device)[:, None].expand(low.shape[:2])
            fixed = [torch.full_like(kind, v) for v in (start, columns, len(cell))]
            count = (high - low + 1).clamp(min=0)
            parts.append(torch.stack((*low.unbind(-1), *count.unbind(-1), kind, *fixed)))
            start += rows * columns * len(cell)
        return Windows(*torch.cat(parts, dim=1).unbind(0))


@dataclass(frozen=True, eq=False)
class Windows:
    """Rectangles of anchors, each attribute (grids, truths) int64: one grid per cell anchor."""

    column: torch.Tensor
    row: torch.Tensor
    columns: torch.Tensor
    rows: torch.Tensor
    kind: torch.Tensor
    start: torch.Tensor
    pitch: torch.Tensor
    kinds: torch.Tensor

    def pairs(self, low: int, high: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Anchor and truth of every pair in the windows of truths low..high - 1."""
        columns, rows = self.columns[:, low:high], self.rows[:, low:high]
        count = (columns * rows).flatten()
        window = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        place = torch.arange(len(window), device=count.device)
        place = place - (count.cumsum(0) - count)[window]

        def of(values: torch.Tensor) -> torch.Tensor:
            return values[:, low:high].flatten()[window]

        row = of(self.row) + torch.div(place, of(self.columns), rounding_mode="floor")
        column = of(self.column) + place % of(self.columns)
        anchor = of(self.start) + (row * of(self.pitch) + column) * of(self.kinds) + of(self.kind)
        return anchor, low + window % (high - low)


def match_anchors(
    anchors: Anchors,
    truth: torch.Tensor,
    thresholds: tuple[float, float],
    budget: int = MATCH_BUDGET,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The truth each anchor overlaps most, and whether it is an object.

    Only pairs that can overlap are looked at: of the 250 million pairs of a 1000x1000 image
    with 1000 small objects, about a million. The anchors with the largest IoU with each
    truth are objects whatever that IoU is, but keep the truth they overlap most themselves
    (Detectron2's rule).

    Parameters
    ----------
    truth : (M, 4).
    thresholds : IoU below the first: background; from the second: object; between: neither.
    budget : pairs held at once, about; a single truth's are never split.

    Returns
    -------
    index : (N,) int64 into truth, the first among equals (0 where there is none).
    label : (N,) int8: 1 object, 0 background, -1 neither.
    """
    every = torch.cat(list(anchors.levels))
    overlap = every.new_zeros(len(every))
    index = torch.zeros(len(every), dtype=torch.int64, device=every.device)
    best = torch.zeros(len(every), dtype=torch.bool, device=every.device)
    windows = anchors.windows(truth)
    sizes = (windows.columns * windows.rows).sum(dim=0).cumsum(0).tolist()
    low = 0
    while low < len(truth):
        before = sizes[low - 1] if low else 0
        high = max(low + 1, bisect_right(sizes, before + budget))
        anchor, owner = windows.pairs(low, high)
        iou = _paired_iou(every[anchor], truth[owner])
        most = torch.zeros_like(overlap).scatter_reduce(0, anchor, iou, "amax")
        first = torch.full_like(index, len(truth))
        hits = iou == most[anchor]
        first = first.scatter_reduce(0, anchor[hits], owner[hits], "amin")
        index = torch.where(most > overlap, first, index)
        overlap = torch.maximum(overlap, most)
        of_truth = truth.new_zeros(len(truth)).scatter_reduce(0, owner, iou, "amax")
        best[anchor[(iou == of_truth[owner]) & (iou > 0)]] = True
        low = high
    label = label_overlaps(overlap, thresholds)
    label[best] = 1
    return index, label


def _paired_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of the boxes of each row."""
    side = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    shared = side.prod(dim=1)
    return shared / (_area(a) + _area(b) - shared)


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


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
    return _regression(found, wanted, beta, "sum")


def regression_losses(found: torch.Tensor, wanted: torch.Tensor, beta: float) -> torch.Tensor:
    """(N,) the same of each box (N, 4)."""
    return _regression(found, wanted, beta, "none").sum(dim=1)


def _regression(
    found: torch.Tensor, wanted: torch.Tensor, beta: float, reduction: str
) -> torch.Tensor:
    if beta <= 0:
        return functional.l1_loss(found.float(), wanted, reduction=reduction)
    return functional.smooth_l1_loss(found.float(), wanted, reduction=reduction, beta=beta)
