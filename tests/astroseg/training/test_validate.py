"""Validation is evaluation: the same numbers on the same images, the same ones at every call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_helpers import write_sky_set

from astroseg.core.config import DataConfig, configured
from astroseg.core.rle import decode_tight
from astroseg.core.samples import Prediction
from astroseg.data.dataset import read_dataset
from astroseg.data.loader import Samples
from astroseg.data.look import survey
from astroseg.evaluation.evaluate import evaluate
from astroseg.inference.results import results
from astroseg.training.validate import evenly_spread, swapped, validate


class Knows:
    """An engine that finds what it is told."""

    def __init__(self, found: list[Prediction]) -> None:
        self.found, self.calls = found, 0

    def set_thresholds(self, model: Any, **_: Any) -> None:
        pass

    def losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {}

    def predict(self, model: Any, batch: Any) -> list[Prediction]:
        self.calls += 1
        return [self.found[self.calls - 1]]


def found_in(path: Path, keep: int, seed: int) -> list[Prediction]:
    """All objects of each image but one in `keep`, ignore regions too, with random scores."""
    document = json.loads(path.read_text())
    rng = np.random.default_rng(seed)
    found = []
    for image in document["images"]:
        rows = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        rows = [row for k, row in enumerate(rows) if k % keep]
        decoded = [decode_tight(row["segmentation"]) for row in rows]
        boxes = np.array([[x, y, x + b.shape[1], y + b.shape[0]] for b, (y, x) in decoded])
        boxes = boxes.astype(np.float32).reshape(-1, 4)
        scores = np.sort(rng.uniform(0.1, 1, len(rows)))[::-1].astype(np.float32)
        labels = np.array([row["category_id"] - 1 for row in rows], np.int64)
        masks = tuple(row["segmentation"] for row in rows)
        found.append(Prediction(boxes, scores, labels, masks))
    return found


@pytest.fixture
def skies(tmp_path: Path) -> Path:
    """Every third label is an ignore region; boxes are wider than their masks."""
    path = write_sky_set(tmp_path, 3, size=64, sources=12)
    document = json.loads(path.read_text())
    for k, row in enumerate(document["annotations"]):
        row["iscrowd"] = int(k % 3 == 0)
        row["bbox"][2] += k % 2
    path.write_text(json.dumps(document))
    return path


def test_validation_gives_what_evaluate_gives(tmp_path: Path, skies: Path) -> None:
    dataset = read_dataset(skies, measured=True)
    config = DataConfig(contrast="asinh")
    looks = survey(dataset, (), 3, config)
    samples = Samples(dataset, looks, config, seed=0, crop=1.0, flips=False, cache_bytes=1 << 20)
    found = found_in(skies, 4, seed=1)
    inside = validate(Knows(found), torch.nn.Linear(1, 1), samples, [0, 1, 2], 0.5)
    rows = [
        row for i, one in enumerate(found) for row in results(dataset.images[i].id, one, (1, 2))
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(rows))
    settings = configured("evaluate", resamples=2, report=False)
    outside = evaluate(skies, tmp_path / "predictions.json", tmp_path / "out", settings)
    assert outside.mask_ap is not None
    assert inside["mask_ap"] == pytest.approx(outside.mask_ap.mean.ap.value, abs=1e-6)
    assert inside["mask_ap50"] == pytest.approx(outside.mask_ap.mean.ap50.value, abs=1e-6)
    assert inside["box_ap"] == pytest.approx(outside.box_ap.mean.ap.value, abs=1e-6)
    assert 0.3 < inside["mask_ap"] < 1
    assert inside["box_ap"] < inside["mask_ap"]  # the file's boxes are too wide


def test_some_images_are_validated_alone(skies: Path) -> None:
    dataset = read_dataset(skies, measured=True)
    config = DataConfig(contrast="asinh")
    looks = survey(dataset, (), 3, config)
    samples = Samples(dataset, looks, config, seed=0, crop=1.0, flips=False, cache_bytes=1 << 20)
    every = found_in(skies, 1000, seed=1)
    every = [found_in(skies, 1000, seed=1)[2], every[0]]
    scores = validate(Knows(every), torch.nn.Linear(1, 1), samples, [2, 0], 0.5)
    assert scores["mask_ap50"] > 0.6


def test_validation_images_are_evenly_spread() -> None:
    assert evenly_spread(5, 0) == [0, 1, 2, 3, 4]
    assert evenly_spread(5, 9) == [0, 1, 2, 3, 4]
    assert evenly_spread(101, 3) == [0, 50, 100]


def test_swapped_weights_come_back_even_after_an_error() -> None:
    model = torch.nn.Linear(2, 1)
    own = model.weight.clone()
    other = {name: value + 1 for name, value in model.state_dict().items()}

    def fail() -> None:
        with swapped(model, other):
            assert torch.equal(model.weight, own + 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(model.weight, own)
