"""What a run depends on: unit, default and the reason for it.

Frozen dataclasses of plain values, so that they can be written beside the results, read
back and compared. What belongs to the schedule is in `astroseg.training.schedule`, what belongs
to a network in `astroseg.models.spec`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

LUPTON_STRETCH = 0.5  # paper, section 3.3, in HSC counts (zero point 27); 100 for its DECam

LUPTON_Q = 10.0  # paper, section 3.3


@dataclass(frozen=True)
class DataConfig:
    """How pixels become what the network sees."""

    contrast: str = "auto"
    """One of `astroseg.data.contrast.CONTRASTS`, or auto: asinh, which takes any number of
    bands and neither clips stars nor hides faint wings as the paper's 8-bit scalings do;
    none for ordinary 8-bit pictures."""
    stretch: float = LUPTON_STRETCH
    """Of the Lupton scalings, in the images' flux unit (paper, section 3.3; 100 for its
    DECam simulations, appendix A)."""
    q: float = LUPTON_Q
    """Of the Lupton scalings (paper, section 3.3)."""
    bands: tuple[str, ...] = ()
    """Bands the network gets, in order; () for all in the order of the first image."""
    nan: str = "refuse"
    """Pixels that are not finite: "refuse" names the image and their number, because an
    unmasked NaN spreads through a whole feature map; "zero" sets them to zero, the level
    of the subtracted sky, for images that mark missing data so."""
    images: str = ""
    """Folder the image names are relative to; empty for that of the dataset file."""
    classes: tuple[str, ...] = ()
    """Names for lists of Detectron2 records, which have none."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    model: str = "tiny"
    """Name in `astroseg.models.spec.MODELS`."""
    engine: str = "auto"
    """Library that trains it."""
    config: str = ""
    """Detectron2 configuration file that says the model, in the place of `model`."""
    keep_limits: bool = False
    """Leave that file's limits of proposals and detections as they are, which on pictures of
    a few large objects hide nothing; else they are raised to the paper's."""
    weights: str = ""
    """Checkpoint to start from, or a name in `astroseg.weights.pretrained.PRETRAINED`, which is
    downloaded once; empty starts from random weights, with group norm where
    the model would need statistics of pre-trained ones."""
    weights_sha256: str = ""
    """Hash of a download that is trusted though nobody publishes its hash, or in place of
    what is published; 64 hexadecimal digits."""
    data: DataConfig = field(default_factory=DataConfig)
    schedule: str = ""
    """Built-in name or TOML file; empty: tiny for the model tiny, paper for the others."""
    epochs: float | None = None
    """Length instead of the schedule's, every stage keeping its share."""
    steps: int | None = None
    """The same in steps."""
    batch: int | None = None
    """Images per step instead of the schedule's, over all GPUs."""
    lr: float | None = None
    """Learning rate of the first stage instead of the schedule's."""
    crop: float | None = None
    """Window instead of the schedule's: fraction of the side (<= 1) or pixels (> 1)."""
    accumulate: int = 1
    """Parts a GPU's share of the batch is computed in, to save memory."""
    amp: str = "auto"
    """Mixed precision: off, bf16, fp16, or auto: bf16 on GPUs that have it, else fp16; off
    on CPUs, where it gains nothing."""
    device: str = "auto"
    """cuda, cpu, or auto: the GPU where there is one."""
    workers: int = -1
    """Processes that load images; -1: four per GPU, one on a CPU of several cores."""
    cache_mb: int = 1024
    """Decoded images and masks kept in memory by all workers together, MiB. FITS and npy
    files need none: they are mapped."""
    seed: int = 0
    """Of the first weights, the order of the images, the augmentation and the sampling of
    proposals. Equal seeds give equal runs on one machine."""
    save_every: int = 0
    """Steps between checkpoints; 0: one epoch, but at least 100 steps."""
    validate_every: int = 0
    """Steps between validations; 0: one epoch, or a tenth of the run where that is longer."""
    validation_images: int = 50
    """Images of the validation set used during training, evenly spread; 0 for all. Fifty
    crowded tiles hold thousands of objects, enough to choose the best step."""
    log_every: int = 10
    """Steps between lines of the log."""


@dataclass(frozen=True)
class PredictConfig:
    """One run of prediction."""

    score: float | None = None
    """Detections below are dropped; None for the model's own limit, 0.5 as in the paper.
    AP wants the whole list: 0.05 before measuring it."""
    nms: float | None = None
    """Box IoU above which the weaker of two detections of a class goes; None for the
    model's own limit: the paper's 0.3, or 0.5 for tiny, which was trained for it."""
    detections: int = 0
    """Most detections of an image or tile of the paper's 1000x1000 px (of 256x256 px for the
    model tiny), in proportion more of larger ones; 0 for the model's own limit. Where it was
    reached is printed."""
    engine: str = "auto"
    """Library that runs the model; auto: any that can read the checkpoint."""
    config: str = ""
    """Detectron2 configuration file the model was trained from, where that has parts of its
    own making: it is run, if it is still the same."""
    device: str = "auto"
    """cuda, cpu, or auto: the GPU where there is one."""
    tile_size: int = 0
    """Side in px of the tiles that an image is predicted in; 0: that of the images the model
    was trained on, but from 512 px to `whole_up_to`. Smaller images are predicted whole."""
    overlap: int = 128
    """Of neighbouring tiles in px. Twice the size of nearly all objects (99.97 % of the
    HSC labels are smaller than 32 px), so that one of the tiles sees each object whole."""
    whole_up_to: int = 1536
    """Longest side in px of an image predicted whole, where `tile_size` does not say it: memory
    grows with it, about 2 GB for a ResNet-50 at 1536 px."""
    seam_iou: float = 0.3
    """Mask IoU, where both tiles see, above which two detections of different tiles are one
    object. Low, because tiles outline the same source a little differently."""
    source_iou: float = 0.5
    """Mask IoU above which two detections of any classes are one source, and the better one is
    kept; its class probabilities tell of the other class. 1 keeps both, as COCO's AP counts
    them. Two labels of one tile overlap that much only where one source was labelled twice."""
    batch: int = 0
    """Tiles predicted at once; 0: four on a GPU, one on a CPU, where more only cost memory."""
    data: DataConfig = field(default_factory=DataConfig)
    """Only images, nan and classes count: the checkpoint knows contrast and bands."""
    catalog: str = "fits"
    """Format of the sky catalog: fits or parquet."""
    overlays: int = 20
    """Images of which a picture with outlines is written; -1 for all."""
    overlay_score: float = 0.5
    """Detections below are not drawn (the paper's threshold): predictions made for AP go
    down to noise, and nobody could see the sources under them."""


def to_dict(config: Any) -> dict[str, Any]:
    """Every field of a configuration, nested ones too, as plain values."""
    return dataclasses.asdict(config)
