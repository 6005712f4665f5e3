from dataclasses import replace

import numpy as np
import pytest
from fits_files import gaussian

from astrolabel.core.config import DetectConfig
from astrolabel.detect.star_artifacts import saturated_regions, saturated_stars, star_reaches

SHAPE = (200, 200)
FWHM = 4.0
STAR = np.array([100.0, 90.0])


def starlight(spikes=True):
    """A star of 10^6 counts with wings and, along 45 degrees, four beaded spikes."""
    y, x = np.indices(SHAPE) - STAR[:, None, None]
    r = np.hypot(y, x)
    light = 2e4 / (1 + (r / 4) ** 2) ** 1.7
    if spikes:
        for along, across in ((x + y, x - y), (x - y, x + y)):
            beads = 1 + 0.4 * np.sin(np.abs(along) / np.sqrt(2))
            light += (
                6e3 * beads * np.exp(-((across / 3) ** 2)) / np.maximum(np.abs(along), 6) ** 1.5
            )
    return light


def off(dy, dx):
    return (STAR[0] + dy, STAR[1] + dx)


def test_light_of_a_star_reaches_to_where_it_is_sky():
    light, stars = starlight(spikes=False), np.array([STAR])
    near, far = (star_reaches(light, stars, FWHM, replace(DetectConfig(), star_sky_sigma=s))[0]
                 for s in (100.0, 10.0))  # fmt: skip
    expected = [4 * np.sqrt((2e4 / s) ** (1 / 1.7) - 1) for s in (100.0, 10.0)]
    assert near == pytest.approx(expected[0], abs=FWHM)
    assert far == pytest.approx(expected[1], abs=FWHM)


def test_a_neighbour_does_not_make_a_star_reach_farther():
    light, config = starlight(spikes=False), replace(DetectConfig(), star_sky_sigma=50.0)
    crowded = light + gaussian(SHAPE, *off(0, 60), 1e5, FWHM)
    alone, beside = (star_reaches(i, np.array([STAR]), FWHM, config)[0] for i in (light, crowded))
    assert alone == beside


def test_without_stars_nothing_reaches():
    assert star_reaches(starlight(), np.zeros((0, 2)), FWHM, DetectConfig()).shape == (0,)


def test_the_middle_of_a_saturated_star_is_its_widest_part_not_that_of_its_trail():
    y, x = np.indices(SHAPE)
    saturated = np.hypot(y - 60, x - 80) <= 6
    saturated[60:120, 80] = True  # a trail on one side
    saturated[150, 150:170] = True  # one without a star
    regions = saturated_regions(saturated, FWHM, DetectConfig())
    assert regions.max() == 2
    stars = saturated_stars(saturated, regions, np.array([[64.0, 82.0], [10.0, 10.0]]))
    np.testing.assert_allclose(stars, [[60, 80]], atol=0.5)


@pytest.mark.parametrize("radii", [(2, 2), (12, 2), (6, 5)])
def test_saturated_stars_beside_each_other_are_two(radii):
    y, x = np.indices(SHAPE)
    places = np.array([[60.0, 80.0], [60.0 + sum(radii) + 7, 80.0]])
    saturated = np.zeros(SHAPE, bool)
    for (cy, cx), radius in zip(places, radii, strict=True):
        saturated |= np.hypot(y - cy, x - cx) <= radius
    saturated[60:64, 80 + radii[0] + 3] = True  # a broken piece of the first
    regions = saturated_regions(saturated, FWHM, DetectConfig())
    assert len({regions[tuple(place.astype(int))] for place in places}) == 2
    np.testing.assert_allclose(saturated_stars(saturated, regions, places), places, atol=1)


def test_what_is_beside_a_trail_is_nearer_to_it_than_what_is_beside_a_star():
    y, x = np.indices(SHAPE)
    saturated = np.hypot(y - 60, x - 80) <= 6
    saturated[60:90, 79:82] = True
    regions = saturated_regions(saturated, FWHM, DetectConfig())
    assert np.flatnonzero(regions[60]).max() == 80 + 6 + 8
    assert np.flatnonzero(regions[85]).max() == 81 + 4
    assert regions.max() == 1


def test_a_piece_of_a_trail_or_spike_is_no_star_of_its_own():
    y, x = np.indices(SHAPE)
    saturated = np.hypot(y - 60, x - 80) <= 6
    saturated[72:100, 79:82] = True
    saturated[60, 92:99] = True
    regions = saturated_regions(saturated, FWHM, DetectConfig())
    assert regions.max() == 1
    stars = saturated_stars(saturated, regions, np.array([[90.0, 80.0]]))
    np.testing.assert_allclose(stars, [[60, 80]], atol=0.5)


def test_an_image_without_saturation_has_no_stars():
    nothing = np.zeros(SHAPE, bool)
    regions = saturated_regions(nothing, FWHM, DetectConfig())
    assert regions.max() == 0
    assert saturated_stars(nothing, regions, np.array([[5.0, 5.0]])).shape == (0, 2)
    assert saturated_stars(nothing, regions, np.zeros((0, 2))).shape == (0, 2)
