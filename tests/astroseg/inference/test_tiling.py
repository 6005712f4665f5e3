"""Tiles cover an image, and an object on a seam is found once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction
from astroseg.inference.tiling import Tile, join, shift, split
from astroseg.models.duplicates import largest_pieces, one_per_source


def prediction(
    rows: list[tuple[NDArray[np.bool_], tuple[int, int], float]], shape: tuple[int, int]
) -> Prediction:
    boxes = [[x, y, x + b.shape[1], y + b.shape[0]] for b, (y, x), _ in rows]
    return Prediction(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array([score for *_, score in rows], np.float32),
        labels=np.zeros(len(rows), np.int64),
        masks=tuple(encode_at(b, corner, shape) for b, corner, _ in rows),
    )


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(20, 90),
    st.integers(0, 19),
    st.sampled_from([1, 8, 64]),
)
def test_cores_share_out_the_image_and_lie_in_their_tiles(
    height: int, width: int, size: int, overlap: int, step: int
) -> None:
    count = np.zeros((height, width), int)
    for tile in split((height, width), size, overlap, step):
        if step <= size - overlap:
            assert tile.y0 % step == tile.x0 % step == 0
        y0, x0, y1, x1 = tile.core
        assert 0 <= tile.y0 <= y0 < y1 <= tile.y1 <= height
        assert 0 <= tile.x0 <= x0 < x1 <= tile.x1 <= width
        assert tile.y1 - tile.y0 <= size
        count[y0:y1, x0:x1] += 1
        for core, edge, limit in ((y0, tile.y0, 0), (x0, tile.x0, 0)):
            assert core == limit or core - edge >= overlap // 2
    assert (count == 1).all()


@given(st.integers(0, 2**32 - 1))
def test_objects_smaller_than_the_overlap_are_found_once_and_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (100, 130)
    wanted = []
    for row in range(6):
        for column in range(8):  # apart from each other
            y, x = 16 * row + rng.integers(4), 16 * column + rng.integers(2)
            bitmap = np.ones((rng.integers(1, 12), rng.integers(1, 12)), np.bool_)
            wanted.append((bitmap, (int(y), int(x)), float(rng.uniform(0.1, 1))))
    tiles = split(shape, 50, 16)
    found = []
    for tile in tiles:
        inside = []
        for bitmap, (y, x), score in wanted:  # a tile sees what lies in it, cut at its edge
            frame = np.zeros(shape, np.bool_)
            frame[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = True
            part = frame[tile.y0 : tile.y1, tile.x0 : tile.x1]
            if part.any():
                seen, corner = decode_tight(encode_at(part, (0, 0), part.shape))
                inside.append((seen, corner, score))
        local = prediction(inside, (tile.y1 - tile.y0, tile.x1 - tile.x0))
        found.append(shift(local, (tile.y0, tile.x0), shape))
    joined = join(tiles, found, 0.3)
    expected = prediction(sorted(wanted, key=lambda row: -row[2]), shape)
    assert joined.masks == expected.masks
    assert (joined.boxes == expected.boxes).all()


def test_object_whose_centre_two_tiles_place_on_either_side_of_the_seam_is_kept_once() -> None:
    tiles = (Tile(0, 0, 20, 30, (0, 0, 20, 20)), Tile(0, 10, 20, 40, (0, 20, 20, 40)))
    shape = (20, 40)
    box = np.ones((6, 8), np.bool_)
    left = prediction([(box, (5, 15), 0.7)], shape)  # centre 19
    right = prediction([(box, (5, 17), 0.9), (box, (5, 30), 0.2)], shape)  # centres 21, 34
    joined = join(tiles, (left, right), 0.3)
    assert joined.scores.tolist() == np.array([0.9, 0.2], np.float32).tolist()


def test_fragment_at_a_tiles_edge_gives_way_to_the_whole_object_of_the_other_tile() -> None:
    tiles = (Tile(0, 0, 20, 30, (0, 0, 20, 20)), Tile(0, 10, 20, 40, (0, 20, 20, 40)))
    whole, part = np.ones((16, 26), np.bool_), np.ones((10, 20), np.bool_)
    left = prediction([(part, (4, 9), 0.9)], (20, 40))  # ends one column before the edge
    right = prediction([(whole, (2, 11), 0.8)], (20, 40))
    assert join(tiles, (left, right), 0.3).scores.tolist() == left.scores.tolist()
    cut = prediction([(part, (4, 10), 0.9)], (20, 40))
    assert join(tiles, (cut, right), 0.3).scores.tolist() == right.scores.tolist()


def test_an_object_that_each_tile_places_on_the_others_side_is_kept_once() -> None:
    tiles = (Tile(0, 0, 20, 30, (0, 0, 20, 20)), Tile(0, 10, 20, 40, (0, 20, 20, 40)))
    box = np.ones((6, 9), np.bool_)
    left = prediction([(box, (5, 16), 0.9)], (20, 40))  # centre 20.5
    right = prediction([(box, (5, 15), 0.8)], (20, 40))  # centre 19.5
    assert join(tiles, (left, right), 0.3).scores.tolist() == left.scores.tolist()


def test_neighbours_on_a_seam_are_two_objects() -> None:
    tiles = (Tile(0, 0, 20, 30, (0, 0, 20, 20)), Tile(0, 10, 20, 40, (0, 20, 20, 40)))
    one, other = np.ones((6, 6), np.bool_), np.ones((6, 6), np.bool_)
    both = prediction([(one, (5, 14), 0.9), (other, (5, 19), 0.8)], (20, 40))
    assert len(join(tiles, (both, both), 0.3).scores) == 2


def test_a_source_larger_than_the_overlap_is_the_union_of_its_parts() -> None:
    tiles = split((40, 100), 40, 10)
    whole = np.zeros((40, 100), np.bool_)
    whole[10:30, 5:95] = True
    found = []
    for tile in tiles:
        part, corner = decode_tight(encode_at(whole[:, tile.x0 : tile.x1], (0, 0), (40, 40)))
        found.append(
            shift(prediction([(part, corner, 0.9)], (40, 40)), (tile.y0, tile.x0), (40, 100))
        )
    joined = join(tiles, found, 0.3)
    assert len(tiles) > 2
    assert len(joined.scores) == 1
    assert joined.boxes.tolist() == [[5, 10, 95, 30]]
    bitmap, corner = decode_tight(joined.masks[0])
    assert (bitmap.all(), bitmap.shape, corner) == (True, (20, 90), (10, 5))


@pytest.mark.parametrize("across", [False, True])
def test_a_source_of_two_classes_is_one_detection_inside_a_tile_and_across_a_seam(
    across: bool,
) -> None:
    tiles = (Tile(0, 0, 20, 30, (0, 0, 20, 20)), Tile(0, 10, 20, 40, (0, 20, 20, 40)))
    box = np.ones((6, 6), np.bool_)
    star = prediction([(box, (5, 17), 0.8)], (20, 40))
    galaxy = dataclasses.replace(prediction([(box, (5, 17), 0.9)], (20, 40)), labels=np.array([1]))
    none = prediction([], (20, 40))
    pair = (star, galaxy) if across else (_both(star, galaxy), none)
    joined = join(tiles, pair, 0.3)
    assert joined.labels.tolist() == [1]
    kept = join(tiles, pair, 1.0, source_iou=1.0)
    assert len(kept.scores) == 2


def _both(first: Prediction, second: Prediction) -> Prediction:
    return Prediction(
        np.concatenate([first.boxes, second.boxes]),
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.labels, second.labels]),
        first.masks + second.masks,
    )


def test_a_source_inside_another_stays_unless_in_its_middle() -> None:
    large, small = np.ones((12, 12), np.bool_), np.ones((4, 4), np.bool_)
    companion = prediction([(large, (2, 2), 0.9), (small, (8, 5), 0.8)], (20, 40))
    assert len(one_per_source(companion, 0.5, 0.25).scores) == 2
    core = prediction([(large, (2, 2), 0.8), (small, (6, 6), 0.9)], (20, 40))
    assert one_per_source(core, 0.5, 0.25).scores.tolist() == pytest.approx([0.9])
    assert len(one_per_source(core, 0.5, 0.0).scores) == 2
    # Of radius 2.26: 0.5 px off the middle is inside a quarter of it, 1 px is not.
    beside = prediction([(large, (2, 2), 0.9), (small, (7, 6), 0.8)], (20, 40))
    assert len(one_per_source(beside, 0.5, 0.25).scores) == 2


def test_the_largest_piece_of_a_mask_is_kept_with_its_box() -> None:
    two = np.zeros((10, 12), np.bool_)
    two[0:3, 0:2], two[6:10, 7:12] = True, True
    two[5, 6] = True  # touches the second at a corner
    found = largest_pieces(
        prediction([(two, (4, 3), 0.9), (two[6:10, 7:12], (0, 0), 0.8)], (20, 40))
    )
    bitmap, corner = decode_tight(found.masks[0])
    assert corner == (9, 9)
    assert bitmap.sum() == 21
    assert found.boxes[0].tolist() == [9, 9, 15, 14]
    assert decode_tight(found.masks[1])[0].all()


def test_the_limit_is_told_of_the_whole_image() -> None:
    tiles = split((20, 40), 30, 10)
    one = prediction([(np.ones((3, 3), np.bool_), (2, 2), 0.9)], (20, 40))
    none = dataclasses.replace(prediction([], (20, 40)), limited=True)
    assert join(tiles, (one, none), 0.3).limited
    assert not join(tiles, (one, dataclasses.replace(none, limited=False)), 0.3).limited
