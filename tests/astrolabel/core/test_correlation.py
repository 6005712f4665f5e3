import numpy as np
import pytest
from scipy import ndimage

from astrolabel.core.correlation import filter_power


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_the_noise_of_a_filtered_image_is_measured_on_correlated_noise(sigma):
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (600, 600)), sigma, mode="wrap")
    noise /= noise.std()
    offsets = range(-6, 7)
    correlation = np.array(
        [[(noise * np.roll(noise, (a, b), (0, 1))).mean() for b in offsets] for a in offsets]
    )
    response = ndimage.gaussian_laplace(np.pad([[1.0]], 15), 1.5)
    measured = ndimage.gaussian_laplace(noise, 1.5, mode="wrap").var()
    assert filter_power(response, correlation) == pytest.approx(measured, rel=0.03)
    assert filter_power(response, None) < 0.8 * measured


def test_white_noise_has_the_power_of_the_kernel():
    response = np.random.default_rng(0).normal(0, 1, (9, 9))
    white = np.pad([[1.0]], 3)
    assert filter_power(response, white) == pytest.approx(filter_power(response, None))
