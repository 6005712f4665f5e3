"""Loss and AP on images that are not trained on, while training goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from astroseg.core.samples import Prediction, Rle, Sample
from astroseg.data.dataset import ImageRecord
from astroseg.data.loader import Samples
from astroseg.engines.base import Engine
from astroseg.evaluation.metrics.ap import coco_ap
from astroseg.evaluation.metrics.objects import Image, Objects, mask_areas

SCORE_FLOOR = 0.05
"""Detections below are not counted: AP hardly gains from them, and they are most of the
time (Detectron2's own limit for evaluation)."""


def evenly_spread(images: int, wanted: int) -> list[int]:
    """Indices of `wanted` of the images (0: all), the same ones at every call."""
    if wanted <= 0 or wanted >= images:
        return list(range(images))
    return [int(i) for i in np.linspace(0, images - 1, wanted).round()]


@contextmanager
def swapped(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model with other weights (the running mean), and back; nothing when empty."""
    if not weights:
        yield
        return
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(dict(weights))
    try:
        yield
    finally:
        model.load_state_dict(own)


def validate(
    engine: Engine,
    model: torch.nn.Module,
    samples: Samples,
    indices: Sequence[int],
    score_threshold: float,
) -> dict[str, float]:
    """Losses and AP of a model, which is left as it was.

    Parameters
    ----------
    samples : the validation set; whole images are used.
    indices : of the images used.
    score_threshold : the model's own, restored afterwards.

    Returns
    -------
    dict : ``loss`` and its parts, averaged over the images; ``box_ap``, ``box_ap50``,
        ``mask_ap``, ``mask_ap50``, averaged over the classes that occur.
    """
    records = [samples.dataset.images[index] for index in indices]
    truth, predictions = [], []
    totals: dict[str, float] = {}
    engine.set_thresholds(model, score=SCORE_FLOOR)
    try:
        for index in indices:
            sample = samples.sample(index)
            for name, value in _losses(engine, model, sample).items():
                totals[name] = totals.get(name, 0.0) + value / len(indices)
            predictions.append(engine.predict(model, [sample.image])[0])
            # The pixels have done their work; fifty large tiles would fill the memory.
            truth.append(dataclasses.replace(sample, image=sample.image[:, :0]))
    finally:
        engine.set_thresholds(model, score=score_threshold)
    return totals | average_precision(records, truth, predictions, len(samples.dataset.classes))


def _losses(engine: Engine, model: torch.nn.Module, sample: Sample) -> dict[str, float]:
    """Losses without learning: no gradient, and batch norms keep their statistics."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    model.train()
    with torch.no_grad():
        parts = {name: float(value) for name, value in engine.losses(model, [sample]).items()}
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    model.train(was_training)
    return {"loss": sum(parts.values()), **parts}


def average_precision(
    records: Sequence[ImageRecord],
    truth: Sequence[Sample],
    predictions: Sequence[Prediction],
    classes: int,
) -> dict[str, float]:
    """Box and mask AP and AP50, averaged over the classes that occur."""
    images = tuple(Image(r.id, r.name, r.height, r.width) for r in records)
    first = _columns([(t.boxes, t.labels, t.masks, np.ones(len(t.labels))) for t in truth])
    second = _columns([(p.boxes, p.labels, p.masks, p.scores) for p in predictions])
    result = {}
    for kind in ("box", "mask"):
        table = coco_ap(images, classes, first, second, kind)
        for name, values in (("ap", table.ap[:, 0]), ("ap50", table.ap50[:, 0])):
            known = values[np.isfinite(values)]
            result[f"{kind}_{name}"] = float(known.mean()) if len(known) else float("nan")
    return result


def _columns(
    rows: Sequence[
        tuple[NDArray[np.float32], NDArray[np.int64], tuple[Rle, ...], NDArray[np.floating]]
    ],
) -> Objects:
    """Objects of several images as the metrics take them."""
    boxes = np.concatenate([row[0] for row in rows]).astype(np.float64).reshape(-1, 4)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    masks = tuple(mask for row in rows for mask in row[2])
    areas = mask_areas(masks)
    return Objects(
        image=np.repeat(np.arange(len(rows)), [len(row[1]) for row in rows]),
        label=np.concatenate([row[1] for row in rows]).astype(np.int64),
        boxes=xywh,
        area=areas,
        masks=masks,
        mask_area=areas,
        tight=xywh,
        score=np.concatenate([row[3] for row in rows]).astype(np.float64),
        crowd=np.zeros(len(boxes), np.bool_),
    )
