"""How long and how fast to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from astroseg.core.config.tree import Fraction, NonNegative, Positive, PositiveInt

BelowOne = Annotated[float, msgspec.Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class ScheduleConfig:
    """The schedule. What is None is as in the built-in schedule or file `name`."""

    name: str = "auto"
    """paper, tiny, fine-tune, or a TOML file; auto: tiny for the models tiny and sky, fine-tune
    from the weights of a built-in model, paper for the others."""
    epochs: Positive | None = None
    """Length, every stage keeping its share."""
    steps: PositiveInt | None = None
    """Length in steps instead of epochs."""
    batch: PositiveInt | None = None
    """Images per step, over all GPUs."""
    lr: Positive | None = None
    """Learning rate of the first stage; later stages keep their ratio to it."""
    crop: Positive | None = None
    """Side of the random window: fraction of the image's up to 1, px beyond (paper: 0.5)."""
    flips: bool | None = None
    """Whether images are mirrored and turned at random."""
    ema: BelowOne | None = None
    """Decay per step of the running mean of the weights that is the model; 0 for none."""
    weight_decay: NonNegative | None = None
    """Of all parameters but norms and biases, in every stage."""
    momentum: BelowOne | None = None
    """Of SGD, in every stage."""
    warmup: BelowOne | None = None
    """Fraction of each stage over which the rate rises from zero."""
    clip: NonNegative | None = None
    """Largest 2-norm of the gradient in every stage; 0 for no limit."""
    gamma: Fraction | None = None
    """Factor of the rate at each milestone."""
    accumulate: PositiveInt = 1
    """Parts a GPU's share of the batch is computed in, to save memory."""
