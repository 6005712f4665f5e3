"""The compiled loops: projections, least squares, step sizes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from astrolabel.deblend import morphology as loops
from astrolabel.deblend.spectra import non_negative_least_squares

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def images_and_centres(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    shape = draw(SHAPES)
    values = st.floats(0, 100, width=32)
    image = draw(npst.arrays(np.float32, shape, elements=values))
    return image, draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))


@settings(max_examples=150, deadline=None)
@given(images_and_centres())
def test_monotonic_projection_only_lowers_and_is_settled_after_one_pass(case) -> None:
    image, cy, cx = case
    once = image.copy()
    loops.monotonic(once, cy, cx)
    assert (once <= image).all()
    assert (once >= 0).all()
    assert once[cy, cx] == image[cy, cx]
    twice = once.copy()
    loops.monotonic(twice, cy, cx)
    np.testing.assert_array_equal(once, twice)


@settings(max_examples=150, deadline=None)
@given(images_and_centres())
def test_monotonic_projection_never_rises_along_rows_columns_and_diagonals(case) -> None:
    image, cy, cx = case
    loops.monotonic(image, cy, cx)
    for dy, dx in [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
        y, x, ray = cy, cx, []
        while 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
            ray.append(image[y, x])
            y, x = y + dy, x + dx
        assert (np.diff(ray) <= 0).all()
    assert image.max() == image[cy, cx]


@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_monotonic_projection_leaves_a_round_source_alone(sigma: float) -> None:
    y, x = np.mgrid[-15:16, -15:16]
    round_source = np.exp(-0.5 * (y**2 + x**2) / sigma**2).astype(np.float32)
    projected = round_source.copy()
    loops.monotonic(projected, 15, 15)
    np.testing.assert_allclose(projected, round_source, atol=2e-3)


def test_monotonic_projection_takes_away_a_second_peak() -> None:
    y, x = np.mgrid[:21, :21]
    one = np.exp(-0.5 * ((y - 10) ** 2 + (x - 7) ** 2) / 4).astype(np.float32)
    other = np.exp(-0.5 * ((y - 10) ** 2 + (x - 14) ** 2) / 4).astype(np.float32)
    both = one + other
    loops.monotonic(both, 10, 7)
    assert both[10, 14] == (one + other)[10, 7:15].min()
    np.testing.assert_allclose(both[10, :8], (one + other)[10, :8])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_least_squares_agrees_with_scipy(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    design, data = rng.normal(size=(30, count)), rng.normal(size=30)
    expected, _ = scipy.optimize.nnls(design, data)
    found = non_negative_least_squares(design.T @ design, design.T @ data, np.zeros(count))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_least_squares_gives_nothing_to_a_source_that_is_nowhere() -> None:
    matrix, vector = np.diag([2.0, 0.0]), np.array([4.0, 0.0])
    found = non_negative_least_squares(matrix, vector, np.ones(2))
    np.testing.assert_allclose(found, [2.0, 0.0])


def test_balance_draws_a_faint_source_to_symmetry_about_half_pixels_and_keeps_its_light() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((6, 7)).astype(np.float32)
    before = image.copy()
    loops.balance(image, 5, 6, np.ones_like(image), 1e6)
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=1e-3)
    np.testing.assert_allclose(image.sum(), before.sum(), rtol=1e-5)


def test_balance_leaves_a_well_measured_asymmetry() -> None:
    image = np.array([[1e3, 2e3, 0.5e3]], np.float32)
    before = image.copy()
    loops.balance(image, 0, 2, np.full_like(image, 1e-3), 0.05)
    np.testing.assert_allclose(image, before, rtol=1e-3)


def test_pixels_without_data_take_their_mirror_images_value_and_no_others() -> None:
    image = np.array([[1, 2, 9, 7, 5], [1, 1, 1, 1, 1], [6, 3, 8, 4, 2]], np.float32)
    steps = np.full_like(image, 1e-9)  # so well measured that nothing else is drawn
    steps[0, :2] = 0
    steps[1, 0] = steps[1, 4] = 0
    expected = image.copy()
    expected[0, :2] = [2, 4]
    image[1, 4] = expected[1, 4] = 3  # neither has data: both stay
    loops.balance(image, 2, 4, steps, 0.05)
    np.testing.assert_allclose(image, expected, rtol=1e-5)


def test_step_sizes_majorise_the_hessian_of_overlapping_sources() -> None:
    rng = np.random.default_rng(4)
    boxes = np.array([(0, 0, 5, 5), (1, 2, 4, 4), (0, 1, 5, 3)], np.int64)
    offsets = np.array([0, 25, 41, 56], np.int64)
    spectra = rng.dirichlet([1, 1], 3).astype(np.float32)
    curvature = rng.uniform(0.5, 2, (2, 5, 6)).astype(np.float32)
    share = rng.uniform(0.1, 3, 56).astype(np.float32)
    total, steps = np.zeros((2, 5, 6), np.float32), np.zeros(56, np.float32)
    loops.assemble(share, offsets, boxes, spectra, total)
    loops.step_sizes(share, offsets, boxes, spectra, curvature, total, steps)
    for _ in range(50):
        x = rng.normal(size=56).astype(np.float32)
        scene = np.zeros((2, 5, 6), np.float32)
        loops.assemble(x, offsets, boxes, spectra, scene)
        assert (curvature * scene**2).sum() <= (x**2 / steps).sum() * (1 + 1e-5)


def test_symmetric_profile_drops_a_neighbour_and_fills_a_masked_pixel() -> None:
    y, x = np.mgrid[:41, :41]
    own = 100 * np.exp(-0.5 * ((y - 20) ** 2 + (x - 20) ** 2) / 9)
    image = (own + 80 * np.exp(-0.5 * ((y - 20) ** 2 + (x - 31) ** 2) / 9)).astype(np.float32)
    known = np.ones(image.shape, bool)
    known[20, 21] = known[20, 19] = False
    image[~known] = 0
    profile, radius = loops.symmetric_profile(image, known, 20, 20, 0.5, 20)
    inner = profile[radius - 8 : radius + 9, radius - 8 : radius + 9]
    np.testing.assert_allclose(inner, own[12:29, 12:29], atol=6)
    assert radius < 11  # where the neighbour peaks
