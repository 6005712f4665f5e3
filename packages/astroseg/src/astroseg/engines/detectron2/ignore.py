"""Regions without truth, which Detectron2 does not know, kept out of its losses.

Background inside them is left out after Detectron2 has sampled it. Cells of the mask loss stay:
Detectron2 takes no weights for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from astroseg.models.mask_targets import IgnoreRegions

Regions = Sequence[IgnoreRegions | None]


@contextmanager
def left_out(model: Any, regions: Regions, cover: float) -> Iterator[None]:
    """While the losses of a Detectron2 model are computed.

    Parameters
    ----------
    regions : of each image of the batch.
    cover : fraction of a box in a region above which it is left out.
    """
    if all(one is None for one in regions):
        yield
        return
    rpn, heads = model.proposal_generator, model.roi_heads
    replaced = {(rpn, "label_and_sample_anchors"): _anchors(rpn, regions, cover)}
    for name in ("label_and_sample_proposals", "_match_and_label_boxes"):
        if hasattr(heads, name):
            replaced[heads, name] = _proposals(heads, name, regions, cover)
    for (owner, name), method in replaced.items():
        setattr(owner, name, method)
    try:
        yield
    finally:
        for owner, name in replaced:
            delattr(owner, name)  # the class's own is seen again


def _anchors(rpn: Any, regions: Regions, cover: float) -> Callable[..., Any]:
    own = rpn.label_and_sample_anchors

    def label(anchors: Sequence[Any], truths: Sequence[Any]) -> Any:
        labels, boxes = own(anchors, truths)
        every = torch.cat([level.tensor for level in anchors])
        for one, region in zip(labels, regions, strict=True):
            if region is not None:
                one[(one == 0) & (region.cover(every) > cover)] = -1
        return labels, boxes

    return label


def _proposals(heads: Any, name: str, regions: Regions, cover: float) -> Callable[..., Any]:
    own = getattr(heads, name)

    def label(*arguments: Any) -> Any:
        return [
            one
            if region is None
            else one[
                (one.gt_classes != heads.num_classes)
                | (region.cover(one.proposal_boxes.tensor) <= cover)
            ]
            for one, region in zip(own(*arguments), regions, strict=True)
        ]

    return label
