"""A run's state comes back as it was, and nothing in the file can run code."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from astroseg.core.errors import InputError
from astroseg.training.state import RunState, read_state, write_state


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_state_goes_to_a_file_and_back(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    groups = [
        {"params": [model.weight], "name": "weights"},
        {"params": [model.bias], "weight_decay": 0.0},
    ]
    make = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.1),
    }[kind]
    optimizer = make()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(3)).sum().backward()
        optimizer.step()
    ema = {name: value + 1 for name, value in model.state_dict().items()}
    state = RunState(
        step=2,
        model=model.state_dict(),
        ema=ema,
        optimizer=optimizer.state_dict(),
        best=(0.5, 1),
        config={"lr": 0.1},
    )
    write_state(tmp_path / "s.safetensors", state)
    found = read_state(tmp_path / "s.safetensors")
    assert (found.step, found.best, found.config) == (2, (0.5, 1), {"lr": 0.1})
    for name, value in state.model.items():
        assert torch.equal(found.model[name], value)
        assert torch.equal(found.ema[name], ema[name])
    again = make()
    assert found.optimizer is not None
    again.load_state_dict(dict(found.optimizer))
    for parameter in (model.weight, model.bias):
        for name, value in optimizer.state[parameter].items():
            assert torch.equal(again.state[parameter][name], value), name


def test_missing_broken_and_foreign_states_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no state to resume from"):
        read_state(tmp_path / "none.safetensors")
    path = tmp_path / "s.safetensors"
    write_state(path, RunState(step=1, model={"w": torch.zeros(3)}))
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match="not a run's state"):
        read_state(path)
    torch.save({"w": torch.zeros(3)}, path)  # a pickle
    with pytest.raises(InputError, match="not a run's state"):
        read_state(path)


def test_a_state_that_was_changed_since_is_not_resumed_from(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    numbers = {"step": 3, "average": torch.ones(2)}
    optimizer = {"state": {0: numbers}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    write_state(path, RunState(1, {"w": torch.arange(9.0)}, optimizer=optimizer, best=(0.5, 1)))
    data = path.read_bytes()
    assert read_state(path).step == 1
    draw = random.Random(1)
    for _ in range(200):
        changed = bytearray(data)
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            found = read_state(path)
        except InputError:
            continue
        # Spaces and names of other metadata mean nothing.
        assert torch.equal(found.model["w"], torch.arange(9.0))
        assert (found.step, found.best) == (1, (0.5, 1))


@pytest.mark.parametrize("odd", [None, [], "x", 3, {"step": "x"}, {"best": 3}, {"schema": None}])
def test_a_state_of_other_types_is_one_line(odd: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    write_state(path, RunState(1, {"w": torch.zeros(3)}))
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["astroseg_run"])
    header = {**header, **odd} if isinstance(odd, dict) else odd
    save_file({"model/w": torch.zeros(3)}, path, {"astroseg_run": json.dumps(header)})
    with pytest.raises(InputError, match="not a run's state"):
        read_state(path)
