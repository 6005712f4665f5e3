"""The engine that always installs: our own networks on torchvision's operators."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.samples import Prediction, Sample
from astroseg.engines.base import Freeze
from astroseg.engines.common import (
    device_of,
    ignore_regions,
    image_tensor,
    inferring,
    load_weights,
    made_prediction,
    parameter_groups,
)
from astroseg.models.layers import lay_out
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.mask_targets import TruthMasks, to_device
from astroseg.models.norms import group_norms, held
from astroseg.models.roi_losses import Truth
from astroseg.models.spec import ModelSpec
from astroseg.weights.checkpoint import Header, LoadReport, write_checkpoint


class TorchvisionEngine:
    """`astroseg.engines.base.Engine` without any library but torch and torchvision."""

    name = "torchvision"

    def available(self) -> str | None:
        """Always."""
        return None

    def refusal(self, spec: ModelSpec) -> str | None:
        """None: it has every model, but for those of Detectron2's configuration files."""
        if not spec.config:
            return None
        return f"{spec.name} was made from a Detectron2 configuration file"

    def versions(self) -> dict[str, str]:
        """Of torch and torchvision."""
        return {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}

    def build(self, spec: ModelSpec, seed: int | None = None) -> torch.nn.Module:
        """A model with fresh weights, on the CPU, in training mode.

        Raises
        ------
        InputError : the model was made from a Detectron2 configuration file.
        """
        if (reason := self.refusal(spec)) is not None:
            raise InputError(
                f"engine torchvision cannot build this model: {reason}",
                remedy="use --engine detectron2, where Detectron2 is installed",
            )
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            model = MaskRcnn(spec)
        lay_out(model)
        return model.train()

    def losses(self, model: torch.nn.Module, batch: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Losses of RPN and heads by Detectron2's names; sum them.

        Raises
        ------
        InputError : an image has another number of channels than the model.
        """
        device = device_of(model)
        spec = _plain(model).spec
        images = [image_tensor(sample.image, spec, device) for sample in batch]
        truths = [
            Truth(
                to_device(sample.boxes, device).to(torch.float32),
                to_device(sample.labels, device).to(torch.int64),
                TruthMasks(sample.masks, device),
                ignore_regions(sample, device),
                None if sample.targets is None else to_device(sample.targets, device).float(),
                None if sample.weights is None else to_device(sample.weights, device).float(),
            )
            for sample in batch
        ]
        # Through the model's own call, so that a distributed wrapper sees it.
        losses: dict[str, torch.Tensor] = model(images, truths)
        return losses

    def predict(
        self, model: torch.nn.Module, batch: Sequence[NDArray[np.float32]]
    ) -> list[Prediction]:
        """Predictions of (C, H, W) images; those of one shape that follow one another at once.

        Images of other shapes are no part of a batch: padding would change their predictions.

        Raises
        ------
        InputError : an image has another number of channels than the model, or NaN pixels.
        """
        plain, device = _plain(model), device_of(model)
        found: list[Prediction] = []
        with inferring(plain):
            for shape, images in itertools.groupby(batch, lambda image: image.shape[-2:]):
                tensors = [image_tensor(image, plain.spec, device) for image in images]
                found += [
                    made_prediction(
                        plain.spec,
                        one.boxes,
                        one.scores,
                        one.labels,
                        one.masks,
                        shape,
                        probabilities=one.probabilities,
                        limited=one.limited,
                        mixtures=one.mixtures,
                    )
                    for one in plain(tensors)
                ]
        return found

    def norms_held(
        self, model: torch.nn.Module, sample: Callable[[], list[NDArray[np.float32]]]
    ) -> AbstractContextManager[None]:
        """Hold group norms at a sample; see `astroseg.models.norms`."""
        plain = _plain(model)

        def run() -> None:
            with inferring(plain):
                device = device_of(plain)
                plain.features([image_tensor(image, plain.spec, device) for image in sample()])

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
        plain = _plain(model)
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        plain.spec = dataclasses.replace(plain.spec, **changes)

    def param_groups(self, model: torch.nn.Module, freeze: Freeze) -> list[dict[str, Any]]:
        """Weights with and norms and biases without weight decay; sets requires_grad.

        A transformer's tables of position biases are biases too.

        "heads" freezes the network that came pre-trained (``backbone.bottom_up``, or all of
        ``backbone`` where there is no pyramid); the pyramid, RPN and heads train.
        """
        plain = _plain(model)
        return parameter_groups(plain, freeze, plain.spec.bottom_up)

    def save(self, model: torch.nn.Module, path: str | Path, meta: Mapping[str, str]) -> None:
        """Write a checkpoint, atomically."""
        plain = _plain(model)
        header = Header(plain.spec, self.name, self.versions(), meta)
        write_checkpoint(path, plain.state_dict(), header)

    def load(
        self,
        model: torch.nn.Module,
        path: str | Path,
        *,
        allow_missing: Sequence[str] = (),
        adapt_channels: bool = False,
    ) -> LoadReport:
        """Place a checkpoint's weights in the model; see `astroseg.weights.checkpoint.place`."""
        plain = _plain(model)
        return load_weights(plain, plain.spec, path, allow_missing, adapt_channels)


def _plain(model: torch.nn.Module) -> MaskRcnn:
    """The model itself, out of a distributed wrapper."""
    while not isinstance(model, MaskRcnn):
        inner = getattr(model, "module", None)
        if not isinstance(inner, torch.nn.Module):
            raise TypeError(f"{type(model).__name__} was not built by this engine")
        model = inner
    return model
