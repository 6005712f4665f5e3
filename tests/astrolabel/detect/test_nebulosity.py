"""Light that belongs to no source: told from galaxies, and taken out of the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fits_files import gaussian
from scipy import ndimage

from astrolabel.core import psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig
from astrolabel.detect.detect import detect
from astrolabel.detect.features import Field, Look
from astrolabel.detect.image import detection_image
from astrolabel.detect.nebulosity import clouds_of, nebulosity

SHAPE = (240, 240)
FWHM = 4.0
CONFIG = DetectConfig()
ALWAYS = replace(CONFIG, nebulosity="always")


def coadd(light, seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    image = (light + noise).astype(np.float32)[None]
    return Coadd(
        name="test", bands=("r",), image=image, variance=np.ones_like(image),
        valid=np.ones(image.shape, bool), psfs=psf.moffat(FWHM)[None], zeropoints=(27.0,),
    )  # fmt: skip


def clouds(seed, level=60.0):
    """Clouds of all scales, as Galactic fields have them."""
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in SHAPE)))
    k[0, 0] = 1
    wave = np.fft.fft2(np.random.default_rng(seed).normal(0, 1, SHAPE)) / k**1.8
    wave[0, 0] = 0
    cloud = np.real(np.fft.ifft2(wave))
    cloud = ndimage.gaussian_filter(np.exp(0.9 * cloud / cloud.std()), 2)
    return cloud * level / np.median(cloud)


def test_a_smooth_cloud_is_taken_out_and_a_star_on_it_stays() -> None:
    cloud = gaussian(SHAPE, 120, 120, 50 * 2 * np.pi * 30**2, 30 * 2.3548)
    star = np.zeros(SHAPE)
    stamp = psf.moffat(FWHM)
    half = stamp.shape[0] // 2
    star[120 - half : 121 + half, 130 - half : 131 + half] = 5e3 * stamp
    one = coadd(cloud + star)
    found = nebulosity(one, cloud > 1, np.array([[120.0, 130.0]]), FWHM, CONFIG)
    left = found.out_of(one).image[0]
    near = cloud > 10
    near &= star < 0.01
    assert abs(left[near].mean()) < 0.05 * cloud[near].mean()
    under_it = (left - star)[115:126, 125:136].mean()
    assert abs(under_it) < 0.15 * cloud[120, 130]
    assert np.abs(found.light[0, :20, :20]).max() < 0.01


def test_structure_that_the_smoothing_does_not_follow_counts_as_noise() -> None:
    y = np.indices(SHAPE)[0]
    one = coadd(20 + 5 * np.sin(2 * np.pi * y / 5))
    found = nebulosity(one, np.ones(SHAPE, bool), np.zeros((0, 2)), FWHM, CONFIG)
    middle = found.variance[0, 60:180, 60:180]
    assert np.median(middle) == pytest.approx(12.5, rel=0.3)
    np.testing.assert_allclose(found.out_of(one).variance, 1 + found.variance)


def test_pixels_without_data_have_no_nebulosity() -> None:
    one = coadd(np.full(SHAPE, 30.0))
    valid = one.valid.copy()
    valid[0, 100:140] = False
    one = replace(one, valid=valid, image=np.where(valid, one.image, np.nan))
    found = nebulosity(one, np.ones(SHAPE, bool), np.zeros((0, 2)), FWHM, CONFIG)
    assert (found.light[~valid] == 0).all()
    assert np.median(found.light[valid]) == pytest.approx(30, rel=0.02)


def looked(light, parents=None):
    """The look of a noiseless frame, at its brightest pixel alone."""
    parents = (light > 5).astype(np.int32) if parents is None else parents
    nothing = np.zeros((0, 2)), np.zeros(0)
    one = Field(light, np.ones(SHAPE), light[None], parents, FWHM, *nothing)
    peaks = np.argwhere(light == light.max())[:1].astype(float)
    return Look.at(one, peaks), peaks, np.zeros(1)


def test_clouds_are_wide_and_have_no_middle() -> None:
    for seed in (3, 4):
        look = looked(clouds(seed), np.ones(SHAPE, np.int32))
        assert clouds_of(*look, ALWAYS).all()
        assert not clouds_of(*look, CONFIG).any()  # it may be a galaxy


@pytest.mark.parametrize("angle", [0.0, 1.2])
def test_a_spiral_as_large_as_the_frame_is_no_cloud(angle: float) -> None:
    y, x = np.indices(SHAPE) - 120.0
    u, v = x * np.cos(angle) + y * np.sin(angle), (y * np.cos(angle) - x * np.sin(angle)) / 0.7
    r = np.hypot(u, v) + 1
    arms = 1 + 0.8 * np.cos(2 * (np.arctan2(v, u) - 2.2 * np.log(r)))
    assert not clouds_of(*looked(100 * np.exp(-r / 50) * arms), ALWAYS).any()


def test_a_cloud_that_is_small_in_the_frame_is_left_alone() -> None:
    light = clouds(7)
    parents = np.zeros(SHAPE, np.int32)
    parents[:70, :70] = 1
    parents[170:, 170:] = 2
    assert not clouds_of(*looked(light, parents), replace(CONFIG, nebulosity_least_frame=0.5)).any()


def test_what_stars_make_up_is_their_cluster_and_no_cloud() -> None:
    rng = np.random.default_rng(3)
    at = rng.normal(120, 50, (400, 2)).clip(5, 234)
    light = sum(gaussian(SHAPE, y, x, 3e3 * rng.exponential(), FWHM) for y, x in at)
    light += 8 * ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 20) / 0.014
    look, _, _ = looked(light, np.ones(SHAPE, np.int32))
    assert clouds_of(look, at, np.zeros(len(at)), ALWAYS).any()
    assert not clouds_of(look, at, np.ones(len(at)), ALWAYS).any()


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_stars_on_clouds_are_found_and_the_clouds_are_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = rng.uniform(10, 230, (15, 2))
    light = clouds(seed)
    for y, x in at:
        light = light + gaussian(SHAPE, round(y), round(x), 10 ** rng.uniform(3.0, 4.0), FWHM)
    one = coadd(light, seed)
    found = detect(one, detection_image(one, CONFIG), CONFIG)
    assert found.nebulosity is not None
    assert found.footprint.mean() < 0.1
    apart = np.hypot(*(found.peaks[:, None] - at[None]).transpose(2, 0, 1))
    assert (apart.min(axis=0) < 3).mean() > 0.8
    assert (apart.min(axis=1) > 3).sum() < 5


def test_clouds_stay_where_they_are_not_looked_for_and_small_ones_go_where_asked_for() -> None:
    one = coadd(clouds(3), 3)
    config = replace(CONFIG, nebulosity="never")
    assert detect(one, detection_image(one, config), config).nebulosity is None
    look = looked(clouds(3), (clouds(3) > 60).astype(np.int32))
    for size, config in ((2.0, CONFIG), (2.0, ALWAYS)):
        config = replace(config, nebulosity_least_frame=size)
        assert clouds_of(*look, config).any() == (config.nebulosity == "always")


@pytest.mark.parametrize("radius", [15, 40])
def test_a_smooth_galaxy_is_no_cloud(radius: int) -> None:
    y, x = np.indices(SHAPE) - 120.0
    one = coadd(60 * np.exp(-np.hypot(y, 1.4 * x) / radius))
    found = detect(one, detection_image(one, CONFIG), CONFIG)
    assert found.nebulosity is None
    assert np.hypot(*(found.peaks - 120.0).T).min() < 3
