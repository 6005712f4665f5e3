"""Shapes of fitted sources are those that were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from deblend_scenes import blend_of, light
from scipy import special
from scipy.integrate import trapezoid

from astrolabel.core.config import DeblendConfig
from astrolabel.deblend.parametric_deblender import ParametricDeblender
from astrolabel.deblend.shape import Profile, half_light_radius

SHAPE = (81, 81)


def test_a_gaussian_galaxy_has_the_radius_axis_ratio_angle_and_index_it_was_drawn_with():
    galaxy = light(SHAPE, 40.3, 39.6, 40000.0, size=3.0, ratio=2.0)  # wider along x
    for drawn, theta in ((galaxy, 0.0), (galaxy.swapaxes(1, 2), 90.0)):
        blend = blend_of(drawn, peaks=[(40, 40)])
        (part,) = ParametricDeblender(DeblendConfig()).fit(blend).sources[0].profiles
        # A Gaussian has half of its light within 1.1774 sigma.
        assert part.radius == pytest.approx(1.1774 * 3 * np.sqrt(2), rel=0.03)
        assert part.axis_ratio == pytest.approx(0.5, abs=0.02)
        assert abs(part.theta) == pytest.approx(theta, abs=1.5)
        assert part.index == pytest.approx(0.5, abs=0.06)
    assert part.centre == pytest.approx((39.6, 40.3), abs=0.05)


def test_a_star_is_a_point_without_a_size():
    blend = blend_of(light(SHAPE, 40, 40, 20000.0), peaks=[(40, 40)])
    (part,) = ParametricDeblender(DeblendConfig()).fit(blend).sources[0].profiles
    assert part.radius == 0
    assert np.isnan(part.index)


def test_the_half_light_radius_of_two_profiles_holds_half_of_their_light():
    disc = Profile((0, 0), np.array([60.0]), radius=10.0, axis_ratio=0.5, index=1.0)
    bulge = Profile((0, 0), np.array([40.0]), radius=2.0, axis_ratio=0.9, index=4.0)
    radius = half_light_radius((disc, bulge))
    r = np.linspace(0, radius, 200_001)[1:]
    inside = 0.0
    for part in (disc, bulge):  # by integration of the surface brightness
        n = part.index
        b = special.gammaincinv(2 * n, 0.5)
        whole = 2 * np.pi * n * part.radius**2 * b ** (-2 * n) * special.gamma(2 * n)
        profile = np.exp(-b * (r / part.radius) ** (1 / n)) / whole
        inside += part.flux[0] * trapezoid(2 * np.pi * r * profile, r)
    assert inside == pytest.approx(50, abs=0.3)
    dark = Profile((0, 0), np.array([0.0]), radius=2.0, axis_ratio=0.9, index=4.0)
    assert half_light_radius((disc, dark)) == pytest.approx(10)
    assert half_light_radius((dark, dark)) == 2
    point = Profile((0, 0), np.array([70.0]))
    assert half_light_radius((disc, point)) == 0
