"""Mixtures of Gaussians by their closed forms, and what stands for no value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from astroseg.core.targets import is_sentinel, location_and_scale, quantile, summary

ONE_SIGMA = 0.994457883209753
"""Of a unit Gaussian, its quantile at 0.84."""


def mixture(*components: tuple[float, float, float]) -> np.ndarray:
    """(3, K) of (weight, mean, deviation)."""
    return np.array(components, np.float32).T


def test_one_gaussian_has_its_own_median_deviation_and_quantiles() -> None:
    middle, std, low, high = summary(mixture((1, 2, 0.5)))
    assert middle == pytest.approx(2, abs=1e-9)
    assert std == pytest.approx(0.5)
    assert low == pytest.approx(2 - 0.5 * ONE_SIGMA, abs=1e-9)
    assert high == pytest.approx(2 + 0.5 * ONE_SIGMA, abs=1e-9)


def test_two_peaks_have_quantiles_within_them_and_the_variance_of_their_distance() -> None:
    middle, std, low, high = summary(mixture((0.4, -3, 0.1), (0.6, 3, 0.1)))
    # 0.16 of all is 0.4 of the left peak, 0.5 is a sixth of the right one, 0.84 is 11/15.
    # Weights and deviations are float32: 0.4 and 0.1 to 6e-9.
    assert low == pytest.approx(-3 - 0.1 * 0.2533471031, abs=1e-8)
    assert middle == pytest.approx(3 - 0.1 * 0.9674215661, abs=1e-8)
    assert high == pytest.approx(3 + 0.1 * 0.6229257231, abs=1e-8)
    assert std == pytest.approx(math.sqrt(0.01 + 0.4 * 3.6**2 + 0.6 * 2.4**2))


def test_summaries_keep_the_order_of_detections_and_targets() -> None:
    many = np.stack([np.stack([mixture((1, 10 * n + t, 1)) for t in range(3)]) for n in range(4)])
    assert np.round(summary(many)[..., 0]).astype(int).tolist() == [
        [10 * n + t for t in range(3)] for n in range(4)
    ]
    assert summary(np.zeros((0, 2, 3, 5), np.float32)).shape == (0, 2, 4)


def test_components_of_any_scale_and_weights_that_nearly_add_to_one() -> None:
    far = mixture((0.3, 1e9, 1e3), (0.7001, 2e9, 1e-3))
    assert quantile(far, 0.15) == pytest.approx(1e9, abs=1)
    assert quantile(far, 0.9) == pytest.approx(2e9, abs=1)


def test_location_and_scale_of_a_gaussian_with_outliers_and_unknown_values() -> None:
    values = np.random.default_rng(0).normal(5, 2, 4000)
    values[:100], values[100:200] = 1e6, np.nan
    middle, width = location_and_scale(values)
    assert middle == pytest.approx(5, abs=0.15)
    assert width == pytest.approx(2, abs=0.15)


def test_mostly_equal_values_have_their_deviation_and_equal_ones_none() -> None:
    values = np.array([0.0] * 90 + [1.0] * 10)
    assert location_and_scale(values) == (0.0, pytest.approx(0.3))
    assert location_and_scale(np.full(5, 3.0)) == (3.0, 0.0)
    assert all(map(math.isnan, location_and_scale(np.full(5, np.nan))))


@pytest.mark.parametrize(
    ("name", "value", "sentinel"),
    [
        ("redshift", -1, True),
        ("z", -99, True),
        ("Redshift", 99.0, True),
        ("redshift", 0.0, False),
        ("redshift", -0.001, False),
        ("redshift", 7.1, False),
        ("mass", -99, True),
        ("mass", 99, False),
        ("mass", -1, False),
        ("mass", 1e20, True),
        ("mass", math.nan, False),
    ],
)
def test_sentinels_depend_on_what_a_value_is_of(name: str, value: float, sentinel: bool) -> None:
    assert is_sentinel(name, value) is sentinel
