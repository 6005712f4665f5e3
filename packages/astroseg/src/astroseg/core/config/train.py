"""Where and how often a training run computes, saves and validates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from astroseg.core.config.tree import Count, Fraction, PositiveInt

Device = Annotated[str, msgspec.Meta(pattern=r"^(auto|[a-z]+(:\d+)?)$")]
Workers = Annotated[int, msgspec.Meta(ge=-1)]


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    device: Device = "auto"
    """cuda, cuda:N, cpu, or auto: the GPU where there is one."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision. auto: bf16 on GPUs that have it, else fp16; off on CPUs, where it gains
    nothing."""
    workers: Workers = -1
    """Processes that load images; -1: four per GPU, one on a CPU of several cores."""
    cache_mb: Count = 1024
    """Decoded images and masks kept in memory by all workers together, MiB. FITS and npy
    files need none: they are mapped."""
    seed: int = 0
    """Of the first weights, the order of the images, the augmentation and the sampling of
    proposals. Equal seeds give equal runs on one machine."""
    save_every: Count = 0
    """Steps between checkpoints; 0: one epoch, but at least 100 steps."""
    validate_every: Count = 0
    """Steps between validations; 0: one epoch, or a tenth of the run where that is longer."""
    validation_images: Count = 50
    """Images of the validation set used during training, evenly spread; 0 for all. Fifty
    dense tiles hold thousands of objects, enough to choose the best step."""
    validation_score: Fraction = 0.05
    """Detections below are not counted in validation: AP hardly gains from them, and they
    are most of the time (Detectron2's own limit for evaluation)."""
    patience: Count = 0
    """Validations without a better mask AP after which the run ends; 0: never."""
    log_every: PositiveInt = 10
    """Steps between lines of log.jsonl."""
    log_to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where the numbers of log.jsonl go, too. Each needs its extra: pip install
    'astroseg[tensorboard]'. The environment of wandb and mlflow says where they send them."""
