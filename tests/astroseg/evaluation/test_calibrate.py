"""Scores that are probabilities: reliability measured, and a fit that finds a known map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from eval_helpers import scene

from astroseg.core.calibration import Calibration, WorkingPoint, logit, sigmoid
from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.core.overlaps import overlap_with_better
from astroseg.core.rle import encode_at
from astroseg.core.samples import Prediction
from astroseg.evaluation.calibrate import fit_calibration, working_points
from astroseg.evaluation.evaluate import evaluate
from astroseg.evaluation.metrics.matching import mask_candidates
from astroseg.evaluation.metrics.read import read
from astroseg.evaluation.metrics.reliability import curve, right_detections

QUICK = configured("evaluate", resamples=5, tiles=0)


def test_curve_of_a_known_list() -> None:
    score = np.array([0.05, 0.15, 0.15, 0.95, 0.95, 1.0])
    right = np.array([False, True, False, True, True, False])
    made = curve(score, right)
    assert made.count == [1, 2, 0, 0, 0, 0, 0, 0, 0, 3]
    assert made.right[1] == 0.5
    assert made.right[9] == pytest.approx(2 / 3)
    assert np.isnan(made.score[5])
    # |0 - .05| + 2 |.5 - .15| + 3 |2/3 - 2.9/3|, over six
    assert made.expected_calibration_error == pytest.approx((0.05 + 0.7 + 0.9) / 6)


def test_right_is_a_truth_of_any_class_once_at_mask_iou_of_a_half(tmp_path: Path) -> None:
    made = scene(images=1, truths=6, missed=0, false=0, duplicates=0, confused=0, spread=0)
    first, second = made.predictions[:2]
    second["category_id"] = 3 - second["category_id"]
    twice = [
        *made.predictions,
        {**first, "score": 0.0, "category_id": 3 - first["category_id"]},
    ]
    crowd = {**made.truth["annotations"][0], "id": 99, "iscrowd": 1}
    apart = [[100, 100, 110, 100, 110, 110, 100, 110]]
    crowd |= {"segmentation": apart, "bbox": [100, 100, 10, 10], "area": 100}
    made.truth["annotations"].append(crowd)
    twice.append({**first, "segmentation": apart, "bbox": [100, 100, 10, 10], "score": 0.7})
    (tmp_path / "truth.json").write_text(json.dumps(made.truth))
    (tmp_path / "found.json").write_text(json.dumps(twice))
    data = read(tmp_path / "truth.json", tmp_path / "found.json")
    right, counted = right_detections(data, mask_candidates(data.truth, data.detections))
    wrong = {0.0, 0.7}  # a duplicate, and one on an ignore region
    assert [s for s, r in zip(data.detections.score, right, strict=True) if not r] == [
        s for s in data.detections.score if s in wrong
    ]
    assert data.detections.score[~counted].tolist() == [0.7]


def calibrated_scene(
    folder: Path, temperature: float, offset: float, images: int = 60
) -> tuple[Path, Path]:
    """A truth, and detections whose scores are a known distortion of their probability."""
    made = scene(images=images, truths=30, missed=0, false=0, duplicates=0, confused=0, spread=0)
    rng = np.random.default_rng(1)
    for number, row in enumerate(made.predictions):
        probability = rng.uniform(0.02, 0.98)
        if rng.random() > probability:
            x = 2 * (number % 60)  # no two wrong ones of an image in one place
            wrong = [[x, 0, x + 2, 0, x + 2, 1, x, 1]]
            row |= {"segmentation": wrong, "bbox": [x, 0, 2, 1]}
        raw = (logit(np.array([probability])) - offset) * temperature
        row["score"] = float(sigmoid(raw)[0])
    return made.save(folder)


def test_fit_finds_the_map_that_made_the_scores(tmp_path: Path) -> None:
    truth, found = calibrated_scene(tmp_path, temperature=0.5, offset=0.7)
    made = fit_calibration(found, truth)
    assert made.classes == ("galaxy", "star")
    assert np.allclose(made.temperature, 0.5, rtol=0.15)
    assert np.allclose(made.offset, 0.7, atol=0.25)
    assert made.error < 0.02 < 0.1 < made.error_before
    assert sum(made.detections) == len(json.loads(found.read_text()))


def square(x: int, y: int, width: int, height: int) -> dict[str, object]:
    right, top = x + width, y + height
    return {
        "segmentation": [[x, y, right, y, right, top, x, top]],
        "bbox": [x, y, width, height],
        "area": width * height,
    }


def test_fit_finds_what_a_better_detection_in_the_same_place_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = scene(images=40, truths=0, false=0)
    for image in range(1, 41):
        for k in range(9):
            x, y = 40 * (k % 3), 40 * (k // 3)
            # Of the second 0.3 of the pixels lie in the first, which has a higher score.
            first, second = square(x, y, 10, 10), square(x + 7, y, 10, 10)
            for row, covered in ((first, 0.0), (second, 0.3)):
                raw = rng.uniform(0.55, 0.95) if row is first else rng.uniform(0.05, 0.5)
                of_one = {**row, "image_id": image, "category_id": 1}
                made.predictions.append({**of_one, "score": round(float(raw), 6)})
                if rng.random() < sigmoid(logit(np.array([raw])) - 6 * covered)[0]:
                    made.truth["annotations"].append(
                        {**of_one, "id": len(made.truth["annotations"]) + 1, "iscrowd": 0}
                    )
    truth, found = made.save(tmp_path)
    fit = fit_calibration(found, truth)
    assert fit.temperature[0] == pytest.approx(1, rel=0.3)
    assert fit.slope[0] == pytest.approx(-6, abs=2)


def test_what_covers_a_detection_lowers_its_probability() -> None:
    made = Calibration(("a",), (1.0,), (0.0,), slope=(-2.0,), likeness=(-1.0,))
    assert Calibration.from_json(made.to_json()) == made
    height, width = 20, 30
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 10, 5]], np.float32)
    masks = []
    for x0, y0, x1, y1 in boxes.astype(int):
        masks.append(encode_at(np.ones((y1 - y0, x1 - x0), bool), (y0, x0), (height, width)))
    score = np.array([0.5, 0.8, 0.6])
    # Half of the first lies in the second, half of it in the third; half of the third in the
    # second, which nothing covers. IoU: 50 of 150 and of 100 pixels, 25 of 125.
    expected = np.array([[0.5, 0.5], [0, 0], [0.5, 0.2]])
    assert np.allclose(overlap_with_better(masks, boxes, score), expected)
    assert (overlap_with_better(masks, boxes, np.full(3, 0.5)) == 0).all()
    found = Prediction(boxes, score, np.zeros(3, np.int64), tuple(masks))
    after = made.apply(found, 0.0)
    assert after.raw_scores is not None
    # By score the second, the third, the first.
    by_hand = sigmoid(logit(np.array([0.8, 0.6, 0.5])) - np.array([0, 1.2, 1.5]))
    assert after.raw_scores.tolist() == [0.8, 0.6, 0.5]
    assert np.allclose(after.scores, by_hand)
    with pytest.raises(ValueError, match="slopes"):
        Calibration(("a",), (1.0,), (0.0,), slope=(0.1,))
    with pytest.raises(ValueError, match="slopes"):
        Calibration(("a",), (1.0,), (0.0,), likeness=(0.1,))


def test_calibrated_scores_keep_the_ap_and_mend_the_error(tmp_path: Path) -> None:
    truth, found = calibrated_scene(tmp_path, temperature=0.5, offset=0.7, images=8)
    made = fit_calibration(found, truth)
    before = evaluate(truth, found, tmp_path / "page", QUICK)
    rows = json.loads(found.read_text())
    score = np.array([row["score"] for row in rows])
    label = np.array([row["category_id"] - 1 for row in rows])
    assert made.slope == made.likeness == (0.0, 0.0)  # what covers others is drawn at random here
    for row, value in zip(
        rows, made.probability(score, label, np.zeros((len(rows), 2))), strict=True
    ):
        row |= {"score": round(float(value), 9), "raw_score": row["score"]}
    found.write_text(json.dumps(rows))
    after = evaluate(truth, found, None, QUICK)
    assert before.mask_ap is not None
    assert after.mask_ap is not None
    assert after.mask_ap.mean.ap.value == before.mask_ap.mean.ap.value
    assert before.reliability.curves["all"].expected_calibration_error == pytest.approx(
        made.error_before
    )
    assert after.reliability.curves["all"].expected_calibration_error == pytest.approx(
        made.error, abs=1e-3
    )
    assert "Are the scores probabilities?" in (tmp_path / "page" / "report.html").read_text()
    saved = json.loads((tmp_path / "page" / "metrics.json").read_text())
    assert saved["reliability"]["kind"] == "mask"


def test_working_points_are_the_lowest_scores_of_a_purity() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.7, 0.6, 0.5])
    right = np.array([True, True, True, False, True, False])
    points = working_points(score, right, truths=8)
    by_purity = {round(p.purity, 3): p for p in points}
    assert by_purity[1.0] == WorkingPoint(1.0, 0.8, 2 / 8)
    assert by_purity[0.8] == WorkingPoint(0.8, 0.6, 4 / 8)  # 4 of 5
    assert by_purity[0.667] == WorkingPoint(4 / 6, 0.5, 4 / 8)
    made = Calibration(("a",), (1.0,), (0.0,), points=points)
    assert made.score_of(0.95) == 0.8
    assert made.score_of(0.7) == 0.6
    with pytest.raises(InputError, match=r"highest stored one is 0\.800"):
        Calibration(("a",), (1.0,), (0.0,), points=points[:-1]).score_of(0.9)


def test_few_detections_of_a_class_share_the_fit_and_too_few_of_all_are_refused(
    tmp_path: Path,
) -> None:
    truth, found = calibrated_scene(tmp_path, 1.0, 0.0)
    rows = json.loads(found.read_text())
    few = [row for row in rows if row["category_id"] == 1 or row["image_id"] < 3]
    found.write_text(json.dumps(few))
    made = fit_calibration(found, truth)
    alone = [row for row in few if row["category_id"] == 1]
    found.write_text(json.dumps(alone))
    assert made.temperature[1] != made.temperature[0]
    assert fit_calibration(found, truth).temperature[0] == made.temperature[0]
    found.write_text(json.dumps(rows[:8]))
    with pytest.raises(InputError, match=r"truth\.json: has \d right and \d wrong detections"):
        fit_calibration(found, truth)


def test_probabilities_go_there_and_back_and_rise() -> None:
    made = Calibration(("a", "b"), (0.5, 3.0), (0.4, -1.0), (5, 6), 0.01, 0.2)
    assert Calibration.from_json(made.to_json()) == made
    turned = made.of(("b", "a"))
    assert turned.temperature == (3.0, 0.5)
    assert turned.detections == (6, 5)
    raw = np.linspace(0.001, 0.999, 500)
    for label in (0, 1):
        values = made.probability(raw, np.full(500, label), np.zeros((500, 2)))
        assert (np.diff(values) > 0).all()
        assert (made.raw(0.6) < raw[values >= 0.6]).all()
    assert made.raw(0.0) == 0.0
    for broken in ("[]", '{"classes": ["a"]}', made.to_json().replace("3.0", "-3.0"), "{"):
        with pytest.raises(ValueError):  # whatever is wrong with it
            Calibration.from_json(broken)


def test_detections_are_ordered_by_their_probability() -> None:
    made = Calibration(("a", "b"), (1.0, 1.0), (-3.0, 3.0))
    found = Prediction(
        np.zeros((3, 4), np.float32),
        np.array([0.9, 0.5, 0.4], np.float32),
        np.array([0, 1, 0]),
        tuple({"size": [1, 1], "counts": str(i)} for i in range(3)),
    )
    after = made.apply(found, 0.2)
    assert after.labels.tolist() == [1, 0]
    assert after.raw_scores is not None
    assert np.allclose(after.raw_scores, [0.5, 0.9])
    assert np.allclose(after.scores, sigmoid(np.array([3.0, np.log(9) - 3])))
    assert [mask["counts"] for mask in after.masks] == ["1", "0"]
