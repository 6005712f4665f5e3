"""Whether the fields of a network's description make a network; imports no torch."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from astroseg.core.errors import InputError

if TYPE_CHECKING:
    from astroseg.models.spec import ModelSpec


LAYERS = ("blocks", "rpn_convs", "box_convs", "box_head_layers", "mask_head_layers")
MAX_LAYERS = 1000
"""Five times the deepest published: what a file may ask a machine to build."""
MAX_INTEGER = 10**6
"""The same of channels, sizes and numbers of boxes."""


def _check_integers(spec: ModelSpec) -> None:
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        most = MAX_LAYERS if field.name in LAYERS else MAX_INTEGER
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int) and not 0 <= one <= most:
                raise InputError(f"{field.name} {one}", remedy=f"give a number from 0 to {most}")


def check(spec: ModelSpec) -> None:
    """Raise InputError where fields contradict each other."""
    _check_integers(spec)
    if spec.channels < 1:
        raise InputError(
            f"model {spec.name} with {spec.channels} channels", remedy="give at least one"
        )
    if not spec.classes or len(set(spec.classes)) != len(spec.classes):
        raise InputError(
            f"model {spec.name} with classes {list(spec.classes)}",
            remedy="give at least one class, each once",
        )
    for field in ("pixel_mean", "pixel_std"):
        if len(getattr(spec, field)) != spec.channels:
            raise InputError(
                f"{field} has {len(getattr(spec, field))} values for {spec.channels} channels",
                remedy="give one number, or one per channel",
            )
    if min(spec.pixel_std) <= 0:
        raise InputError(f"pixel_std {spec.pixel_std}", remedy="give positive numbers")
    if not 0 <= spec.mask_margin <= 1 or (spec.mask_margin and spec.features == "c4"):
        raise InputError(
            f"mask_margin {spec.mask_margin}",
            remedy="give 0 to 1; with the features c4, whose masks and boxes share a region, 0",
        )
    if len(spec.anchor_sizes) != len(spec.strides):
        raise InputError(
            f"{len(spec.anchor_sizes)} levels of anchor sizes for {len(spec.strides)} levels",
            remedy=f"give one tuple of sizes for each of the strides {spec.strides}",
        )
    if len({len(sizes) for sizes in spec.anchor_sizes}) != 1:
        raise InputError(
            "levels differ in their number of anchor sizes", remedy="give each the same number"
        )
    if len(spec.blocks) != len(spec.stage_channels):
        raise InputError(
            f"{len(spec.blocks)} stages of blocks, {len(spec.stage_channels)} of channels",
            remedy="give one number of each per stage",
        )
    _check_variant(spec)
    _check_attention(spec)
    _check_targets(spec)
    if spec.class_weights and len(spec.class_weights) != len(spec.classes):
        raise InputError(
            f"{len(spec.class_weights)} class weights for {len(spec.classes)} classes",
            remedy="give one for each class, in the dataset's order",
        )
    if min(spec.class_weights, default=1) <= 0 or spec.focal_gamma < 0:
        raise InputError(
            f"class weights {spec.class_weights} and focal_gamma {spec.focal_gamma}",
            remedy="give weights above 0 and a gamma of at least 0",
        )
    for field in ("score_threshold", "nms_threshold", "ignore_cover"):
        if not 0 <= getattr(spec, field) <= 1:
            raise InputError(
                f"{field} {getattr(spec, field)}", remedy="give a number between 0 and 1"
            )
    if spec.detections_per_image < 1:
        raise InputError(
            f"detections_per_image {spec.detections_per_image}", remedy="give at least 1"
        )


def _check_variant(spec: ModelSpec) -> None:
    """Raise InputError where the features, deformable stages or cascade make no network."""
    if spec.features not in ("fpn", "c4", "dc5"):
        raise InputError(f"features {spec.features!r}", remedy="use fpn, c4 or dc5")
    if spec.features != "fpn" and (spec.backbone != "resnet" or len(spec.blocks) != 4):
        raise InputError(
            f"features {spec.features} of a {spec.backbone} backbone of {len(spec.blocks)} stages",
            remedy="use fpn, or a resnet of four stages",
        )
    if spec.features == "c4" and spec.box_pool != 2 * spec.mask_pool:
        raise InputError(
            f"features c4 with box_pool {spec.box_pool} and mask_pool {spec.mask_pool}",
            remedy="give box_pool twice mask_pool",
        )
    if unknown := sorted(set(spec.deform_stages) - set(spec.stages)):
        raise InputError(
            f"deformable stages {unknown}", remedy=f"use some of {', '.join(spec.stages)}"
        )
    if spec.deform_stages and spec.backbone != "resnet":
        raise InputError(f"deformable stages in a {spec.backbone} backbone", remedy="use a resnet")
    if len(spec.cascade_iou) != len(spec.cascade_weights):
        raise InputError(
            f"a cascade of {len(spec.cascade_iou)} IoUs and {len(spec.cascade_weights)} weights",
            remedy="give one of each per box head",
        )
    if spec.cascade_weights and spec.features == "c4":
        raise InputError("a cascade on features c4", remedy="use fpn or dc5")


def _check_attention(spec: ModelSpec) -> None:
    """Raise InputError where the fields make no transformer."""
    if spec.backbone not in ("resnet", "small", "swin", "mvit"):
        raise InputError(f"backbone {spec.backbone!r}", remedy="use resnet, small, swin or mvit")
    if not 0 <= spec.drop_path < 1:
        raise InputError(f"drop_path {spec.drop_path}", remedy="give a chance from 0 to below 1")
    if spec.backbone in ("resnet", "small"):
        return
    if spec.norm != "LN":
        raise InputError(f"norm {spec.norm} in a {spec.backbone} backbone", remedy="use LN")
    if len(spec.attention_heads) != len(spec.blocks):
        raise InputError(
            f"attention heads {spec.attention_heads} for {len(spec.blocks)} stages",
            remedy="give one number per stage",
        )
    first = spec.stage_channels[0]
    if spec.stage_channels != tuple(first * 2**i for i in range(len(spec.blocks))):
        raise InputError(
            f"stage_channels {spec.stage_channels} of a {spec.backbone} backbone",
            remedy="double them from stage to stage",
        )
    if any(c % h for c, h in zip(spec.stage_channels, spec.attention_heads, strict=True)):
        raise InputError(
            f"attention heads {spec.attention_heads} on channels {spec.stage_channels}",
            remedy="give numbers that divide the channels",
        )
    if spec.attention_window < 2:
        raise InputError(f"attention_window {spec.attention_window}", remedy="give at least 2")
    # Its windows are halved twice, and their keys pooled by four.
    if spec.backbone == "mvit" and spec.attention_window % 8:
        raise InputError(
            f"attention_window {spec.attention_window} of a mvit backbone",
            remedy="give a multiple of 8",
        )


def _check_targets(spec: ModelSpec) -> None:
    """Raise InputError where targets and their scaling contradict each other."""
    count = len(spec.targets)
    if len(set(spec.targets)) != count or "" in spec.targets:
        raise InputError(f"targets {list(spec.targets)}", remedy="name each attribute once")
    if len(spec.target_mean) != count or len(spec.target_std) != count:
        raise InputError(
            f"{len(spec.target_mean)} means and {len(spec.target_std)} deviations for {count} "
            "targets",
            remedy="give one of each per target",
        )
    if not all(map(math.isfinite, (*spec.target_mean, *spec.target_std))):
        raise InputError(
            f"target_mean {spec.target_mean}, target_std {spec.target_std}",
            remedy="give finite numbers",
        )
    if min(spec.target_std, default=1) <= 0 or spec.target_floor <= 0:
        raise InputError(
            f"target_std {spec.target_std}, target_floor {spec.target_floor}",
            remedy="give positive numbers",
        )
    if spec.target_components < 1:
        raise InputError(f"target_components {spec.target_components}", remedy="give at least 1")
