"""Learned attributes: bias, scatter, outliers and coverage by hand, from files to the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astroseg.core.rle import encode_at
from astroseg.evaluation.evaluate import evaluate
from astroseg.evaluation.summary import summarise

SHAPE = (40, 60)
# (true redshift, predicted median, low, high): errors over 1 + z are 0.1, 0.1, -0.05, 0.2, 0.
REDSHIFTS = [
    (0.0, 0.1, -0.1, 0.2),
    (1.0, 1.2, 1.1, 1.3),  # the truth lies outside
    (1.0, 0.9, 0.8, 1.0),
    (1.0, 1.4, 0.9, 1.9),
    (3.0, 3.0, 2.9, 3.1),
    (-99.0, 0.5, 0.0, 1.0),  # unknown
    (None, 0.5, 0.0, 1.0),
]
# Errors 0, 0.1, -0.1, 0.05, 10: bias 0.05, deviations 0.05, 0.05, 0.15, 0, 9.95.
MAGNITUDES = [0.0, 0.1, -0.1, 0.05, 10.0]


def objects() -> list[dict[str, Any]]:
    """Seven squares in two images."""
    rows = []
    for number in range(7):
        corner = (5 + 15 * (number % 2), 2 + 14 * (number // 2))
        rows.append(
            {
                "image_id": 1 + (number > 3),
                "category_id": 1,
                "segmentation": encode_at(np.ones((8, 8), np.bool_), corner, SHAPE),
                "bbox": [corner[1], corner[0], 8, 8],
            }
        )
    return rows


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truths, found = objects(), objects()
    for number, ((true, middle, low, high), truth, row) in enumerate(
        zip(REDSHIFTS, truths, found, strict=True)
    ):
        truth |= {"id": number + 1, "iscrowd": 0, "area": 64}
        row |= {"score": 0.9 - 0.01 * number}
        truth["attributes"] = {} if true is None else {"redshift": true}
        told = {"redshift": middle, "redshift_std": 0.1, "redshift_lo": low, "redshift_hi": high}
        if number < len(MAGNITUDES):
            truth["attributes"]["mag_i"] = 20.0
        magnitude = 20.0 + (MAGNITUDES[number] if number < len(MAGNITUDES) else 0.0)
        for suffix, shift in (("", 0.0), ("_std", -20.0), ("_lo", -0.06), ("_hi", 0.06)):
            told[f"mag_i{suffix}"] = magnitude + shift
        row["attributes"] = told
    # A detection of nothing has values, too; they are compared with none.
    found.append({**found[0], "bbox": [50, 30, 5, 5], "segmentation": encode_at(
        np.ones((5, 5), np.bool_), (30, 50), SHAPE)})  # fmt: skip
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SHAPE[0], "width": SHAPE[1]} for i in (1, 2)
    ]
    truth_path, found_path = tmp_path / "truth.json", tmp_path / "predictions.json"
    document = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "g"}]}
    truth_path.write_text(json.dumps(document))
    found_path.write_text(json.dumps(found))
    return truth_path, found_path


def test_redshifts_are_scored_over_one_plus_z(files: tuple[Path, Path]) -> None:
    one = evaluate(*files, resamples=50).targets["redshift"]
    assert one.pairs == 5
    assert one.over_one_plus_z
    assert one.bias.value == pytest.approx(0.1)
    assert one.scatter.value == pytest.approx(1.4826 * 0.1)
    assert one.outlier_limit == 0.15
    assert one.outliers.value == pytest.approx(1 / 5)
    assert one.coverage.value == pytest.approx(4 / 5)
    # Images hold 4 and 1 of the pairs: all of a resample may be of either.
    assert (one.outliers.low, one.outliers.high) == (0, pytest.approx(1 / 4))


def test_other_attributes_have_outliers_in_units_of_their_scatter(files: tuple[Path, Path]) -> None:
    one = evaluate(*files, resamples=50).targets["mag_i"]
    assert (one.pairs, one.over_one_plus_z) == (5, False)
    assert one.bias.value == pytest.approx(0.05)
    assert one.scatter.value == pytest.approx(1.4826 * 0.05)
    assert one.outlier_limit == pytest.approx(5 * 1.4826 * 0.05)
    assert one.outliers.value == pytest.approx(1 / 5)
    assert one.coverage.value == pytest.approx(2 / 5)
    wide = evaluate(*files, resamples=50, **{"evaluate.outlier_scatter": 200.0})
    assert wide.targets["mag_i"].outliers.value == 0


def test_they_are_in_the_files_and_on_the_screen(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    metrics = evaluate(*files, out, resamples=50, tiles=0)
    stored = json.loads((out / "metrics.json").read_text())["targets"]
    assert stored["redshift"]["bias"]["value"] == pytest.approx(0.1)
    page = (out / "report.html").read_text()
    assert "Are the learned attributes right?" in page
    assert "predicted against true" in page
    said = "redshift: bias 0.100, scatter 0.148, outliers 0.200, coverage of 68 % 0.800 (5 pairs)"
    assert said in summarise(metrics).splitlines()


@pytest.mark.usefixtures("unsaved")
def test_predictions_without_them_and_truths_without_values_are_told_apart(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    truth, found = files
    rows = json.loads(found.read_text())
    plain = tmp_path / "plain.json"
    keys = ("attributes",)
    plain.write_text(json.dumps([{k: v for k, v in row.items() if k not in keys} for row in rows]))
    out = tmp_path / "plain"
    assert evaluate(truth, plain, out, resamples=20, tiles=0).targets == {}
    assert "learned attributes" not in (out / "report.html").read_text()
    document = json.loads(truth.read_text())
    for row in document["annotations"]:
        row["attributes"] = {}
    unknown = tmp_path / "unknown.json"
    unknown.write_text(json.dumps(document))
    one = evaluate(unknown, found, None, resamples=20, tiles=0).targets["redshift"]
    assert one.pairs == 0
    assert math.isnan(one.bias.value)
    assert math.isnan(one.coverage.value)


def test_a_first_prediction_that_is_left_out_leaves_the_others(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    truth, found = files
    rows = json.loads(found.read_text())
    first = {k: v for k, v in rows[0].items() if k not in ("bbox", "segmentation")}
    for row in rows:
        del row["attributes"]
    some = tmp_path / "some.json"
    some.write_text(json.dumps([first, *rows]))
    assert evaluate(truth, some, resamples=20).targets["redshift"].pairs == 0
