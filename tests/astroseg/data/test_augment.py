"""Image, boxes and masks stay together through crops, flips and turns."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from astroseg.core.config import DataConfig
from astroseg.core.rle import decode_tight, encode_at
from astroseg.data.augment import (
    Objects,
    View,
    decode,
    random_view,
    turn,
    view_objects,
    whole,
)
from astroseg.data.dataset import Truth

SHAPE = (17, 23)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[NDArray[np.bool_], Objects]:
    """(N, H, W) masks, none empty, and the same as objects."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(draw(st.integers(0, 6))):
        mask = np.zeros(SHAPE, np.bool_)
        y, x = rng.integers(SHAPE[0]), rng.integers(SHAPE[1])
        part = mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)]
        part[...] = rng.random(part.shape) < 0.6
        mask[y, x] = True
        masks.append(mask)
    rles = tuple(encode_at(mask, (0, 0), SHAPE) for mask in masks)
    truth = Truth(np.arange(len(masks)), rles)
    return np.array(masks).reshape(-1, *SHAPE), decode(truth)


views = st.builds(
    lambda seed, crop: random_view(SHAPE, np.random.default_rng(seed), crop=crop),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.3, 0.5, 1.0, 6.0, 99.0]),
)


def seen(image: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """The dense way: cut, then turn."""
    rows, columns = (
        slice(view.y0, view.y0 + view.height),
        slice(view.x0, view.x0 + view.width),
    )
    return turn(image[..., rows, columns], view)


@given(scenes(), views)
def test_objects_in_a_view_are_the_masks_of_the_turned_image(
    scene: tuple[NDArray[np.bool_], Objects], view: View
) -> None:
    masks, objects = scene
    dense = seen(masks, view)
    assert dense.shape[-2:] == view.shape
    left, whole_area = dense.sum(axis=(1, 2)), masks.sum(axis=(1, 2))
    expected = np.flatnonzero((left > 0) & (left >= DataConfig.keep_fraction * whole_area))
    found = view_objects(objects, view)
    assert found.labels.tolist() == expected.tolist()
    for index, rle, box in zip(expected, found.masks(view.shape), found.boxes, strict=True):
        assert rle == encode_at(dense[index], (0, 0), view.shape)
        rows, columns = np.nonzero(dense[index])
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == tight


@given(scenes(), st.booleans(), st.integers(0, 3))
def test_turning_back_gives_the_objects_again(
    scene: tuple[NDArray[np.bool_], Objects], mirror: bool, turns: int
) -> None:
    _, objects = scene
    there = View(0, 0, *SHAPE, mirror, turns)
    turned = view_objects(objects, there)
    # A mirrored view is its own inverse; a plain turn wants the rest of the circle.
    back = View(0, 0, *there.shape, False, (4 - turns) % 4)
    again = view_objects(turned, back)
    if mirror:
        again = view_objects(again, View(0, 0, *SHAPE, True, 0))
    assert (again.boxes == objects.boxes).all()
    assert again.masks(SHAPE) == objects.masks(SHAPE)


def test_whole_view_changes_nothing() -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[3:6, 4:9] = True
    objects = decode(Truth(np.array([1]), (encode_at(mask, (0, 0), SHAPE),)))
    found = view_objects(objects, whole(SHAPE))
    assert found.boxes.tolist() == [[4, 3, 9, 6]]
    assert decode_tight(found.masks(SHAPE)[0])[1] == (3, 4)


def test_half_crop_is_half_of_each_side_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        view = random_view((1000, 1050), rng, crop=0.5)
        assert (view.height, view.width) == (500, 525)
        assert 0 <= view.y0 <= 500
        assert 0 <= view.x0 <= 525


def test_all_eight_orientations_come_equally_often() -> None:
    rng = np.random.default_rng(0)
    counts: dict[tuple[bool, int], int] = {}
    for _ in range(4000):
        view = random_view(SHAPE, rng)
        counts[view.mirror, view.turns] = counts.get((view.mirror, view.turns), 0) + 1
    assert len(counts) == 8
    assert min(counts.values()) > 400  # 500 expected, sigma 21


def test_source_cut_to_less_than_a_quarter_is_left_out() -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[5:9, 2:12] = True  # 4 x 10 pixels
    objects = decode(Truth(np.array([0]), (encode_at(mask, (0, 0), SHAPE),)))
    assert len(view_objects(objects, View(0, 10, 17, 13)).labels) == 0  # 2 of 10 columns
    kept = view_objects(objects, View(0, 9, 17, 13))  # 3 of 10
    assert kept.boxes.tolist() == [[0, 5, 3, 9]]
