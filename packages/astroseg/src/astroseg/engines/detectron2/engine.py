"""The engine that trains and applies real Detectron2 models, where Detectron2 is installed.

Built from Detectron2's own configuration, with its own parameter names: checkpoints are
the other engine's. Only two things are not its own, because a dense field would fill the
memory: truth masks stay run-length encoded until a sampled region needs them, and
predicted masks are pasted box by box.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torchvision.ops import nms

from astroseg.core.errors import AstrosegError, InputError
from astroseg.core.samples import Prediction, Sample
from astroseg.engines.base import Engine
from astroseg.engines.common import (
    device_of,
    ignore_regions,
    image_tensor,
    inferring,
    made_prediction,
)
from astroseg.engines.detectron2.config import refusals, settings
from astroseg.engines.detectron2.file import ConfigFile, bottom_up, build_config, entrance
from astroseg.engines.detectron2.ignore import left_out
from astroseg.engines.detectron2.lazy import lazy
from astroseg.engines.detectron2.library import (
    Library,
    adapt,
    deformable_by_torchvision,
    library,
    need_timm,
)
from astroseg.models.backbone import start_stages
from astroseg.models.layers import lay_out
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.roi import MASK_CHUNK
from astroseg.models.spec import ModelSpec

_PREDICTOR_LIMITS = {
    "score_threshold": "test_score_thresh",
    "nms_threshold": "test_nms_thresh",
    "detections_per_image": "test_topk_per_image",
}
"""Fields of the spec, and where Detectron2's box predictors keep them once built."""


class Detectron2Engine(Engine):
    """On Detectron2."""

    name = "detectron2"
    spec_name = "astroseg_spec"

    def __init__(self, file: ConfigFile | None = None) -> None:
        """Give the configuration file of models that have parts of its own making."""
        self._file = file

    @cached_property
    def _library(self) -> Library:
        return library()

    def available(self) -> str | None:
        try:
            _ = self._library
        except InputError as problem:
            return str(problem)
        return None

    def refusal(self, spec: ModelSpec) -> str | None:
        """Why Detectron2's configuration cannot say this model, None if it can."""
        return "; ".join(refusals(spec)) or None

    def versions(self) -> dict[str, str]:
        return {
            "detectron2": self._library.version,
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
        }

    def build(self, spec: ModelSpec, seed: int | None = None) -> torch.nn.Module:
        d2 = self._library
        if (reason := self.refusal(spec)) is not None:
            raise InputError(
                f"engine detectron2 has no model {spec.name}: {reason}",
                remedy="use --engine torchvision",
            )
        if spec.backbone in ("swin", "mvit"):
            need_timm(spec.name)
        with torch.random.fork_rng(devices=[]), deformable_by_torchvision(d2):
            if seed is not None:
                torch.manual_seed(seed)
            model: Any = _made(spec, d2, self._file)
        adapt(model, d2)
        model.astroseg_spec = spec
        if spec.nms_any_class is not None:
            model.roi_heads.register_forward_hook(functools.partial(_one_class, model))
        if not spec.config_program:  # a user's own layer may want its features as they were
            lay_out(model)
        built: torch.nn.Module = model.train()
        return built

    def losses(self, model: torch.nn.Module, batch: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """As Detectron2 gives them.

        Raises
        ------
        AstrosegError : a weight or an activation is no longer finite.
        """
        d2 = self._library
        spec, device = self.plain(model).astroseg_spec, device_of(model)
        inputs = [
            {
                "image": _image(sample.image, spec, device),
                "instances": _truth(sample, d2.Instances(sample.image.shape[-2:]), d2.Boxes),
            }
            for sample in batch
        ]
        regions = [ignore_regions(sample, device) for sample in batch]
        try:
            # Detectron2 writes statistics of every step into a storage.
            with d2.EventStorage(), left_out(self.plain(model), regions, spec.ignore_cover):
                losses: dict[str, torch.Tensor] = model(inputs)
        except FloatingPointError as problem:
            raise AstrosegError(
                f"training diverged: {problem}",
                remedy="lower --lr, add warm-up or clipping in a schedule file, or turn off --amp",
            ) from problem
        return losses

    def predict(
        self, model: torch.nn.Module, batch: Sequence[NDArray[np.float32]]
    ) -> list[Prediction]:
        """One image at a time: no padding by its neighbours."""
        plain, device = self.plain(model), device_of(model)
        with inferring(plain):
            found = []
            for image in batch:
                _set_limits(plain, image.shape[-2:])
                found.append(_detect(plain, _image(image, plain.astroseg_spec, device)))
            return found

    def see(self, plain: Any, images: Sequence[NDArray[np.float32]]) -> None:
        spec, device = plain.astroseg_spec, device_of(plain)
        seen = [{"image": _image(image, spec, device)} for image in images]
        plain.backbone(plain.preprocess_image(seen).tensor)

    def bottom_up(self, plain: Any) -> str:
        return bottom_up(plain)

    def entrance(self, plain: Any) -> str:
        return f"{entrance(plain)[0]}.weight"


class RleMasks:
    """Truth masks for Detectron2's mask loss, in the place of its `BitMasks`.

    Detectron2 indexes the masks by the sampled regions, most of which are background: as
    bitmaps of 1000x1000 that is half a gigabyte for one image. This keeps the indices.
    """

    def __init__(self, masks: TruthMasks, index: torch.Tensor | None = None) -> None:
        self._masks = masks
        self._index = torch.arange(len(masks)) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, chosen: torch.Tensor | slice) -> RleMasks:
        if isinstance(chosen, torch.Tensor):
            chosen = chosen.cpu()
        return RleMasks(self._masks, self._index[chosen])

    def crop_and_resize(self, boxes: torch.Tensor, side: int) -> torch.Tensor:
        """(N, side, side) bool, the N masks inside the N boxes (N, 4), on the CPU."""
        return self._masks.targets(self._index, boxes.detach().cpu(), side) > 0.5


def _made(spec: ModelSpec, d2: Library, file: ConfigFile | None) -> Any:
    """The model as Detectron2 makes it from either kind of its configurations."""
    if spec.config:
        return build_config(spec, d2, file)
    if spec.backbone == "resnet":
        config = d2.get_cfg()
        config.merge_from_list([part for item in settings(spec).items() for part in item])
        return d2.build_model(config)
    model = d2.instantiate(lazy(spec))
    if spec.backbone == "small":
        # Its residual blocks start as the identity.
        start_stages(spec, model.backbone.bottom_up)
    return model


def _set_limits(model: Any, shape: tuple[int, int]) -> None:
    """Give the box predictors what the spec says is kept of an image of that shape.

    A cascade has several. One more detection than the most shows that there were more.
    """
    spec: ModelSpec = model.astroseg_spec
    limits = {name: getattr(spec, field) for field, name in _PREDICTOR_LIMITS.items()}
    limits["test_topk_per_image"] = spec.most_detections(shape) + 1
    if spec.nms_any_class is not None:
        limits["test_topk_per_image"] = -1  # counted after the second suppression
    for module in model.modules():
        for name, value in limits.items():
            if hasattr(module, name):
                setattr(module, name, value)


def _one_class(model: Any, heads: torch.nn.Module, given: Any, answer: Any) -> Any:
    """Of detections that overlap, whatever their class, the best."""
    if heads.training:
        return answer
    spec: ModelSpec = model.astroseg_spec
    every, losses = answer
    kept = [nms(one.pred_boxes.tensor, one.scores, spec.nms_any_class) for one in every]
    return [one[index] for one, index in zip(every, kept, strict=True)], losses


def _image(image: NDArray[np.float32], spec: ModelSpec, device: torch.device) -> torch.Tensor:
    seen = image_tensor(image, spec, device)
    return seen.flip(0) if spec.reverse_channels else seen


def _truth(sample: Sample, instances: Any, boxes_type: Any) -> Any:
    """A sample's objects as Detectron2's instances.

    Boxes without area are left out: Detectron2 would divide by their width.
    """
    boxes = torch.tensor(sample.boxes, dtype=torch.float32)
    full = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    instances.gt_boxes = boxes_type(boxes[full])
    instances.gt_classes = torch.tensor(sample.labels, dtype=torch.int64)[full]
    instances.gt_masks = RleMasks(TruthMasks(sample.masks))[full]
    return instances


def _detect(model: Any, image: torch.Tensor) -> Prediction:
    """What Detectron2's own inference finds, before it makes masks of the image's size.

    Its steps are called one by one so that the mask head sees a limited number of regions
    at once: all 1000 of a dense image would take close to a gigabyte.
    """
    shape = (image.shape[-2], image.shape[-1])
    images = model.preprocess_image([{"image": image}])
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    heads = model.roi_heads
    heads.mask_on = False
    try:
        [found], _ = heads(images, features, proposals, None)
    finally:
        heads.mask_on = True
    top = model.astroseg_spec.most_detections(shape)
    limited = len(found) > top
    found = found[:top]
    found = found[found.pred_boxes.nonempty()]
    masks = []
    for start in range(0, len(found), MASK_CHUNK):
        [part] = heads.forward_with_given_boxes(features, [found[start : start + MASK_CHUNK]])
        masks.append(part.pred_masks[:, 0].float())
    soft = torch.cat(masks) if masks else image.new_zeros(0, 1, 1)
    return made_prediction(
        model.astroseg_spec,
        found.pred_boxes.tensor,
        found.scores,
        found.pred_classes,
        soft,
        shape,
        limited=limited,
    )
