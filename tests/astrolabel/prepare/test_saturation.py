import numpy as np
import pytest
from fits_files import FWHM_PX, SIGMA, gaussian
from scipy import ndimage

from astrolabel.core import psf
from astrolabel.core.config.prepare import NoiseConfig, SaturationConfig, SkyConfig
from astrolabel.prepare import noise
from astrolabel.prepare import sky as empty_sky
from astrolabel.prepare.saturation import saturated_cores

SHAPE = (120, 120)
GAIN = 30 / SIGMA
STAMP = psf.moffat(FWHM_PX)
NOISE = NoiseConfig()


def observed(*stars, seed=1, shape=SHAPE, level=np.inf):
    """(image with photon noise, its variance) of Moffat stars (y, x, flux)."""
    light = np.zeros(shape)
    rows, columns = np.indices(shape)
    alpha = FWHM_PX / (2 * np.sqrt(2 ** (1 / psf.MOFFAT_BETA) - 1))
    for y, x, flux in stars:
        r2 = ((rows - y) ** 2 + (columns - x) ** 2) / alpha**2
        light += flux * (psf.MOFFAT_BETA - 1) / (np.pi * alpha**2) * (1 + r2) ** -psf.MOFFAT_BETA
    variance = SIGMA**2 + light / GAIN
    image = light + np.sqrt(variance) * np.random.default_rng(seed).standard_normal(shape)
    return np.where(light > level, np.nan, image).astype(np.float32), variance.astype(np.float32)


def guessed(image, variance, stamp=STAMP):
    return saturated_cores(image, variance, np.isfinite(image), stamp, SaturationConfig())


def near(y, x, radius):
    rows, columns = np.indices(SHAPE)
    return np.hypot(rows - y, columns - x) < radius


BRIGHT = (60.3, 58.8, 3e5 * SIGMA)
LEVEL = 4000 * SIGMA


def test_a_clipped_core_is_saturated_and_nothing_else_is():
    image, variance = observed(BRIGHT, (30, 90, 3e4 * SIGMA), level=LEVEL)
    full = np.isnan(image)
    found = guessed(np.where(full, LEVEL, image).astype(np.float32), variance)
    assert full.sum() > 20
    assert (found & full).sum() > 0.9 * full.sum()
    assert not (found & ~near(60.3, 58.8, 8)).any()


@pytest.mark.parametrize("limit", ["clipped under noise", "clipped and flat-fielded", "a plate's"])
def test_tops_at_one_level_are_saturated_whatever_the_noise_on_them(limit):
    light = observed(BRIGHT, (30, 90, 3e4 * SIGMA))[0]
    rng, level = np.random.default_rng(2), 60 * SIGMA
    noise = SIGMA * rng.standard_normal(SHAPE)
    if limit == "a plate's":
        image = level * (1 - np.exp(-np.maximum(light, 0) / level)) + noise
    elif limit == "clipped under noise":
        image = np.minimum(light, level) + noise
    else:
        image = np.minimum(light, level) * (1 + 0.01 * rng.standard_normal(SHAPE))
    found = guessed(image.astype(np.float32), np.full(SHAPE, SIGMA**2, np.float32))
    # At 3 sigma of noise below the limit: the plate has 95 % of it at three times its level.
    full = light > (4 if limit == "a plate's" else 1.2) * level
    assert full.sum() > 30
    assert found[full].mean() > 0.9
    assert not found[light < 0.5 * level].any()


@pytest.mark.parametrize("radius", [8, 25])
def test_the_top_of_a_galaxy_is_no_limit(radius):
    y, x = np.indices(SHAPE) - 60.0
    for light in (np.exp(-(y**2 + x**2) / radius**2), np.exp(-np.hypot(y, x) / radius)):
        image = 80 * SIGMA * light + SIGMA * np.random.default_rng(4).standard_normal(SHAPE)
        assert not guessed(image.astype(np.float32), np.full(SHAPE, SIGMA**2, np.float32)).any()


def test_a_ragged_core_is_saturated_and_whole():
    image, variance = observed(BRIGHT, level=LEVEL)
    full = np.isnan(image)
    ragged = LEVEL * np.exp(0.3 * np.random.default_rng(2).standard_normal(SHAPE))
    found = guessed(np.where(full, ragged, image).astype(np.float32), variance)
    assert (found & full).sum() > 0.9 * full.sum()
    assert not (found & ~near(60.3, 58.8, 8)).any()


def test_a_hole_in_a_star_is_saturated_and_a_dead_column_is_not():
    image, variance = observed(BRIGHT, level=LEVEL)
    full = np.isnan(image)
    image[:, 20] = np.nan
    found = guessed(image, variance)
    assert found[full].all()
    assert not found[:, 20].any()


def test_what_the_psf_allows_is_no_saturation_however_bright():
    stars = [BRIGHT, (62.9, 61.0, 1e5 * SIGMA), (20.5, 30.5, 8e5 * SIGMA), (90, 90, 3e6 * SIGMA)]
    for seed in range(4):
        assert not guessed(*observed(*stars, seed=seed)).any()


def test_a_psf_a_tenth_too_wide_saturates_no_star():
    image, variance = observed(BRIGHT, (20.5, 30.5, 8e5 * SIGMA))
    assert not guessed(image, variance, psf.moffat(1.1 * FWHM_PX)).any()


def test_cosmic_rays_are_no_saturated_stars():
    image, variance = observed((60, 60, 3e4 * SIGMA))
    for k in range(25):
        image[20 + k, 15 + k // 2] += 3000 * SIGMA
    image[60, 61] += 2000 * SIGMA  # one pixel of a star
    assert not guessed(image, variance).any()


def test_a_galaxys_bright_core_is_not_saturated():
    image, variance = observed()
    cusp = sum(gaussian(SHAPE, 60, 60, 2e5 * SIGMA / 2**k, FWHM_PX * 1.5**k) for k in range(5))
    image = image + cusp + np.sqrt(cusp / GAIN) * np.random.default_rng(5).standard_normal(SHAPE)
    assert not guessed(image.astype(np.float32), variance + (cusp / GAIN).astype(np.float32)).any()


def test_an_empty_image_and_one_without_a_pixel_are_not_saturated():
    image, variance = observed()
    assert not guessed(image, variance).any()
    assert not guessed(np.full(SHAPE, np.nan, np.float32), variance).any()
    assert not guessed(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)).any()


def many_stars(seed=3, **options):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 200, (60, 2))
    fluxes = SIGMA * 10 ** rng.uniform(2.8, 4.5, 60)
    stars = [(y, x, f) for (y, x), f in zip(places, fluxes, strict=True)]
    return observed(*stars, seed=seed, shape=(200, 200), **options)


def electrons_per_count(light, rms, valid, stamp):
    found = noise.scatter_of(light, rms, valid, stamp, NOISE)
    return noise.electrons_per_count([] if found is None else [found], NOISE)


@pytest.mark.parametrize("correlated", [False, True])
def test_photon_noise_is_measured_in_the_sources(correlated):
    image, variance = many_stars()
    if correlated:  # as resampling does, which takes noise and leaves light
        light = ndimage.gaussian_filter(image, 2.0)
        image = light + ndimage.gaussian_filter(image - light, 0.5)
    valid = np.ones(image.shape, bool)
    sky = empty_sky.measure([image], [valid], SkyConfig(), 2.9e-7)[0]
    light, rms = image - sky.level.whole, sky.rms.whole
    electrons = electrons_per_count(light, rms, valid, STAMP)
    expected = GAIN * (SIGMA / np.median(rms)) ** 2
    assert electrons == pytest.approx(expected, rel=0.35)
    made = noise.with_photons(light, rms, electrons, NOISE)
    bright = variance > 3 * SIGMA**2
    assert np.median(made[bright] / variance[bright]) == pytest.approx(
        float(np.median(rms)) ** 2 / SIGMA**2, rel=0.35
    )


def test_without_photon_noise_or_enough_light_none_is_measured():
    rng = np.random.default_rng(7)
    sky, flat = np.full((200, 200), SIGMA, np.float32), np.ones((200, 200), bool)
    empty = rng.normal(0, SIGMA, (200, 200)).astype(np.float32)
    assert electrons_per_count(empty, sky, flat, STAMP) is None
    image, _ = many_stars()
    narrow = psf.moffat(1.8)
    assert electrons_per_count(image, sky, flat, narrow) is None
    assert electrons_per_count(image, sky, ~flat, STAMP) is None
    np.testing.assert_array_equal(noise.with_photons(image, sky, None, NOISE), sky**2)


def test_light_alone_is_no_photon_noise():
    image, _ = many_stars()
    rng = np.random.default_rng(8)
    light = ndimage.gaussian_filter(image, 1.0)
    image = (light + rng.normal(0, SIGMA, image.shape)).astype(np.float32)
    sky = np.full(image.shape, SIGMA, np.float32)
    electrons = electrons_per_count(image, sky, np.ones(image.shape, bool), STAMP)
    assert electrons is None or electrons > 10 * GAIN
