"""One-to-one matching and sparse IoU, held to brute force and to pycocotools."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as rle

from astroseg.evaluation.metrics.ap import match_all
from astroseg.evaluation.metrics.matching import (
    IGNORED,
    Candidates,
    box_candidates,
    by_score,
    iou_of_pairs,
    mask_candidates,
    match_greedy,
    match_optimal,
    pair,
)
from astroseg.evaluation.metrics.objects import Objects


def objects(
    boxes: list[list[float]],
    *,
    image: list[int] | None = None,
    score: list[float] | None = None,
    ignored: list[bool] | None = None,
    masks: tuple[dict[str, object], ...] | None = None,
) -> Objects:
    n = len(boxes)
    box = np.array(boxes, float).reshape(-1, 4)
    tight = box if masks is None else np.array(rle.toBbox(list(masks)), float).reshape(-1, 4)
    return Objects(
        image=np.array(image or [0] * n, np.int64),
        label=np.zeros(n, np.int64),
        boxes=box,
        area=box[:, 2] * box[:, 3],
        masks=masks,
        mask_area=tight[:, 2] * tight[:, 3],
        tight=tight,
        score=np.array(score if score is not None else [1.0] * n),
        ignored=np.array(ignored if ignored is not None else [False] * n),
    )


def candidates_of(table: NDArray[np.float64]) -> Candidates:
    """All pairs above 0 of a (truths, detections) table."""
    t, d = np.nonzero(table > 0)
    return Candidates(t, d, table[t, d])


# Few values, so that ties happen; few truths, so that every assignment can be tried.
tables = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.sampled_from([0.0, 0.0, 0.5, 0.6, 0.75, 0.9, 1.0]),
        min_size=shape[0] * shape[1],
        max_size=shape[0] * shape[1],
    ).map(lambda values: np.array(values).reshape(shape))
)


@given(tables, st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=5, max_size=5))
@settings(max_examples=300, deadline=None)
def test_greedy_matching_is_taking_turns_by_score(
    table: NDArray[np.float64], scores: list[float]
) -> None:
    n_truth, n_detections = table.shape
    score = np.array(scores[:n_detections])
    expected = np.full(n_detections, -1)
    free = np.ones(n_truth, bool)
    for d in np.argsort(-score, kind="stable"):
        best = -1
        for t in range(n_truth):  # the last of equals, as pycocotools'
            if free[t] and table[t, d] > 0 and (best < 0 or table[t, d] >= table[best, d]):
                best = t
        if best >= 0:
            expected[d], free[best] = best, False
    matched = match_greedy(candidates_of(table), by_score(score), n_truth)
    np.testing.assert_array_equal(matched, expected)


@given(tables)
@settings(max_examples=300, deadline=None)
def test_optimal_matching_has_the_greatest_total_iou_of_all_assignments(
    table: NDArray[np.float64],
) -> None:
    n_truth, n_detections = table.shape
    choices = itertools.product(range(-1, n_truth), repeat=n_detections)
    best = max(
        sum(table[t, d] for d, t in enumerate(choice) if t >= 0)
        for choice in choices
        if len({t for t in choice if t >= 0}) == sum(t >= 0 for t in choice)
    )
    matched = match_optimal(candidates_of(table), n_detections)
    hit = np.flatnonzero(matched >= 0)
    assert len(set(matched[hit])) == len(hit)
    assert (table[matched[hit], hit] > 0).all()
    assert table[matched[hit], hit].sum() == pytest.approx(best, abs=1e-12)


boxes = st.lists(
    st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 15)] * 2).map(
        lambda b: [float(v) for v in b]
    ),
    min_size=1,
    max_size=12,
)


@given(boxes, boxes, st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=200, deadline=None)
def test_sparse_box_iou_is_pycocotools_to_the_last_digit(
    truth: list[list[float]], found: list[list[float]], ignored: list[bool]
) -> None:
    a = objects(truth, ignored=ignored[: len(truth)])
    b = objects(found)
    expected = rle.iou(b.boxes, a.boxes, a.ignored.astype(np.uint8)).T
    got = np.zeros_like(expected)
    sparse = box_candidates(a, b)
    got[sparse.truth, sparse.detection] = sparse.iou
    assert len(sparse.iou) == np.count_nonzero(expected)
    np.testing.assert_array_equal(got, expected)


def random_masks(rng: np.random.Generator, n: int) -> tuple[dict[str, object], ...]:
    masks = []
    for _ in range(n):
        frame = np.zeros((40, 50), np.uint8, order="F")
        y, x = rng.integers(0, 36), rng.integers(0, 46)
        frame[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = 1
        frame &= rng.random(frame.shape) < 0.8
        frame[y, x] = 1
        masks.append(rle.encode(frame))
    return tuple(masks)


@pytest.mark.parametrize("seed", range(5))
def test_sparse_mask_iou_is_pycocotools_also_where_boxes_do_not_enclose_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = 90, 150  # more detections than a block holds
    ignored = rng.random(n) < 0.1
    nowhere = [[0.0, 0.0, 1.0, 1.0]]
    a = objects(nowhere * n, masks=random_masks(rng, n), ignored=ignored.tolist())
    b = objects(nowhere * m, masks=random_masks(rng, m))
    expected = rle.iou(list(b.masks or ()), list(a.masks or ()), ignored.astype(np.uint8)).T
    got = np.zeros_like(expected)
    sparse = mask_candidates(a, b)
    got[sparse.truth, sparse.detection] = sparse.iou
    np.testing.assert_array_equal(got, expected)


def test_objects_of_different_images_never_pair() -> None:
    box = [5.0, 5.0, 10.0, 10.0]
    a, b = objects([box, box], image=[0, 2]), objects([box, box], image=[1, 2])
    sparse = box_candidates(a, b)
    assert (sparse.truth.tolist(), sparse.detection.tolist()) == ([1], [1])


def test_duplicates_claim_a_truth_once() -> None:
    rng = np.random.default_rng(0)
    truth = [[20.0 * k, 0.0, 10.0, 10.0] for k in range(100)]
    found = truth + [truth[k] for k in rng.choice(100, 30, replace=False)]
    a, b = objects(truth), objects(found)
    pairs = pair(a, b, box_candidates(a, b), score=0.5, iou=0.5)
    assert len(pairs.truth) == 100
    assert pairs.spurious.sum() == 30
    greedy = match_all(a, b, box_candidates(a, b), by_class=False).matched
    assert ((greedy >= 0).sum(axis=1) == 100).all()


def test_detections_on_an_ignore_region_are_neither_right_nor_wrong() -> None:
    region = [0.0, 0.0, 40.0, 40.0]
    a = objects([region, [60.0, 0.0, 10.0, 10.0]], ignored=[True, False])
    inside = [[1.0, 1.0, 5.0, 5.0], [20.0, 20.0, 6.0, 6.0]]
    b = objects([*inside, [60.0, 0.0, 10.0, 10.0], [80.0, 0.0, 5.0, 5.0]])
    pairs = pair(a, b, box_candidates(a, b), score=0.5, iou=0.5)
    assert pairs.ignored.tolist() == [True, True, False, False]
    assert pairs.spurious.tolist() == [False, False, False, True]
    assert pairs.missed.tolist() == [False, False]
    greedy = match_all(a, b, box_candidates(a, b), by_class=True).matched
    assert greedy[0].tolist() == [IGNORED, IGNORED, 1, -1]


def test_a_pair_needs_more_than_the_threshold_and_the_score() -> None:
    a = objects([[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 10.0, 10.0]])
    # IoU exactly 0.5 does not pair; a score of exactly the threshold does.
    b = objects([[0.0, 0.0, 10.0, 5.0], [50.0, 0.0, 10.0, 10.0]], score=[0.9, 0.5])
    pairs = pair(a, b, box_candidates(a, b), score=0.5, iou=0.5)
    assert pairs.detection.tolist() == [1]
    assert pairs.missed.tolist() == [True, False]


def test_iou_of_pairs_is_zero_for_pairs_that_do_not_overlap() -> None:
    table = np.array([[0.5, 0.0], [0.25, 0.75]])
    got = iou_of_pairs(candidates_of(table), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert got.tolist() == [0.5, 0.0, 0.25, 0.75]
    none = candidates_of(np.zeros((2, 2)))
    assert iou_of_pairs(none, np.array([1]), np.array([1])).tolist() == [0.0]
    last = candidates_of(np.array([[0.5, 0.0], [0.0, 0.0]]))  # the pair wanted is behind all
    assert iou_of_pairs(last, np.array([1]), np.array([1])).tolist() == [0.0]


def test_objects_of_neighbouring_images_never_pair() -> None:
    box = [5.0, 5.0, 10.0, 10.0]
    a, b = objects([box, box], image=[0, 1]), objects([box, box], image=[0, 1])
    sparse = box_candidates(a, b)
    assert sorted(zip(sparse.truth, sparse.detection, strict=True)) == [(0, 0), (1, 1)]


def test_what_matches_nothing_is_minus_one() -> None:
    table = np.array([[0.0, 0.6, 0.0]])
    assert match_optimal(candidates_of(table), 3).tolist() == [-1, 0, -1]
    assert match_greedy(candidates_of(table), np.arange(3), 1).tolist() == [-1, 0, -1]


def test_masks_are_compared_where_both_have_them() -> None:
    box = [[5.0, 5.0, 10.0, 10.0]]
    masks = random_masks(np.random.default_rng(1), 1)
    for a, b in (
        (objects(box), objects(box, masks=masks)),
        (objects(box, masks=masks), objects(box)),
    ):
        with pytest.raises(ValueError, match="without masks"):
            mask_candidates(a, b)
