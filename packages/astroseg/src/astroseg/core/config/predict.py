"""How a model is applied to images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from astroseg.core.config.tree import Count, Fraction, NonNegative, PositiveInt

Devices = Annotated[str, msgspec.Meta(pattern=r"^(auto|[a-z]+(:\d+)?(,[a-z]+(:\d+)?)*)$")]
AtLeastOne = Annotated[float, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class PredictConfig:
    """One run of prediction."""

    score: Fraction | None = None
    """Detections below are dropped; None for the model's own limit, 0.5 as in the paper. AP wants
    the whole list: 0.05 before measuring it. It is a limit of the score as it is written, of the
    probability where the checkpoint is calibrated."""
    purity: Fraction | None = None
    """Instead of `score`, for a calibrated checkpoint: the lowest score whose detections were
    this pure on the calibration's validation set (mask IoU 0.5 and more)."""
    calibrated: bool = True
    """Give as score the probability that a detection is right, where `astroseg calibrate` put
    the map into the checkpoint, and the network's own as raw_score. A network's own scores are
    too high or too low by an amount that differs from model to model."""
    calibration_score: Fraction = 0.05
    """Detections below this raw score are not fitted by `astroseg calibrate`: there are many,
    nearly all wrong, and they would decide the fit of the rest."""
    nms: Fraction | None = None
    """Box IoU above which the weaker of two detections of a class goes; None for the
    model's own limit: the paper's 0.3, or 0.5 for tiny, which was trained for it."""
    detections: Count = 0
    """Most detections of an image or tile of the paper's 1000x1000 px (of 256x256 px for the
    model tiny), in proportion more of larger ones; 0 for the model's own limit. Where it was
    reached is printed."""
    zeropoint: tuple[float, ...] = ()
    """AB magnitude of one unit of flux of images that do not say theirs: one number, or one for
    each band in the image's order."""
    scale_tolerance: AtLeastOne = 1.25
    """Greatest factor between an image's pixel scale and those of the training images, where
    both are known; beyond it the image is refused. The seeing, which a network also learns,
    differs as much from image to image."""
    device: Devices = "auto"
    """cuda, cuda:N, cpu, or auto: the GPU where there is one. Several, such as cuda:0,cuda:1, share
    the tiles, a process each; the detections are the same."""
    tile_size: Count = 0
    """Side in px of the tiles that an image is predicted in; 0: that of the images the model
    was trained on, but from `least_tile` to `whole_up_to`. Smaller images are predicted whole."""
    least_tile: PositiveInt = 640
    """Side in px of the tiles for models trained on smaller images: seams then are few. Larger
    ones cost more a pixel, as what a network pools from then lies far apart in memory."""
    tile_unknown: PositiveInt = 1024
    """Side in px of the tiles where a checkpoint does not hold the size of its training
    images."""
    overlap: Count = 128
    """Of neighbouring tiles in px. Twice the size of nearly all objects (99.97 % of the
    HSC labels are smaller than 32 px), so that one of the tiles sees each object whole."""
    whole_up_to: PositiveInt = 1536
    """Longest side in px of an image predicted whole, where `tile_size` does not say it: memory
    grows with it, about 2 GB for a ResNet-50 at 1536 px."""
    norm_window: PositiveInt = 256
    """Side in px of the windows, spread over an image of several tiles, at which the group norms of
    tiny and sky are held for all its tiles: a norm that sees one tile scales by what lies in it. As
    large as the images these models are trained on."""
    norm_windows: Count = 4
    """Most such windows along a side: 1024x1024 px in all take a second of a core. 0: each tile has
    norms of its own."""
    seam_iou: Fraction = 0.3
    """Mask IoU, where both tiles see, above which two detections of different tiles are one
    object. Low, because tiles outline the same source a little differently."""
    source_iou: Fraction = 0.5
    """Mask IoU above which two detections of any classes are one source, and the better one is
    kept; its class probabilities hold the other class. 1 keeps both, as COCO's AP counts
    them. Two labels of one tile overlap that much only where one source was labelled twice."""
    concentric: NonNegative = 0.6
    """Distance of two masks' centres, in radii of the smaller one, within which a mask inside
    another shows the same source, such as the core of a saturated star; 0 for none. For the model
    sky, on simulated skies, 0.6 instead of 0.25 loses 0.3 percent of the sources, and 11 percent of
    the false detections."""
    pieces: Literal["largest", "all"] = "largest"
    """Of a mask in several pieces: sources are connected, as astrolabel's labels are. all: for
    labels that are not."""
    batch: Count = 0
    """Tiles predicted at once; 0: four on a GPU, one on a CPU, where more only cost memory."""
    catalog: Literal["fits", "parquet"] = "fits"
    """Format of the sky catalog."""
    segmentation: bool = True
    """Whether to write a segmentation map of each image: int32 FITS with its WCS."""
    overlays: Annotated[int, msgspec.Meta(ge=-1)] = 20
    """Images of which a picture with outlines is written; -1 for all."""
    overlay_score: Fraction | None = None
    """Detections below are not drawn; None for the model's own limit, as in `score`. Predictions
    made for AP go down to noise, which would hide the sources."""
