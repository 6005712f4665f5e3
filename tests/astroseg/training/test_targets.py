"""Attributes from the label file to a trained model."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from target_helpers import SIZE, write_coloured_set
from train_helpers import Killed, SmallEngine

from astroseg.core.config import DataConfig, configured
from astroseg.core.errors import InputError
from astroseg.data.augment import View
from astroseg.data.dataset import read_dataset
from astroseg.data.loader import Samples
from astroseg.data.look import survey
from astroseg.engines.torchvision import TorchvisionEngine
from astroseg.training.architecture import training_spec, with_targets
from astroseg.training.train import LAST_NAME, train
from astroseg.weights.checkpoint import read_checkpoint, read_header

QUICK = {"steps": 1, "workers": 0, "device": "cpu", "quiet": True, "batch": 2}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coloured_set(tmp_path_factory.mktemp("coloured"), 16, unknown=0.3)


def attributes(path: Path) -> list[float]:
    """Redshifts as the file has them, NaN for what stands for none."""
    rows = json.loads(path.read_text())["annotations"]
    values = [row["attributes"]["redshift"] for row in rows]
    return [v if isinstance(v, float) and v >= 0 else math.nan for v in values]


def test_known_values_reach_samples_in_every_view_and_unknown_ones_are_nan(labels: Path) -> None:
    dataset = read_dataset(labels, targets=("redshift", "absent"))
    expected = np.array(attributes(labels), np.float32)
    assert np.isnan(expected).any()
    assert np.array_equal(dataset.truth.all_targets()[:, 0], expected, equal_nan=True)
    assert np.isnan(dataset.truth.all_targets()[:, 1]).all()
    data = DataConfig(contrast="asinh")
    looks = survey(dataset, ("g", "r", "i"), 3, data)
    samples = Samples(dataset, looks, data, seed=0, crop=1.0, flips=True, cache_bytes=0)
    whole = samples.sample(0)
    assert whole.targets is not None
    known = dict(zip(map(tuple, whole.boxes.tolist()), whole.targets[:, 0].tolist(), strict=True))
    # A crop of the left half holds some of them, with the values of their boxes.
    half = samples.sample(0, View(0, 0, SIZE, SIZE // 2))
    assert half.targets is not None
    assert 0 < len(half.labels) < len(whole.labels)
    compared = 0
    for box, value in zip(half.boxes.tolist(), half.targets[:, 0].tolist(), strict=True):
        if tuple(box) in known:
            assert np.array_equal(value, known[tuple(box)], equal_nan=True)
            compared += 1
    assert compared


def test_sentinels_are_told_and_deepdiscs_records_hold_numbers_of_their_own(
    labels: Path, tmp_path: Path
) -> None:
    notes = read_dataset(labels, targets=("redshift",)).notes()
    assert any("sentinel values of redshift" in line for line in notes)
    assert not read_dataset(labels).notes()
    document = json.loads(labels.read_text())
    image = document["images"][0]
    rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
    record = {
        "filename": str(labels.parent / image["astro"]["cube"]),
        "height": image["height"],
        "width": image["width"],
        "annotations": [
            {
                "bbox": row["bbox"],
                "bbox_mode": 1,
                "segmentation": row["segmentation"],
                "category_id": 0,
                "redshift": 0.1 * number,
                "mag_i": row["attributes"]["mag_i"],
            }
            for number, row in enumerate(rows)
        ],
    }
    path = tmp_path / "records.json"
    path.write_text(json.dumps([record]))
    found = read_dataset(path, targets=("redshift", "mag_i")).truth.all_targets()
    given = [(0.1 * n, row["attributes"]["mag_i"]) for n, row in enumerate(rows)]
    assert np.array_equal(found, np.array(given, np.float32))  # as stored


def test_scaling_is_of_the_training_set_and_stays_with_weights_that_know_it(labels: Path) -> None:
    dataset = read_dataset(labels, targets=("redshift",))
    config = configured("train", targets=("redshift",), contrast="asinh")
    spec = with_targets(training_spec(config, 3, ("galaxy",)), config.model, dataset)
    known = np.array([v for v in attributes(labels) if v == v])
    assert spec.target_mean == (pytest.approx(np.median(known), rel=1e-5),)
    low, high = np.quantile(known, [0.16, 0.84])
    assert spec.target_std == (pytest.approx((high - low) / 2, rel=1e-5),)
    tuned = dataclasses.replace(spec, target_mean=(9.0,), target_std=(4.0,))
    assert with_targets(tuned, config.model, dataset) == tuned
    none = configured("train", targets=())
    assert with_targets(tuned, none.model, dataset).target_std == ()


def test_a_target_that_no_object_has_is_refused_in_one_line(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no object has the attribute 'redhsift'"):
        train(labels, tmp_path / "run", targets=("redhsift",), **QUICK)
    document = json.loads(labels.read_text())
    for row in document["annotations"]:
        row["attributes"]["redshift"] = 0.5
    same = labels.parent / "same.json"
    same.write_text(json.dumps(document))
    with pytest.raises(InputError, match="all objects have one value of"):
        train(same, tmp_path / "run", targets=("redshift",), **QUICK)


def test_an_engine_without_a_head_for_them_refuses(labels: Path, tmp_path: Path) -> None:
    class Other(SmallEngine):
        def refusal(self, spec: object) -> str:
            return "it has no head"

    with pytest.raises(InputError, match="does not learn targets"):
        train(labels, tmp_path / "run", targets=("redshift",), engine=Other(), **QUICK)


def test_fine_tuning_keeps_the_head_of_the_same_targets_and_starts_one_of_others(
    labels: Path, tmp_path: Path
) -> None:
    train(labels, tmp_path / "a", targets=("redshift",), **QUICK)
    weights = str(tmp_path / "a" / LAST_NAME)
    first = read_header(weights)
    assert first.spec is not None
    assert first.spec.targets == ("redshift",)
    train(labels, tmp_path / "b", targets=("mag_i",), weights=weights, **QUICK)
    second = read_header(tmp_path / "b" / LAST_NAME).spec
    assert second is not None
    assert second.targets == ("mag_i",)
    assert second.target_mean != first.spec.target_mean
    train(labels, tmp_path / "c", weights=weights, **QUICK)
    third = read_header(tmp_path / "c" / LAST_NAME).spec
    assert third is not None
    assert third.targets == ()


def test_a_run_with_targets_that_is_resumed_ends_as_it_would_have(
    labels: Path, tmp_path: Path
) -> None:
    class Breaking(TorchvisionEngine):
        calls = 0

        def losses(self, model: Any, batch: Any) -> Any:
            self.calls += 1
            if self.calls == 4:
                raise Killed
            return super().losses(model, batch)

    words = {**QUICK, "steps": 4, "save_every": 2, "targets": ("redshift",)}
    train(labels, tmp_path / "whole", **words)
    with pytest.raises(Killed):
        train(labels, tmp_path / "run", engine=Breaking(), **words)
    train(labels, tmp_path / "run", resume=True, **words)
    whole, again = (read_checkpoint(tmp_path / f / LAST_NAME)[0] for f in ("whole", "run"))
    name = "roi_heads.target_head.predictor.weight"
    assert whole.keys() == again.keys()
    assert all(bool((whole[n] == again[n]).all()) for n in whole)
    assert float(whole[name].abs().sum()) > 0
