import numpy as np
import pytest
from fits_files import gaussian
from hypothesis import given
from hypothesis import strategies as st

from astrolabel.core.box import Box
from astrolabel.core.masks import Mask, threshold_mask, tighten


def full(value, shape=(64, 64)):
    return np.full(shape, value, np.float32)


@given(st.floats(1.2, 5.0), st.floats(8.0, 400.0))
def test_a_gaussian_has_the_analytic_radius(s, ratio):
    """The light A exp(-r^2/2s^2) is above 5 sigma inside r = s sqrt(2 ln(A/5 sigma))."""
    shape = (81, 81)
    light = gaussian(shape, 40, 40, 2 * np.pi * s * s * ratio, fwhm=2.3548 * s)
    mask = threshold_mask(light, Box.of_shape(shape), full(5.0, shape), (40, 40))
    expected = s * np.sqrt(2 * np.log(ratio / 5))
    assert mask is not None
    # From the area, and from the widest row: both within a pixel.
    assert np.sqrt(mask.area / np.pi) == pytest.approx(expected, abs=1)
    assert (mask.box.width - 1) / 2 == pytest.approx(expected, abs=1)


def test_only_what_is_connected_to_the_peak_belongs_to_the_source():
    light = full(0)
    light[10:15, 10:15] = 10
    light[30:35, 30:35] = 20
    mask = threshold_mask(light, Box.of_shape(light.shape), full(5), (12, 12))
    assert mask is not None
    assert mask.box == Box(10, 10, 5, 5)


def test_pixels_that_touch_at_a_corner_are_connected():
    light = full(0)
    light[10, 10] = light[11, 11] = 10
    mask = threshold_mask(light, Box.of_shape(light.shape), full(5), (10, 10))
    assert mask is not None
    assert mask.area == 2


def test_a_fit_may_move_the_centre_by_a_pixel():
    light = full(0)
    light[11, 11] = 10
    assert threshold_mask(light, Box.of_shape(light.shape), full(5), (10, 10)) is not None
    assert threshold_mask(light, Box.of_shape(light.shape), full(5), (9, 9)) is None


def test_a_source_below_the_threshold_has_no_mask():
    assert threshold_mask(full(4.9), Box(0, 0, 64, 64), full(5), (3, 3)) is None


def test_the_threshold_is_taken_where_the_source_lies():
    threshold = full(100)
    threshold[20:30, 40:50] = 5
    mask = threshold_mask(full(10, (10, 10)), Box(20, 40, 10, 10), threshold, (25, 45))
    assert mask is not None
    assert mask.box == Box(20, 40, 10, 10)


def test_a_peak_at_the_corner_of_the_model_is_no_error():
    light = full(10, (5, 5))
    for peak in [(20, 40), (24, 44), (19.6, 39.6), (24.4, 44.4)]:
        assert threshold_mask(light, Box(20, 40, 5, 5), full(5), peak) is not None
    assert threshold_mask(light, Box(20, 40, 5, 5), full(5), (10, 10)) is None


def test_clipping_to_a_frame_counts_from_its_corner():
    mask = tighten(np.ones((4, 6), bool), Box(8, 8, 4, 6))
    assert isinstance(mask, Mask)
    inside = mask.clipped(Box(10, 10, 50, 50))
    assert inside is not None
    assert inside.box == Box(0, 0, 2, 4)
    assert mask.clipped(Box(30, 30, 5, 5)) is None


def test_the_light_inside_a_mask_is_that_of_its_pixels_alone():
    pixels = np.array([[1, 1, 0], [0, 1, 1]], bool)
    light = full(7, (10, 12))  # outside of the mask, too
    light[4, 5:7], light[5, 6:8] = (1, 2), (3, 4)
    centre, total = Mask(pixels, Box(24, 45, 2, 3)).light_inside(light, Box(20, 40, 10, 12))
    assert total == 10
    assert centre == pytest.approx((24 + 7 / 10, 45 + (0 * 1 + 1 * 2 + 1 * 3 + 2 * 4) / 10))
    assert Mask(pixels, Box(0, 0, 2, 3)).area == 4


def test_a_mask_without_a_pixel_is_none_and_one_with_margins_loses_them():
    assert tighten(np.zeros((3, 4), bool), Box(5, 6, 3, 4)) is None
    pixels = np.zeros((7, 9), bool)
    pixels[2, 3] = pixels[4, 5] = True
    mask = tighten(pixels, Box(10, 20, 7, 9))
    assert mask is not None
    assert mask.box == Box(12, 23, 3, 3)
    assert mask.pixels.tolist() == [[True, False, False], [False] * 3, [False, False, True]]


@pytest.mark.parametrize(("dy", "dx"), [(a, b) for a in range(-2, 3) for b in range(-2, 3)])
def test_the_seed_is_the_brightest_pixel_within_one_of_the_peak(dy, dx):
    light = full(0)
    light[30 + dy, 40 + dx] = 10
    mask = threshold_mask(light, Box.of_shape(light.shape), full(5), (30, 40))
    assert (mask is not None) == (max(abs(dy), abs(dx)) <= 1)
    light[30, 40] = 20  # brighter, and not connected where it is two pixels off
    mask = threshold_mask(light, Box.of_shape(light.shape), full(5), (30, 40))
    assert mask is not None
    assert mask.area == (2 if 0 < max(abs(dy), abs(dx)) <= 1 else 1)


def test_light_at_the_threshold_is_not_above_it():
    assert threshold_mask(full(5), Box(0, 0, 64, 64), full(5), (3, 3)) is None


def test_a_mask_that_crosses_a_frame_keeps_its_shape_inside():
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    inside = Mask(pixels, Box(4, 9, 2, 3)).clipped(Box(0, 0, 20, 11))
    assert inside is not None
    assert inside.box == Box(4, 9, 2, 2)
    assert inside.pixels.tolist() == [[True, False], [True, True]]
    assert Mask(pixels, Box(4, 9, 2, 3)).clipped(Box(0, 12, 20, 11)) is None
