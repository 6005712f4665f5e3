"""Numbers of a run at trackers: what each is given, resumption, and what is not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from train_helpers import SmallEngine, write_sky_set

from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.training.runlog import RunLog
from astroseg.training.trackers import check_trackers, open_trackers
from astroseg.training.train import train


class Stub(ModuleType):
    """A tracker that writes down its calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*values: Any, **words: Any) -> Any:
            self.calls.append((name, (*values, words)))
            info = SimpleNamespace(run_id="run-7")
            run = SimpleNamespace(id=words.get("id") or "id-7", info=info)
            run.log = lambda *v, **w: self.calls.append(("log", (*v, w)))
            run.finish = lambda **w: self.calls.append(("finish", w))
            return run

        return call

    def named(self, name: str) -> list[Any]:
        return [values for call, values in self.calls if call == name]


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Stub]:
    made = {name: Stub(name) for name in ("wandb", "mlflow")}
    for name, module in made.items():
        module.__spec__ = SimpleNamespace()  # type: ignore[assignment]  found by find_spec
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    return made


def logged(folder: Path, start: int, names: tuple[str, ...] = ("wandb", "mlflow")) -> None:
    trackers = open_trackers(names, folder, start, {"train.seed": 3, "data.bands": ("g", "r")})
    with RunLog(folder, start=start, steps=9, quiet=True, trackers=trackers) as log:
        log.line(start + 1, "train", {"loss": 0.5, "stage": "heads", "bad": float("nan")})


def test_each_gets_the_finite_numbers_and_the_settings(
    tmp_path: Path, stubs: dict[str, Stub]
) -> None:
    logged(tmp_path, 0)
    (begun,) = stubs["wandb"].named("init")
    assert begun[0]["project"] == "astroseg"
    assert begun[0]["id"] is None
    assert begun[0]["config"] == {"train.seed": 3, "data.bands": ("g", "r")}
    assert stubs["wandb"].named("log") == [({"train/loss": 0.5}, {"step": 1})]
    assert stubs["wandb"].named("finish") == [{"exit_code": 0}]
    assert stubs["mlflow"].named("set_experiment") == [("mine", {})]
    assert stubs["mlflow"].named("log_params")[0][0]["train.seed"] == "3"
    assert stubs["mlflow"].named("log_metrics") == [({"train/loss": 0.5}, {"step": 1})]
    assert stubs["mlflow"].named("end_run") == [("FINISHED", {})]


def test_a_resumed_run_goes_on_and_a_new_one_does_not(
    tmp_path: Path, stubs: dict[str, Stub]
) -> None:
    logged(tmp_path, 0)
    assert json.loads((tmp_path / "trackers.json").read_text()) == {
        "wandb": "id-7",
        "mlflow": "run-7",
    }
    logged(tmp_path, 4)
    assert stubs["wandb"].named("init")[1][0]["id"] == "id-7"
    assert stubs["mlflow"].named("start_run")[1][0]["run_id"] == "run-7"
    assert len(stubs["mlflow"].named("log_params")) == 1
    logged(tmp_path, 0)
    assert stubs["wandb"].named("init")[2][0]["id"] is None


def test_a_run_that_fails_ends_as_failed(tmp_path: Path, stubs: dict[str, Stub]) -> None:
    trackers = open_trackers(("wandb", "mlflow"), tmp_path, 0, {})
    with (
        pytest.raises(ZeroDivisionError),
        RunLog(tmp_path, start=0, steps=1, quiet=True, trackers=trackers),
    ):
        _ = 1 / 0
    assert stubs["wandb"].named("finish") == [{"exit_code": 1}]
    assert stubs["mlflow"].named("end_run") == [("FAILED", {})]


def test_a_tracker_that_is_not_there_or_refuses_ends_in_a_line(
    tmp_path: Path, stubs: dict[str, Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("api_key not configured")

    stubs["wandb"].init = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(InputError, match=r"wandb cannot be used \(api_key not configured"):
        open_trackers(("wandb",), tmp_path, 0, {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'astroseg\[mlflow\]'"):
        check_trackers(("mlflow",))
    with pytest.raises(InputError, match="log_to"):
        configured("train", log_to=("floppy",))


def test_training_logs_to_what_is_asked_for_and_removes_what_a_killed_run_left(
    tmp_path: Path, stubs: dict[str, Stub]
) -> None:
    skies = write_sky_set(tmp_path, 2)
    schedule = tmp_path / "short.toml"
    schedule.write_text('batch = 2\n[[stages]]\nsteps = 2\nlr = 0.05\noptimizer = "adamw"\n')
    out = tmp_path / "run"
    out.mkdir()
    left = [out / ".0123abcd.last.safetensors", out / ".89abcdef.state.safetensors"]
    others = [out / ".0123abcd.mine.txt", out / ".hidden", out / ".last.safetensors"]
    for path in (*left, *others):
        path.write_text("x")
    config = configured(
        "train", schedule=str(schedule), device="cpu", workers=0, log_every=1, log_to=("mlflow",)
    )
    train(skies, out, config, engine=SmallEngine(), quiet=True)
    assert not stubs["wandb"].calls
    steps = [values[-1]["step"] for values in stubs["mlflow"].named("log_metrics")]
    assert steps == [1, 2]
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)
    assert not (out / "tensorboard").exists()


def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logged(tmp_path, 0, ("tensorboard",))
    assert list((tmp_path / "tensorboard").iterdir())
    assert not (tmp_path / "trackers.json").exists()
