import numpy as np
from fits_files import gaussian

from astrolabel.core.config import StructureConfig
from astrolabel.detect.shredding import Ground, is_structure, own_flux, ring_levels

SHAPE = (160, 160)
FWHM = 4.0
MIDDLE = (80.0, 80.0)


def knots(count, radius, seed=1):
    rng = np.random.default_rng(seed)
    r, angle = radius * np.sqrt(rng.uniform(0.1, 1, count)), rng.uniform(0, 2 * np.pi, count)
    return np.stack([80 + r * np.sin(angle), 80 + r * np.cos(angle)], axis=1).round()


def judged(peaks, fluxes, radius, middle=0.0):
    """A round object of 10^5 counts, a part of them in its `middle`, with these peaks on it."""
    y, x = np.indices(SHAPE)
    parents = (np.hypot(y - 80, x - 80) <= radius).astype(np.int32)
    smooth = gaussian(SHAPE, *MIDDLE, 1e5, 1.2 * radius)
    light = (1 - middle) * smooth + gaussian(SHAPE, *MIDDLE, middle * 1e5, FWHM)
    for (py, px), flux in zip(peaks, fluxes, strict=True):
        light += gaussian(SHAPE, py, px, flux, FWHM)
    ground = Ground(light, own_flux(light, FWHM), light / 0.1, smooth, parents, FWHM)
    return is_structure(ground, np.array(peaks), StructureConfig())


def field(count):
    """So many sources far from the object in the middle."""
    rng = np.random.default_rng(2)
    places = rng.uniform(0, 160, (20 * count, 2)).round().clip(0, 159)
    return places[np.hypot(*(places - MIDDLE).T) > 60][:count]


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
    around = [(80.0, 80 + 30 + 20.0), (80.0, 80 + 30 + 28.0)]
    peaks = np.concatenate([[MIDDLE], knots(60, 28), around])
    out = judged(peaks, [5000.0] + [150.0] * 60 + [0.0] * 2, 30)
    assert out[-2:].tolist() == [True, False]


def test_a_compact_peak_where_the_object_is_faint_is_a_source_of_its_own():
    around = [(80.0, 80 + 34.0), (80.0 + 46, 80.0)]
    peaks = np.concatenate([[MIDDLE], knots(60, 28), around])
    out = judged(peaks, [5000.0] + [150.0] * 62, 30)
    assert out[-2:].tolist() == [True, False]


def test_a_large_galaxy_of_a_shallow_survey_is_one_source():
    # As DECam sees one: a hundred squared seeing discs, with hardly more knots than neighbours
    # of a dense deep field would be.
    peaks = np.concatenate([[MIDDLE], knots(17, 22), field(9)])
    out = judged(peaks, [5000.0] + [150.0] * 17 + [3000.0] * 9, 22.5)
    assert out.tolist() == [False] + [True] * 17 + [False] * 9


def test_as_many_peaks_in_a_crowded_tile_are_neighbours():
    peaks = np.concatenate([[MIDDLE], knots(17, 22), field(90)])
    assert not judged(peaks, [5000.0] + [150.0] * 17 + [3000.0] * 90, 22.5).any()


def test_peaks_on_empty_sky_that_get_no_mask_make_no_crowd():
    peaks = np.concatenate([[MIDDLE], knots(17, 22), field(90)])
    out = judged(peaks, [5000.0] + [150.0] * 17 + [1.0] * 90, 22.5)
    assert out[1:18].all()


def test_companions_of_a_galaxy_with_a_bright_middle_are_sources():
    peaks = np.concatenate([[MIDDLE], knots(17, 22), field(9)])
    fluxes = [5000.0] + [150.0] * 17 + [3000.0] * 9
    assert not judged(peaks, fluxes, 22.5, middle=0.3).any()


def test_a_group_on_one_side_of_a_narrow_galaxy_is_sources():
    y, x = np.indices(SHAPE)
    rng = np.random.default_rng(3)
    group = np.stack([rng.uniform(60, 100, 60), rng.uniform(98, 116, 60)], axis=1).round()
    parents = ((np.abs(y - 80) < 28) & (x > 70) & (x < 122)).astype(np.int32)

    def structure(width):
        smooth = 300 * np.exp(-0.5 * (((y - 80) / 20) ** 2 + ((x - 80) / width) ** 2))
        light = smooth + sum(gaussian(SHAPE, *peak, 150.0, FWHM) for peak in group)
        ground = Ground(light, own_flux(light, FWHM), light / 0.1, smooth, parents, FWHM)
        return is_structure(ground, np.concatenate([[MIDDLE], group]), StructureConfig())

    assert not structure(width=3).any()
    assert structure(width=20)[1:].mean() > 0.9  # on a disc they are knots


def test_the_middle_stays_when_a_knot_is_brighter():
    peaks = np.concatenate([[MIDDLE], knots(60, 30)])
    out = judged(peaks, [100.0] + [150.0] * 60, 30)
    assert out.tolist() == [False] + [True] * 60


def test_the_neighbours_of_an_ordinary_source_are_never_structure():
    peaks = np.concatenate([[MIDDLE], knots(12, 15)])
    assert not judged(peaks, [5000.0] + [150.0] * 12, 15).any()


def test_without_peaks_there_is_nothing_to_judge():
    assert judged(np.zeros((0, 2)), [], 30).shape == (0,)
