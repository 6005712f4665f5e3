"""Prediction on several devices: the same files as on one, each process with tiles of its own."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from train_helpers import SmallEngine, sky, write_sky_set

from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.inference.devices import Share
from astroseg.inference.predict import predict
from astroseg.training.train import train


class Witness(SmallEngine):
    """An engine that counts what this process asks of it, and may fail in all others."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.images, self.fails = 0, fails

    def predict(self, model: Any, batch: Any) -> Any:
        if self.fails and multiprocessing.parent_process() is not None:
            raise RuntimeError("out of memory")
        self.images += len(batch)
        return super().predict(model, batch)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    skies = write_sky_set(folder, 4, size=48)
    (folder / "short.toml").write_text(
        'batch = 4\n[[stages]]\nsteps = 60\nlr = 0.05\noptimizer = "adamw"\n'
    )
    config = configured("train", schedule=str(folder / "short.toml"), device="cpu", workers=0)
    return train(skies, folder / "run", config, engine=SmallEngine(), quiet=True).checkpoint


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two of one tile, one of nine."""
    folder = tmp_path_factory.mktemp("images")
    for number, size in enumerate((40, 100, 40)):
        np.save(folder / f"{number}.npy", sky(size, size // 8, seed=number)[0])
    return [str(folder / f"{number}.npy") for number in range(3)]


def run(
    checkpoint: Path, images: list[str], out: Path, device: str, *, fails: bool = False
) -> tuple[dict[str, Any], int]:
    """All files but what a run says of itself, and the images that this process computed."""
    engine = Witness(fails)
    config = configured("predict", device=device, tile_size=48, overlap=16)
    predict(checkpoint, images, out, config, engine=engine, quiet=True)
    files: dict[str, Any] = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("predictions.info.json", "catalog.fits")
    }
    return files | {"catalog": Table.read(out / "catalog.fits").as_array().tolist()}, engine.images


def test_two_devices_write_what_one_does(
    tmp_path: Path, checkpoint: Path, images: list[str]
) -> None:
    alone, computed = run(checkpoint, images, tmp_path / "one", "cpu")
    shared, mine = run(checkpoint, images, tmp_path / "two", "cpu,cpu")
    assert computed == 11
    assert mine == 6  # of nine tiles five, of two images one
    assert shared == alone
    assert len(shared["catalog"]) > 5


def test_what_another_process_leaves_is_done_by_the_first(
    tmp_path: Path, checkpoint: Path, images: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    alone, _ = run(checkpoint, images, tmp_path / "one", "cpu")
    with caplog.at_level(logging.WARNING):
        shared, mine = run(checkpoint, images, tmp_path / "two", "cpu,cpu", fails=True)
    assert mine == 11
    assert shared == alone
    assert "the process on cpu ended early" in caplog.text


def test_each_device_must_be_there(tmp_path: Path, checkpoint: Path, images: list[str]) -> None:
    with pytest.raises(InputError, match="mps does not work here"):
        run(checkpoint, images, tmp_path / "out", "cpu,mps")


def test_shares_are_disjoint_and_all_of_it() -> None:
    pieces = [Share(k, 3).take(range(10)) for k in range(3)]
    assert sorted(n for some in pieces for n in some) == list(range(10))
