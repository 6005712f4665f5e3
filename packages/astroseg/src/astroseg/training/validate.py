"""Loss and AP on images that are not trained on, while training goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from astroseg.core.config import Config
from astroseg.core.samples import Prediction, Sample
from astroseg.data.dataset import Dataset
from astroseg.data.loader import Samples
from astroseg.engines.base import Engine
from astroseg.evaluation.metrics.ap import coco_ap
from astroseg.evaluation.metrics.objects import Image, Objects, mask_areas
from astroseg.evaluation.metrics.read import objects_of
from astroseg.models.duplicates import largest_pieces, one_per_source


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
    config: Config | None = None,
) -> dict[str, float]:
    """Losses and AP of a model, which is left as it was.

    The AP is what `astroseg evaluate` gives on these images: boxes, masks and ignore regions as
    the file has them, against detections as `astroseg predict --score 0.05` finds them.

    Parameters
    ----------
    samples : the validation set; whole images are used.
    indices : of the images used.
    score_threshold : the model's own, restored afterwards.
    config : ``train.validation_score`` and what prediction does with masks of one source.

    Returns
    -------
    dict : ``loss`` and its parts, averaged over the images; ``box_ap``, ``box_ap50``,
        ``mask_ap``, ``mask_ap50``, averaged over the classes that occur.
    """
    predictions = []
    totals: dict[str, float] = {}
    config = config or Config()
    engine.set_thresholds(model, score=config.train.validation_score)
    try:
        for index in indices:
            sample = samples.sample(index)
            for name, value in _losses(engine, model, sample).items():
                totals[name] = totals.get(name, 0.0) + value / len(indices)
            found = engine.predict(model, [sample.image])[0]
            how = config.predict
            whole = found if how.pieces == "all" else largest_pieces(found)
            predictions.append(one_per_source(whole, how.source_iou, how.concentric))
    finally:
        engine.set_thresholds(model, score=score_threshold)
    return totals | average_precision(samples.dataset, indices, predictions)


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
    dataset: Dataset, indices: Sequence[int], predictions: Sequence[Prediction]
) -> dict[str, float]:
    """Box and mask AP and AP50, averaged over the classes that occur.

    Parameters
    ----------
    predictions : of the images of those indices.
    """
    records = [dataset.images[index] for index in indices]
    images = tuple(Image(r.id, r.name, r.height, r.width) for r in records)
    truth = objects_of(dataset.truth.rows(indices), range(len(indices)))
    found = _detections(predictions)
    result = {}
    for kind in ("box", "mask"):
        table = coco_ap(images, len(dataset.classes), truth, found, kind)
        for name, values in (("ap", table.ap[:, 0]), ("ap50", table.ap50[:, 0])):
            known = values[np.isfinite(values)]
            result[f"{kind}_{name}"] = float(known.mean()) if len(known) else float("nan")
    return result


def _detections(predictions: Sequence[Prediction]) -> Objects:
    """Predictions of several images as the metrics take them."""
    boxes = np.concatenate([p.boxes for p in predictions]).astype(np.float64).reshape(-1, 4)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    masks = tuple(mask for p in predictions for mask in p.masks)
    return Objects(
        image=np.repeat(np.arange(len(predictions)), [len(p.labels) for p in predictions]),
        label=np.concatenate([p.labels for p in predictions]).astype(np.int64),
        boxes=xywh,
        area=xywh[:, 2] * xywh[:, 3],
        masks=masks,
        mask_area=mask_areas(masks),
        tight=xywh,
        score=np.concatenate([p.scores for p in predictions]).astype(np.float64),
        ignored=np.zeros(len(boxes), np.bool_),
    )
