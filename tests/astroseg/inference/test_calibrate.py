"""A checkpoint's scores made probabilities: stored, applied by prediction, and bounded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from train_helpers import SmallEngine, write_sky_set

from astroseg.core.calibration import Calibration
from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.evaluation.evaluate import evaluate
from astroseg.inference.calibrate import calibrate, summary
from astroseg.inference.predict import predict
from astroseg.training.train import train
from astroseg.weights.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sky_set(tmp_path_factory.mktemp("val"), 12, size=96, sources=14, seed=3)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training leaves it, beside its training set."""
    folder = tmp_path_factory.mktemp("model")
    skies = write_sky_set(folder, 4, size=48)
    schedule = folder / "short.toml"
    schedule.write_text('batch = 4\n[[stages]]\nsteps = 25\nlr = 0.05\noptimizer = "adamw"\n')
    config = configured("train", schedule=str(schedule), device="cpu", workers=0)
    return train(skies, folder / "run", config, engine=SmallEngine(), quiet=True).checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, raw: Path, val: Path) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "model.safetensors"
    calibrate(raw, val, out, engine=SmallEngine(), quiet=True, device="cpu")
    return out


def rows(checkpoint: Path, val: Path, out: Path, **words: Any) -> list[dict[str, Any]]:
    words = {"device": "cpu", "overlays": 0, **words}
    predict(checkpoint, [str(val)], out, engine=SmallEngine(), quiet=True, **words)
    return list(json.loads((out / "predictions.json").read_text()))


def test_prediction_gives_probabilities_and_the_same_detections_and_ap(
    tmp_path: Path, raw: Path, checkpoint: Path, val: Path
) -> None:
    before = rows(raw, val, tmp_path / "a", score=0)
    after = rows(checkpoint, val, tmp_path / "b", score=0)
    key = lambda row: (row["image_id"], row["segmentation"]["counts"])  # noqa: E731
    assert {key(row): row["score"] for row in before} == {
        key(row): row["raw_score"] for row in after
    }
    assert any(row["score"] != row["raw_score"] for row in after)
    plain = rows(checkpoint, val, tmp_path / "c", score=0, calibrated=False)
    assert plain == before
    quick = configured("evaluate", resamples=5, report=False)
    metrics = [
        evaluate(val, tmp_path / name / "predictions.json", None, quick) for name in ("a", "b")
    ]
    old, new = (m.mask_ap for m in metrics)
    assert old is not None
    assert new is not None
    assert old.mean.ap.value == new.mean.ap.value > 0.1
    table = Table.read(tmp_path / "b" / "catalog.fits")
    assert {"score", "raw_score"} <= set(table.colnames)
    info = json.loads((tmp_path / "b" / "predictions.info.json").read_text())["info"]
    assert info["calibration"]["classes"] == ["galaxy", "star"]


def test_limits_are_of_the_probability(tmp_path: Path, checkpoint: Path, val: Path) -> None:
    every = rows(checkpoint, val, tmp_path / "a", score=0)
    middle = float(np.median([row["score"] for row in every]))
    kept = rows(checkpoint, val, tmp_path / "b", score=middle)
    assert 0 < len(kept) < len(every)
    assert kept == [row for row in every if row["score"] >= middle - 1e-9]
    default = rows(checkpoint, val, tmp_path / "c")  # the model's 0.5
    assert default == [row for row in every if row["score"] >= 0.5]


def test_purity_asked_for_is_had_where_it_was_measured(
    tmp_path: Path, checkpoint: Path, val: Path
) -> None:
    stored = Calibration.from_json(read_checkpoint(checkpoint)[1].meta["calibration"])
    point = stored.points[-1]
    kept = rows(checkpoint, val, tmp_path / "a", purity=point.purity - 1e-6)
    assert min(row["score"] for row in kept) == pytest.approx(point.score, abs=1e-8)
    with pytest.raises(InputError, match="no score gave a purity of 1"):
        Calibration(
            stored.classes, stored.temperature, stored.offset, points=stored.points[:1]
        ).score_of(1.0)
    with pytest.raises(InputError, match="both a score and a purity"):
        rows(checkpoint, val, tmp_path / "b", purity=0.9, score=0.5)


def test_checkpoint_is_replaced_with_the_same_weights(tmp_path: Path, raw: Path, val: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    shutil.copy(raw, mine)
    made = calibrate(mine, val, engine=SmallEngine(), quiet=True, device="cpu")
    (before, old), (after, new) = read_checkpoint(raw), read_checkpoint(mine)
    assert all((before[name] == after[name]).all() for name in before)
    assert {k: v for k, v in new.meta.items() if "calibration" not in k} == old.meta
    assert Calibration.from_json(new.meta["calibration"]) == made
    assert "expected calibration error" in summary(made)
    # A second time starts from the raw scores again.
    again = calibrate(mine, val, engine=SmallEngine(), quiet=True, device="cpu")
    assert again == made


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, raw: Path, val: Path) -> None:
    with pytest.raises(InputError, match=r"coco\.json: is what the model was trained on"):
        calibrate(raw, raw.parents[1] / "coco.json", engine=SmallEngine(), quiet=True)
    with pytest.raises(InputError, match="is not calibrated"):
        rows(raw, val, tmp_path / "a", purity=0.9)
