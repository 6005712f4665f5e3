"""Two processes on one batch give the gradients of one process with the whole of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_helpers import write_sky_set

from astroseg.training.runlog import read_log
from astroseg.weights.checkpoint import read_checkpoint

SCRIPT = """
import os, sys
from pathlib import Path
import torch
from astroseg.training.distributed import joined
out = Path(sys.argv[1])
with joined(torch.device("cpu")) as group:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    unused = torch.nn.Parameter(torch.ones(2))
    batch = torch.arange(12.0).reshape(4, 3)[group.rank :: group.ranks]
    model(batch).square().mean().backward()
    group.average_gradients([*model.parameters(), unused])
    any_flag = group.any(group.rank == 1, torch.device("cpu"))
    mean = group.average(torch.tensor([float(group.rank)]))
    torch.save([model.weight.grad, unused.grad, torch.tensor(float(any_flag)), mean],
               out / f"{group.rank}.pt")
"""


@pytest.mark.slow
def test_gradients_flags_and_means_are_shared(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        variables = {
            "RANK": rank,
            "WORLD_SIZE": 2,
            "LOCAL_RANK": rank,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": 1,
        }
        env = os.environ | {key: str(value) for key, value in variables.items()}
        processes.append(subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=env))
    assert [process.wait() for process in processes] == [0, 0]
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    model(torch.arange(12.0).reshape(4, 3)).square().mean().backward()
    for rank in range(2):
        grad, unused, flag, mean = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(grad, model.weight.grad)
        assert unused.tolist() == [0, 0]  # no process had a gradient for it
        assert (flag.item(), mean.item()) == (1.0, 0.5)


TRAIN = """
import sys
from train_helpers import SmallEngine
from astroseg.core.config import configured
from astroseg.training.train import train
config = configured("train", steps=6, batch=4, device="cpu", workers=0, least_pixels=0, log_every=2)
train(sys.argv[1], sys.argv[2], config, engine=SmallEngine(), quiet=True)
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """A run of two processes ends whole: every logged step, finite weights, one writer."""
    skies = write_sky_set(tmp_path / "skies", 5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        variables = {
            "RANK": rank,
            "WORLD_SIZE": 2,
            "LOCAL_RANK": rank,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": 1,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        env = os.environ | {key: str(value) for key, value in variables.items()}
        command = [sys.executable, "-c", TRAIN, str(skies), str(tmp_path / "run")]
        processes.append(subprocess.Popen(command, env=env))
    assert [process.wait() for process in processes] == [0, 0]
    lines = [row for row in read_log(tmp_path / "run" / "log.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in lines] == [2, 4, 6]
    tensors, _ = read_checkpoint(tmp_path / "run" / "last.safetensors")
    assert all(torch.isfinite(value).all() for value in tensors.values())
