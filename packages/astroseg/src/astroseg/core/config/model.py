"""Which network, by which library, from which weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from astroseg.core.config.tree import Fraction, NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class ModelConfig:
    """The network. What is None is the model's own (`astroseg.models.sizes`)."""

    name: str = "tiny"
    """Of `astroseg models`. tiny learns from scratch in minutes on a CPU."""
    engine: Literal["auto", "torchvision", "detectron2"] = "auto"
    """Library that runs it. auto: torchvision, detectron2 with a configuration file; for a
    checkpoint what trained it, where that is installed."""
    file: str = ""
    """Detectron2 configuration file that says the model in the place of `name`; a .py file is
    RUN. To predict it is needed only where it has parts of its own making."""
    keep_limits: bool = False
    """Leave that file's limits of proposals and detections as they are, which on pictures of
    a few large objects hide nothing; else they are raised to the paper's."""
    weights: str = ""
    """Checkpoint to start from, or a name in `astroseg models`, which is downloaded once; empty
    starts from random weights, with group norm where the model would need statistics of
    pre-trained ones."""
    weights_sha256: str = ""
    """Hash of a download that is trusted though none is published, or in place of
    what is published; 64 hexadecimal digits."""
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    """Anchors in px, one list of sizes per pyramid level: [[8], [16], [32], [64], [128]] in the
    paper's models."""
    aspect_ratios: tuple[float, ...] | None = None
    """Height / width of the anchors."""
    rpn_iou: tuple[float, float] | None = None
    """An anchor is background below the first IoU, an object from the second."""
    rpn_batch: PositiveInt | None = None
    """Anchors per image in the loss (paper: 512)."""
    rpn_positive: Fraction | None = None
    """Largest fraction of objects among them."""
    rpn_pre_nms_top_n: tuple[int, int] | None = None
    """Proposals per level before suppression in training and prediction (paper: 6000)."""
    rpn_post_nms_top_n: tuple[int, int] | None = None
    """Proposals per image after suppression in training and prediction."""
    rpn_nms: Fraction | None = None
    """IoU above which the weaker of two proposals goes."""
    roi_iou: Fraction | None = None
    """A proposal is an object from this IoU."""
    roi_batch: PositiveInt | None = None
    """Proposals per image in the loss (paper: 512)."""
    roi_positive: Fraction | None = None
    """Largest fraction of objects among them (paper: 0.33)."""
    box_pool: PositiveInt | None = None
    """Features on a side that a region is pooled to for its box and class."""
    mask_pool: PositiveInt | None = None
    """The same for its mask, which has twice as many pixels on a side."""
    sampling_ratio: int | None = None
    """Samples per pooled bin and axis; 0 takes as many as the bin has pixels."""
    smooth_l1_beta: NonNegative | None = None
    """Where the box losses turn from squares to absolute values; 0: L1."""
    class_weights: tuple[float, ...] | None = None
    """Of each class in the loss of the classes, in the dataset's order; none: all 1. More for the
    rarer class where its recall matters more than its purity."""
    focal_gamma: NonNegative | None = None
    """Of the focal loss of the classes, 2 in its paper; 0 is the cross entropy, which Mask R-CNN
    has: its samples are balanced already."""
    targets: tuple[str, ...] = ()
    """Attributes of objects to learn, with uncertainty: any numbers under `attributes` of the
    annotations, as redshift,mag_i. Unknown values are in no loss."""
    target_components: PositiveInt = 5
    """Gaussians that a target's probability density is made of; five can hold the two or three
    peaks of photometric redshifts (DeepDISC's number)."""
    target_floor: Positive = 0.01
    """Least deviation of such a Gaussian, in deviations of the training set's values: without it
    values that repeat are learned ever more sharply, and the loss has no end."""
    ignore_cover: Fraction | None = None
    """Background with more than this fraction of its pixels in an ignore region takes no part in
    a loss (0.5: more than half of it is unknown)."""
    tight_boxes: bool | None = None
    """Draw boxes around the predicted masks: for tiny, whose regressed boxes of small objects are
    less exact (box AP 0.39 for 0.43, same weights, 500 steps)."""
    mask_margin: Fraction | None = None
    """Part by which the sides of a mask's region are longer than those of its box, in which masks
    are cut off. The paper's models have none."""
    drop_path: Fraction | None = None
    """Chance that a training image skips the last block of a transformer."""
    pixel_std: Positive | None = None
    """Deviation that inputs are divided by, in the contrast's unit."""
