"""Which candidates are sources: the trees, the features, and what comes of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fits_files import gaussian
from scipy import ndimage, signal

from astrolabel.core import psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.detect.detect import detect
from astrolabel.detect.features import NAMES, Field, Look, features, point_flux, ring_levels
from astrolabel.detect.image import detection_image
from astrolabel.detect.source_probability import (
    _part_of_disc,
    less_by_chance,
    read_table,
    table,
)

SHAPE = (160, 160)
FWHM = 4.0


def field(light, parents=None, **more):
    parents = np.ones(light.shape, np.int32) if parents is None else parents
    variance = np.ones_like(light)
    nothing = np.zeros((0, 2)), np.zeros(0)
    return Field(light, variance, np.stack([light] * 2), parents, FWHM, *nothing, **more)


def column(look, peaks, name):
    return features(look, np.array(peaks, float))[:, NAMES.index(name)]


def looked(light, peaks, **more):
    one = field(light, **more)
    return Look.at(one, np.array(peaks, float))


def small_table(nodes):
    return read_table({"schema": 1, "features": list(NAMES), "baseline": 0.0, "trees": [nodes]})


def test_a_tree_asks_goes_left_at_most_and_sends_what_is_missing_where_it_is_told() -> None:
    leaf = [[-1, -2.0], [-1, 3.0]]
    rows = np.zeros((3, len(NAMES)))
    rows[:, 4] = [0.5, 0.6, np.nan]
    for missing, odds in ((1, [-2.0, 3.0, -2.0]), (0, [-2.0, 3.0, 3.0])):
        trees = small_table([[4, 0.5, missing, 1, 2], *leaf])
        expected = 1 / (1 + np.exp(-np.array(odds)))
        np.testing.assert_allclose(trees.probability(rows), expected)


def test_a_table_of_other_features_is_refused() -> None:
    document = {"schema": 1, "features": ["one"], "baseline": 0.0, "trees": [[[-1, 0.0]]]}
    with pytest.raises(ValueError, match="other features"):
        read_table(document)


def test_the_table_of_the_package_gives_probabilities() -> None:
    rows = np.random.default_rng(1).normal(0, 3, (500, len(NAMES)))
    rows[::7] = np.nan
    p = table().probability(rows)
    assert ((p >= 0) & (p <= 1)).all()
    assert p.max() - p.min() > 0.3


def test_the_flux_of_a_star_is_read_off_its_laplacian() -> None:
    light = 5.0 + gaussian(SHAPE, 50, 60, 300.0, FWHM)
    np.testing.assert_allclose(point_flux(light, 0.43 * FWHM, FWHM)[50, 60], 300, rtol=0.01)


def test_the_median_of_a_ring_ignores_what_is_inside_and_a_neighbour() -> None:
    image = np.full(SHAPE, 3.0) + gaussian(SHAPE, 80, 80, 1e3, 3) + gaussian(SHAPE, 80, 92, 1e3, 3)
    medians = ring_levels(image, np.array([[80.0, 80.0], [0.0, 0.0]]), np.array([12.0, 8.0]))
    np.testing.assert_allclose(medians, 3, rtol=0.01)


def test_a_star_is_all_contrast_and_a_knot_on_a_disc_is_little() -> None:
    light = gaussian(SHAPE, 40, 40, 5e3, FWHM) + gaussian(SHAPE, 110, 110, 5e5, 50)
    light += gaussian(SHAPE, 110, 120, 500, FWHM)
    peaks = [(40, 40), (110, 120)]
    contrast = column(looked(light, peaks), peaks, "contrast")
    assert contrast[0] == pytest.approx(1, abs=0.1)
    assert contrast[1] < 0.2


def test_excess_over_the_profile_is_that_of_the_companion_alone() -> None:
    light = gaussian(SHAPE, 80, 80, 5e5, 40) + gaussian(SHAPE, 80, 105, 3e3, FWHM)
    peaks = [(80, 80), (80, 105), (80, 55)]
    look = looked(light, peaks)
    assert look.host.tolist() == [0, 0, 0]
    excess = column(look, peaks, "excess_scatter")
    assert excess[1] > 10 * max(abs(excess[2]), 1)
    assert column(look, peaks, "mirror")[1] < 0.1


def test_features_do_not_depend_on_the_units_of_the_image() -> None:
    light = gaussian(SHAPE, 80, 80, 5e4, 20) + gaussian(SHAPE, 80, 95, 2e3, FWHM)
    peaks = np.array([(80.0, 80.0), (80.0, 95.0), (30.0, 30.0)])
    one = field(light)
    unit = 1024  # a power of two: every rounding is the same
    other = replace(
        one, light=unit * light, variance=unit**2 * one.variance, bands=unit * one.bands
    )
    np.testing.assert_allclose(
        features(Look.at(one, peaks), peaks), features(Look.at(other, peaks), peaks), rtol=1e-6
    )


def test_a_star_with_a_like_on_its_other_side_looks_like_an_artifact() -> None:
    star = gaussian(SHAPE, 80, 80, 1e6, 8)
    light = star + gaussian(SHAPE, 80, 100, 900, FWHM) + gaussian(SHAPE, 80, 60, 900, FWHM)
    light += gaussian(SHAPE, 50, 80, 900, FWHM)
    peaks = np.array([(80.0, 80.0), (80.0, 100.0), (50.0, 80.0)])
    one = replace(field(light), stars=np.array([[80.0, 80.0]]), reaches=np.array([40.0]))
    mirror = column(Look.at(one, peaks), peaks, "star_mirror")
    assert mirror[1] == pytest.approx(1, abs=0.2)
    assert mirror[2] < 0.2


def coadd(light, seed):
    """Three bands with the noise of the sky and of the photons, behind a Moffat of 4 pixels."""
    stamp = psf.moffat(FWHM)
    light = signal.fftconvolve(light, stamp, mode="same").clip(0)
    variance = np.stack([1 + light / 50] * 3).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 1, variance.shape) * np.sqrt(variance)
    image = (light + noise).astype(np.float32)
    return Coadd(
        name="test", bands=("g", "r", "i"), image=image, variance=variance,
        valid=np.ones(image.shape, bool), psfs=np.stack([stamp] * 3), zeropoints=(27.0,) * 3,
    )  # fmt: skip


def spiral(knots: int, seed: int):
    """Two arms of knots on a disc with a bulge."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE) - 80.0
    r = np.hypot(y, x)
    light = 30 * np.exp(-r / 12) + 200 * np.exp(-r / 2)
    radius = rng.uniform(6, 40, knots)
    turn = 1.6 * np.log(radius) + np.pi * rng.integers(0, 2, knots) + rng.normal(0, 0.2, knots)
    ky, kx = (80 + radius * f(turn) for f in (np.sin, np.cos))
    bumps = np.zeros(SHAPE)
    np.add.at(bumps, (ky.astype(int), kx.astype(int)), rng.exponential(100, knots))
    return light + ndimage.gaussian_filter(bumps, 1.5)


def peaks_of(light, seed=0, **config):
    one, settings = coadd(light, seed), DetectConfig(**config)
    return detect(one, detection_image(one, settings), settings).peaks


@pytest.mark.parametrize("seed", range(3))
def test_most_knots_of_a_spiral_are_no_sources_and_its_neighbours_are_kept(seed: int) -> None:
    light = spiral(40, seed)
    beside = [(20, 80), (130, 40), (118, 118)]
    for y, x in beside:
        light[y, x] += 2000
    peaks = peaks_of(light, seed)
    for at in [(80, 80), *beside]:
        assert np.hypot(*(peaks - at).T).min() < 3
    everything = peaks_of(light, seed, source_probability=0.0)
    assert len(everything) > 20
    assert len(peaks) - len(beside) < 0.5 * (len(everything) - len(beside))


def test_a_crowd_of_stars_keeps_its_stars() -> None:
    rng = np.random.default_rng(5)
    light = np.zeros(SHAPE)
    at = rng.normal(80, 22, (150, 2)).round().astype(int).clip(5, 154)
    flux = 300 * rng.uniform(0.01, 1, 150) ** -0.9
    np.add.at(light, tuple(at.T), flux)
    peaks = peaks_of(light)
    bright = at[flux > 1000]
    found = [np.hypot(*(peaks - p).T).min() < 2.5 for p in bright]
    assert len(bright) > 30
    assert np.mean(found) > 0.9


def test_the_main_candidate_of_a_large_galaxy_is_its_middle_not_a_star_in_front() -> None:
    y, x = np.indices((400, 400)) - 200
    star, middle, knot = (150, 260), (200, 200), (230, 190)
    light = 50 * np.exp(-np.hypot(y, x) / 60) + gaussian((400, 400), *star, 2e4, FWHM)
    light += gaussian((400, 400), *knot, 3e3, FWHM)
    assert light[star] > 5 * light[middle]
    parents = (light > 5).astype(np.int32)
    look = Look.at(field(light, parents), np.array([star, middle, knot], float))
    np.testing.assert_array_equal(look.main, [False, True, False])


def lone(knots=6, knot_flux=100.0, field_sources=0, side=300):
    """(look, peaks): a galaxy with knots in the middle of a frame, and sources of the field."""
    rng = np.random.default_rng(5)
    y, x = np.indices((side, side)) - side / 2
    light = 50 * np.exp(-np.hypot(y, x) / 15)
    parents = (light > 5).astype(np.int32)
    turn = 2 * np.pi * np.arange(knots) / knots
    near = side / 2 + 25 * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    far = rng.uniform(10, side - 10, (200, 2))
    far = far[np.hypot(*(far - side / 2).T) > 100]
    peaks = np.rint(np.concatenate([[[side / 2, side / 2]], near, far[:field_sources]]))
    for py, px in peaks[1:]:
        light += gaussian(light.shape, py, px, knot_flux, FWHM)
    nothing = np.zeros((0, 2)), np.zeros(0)
    return Look.at(
        Field(light, np.ones_like(light), light[None], parents, FWHM, *nothing), peaks
    ), peaks


def test_knots_on_a_lone_galaxy_are_less_likely_sources_than_on_one_in_a_field() -> None:
    for sources, fewer in ((0, True), (60, False)):
        look, peaks = lone(field_sources=sources)
        likely = np.where(look.main, 1.0, 0.7)
        found = less_by_chance(look, peaks, likely, look.main, DetectConfig())
        assert (found[1:7] < 0.5).all() == fewer
        np.testing.assert_array_equal(found[7:], likely[7:])
        assert found[0] == 1


def test_a_few_sources_on_a_galaxy_and_those_that_are_most_of_its_light_are_left_alone() -> None:
    for look, peaks in (lone(knots=1), lone(knot_flux=2e4)):
        likely = np.where(look.main, 1.0, 0.7)
        np.testing.assert_array_equal(
            less_by_chance(look, peaks, likely, look.main, DetectConfig()), likely
        )


def test_knots_along_a_long_galaxy_in_a_field_are_counted_on_its_pixels() -> None:
    rng = np.random.default_rng(5)
    y, x = np.indices((300, 300)) - 150
    light = 50 * np.exp(-np.hypot(y / 6, x / 60))
    parents = (light > 5).astype(np.int32)
    along = np.array([[150, x] for x in range(60, 241, 10) if abs(x - 150) > 20])
    far = rng.uniform(10, 290, (30, 2))
    far = far[np.abs(far[:, 0] - 150) > 40]
    peaks = np.rint(np.concatenate([[[150, 150]], along, far]))
    for py, px in peaks[1:]:
        light += gaussian(light.shape, py, px, 500.0, FWHM)
    nothing = np.zeros((0, 2)), np.zeros(0)
    one = Field(light, np.ones_like(light), light[None], parents, FWHM, *nothing)
    look = Look.at(one, peaks)
    likely = np.where(look.main, 1.0, 0.7)
    disc_only = DetectConfig(chance_on_parent=(0.0, 0.0))
    np.testing.assert_array_equal(less_by_chance(look, peaks, likely, look.main, disc_only), likely)
    found = less_by_chance(look, peaks, likely, look.main, DetectConfig())
    assert (found[1 : 1 + len(along)] < 0.5).all()
    np.testing.assert_array_equal(found[1 + len(along) :], likely[1 + len(along) :])


def test_a_galaxy_that_fills_the_frame_leaves_no_field_to_count_in() -> None:
    look, peaks = lone()
    whole = replace(look, region=np.ones_like(look.region))
    likely = np.where(look.main, 1.0, 0.7)
    every = replace(DetectConfig(), chance_most_frame=1.0, chance_reach=100.0)
    found = less_by_chance(whole, peaks, likely, look.main, every)
    assert np.isfinite(found).all()


def test_a_sure_source_on_a_lone_galaxy_stays() -> None:
    look, peaks = lone()
    likely = np.where(look.main, 1.0, 0.7)
    likely[3] = 0.999
    assert less_by_chance(look, peaks, likely, look.main, DetectConfig())[3] > 0.5


def test_the_part_of_a_frame_under_a_disc_is_that_of_its_pixels() -> None:
    for y, x, radius in ((50.0, 60.0, 30.0), (5.0, 100.0, 25.0), (80.0, 80.0, 400.0)):
        rows, columns = np.indices((100, 120))
        inside = np.hypot(rows - y, columns - x) <= radius
        part = _part_of_disc(np.array([y, x]), radius, (100, 120))
        assert part == pytest.approx(inside.mean(), abs=0.005)
