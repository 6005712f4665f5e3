"""Images, samples and answers of networks as tensors and as plain arrays, for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight
from astroseg.core.samples import Prediction, Rle, Sample
from astroseg.models.mask_targets import IgnoreRegions, to_device
from astroseg.models.pasting import paste_masks
from astroseg.models.spec import ModelSpec


@contextmanager
def inferring(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode the model was in comes back after it."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def image_tensor(image: NDArray[np.float32], spec: ModelSpec, device: torch.device) -> torch.Tensor:
    """A (C, H, W) image on the device.

    Raises
    ------
    InputError : another number of channels than the model's, or pixels that are not finite.
    """
    if image.ndim != 3 or image.shape[0] != spec.channels:
        raise InputError(
            f"an image of shape {image.shape} for a model of {spec.channels} channels",
            remedy=f"give ({spec.channels}, height, width), the bands the model was trained with",
        )
    if not np.isfinite(image).all():
        raise InputError(
            "an image has NaN or infinite pixels", remedy="fill them before contrast is applied"
        )
    return to_device(image, device).to(torch.float32)


def ignore_regions(sample: Sample, device: torch.device) -> IgnoreRegions | None:
    """Where a sample has no truth, None where it has all."""
    if sample.ignored is None or not sample.ignored.any():
        return None
    return IgnoreRegions(to_device(sample.ignored, device))


def made_prediction(
    spec: ModelSpec,
    boxes: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    soft: torch.Tensor,
    shape: tuple[int, int],
    *,
    probabilities: torch.Tensor | None = None,
    limited: bool,
    regions: torch.Tensor | None = None,
    mixtures: torch.Tensor | None = None,
) -> Prediction:
    """A network's answer on an image (H, W) in plain arrays.

    Parameters
    ----------
    soft : (N, M, M) probabilities of the masks inside the regions.
    regions : (N, 4) XYXY; the boxes where not given.
    """
    placed = boxes.float().cpu().numpy()
    around = placed if regions is None else regions.float().cpu().numpy()
    masks = paste_masks(soft.float().cpu().numpy(), around, shape)
    return Prediction(
        boxes=tight(placed, masks) if spec.tight_boxes else placed,
        scores=scores.float().cpu().numpy(),
        labels=labels.cpu().numpy(),
        masks=masks,
        probabilities=None if probabilities is None else probabilities.float().cpu().numpy(),
        limited=limited,
        mixtures=None if mixtures is None else mixtures.float().cpu().numpy(),
    )


def tight(boxes: NDArray[np.float32], masks: Sequence[Rle]) -> NDArray[np.float32]:
    """Boxes (N, 4) XYXY around masks; those of empty masks stay."""
    drawn = boxes.copy()
    for box, mask in zip(drawn, masks, strict=True):
        bitmap, (y, x) = decode_tight(mask)
        if bitmap.size:
            box[:] = x, y, x + bitmap.shape[1], y + bitmap.shape[0]
    return drawn
