"""How long and how fast to learn: stages in epochs or steps, learning rates as functions.

A step is one update of the weights with `batch` images, however many GPUs and
accumulation parts share them. The learning rate is a pure function of the step, so a run
that is resumed needs no scheduler's state.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from astroseg.core.config import ScheduleConfig
from astroseg.core.config.tree import Positive, PositiveInt, from_dict
from astroseg.core.errors import InputError

Optimizer = Literal["sgd", "adamw"]
Decay = Literal["constant", "cosine"]
Part = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Stage:
    """One stretch of training with one optimizer.

    Attributes
    ----------
    name : for the log.
    epochs, steps : its length, one of the two; an epoch sees every image once.
    most_epochs : of a length in steps: shorter where these would be more epochs than that, 0 for
        no limit.
    lr : learning rate after warm-up.
    optimizer : "sgd" (with `momentum`) or "adamw".
    weight_decay : of all parameters but norms and biases.
    freeze : "heads" trains only what lies above the backbone, "none" everything.
    milestones : in the unit of the stage's length; the rate is multiplied by `gamma` at
        each.
    decay : "cosine" takes the rate to zero over the stage after warm-up.
    warmup : fraction of the stage over which the rate rises from zero.
    clip : largest 2-norm of the gradient, 0 for none.
    """

    name: str = "all"
    epochs: float = 0.0
    steps: int = 0
    most_epochs: float = 0.0
    lr: Positive = 1e-3
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    freeze: Literal["none", "heads"] = "none"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    decay: Decay = "constant"
    warmup: Part = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """All stages and what they share.

    Attributes
    ----------
    name : of a built-in schedule, or the file's.
    stages : in order; the optimizer starts anew in each.
    batch : images per step, over all GPUs and accumulation parts.
    crop : side of the random window: fraction of the image's (<= 1) or pixels (> 1).
    flips : whether images are mirrored and turned at random.
    ema : decay of the running mean of the weights that is validated and saved as the
        model; 0 for none.
    """

    name: str
    stages: tuple[Stage, ...]
    batch: PositiveInt
    crop: Positive = 1.0
    flips: bool = True
    ema: Part = 0.0


# Paper, section 3.4: 15 epochs of the heads at 1e-3, then 35 of all layers at 1e-4, "/10
# every 10 epochs" (its code: at 10 and 20 of the stage, not at 30). SGD with Detectron2's
# momentum and weight decay; 8 images a step as published with its code; half-size crops
# (section 3.3). The clip only catches outliers: ordinary steps stay below 10.
PAPER = Schedule(
    name="paper",
    stages=(
        Stage(name="heads", epochs=15, lr=1e-3, freeze="heads", clip=10.0),
        Stage(name="all", epochs=35, lr=1e-4, milestones=(10, 20), clip=10.0),
    ),
    batch=8,
    crop=0.5,
)

# From scratch in minutes on a CPU: rates and batch found on simulated 256x256 tiles. 1500
# steps take about four minutes on two cores.
TINY = Schedule(
    name="tiny",
    stages=(
        Stage(
            name="all",
            steps=1500,
            lr=4e-3,
            optimizer="adamw",
            weight_decay=1e-4,
            decay="cosine",
            warmup=0.05,
            clip=1.0,
        ),
    ),
    batch=2,
    ema=0.98,
)

# From a built-in model to a survey's own labels: what is known already is not to be lost. A single
# tile is learned by heart from some hundred epochs on: on other tiles of the simulated survey mask
# AP rose from 0.446 to 0.461 after 50 steps of two copies, and was 0.418 after 100.
FINE_TUNE = dataclasses.replace(
    TINY,
    name="fine-tune",
    stages=(dataclasses.replace(TINY.stages[0], steps=400, most_epochs=100, lr=1e-3),),
)

SCHEDULES: Mapping[str, Schedule] = {"paper": PAPER, "tiny": TINY, "fine-tune": FINE_TUNE}


def get_schedule(name: str) -> Schedule:
    """A built-in schedule by name, or one from a TOML file.

    The file has the fields of `Schedule` at the top and one ``[[stages]]`` table with the
    fields of `Stage` for each stage; ``base = "paper"`` takes what is not given from a
    built-in one.

    Raises
    ------
    InputError
        For an unknown name or field, or values that make no sense.
    """
    if name in SCHEDULES:
        return SCHEDULES[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise InputError(
            f"unknown schedule {name!r}",
            remedy=f"use one of {', '.join(SCHEDULES)}, or a file ending in .toml",
        )
    try:
        with path.open("rb") as handle:
            values = tomllib.load(handle)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", file=path, remedy="check the name"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not TOML ({error})", file=path, remedy="mend that line") from error
    return _from_mapping(values, path)


def _from_mapping(values: dict[str, Any], path: Path) -> Schedule:
    base = SCHEDULES.get(str(values.pop("base", "paper")))
    if base is None:
        raise InputError(
            "names an unknown base", file=path, remedy=f"use one of {', '.join(SCHEDULES)}"
        )
    tables = values.pop("stages", None)
    schedule = from_dict(Schedule, {"name": path.stem, **values}, base, path)
    if tables is None:
        return check(schedule, path)
    if not isinstance(tables, list) or not tables:
        raise InputError("has no stage", file=path, remedy="write at least one [[stages]]")
    stages = tuple(from_dict(Stage, table, file=path) for table in tables)
    return check(dataclasses.replace(schedule, stages=stages), path)


def check(schedule: Schedule, file: Path | None = None) -> Schedule:
    """The schedule itself, or InputError for values that make no sense."""
    for stage in from_dict(Schedule, {}, schedule, file).stages:
        if (stage.epochs > 0) == (stage.steps > 0):
            raise InputError(
                f"stage {stage.name} needs either epochs or steps", file=file, remedy="give one"
            )
    return schedule


IN_EVERY_STAGE = ("weight_decay", "momentum", "warmup", "clip", "gamma")
"""Settings that replace a number of all stages alike."""


def override(schedule: Schedule, given: ScheduleConfig) -> Schedule:
    """A schedule with the numbers that are given: stages and milestones keep their shares of
    a new length. Where stages are counted in different units, shares are by number."""
    stages = schedule.stages
    if given.epochs is not None and given.steps is not None:
        raise InputError("both epochs and steps are given", remedy="give one of them")
    total = sum(stage.epochs or stage.steps for stage in stages)
    if (length := given.epochs or given.steps) is not None:
        stages = tuple(_lengthened(stage, float(length) / total) for stage in stages)
    if given.steps is not None:
        stages = _counted(stages, given.steps)
    if given.lr is not None:
        factor = given.lr / stages[0].lr
        stages = tuple(dataclasses.replace(stage, lr=stage.lr * factor) for stage in stages)
    alike = {k: v for k in IN_EVERY_STAGE if (v := getattr(given, k)) is not None}
    whole = {
        k: v for k in ("batch", "crop", "flips", "ema") if (v := getattr(given, k)) is not None
    }
    stages = tuple(dataclasses.replace(stage, **alike) for stage in stages)
    return check(dataclasses.replace(schedule, stages=stages, **whole))


def _lengthened(stage: Stage, scale: float) -> Stage:
    return dataclasses.replace(
        stage,
        epochs=scale * (stage.epochs or stage.steps),
        steps=0,
        most_epochs=0.0,
        milestones=tuple(scale * milestone for milestone in stage.milestones),
    )


def _counted(stages: tuple[Stage, ...], steps: int) -> tuple[Stage, ...]:
    """Stages by their shares as whole steps, exactly so many; without those of none."""
    ends = [round(end) for end in itertools.accumulate(stage.epochs for stage in stages)]
    ends[-1] = steps
    lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
    return tuple(
        dataclasses.replace(stage, epochs=0.0, steps=length)
        for stage, length in zip(stages, lengths, strict=True)
        if length
    )


@dataclass(frozen=True)
class Position:
    """Where a step lies in a schedule: index of its stage, and steps done of that stage."""

    stage: int
    step: int


def stage_steps(schedule: Schedule, images: int) -> tuple[int, ...]:
    """Number of steps of each stage, for a training set of that many images."""
    return tuple(_steps(stage, images / schedule.batch) for stage in schedule.stages)


def _steps(stage: Stage, per_epoch: float) -> int:
    if not stage.steps:
        return max(1, round(stage.epochs * per_epoch))
    most = round(stage.most_epochs * per_epoch) if stage.most_epochs else stage.steps
    return max(1, min(stage.steps, most))


def locate(lengths: tuple[int, ...], step: int) -> Position:
    """The stage of a step counted from 0 over the whole schedule."""
    for stage, length in enumerate(lengths):
        if step < length:
            return Position(stage, step)
        step -= length
    raise ValueError("step is beyond the schedule")


def learning_rate(stage: Stage, step: int, steps: int) -> float:
    """Rate of a stage's step, counted from 0, of that many.

    Warm-up is linear and reaches the full rate at its last step; milestones count from
    the stage's beginning.
    """
    warmup = round(stage.warmup * steps)
    if step < warmup:
        return stage.lr * (step + 1) / warmup
    unit = steps / (stage.epochs or stage.steps)
    passed = sum(step >= milestone * unit for milestone in stage.milestones)
    rate = stage.lr * stage.gamma**passed
    if stage.decay == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return float(rate)
