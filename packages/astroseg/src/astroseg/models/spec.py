"""What a network is: its name, size and limits, as one frozen dataclass that imports no torch.

`model_spec` makes a `ModelSpec` by name. The spec travels in the header of every
checkpoint, so a model can be rebuilt from its file alone.

"D2" in the comments is Detectron2's default configuration, whose conventions and parameter
names the networks follow so that weights can cross. "Paper" is the published recipe for
dense HSC fields.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from astroseg.core.errors import InputError
from astroseg.models.consistency import check
from astroseg.models.sizes import MODELS, SMALL, TRANSFORMERS

Norm = Literal["FrozenBN", "BN", "GN", "LN"]
HeadNorm = Literal["", "GN", "LN"]

# Means and deviations of the model zoo's 8-bit images, blue first (D2's PIXEL_MEAN).
ZOO_MEAN_BGR = (103.530, 116.280, 123.675)
# MSRA's weights have the deviation folded into the first convolution; X-101-32x8d's do not.
ZOO_STD_MSRA = (1.0, 1.0, 1.0)
ZOO_STD_X101_BGR = (57.375, 57.120, 58.395)
# The transformers see red first.
ZOO_MEAN_RGB, ZOO_STD_RGB = ZOO_MEAN_BGR[::-1], ZOO_STD_X101_BGR[::-1]

REFERENCE_AREA = 1000.0**2
"""px^2 of the paper's tiles, which its limit of 1000 detections was made for."""

MIN_TOP_N = 100
"""Proposals that even the smallest image gets where their number goes with the area."""

# Fields that may differ between a checkpoint and the model it is loaded into: they change
# what is learned or kept, never what a stored weight means.
NOT_STRUCTURE = frozenset(
    {
        "name",
        "classes",
        "channels",
        "rpn_iou",
        "rpn_batch",
        "rpn_positive",
        "rpn_pre_nms_top_n",
        "rpn_post_nms_top_n",
        "rpn_top_n_area",
        "rpn_nms",
        "roi_iou",
        "cascade_iou",
        "roi_batch",
        "roi_positive",
        "smooth_l1_beta",
        "ignore_cover",
        "class_weights",
        "focal_gamma",
        "drop_path",
        "score_threshold",
        "nms_threshold",
        "nms_any_class",
        "detections_per_image",
        "tight_boxes",
        "mask_margin",
        "config_program",
    }
)

# Of the head that learns attributes: another head where the targets are others.
_TARGETS = ("targets", "target_mean", "target_std", "target_components", "target_floor")

# These mean nothing to weights that are spread over another number of channels.
_PIXELS = ("pixel_mean", "pixel_std", "reverse_channels")


@dataclass(frozen=True)
class ModelSpec:
    """One Mask R-CNN.

    Attributes
    ----------
    name : of `MODELS`, for people; the fields below say what is built.
    channels : of the input image.
    classes : their names, in the order of the labels.
    backbone : "resnet": stem at stride 4, bottleneck stages. "small": 3x3 stem at stride 1,
        basic stages that each halve the resolution. "swin": patches at stride 4, stages of
        attention inside shifted windows. "mvit": patches at stride 4, stages of attention on
        pooled features.
    features : what proposals and heads see. "fpn": a pyramid of all stages. "c4": the stage at
        stride 16, with the last stage applied to each region. "dc5": the last stage, kept at
        stride 16 by dilation.
    blocks : of each stage, res2 first.
    stem_channels, stage_channels : of a convolutional stem and of each stage's output.
    groups, group_width : of the bottlenecks' 3x3 convolutions in res2 (32 and 8 for X101).
    stride_in_1x1 : whether a bottleneck halves the resolution in its first 1x1 convolution
        (MSRA's R50 and R101) or in its 3x3 (X101).
    deform_stages : names of the stages whose 3x3 convolutions are deformable (Dai et al.
        2017: they learn where to look, without the modulation of the second version).
    attention_heads, attention_window : of each stage of a transformer, and the side of the
        windows inside which its features see each other, in features. The window of "mvit" is
        that of the finest stage; the next has half as many, and so on.
    drop_path : chance that a training image skips the last block of a transformer; it grows
        from 0 in the first. Changeable.
    norm : "FrozenBN" (statistics and scales of pre-trained weights, never updated; without
        such weights it diverges, use `for_scratch`), "BN", "GN", or "LN" of the
        transformers, which have no other.
    norm_groups : of GN.
    head_norm : of the pyramid's and the heads' convolutions, but for the RPN's.
    fpn_channels : of the pyramid.
    fpn_extra_level : whether one more level is subsampled from the coarsest (D2's P6).
    anchor_sizes : px, one tuple of sizes per pyramid level.
    aspect_ratios : height / width of the anchors.
    anchor_offset : strides from the image's corner to the first anchor's centre; 0 in
        Detectron2 and its model zoo, though 0.5 is the middle of the first feature.
    rpn_convs : 3x3 convolutions before its answers.
    rpn_iou : an anchor is background below the first, an object from the second.
    rpn_batch, rpn_positive : anchors sampled per image for the loss, and the largest
        fraction of objects among them.
    rpn_pre_nms_top_n, rpn_post_nms_top_n : proposals kept per level before and per image
        after suppression, each (training, prediction).
    rpn_top_n_area : px^2; an image of another area gets these numbers in proportion, so that
        tiles of any size are searched alike. None: the same numbers for every image (D2).
    rpn_nms : IoU above which the weaker of two proposals goes.
    roi_iou : a proposal is an object from this IoU.
    cascade_iou, cascade_weights : of each of a cascade's box heads, as `roi_iou` and
        `box_weights`, in whose place they stand; none: one box head per class. The heads of
        a cascade share one box among the classes.
    roi_batch, roi_positive : as of the RPN, for proposals.
    box_pool, mask_pool : pooled size of a region for each head; a mask has twice mask_pool.
        In "c4" regions are pooled once, at box_pool, and mask_pool is what is left of it
        after the last stage: half.
    sampling_ratio : samples per pooled bin and axis; 0 takes as many as the bin has pixels.
    canonical_size, canonical_level : a region of this size in px pools from this level
        (log2 of its stride), others from levels above or below by log2 of their size.
    box_conv_dim, box_convs : 3x3 convolutions before the fully connected layers.
    box_head_dim, box_head_layers : fully connected layers.
    mask_head_dim, mask_head_layers : 3x3 convolutions.
    box_weights : factors of (dx, dy, log dw, log dh) in the second stage; the first has 1.
    smooth_l1_beta : where the box losses turn from squares to absolute values; 0: L1.
    ignore_cover : anchors and proposals that are background, and have more than this fraction
        of their pixels in a region without truth, take no part in any loss. Changeable.
    class_weights : of each class in the loss of the classes, 1 for the background; none: all
        are 1. Changeable.
    focal_gamma : of the focal loss (Lin et al. 2017) of the classes: 2 there; 0 is the cross
        entropy. Changeable.
    score_threshold : detections below are dropped. Changeable after training.
    nms_threshold : IoU above which the weaker of two boxes of one class goes. Changeable.
    nms_any_class : a second suppression among all classes, or None. Changeable.
    detections_per_image : most detections kept; of larger images than the paper's tiles (or
        than `rpn_top_n_area`) in proportion to their area, see `most_detections`. Changeable.
    tight_boxes : whether a detection's box is drawn around its mask: regressed boxes are the less
        exact ones of small objects. Changeable.
    mask_margin : how much longer than the box's the sides of its mask's region are, as a part. A
        mask cannot leave its region, and boxes are inexact: without a margin the masks of small
        objects are too small.
    least_side : px; prediction puts smaller images into the middle of empty sky of this size.
        Group norm takes its statistics from the whole image: those of a cutout full of one
        galaxy are unlike any of training. Changeable.
    reverse_channels : whether the network sees the channels last to first: images come red
        first, the model zoo's weights want blue first.
    pixel_mean, pixel_std : per channel as the network sees them, in the input's unit.
    targets : attributes of objects that are learned, as mixtures of Gaussians.
    target_mean, target_std : of each, what its values are standardised by.
    target_components : Gaussians of a mixture.
    target_floor : least deviation of a Gaussian, of the standardised values.
    config : a user's Detectron2 configuration (`astroseg.engines.detectron2.override`), which
        then says what is built in the place of the fields of the network above; "" for the
        models of this program.
    config_program : text of that configuration's file where its model has parts that are
        programs of its user's: it is built only beside the same file, given again.
    """

    name: str
    channels: int
    classes: tuple[str, ...]
    backbone: Literal["resnet", "small", "swin", "mvit"] = "resnet"
    features: Literal["fpn", "c4", "dc5"] = "fpn"
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    stem_channels: int = 64
    stage_channels: tuple[int, ...] = (256, 512, 1024, 2048)
    groups: int = 1
    group_width: int = 64
    stride_in_1x1: bool = True
    deform_stages: tuple[str, ...] = ()
    attention_heads: tuple[int, ...] = ()
    attention_window: int = 7
    drop_path: float = 0.0
    norm: Norm = "FrozenBN"
    norm_groups: int = 32
    head_norm: HeadNorm = ""
    fpn_channels: int = 256
    fpn_extra_level: bool = True
    anchor_sizes: tuple[tuple[float, ...], ...] = ((8,), (16,), (32,), (64,), (128,))  # paper
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # D2
    anchor_offset: float = 0.0  # D2
    rpn_convs: int = 1  # D2
    rpn_iou: tuple[float, float] = (0.3, 0.7)  # D2
    rpn_batch: int = 512  # paper; D2: 256
    rpn_positive: float = 0.5  # D2
    rpn_pre_nms_top_n: tuple[int, int] = (6000, 6000)  # paper
    rpn_post_nms_top_n: tuple[int, int] = (6000, 6000)  # paper: nothing lost in dense fields
    rpn_top_n_area: float | None = None
    rpn_nms: float = 0.7  # D2
    roi_iou: float = 0.5  # D2
    cascade_iou: tuple[float, ...] = ()
    cascade_weights: tuple[tuple[float, float, float, float], ...] = ()
    roi_batch: int = 512  # paper and D2
    roi_positive: float = 0.33  # paper; D2: 0.25
    box_pool: int = 7  # D2
    mask_pool: int = 14  # D2
    sampling_ratio: int = 0  # D2
    canonical_size: float = 224.0  # D2: ImageNet's
    canonical_level: int = 4  # D2
    box_conv_dim: int = 256  # D2
    box_convs: int = 0  # D2
    box_head_dim: int = 1024  # D2
    box_head_layers: int = 2  # D2
    mask_head_dim: int = 256  # D2
    mask_head_layers: int = 4  # D2
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)  # D2
    smooth_l1_beta: float = 0.0  # D2
    ignore_cover: float = 0.5  # more than half unknown: COCO's rule for iscrowd has no limit
    class_weights: tuple[float, ...] = ()
    focal_gamma: float = 0.0  # D2
    score_threshold: float = 0.5  # paper
    nms_threshold: float = 0.3  # paper
    nms_any_class: float | None = None
    detections_per_image: int = 1000  # paper
    tight_boxes: bool = False
    mask_margin: float = 0.0
    least_side: int = 0
    reverse_channels: bool = False
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()
    targets: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    target_components: int = 5  # DeepDISC's photometric redshifts
    target_floor: float = 0.01
    config: str = ""
    config_program: str = ""

    def __post_init__(self) -> None:
        check(self)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the residual stages, finest first."""
        return tuple(f"res{i + 2}" for i in range(len(self.blocks)))

    @property
    def first_level(self) -> int:
        """log2 of the stride of the finest level that regions are pooled from."""
        if self.features != "fpn":
            return 4
        return 1 if self.backbone == "small" else 2

    @property
    def pool_levels(self) -> int:
        """How many levels regions are pooled from."""
        return len(self.blocks) if self.features == "fpn" else 1

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels that hold anchors, px, finest first."""
        levels = self.pool_levels + int(self.fpn_extra_level)
        return tuple(2 ** (self.first_level + i) for i in range(levels))

    @property
    def feature_channels(self) -> int:
        """Of the features that proposals are made from and regions pooled from."""
        if self.features == "fpn":
            return self.fpn_channels
        return self.stage_channels[-1 if self.features == "dc5" else -2]

    @property
    def mask_channels(self) -> int:
        """Of the features that the mask head sees."""
        return self.stage_channels[-1] if self.features == "c4" else self.feature_channels

    @property
    def divisor(self) -> int:
        """Images are padded to a multiple of this, px: the coarsest stage's stride.

        Only a pyramid needs it, whose levels are added to one another.
        """
        if self.features != "fpn":
            return 1
        return int(2 ** (self.first_level + len(self.blocks) - 1))

    @property
    def bottom_up(self) -> str:
        """Start of the names of the parameters that come pre-trained from classification."""
        return "backbone.bottom_up." if self.features == "fpn" else "backbone."

    @property
    def first_convolution(self) -> str:
        """Name of the weights that meet the image's channels."""
        stem = "stem.conv1" if self.backbone in ("resnet", "small") else "patch_embed.proj"
        return f"{self.bottom_up}{stem}.weight"

    def top_n(self, shape: tuple[int, int], *, prediction: bool) -> tuple[int, int]:
        """Proposals kept before (per level) and after suppression, of a (height, width)."""
        numbers = self.rpn_pre_nms_top_n[prediction], self.rpn_post_nms_top_n[prediction]
        if self.rpn_top_n_area is None:
            return numbers
        scale = shape[0] * shape[1] / self.rpn_top_n_area
        # A small image may hold one dense clump.
        before, after = (max(math.ceil(n * scale), min(n, MIN_TOP_N)) for n in numbers)
        return before, after

    def most_detections(self, shape: tuple[int, int]) -> int:
        """The most detections kept of an image of that (height, width)."""
        scale = shape[0] * shape[1] / (self.rpn_top_n_area or REFERENCE_AREA)
        return math.ceil(self.detections_per_image * max(1.0, scale))

    def for_scratch(self) -> ModelSpec:
        """The same network able to train without pre-trained weights.

        Frozen batch norm without statistics diverges, and batch norm is noisy at the one
        or two images that fit a step. Group norm, in the pyramid and mask head too, needs
        neither, nor does a transformer's layer norm.
        """
        if self.norm in ("GN", "LN") or self.config:
            return self
        return dataclasses.replace(self, norm="GN", head_norm="GN")


def model_spec(
    name: str, *, channels: int, classes: tuple[str, ...], **overrides: Any
) -> ModelSpec:
    """The model of that name for images of that many channels and those classes.

    Parameters
    ----------
    overrides : fields of ModelSpec. ``pixel_mean`` and ``pixel_std`` may be one number for
        all channels; they depend on the contrast: the defaults are, for tiny, those of
        asinh(flux / sigma), and for the others those of 8-bit images.

    Raises
    ------
    InputError : unknown name, unknown field, or fields that contradict each other.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}", remedy=f"use one of {', '.join(MODELS)}")
    known = {field.name for field in dataclasses.fields(ModelSpec)}
    if unknown := sorted(set(overrides) - known):
        raise InputError(
            f"model {name} has no setting {', '.join(unknown)}",
            remedy=f"use one of {', '.join(sorted(known))}",
        )
    values = {**_pixels(name, channels), **MODELS[name], **overrides}
    for field in ("pixel_mean", "pixel_std"):
        if isinstance(values[field], int | float):
            values[field] = (float(values[field]),) * channels
    return _make({**values, "name": name, "channels": channels, "classes": tuple(classes)})


def _pixels(name: str, channels: int) -> dict[str, Any]:
    """Default scaling of the pixels: of the contrast the model is meant for."""
    if name in SMALL:
        # Of asinh(flux / sigma) over simulated deep tiles: sky near 0, sources up to 8.
        return {"pixel_mean": 0.5, "pixel_std": 1.5}
    if name in TRANSFORMERS:
        if channels == 3:
            return {"pixel_mean": ZOO_MEAN_RGB, "pixel_std": ZOO_STD_RGB}
        return {"pixel_mean": sum(ZOO_MEAN_RGB) / 3, "pixel_std": sum(ZOO_STD_RGB) / 3}
    std = ZOO_STD_X101_BGR if name.startswith("x101") else ZOO_STD_MSRA
    if channels == 3:
        return {"reverse_channels": True, "pixel_mean": ZOO_MEAN_BGR, "pixel_std": std}
    return {"pixel_mean": sum(ZOO_MEAN_BGR) / 3, "pixel_std": sum(std) / 3}


def _tuples(value: Any) -> Any:
    """Lists, as JSON gives them, to tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _make(values: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(**{key: _tuples(value) for key, value in values.items()})


def to_dict(spec: ModelSpec) -> dict[str, Any]:
    """Every field, ready for JSON."""
    return dataclasses.asdict(spec)


def from_dict(values: Mapping[str, Any], *, file: str | None = None) -> ModelSpec:
    """The spec that `to_dict` wrote, also after a journey through JSON.

    Raises
    ------
    InputError : fields are missing or of another version of this program.
    """
    known = {field.name for field in dataclasses.fields(ModelSpec)}
    unknown = sorted(set(values) - known)
    missing = sorted({"name", "channels", "classes"} - set(values))
    if unknown or missing:
        raise InputError(
            f"the model's description has unknown fields {unknown} and lacks {missing}",
            file=file,
            remedy="use the version of astroseg that wrote it",
        )
    try:
        return msgspec.convert(dict(values), ModelSpec)
    except msgspec.ValidationError as error:
        raise InputError(
            f"the model's description is none that can be built: {error}",
            file=file,
            remedy="use the checkpoint as it was written",
        ) from error


def structure_differences(stored: ModelSpec, wanted: ModelSpec) -> list[str]:
    """What differs in the meaning of weights, one clause per field; empty if nothing does."""
    found = []
    for field in dataclasses.fields(ModelSpec):
        a, b = getattr(stored, field.name), getattr(wanted, field.name)
        pixels = field.name in _PIXELS and stored.channels != wanted.channels
        if field.name in _TARGETS and stored.targets != wanted.targets:
            continue  # `place` names them, as it does classes
        if field.name == "config" and a != b:
            found.append("it was made from another Detectron2 configuration file, or from none")
        elif field.name not in NOT_STRUCTURE and not pixels and a != b:
            found.append(f"{field.name} is {a} in the file, {b} in the model")
    return found
