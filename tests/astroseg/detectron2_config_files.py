"""Detectron2 configuration files of small models."""

import importlib.util

import pytest

NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)

BASE = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: somewhere.pkl
  MASK_ON: True
  BACKBONE: {NAME: build_resnet_fpn_backbone}
  RESNETS:
    OUT_FEATURES: [res2, res3, res4, res5]
    NORM: BN
    STEM_OUT_CHANNELS: 8
    RES2_OUT_CHANNELS: 16
    WIDTH_PER_GROUP: 8
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], POST_NMS_TOPK_TRAIN: 100}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5], SCORE_THRESH_TEST: 0.0}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 16}
TEST: {DETECTIONS_PER_IMAGE: 20}
"""
OWN = """
_BASE_: base.yaml
MODEL:
  RESNETS: {DEFORM_ON_PER_STAGE: [False, False, True, True], DEFORM_MODULATED: True}
"""
NETWORK = """
from functools import partial
from pathlib import Path
import torch.nn as nn
from detectron2.config import LazyCall as L
from detectron2.layers import NaiveSyncBatchNorm, ShapeSpec
from detectron2.modeling import SwinTransformer
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead, FastRCNNOutputLayers, MaskRCNNConvUpsampleHead, StandardROIHeads,
)

with (Path(__file__).parent / "runs.txt").open("a") as file:
    file.write("run ")

model = L(GeneralizedRCNN)(
    backbone=L(FPN)(
        bottom_up=L(SwinTransformer)(
            depths=[1, 1, 1, 1], embed_dim=16, num_heads=[1, 2, 4, 8],
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        ),
        in_features=("p0", "p1", "p2", "p3"), out_channels=16, square_pad=64,
        top_block=L(LastLevelMaxPool)(),
    ),
    proposal_generator=L(RPN)(
        in_features=["p2", "p3", "p4", "p5", "p6"],
        head=L(StandardRPNHead)(in_channels=16, num_anchors=1),
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=[[8], [16], [32], [64], [128]], aspect_ratios=[1.0],
            strides=[4, 8, 16, 32, 64], offset=0.0,
        ),
        anchor_matcher=L(Matcher)(
            thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=64, positive_fraction=0.5,
        pre_nms_topk=(200, 100), post_nms_topk=(100, 100),
    ),
    roi_heads=L(StandardROIHeads)(
        num_classes=80, batch_size_per_image=64, positive_fraction=0.25,
        proposal_matcher=L(Matcher)(
            thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
        ),
        box_in_features=["p2", "p3"],
        box_pooler=L(ROIPooler)(
            output_size=7, scales=(1 / 4, 1 / 8), sampling_ratio=0, pooler_type="ROIAlignV2"
        ),
        box_head=L(FastRCNNConvFCHead)(
            input_shape=ShapeSpec(channels=16, height=7, width=7), conv_dims=[16], fc_dims=[16],
            conv_norm=lambda c: NaiveSyncBatchNorm(c, stats_mode="N"),
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=ShapeSpec(channels=16), num_classes="${..num_classes}",
            box2box_transform=L(Box2BoxTransform)(weights=(10, 10, 5, 5)),
        ),
        mask_in_features="${.box_in_features}",
        mask_pooler="${.box_pooler}",
        mask_head=L(MaskRCNNConvUpsampleHead)(
            input_shape=ShapeSpec(channels=16, height=7, width=7),
            num_classes="${..num_classes}", conv_dims=[16, 16],
        ),
    ),
    pixel_mean=[100.0, 100.0, 100.0], pixel_std=[50.0, 50.0, 50.0], input_format="RGB",
)
"""
LAZY = "from .network import model\n\nmodel.backbone.norm = 'LN'\noptimizer = dict(lr=1.0)\n"


def write_files(folder):
    """All of them, in a new folder."""
    folder.mkdir()
    texts = {"base.yaml": BASE, "own.yaml": OWN, "network.py": NETWORK, "lazy.py": LAZY}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder
