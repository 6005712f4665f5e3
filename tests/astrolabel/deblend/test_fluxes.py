"""Fluxes and errors of the parametric models, and the light and sky around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
from deblend_scenes import COLOUR, NOISE, blend_of, light, psfs
from scipy import ndimage
from scipy.special import gammainc, gammaincinv

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DeblendConfig, LabelConfig, SkyConfig, StartConfig
from astrolabel.deblend import (
    Blend,
    BlendFit,
    Deblender,
    SourceFit,
    make_deblender,
    profiles,
)
from astrolabel.deblend.base import Noise, independent
from astrolabel.deblend.convolve import Kernels, with_wings
from astrolabel.deblend.grouping import brightest_first, group_footprints
from astrolabel.deblend.initialize import first_guesses
from astrolabel.deblend.parametric import Parametric
from astrolabel.deblend.sky import level_of, measure_sky
from astrolabel.detect.detect import detect
from astrolabel.detect.image import detection_image
from astrolabel.label.tile import deblend


@pytest.fixture(scope="module")
def deblender() -> Deblender:
    return make_deblender(DeblendConfig())


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0, 4.0])
def test_sum_of_gaussians_has_the_light_of_a_sersic_profile_within_every_radius(index) -> None:
    amplitudes, _ = profiles.mixture(np.log(index))
    radius = np.geomspace(0.1, 10, 30)
    expected = gammainc(2 * index, gammaincinv(2 * index, 0.5) * radius ** (1 / index))
    found = amplitudes @ (1 - np.exp(-0.5 * (radius / profiles.WIDTHS[:, None]) ** 2))
    np.testing.assert_allclose(found, expected, atol=0.015)


def image_of(shape: np.ndarray) -> np.ndarray:
    """A profile, and its derivatives, under a Gaussian PSF of two pixels."""
    n, edge = 64, 8
    value, slopes = profiles.covariance(shape)
    amplitudes, by_index = profiles.mixture(float(shape[profiles.LOG_INDEX]))
    k2 = scipy.fft.fftfreq(n)[:, None] ** 2 + scipy.fft.rfftfreq(n) ** 2
    psf = np.exp(-0.5 * (2 * np.pi * 2) ** 2 * k2).astype(np.complex64)[None]
    spectrum = np.empty((3, *psf.shape), np.complex64)
    y, x = shape[:2]
    profiles.transforms(
        spectrum, psf, np.array([2.0]), y, x, value, amplitudes, by_index, profiles.WIDTHS
    )
    images = scipy.fft.irfft2(spectrum, s=(n, n))
    out = np.empty((7, 1, n - 2 * edge, n - 2 * edge), np.float32)
    profiles.derived(images, slopes, edge, edge, out)
    return out[:, 0]


def test_derivatives_of_a_profile_are_those_of_its_image() -> None:
    shape = np.array([30.3, 29.1, np.log(3.0), 0.4, -0.3, np.log(2.1)])
    found = image_of(shape)
    for m in range(profiles.N_SHAPE):
        step = np.zeros(6)
        step[m] = 0.01
        expected = (image_of(shape + step)[0] - image_of(shape - step)[0]) / 0.02
        assert np.abs(found[1 + m] - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize(("flux", "size"), [(600, 0.0), (600, 1.5), (30_000, 0.0)])
def test_errors_are_as_wide_as_the_scatter_of_fluxes(deblender, flux: float, size: float) -> None:
    shape = (41, 43)
    source = light(shape, 20.2, 21.4, flux, size=size)
    pulls = []
    for seed in range(40):
        (fit,) = deblender.fit(blend_of(source, peaks=[(20, 21)], seed=seed)).sources
        pulls.append((fit.flux - flux * COLOUR) / fit.flux_err)
    # Forty draws tell a width to a ninth and a mean to a sixth of it.
    assert 0.7 < np.std(pulls) < 1.3
    assert abs(np.mean(pulls)) < 0.6


def test_errors_of_bright_points_hold_the_scatter_that_a_smooth_sky_gives_them(deblender) -> None:
    rng, step, flux = np.random.default_rng(1), 48, 5000
    side = 6 * step
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 4, mode="wrap")
    sky = rng.normal(0, NOISE, (3, side, side)) + 0.3 * NOISE * smooth / smooth.std()
    weights = np.full(sky.shape, NOISE**-2, np.float32)
    flat = np.zeros((side, side), np.float32)
    noise = measure_sky(sky.astype(np.float32), weights, psfs(), flat, SkyConfig()).noise
    # A galaxy's wider template takes in more of the same sky.
    assert (noise.excess_of_points > 1.5).all()
    assert (noise.excess > 1.15 * noise.excess_of_points).all()
    pulls = []
    for y, x in np.stack(np.mgrid[:side:step, :side:step], axis=-1).reshape(-1, 2):
        image = light((41, 41), 20.3, 19.8, flux) + sky[:, y : y + 41, x : x + 41]
        peaks = np.array([[20.0, 20.0]])
        blend = Blend(image.astype(np.float32), weights[:, :41, :41], psfs(), peaks, noise)
        (fit,) = deblender.fit(blend).sources
        assert fit.kind == "point"
        pulls.append((fit.flux - flux * COLOUR) / fit.flux_err)
    # The sky is the same in all bands: 36 draws tell a width to an eighth.
    assert (np.std(pulls, axis=0) > 0.8).all()
    assert (np.std(pulls, axis=0) < 1.2).all()


def test_light_that_the_model_does_not_fit_makes_a_flux_less_certain(deblender) -> None:
    shape = (41, 43)
    source, unseen = light(shape, 20, 21, 1000), light(shape, 21, 23, 200)
    (alone,) = deblender.fit(blend_of(source, peaks=[(20, 21)])).sources
    (pair,) = deblender.fit(blend_of(source, unseen, peaks=[(20, 21)])).sources
    assert (pair.flux_err > 1.3 * alone.flux_err).all()


def test_point_that_may_be_a_galaxy_is_less_certain_by_what_the_galaxy_has_more() -> None:
    blend = blend_of(light((41, 43), 20, 21, 100, size=0.7), peaks=[(20, 21)])
    kernels = Kernels(blend.psfs)
    starts = first_guesses(
        blend.image, blend.weights, blend.psfs, blend.peaks, kernels, StartConfig()
    )
    fitted = Parametric(
        blend.image, blend.weights, kernels, starts, independent(3), DeblendConfig()
    )
    fitted.fit()
    (one,) = fitted.components
    assert one.point
    assert (one.doubt > 0).all()
    uncertain, doubt = fitted.photometry(1).error[0], one.doubt
    one.doubt = np.zeros(3)
    certain = fitted.photometry(1).error[0]
    chance = 1 / (1 + np.exp(-0.5 * one.point_gain))
    assert 0.05 < chance < 0.75
    np.testing.assert_allclose(uncertain**2 - certain**2, chance * doubt**2, rtol=1e-6)


def test_neighbour_makes_a_flux_less_certain(deblender) -> None:
    shape = (51, 61)
    one = light(shape, 25, 28, 1000)
    alone = deblender.fit(blend_of(one, peaks=[(25, 28)])).sources[0]
    other = light(shape, 25, 33, 1000)
    pair = deblender.fit(blend_of(one, other, peaks=[(25, 28), (25, 33)])).sources[0]
    assert (pair.flux_err > 1.3 * alone.flux_err).all()
    np.testing.assert_array_less(np.abs(pair.flux - 1000 * COLOUR), 4 * pair.flux_err)


def test_light_without_a_peak_goes_into_no_flux(deblender) -> None:
    shape = (51, 61)
    listed, nuisance = light(shape, 25, 24, 2000), light(shape, 26, 36, 300)
    fit = deblender.fit(blend_of(listed, nuisance, peaks=[(25, 24)]))
    np.testing.assert_allclose(fit.sources[0].flux, 2000 * COLOUR, rtol=0.04)
    assert fit.nuisance is not None
    assert fit.nuisance.sum() == pytest.approx(300 * COLOUR.sum(), rel=0.25)


def test_bulge_and_disc_of_two_colours_are_fitted_as_such(deblender) -> None:
    shape = (71, 73)
    colour = np.array([2.0, 1.0, 0.5])[:, None, None]
    disc = light(shape, 35, 36, 20000, size=4.0, ratio=1.5) * colour
    bulge = light(shape, 35, 36, 10000, size=0.8)
    fit = deblender.fit(blend_of(disc, bulge, peaks=[(35, 36)]))
    expected = COLOUR * (20000 * colour[:, 0, 0] + 10000)
    np.testing.assert_allclose(fit.sources[0].flux, expected, rtol=0.02)
    assert fit.chi2_per_pixel == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("bulge", "parts"), [(0, 1), (130, 2)])
def test_small_bulge_of_another_colour_is_noticed_in_the_middle(bulge: int, parts: int) -> None:
    shape = (51, 53)
    blue = np.array([2.0, 1.0, 0.5])[:, None, None]
    disc = light(shape, 25, 26, 5000, size=3.0, ratio=1.3) * blue
    blend = blend_of(disc, light(shape, 25, 26, bulge, size=0.5), peaks=[(25, 26)])
    kernels = Kernels(blend.psfs)
    starts = first_guesses(
        blend.image, blend.weights, blend.psfs, blend.peaks, kernels, StartConfig()
    )
    fitted = Parametric(
        blend.image, blend.weights, kernels, starts, independent(3), DeblendConfig()
    )
    fitted.fit()
    assert len(fitted.of(0)) == parts
    # It began with a size, so that its light may go on beyond its box.
    assert not fitted.is_part(0, np.full_like(fitted.of(0)[0].model, 1e6))


def test_more_noise_of_the_sky_widens_the_errors_by_as_much(deblender) -> None:
    blend = blend_of(light((41, 43), 20, 21, 400), peaks=[(20, 21)])
    (plain,) = deblender.fit(blend).sources
    twice = np.full(3, 2, np.float32)
    noise = Noise(twice, twice, np.zeros((3, 3)))
    (noisy,) = deblender.fit(replace(blend, noise=noise)).sources
    np.testing.assert_allclose(noisy.flux_err / plain.flux_err, 2, rtol=0.25)


def test_noise_that_the_bands_share_widens_the_errors_of_extended_sources(deblender) -> None:
    blend = blend_of(light((61, 63), 30, 31, 500, size=2.0), peaks=[(30, 31)])
    ones, shared = np.ones(3, np.float32), 0.8 * (1 - np.eye(3))
    alone = replace(blend, noise=Noise(ones, ones, np.zeros((3, 3))))
    together = replace(blend, noise=Noise(ones, ones, shared))
    (one,), (other,) = (deblender.fit(b).sources for b in (alone, together))
    np.testing.assert_array_equal(one.flux, other.flux)
    assert (other.flux_err > 1.05 * one.flux_err).all()
    # At most as much as if the three bands were one image given three times.
    assert (other.flux_err < np.sqrt(3) * one.flux_err).all()


def test_sources_within_one_seeing_disc_do_not_exchange_all_their_light(deblender) -> None:
    shape, peaks = (41, 43), [(20, 19), (20, 21), (22, 20)]
    lights = [light(shape, *p, 4000, size=1.0) for p in peaks]
    for seed in range(6):
        fit = deblender.fit(blend_of(*lights, peaks=peaks, seed=seed))
        totals = np.array([s.flux.sum() for s in fit.sources]) / (4000 * COLOUR.sum())
        np.testing.assert_allclose(totals, 1, atol=0.4)
        assert totals.mean() == pytest.approx(1, abs=0.02)
        errors = np.array([s.flux_err.sum() for s in fit.sources]) / (4000 * COLOUR.sum())
        assert (errors > 0.3).all()
        assert (errors < 3).all()


def test_faint_neighbours_do_not_take_the_disc_that_they_stand_on(deblender) -> None:
    shape, peaks = (101, 103), [(50, 50), (58, 62), (40, 36), (62, 44), (44, 63)]
    galaxy = light(shape, 50, 50, 20000, size=9.0) + light(shape, 50, 50, 10000, size=4.0)
    faint = [light(shape, *p, 150, size=0.8) for p in peaks[1:]]
    for seed in range(2):
        fit = deblender.fit(blend_of(galaxy, *faint, peaks=peaks, seed=seed))
        flux = np.array([s.flux.sum() for s in fit.sources]) / COLOUR.sum()
        assert flux[0] == pytest.approx(30000, rel=0.03)
        # Each began with five times its light, when it began with the size of the disc.
        assert np.median(flux[1:]) < 2 * 150


def test_white_sky_has_no_excess_and_a_level_is_found() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(0.3, NOISE, (3, 150, 150)).astype(np.float32)
    weights = np.full(image.shape, NOISE**-2, np.float32)
    sky = measure_sky(image, weights, psfs(), np.zeros((150, 150), np.float32), SkyConfig())
    np.testing.assert_allclose(sky.level, 0.3, atol=0.05)
    np.testing.assert_allclose(sky.noise.excess, 1, atol=0.15)
    np.testing.assert_allclose(sky.noise.excess_of_points, 1, atol=0.15)


@pytest.mark.parametrize("mean", [0.1, 0.3, 1.0, 4.0])
def test_level_of_few_photons_is_their_mean(mean: float) -> None:
    photons = np.random.default_rng(2).poisson(mean, (1, 300, 300)).astype(np.float32)
    weights = np.full(photons.shape, 1 / mean, np.float32)
    empty = np.ones(photons.shape[1:], bool)
    off = 0.02 * mean**0.5
    (level,) = level_of(photons - np.float32(mean), weights, empty, SkyConfig(), (1.0,))
    assert abs(level) < off
    (middle,) = level_of(photons - np.float32(mean), weights, empty, SkyConfig())
    assert middle == pytest.approx(np.floor(mean + 0.3) - mean, abs=0.01)  # one of the steps


def test_bands_that_show_the_same_unseen_sources_share_their_noise() -> None:
    rng = np.random.default_rng(1)
    own = rng.normal(0, NOISE, (3, 150, 150))
    unseen = NOISE * np.sqrt(0.5) * rng.normal(0, 1, (150, 150))
    image = (np.sqrt(0.5) * own + unseen).astype(np.float32)
    weights = np.full(image.shape, NOISE**-2, np.float32)
    flat = np.zeros((150, 150), np.float32)
    common = measure_sky(image, weights, psfs(), flat, SkyConfig()).noise.common
    np.testing.assert_array_equal(np.diag(common), 0)
    np.testing.assert_allclose(common[np.triu_indices(3, 1)], 0.5, atol=0.15)
    alone = measure_sky(own.astype(np.float32), weights, psfs(), flat, SkyConfig()).noise.common
    assert (alone < 0.15).all()


def test_correlated_sky_has_excess_noise() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(0, NOISE, (3, 150, 150))
    image = 0.5 * (image + np.roll(image, 1, axis=2) + np.roll(image, 1, axis=1))
    weights = np.full(image.shape, 1 / image.var(), np.float32)
    sky = measure_sky(
        image.astype(np.float32), weights, psfs(), np.zeros((150, 150), np.float32), SkyConfig()
    )
    # Three shifted copies add up in a PSF's flux as the sum, in a pixel as the root.
    np.testing.assert_allclose(sky.noise.excess, np.sqrt(3), rtol=0.12)


def test_saturated_star_goes_on_smoothly_under_its_core(deblender) -> None:
    shape, flux = (61, 63), 80_000
    star = light(shape, 30.3, 31.2, flux)
    blend = blend_of(star, peaks=[(30, 31)])
    full = (star > 600).any(axis=0)
    assert full.sum() > 30
    image = np.where(full, np.minimum(blend.image, 600), blend.image)
    cut = replace(blend, image=image, weights=np.where(full, 0, blend.weights), saturated=full)
    (source,) = deblender.fit(cut).sources
    assert source.state == "ok"
    np.testing.assert_allclose(source.flux, flux * COLOUR, rtol=0.03)
    s = source.box.slices
    np.testing.assert_allclose(source.model[:, full[s]], star[:, *s][:, full[s]], rtol=0.1)
    # Without the saturated pixels' word it is a hole in the data.
    assert deblender.fit(replace(cut, saturated=None)).sources[0].state == "failed:masked"


def test_wings_of_a_moffat_are_continued_beyond_its_stamp() -> None:
    y, x = np.mgrid[-42:43, -42:43]
    moffat = (1 + (y**2 + x**2) / 4.4**2) ** -2.5
    moffat = (moffat / moffat.sum()).astype(np.float32)
    stamp = moffat[21:64, 21:64]
    wide = with_wings(stamp[None] / stamp.sum())[0]
    ring = (np.hypot(y, x) > 25) & (np.hypot(y, x) < 36)
    np.testing.assert_allclose(wide[ring], moffat[ring], rtol=0.15)
    assert wide.sum() == pytest.approx(1, abs=1e-5)


def test_stamp_without_wings_is_continued_by_nothing() -> None:
    wide = with_wings(psfs())
    np.testing.assert_allclose(wide[:, 21:64, 21:64], psfs(), rtol=1e-4)
    assert (wide[:, :21] == 0).all()


class Recorder:
    """A deblender that finds the same light in every pixel, and keeps what it is given."""

    name = "recorder"

    def __init__(self) -> None:
        self.blends: list[Blend] = []

    def fit(self, blend: Blend) -> BlendFit:
        self.blends.append(blend)
        box = Box.of_shape(blend.image.shape)
        model = np.full((3, *box.shape), 7, np.float32)
        sources = tuple(SourceFit(box, model, np.ones(3), "point") for _ in blend.peaks)
        return BlendFit(sources, 1.0, 1, True)


def test_light_of_brighter_groups_is_subtracted_where_it_reaches_into_others() -> None:
    shape = (70, 90)
    bright, faint = light(shape, 35, 30, 8000), light(shape, 35, 56, 600)
    noise = np.random.default_rng(0).normal(0, NOISE, bright.shape)
    image = (bright + faint + noise).astype(np.float32)
    coadd = Coadd(
        "made", ("g", "r", "i"), image, np.full_like(image, NOISE**2),
        np.ones(image.shape, bool), psfs(), (27.0,) * 3,
    )  # fmt: skip
    config, recorder = LabelConfig(), Recorder()
    detection = detection_image(coadd, config.detect)
    deblend(coadd, detection, Box.of_shape(shape), config, recorder)
    found = detect(coadd, detection, config.detect)
    significance = detection.image / detection.sky_sigma
    grouping = group_footprints(found.footprint, significance, found.peaks, config.deblend)
    order = brightest_first(grouping, found.peaks, significance)
    first, second = (grouping.groups[k].box for k in order)
    assert first.x0 < second.x0  # the bright star is the left one
    _, blend = recorder.blends
    taken = (image[(slice(None), *second.slices)] - blend.image)[0]
    known = blend.weights[0] > 0
    reached = np.zeros(second.shape, bool)
    reached[(first & second).slices_in(second)] = True
    assert (reached & known).any()
    sky = np.median(taken[known & ~reached])
    np.testing.assert_allclose(taken[known & reached] - sky, 7, atol=1e-3)
    np.testing.assert_allclose(taken[known & ~reached] - sky, 0, atol=1e-3)
