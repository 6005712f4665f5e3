"""All that a training run needs before its first step, checked."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from astroseg.core.config import BRANCHES, Config, DataConfig, config_hash, leaves, to_dict
from astroseg.core.config.tree import changed
from astroseg.core.errors import InputError
from astroseg.core.version import __version__
from astroseg.data.dataset import Dataset, check_same_classes, configured_dataset
from astroseg.data.loader import Samples, Stream, default_workers
from astroseg.data.look import dataset_bands, resolve_contrast, survey
from astroseg.data.units import Units, training_units
from astroseg.engines.base import Engine
from astroseg.engines.detectron2.file import ConfigFile, digest
from astroseg.engines.detectron2.override import changes
from astroseg.models.sizes import SMALL
from astroseg.models.spec import ModelSpec
from astroseg.training.architecture import training_spec, with_targets
from astroseg.training.schedule import Schedule, get_schedule, override, stage_steps
from astroseg.training.validate import evenly_spread
from astroseg.weights.builtin import BUILTIN
from astroseg.weights.checkpoint import CLASS_HEADS, TARGET_HEADS, matches
from astroseg.weights.pretrained import weights_file

# What a resumed run may change: where it computes, not what. A configuration file may have
# moved; what it says is in the spec.
FREE_TO_CHANGE = frozenset(
    {
        "model.file",
        "model.weights_sha256",
        "train.device",
        "train.workers",
        "train.cache_mb",
        "train.save_every",
        "train.log_every",
        "train.log_to",
    }
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
    units : pixel scale, zero points and noise of the training images.
    """

    config: Config
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
    units: Units = field(default_factory=Units)

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
    config: Config,
    engine: Engine,
    device: torch.device,
    *,
    file: ConfigFile | None = None,
    rank: int = 0,
    ranks: int = 1,
    quiet: bool = False,
) -> Plan:
    """Read and check everything a run needs.

    Parameters
    ----------
    file : the configuration's ``config``, read (`astroseg.training.architecture.configuration`).

    Raises
    ------
    InputError
        For anything that would make the run fail later.
    """
    schedule = _schedule(config)
    targets = config.model.targets
    dataset, validation = _datasets(train, val, config.data, targets)
    bands, channels = dataset_bands(config.data, dataset)
    contrast = resolve_contrast(config.data, dataset)
    config = changed(config, {"data.bands": bands, "data.contrast": contrast})
    data = config.data
    weights = _weights(config, quiet)
    spec = training_spec(config, channels, dataset.classes, weights, file)
    spec = with_targets(spec, config.model, dataset)
    _check_engine(engine, spec, config)
    lengths = stage_steps(schedule, len(dataset))
    stream = Stream(
        len(dataset),
        schedule.batch,
        sum(lengths),
        config.train.seed,
        config.schedule.accumulate,
        rank,
        ranks,
    )
    given = config.train.workers
    workers = given if given >= 0 else default_workers(device.type == "cuda")
    # Each worker, and the main process for validation, holds a cache of its own.
    cache = config.train.cache_mb * 2**20 // (workers + 1)
    shared = {"seed": config.train.seed, "cache_bytes": cache}
    samples = _samples(dataset, data, channels, quiet, schedule.crop, schedule.flips, shared)
    return Plan(
        config=config,
        engine=engine,
        spec=spec,
        schedule=schedule,
        lengths=lengths,
        samples=samples,
        stream=stream,
        validation=_samples(validation, data, channels, quiet, 1.0, False, shared)
        if validation is not None and rank == 0
        else None,
        indices=()
        if validation is None
        else tuple(evenly_spread(len(validation), config.train.validation_images)),
        workers=workers,
        fingerprint=_fingerprint(config, schedule, spec, dataset, engine),
        weights=weights,
        units=training_units(dataset, [look.order for look in samples.looks], data),
    )


def _weights(config: Config, quiet: bool) -> Path | None:
    """The file of the weights that the run starts from."""
    if not config.model.weights:
        return None
    trusted = config.model.weights_sha256
    # What a file's model must fit is not known by name.
    model = "" if config.model.file else config.model.name
    return weights_file(config.model.weights, model, trusted=trusted, quiet=quiet)


def _check_engine(engine: Engine, spec: ModelSpec, config: Config) -> None:
    """Raise InputError for an engine that lacks what is asked for."""
    if config.model.targets and (reason := engine.refusal(spec)) is not None:
        raise InputError(
            f"engine {engine.name} does not learn targets ({reason})",
            remedy="use --engine torchvision, or leave --targets out",
        )
    if config.data.reviewed_weight != 1 and engine.name != "torchvision":
        raise InputError(
            f"engine {engine.name} does not weigh reviewed labels",
            remedy="use --engine torchvision, or leave --reviewed-weight out",
        )


def _schedule(config: Config) -> Schedule:
    return override(
        get_schedule(_schedule_name(config)),
        config.schedule,
    )


def _schedule_name(config: Config) -> str:
    if config.schedule.name != "auto":
        return config.schedule.name
    if config.model.weights in BUILTIN:
        return "fine-tune"
    small = config.model.name in SMALL and not config.model.file
    return "tiny" if small else "paper"


def _datasets(
    train: Path, val: Path | None, data: DataConfig, targets: tuple[str, ...]
) -> tuple[Dataset, Dataset | None]:
    dataset = configured_dataset(train, data, targets=targets)
    dataset.require_objects()
    dataset = dataset.without_small(data.least_pixels)
    if val is None:
        return dataset, None
    validation = configured_dataset(val, data, measured=True, targets=targets)
    validation.require_objects()
    check_same_classes(dataset, validation)
    return dataset, validation.without_small(data.least_pixels)


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


def load_weights(plan: Plan, model: torch.nn.Module) -> str:
    """Place the weights a run starts from; returns what became of them, "" without any.

    Class heads may differ and the first convolution is adapted: that is transfer learning.
    """
    if plan.weights is None:
        return ""
    fresh = (*CLASS_HEADS, *TARGET_HEADS)
    report = plan.engine.load(model, plan.weights, allow_missing=fresh, adapt_channels=True)
    said = f"{plan.config.model.weights}{f' ({report.origin})' if report.origin else ''}: {report}"
    if report.origin and any(matches(name, CLASS_HEADS) for name in report.loaded):
        said += (
            "; its class heads fit and were kept, in its own order of classes, which such "
            "files do not hold"
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
        *(f"  {line}" for line in dataset.notes()),
        f"{plan.spec.name}: {count / 1e6:.2f} million parameters, {bands} as "
        f"{plan.config.data.contrast}, engine {plan.engine.name} on {device}",
        f"schedule {plan.schedule.name}: {plan.steps} steps of {plan.schedule.batch} images",
    ]
    if plan.config.data.reviewed_weight != 1:
        lines.append(
            f"reviewed labels: {dataset.truth.reviewed}, each of weight "
            f"{plan.config.data.reviewed_weight:g}"
        )
    if plan.spec.targets:
        known = np.isfinite(dataset.truth.all_targets()).sum(axis=0)
        lines += [
            f"target {name}: {count} known values, median {mean:.4g}, deviation {std:.3g}"
            for name, count, mean, std in zip(
                plan.spec.targets, known, plan.spec.target_mean, plan.spec.target_std, strict=True
            )
        ]
    if plan.spec.config:
        lines.append(f"{plan.config.model.file} is built with other values than it has:")
        lines += [f"  {line}" for line in changes(plan.spec)]
        lines.append("its optimizer, schedule, data and weights are not used")
    if program := plan.spec.config_program:
        lines.append(
            f"it has parts of its own making: astroseg predict will need --config "
            f"{plan.config.model.file}, unchanged (sha256 {digest(program)})"
        )
    return "\n".join(lines)


def checkpoint_meta(plan: Plan, step: int) -> dict[str, str]:
    """What a checkpoint must know beside its model to be applied to other images."""
    data, dataset = plan.config.data, plan.samples.dataset
    program = plan.spec.config_program
    file = {"config_file": Path(plan.config.model.file).name, "config_sha256": digest(program)}
    return (file if program else {}) | {
        "program": f"astroseg {__version__}",
        "contrast": data.contrast,
        "config": json.dumps(to_dict(plan.config)),
        "config_hash": config_hash(plan.config),
        "bands": json.dumps(list(data.bands)),
        "category_ids": json.dumps(list(dataset.category_ids)),
        "image_side": str(max(max(image.height, image.width) for image in dataset.images)),
        "units": plan.units.to_json(),
        "training_data": dataset.path.name,
        "training_data_sha256": dataset.digest,
        "schedule": json.dumps(dataclasses.asdict(plan.schedule)),
        "seed": str(plan.config.train.seed),
        "step": str(step),
    }


def _fingerprint(
    config: Config, schedule: Schedule, spec: ModelSpec, dataset: Dataset, engine: Engine
) -> dict[str, Any]:
    settings = leaves(config, *BRANCHES["train"])
    fixed = {k: v for k, v in settings.items() if k not in FREE_TO_CHANGE}
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
