import pytest

from astrolabel.core.box import Box


def test_overlap_of_boxes_that_do_not_touch_is_empty():
    assert (Box(0, 0, 5, 5) & Box(7, 7, 5, 5)).area == 0


def test_overlap_and_union_of_boxes_that_do():
    a, b = Box(0, 0, 5, 5), Box(3, 2, 5, 5)
    assert a & b == Box(3, 2, 2, 3)
    assert a | b == Box(0, 0, 8, 7)


def test_a_box_around_a_point_is_centred_on_the_pixel_that_holds_it():
    assert Box.around(10.4, 7.6, 2) == Box(8, 6, 5, 5)


def test_contains_goes_by_the_pixel_that_holds_the_point():
    box = Box(2, 2, 3, 3)
    assert box.contains(1.5, 2)
    assert not box.contains(1.49, 2)
    assert box.contains(4.49, 4.49)
    assert not box.contains(4.5, 2)


def test_a_box_inside_another_indexes_its_array():
    assert Box(5, 6, 2, 3).slices_in(Box(4, 4, 10, 10)) == (slice(1, 3), slice(2, 5))


def test_negative_sides_are_refused():
    with pytest.raises(ValueError, match="negative"):
        Box(0, 0, -1, 3)


def test_shrinking_below_nothing_leaves_an_empty_box():
    assert Box(0, 0, 4, 4).expanded(-3).area == 0
