"""Outlines of masks: the even-odd rule of their rings gives the pixels back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from astrolabel.io.trace import trace


def filled(points, starts, shape):
    """Pixels with an odd number of sides to their left."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    count = np.zeros(shape, int)
    for first, last in pairwise(starts):
        ring = points[first:last]
        for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (xa == xb) != (ya == yb)
            if xa == xb:
                count += (y > min(ya, yb)) & (y < max(ya, yb)) & (x > xa)
    return count % 2 == 1


@given(arrays.arrays(bool, st.tuples(st.integers(0, 7), st.integers(0, 7))))
def test_the_rings_hold_the_pixels_of_the_mask_and_no_others(mask):
    points, starts = trace(mask)
    np.testing.assert_array_equal(filled(points, starts, mask.shape), mask)
    turns = np.diff(starts)
    assert (turns >= 4).all()


def test_pieces_that_touch_at_a_corner_are_two_rings_and_a_hole_is_one_more():
    _, starts = trace(np.array([[1, 0], [0, 1]], bool))
    assert len(starts) - 1 == 2
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    points, starts = trace(ring)
    assert starts.tolist() == [0, 4, 8]
    assert set(map(tuple, points[:4])) == {(0, 0), (3, 0), (3, 3), (0, 3)}
