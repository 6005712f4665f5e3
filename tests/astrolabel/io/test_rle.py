from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from astrolabel.core.box import Box
from astrolabel.io import rle

side = st.integers(1, 14)
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=16))


def paste(mask, box, shape):
    """The mask in a full frame, pixel by pixel."""
    frame = np.zeros(shape, bool)
    for y in range(box.height):
        for x in range(box.width):
            if 0 <= y + box.y0 < shape[0] and 0 <= x + box.x0 < shape[1]:
                frame[y + box.y0, x + box.x0] = mask[y, x]
    return frame


@settings(deadline=None)
@given(masks, st.integers(-18, 16), st.integers(-18, 16), side, side)
def test_boxed_encoding_equals_pycocotools_on_the_full_frame(mask, y0, x0, height, width):
    box = Box(y0, x0, *mask.shape)
    frame = paste(mask, box, (height, width))
    expected = coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))
    encoded = rle.encode(mask, box, (height, width))
    assert encoded == {"size": [height, width], "counts": expected["counts"].decode()}


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(side, side)))
def test_decoding_and_measuring_undo_encoding(mask):
    whole = Box.of_shape(mask.shape)
    encoded = rle.encode(mask, whole, mask.shape)
    np.testing.assert_array_equal(rle.decode(encoded), mask)
    assert rle.measure(encoded) == (mask.sum(), rle.tight_box(mask, whole))


def told(of, value, short):
    with mock.patch.object(rle, "SHORT", short):
        try:
            return np.array(of(value)).tolist() if of is rle._decompress else of(value)
        except ValueError as error:
            return str(error)


@settings(deadline=None)
@given(
    hnp.arrays(bool, st.tuples(side, side)),
    st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=60),
)
def test_the_loop_and_numpy_say_the_same(mask, text):
    encoded = rle.encode(mask, Box.of_shape(mask.shape), mask.shape)
    assert told(rle.measure, encoded, 0) == told(rle.measure, encoded, 10**6)
    for counts in (text, encoded["counts"], encoded["counts"] + text):
        assert told(rle._decompress, counts, 0) == told(rle._decompress, counts, 10**6)


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(side, side)), st.data())
def test_a_part_is_decoded_alone(mask, data):
    y0, x0 = (data.draw(st.integers(0, n)) for n in mask.shape)
    height, width = (
        data.draw(st.integers(0, n - o)) for n, o in zip(mask.shape, (y0, x0), strict=True)
    )
    box = Box(y0, x0, height, width)
    encoded = rle.encode(mask, Box.of_shape(mask.shape), mask.shape)
    np.testing.assert_array_equal(rle.decode_inside(encoded, box), mask[box.slices])


def test_runs_of_a_large_image_are_exact():
    # Run lengths beyond 16 bits and a sum beyond 2**24, where float32 counting ends.
    mask = np.ones((3, 2), bool)
    box, shape = Box(4990, 4995, 3, 2), (5000, 5000)
    encoded = rle.encode(mask, box, shape)
    assert rle.runs(encoded).tolist() == [4995 * 5000 + 4990, 3, 4997, 3, 5000 * 3 + 7]
    assert rle.measure(encoded) == (6, [4995, 4990, 2, 3])


def test_uncompressed_counts_are_measured_too():
    assert rle.measure({"size": [3, 3], "counts": [4, 1, 4]}) == (1, [1, 1, 1, 1])


def test_tight_box_is_in_image_pixels_and_xywh():
    mask = np.zeros((9, 9), bool)
    mask[2:4, 5:8] = True
    assert rle.tight_box(mask, Box(100, 200, 9, 9)) == [205, 102, 3, 2]


def test_mask_and_box_must_agree():
    with pytest.raises(ValueError, match="cannot lie at"):
        rle.encode(np.ones((3, 3), bool), Box(0, 0, 3, 4), (9, 9))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"size": [3, 3], "counts": b"9"}, "bytes"),
        ({"size": [3, 3], "counts": ""}, "empty, cut off"),
        ({"size": [3, 3], "counts": "o"}, "empty, cut off"),  # asks for one more character
        ({"size": [3, 3], "counts": "~~"}, "characters"),
        ({"size": [3, 3], "counts": "é"}, "ASCII"),
        ({"size": [3, 3], "counts": "8"}, "cover 8 pixels"),
        ({"size": [3, 3], "counts": "o" * 8 + "0"}, "no image has pixels"),
        ({"size": [3, 3], "counts": "O"}, "negative"),
        ({"size": [3, 3], "counts": [4, -1, 6]}, "negative"),
        ({"size": [3, 3], "counts": [4.0, 5.0]}, "not ASCII text"),
        ({"size": [3, 3], "counts": [2**63, 9 - 2**63]}, "no image has pixels"),
        ({"size": [3, 3], "counts": None}, "NoneType"),
        ({"size": [3, 3]}, "NoneType"),
        ({"size": [3], "counts": "9"}, "two positive integers"),
        ({"size": [0, 3], "counts": "0"}, "two positive integers"),
        ({"counts": "9"}, "two positive integers"),
    ],
)
def test_broken_counts_are_named_before_they_are_decoded(broken, why):
    with pytest.raises(ValueError, match=why):
        rle.runs(broken)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0, max_codepoint=200), max_size=30))
def test_no_text_makes_runs_that_do_not_fill_the_image(counts):
    try:
        lengths = rle.runs({"size": [4, 5], "counts": counts})
    except ValueError:
        return
    assert lengths.sum() == 20
    assert lengths.min() >= 0
