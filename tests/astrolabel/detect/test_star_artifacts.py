import numpy as np
import pytest
from fits_files import gaussian

from astrolabel.core.config import GlareConfig
from astrolabel.detect.shredding import own_flux
from astrolabel.detect.star_artifacts import is_glare, saturated_regions, saturated_stars

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


def judged(light, peaks, stars=(STAR,), **config):
    return is_glare(
        light,
        own_flux(light, FWHM),
        light / 1.0,
        np.array(stars).reshape(-1, 2),
        np.array(peaks, float),
        FWHM,
        GlareConfig(**config),
    ).tolist()


def off(dy, dx):
    return (STAR[0] + dy, STAR[1] + dx)


def test_peaks_on_the_spikes_are_glare_and_the_star_is_not():
    spikes = [off(d * s, d * t) for d in (16, 25, 34) for s in (1, -1) for t in (1, -1)]
    assert judged(starlight(), [STAR, *spikes]) == [False] + [True] * 12


def test_the_bumps_of_an_aureole_are_glare():
    light = starlight(spikes=False) + gaussian(SHAPE, *off(0, 20), 500.0, FWHM)
    assert judged(light, [off(0, 20)]) == [True]


@pytest.mark.parametrize("at", [(0, 25), (30, 30), (-18, -18)])
def test_a_neighbour_is_a_source_even_on_a_spike(at):
    light = starlight() + gaussian(SHAPE, *off(*at), 2e4, FWHM)
    assert judged(light, [off(*at)]) == [False]


def test_a_spike_opposite_to_a_bright_neighbour_is_glare_still():
    light = starlight() + gaussian(SHAPE, *off(25, 25), 2e4, FWHM)
    assert judged(light, [off(-25, -25), off(25, 25)]) == [True, False]


def test_what_is_beyond_the_aureole_is_not_judged():
    light = starlight(spikes=False)
    for side in (1, -1):
        light += gaussian(SHAPE, *off(0, 60 * side), 1e3, FWHM)
    pair = [off(0, 60), off(0, -60)]
    assert judged(light, pair, sky_sigma=1000.0) == [False, False]
    assert judged(light, pair, sky_sigma=0.001) == [True, True]


def test_a_second_saturated_star_beside_the_first_stays():
    second = off(0, 25)
    light = starlight()
    light[98:103, 113:118] = 0  # its saturated core holds nothing
    assert judged(light, [STAR, second], stars=(STAR, second)) == [False, False]


def test_without_stars_or_peaks_there_is_no_glare():
    light = starlight()
    assert judged(light, [off(16, 16)], stars=()) == [False]
    assert judged(light, np.zeros((0, 2))) == []


def test_the_middle_of_a_saturated_star_is_its_widest_part_not_that_of_its_trail():
    y, x = np.indices(SHAPE)
    saturated = np.hypot(y - 60, x - 80) <= 6
    saturated[60:120, 80] = True  # a trail on one side
    saturated[150, 150:170] = True  # one without a star
    regions = saturated_regions(saturated, 8.0)
    assert regions.max() == 2
    stars = saturated_stars(saturated, regions, np.array([[64.0, 82.0], [10.0, 10.0]]))
    np.testing.assert_allclose(stars, [[60, 80]], atol=0.5)


def test_an_image_without_saturation_has_no_stars():
    nothing = np.zeros(SHAPE, bool)
    regions = saturated_regions(nothing, 8.0)
    assert regions.max() == 0
    assert saturated_stars(nothing, regions, np.array([[5.0, 5.0]])).shape == (0, 2)
    assert saturated_stars(nothing, regions, np.zeros((0, 2))).shape == (0, 2)
