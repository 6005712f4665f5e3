"""The engine that always installs: our own networks on torchvision's operators."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.samples import Prediction, Sample
from astroseg.engines.base import Engine
from astroseg.engines.common import (
    device_of,
    ignore_regions,
    image_tensor,
    inferring,
    made_prediction,
)
from astroseg.models.layers import lay_out
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.mask_targets import TruthMasks, to_device
from astroseg.models.roi_losses import Truth
from astroseg.models.spec import ModelSpec


class TorchvisionEngine(Engine):
    """Without any library but torch and torchvision."""

    name = "torchvision"
    spec_name = "spec"

    def refusal(self, spec: ModelSpec) -> str | None:
        """None: it has every model, but for those of Detectron2's configuration files."""
        if not spec.config:
            return None
        return f"{spec.name} was made from a Detectron2 configuration file"

    def versions(self) -> dict[str, str]:
        return {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}

    def build(self, spec: ModelSpec, seed: int | None = None) -> torch.nn.Module:
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
        device = device_of(model)
        spec = self.plain(model).spec
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
        """
        plain, device = self.plain(model), device_of(model)
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
                        regions=one.regions,
                        mixtures=one.mixtures,
                    )
                    for one in plain(tensors)
                ]
        return found

    def see(self, plain: Any, images: Sequence[NDArray[np.float32]]) -> None:
        plain.features([image_tensor(image, plain.spec, device_of(plain)) for image in images])

    def bottom_up(self, plain: Any) -> str:
        return str(plain.spec.bottom_up)
