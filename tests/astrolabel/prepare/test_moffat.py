"""The profile that is fitted to stars, and its slopes."""

import numpy as np
import pytest
from scipy import optimize

from astrolabel.prepare.moffat import profile, slopes

AT = np.argwhere(np.ones((15, 15))) - 7.0


@pytest.mark.parametrize("ellipticity", [(0.0, 0.0), (0.3, -0.2), (-0.1, 0.35)])
@pytest.mark.parametrize("beta", [1.6, 3.0, 15.0])
def test_slopes_are_those_of_differences(ellipticity, beta):
    p = np.array([50, 0.3, -0.8, 3.1, beta, *ellipticity])
    expected = optimize.approx_fprime(p, profile, 1e-7, AT)
    np.testing.assert_allclose(slopes(p, AT), expected, rtol=1e-4, atol=1e-4)


def test_a_profile_has_its_peak_width_and_axes():
    q = 0.5  # along the x axis
    p = np.array([10, 0, 0, 4.0, 3.0, (1 - q) / (1 + q), 0])
    half = np.array([[0, 0], [0, 2 / np.sqrt(q)], [2 * np.sqrt(q), 0]])
    np.testing.assert_allclose(profile(p, half), [10, 5, 5])
