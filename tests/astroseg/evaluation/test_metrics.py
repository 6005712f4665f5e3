"""Classification, detection, deblending, their bins and their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from eval_helpers import CLASSES, Entry, Scene, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from astroseg.core.config import Config, configured
from astroseg.evaluation.evaluate import Evaluated, compute
from astroseg.evaluation.metrics import bootstrap
from astroseg.evaluation.metrics.bins import Attribute, attributes, reference_band
from astroseg.evaluation.metrics.deblending import constant_box_iou
from astroseg.evaluation.metrics.read import read

QUICK = configured("evaluate", resamples=50, report=False)


def box_scene(
    truths: list[tuple[int, list[float], int]],
    found: list[tuple[int, list[float], int, float]],
    attributes: list[Entry] | None = None,
) -> Scene:
    """A scene of boxes only: (image, box, class) and (image, box, class, score)."""
    images = sorted({t[0] for t in truths} | {d[0] for d in found})
    annotations = [
        {"id": k + 1, "image_id": i, "bbox": b, "category_id": c + 1, "area": b[2] * b[3],
         "iscrowd": 0, "attributes": attributes[k] if attributes else {}}
        for k, (i, b, c) in enumerate(truths)
    ]  # fmt: skip
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 99, "width": 99} for i in images],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": annotations,
    }
    results = [{"image_id": i, "bbox": b, "category_id": c + 1, "score": s} for i, b, c, s in found]
    return Scene(truth, results)


def evaluated(made: Scene, folder: Path, config: Config = QUICK) -> Evaluated:
    return compute(read(*made.save(folder)), config)


GRID = [[12.0 * (k % 8), 12.0 * (k // 8), 10.0, 10.0] for k in range(64)]


@given(
    st.lists(st.tuples(st.sampled_from([None, 0, 1]), st.sampled_from([0, 1])), min_size=1,
             max_size=20)
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_matched_only_scores_equal_counting_by_hand(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[int | None, int]]
) -> None:
    """Each cell holds a truth of a class, and a detection of a class or none."""
    folder = tmp_path_factory.mktemp("scene")
    truths = [(1, GRID[k], true) for k, (_, true) in enumerate(cells)]
    found = [(1, GRID[k], given, 0.9) for k, (given, _) in enumerate(cells) if given is not None]
    scores = evaluated(box_scene(truths, found), folder).metrics.classification
    pairs = [(true, given) for given, true in cells if given is not None]
    for k, name in enumerate(CLASSES):
        tp = sum(true == given == k for true, given in pairs)
        fp = sum(given == k != true for true, given in pairs)
        fn = sum(true == k != given for true, given in pairs)
        mine = scores.classes[name]
        assert (mine.true_positives, mine.false_positives, mine.false_negatives) == (tp, fp, fn)
        assert mine.precision.value == pytest.approx(
            tp / (tp + fp) if tp + fp else np.nan, nan_ok=True
        )
        assert mine.recall.value == pytest.approx(
            tp / (tp + fn) if tp + fn else np.nan, nan_ok=True
        )
        both = 2 * tp + fp + fn
        assert mine.f1.value == pytest.approx(2 * tp / both if both else np.nan, nan_ok=True)
    assert scores.confusion == [
        [sum(p == (a, b) for p in pairs) for b in range(2)] for a in range(2)
    ]


def test_missing_and_spurious_labels_do_not_touch_matched_only_scores(tmp_path: Path) -> None:
    truths = [(1, GRID[k], k % 2) for k in range(20)]
    found = [(1, GRID[k], k % 2, 0.9) for k in range(10)]
    found += [(1, GRID[k], 0, 0.9) for k in range(40, 64)]
    metrics = evaluated(box_scene(truths, found), tmp_path).metrics
    assert [s.f1.value for s in metrics.classification.classes.values()] == [1.0, 1.0]
    assert metrics.detection.completeness.value == pytest.approx(10 / 20)
    assert metrics.detection.purity.value == pytest.approx(10 / 34)


def test_30_percent_duplicates_leave_completeness_at_most_one(tmp_path: Path) -> None:
    made = scene(duplicates=0.3, missed=0.0, false=0.0, spread=0.0, truths=60)
    for entry in made.predictions:
        entry["score"] = 0.9
    detection = evaluated(made, tmp_path).metrics.detection
    assert 0.9 < detection.completeness.value <= 1.0
    assert detection.purity.value < 0.85
    assert max(v for c in detection.curves.values() for v in c.completeness.value if v == v) <= 1


def test_curves_bin_by_the_truths_magnitude(tmp_path: Path) -> None:
    """Bright galaxies are found and classified, faint ones called stars, the faintest missed."""
    magnitudes = [20.2] * 6 + [22.2] * 6 + [24.2] * 6
    truths = [(1 + k % 3, GRID[k], 0) for k in range(18)]
    found = [(1 + k % 3, GRID[k], int(k >= 6), 0.9) for k in range(12)]
    made = box_scene(truths, found, [{"mag_i": m} for m in magnitudes])
    metrics = evaluated(made, tmp_path).metrics
    curve = metrics.detection.curves["mag_i"].completeness
    here = dict(zip(curve.edges, curve.value, strict=False))
    assert (here[20.0], here[22.0], here[24.0]) == (1.0, 1.0, 0.0)
    recall = metrics.classification.curves["mag_i"]["galaxy"].recall
    there = dict(zip(recall.edges, recall.value, strict=False))
    assert (there[20.0], there[22.0]) == (1.0, 0.0)
    assert np.isnan(there[24.0])  # no pairs there


def test_false_detections_are_placed_by_the_area_of_matched_ones(tmp_path: Path) -> None:
    """Large boxes are bright, small ones faint; a large false detection counts as bright."""
    big, small = [0.0, 0.0, 11.0, 11.0], [0.0, 0.0, 5.0, 5.0]

    def at(k: int, box: list[float]) -> list[float]:
        return [12.0 * (k % 8), 12.0 * (k // 8), *box[2:]]

    truths = [(1, at(k, big if k < 20 else small), 0) for k in range(40)]
    found = [(1, box, 0, 0.9) for _, box, _ in truths] + [(1, at(50, big), 0, 0.9)]
    values = [{"mag_i": 20.2 if k < 20 else 25.2, "n_blended": 1 + k % 2} for k in range(40)]
    result = evaluated(box_scene(truths, found, values), tmp_path)
    purity = result.metrics.detection.curves["mag_i"].purity
    here = dict(zip(purity.edges, purity.value, strict=False))
    assert here[20.0] == pytest.approx(20 / 21)
    assert here[25.0] == 1.0
    # It overlaps nothing, so it stands alone; and both were estimates.
    alone = result.metrics.detection.curves["n_blended"].purity
    assert alone.value[0] == pytest.approx(20 / 21)
    assert result.placed["mag_i"].estimated == result.placed["n_blended"].estimated == 1


def test_a_false_detections_own_magnitude_is_preferred(tmp_path: Path) -> None:
    truths = [(1, GRID[k], 0) for k in range(30)]
    made = box_scene(
        truths, [(1, b, 0, 0.9) for _, b, _ in truths], [{"mag_i": 20.2} for _ in truths]
    )
    made.truth["annotations"][0]["attributes"]["mag_i"] = 23.2
    made.predictions.append(
        {"image_id": 1, "bbox": GRID[50], "category_id": 1, "score": 0.9,
         "attributes": {"mag_i": 23.3}}
    )  # fmt: skip
    purity = evaluated(made, tmp_path).metrics.detection.curves["mag_i"].purity
    assert dict(zip(purity.edges, purity.value, strict=False))[23.0] == pytest.approx(0.5)


def test_the_constant_box_scores_one_where_all_truths_have_one_size(tmp_path: Path) -> None:
    truths = [(1, GRID[k], 0) for k in range(20)]
    moved = [(1, [b[0] + 1, *b[1:]], 0, 0.9) for _, b, _ in truths]
    deblending = evaluated(box_scene(truths, moved), tmp_path).metrics.deblending
    assert deblending.baseline.median.value == 1.0
    assert deblending.box.median.value == pytest.approx(9 / 11)
    assert deblending.mask is None


def test_the_constant_box_has_the_median_size_at_the_mask_centre(tmp_path: Path) -> None:
    truths = [(1, [0.0, 0.0, 4.0, 4.0], 0), (1, [20.0, 0.0, 6.0, 6.0], 0),
              (1, [40.0, 0.0, 8.0, 8.0], 0)]  # fmt: skip
    data = read(*box_scene(truths, []).save(tmp_path))
    size, iou = constant_box_iou(data.truth, np.arange(3))
    assert size == (6.0, 6.0)
    assert iou.tolist() == pytest.approx([16 / 36, 1.0, 36 / 64])


def test_mask_iou_of_pairs_is_that_of_their_masks(tmp_path: Path) -> None:
    made = scene(seed=4, missed=0.0, false=0.0, duplicates=0.0, spread=0.0)
    for entry in made.predictions:
        entry["score"] = 0.9
    deblending = evaluated(made, tmp_path).metrics.deblending
    assert deblending.mask is not None
    assert deblending.mask.median.value == 1.0
    assert deblending.mask.histogram[-1] == deblending.pairs


def test_scores_by_threshold_agree_with_the_table(tmp_path: Path) -> None:
    metrics = evaluated(scene(seed=9, truths=50, crowds=1), tmp_path).metrics
    k = metrics.by_threshold.score.index(0.5)
    assert metrics.by_threshold.completeness[k] == metrics.detection.completeness.value
    assert metrics.by_threshold.purity[k] == metrics.detection.purity.value
    for name in CLASSES:
        assert metrics.by_threshold.f1[name][k] == metrics.classification.classes[name].f1.value
    assert sorted(metrics.by_threshold.detections, reverse=True) == metrics.by_threshold.detections


def test_what_is_left_out_is_counted_and_adds_up(tmp_path: Path) -> None:
    made = scene(seed=2, truths=40, crowds=2, false=0.5)
    del made.truth["annotations"][0]["attributes"]["mag_i"]
    counts = evaluated(made, tmp_path).metrics.counts
    assert counts["matched pairs"] + counts["truths missed"] == counts["truths"]
    assert counts["detections"] == sum(
        counts[key]
        for key in (
            "matched pairs",
            "detections below the score threshold",
            "detections on ignore regions",
            "detections without a truth",
        )
    )
    assert counts["truths without mag_i or outside its bins"] == 1
    assert counts["ignore regions"] == 6


def test_a_bin_holds_its_lower_edge_and_the_last_both() -> None:
    attribute = Attribute("snr", "", np.array([1.0, 2.0, 4.0]))
    values = np.array([0.9, 1.0, 1.9, 2.0, 4.0, 4.1, np.nan])
    assert attribute.bin(values).tolist() == [-1, 0, 0, 1, 1, -1, -1]


def test_the_band_wanted_is_taken_else_r_else_any(tmp_path: Path) -> None:
    truths = [(1, GRID[k], 0) for k in range(3)]

    def band(*names: str) -> str | None:
        values = [{f"mag_{name}": 20.0 for name in names}] * 3
        return reference_band(read(*box_scene(truths, [], values).save(tmp_path)).truth, "i")

    assert (band("g", "r", "i"), band("g", "r"), band("z", "y"), band()) == ("i", "r", "y", None)


def test_every_truth_attribute_has_bins_that_hold_it(tmp_path: Path) -> None:
    made = scene(seed=1, truths=30)
    for k, item in enumerate(made.truth["annotations"]):
        item["attributes"]["blendedness"] = k / len(made.truth["annotations"])
    truth = read(*made.save(tmp_path)).truth
    found = attributes(truth, "i", 0.5)
    assert [a.name for a in found] == ["mag_i", "snr", "n_blended", "blendedness"]
    for a in found:
        assert (np.diff(a.edges) > 0).all()
        assert (a.bin(truth.attributes[a.name]) >= 0).all()


def fractions(rng: np.random.Generator, images: int) -> tuple[NDArray[np.float64], ...]:
    whole = rng.poisson(40, images).astype(float)
    return rng.binomial(whole.astype(int), 0.8).astype(float), whole


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    weights = bootstrap.draw(40, 400, seed=1)
    covered = []
    for _ in range(300):
        result = bootstrap.ratio(*fractions(rng, 40), weights)
        covered.append(result.low <= 0.8 <= result.high)
    # 0.95 less what the percentile bootstrap loses with 40 images; 3 sigma of 300 trials.
    assert 0.90 <= np.mean(covered) <= 0.985


def test_a_resampled_ratio_and_median_are_those_of_the_repeated_images() -> None:
    rng = np.random.default_rng(3)
    values, image = rng.random(200), np.sort(rng.integers(0, 4, 200))
    weights = np.array([[2.0, 0.0, 1.0, 1.0]], np.float32)
    repeated = np.concatenate([values[image == k] for k in (0, 0, 2, 3)])
    got = bootstrap.median(values, image, weights)
    ranked = np.sort(repeated)
    # The lower of the two middle values where their number is even.
    assert got.low == pytest.approx(ranked[(len(ranked) - 1) // 2], abs=1e-12)
    part = bootstrap.per_image(image[values > 0.5], 4)
    result = bootstrap.ratio(part, bootstrap.per_image(image, 4), weights)
    assert result.low == pytest.approx((repeated > 0.5).mean(), abs=1e-6)


def test_one_image_has_no_interval(tmp_path: Path) -> None:
    metrics = evaluated(scene(images=1), tmp_path).metrics
    assert np.isfinite(metrics.box_ap.mean.ap.value)
    for item in (metrics.box_ap.mean.ap, metrics.detection.purity, metrics.deblending.box.median):
        assert np.isnan([item.low, item.high]).all()


def test_intervals_hold_their_value_and_repeat_with_the_seed(tmp_path: Path) -> None:
    made = scene(seed=7, images=8, truths=40)
    first, again = (evaluated(made, tmp_path).metrics for _ in range(2))
    assert first.mask_ap is not None
    for item in (first.mask_ap.mean.ap, first.box_ap.any_class.ap50, first.detection.purity):
        assert item.low < item.value < item.high
    assert first.box_ap.mean.ap == again.box_ap.mean.ap
    assert first.detection.completeness == again.detection.completeness


def test_ap_by_bins_exists_for_every_class_and_attribute(tmp_path: Path) -> None:
    result = evaluated(scene(truths=40), tmp_path)
    for item in result.attributes:
        tables = result.metrics.box_ap.bins[item.name]
        assert set(tables) == {*CLASSES, "any"}
        assert all(len(row["ap50"]) == item.n_bins for row in tables.values())
    counts = result.metrics.detection.curves["mag_i"].completeness.count
    any_class = result.metrics.box_ap.bins["mag_i"]["any"]["ap50"]
    assert all(np.isfinite(v) == (n > 0) for v, n in zip(any_class, counts, strict=True))
