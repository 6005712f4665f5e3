"""A model's spec as Detectron2's lazy configuration: names and arguments, no library needed.

What Detectron2 keeps in Python configurations (its ViTDet and MViTv2 projects) rather than in
keys and values: the transformers. And `tiny`, which no configuration of its own knows, put
together from its residual blocks, pyramid, proposals and heads.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from torch import nn

from astroseg.models.spec import ModelSpec

Node = dict[str, Any]
"""A call to be made: ``_target_`` and its arguments, which may be calls themselves."""

_MODELING = "detectron2.modeling"
_RESNET = f"{_MODELING}.backbone.resnet"
_PARTS = "astroseg.engines.detectron2.parts"

_MVIT_STAGES = 4


def refusals(spec: ModelSpec) -> list[str]:
    """What of a spec with one of these backbones cannot be built, one clause each."""
    found = []
    if spec.anchor_offset >= 1:
        found.append(f"its anchors cannot be shifted by {spec.anchor_offset} strides")
    if not spec.box_head_layers:
        found.append("its box heads have fully connected layers")
    if spec.backbone == "mvit" and len(spec.blocks) != _MVIT_STAGES:
        found.append(f"its MViT has {_MVIT_STAGES} stages")
    channels = (spec.stem_channels, *spec.stage_channels)
    if spec.backbone == "small" and any(a == b for a, b in itertools.pairwise(channels)):
        found.append("its basic blocks cannot halve the resolution of as many channels")
    return found


def lazy(spec: ModelSpec) -> Node:
    """The calls that build a "swin", "mvit" or "small" network without `refusals`."""
    return _call(
        f"{_MODELING}.GeneralizedRCNN",
        backbone=_pyramid(spec),
        proposal_generator=_proposals(spec),
        roi_heads=_heads(spec),
        pixel_mean=list(spec.pixel_mean),
        pixel_std=list(spec.pixel_std),
    )


def _call(target: str, **arguments: Any) -> Node:
    return {"_target_": target, **arguments}


def _norm(kind: str, groups: int) -> Any:
    """As Detectron2 takes norms: a name, or what makes one of a number of channels."""
    return functools.partial(nn.GroupNorm, groups) if kind == "GN" else kind


def _shape(channels: int, side: int | None = None) -> Node:
    return _call("detectron2.layers.ShapeSpec", channels=channels, height=side, width=side)


def _pyramid(spec: ModelSpec) -> Node:
    bottom_up, names = {"swin": _swin, "mvit": _mvit, "small": _small}[spec.backbone](spec)
    last = f"p{spec.first_level + len(spec.blocks) - 1}"
    return _call(
        f"{_MODELING}.backbone.FPN",
        bottom_up=bottom_up,
        in_features=names,
        out_channels=spec.fpn_channels,
        norm=_norm(spec.head_norm, spec.norm_groups),
        top_block=_call(f"{_PARTS}.ExtraLevel", last=last) if spec.fpn_extra_level else None,
        # Its project pads to squares of 1024 px, and crops what is larger.
        square_pad=0,
    )


def _swin(spec: ModelSpec) -> tuple[Node, list[str]]:
    stages = list(range(len(spec.blocks)))
    node = _call(
        f"{_MODELING}.SwinTransformer",
        in_chans=spec.channels,
        embed_dim=spec.stage_channels[0],
        depths=list(spec.blocks),
        num_heads=list(spec.attention_heads),
        window_size=spec.attention_window,
        drop_path_rate=spec.drop_path,
        out_indices=stages,
    )
    return node, [f"p{i}" for i in stages]


def _mvit(spec: ModelSpec) -> tuple[Node, list[str]]:
    ends = [sum(spec.blocks[: i + 1]) - 1 for i in range(len(spec.blocks))]
    names = [f"scale{i + 2}" for i in range(len(spec.blocks))]
    node = _call(
        f"{_MODELING}.MViT",
        in_chans=spec.channels,
        embed_dim=spec.stage_channels[0],
        depth=sum(spec.blocks),
        num_heads=spec.attention_heads[0],
        last_block_indexes=ends,
        adaptive_window_size=spec.attention_window,
        residual_pooling=True,
        drop_path_rate=spec.drop_path,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
        out_features=names,
    )
    return node, names


def _small(spec: ModelSpec) -> tuple[Node, list[str]]:
    norm = _norm(spec.norm, spec.norm_groups)
    stages, inputs = [], spec.stem_channels
    for blocks, outputs in zip(spec.blocks, spec.stage_channels, strict=True):
        stage = []
        for i in range(blocks):
            stride = 2 if i == 0 else 1
            arguments = {"in_channels": inputs, "out_channels": outputs, "stride": stride}
            stage.append(_call(f"{_RESNET}.BasicBlock", **arguments, norm=norm))
            inputs = outputs
        stages.append(stage)
    stem = {"in_channels": spec.channels, "out_channels": spec.stem_channels, "norm": norm}
    names = list(spec.stages)
    return _call(
        f"{_RESNET}.ResNet",
        stem=_call(f"{_PARTS}.Stem", **stem),
        stages=stages,
        out_features=names,
    ), names


def _levels(spec: ModelSpec, count: int) -> list[str]:
    return [f"p{spec.first_level + i}" for i in range(count)]


def _matcher(thresholds: list[float], labels: list[int], *, low_quality: bool) -> Node:
    return _call(
        f"{_MODELING}.matcher.Matcher",
        thresholds=thresholds,
        labels=labels,
        allow_low_quality_matches=low_quality,
    )


def _transform(weights: tuple[float, ...]) -> Node:
    return _call(f"{_MODELING}.box_regression.Box2BoxTransform", weights=list(weights))


def _proposals(spec: ModelSpec) -> Node:
    ratios = list(spec.aspect_ratios)
    return _call(
        f"{_PARTS}.AreaRPN",
        spec=spec,
        in_features=_levels(spec, len(spec.strides)),
        head=_call(
            f"{_MODELING}.proposal_generator.StandardRPNHead",
            in_channels=spec.fpn_channels,
            num_anchors=len(spec.anchor_sizes[0]) * len(ratios),
            conv_dims=[-1] * spec.rpn_convs,
        ),
        anchor_generator=_call(
            f"{_MODELING}.anchor_generator.DefaultAnchorGenerator",
            sizes=[list(sizes) for sizes in spec.anchor_sizes],
            aspect_ratios=[ratios],
            strides=list(spec.strides),
            offset=spec.anchor_offset,
        ),
        anchor_matcher=_matcher(list(spec.rpn_iou), [0, -1, 1], low_quality=True),
        box2box_transform=_transform((1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=spec.rpn_batch,
        positive_fraction=spec.rpn_positive,
        pre_nms_topk=list(spec.rpn_pre_nms_top_n),
        post_nms_topk=list(spec.rpn_post_nms_top_n),
        nms_thresh=spec.rpn_nms,
        smooth_l1_beta=spec.smooth_l1_beta,
    )


def _heads(spec: ModelSpec) -> Node:
    levels = _levels(spec, spec.pool_levels)
    mask_convs = [spec.mask_head_dim] * (spec.mask_head_layers + 1)  # the last one enlarges
    target, arguments = _box_heads(spec)
    return _call(
        target,
        **arguments,
        num_classes=len(spec.classes),
        batch_size_per_image=spec.roi_batch,
        positive_fraction=spec.roi_positive,
        box_in_features=levels,
        box_pooler=_pooler(spec, spec.box_pool),
        mask_in_features=levels,
        mask_pooler=_pooler(spec, spec.mask_pool),
        mask_head=_call(
            f"{_MODELING}.roi_heads.MaskRCNNConvUpsampleHead",
            input_shape=_shape(spec.fpn_channels, spec.mask_pool),
            num_classes=len(spec.classes),
            conv_dims=mask_convs,
            conv_norm=_norm(spec.head_norm, spec.norm_groups),
        ),
    )


def _box_heads(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """Of the heads: their class, and the arguments that a cascade has in another form."""
    if not spec.cascade_weights:
        return f"{_MODELING}.roi_heads.StandardROIHeads", {
            "proposal_matcher": _matcher([spec.roi_iou], [0, 1], low_quality=False),
            "box_head": _box_head(spec),
            "box_predictor": _predictor(spec, spec.box_weights),
        }
    return f"{_MODELING}.roi_heads.CascadeROIHeads", {
        "proposal_matchers": [
            _matcher([iou], [0, 1], low_quality=False) for iou in spec.cascade_iou
        ],
        "box_heads": [_box_head(spec) for _ in spec.cascade_weights],
        "box_predictors": [_predictor(spec, weights) for weights in spec.cascade_weights],
    }


def _box_head(spec: ModelSpec) -> Node:
    return _call(
        f"{_MODELING}.roi_heads.FastRCNNConvFCHead",
        input_shape=_shape(spec.fpn_channels, spec.box_pool),
        conv_dims=[spec.box_conv_dim] * spec.box_convs,
        fc_dims=[spec.box_head_dim] * spec.box_head_layers,
        conv_norm=_norm(spec.head_norm, spec.norm_groups),
    )


def _predictor(spec: ModelSpec, weights: tuple[float, ...]) -> Node:
    return _call(
        f"{_MODELING}.roi_heads.FastRCNNOutputLayers",
        input_shape=_shape(spec.box_head_dim),
        box2box_transform=_transform(weights),
        num_classes=len(spec.classes),
        cls_agnostic_bbox_reg=bool(spec.cascade_weights),
        smooth_l1_beta=spec.smooth_l1_beta,
        test_score_thresh=spec.score_threshold,
        test_nms_thresh=spec.nms_threshold,
        # The number that hides most objects of a dense field, 100 unless set.
        test_topk_per_image=spec.detections_per_image,
    )


def _pooler(spec: ModelSpec, side: int) -> Node:
    return _call(
        f"{_MODELING}.poolers.ROIPooler",
        output_size=side,
        scales=[1.0 / stride for stride in spec.strides[: spec.pool_levels]],
        sampling_ratio=spec.sampling_ratio,
        pooler_type="ROIAlignV2",
        canonical_box_size=spec.canonical_size,
        canonical_level=spec.canonical_level,
    )
