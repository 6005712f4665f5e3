"""What a run trains: the model of a name, of a checkpoint or of a configuration file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from astroseg.core.config import Config, ModelConfig
from astroseg.core.config.tree import changed
from astroseg.core.errors import InputError
from astroseg.core.targets import location_and_scale
from astroseg.data.contrast import PIXEL_STATISTICS
from astroseg.data.dataset import Dataset
from astroseg.engines.detectron2.file import ConfigFile, digest, read_config
from astroseg.engines.detectron2.override import config_spec, frozen_norms, with_pixels
from astroseg.models.sizes import SMALL
from astroseg.models.spec import ZOO_STD_X101_BGR, ModelSpec, model_spec
from astroseg.weights.builtin import BUILTIN, checkpoint_file
from astroseg.weights.checkpoint import read_header

# Deviation of the pixels that the model zoo's networks were trained with, 8-bit units.
ZOO_DEVIATION = sum(ZOO_STD_X101_BGR) / 3


def configuration(config: Config, engine: str, stored: Mapping[str, Any]) -> ConfigFile | None:
    """The Detectron2 configuration file of a run, None if it has none.

    Parameters
    ----------
    engine : that trains.
    stored : fingerprint of the run that is resumed, empty for a new one.

    Raises
    ------
    InputError : engine or file cannot be used, or the file is not that of the resumed run.
    """
    program = str(stored.get("spec", {}).get("config_program", ""))
    if program and not config.model.file:
        raise InputError(
            "the run was started with a configuration file that has parts of its own making",
            remedy=f"give --config with that file again, sha256 {digest(program)}",
        )
    if not config.model.file:
        return None
    if engine != "detectron2":
        raise InputError(
            f"--config is for engine detectron2, not {engine}",
            file=config.model.file,
            remedy="use --engine detectron2, or --model",
        )
    return read_config(config.model.file, program)


def as_built_in(config: Config) -> Config:
    """The settings with the network and contrast of the built-in model that training starts
    from, where they are not given."""
    name = config.model.weights
    if (
        name not in BUILTIN
        or config.model.file
        or config.model.name not in (ModelConfig.name, name)
    ):
        return config
    contrast: str = config.data.contrast
    if contrast == "auto":
        contrast = read_header(checkpoint_file(name)).meta["contrast"]
    return changed(config, {"model.name": name, "data.contrast": contrast})


def training_spec(
    config: Config,
    channels: int,
    classes: tuple[str, ...],
    weights: Path | None = None,
    file: ConfigFile | None = None,
) -> ModelSpec:
    """The model to build: as its checkpoint `weights` has it, or able to train from scratch."""
    if file is not None:
        return _configured_spec(config, file, channels, classes, weights)
    header = None if weights is None else read_header(weights)
    fields = dict(header.fields) if header is not None else {}
    deviation = fields.pop("pixel_std", None)
    pixels = pixel_overrides(config.model.name, config.data.contrast, channels, deviation)
    fields |= pixels | network_overrides(config.model)
    spec = model_spec(config.model.name, channels=channels, classes=classes, **fields)
    if header is None:
        return spec.for_scratch()
    if header.spec is None or header.spec.name != spec.name:
        return spec
    changes: dict[str, Any] = {"classes": classes, "channels": channels}
    if header.spec.channels != channels or header.meta.get("contrast") != config.data.contrast:
        changes |= {
            name: getattr(spec, name) for name in ("pixel_mean", "pixel_std", "reverse_channels")
        }
    return dataclasses.replace(header.spec, **changes | network_overrides(config.model))


def with_targets(spec: ModelSpec, config: ModelConfig, dataset: Dataset) -> ModelSpec:
    """The model with a head for the targets of the settings.

    One that has them already, from a checkpoint, keeps its scaling, which its weights need.

    Raises
    ------
    InputError : a target that no object of the dataset has, or of one value only.
    """
    if spec.targets == config.targets:
        return spec
    values = dataset.truth.all_targets() if config.targets else np.zeros((0, 0), np.float32)
    scales = [location_and_scale(column) for column in values.T]
    for name, (_, scale) in zip(config.targets, scales, strict=True):
        if not scale > 0:
            problem = "no object has" if math.isnan(scale) else "all objects have one value of"
            raise InputError(
                f"{problem} the attribute {name!r}",
                file=dataset.path,
                remedy="give --targets names of numbers under `attributes` of the annotations",
            )
    return dataclasses.replace(
        spec,
        targets=config.targets,
        target_mean=tuple(mean for mean, _ in scales),
        target_std=tuple(scale for _, scale in scales),
        target_components=config.target_components,
        target_floor=config.target_floor,
    )


def network_overrides(config: ModelConfig) -> dict[str, Any]:
    """Fields of the spec that the settings give other values than the model's own."""
    names = {one.name for one in dataclasses.fields(ModelSpec)}
    own = {"name", "config", "targets", "target_components", "target_floor"}
    given = {one.name: getattr(config, one.name) for one in dataclasses.fields(config)}
    return {k: v for k, v in given.items() if k in names - own and v is not None}


def _configured_spec(
    config: Config,
    file: ConfigFile,
    channels: int,
    classes: tuple[str, ...],
    weights: Path | None,
) -> ModelSpec:
    """The model of a Detectron2 configuration file."""
    name = Path(config.model.file).stem
    plain = config_spec(
        file.text,
        name,
        channels=channels,
        classes=classes,
        keep_limits=config.model.keep_limits,
        program=file.program,
    )
    if weights is None and frozen_norms(file.text):
        raise InputError(
            "its model has frozen batch norm, which diverges without pre-trained weights",
            file=config.model.file,
            remedy="give --weights, or set the norms in it to GN",
        )
    deviation = None if weights is None else read_header(weights).fields.get("pixel_std")
    contrast = config.data.contrast
    pixels = pixel_overrides(name, contrast, channels, deviation, plain.pixel_std)
    return with_pixels(plain, pixels)


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
    tiny = model in SMALL and own is None
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
