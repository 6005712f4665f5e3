"""The models by name: which fields of `astroseg.models.spec.ModelSpec` each sets.

What is not given is ModelSpec's default. The numbers are those of Detectron2's model zoo
(C4, DC5, FPN, dconv c3-c5, cascade) and of its ViTDet project (Swin, MViTv2), with the anchors and
limits of the published recipe for dense fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_R101 = {"blocks": (3, 4, 23, 3)}
# Without a pyramid all sizes stand on the one level there is.
_ONE_LEVEL = {"fpn_extra_level": False, "anchor_sizes": ((8.0, 16.0, 32.0, 64.0, 128.0),)}
_DC5 = {**_R101, **_ONE_LEVEL, "features": "dc5"}
# The last stage halves what is pooled, and the mask head sees the rest: 14 px to a mask of 14.
_C4 = {
    **_R101,
    **_ONE_LEVEL,
    "features": "c4",
    "box_pool": 14,
    "mask_pool": 7,
    "box_head_layers": 0,
    "mask_head_layers": 0,
}
_DEFORM = {"deform_stages": ("res3", "res4", "res5")}
_CASCADE = {
    "cascade_iou": (0.5, 0.6, 0.7),
    "cascade_weights": ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)),
}
_X101 = {"blocks": (3, 4, 23, 3), "groups": 32, "group_width": 8, "stride_in_1x1": False}
# Heads of the ViTDet project: layer norm everywhere, more convolutions, a cascade.
_TRANSFORMER = {
    **_CASCADE,
    "norm": "LN",
    "head_norm": "LN",
    "drop_path": 0.4,
    "rpn_convs": 2,
    "box_convs": 4,
    "box_head_layers": 1,
}
_SWIN = {
    **_TRANSFORMER,
    "backbone": "swin",
    "blocks": (2, 2, 18, 2),
    "stage_channels": (128, 256, 512, 1024),
    "attention_heads": (4, 8, 16, 32),
    "attention_window": 7,
}
_MVIT = {
    **_TRANSFORMER,
    "backbone": "mvit",
    "blocks": (2, 3, 16, 3),
    "stage_channels": (96, 192, 384, 768),
    "attention_heads": (1, 2, 4, 8),
    "attention_window": 56,
}
# The median source of a deep ground-based tile is 6 to 7 px wide, so resolution beats size:
# this quarter of a million parameters at strides 2, 4, 8 learns in minutes on a CPU what an
# 18-layer network at stride 4 does not.
_TINY = {
    "backbone": "small",
    "blocks": (1, 1, 1),
    "stem_channels": 16,
    "stage_channels": (24, 32, 48),
    "norm": "GN",
    "norm_groups": 8,
    "fpn_channels": 32,
    "fpn_extra_level": False,
    "anchor_sizes": ((5.0,), (10.0,), (24.0,)),
    "aspect_ratios": (1.0,),
    "rpn_iou": (0.3, 0.5),  # few anchors reach 0.7 with a box of 5 px
    "rpn_batch": 128,
    # More than the second stage was trained on brings boxes inside bright galaxies that it
    # never learned to refuse: 2000 instead of 300 on 256x256 halve the AP50.
    "rpn_pre_nms_top_n": (500, 500),
    "rpn_post_nms_top_n": (300, 300),
    "rpn_top_n_area": 256.0**2,
    "roi_batch": 128,
    "roi_positive": 0.5,
    "box_pool": 5,
    "mask_pool": 7,
    "sampling_ratio": 1,
    "canonical_size": 16.0,
    "canonical_level": 2,
    "box_head_dim": 128,
    "box_head_layers": 1,
    "mask_head_dim": 32,
    "mask_head_layers": 2,
    "nms_threshold": 0.5,
    "nms_any_class": 0.7,  # one source is one class
    "tight_boxes": True,  # of one set of weights on simulated tiles: box AP 0.43 for 0.39
}

# Beside tiny: wider, with one more stage for galaxies of a hundred px and more.
_SKY = {
    **_TINY,
    "blocks": (1, 1, 1, 1),
    "stage_channels": (32, 48, 64, 96),
    "fpn_channels": 48,
    "mask_head_dim": 48,
    "box_head_dim": 192,
    "anchor_sizes": ((5.0,), (11.0,), (26.0,), (70.0,)),
    # A box that is half a pixel too short cuts a twelfth off the mask of a source of six pixels.
    "mask_margin": 0.25,
    "least_side": 256,
}

MODELS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "tiny": _TINY,
        "sky": _SKY,
        "r50-fpn": {},
        "r101-fpn": _R101,
        "x101-fpn": _X101,
        "r50-fpn-deform": _DEFORM,
        "r50-fpn-cascade": _CASCADE,
        "r101-c4": _C4,
        "r101-dc5": _DC5,
        "swin-b": _SWIN,
        "mvitv2-b": _MVIT,
    }
)
"""Models this version builds."""

SMALL: tuple[str, ...] = ("tiny", "sky")
"""Models that learn from scratch on a CPU."""

TRANSFORMERS: tuple[str, ...] = ("swin-b", "mvitv2-b")
"""Models whose backbones are transformers: their weights want red first, scaled."""
