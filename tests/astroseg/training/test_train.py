"""The trainer: what it learns, logs and saves, and that an interruption changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_helpers import Killed, SmallEngine, write_sky_set

from astroseg.core.config import Config, DataConfig, configured
from astroseg.core.errors import AstrosegError, InputError, OutputError
from astroseg.training.runlog import read_log
from astroseg.training.train import BEST_NAME, LAST_NAME, STATE_NAME, TrainResult, clipped, train
from astroseg.weights.checkpoint import read_checkpoint

# Two stages, momentum and Adam, a running mean, accumulation: all there is to restore.
SCHEDULE = """
batch = 4
crop = 0.75
ema = 0.9
[[stages]]
name = "heads"
steps = 5
lr = 0.05
freeze = "heads"
milestones = [3]
[[stages]]
name = "all"
steps = 7
lr = 0.02
optimizer = "adamw"
decay = "cosine"
warmup = 0.3
clip = 1.0
"""
STEPS = 12


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("skies")
    return write_sky_set(folder / "train", 5), write_sky_set(folder / "val", 2, seed=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("schedule") / "two.toml"
    path.write_text(SCHEDULE)
    return configured(
        "train",
        schedule=str(path),
        accumulate=2,
        device="cpu",
        workers=0,
        save_every=2,
        validate_every=6,
        log_every=1,
    )


def losses(run: Path) -> dict[int, float]:
    return {r["step"]: r["loss"] for r in read_log(run / "log.jsonl") if r["kind"] == "train"}


@pytest.fixture(scope="module")
def reference(
    tmp_path_factory: pytest.TempPathFactory, skies: tuple[Path, Path], config: Config
) -> tuple[Path, TrainResult]:
    out = tmp_path_factory.mktemp("reference") / "run"
    result = train(skies[0], out, config, val_file=skies[1], engine=SmallEngine(), quiet=True)
    return out, result


def test_run_writes_models_state_and_every_step_of_the_log(
    reference: tuple[Path, TrainResult],
) -> None:
    out, result = reference
    assert (result.step, result.steps, result.interrupted) == (STEPS, STEPS, False)
    assert result.best is not None
    assert result.checkpoint == out / BEST_NAME
    for name in (BEST_NAME, LAST_NAME, STATE_NAME, "config.json"):
        assert (out / name).is_file()
    assert sorted(losses(out)) == list(range(1, STEPS + 1))
    rows = [r for r in read_log(out / "log.jsonl") if r["kind"] == "validation"]
    assert [row["step"] for row in rows] == [6, 12]
    assert {"loss", "mask_ap", "box_ap50"} <= set(rows[0])
    _, header = read_checkpoint(out / LAST_NAME)
    assert header.meta["contrast"] == "asinh"
    assert header.meta["bands"] == '["g", "r", "i"]'


# The first stage ends with step 5.
@pytest.mark.parametrize(
    ("step", "save_every"), [(1, 2), (3, 2), (4, 1), (5, 1), (5, 2), (5, 5), (6, 1), (11, 5)]
)
def test_run_stopped_at_a_step_and_resumed_gives_the_same_losses_and_weights(
    tmp_path: Path,
    step: int,
    save_every: int,
    skies: tuple[Path, Path],
    config: Config,
    reference: tuple[Path, TrainResult],
) -> None:
    config = configured("train", config, save_every=save_every)
    # Two parts a step: odd calls die between the parts of one.
    broken = SmallEngine(stop_at=2 * step + 1)
    with pytest.raises(Killed):
        train(skies[0], tmp_path / "run", config, val_file=skies[1], engine=broken, quiet=True)
    resumable = (tmp_path / "run" / STATE_NAME).exists()
    result = train(
        skies[0],
        tmp_path / "run",
        config,
        val_file=skies[1],
        resume=resumable,
        engine=SmallEngine(),
        quiet=True,
    )
    expected = losses(reference[0])
    assert losses(tmp_path / "run") == pytest.approx(expected, rel=0, abs=1e-6)
    assert result.best == pytest.approx(reference[1].best)
    ours, _ = read_checkpoint(tmp_path / "run" / LAST_NAME)
    theirs, _ = read_checkpoint(reference[0] / LAST_NAME)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)


SCRIPT = """
import sys
from pathlib import Path
from astroseg.cli.imports import lasting_imports
with lasting_imports():
    from train_helpers import SmallEngine
    from astroseg.core.config import Config, configured
    from astroseg.training.train import train
train_file, val_file, out, schedule, stop_at = sys.argv[1:]
config = configured("train", schedule=schedule, accumulate=2, device="cpu", workers=1, save_every=2,
                     validate_every=6, log_every=1)
result = train(train_file, out, config, val_file=val_file, quiet=True,
               resume=(Path(out) / "state.safetensors").exists(),
               engine=SmallEngine(stop_at=int(stop_at), for_real=True))
sys.exit(3 if result.interrupted else 0)
"""


def start(
    skies: tuple[Path, Path], out: Path, config: Config, stop_at: int
) -> subprocess.Popen[bytes]:
    paths = [str(Path(__file__).parents[1]), *sys.path]
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            *map(str, skies),
            str(out),
            config.schedule.name,
            str(stop_at),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def has_processes(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_process_killed_for_good_and_started_again_gives_the_same_losses(
    tmp_path: Path,
    skies: tuple[Path, Path],
    config: Config,
    reference: tuple[Path, TrainResult],
) -> None:
    out = tmp_path / "run"
    process = start(skies, out, config, stop_at=2 * 7 + 1)
    assert process.wait() == -signal.SIGKILL
    assert sorted(losses(out)) == list(range(1, 8))
    assert start(skies, out, config, stop_at=-1).wait() == 0
    assert losses(out) == pytest.approx(losses(reference[0]), rel=0, abs=1e-6)


@pytest.mark.slow
def test_loader_does_not_outlive_a_trainer_that_is_killed(tmp_path: Path, config: Config) -> None:
    # Samples larger than a pipe holds: a worker that is left alone waits on it for ever.
    path = write_sky_set(tmp_path, 3, size=128)
    process = start((path, path), tmp_path / "run", config, stop_at=5)
    assert process.wait() == -signal.SIGKILL
    until = time.monotonic() + 20
    while has_processes(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    left = has_processes(process.pid)
    if left:
        os.killpg(process.pid, signal.SIGKILL)
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_the_step_and_the_run_goes_on_from_it(
    number: signal.Signals,
    tmp_path: Path,
    skies: tuple[Path, Path],
    config: Config,
    reference: tuple[Path, TrainResult],
) -> None:
    out = tmp_path / "run"
    long = Path(config.schedule.name).with_name("long.toml")
    long.write_text(SCHEDULE.replace("steps = 7", "steps = 100000"))
    config = configured("train", config, schedule=str(long))
    process = start(skies, out, config, stop_at=-1)
    while process.poll() is None and not (out / STATE_NAME).exists():
        time.sleep(0.05)
    # Terminals and schedulers reach the loader's processes, too.
    os.killpg(process.pid, number)
    assert process.wait() == 3
    done = max(losses(out))
    before = losses(out)
    resumed = SmallEngine(stop_at=2)
    with pytest.raises(Killed):
        train(skies[0], out, config, val_file=skies[1], resume=True, engine=resumed, quiet=True)
    assert max(losses(out)) == done + 1  # nothing was lost: the next step came first
    assert {k: v for k, v in losses(out).items() if k <= done} == before


def test_accumulation_and_workers_do_not_change_which_samples_are_seen(
    tmp_path: Path, skies: tuple[Path, Path], config: Config
) -> None:
    seen = []
    for accumulate, workers in ((1, 0), (4, 1)):
        engine = SmallEngine()
        changed = configured("train", config, accumulate=accumulate, workers=workers)
        train(skies[0], tmp_path / str(accumulate), changed, engine=engine, quiet=True)
        seen.append([sample for part in engine.seen for sample in part])
    assert len(seen[0]) == len(seen[1]) == 4 * STEPS
    for a, b in zip(*seen, strict=True):
        assert a.image_id == b.image_id
        assert (a.image == b.image).all()
        assert list(a.masks) == list(b.masks)


def test_every_epoch_shows_every_image_once(
    tmp_path: Path, skies: tuple[Path, Path], config: Config
) -> None:
    engine = SmallEngine()
    train(skies[0], tmp_path / "run", config, engine=engine, quiet=True)
    ids = [sample.image_id for part in engine.seen for sample in part]
    epochs = [ids[i : i + 5] for i in range(0, 45, 5)]
    assert all(sorted(epoch) == [1, 2, 3, 4, 5] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_heads_stage_leaves_the_frozen_part_as_it_was(
    tmp_path: Path, skies: tuple[Path, Path], config: Config
) -> None:
    engine = SmallEngine(stop_at=2 * 5)  # the first step of the second stage
    changed = configured("train", config, save_every=5)
    with pytest.raises(Killed):
        train(skies[0], tmp_path / "run", changed, engine=engine, quiet=True)
    tensors, header = read_checkpoint(tmp_path / "run" / LAST_NAME)
    fresh = engine.build(header.spec, changed.train.seed).state_dict()
    assert torch.equal(tensors["body.weight"], fresh["body.weight"])
    assert not torch.equal(tensors["head.weight"], fresh["head.weight"])


def test_training_teaches_what_validation_images_it_never_saw_confirm(
    tmp_path: Path, skies: tuple[Path, Path]
) -> None:
    schedule = tmp_path / "long.toml"
    schedule.write_text('batch = 5\n[[stages]]\nsteps = 60\nlr = 0.05\noptimizer = "adamw"\n')
    config = configured("train", schedule=str(schedule), device="cpu", workers=0, validate_every=30)
    train(skies[0], tmp_path / "run", config, val_file=skies[1], engine=SmallEngine(), quiet=True)
    rows = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["kind"] == "validation"]
    assert rows[0]["mask_ap50"] < rows[-1]["mask_ap50"]
    assert rows[-1]["mask_ap50"] > 0.3  # 0.0 untrained


def test_validation_leaves_batch_norm_statistics_alone(
    tmp_path: Path, skies: tuple[Path, Path], config: Config
) -> None:
    weights = []
    for name, val in (("with", skies[1]), ("without", None)):
        changed = configured("train", config, validate_every=1)
        out = tmp_path / name
        train(skies[0], out, changed, val_file=val, engine=SmallEngine(), quiet=True)
        weights.append(read_checkpoint(out / LAST_NAME)[0])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_nan_loss_stops_the_run_and_says_what_to_do(
    tmp_path: Path, skies: tuple[Path, Path], config: Config
) -> None:
    with pytest.raises(AstrosegError, match=r"diverged at step 3: loss.*lower --lr"):
        train(skies[0], tmp_path / "run", config, engine=SmallEngine(nan_at=6), quiet=True)


def test_folder_with_a_run_is_not_overwritten(
    skies: tuple[Path, Path], config: Config, reference: tuple[Path, TrainResult]
) -> None:
    with pytest.raises(OutputError, match="--resume"):
        train(skies[0], reference[0], config, engine=SmallEngine(), quiet=True)


def test_resuming_with_other_settings_names_them(
    skies: tuple[Path, Path], config: Config, reference: tuple[Path, TrainResult]
) -> None:
    changed = configured("train", config, seed=5, data=DataConfig(contrast="lupton"))
    with pytest.raises(InputError, match=r"other settings: data.contrast, spec, train.seed"):
        train(skies[0], reference[0], changed, resume=True, engine=SmallEngine(), quiet=True)


def test_resuming_where_there_is_no_run_is_an_error(
    tmp_path: Path, skies: tuple[Path, Path], config: Config
) -> None:
    with pytest.raises(InputError, match="no state to resume from"):
        train(skies[0], tmp_path, config, resume=True, engine=SmallEngine(), quiet=True)


def test_different_seeds_give_different_runs(
    tmp_path: Path,
    skies: tuple[Path, Path],
    config: Config,
    reference: tuple[Path, TrainResult],
) -> None:
    changed = configured("train", config, seed=1)
    train(skies[0], tmp_path / "run", changed, engine=SmallEngine(), quiet=True)
    assert losses(tmp_path / "run") != losses(reference[0])


def test_a_run_that_gets_no_better_ends(tmp_path: Path, skies: tuple[Path, Path]) -> None:
    class Stuck(SmallEngine):
        def predict(self, model: Any, batch: Any) -> Any:
            return [one.take(np.arange(0)) for one in super().predict(model, batch)]

    config = configured(
        "train", steps=40, batch=2, device="cpu", workers=0, validate_every=4, patience=2
    )
    result = train(
        skies[0], tmp_path / "run", config, val_file=skies[1], engine=Stuck(), quiet=True
    )
    assert (result.step, result.interrupted) == (12, False)  # best at 4, two more after it
    assert result.best == (0.0, 4)


def test_labels_of_few_pixels_are_ignore_regions(tmp_path: Path, skies: tuple[Path, Path]) -> None:
    seen = []
    for least in (0, 40):
        engine = SmallEngine()
        config = configured("train", steps=2, batch=2, device="cpu", workers=0, least_pixels=least)
        train(skies[0], tmp_path / str(least), config, engine=engine, quiet=True)
        seen.append([sample for part in engine.seen for sample in part])
    for every, large in zip(*seen, strict=True):
        assert len(large.labels) <= len(every.labels)
        assert every.ignored is None
    pairs = [(e, o) for e, o in zip(*seen, strict=True) if len(o.labels) < len(e.labels)]
    assert pairs
    assert all(one.ignored is not None and one.ignored.any() for _, one in pairs)


def test_gradients_are_scaled_only_where_they_are_too_long():
    weight = torch.nn.Parameter(torch.zeros(2))
    bias, unused = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    for most, expected in ((0.0, [3.0, 0.0]), (10.0, [3.0, 0.0]), (2.5, [1.5, 0.0])):
        weight.grad, bias.grad = torch.tensor([3.0, 0.0]), torch.tensor([-4.0])
        assert clipped([weight, bias, unused], most).item() == pytest.approx(5)
        assert weight.grad.tolist() == pytest.approx(expected, rel=1e-5)
