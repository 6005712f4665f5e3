"""Where the numbers of a run go beside its log: TensorBoard, Weights & Biases, MLflow.

None of them is needed. Each is an extra (``pip install astroseg[wandb]``) and imported when it is
asked for. A resumed run goes on in the same run of the tracker.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from astroseg.core.errors import InputError
from astroseg.core.files import read_json, write_json

TENSORBOARD_NAME = "tensorboard"
IDS_NAME = "trackers.json"
"""Ids of the run at each tracker, for resumption."""

PROJECT = "astroseg"
"""Of Weights & Biases, and MLflow's experiment, where the environment names no other."""

LONGEST_PARAMETER = 500
"""Characters of a parameter's value that every MLflow server takes."""


class Tracker(Protocol):
    """Takes numbers by name."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers of a step."""
        ...

    def close(self, finished: bool) -> None:
        """The run ended, as it should or not."""
        ...


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(folder / TENSORBOARD_NAME), purge_step=start if start else None
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, finished: bool) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and the like count."""

    def __init__(self, folder: Path, identity: str | None, settings: Mapping[str, Any]) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.resolve().name,
            dir=str(folder),
            id=identity,
            resume="allow",
            config=dict(settings),
        )
        self.identity = str(self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class MLflow:
    """A run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME count."""

    def __init__(self, folder: Path, identity: str | None, settings: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        if identity is None:
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        run = mlflow.start_run(run_id=identity, run_name=folder.resolve().name)
        self.identity = str(run.info.run_id)
        if identity is None:
            mlflow.log_params({k: str(v)[:LONGEST_PARAMETER] for k, v in settings.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, finished: bool) -> None:
        self._mlflow.end_run("FINISHED" if finished else "FAILED")


def check_trackers(names: Sequence[str]) -> None:
    """Raise InputError for a tracker that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--log-to {name} needs the package {name}",
                remedy=f"pip install 'astroseg[{name}]', or leave it out: log.jsonl has the "
                "same numbers",
            )


def open_trackers(
    names: Sequence[str], folder: Path, start: int, settings: Mapping[str, Any]
) -> list[Tracker]:
    """The trackers of a run.

    Parameters
    ----------
    folder : of the run.
    start : step that the run begins or is resumed at.
    settings : of the run, by name.

    Raises
    ------
    InputError
        When a tracker cannot be reached.
    """
    ids = folder / IDS_NAME
    known: dict[str, str] = read_json(ids) if start and ids.is_file() else {}
    trackers: list[Tracker] = []
    for name in names:
        try:
            if name == "tensorboard":
                trackers.append(TensorBoard(folder, start))
                continue
            kind: type[WandB] | type[MLflow] = WandB if name == "wandb" else MLflow
            made = kind(folder, known.get(name), settings)
        except Exception as error:  # of the tracker's own kinds: login, network, configuration
            for one in trackers:
                one.close(False)
            raise InputError(
                f"{name} cannot be used ({' '.join(str(error).split())[:200]})",
                remedy=f"set {name} up as its manual says, or leave --log-to {name} out",
            ) from error
        known[name] = made.identity
        trackers.append(made)
    if known:
        write_json(ids, known)
    return trackers
