"""An attribute that only colour tells: learned, predicted, written, calibrated beside."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table
from target_helpers import coloured_sky, write_coloured_set

import astroseg
from astroseg.core.calibration import Calibration
from astroseg.core.config import DataConfig
from astroseg.core.rle import encode_at
from astroseg.core.samples import Prediction, Sample
from astroseg.core.targets import summary
from astroseg.data.dataset import ImageRecord, read_dataset
from astroseg.data.loader import Samples
from astroseg.data.look import survey
from astroseg.engines import get_engine
from astroseg.inference.predict import predict
from astroseg.inference.sky import image_catalog
from astroseg.weights.checkpoint import add_meta, read_header

COLUMNS = ("redshift", "redshift_std", "redshift_lo", "redshift_hi")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of sixty steps, a few seconds."""
    folder = tmp_path_factory.mktemp("learned")
    labels = write_coloured_set(folder, 16, unknown=0.3)
    words: dict[str, Any] = {"steps": 60, "batch": 2, "lr": 4e-3, "workers": 0}
    targets = ("redshift", "mag_i")
    done = astroseg.train(
        labels, folder / "run", targets=targets, device="cpu", quiet=True, **words
    )
    return done.checkpoint


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coloured_set(tmp_path_factory.mktemp("held_out"), 6, seed=1)


def test_the_loss_on_other_skies_is_far_below_that_of_the_best_constant(
    checkpoint: Path, held_out: Path
) -> None:
    engine, spec = get_engine("torchvision"), read_header(checkpoint).spec
    assert spec is not None
    model = engine.build(spec)
    engine.load(model, checkpoint)
    dataset = read_dataset(held_out, targets=spec.targets)
    data = DataConfig(contrast="asinh")
    looks = survey(dataset, ("g", "r", "i"), 3, data)
    samples = Samples(dataset, looks, data, seed=0, crop=1.0, flips=False, cache_bytes=0)
    batch: list[Sample] = [samples.sample(i) for i in range(len(dataset))]
    torch.manual_seed(0)
    with torch.no_grad():
        loss = float(engine.losses(model, batch)["loss_targets"])
    # The best constant Gaussian knows mean and deviation of the held-out values themselves.
    spread = dataset.truth.all_targets().astype(np.float64).std(axis=0) / spec.target_std
    constant = 0.5 * math.log(2 * math.pi * math.e) + np.log(spread).mean()
    assert loss < constant - 0.5


def test_predictions_hold_median_deviation_and_quantiles(
    checkpoint: Path, held_out: Path, tmp_path: Path
) -> None:
    result = predict(checkpoint, [str(held_out)], tmp_path, device="cpu", overlays=0, quiet=True)
    rows = json.loads(result.results.read_text())
    table = Table.read(result.catalog)
    assert len(rows) == len(table) > 20
    info = json.loads((tmp_path / "predictions.info.json").read_text())["info"]
    assert info["targets"] == ["redshift", "mag_i"]
    for name in COLUMNS:
        written = [row["attributes"][name] for row in rows]
        np.testing.assert_allclose(table[name], written, rtol=5e-6)  # written in six digits
    assert (table["redshift_lo"] < table["redshift"]).all()
    assert (table["redshift"] < table["redshift_hi"]).all()
    # The measured magnitude keeps its name.
    assert "mag_i_learned_lo" in table.colnames
    mixture = rows[0]["mixtures"]["redshift"]
    assert {part: len(values) for part, values in mixture.items()} == {
        "weights": 5, "means": 5, "stds": 5
    }  # fmt: skip
    stacked = np.array([[mixture[part] for part in ("weights", "means", "stds")]])
    numbers = [rows[0]["attributes"][name] for name in COLUMNS]
    assert summary(stacked)[0] == pytest.approx(numbers, rel=1e-4)  # of parts in six digits


def test_python_gives_values_near_the_truth_in_tiles_too(checkpoint: Path) -> None:
    image, sources = coloured_sky(5000)
    model = astroseg.load(checkpoint, device="cpu", tile_size=48, overlap=24)
    found = model.predict(image)
    assert found.targets == ("redshift", "mag_i")
    assert found.mixtures["redshift"].means.shape == (len(found), 5)
    errors = []
    for bitmap, (y, x), redshift in sources:
        middle = np.array([x + bitmap.shape[1] / 2, y + bitmap.shape[0] / 2]) - 0.5
        distance = np.hypot(found.table["x"] - middle[0], found.table["y"] - middle[1])
        if distance.min() < 3:
            errors.append(found.table["redshift"][distance.argmin()] - redshift)
    assert len(errors) > len(sources) / 2
    assert np.abs(errors).mean() < 0.12  # 0.25 for a constant


def test_they_survive_calibration_and_coco(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.safetensors"
    made = Calibration(("galaxy",), (2.0,), (0.3,))
    add_meta(checkpoint, out, {"calibration": made.to_json()})
    image, _ = coloured_sky(5000)
    # The same least score: a matrix product rounds by how many rows it has.
    before = astroseg.load(checkpoint, device="cpu", score=0.0).predict(image)
    after = astroseg.load(out, device="cpu", score=0.0).predict(image)
    assert after.prediction.raw_scores is not None
    by_mask = {
        mask["counts"]: row
        for mask, row in zip(after.prediction.masks, after.mixtures["redshift"].means, strict=True)
    }
    for mask, row in zip(before.prediction.masks, before.mixtures["redshift"].means, strict=True):
        assert np.array_equal(by_mask[mask["counts"]], row)
    path = before.to_coco(tmp_path / "coco")
    first = json.loads(path.read_text())["annotations"][0]["attributes"]
    assert first["redshift"] == pytest.approx(float(before.table["redshift"][0]))
    assert {"redshift_lo", "mag_i_learned", "mag_i_learned_std"} <= set(first)


def test_a_catalog_keeps_measured_columns_and_the_order_of_detections() -> None:
    masks = [encode_at(np.ones((4, 4), bool), (y, 10), (40, 40)) for y in (5, 20)]
    boxes = np.array([[10, 5, 14, 9], [10, 20, 14, 24]], np.float32)
    mixtures = np.zeros((2, 2, 3, 1), np.float32)
    mixtures[:, :, 0], mixtures[:, :, 2] = 1, 0.5
    mixtures[:, 0, 1, 0], mixtures[:, 1, 1, 0] = (0.1, 2.0), (21, 25)
    found = Prediction(
        boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64), tuple(masks),
        mixtures=mixtures,
    )  # fmt: skip
    record = ImageRecord(1, "a.fits", (Path("a.fits"),), 40, 40, zeropoint=(27.0,))

    def window(y0: int, x0: int, y1: int, x1: int) -> Any:
        return np.ones((1, y1 - y0, x1 - x0), np.float32)

    table = image_catalog(
        record, found, window, ("i",), (27.0,), ("galaxy",), ("redshift", "mag_i")
    )
    assert table["redshift"].tolist() == pytest.approx([0.1, 2.0])
    assert table["redshift_std"].tolist() == pytest.approx([0.5, 0.5])
    assert table["mag_i"].tolist() == pytest.approx([27 - 2.5 * math.log10(16)] * 2)
    assert table["mag_i_learned"].tolist() == pytest.approx([21, 25])
    assert str(table["mag_i_learned_hi"].unit) == "mag"
