import numpy as np
from fits_files import gaussian

from astrolabel.config import StructureConfig
from astrolabel.structure import is_structure, own_flux, ring_levels

SHAPE = (160, 160)
FWHM = 4.0
MIDDLE = (80.0, 80.0)


def knots(count, radius, seed=1):
    rng = np.random.default_rng(seed)
    r, angle = radius * np.sqrt(rng.uniform(0.1, 1, count)), rng.uniform(0, 2 * np.pi, count)
    return np.stack([80 + r * np.sin(angle), 80 + r * np.cos(angle)], axis=1).round()


def judged(peaks, fluxes, radius, sky_sigma=0.1):
    """A round object of 10^5 counts with these peaks on it."""
    y, x = np.indices(SHAPE)
    parents = (np.hypot(y - 80, x - 80) <= radius).astype(np.int32)
    smooth = gaussian(SHAPE, *MIDDLE, 1e5, 1.2 * radius)
    light = smooth.copy()
    for (py, px), flux in zip(peaks, fluxes, strict=True):
        light += gaussian(SHAPE, py, px, flux, FWHM)
    return is_structure(
        light,
        own_flux(light, FWHM),
        light / sky_sigma,
        smooth,
        parents,
        np.array(peaks),
        FWHM,
        StructureConfig(),
    )


def test_the_flux_of_a_star_is_read_off_its_laplacian():
    light = 5.0 + gaussian(SHAPE, 50, 60, 300.0, FWHM)
    np.testing.assert_allclose(own_flux(light, FWHM)[50, 60], 300, rtol=0.01)


def test_the_median_of_a_ring_is_not_what_is_inside_and_ignores_a_neighbour():
    image = np.full(SHAPE, 3.0) + gaussian(SHAPE, 80, 80, 1e3, 3) + gaussian(SHAPE, 80, 92, 1e3, 3)
    medians = ring_levels(image, np.array([[80.0, 80.0], [0.0, 0.0]]), np.array([12.0, 8.0]))
    np.testing.assert_allclose(medians, 3, rtol=0.01)


def test_many_small_peaks_of_a_large_object_are_its_structure_and_its_middle_is_not():
    peaks = np.concatenate([[MIDDLE], knots(60, 30)])
    assert judged(peaks, [5000.0] + [150.0] * 60, 30).tolist() == [False] + [True] * 60


def test_a_bright_source_in_a_large_object_stays_its_own():
    peaks = np.concatenate([[MIDDLE], knots(60, 30), [(60.0, 80.0)]])
    out = judged(peaks, [9000.0] + [150.0] * 60 + [6000.0], 30)
    assert not out[-1]
    assert out[1:-1].mean() > 0.9


def test_few_small_peaks_in_a_large_object_are_neighbours():
    peaks = np.concatenate([[MIDDLE], knots(6, 30)])
    assert not judged(peaks, [5000.0] + [150.0] * 6, 30).any()


def test_peaks_just_outside_a_large_object_are_its_outskirts_and_farther_ones_are_not():
    around = [(80.0, 80 + 30 + 5.0), (80.0, 80 + 30 + 12.0)]
    peaks = np.concatenate([[MIDDLE], knots(60, 28), around])
    out = judged(peaks, [5000.0] + [150.0] * 62, 30)
    assert out[-2:].tolist() == [True, False]


def test_a_compact_peak_on_dark_ground_beside_the_object_is_a_source():
    peaks = np.concatenate([[MIDDLE], knots(60, 22), [(80.0, 80 + 35.0)]])
    fluxes = [5000.0] + [150.0] * 61
    bright_sky, dark_sky = judged(peaks, fluxes, 30, 0.1), judged(peaks, fluxes, 30, 10.0)
    assert bright_sky[-1]
    assert not dark_sky[-1]


def test_the_middle_stays_when_a_knot_is_brighter():
    peaks = np.concatenate([[MIDDLE], knots(60, 30)])
    out = judged(peaks, [100.0] + [150.0] * 60, 30)
    assert out.tolist() == [False] + [True] * 60


def test_the_neighbours_of_an_ordinary_source_are_never_structure():
    peaks = np.concatenate([[MIDDLE], knots(12, 15)])
    assert not judged(peaks, [5000.0] + [150.0] * 12, 15).any()


def test_without_peaks_there_is_nothing_to_judge():
    assert judged(np.zeros((0, 2)), [], 30).shape == (0,)
