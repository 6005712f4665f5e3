"""All settings of the package as one tree: unit, default and reason of each.

The tree travels with every checkpoint, prediction and evaluation, with its hash. It is set
from Python (`configured`), from YAML files and by one option a setting (`astroseg.cli`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from astroseg.core.config.data import DataConfig
from astroseg.core.config.evaluate import EvaluateConfig
from astroseg.core.config.model import ModelConfig
from astroseg.core.config.predict import PredictConfig
from astroseg.core.config.schedule import ScheduleConfig
from astroseg.core.config.train import TrainConfig
from astroseg.core.config.tree import changed, settings_of, to_dict
from astroseg.core.config.words import BRANCHES, WORDS
from astroseg.core.errors import InputError
from astroseg.core.names import nearest

__all__ = [
    "BRANCHES",
    "WORDS",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "ModelConfig",
    "PredictConfig",
    "ScheduleConfig",
    "TrainConfig",
    "config_hash",
    "configured",
    "leaves",
    "to_dict",
]


@dataclass(frozen=True)
class Config:
    """Every setting of training, prediction and evaluation."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def config_hash(config: Any) -> str:
    """Hexadecimal SHA-256 of all settings: two runs of one hash were asked for the same."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()


def configured(command: str, base: Config | None = None, **words: Any) -> Config:
    """The settings of a command from words as its options have them.

    Parameters
    ----------
    command : train, predict or evaluate: what a short word such as ``device`` refers to.
    base : settings of what is not given.
    words : short words (``lr``), dotted names (``**{"schedule.lr": 1e-3}``), or whole branches
        (``data=DataConfig(...)``); None stands for what is not given.

    Raises
    ------
    InputError
        For an unknown word, naming the nearest known one, or a value out of bounds.

    Examples
    --------
    >>> configured("train", lr=1e-3).schedule.lr
    0.001
    """
    config = base or Config()
    branches = {k: v for k, v in words.items() if dataclasses.is_dataclass(v)}
    config = dataclasses.replace(config, **branches)  # type: ignore[arg-type]
    short = WORDS[command]
    values: dict[str, Any] = {}
    for word, value in words.items():
        if word in branches or value is None:
            continue
        name = word if "." in word else short.get(word.replace("_", "-"), "")
        if not name:
            known = [*(w.replace("-", "_") for w in short), *(s.name for s in settings_of(config))]
            raise InputError(f"unknown setting {word!r}", remedy=nearest(word, known) or None)
        values[name] = value
    return changed(config, values)


def leaves(config: Config, *branches: str) -> Mapping[str, Any]:
    """Values of the settings by dotted name, of some branches or of all."""
    return {
        one.name: one.default
        for one in settings_of(config)
        if not branches or one.name.partition(".")[0] in branches
    }
