"""A run's state between two steps: everything a resumed run needs, in one file.

The file is safetensors, whose tensors carry weights, their running mean and the
optimizer's moments, and whose header carries the rest as JSON. Nothing in it can run code
when read, and it is replaced whole or not at all, so a run killed while writing resumes
from the state before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from astroseg.core.errors import InputError
from astroseg.core.files import atomic_path
from astroseg.weights.checkpoint import content_sha256

SCHEMA = 1


@dataclass
class RunState:
    """What is known after `step` steps.

    Attributes
    ----------
    step : updates done.
    model, ema : tensors by name; ema is empty where no running mean is kept.
    optimizer : the optimizer's `state_dict`, None between two stages.
    scaler : of fp16 gradients, empty elsewhere.
    best : highest validation score and its step, if there was one.
    config : what the run was started with, to be compared on resumption.
    """

    step: int
    model: Mapping[str, torch.Tensor]
    ema: Mapping[str, torch.Tensor] = field(default_factory=dict)
    optimizer: Mapping[str, Any] | None = None
    scaler: Mapping[str, Any] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def write_state(path: str | Path, state: RunState) -> None:
    """Write a run's state, atomically."""
    tensors = {f"model/{name}": value for name, value in state.model.items()}
    tensors |= {f"ema/{name}": value for name, value in state.ema.items()}
    optimizer = None
    if state.optimizer is not None:
        numbers: dict[str, dict[str, Any]] = {}
        for index, values in state.optimizer["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer/{index}/{name}"] = value
                else:
                    numbers.setdefault(str(index), {})[name] = value
        optimizer = {"numbers": numbers, "groups": state.optimizer["param_groups"]}
    header = {
        "schema": SCHEMA,
        "step": state.step,
        "optimizer": optimizer,
        "scaler": dict(state.scaler),
        "best": state.best,
        "config": state.config,
    }
    # Clones, because safetensors refuses tensors that share memory.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(header)
    with atomic_path(path) as temporary:
        save_file(plain, temporary, {"astroseg_run": text, "sha256": content_sha256(text, plain)})


def read_state(path: str | Path) -> RunState:
    """A run's state as `write_state` wrote it, on the CPU.

    Raises
    ------
    InputError
        When there is none, or it is broken, changed or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "there is no state to resume from",
            file=path,
            remedy="start the run without --resume",
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            text = metadata["astroseg_run"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(text)
        if header["schema"] > SCHEMA:
            raise InputError(
                f"has version {header['schema']}, newer than {SCHEMA}",
                file=path,
                remedy="upgrade astroseg",
            )
        # Earlier versions wrote none.
        if metadata.get("sha256", "") not in ("", content_sha256(text, tensors)):
            raise ValueError("it was changed since it was written")
        best = header["best"]
        return RunState(
            step=int(header["step"]),
            model=_below("model/", tensors),
            ema=_below("ema/", tensors),
            optimizer=_optimizer(header["optimizer"], _below("optimizer/", tensors)),
            scaler=header["scaler"],
            best=None if best is None else (float(best[0]), int(best[1])),
            config=header["config"],
        )
    except InputError:
        raise
    except Exception as error:  # any kind: it may hold anything
        raise InputError(
            f"is not a run's state ({error})", file=path, remedy="start the run anew"
        ) from error


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _optimizer(
    stored: Mapping[str, Any] | None, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any] | None:
    if stored is None:
        return None
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in stored["numbers"].items()
    }
    for name, value in tensors.items():
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": stored["groups"]}
