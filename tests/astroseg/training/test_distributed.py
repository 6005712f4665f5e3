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
from astroseg.cli.imports import lasting_imports
with lasting_imports():
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


def started(script: str, *arguments: object, processes: int = 2) -> list[int]:
    """Exit codes of a script in processes that share its work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        variables = {
            "RANK": rank,
            "WORLD_SIZE": processes,
            "LOCAL_RANK": rank,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": 1,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        env = os.environ | {key: str(value) for key, value in variables.items()}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        running.append(subprocess.Popen(command, env=env))
    return [process.wait() for process in running]


@pytest.mark.slow
def test_gradients_flags_and_means_are_shared(tmp_path: Path) -> None:
    assert started(SCRIPT, tmp_path) == [0, 0]
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
from astroseg.cli.imports import lasting_imports
with lasting_imports():
    from train_helpers import SmallEngine
    from astroseg.core.config import configured
    from astroseg.training.train import train
skies, out, share, stop_at, resume = sys.argv[1:]
config = configured("train", steps=6, batch=4, device="cpu", workers=0, least_pixels=0, log_every=1,
                    save_every=2)
engine = SmallEngine(share=float(share), stop_at=int(stop_at), for_real=True)
train(skies, out, config, engine=engine, quiet=True, resume=resume == "resume")
"""


def losses(run: Path) -> list[float]:
    lines = [row for row in read_log(run / "log.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in lines] == [1, 2, 3, 4, 5, 6]
    return [row["loss"] for row in lines]


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """A run of two processes ends whole: every logged step, finite weights, one writer."""
    skies = write_sky_set(tmp_path / "skies", 5)
    assert started(TRAIN, skies, tmp_path / "run", 0.5, -1, "new") == [0, 0]
    assert len(losses(tmp_path / "run")) == 6
    tensors, _ = read_checkpoint(tmp_path / "run" / "last.safetensors")
    assert all(torch.isfinite(value).all() for value in tensors.values())


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_one_goes_on(tmp_path: Path) -> None:
    """Where nothing is drawn at random; what one process draws is not what two do."""
    skies = write_sky_set(tmp_path / "skies", 5)
    assert started(TRAIN, skies, tmp_path / "one", 1, -1, "new", processes=1) == [0]
    expected = losses(tmp_path / "one")
    assert len(set(expected)) == 6
    assert started(TRAIN, skies, tmp_path / "two", 1, -1, "new") == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)
    assert all(started(TRAIN, skies, tmp_path / "killed", 1, 5, "new"))
    assert started(TRAIN, skies, tmp_path / "killed", 1, -1, "resume", processes=1) == [0]
    assert losses(tmp_path / "killed") == pytest.approx(expected, rel=1e-5)
