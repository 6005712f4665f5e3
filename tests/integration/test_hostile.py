"""What strangers may send, as benchmarks/hostile.py makes it, is read or refused in one line."""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="checkpoints are astroseg's: pip install astroseg")

import astroseg.weights
from astroseg.core.errors import AstrosegError
from astroseg.weights.checkpoint import read_checkpoint

FOLDER = Path(__file__).parents[2] / "benchmarks"
SOUND = Path(astroseg.weights.__file__).with_name("sky.safetensors")


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import faults

    yield faults
    for name in ("faults", "hostile"):
        sys.modules.pop(name, None)


def test_a_bad_checkpoint_is_refused_or_read_and_runs_nothing(faults, tmp_path):
    said = []
    for seed in range(60):
        draw, path = random.Random(seed), tmp_path / f"{seed}.{('safetensors', 'pth')[seed % 2]}"
        data = faults.bad_checkpoint(SOUND.read_bytes(), draw, faults.mutated, tmp_path / "ran")
        path.write_bytes(data)
        try:
            tensors, _ = read_checkpoint(path)
        except AstrosegError as error:
            said.append((path.name, str(error)))
        else:
            assert tensors
    assert not (tmp_path / "ran").exists()
    assert all(name in text and len(text.splitlines()) == 1 for name, text in said)
    assert 20 < len(said) < 60


def test_the_pickle_would_run_if_it_were_unpickled(faults, tmp_path):
    """The test above can fail."""
    import pickle

    for seed in range(60):
        data = faults.bad_checkpoint(
            SOUND.read_bytes(), random.Random(seed), faults.mutated, tmp_path / "ran"
        )
        if data[:1] == b"\x80":
            pickle.loads(data)
            break
    assert (tmp_path / "ran").exists()
