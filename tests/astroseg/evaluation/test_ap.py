"""AP held to pycocotools, and to itself where pycocotools has no such number."""

from __future__ import annotations

import contextlib
import copy
import io
from pathlib import Path

import numpy as np
import pytest
from eval_helpers import Ellipse, Entry, Scene, ellipse_rle, scene
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from astroseg.evaluation.metrics import ap, bootstrap
from astroseg.evaluation.metrics.matching import Candidates, box_candidates, mask_candidates
from astroseg.evaluation.metrics.objects import EvaluationSet
from astroseg.evaluation.metrics.read import read

KINDS: tuple[ap.Kind, ...] = ("box", "mask")


def pycocotools_ap(made: Scene, kind: ap.Kind) -> NDArray[np.float64]:
    """(3, K, 4) AP, AP50, AP75 by class and size."""
    gt = COCO()
    gt.dataset = copy.deepcopy(made.truth)
    entries = copy.deepcopy(made.predictions)
    if kind == "mask":  # a mask's size, not its box's, as Detectron2 evaluates
        for entry in entries:
            del entry["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        engine = COCOeval(gt, gt.loadRes(entries), "bbox" if kind == "box" else "segm")
        engine.params.maxDets = [10_000]
        engine.evaluate()
        engine.accumulate()
    precision = engine.eval["precision"][..., 0]
    table = np.stack([p.mean(axis=(0, 1)) for p in (precision, precision[:1], precision[5:6])])
    return np.where(table < 0, np.nan, table)


def candidates(data: EvaluationSet, kind: ap.Kind) -> Candidates:
    make = box_candidates if kind == "box" else mask_candidates
    return make(data.truth, data.detections)


def by_flags(
    data: EvaluationSet, kind: ap.Kind, weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(K, R, T) AP of each class by our own accumulation."""
    matches = ap.match_all(data.truth, data.detections, candidates(data, kind), by_class=True)
    return np.stack(
        [
            ap.average_precision(
                matches, data.truth, data.detections, weights,
                truths=data.truth.label == k, found=data.detections.label == k,
            )
            for k in range(len(data.classes))
        ]
    )  # fmt: skip


SCENES = {
    "plain": {"truths": 30},
    "crowded, with duplicates": {"truths": 80, "duplicates": 0.5, "spread": 0.2},
    "large sources": {"truths": 12, "shape": (300, 280), "scale": 6.0},
    "ignore regions": {"truths": 40, "crowds": 4, "false": 0.8},
    "ids in any order": {"image_ids": (40, 7, 19), "category_ids": (12, 5)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", SCENES.values(), ids=SCENES.keys())
def test_ap_equals_pycocotools(tmp_path: Path, kind: ap.Kind, options: Entry) -> None:
    made = scene(seed=3, **options)
    data = read(*made.save(tmp_path))
    table = ap.coco_ap(data.images, len(data.classes), data.truth, data.detections, kind)
    expected = pycocotools_ap(made, kind)
    np.testing.assert_allclose(
        [table.ap, table.ap50, table.ap75], expected, rtol=0, atol=1e-12, equal_nan=True
    )
    one = np.ones((1, len(data.images)))
    own = by_flags(data, kind, one)[:, 0]
    np.testing.assert_allclose(own.mean(axis=1), expected[0, :, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(own[:, 0], expected[1, :, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_tied_scores_count_as_in_pycocotools(tmp_path: Path, kind: ap.Kind) -> None:
    made = scene(seed=5, truths=150, false=0.5)
    for entry in made.predictions:
        entry["score"] = round(entry["score"], 1)
    data = read(*made.save(tmp_path))
    expected = pycocotools_ap(made, kind)[0, :, 0]
    table = ap.coco_ap(data.images, 2, data.truth, data.detections, kind)
    np.testing.assert_allclose(table.ap[:, 0], expected, rtol=0, atol=1e-12)
    own = by_flags(data, kind, np.ones((1, len(data.images))))[:, 0].mean(axis=1)
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)


def test_all_of_5000_objects_in_one_image_are_counted(tmp_path: Path) -> None:
    shape = (1000, 1000)
    places = [(x, y) for y in range(7, 990, 14) for x in range(7, 990, 14)][:5000]
    shape_rle = [ellipse_rle(shape, Ellipse(x, y, 4, 3)) for x, y in places]
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 37,
         "bbox": [x - 4, y - 3, 9, 7], "segmentation": code}
        for k, ((x, y), code) in enumerate(zip(places, shape_rle, strict=True), start=1)
    ]  # fmt: skip
    predictions = [
        {**{key: a[key] for key in ("image_id", "category_id", "bbox", "segmentation")},
         "score": 1 - k / 6000}
        for k, a in enumerate(annotations)
    ]  # fmt: skip
    truth = {
        "images": [{"id": 1, "file_name": "one.png", "height": 1000, "width": 1000}],
        "categories": [{"id": 1, "name": "galaxy"}],
        "annotations": annotations,
    }
    data = read(*Scene(truth, predictions).save(tmp_path))
    for kind in KINDS:
        table = ap.coco_ap(data.images, 1, data.truth, data.detections, kind)
        assert table.max_detections == 5000
        assert table.ap[0, 0] == pytest.approx(1.0, abs=1e-12)


def test_no_detections_is_an_ap_of_zero_and_no_truths_none(tmp_path: Path) -> None:
    made = scene(seed=1, images=2)
    nothing = read(*Scene(made.truth, []).save(tmp_path))
    table = ap.coco_ap(nothing.images, 2, nothing.truth, nothing.detections, "box")
    assert table.ap[:, 0].tolist() == [0.0, 0.0]
    made.truth["annotations"] = []
    empty = read(*made.save(tmp_path))
    assert np.isnan(ap.coco_ap(empty.images, 2, empty.truth, empty.detections, "box").ap).all()


def test_a_resample_has_the_ap_of_the_set_with_images_repeated(tmp_path: Path) -> None:
    """Weights 2, 0, 1 are one image twice, one not at all, one once."""
    made = scene(seed=8, images=3, truths=40)
    data = read(*made.save(tmp_path))
    weighted = by_flags(data, "box", np.array([[2.0, 0.0, 1.0]]))[:, 0]
    copies = ((1, 11), (1, 12), (3, 13))
    truth = {**made.truth, "images": [], "annotations": []}
    predictions = []
    for source, target in copies:
        truth["images"] += [
            {**item, "id": target} for item in made.truth["images"] if item["id"] == source
        ]
        for items, out in (
            (made.truth["annotations"], truth["annotations"]),
            (made.predictions, predictions),
        ):
            out += [{**item, "image_id": target} for item in items if item["image_id"] == source]
    for k, item in enumerate(truth["annotations"]):
        item["id"] = k + 1
    repeated = read(*Scene(truth, predictions).save(tmp_path))
    expected = by_flags(repeated, "box", np.ones((1, 3)))[:, 0]
    np.testing.assert_allclose(weighted, expected, rtol=0, atol=1e-12)


def test_float32_resamples_agree_with_float64(tmp_path: Path) -> None:
    data = read(*scene(seed=2, images=6, truths=50).save(tmp_path))
    weights = bootstrap.draw(6, 40, seed=4)
    fast = by_flags(data, "mask", weights)
    slow = by_flags(data, "mask", weights.astype(np.float64))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-5)


def test_bins_ignore_what_lies_outside_them(tmp_path: Path) -> None:
    """AP of a bin is the AP of a set that holds that bin alone."""
    made = scene(seed=6, truths=60, false=0.0, duplicates=0.0, confused=0.0, missed=0.2)
    data = read(*made.save(tmp_path))
    one = np.ones((1, len(data.images)))
    matches = ap.match_all(data.truth, data.detections, candidates(data, "box"), by_class=False)
    bright = data.truth.attributes["mag_i"] < 24
    nothing = np.zeros(len(data.detections), bool)
    got = ap.average_precision(
        matches, data.truth, data.detections, one, truths=bright, found=nothing
    )[0, 0]
    # Without false positives, AP is the recall, at COCO's 101 points.
    found = np.isin(np.flatnonzero(bright), matches.matched[0])
    assert got == pytest.approx(np.floor(found.mean() * 100 + 1 + 1e-9) / 101, abs=1e-12)
