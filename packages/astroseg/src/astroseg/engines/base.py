"""The seam between the program and the libraries that train networks.

Data, augmentation, schedule and metrics know only this class and the plain arrays of
`astroseg.core.samples`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.samples import Prediction, Sample
from astroseg.engines.common import inferring
from astroseg.models.norms import group_norms, held
from astroseg.models.spec import ModelSpec
from astroseg.weights.checkpoint import (
    Header,
    LoadReport,
    place,
    read_checkpoint,
    write_checkpoint,
)

Freeze = Literal["none", "heads"]


class Engine(ABC):
    """Builds, trains, applies, stores and reads networks.

    Attributes
    ----------
    name : what the command line calls it.
    spec_name : attribute of a model that holds its `ModelSpec`.
    """

    name: str
    spec_name: str

    def available(self) -> str | None:
        """None if the engine works here, else the reason why not and what to do."""
        return None

    @abstractmethod
    def refusal(self, spec: ModelSpec) -> str | None:
        """None if the engine has this model, else why not."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Of the libraries whose numbers it gives, by name."""

    @abstractmethod
    def build(self, spec: ModelSpec, seed: int | None = None) -> torch.nn.Module:
        """A model with fresh weights, on the CPU, in training mode.

        The seed makes the weights reproducible and leaves torch's generator as it was.

        Raises
        ------
        InputError : the engine has no such model.
        """

    @abstractmethod
    def losses(self, model: torch.nn.Module, batch: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Scalar losses by Detectron2's names, to be summed; the model is in training mode.

        Images may differ in size. Arrays are moved to the model's device. The model may be
        wrapped for distributed training.

        Raises
        ------
        InputError : an image has another number of channels than the model.
        """

    @abstractmethod
    def predict(
        self, model: torch.nn.Module, batch: Sequence[NDArray[np.float32]]
    ) -> list[Prediction]:
        """Predictions of (C, H, W) images; needs no gradient; leaves the model's mode as it was.

        An image's prediction does not depend on the others in the batch.

        Raises
        ------
        InputError : an image has another number of channels than the model, or NaN pixels.
        """

    @abstractmethod
    def see(self, plain: Any, images: Sequence[NDArray[np.float32]]) -> None:
        """Run the backbone of a model out of its wrapper over (C, H, W) images of one shape."""

    @abstractmethod
    def bottom_up(self, plain: Any) -> str:
        """Start of the names of the parameters of the network that came pre-trained:
        ``backbone.bottom_up``, or all of ``backbone`` where there is no pyramid."""

    def entrance(self, plain: Any) -> str:
        """Name of the first convolution's weight; empty where the model's spec says it."""
        return ""

    def plain(self, model: torch.nn.Module) -> Any:
        """The model itself, out of a distributed wrapper."""
        while not isinstance(getattr(model, self.spec_name, None), ModelSpec):
            inner = getattr(model, "module", None)
            if not isinstance(inner, torch.nn.Module):
                raise TypeError(f"{type(model).__name__} was not built by this engine")
            model = inner
        return model

    def norms_held(
        self, model: torch.nn.Module, sample: Callable[[], list[NDArray[np.float32]]]
    ) -> AbstractContextManager[None]:
        """Within it, the backbone's group norms do to all images what they do to a sample's in the
        mean: (C, H, W) each, of one shape. A model without such norms asks for no sample.
        """
        plain = self.plain(model)

        def run() -> None:
            with inferring(plain):
                self.see(plain, sample())

        return held(group_norms(plain.backbone), run)

    def set_thresholds(
        self,
        model: torch.nn.Module,
        *,
        score: float | None = None,
        nms: float | None = None,
        detections: int | None = None,
    ) -> None:
        """Change what `predict` keeps; None leaves a value as it is."""
        given = {
            "score_threshold": score,
            "nms_threshold": nms,
            "detections_per_image": detections,
        }
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        plain = self.plain(model)
        setattr(plain, self.spec_name, dataclasses.replace(self._spec(plain), **changes))

    def param_groups(self, model: torch.nn.Module, freeze: Freeze) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer; sets which parameters take a gradient.

        "heads" freezes the backbone's bottom-up network and trains pyramid, RPN and heads;
        "none" trains all. The first group takes the optimizer's weight decay, the second
        (norms, and biases, to which belong a transformer's tables of position biases) has
        ``weight_decay`` 0.
        """
        if freeze not in ("none", "heads"):
            raise InputError(f"unknown freeze {freeze!r}", remedy='use "none" or "heads"')
        plain = self.plain(model)
        frozen = self.bottom_up(plain) if freeze == "heads" else None
        decayed, plainly = [], []
        for name, parameter in plain.named_parameters():
            trains = frozen is None or not name.startswith(frozen)
            parameter.requires_grad_(trains)
            if not trains:
                parameter.grad = None
            elif parameter.ndim > 1 and not _is_position_bias(name):
                decayed.append(parameter)
            else:
                plainly.append(parameter)
        # A frozen batch norm must stop counting: its mode follows its gradient.
        plain.train(plain.training)
        return [
            {"name": "weights", "params": decayed},
            {"name": "norms and biases", "params": plainly, "weight_decay": 0.0},
        ]

    def save(self, model: torch.nn.Module, path: str | Path, meta: Mapping[str, str]) -> None:
        """Write a checkpoint (`astroseg.weights.checkpoint`), atomically.

        ``meta`` goes into its header: bands, contrast, hash of the training data, and what
        else the caller wants to find there.
        """
        plain = self.plain(model)
        header = Header(self._spec(plain), self.name, self.versions(), meta)
        write_checkpoint(path, plain.state_dict(), header)

    def load(
        self,
        model: torch.nn.Module,
        path: str | Path,
        *,
        allow_missing: Sequence[str] = (),
        adapt_channels: bool = False,
    ) -> LoadReport:
        """Place a checkpoint's weights in the model (`astroseg.weights.checkpoint.place`).

        Fails on anything not placed, unless its name matches a pattern of
        ``allow_missing`` (`astroseg.weights.checkpoint.CLASS_HEADS` for transfer to other classes).
        ``adapt_channels`` spreads the first convolution over another number of channels.
        """
        plain = self.plain(model)
        tensors, header = read_checkpoint(path)
        return place(
            plain,
            self._spec(plain),
            tensors,
            header,
            file=path,
            allow_missing=allow_missing,
            adapt_channels=adapt_channels,
            first_convolution=self.entrance(plain),
        )

    def _spec(self, plain: Any) -> ModelSpec:
        spec: ModelSpec = getattr(plain, self.spec_name)
        return spec


def _is_position_bias(name: str) -> bool:
    """Tables of transformers that are biases whatever their shape."""
    return "relative_position" in name or ".rel_pos_" in name
