"""A run's state comes back as it was, and nothing in the file can run code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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
