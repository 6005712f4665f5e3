"""Schedules: lengths, rates and what a file may say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from astroseg.core.config import ScheduleConfig
from astroseg.core.errors import InputError
from astroseg.training.schedule import (
    FINE_TUNE,
    PAPER,
    TINY,
    Position,
    Stage,
    get_schedule,
    learning_rate,
    locate,
    override,
    stage_steps,
)


def test_paper_is_fifteen_epochs_of_heads_and_thirty_five_of_everything() -> None:
    # 1000 images at 8 a step.
    assert stage_steps(PAPER, 1000) == (1875, 4375)
    heads, everything = PAPER.stages
    assert (heads.freeze, everything.freeze) == ("heads", "none")
    rates = [learning_rate(everything, epoch * 125, 4375) for epoch in (0, 9.99, 10, 19.99, 20, 34)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])
    assert learning_rate(heads, 1874, 1875) == 1e-3


def test_warmup_rises_to_the_full_rate_and_cosine_falls_to_nothing() -> None:
    stage = TINY.stages[0]
    rates = [learning_rate(stage, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(4e-3 / 50)
    assert max(rates) == pytest.approx(4e-3)
    assert rates.index(max(rates)) in (49, 50)
    assert all(a > b for a, b in pairwise(rates[50:]))
    assert rates[-1] < 1e-6 * 4


def test_steps_are_found_in_their_stage() -> None:
    assert locate((3, 4), 0) == Position(0, 0)
    assert locate((3, 4), 2) == Position(0, 2)
    assert locate((3, 4), 3) == Position(1, 0)
    with pytest.raises(ValueError, match="beyond"):
        locate((3, 4), 7)


def test_new_length_keeps_the_stages_shares_and_milestones() -> None:
    changed = override(PAPER, ScheduleConfig(epochs=10))
    assert [stage.epochs for stage in changed.stages] == pytest.approx([3, 7])
    assert changed.stages[1].milestones == pytest.approx((2, 4))
    in_steps = override(PAPER, ScheduleConfig(steps=500, lr=1e-2, batch=2, crop=1.0))
    assert [stage.steps for stage in in_steps.stages] == [150, 350]
    assert [stage.lr for stage in in_steps.stages] == pytest.approx([1e-2, 1e-3])
    assert (in_steps.batch, in_steps.crop) == (2, 1.0)
    assert learning_rate(in_steps.stages[1], 99, 350) == pytest.approx(1e-3)
    assert learning_rate(in_steps.stages[1], 100, 350) == pytest.approx(1e-4)


def test_file_takes_the_rest_from_its_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "tiny"\nbatch = 4\n[[stages]]\nepochs = 2\nlr = 1\n')
    schedule = get_schedule(str(path))
    assert (schedule.name, schedule.batch, schedule.ema) == ("mine", 4, TINY.ema)
    assert schedule.stages == (Stage(epochs=2.0, lr=1.0),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("batch = ", "not TOML"),
        ("bach = 4", "unknown setting bach"),
        ("batch = 'four'", "batch: expected integer"),
        ("batch = true", "batch: expected integer"),
        ("batch = 0", "batch: expected integer >= 1"),
        ("base = 'none'", "unknown base"),
        ("stages = []", "has no stage"),
        ("[[stages]]\nlr = 1.0", "either epochs or steps"),
        ("[[stages]]\nsteps = 5\nlr = -1.0", "lr: expected number > 0"),
        ("[[stages]]\nsteps = 5\noptimizer = 'adam'", "optimizer: invalid enum value"),
        ("[[stages]]\nsteps = 5\nwarmup = 1.5", "warmup: expected number < 1"),
    ],
)
def test_fault_in_a_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        get_schedule(str(path))


def test_unknown_schedule_is_refused() -> None:
    with pytest.raises(InputError, match="unknown schedule 'papre'"):
        get_schedule("papre")
    with pytest.raises(InputError, match="cannot be read"):
        get_schedule("nowhere.toml")
    with pytest.raises(InputError, match="both epochs and steps"):
        override(PAPER, ScheduleConfig(epochs=1, steps=1))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_so_many_steps_are_so_many_whatever_the_stages(steps: int) -> None:
    stages = override(PAPER, ScheduleConfig(steps=steps)).stages
    assert sum(stage.steps for stage in stages) == steps
    assert all(stage.steps > 0 for stage in stages)


@pytest.mark.parametrize(("images", "steps"), [(1, 50), (4, 200), (8, 400), (1000, 400)])
def test_fine_tuning_on_few_tiles_is_shorter(images: int, steps: int) -> None:
    assert stage_steps(FINE_TUNE, images) == (steps,)


def test_a_length_that_is_asked_for_is_met_on_few_tiles() -> None:
    assert stage_steps(override(FINE_TUNE, ScheduleConfig(steps=300)), 1) == (300,)
    assert stage_steps(override(FINE_TUNE, ScheduleConfig(epochs=600)), 1) == (300,)
