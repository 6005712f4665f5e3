"""What is wrong with the words, said before torch is imported."""

from __future__ import annotations

from pathlib import Path

from astroseg.core.config import Config, ModelConfig
from astroseg.core.errors import InputError
from astroseg.core.names import nearest
from astroseg.models.sizes import MODELS
from astroseg.training.schedule import get_schedule


def check_training(config: Config, *files: Path | None) -> None:
    """Raise InputError for an unknown model or schedule, or a file that is not there."""
    name = config.model.name
    if config.model.file and name != ModelConfig.name:
        raise InputError(
            f"both a model ({name}) and a Detectron2 configuration ({config.model.file}) are given",
            remedy="give --model or --model-config",
        )
    if not config.model.file and name not in MODELS:
        raise InputError(
            f"unknown model {name!r}",
            remedy=nearest(name, MODELS) or f"use one of {', '.join(MODELS)}",
        )
    if config.schedule.name != "auto":
        get_schedule(config.schedule.name)
    for file in files:
        if file is not None:
            check_file(file)


def check_file(file: Path) -> None:
    """Raise InputError for a file that is not there."""
    if not file.exists():
        raise InputError("there is no such file", file=file, remedy="check the name")
