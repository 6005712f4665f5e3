"""The seam between the program and the libraries that train networks.

Data, augmentation, schedule and metrics know only this protocol and the plain arrays of
`astroseg.core.samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from astroseg.core.samples import Prediction, Sample
from astroseg.models.spec import ModelSpec
from astroseg.weights.checkpoint import LoadReport

Freeze = Literal["none", "heads"]


class Engine(Protocol):
    """Builds, trains, applies, stores and reads networks."""

    name: str

    def available(self) -> str | None:
        """None if the engine works here, else the reason why not and what to do."""
        ...

    def refusal(self, spec: ModelSpec) -> str | None:
        """None if the engine has this model, else why not."""
        ...

    def versions(self) -> dict[str, str]:
        """Of the libraries whose numbers it gives, by name."""
        ...

    def build(self, spec: ModelSpec, seed: int | None = None) -> torch.nn.Module:
        """A model with fresh weights, on the CPU, in training mode.

        The seed makes the weights reproducible and leaves torch's generator as it was.
        """
        ...

    def losses(self, model: torch.nn.Module, batch: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Scalar losses by name, to be summed; the model is in training mode.

        Images may differ in size. Arrays are moved to the model's device. The model may be
        wrapped for distributed training.
        """
        ...

    def predict(
        self, model: torch.nn.Module, batch: Sequence[NDArray[np.float32]]
    ) -> list[Prediction]:
        """Predictions of (C, H, W) images; needs no gradient; leaves the model's mode as it was.

        An image's prediction does not depend on the others in the batch.
        """
        ...

    def norms_held(
        self, model: torch.nn.Module, sample: Callable[[], list[NDArray[np.float32]]]
    ) -> AbstractContextManager[None]:
        """Within it, the backbone's group norms do to all images what they do to a sample's in the
        mean: (C, H, W) each, of one shape. A model without such norms asks for no sample.
        """
        ...

    def set_thresholds(
        self,
        model: torch.nn.Module,
        *,
        score: float | None = None,
        nms: float | None = None,
        detections: int | None = None,
    ) -> None:
        """Change what `predict` keeps; None leaves a value as it is."""
        ...

    def param_groups(self, model: torch.nn.Module, freeze: Freeze) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer; sets which parameters take a gradient.

        "heads" freezes the backbone's bottom-up network and trains pyramid, RPN and heads;
        "none" trains all. The first group takes the optimizer's weight decay, the second
        (norms and biases) has ``weight_decay`` 0.
        """
        ...

    def save(self, model: torch.nn.Module, path: str | Path, meta: Mapping[str, str]) -> None:
        """Write a checkpoint (`astroseg.weights.checkpoint`), atomically.

        ``meta`` goes into its header: bands, contrast, hash of the training data, and what
        else the caller wants to find there.
        """
        ...

    def load(
        self,
        model: torch.nn.Module,
        path: str | Path,
        *,
        allow_missing: Sequence[str] = (),
        adapt_channels: bool = False,
    ) -> LoadReport:
        """Place a checkpoint's weights in the model.

        Fails on anything not placed, unless its name matches a pattern of
        ``allow_missing`` (`astroseg.weights.checkpoint.CLASS_HEADS` for transfer to other classes).
        ``adapt_channels`` spreads the first convolution over another number of channels.
        """
        ...
