"""All that a training run needs before its first step, checked."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from astroseg import __version__
from astroseg.config import DataConfig, TrainConfig, to_dict
from astroseg.contrast import CONTRASTS, PIXEL_STATISTICS
from astroseg.dataset import Dataset, check_same_classes, read_dataset
from astroseg.engines.base import Engine
from astroseg.engines.detectron2_file import read_config
from astroseg.engines.detectron2_override import changes, config_spec, frozen_norms, with_pixels
from astroseg.errors import InputError
from astroseg.loader import (
    Samples,
    Stream,
    band_names,
    default_workers,
    read_record,
    resolve_contrast,
    survey,
)
from astroseg.models.spec import ZOO_STD_X101_BGR, ModelSpec, model_spec
from astroseg.pretrained import weights_file
from astroseg.schedule import Schedule, get_schedule, override, stage_steps
from astroseg.validate import evenly_spread
from astroseg.weights import CLASS_HEADS, matches, read_header

# Deviation of the pixels that the model zoo's networks were trained with, 8-bit units.
ZOO_DEVIATION = sum(ZOO_STD_X101_BGR) / 3

# What a resumed run may change: where it computes, not what.
FREE_TO_CHANGE = frozenset(
    {"device", "workers", "cache_mb", "save_every", "log_every", "weights_sha256"}
)


@dataclass(frozen=True, eq=False)
class Plan:
    """A run, ready to go.

    Attributes
    ----------
    config : with contrast and bands resolved.
    spec : of the model.
    schedule, lengths : stages and their steps.
    samples, stream : of the training set.
    validation, indices : of the validation set, None and () without one.
    workers : loader processes.
    fingerprint : what must not change when the run is resumed.
    weights : the file the model starts from, None for random weights.
    """

    config: TrainConfig
    engine: Engine
    spec: ModelSpec
    schedule: Schedule
    lengths: tuple[int, ...]
    samples: Samples
    stream: Stream
    validation: Samples | None
    indices: tuple[int, ...]
    workers: int
    fingerprint: Mapping[str, Any]
    weights: Path | None = None

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return sum(self.lengths)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, round(len(self.samples) / self.schedule.batch))


def prepare(
    train: Path,
    val: Path | None,
    config: TrainConfig,
    engine: Engine,
    device: torch.device,
    *,
    rank: int = 0,
    ranks: int = 1,
    quiet: bool = False,
) -> Plan:
    """Read and check everything a run needs.

    Raises
    ------
    InputError
        For anything that would make the run fail later.
    """
    if config.config and engine.name != "detectron2":
        raise InputError(
            f"--config is for engine detectron2, not {engine.name}",
            file=config.config,
            remedy="use --engine detectron2, or --model",
        )
    schedule = _schedule(config)
    dataset, validation = _datasets(train, val, config.data)
    config = dataclasses.replace(config, data=_resolved(config.data, dataset))
    data = config.data
    channels = _channels(data, dataset)
    weights = None
    if config.weights:
        trusted = config.weights_sha256
        model = "" if config.config else config.model  # what it must fit is not known by name
        weights = weights_file(config.weights, model, trusted=trusted, quiet=quiet)
    spec = training_spec(config, channels, dataset.classes, weights)
    lengths = stage_steps(schedule, len(dataset))
    stream = Stream(
        len(dataset),
        schedule.batch,
        sum(lengths),
        config.seed,
        config.accumulate,
        rank,
        ranks,
    )
    workers = config.workers if config.workers >= 0 else default_workers(device.type == "cuda")
    # Each worker, and the main process for validation, holds a cache of its own.
    cache = config.cache_mb * 2**20 // (workers + 1)
    shared = {"seed": config.seed, "cache_bytes": cache}
    return Plan(
        config=config,
        engine=engine,
        spec=spec,
        schedule=schedule,
        lengths=lengths,
        samples=_samples(dataset, data, channels, quiet, schedule.crop, schedule.flips, shared),
        stream=stream,
        validation=_samples(validation, data, channels, quiet, 1.0, False, shared)
        if validation is not None and rank == 0
        else None,
        indices=()
        if validation is None
        else tuple(evenly_spread(len(validation), config.validation_images)),
        workers=workers,
        fingerprint=_fingerprint(config, schedule, spec, dataset, engine),
        weights=weights,
    )


def _is_tiny(config: TrainConfig) -> bool:
    return config.model == "tiny" and not config.config


def _schedule(config: TrainConfig) -> Schedule:
    return override(
        get_schedule(config.schedule or ("tiny" if _is_tiny(config) else "paper")),
        epochs=config.epochs,
        steps=config.steps,
        batch=config.batch,
        crop=config.crop,
        lr=config.lr,
    )


def _datasets(train: Path, val: Path | None, data: DataConfig) -> tuple[Dataset, Dataset | None]:
    if data.contrast not in (*CONTRASTS, "auto"):
        raise InputError(
            f"unknown contrast {data.contrast!r}", remedy=f"use one of {', '.join(CONTRASTS)}"
        )
    dataset = read_dataset(train, images=data.images or None, classes=data.classes)
    if not dataset.objects:
        raise InputError("labels no objects", file=train, remedy="give a labelled dataset")
    if val is None:
        return dataset, None
    validation = read_dataset(val, images=data.images or None, classes=data.classes)
    check_same_classes(dataset, validation)
    return dataset, validation


def _samples(
    dataset: Dataset,
    data: DataConfig,
    channels: int,
    quiet: bool,
    crop: float,
    flips: bool,
    shared: Mapping[str, Any],
) -> Samples:
    bar = tqdm(
        total=len(dataset),
        desc=f"checking {dataset.path.name}",
        unit="image",
        leave=False,
        disable=quiet or not os.isatty(2),
    )
    with bar:
        looks = survey(dataset, data.bands, channels, data, progress=bar.update)
    return Samples(dataset, looks, data, crop=crop, flips=flips, **shared)


def _resolved(data: DataConfig, dataset: Dataset) -> DataConfig:
    """The configuration with the contrast chosen and the bands named, where they have names."""
    first = dataset.images[0]
    names = band_names(first, read_record(first))
    return dataclasses.replace(
        data, contrast=resolve_contrast(data, dataset), bands=data.bands or names
    )


def _channels(data: DataConfig, dataset: Dataset) -> int:
    return len(data.bands) or len(read_record(dataset.images[0]).planes)


def training_spec(
    config: TrainConfig, channels: int, classes: tuple[str, ...], weights: Path | None = None
) -> ModelSpec:
    """The model to build: as its checkpoint `weights` has it, or able to train from scratch."""
    if config.config:
        return _configured_spec(config, channels, classes, weights)
    header = None if weights is None else read_header(weights)
    fields = dict(header.fields) if header is not None else {}
    deviation = fields.pop("pixel_std", None)
    pixels = pixel_overrides(config.model, config.data.contrast, channels, deviation)
    spec = model_spec(config.model, channels=channels, classes=classes, **pixels, **fields)
    if header is None:
        return spec.for_scratch()
    if header.spec is None or header.spec.name != spec.name:
        return spec
    changes: dict[str, Any] = {"classes": classes, "channels": channels}
    if header.spec.channels != channels or header.meta.get("contrast") != config.data.contrast:
        changes |= {
            name: getattr(spec, name) for name in ("pixel_mean", "pixel_std", "reverse_channels")
        }
    return dataclasses.replace(header.spec, **changes)


def _configured_spec(
    config: TrainConfig, channels: int, classes: tuple[str, ...], weights: Path | None
) -> ModelSpec:
    """The model of a Detectron2 configuration file."""
    text, name = read_config(config.config), Path(config.config).stem
    plain = config_spec(
        text, name, channels=channels, classes=classes, keep_limits=config.keep_limits
    )
    if weights is None and frozen_norms(text):
        raise InputError(
            "its model has frozen batch norm, which diverges without pre-trained weights",
            file=config.config,
            remedy="give --weights, or set the norms in it to GN",
        )
    deviation = None if weights is None else read_header(weights).fields.get("pixel_std")
    contrast = config.data.contrast
    return with_pixels(plain, pixel_overrides(name, contrast, channels, deviation, plain.pixel_std))


def pixel_overrides(
    model: str,
    contrast: str,
    channels: int,
    deviation: tuple[float, ...] | None = None,
    own: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """Fields of the spec that bring a contrast's values to what a network learns well from.

    For tiny: mean 0 and deviation 1. For the others: the mean of the contrast, and the
    amplitude of the 8-bit pictures whose weights they may start from; 8-bit scalings have
    it already, as in the paper's code. The zoo's networks see blue first; asinh keeps the
    bands' order, which has the bluest first already.

    Parameters
    ----------
    deviation : blue first, what the weights to start from want the 8-bit pictures divided
        by, where that is not the model's own.
    own : the model's own, where it is none of this program's.
    """
    tiny = model == "tiny" and own is None
    if contrast == "none":
        if not tiny:
            if deviation is None:
                return {}
            return {"pixel_std": deviation if channels == 3 else sum(deviation) / 3}
        return {"pixel_mean": 127.5, "pixel_std": ZOO_DEVIATION}
    mean, std = PIXEL_STATISTICS[contrast]
    if tiny:
        return {"pixel_mean": mean, "pixel_std": std}
    if own is None:
        own = model_spec(model, channels=channels, classes=("object",)).pixel_std
    unit = sum(deviation) / 3 if deviation is not None else sum(own) / channels
    if not contrast.startswith("lupton"):
        unit *= std / ZOO_DEVIATION
    fields: dict[str, Any] = {"pixel_mean": mean, "pixel_std": unit}
    return fields | ({"reverse_channels": False} if contrast == "asinh" else {})


def load_weights(plan: Plan, model: torch.nn.Module) -> str:
    """Place the weights a run starts from; returns what became of them, "" without any.

    Class heads may differ and the first convolution is adapted: that is transfer learning.
    """
    if plan.weights is None:
        return ""
    report = plan.engine.load(model, plan.weights, allow_missing=CLASS_HEADS, adapt_channels=True)
    said = f"{plan.config.weights}{f' ({report.origin})' if report.origin else ''}: {report}"
    if report.origin and any(matches(name, CLASS_HEADS) for name in report.loaded):
        said += (
            "; its class heads fit and were kept, in its own order of classes, which such "
            "files do not tell"
        )
    return said


def describe(plan: Plan, model: torch.nn.Module, device: torch.device) -> str:
    """What is about to be trained, in a few lines."""
    dataset = plan.samples.dataset
    count = sum(p.numel() for p in model.parameters())
    bands = ", ".join(plan.config.data.bands) or f"{plan.spec.channels} bands"
    lines = [
        f"{dataset.path.name}: {len(dataset)} images, {dataset.objects} objects of "
        f"{', '.join(dataset.classes)}",
        *(f"  left out: {n} annotations, {reason}" for reason, n in dataset.left_out.items()),
        f"{plan.spec.name}: {count / 1e6:.2f} million parameters, {bands} as "
        f"{plan.config.data.contrast}, engine {plan.engine.name} on {device}",
        f"schedule {plan.schedule.name}: {plan.steps} steps of {plan.schedule.batch} images",
    ]
    if plan.spec.config:
        lines.append(f"{plan.config.config} is built with other values than it has:")
        lines += [f"  {line}" for line in changes(plan.spec)]
        lines.append("its optimizer, schedule, data and weights are not used")
    return "\n".join(lines)


def checkpoint_meta(plan: Plan, step: int) -> dict[str, str]:
    """What a checkpoint must know beside its model to be applied to other images."""
    data, dataset = plan.config.data, plan.samples.dataset
    return {
        "program": f"astroseg {__version__}",
        "contrast": data.contrast,
        "stretch": repr(data.stretch),
        "q": repr(data.q),
        "bands": json.dumps(list(data.bands)),
        "category_ids": json.dumps(list(dataset.category_ids)),
        "training_data": dataset.path.name,
        "training_data_sha256": dataset.digest,
        "schedule": json.dumps(dataclasses.asdict(plan.schedule)),
        "seed": str(plan.config.seed),
        "step": str(step),
    }


def _fingerprint(
    config: TrainConfig, schedule: Schedule, spec: ModelSpec, dataset: Dataset, engine: Engine
) -> dict[str, Any]:
    fixed = {k: v for k, v in to_dict(config).items() if k not in FREE_TO_CHANGE}
    fixed |= {
        "engine": engine.name,
        "schedule": dataclasses.asdict(schedule),
        "spec": dataclasses.asdict(spec),
        "training_data_sha256": dataset.digest,
    }
    # Through JSON and back, to be compared with what a file gives.
    return dict(json.loads(json.dumps(fixed)))


def check_resumable(stored: Mapping[str, Any], now: Mapping[str, Any], file: Path) -> None:
    """Raise InputError where a run would go on otherwise than it began."""
    changed = sorted(k for k in {*stored, *now} if stored.get(k) != now.get(k))
    if changed:
        raise InputError(
            f"belongs to a run with other settings: {', '.join(changed)}",
            file=file,
            remedy="resume with the settings it was started with, or start a new run with "
            "--weights and another --out",
        )
