"""A model's spec as Detectron2's configuration: plain keys and values, no library needed.

Every value that decides what is built or kept is set, also where it is Detectron2's
default. Its defaults are those of COCO's few large objects: a limit left alone (100
detections, 1000 proposals) silently loses most of a dense field.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from astroseg.engines.detectron2 import lazy
from astroseg.models.spec import ModelSpec

DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
"""Blocks per stage of the residual networks Detectron2 builds, and the name it has for them."""

GROUP_NORM_GROUPS = 32
"""What Detectron2 gives every group norm; it cannot be configured."""

_C4_BLOCKS = 3

# Read by `settings` and `refusals`: what is not among them must be at its default.
_KNOWN = frozenset(
    {
        "name",
        "channels",
        "classes",
        "backbone",
        "features",
        "blocks",
        "stem_channels",
        "stage_channels",
        "groups",
        "group_width",
        "stride_in_1x1",
        "deform_stages",
        "norm",
        "norm_groups",
        "head_norm",
        "fpn_channels",
        "fpn_extra_level",
        "anchor_sizes",
        "aspect_ratios",
        "anchor_offset",
        "rpn_iou",
        "rpn_batch",
        "rpn_positive",
        "rpn_pre_nms_top_n",
        "rpn_post_nms_top_n",
        "rpn_nms",
        "roi_iou",
        "cascade_iou",
        "cascade_weights",
        "roi_batch",
        "roi_positive",
        "box_pool",
        "mask_pool",
        "sampling_ratio",
        "box_head_dim",
        "box_head_layers",
        "mask_head_dim",
        "mask_head_layers",
        "box_weights",
        "smooth_l1_beta",
        "score_threshold",
        "nms_threshold",
        "detections_per_image",
        "reverse_channels",
        "pixel_mean",
        "pixel_std",
        # Of the engine, not of the configuration.
        "ignore_cover",
        "tight_boxes",
        "least_side",
    }
)


def refusals(spec: ModelSpec) -> list[str]:
    """What of a spec Detectron2's configurations cannot say, one clause each; empty: nothing."""
    if spec.targets:
        return ["it has no head for attributes of objects"]
    if spec.class_weights or spec.focal_gamma:
        return ["its loss of the classes has neither weights nor focus"]
    if spec.mask_margin:
        return ["its masks have no margin around their boxes (--model.mask-margin 0)"]
    if spec.config:
        return []  # it is a configuration
    if spec.backbone != "resnet":
        return lazy.refusals(spec)
    found = _resnet_refusals(spec)
    for field in dataclasses.fields(ModelSpec):
        value = getattr(spec, field.name)
        if field.name not in _KNOWN and value != field.default:
            found.append(f"it has no setting for {field.name} {value}")
    return found


def _resnet_refusals(spec: ModelSpec) -> list[str]:
    found = []
    if spec.blocks not in DEPTHS:
        known = ", ".join(str(list(blocks)) for blocks in DEPTHS)
        found.append(f"its residual networks have {known} blocks, not {list(spec.blocks)}")
    first = spec.stage_channels[0]
    if spec.stage_channels != tuple(first * 2**i for i in range(len(spec.stage_channels))):
        found.append(f"its stages double their channels, unlike {list(spec.stage_channels)}")
    if "GN" in (spec.norm, spec.head_norm) and spec.norm_groups != GROUP_NORM_GROUPS:
        found.append(f"its group norm has {GROUP_NORM_GROUPS} groups, not {spec.norm_groups}")
    if spec.fpn_extra_level != (spec.features == "fpn"):
        found.append("its pyramid has one more level than the backbone has stages, and no other")
    if spec.features == "c4":
        found += _c4_refusals(spec)
    if spec.cascade_iou and spec.cascade_iou[0] != spec.roi_iou:
        found.append("its cascade begins with roi_iou")
    if spec.cascade_iou and spec.box_weights != ModelSpec.box_weights:
        found.append("its cascade has weights of its own")
    return found


def _c4_refusals(spec: ModelSpec) -> list[str]:
    """Of the heads that run the last stage on each region: Detectron2 has one form of them."""
    found = []
    if spec.blocks[-1] != _C4_BLOCKS:
        found.append(f"its c4 heads have {_C4_BLOCKS} blocks")
    if "res5" in spec.deform_stages:
        found.append("its c4 heads are not deformable")
    if spec.box_head_layers:
        found.append("its c4 heads have no fully connected layers")
    return found


def settings(spec: ModelSpec) -> dict[str, Any]:
    """Detectron2's configuration keys and values of a "resnet" without `refusals`."""
    return {
        **_input(spec),
        **_backbone(spec),
        **_proposals(spec),
        **_heads(spec),
        # The number that hides most objects of a dense field, 100 unless set.
        "TEST.DETECTIONS_PER_IMAGE": spec.detections_per_image,
    }


def _input(spec: ModelSpec) -> dict[str, Any]:
    return {
        "MODEL.DEVICE": "cpu",  # the trainer moves it
        "MODEL.WEIGHTS": "",
        "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
        "MODEL.MASK_ON": True,
        "MODEL.PIXEL_MEAN": list(spec.pixel_mean),  # their number is that of the bands
        "MODEL.PIXEL_STD": list(spec.pixel_std),
        "INPUT.MASK_FORMAT": "bitmask",
        "INPUT.MIN_SIZE_TEST": 0,  # no resizing
    }


def _backbone(spec: ModelSpec) -> dict[str, Any]:
    outputs = {"fpn": spec.stages, "c4": ("res4",), "dc5": ("res5",)}[spec.features]
    kind = "resnet_fpn" if spec.features == "fpn" else "resnet"
    return {
        "MODEL.BACKBONE.NAME": f"build_{kind}_backbone",
        "MODEL.BACKBONE.FREEZE_AT": 0,  # stages of training freeze, not the model
        "MODEL.RESNETS.DEPTH": DEPTHS[spec.blocks],
        "MODEL.RESNETS.OUT_FEATURES": list(outputs),
        "MODEL.RESNETS.RES5_DILATION": 2 if spec.features == "dc5" else 1,
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [s in spec.deform_stages for s in spec.stages],
        "MODEL.RESNETS.DEFORM_MODULATED": False,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": spec.stem_channels,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": spec.stage_channels[0],
        "MODEL.RESNETS.NUM_GROUPS": spec.groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": spec.group_width,
        "MODEL.RESNETS.STRIDE_IN_1X1": spec.stride_in_1x1,
        "MODEL.RESNETS.NORM": spec.norm,
        "MODEL.FPN.IN_FEATURES": list(outputs) if spec.features == "fpn" else [],
        "MODEL.FPN.OUT_CHANNELS": spec.fpn_channels,
        "MODEL.FPN.NORM": spec.head_norm,
    }


def _levels(spec: ModelSpec, count: int) -> list[str]:
    """Names of the feature maps, finest first."""
    if spec.features != "fpn":
        return ["res4" if spec.features == "c4" else "res5"]
    return [f"p{spec.first_level + i}" for i in range(count)]


def _proposals(spec: ModelSpec) -> dict[str, Any]:
    before, after = spec.rpn_pre_nms_top_n, spec.rpn_post_nms_top_n
    return {
        "MODEL.ANCHOR_GENERATOR.SIZES": [list(sizes) for sizes in spec.anchor_sizes],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [list(spec.aspect_ratios)],
        "MODEL.ANCHOR_GENERATOR.OFFSET": spec.anchor_offset,
        "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
        "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
        "MODEL.RPN.IN_FEATURES": _levels(spec, len(spec.strides)),
        "MODEL.RPN.IOU_THRESHOLDS": list(spec.rpn_iou),
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": spec.rpn_batch,
        "MODEL.RPN.POSITIVE_FRACTION": spec.rpn_positive,
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": before[0],
        "MODEL.RPN.PRE_NMS_TOPK_TEST": before[1],
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": after[0],
        "MODEL.RPN.POST_NMS_TOPK_TEST": after[1],
        "MODEL.RPN.NMS_THRESH": spec.rpn_nms,
        "MODEL.RPN.SMOOTH_L1_BETA": spec.smooth_l1_beta,
    }


def _heads(spec: ModelSpec) -> dict[str, Any]:
    return {
        **_heads_kind(spec),
        "MODEL.ROI_HEADS.IN_FEATURES": _levels(spec, spec.pool_levels),
        "MODEL.ROI_HEADS.NUM_CLASSES": len(spec.classes),
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": [spec.roi_iou],
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": spec.roi_batch,
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": spec.roi_positive,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": spec.score_threshold,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": spec.nms_threshold,
        "MODEL.ROI_BOX_HEAD.NUM_FC": spec.box_head_layers,
        "MODEL.ROI_BOX_HEAD.FC_DIM": spec.box_head_dim,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": spec.box_pool,
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": spec.sampling_ratio,
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": list(spec.box_weights),
        "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": spec.smooth_l1_beta,
        "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        "MODEL.ROI_MASK_HEAD.NUM_CONV": spec.mask_head_layers,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": spec.mask_head_dim,
        "MODEL.ROI_MASK_HEAD.NORM": spec.head_norm,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": spec.mask_pool,
        "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": spec.sampling_ratio,
    }


def _heads_kind(spec: ModelSpec) -> dict[str, Any]:
    if spec.features == "c4":
        return {"MODEL.ROI_HEADS.NAME": "Res5ROIHeads", "MODEL.ROI_BOX_HEAD.NAME": ""}
    box = {"MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead"}
    if not spec.cascade_iou:
        return {"MODEL.ROI_HEADS.NAME": "StandardROIHeads", **box}
    return {
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
        **box,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": list(spec.cascade_iou),
        "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": [list(w) for w in spec.cascade_weights],
    }
