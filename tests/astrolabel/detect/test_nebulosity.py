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
from astrolabel.detect.image import detection_image
from astrolabel.detect.nebulosity import Clouds, clouds_of, nebulosity

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


def light(one, sources=(), galaxies=None):
    """The light taken out of a coadd that is nebulous all over, but where there are galaxies."""
    galaxies = np.zeros(SHAPE, bool) if galaxies is None else galaxies
    where, at = Clouds(~galaxies, galaxies), np.reshape(sources, (-1, 2)).astype(float)
    return nebulosity(one, detection_image(one, CONFIG), where, at, CONFIG)


def sources_at(*sources):
    """Point sources of (y, x, counts)."""
    out = np.zeros(SHAPE)
    stamp = psf.moffat(FWHM)
    half = stamp.shape[0] // 2
    for y, x, counts in sources:
        out[y - half : y + half + 1, x - half : x + half + 1] += counts * stamp
    return out


def test_a_smooth_cloud_is_taken_out_and_a_star_on_it_stays() -> None:
    cloud = gaussian(SHAPE, 120, 120, 50 * 2 * np.pi * 30**2, 30 * 2.3548)
    star = sources_at((120, 130, 2e3))
    one = coadd(cloud + star)
    left = one.image[0] - light(one).light[0]
    near = (cloud > 10) & (star < 0.01)
    assert abs(left[near].mean()) < 0.02 * cloud[near].mean()
    under_it = (left - star)[115:126, 125:136].mean()
    assert abs(under_it) < 0.15 * cloud[120, 130]


def test_a_filament_is_taken_out_and_what_is_short_stays() -> None:
    y, x = np.indices(SHAPE)
    filament = 20 * np.exp(-(((y - 120 - 15 * np.sin(x / 40)) / 8) ** 2))
    disc = 60 * np.exp(-np.hypot(y - 150, x - 60) / 4)
    star = sources_at((125, 170, 2e3))
    one = coadd(filament + disc + star)
    left = one.image[0] - light(one).light[0] - disc - star
    assert left.std() < 1.7 < 3.5 < filament.std()  # the noise is 1
    for at, size in (((150, 60), 10), ((125, 170), 4)):
        around = np.hypot(y - at[0], x - at[1]) < size
        kept = 1 + left[around].sum() / (disc + star)[around].sum()
        assert kept == pytest.approx(1, abs=0.15), at


def test_the_light_of_a_wide_galaxy_beside_clouds_stays() -> None:
    one = coadd(np.full(SHAPE, 30.0))
    found = light(one, galaxies=np.indices(SHAPE)[1] >= 120).light[0]
    assert np.median(found[:, :110]) == pytest.approx(30, rel=0.02)
    assert np.abs(found[:, 135:]).max() < 0.1


def test_structure_that_is_as_fine_as_stars_counts_as_noise() -> None:
    y = np.indices(SHAPE)[0]
    one = coadd(20 + 5 * np.sin(2 * np.pi * y / 5) * np.sin(2 * np.pi * np.indices(SHAPE)[1] / 5))
    found = light(one)
    middle = found.variance[0, 60:180, 60:180]
    assert np.median(middle) == pytest.approx(5**2 / 4, rel=0.3)
    np.testing.assert_allclose(found.out_of(one).variance, 1 + found.variance)
    assert found.rough.all()
    assert not light(coadd(np.full(SHAPE, 20.0))).rough.any()


def test_pixels_without_data_have_no_nebulosity() -> None:
    one = coadd(np.full(SHAPE, 30.0))
    valid = one.valid.copy()
    valid[0, 100:140] = False
    one = replace(one, valid=valid, image=np.where(valid, one.image, np.nan))
    found = light(one)
    assert (found.light[~valid] == 0).all()
    assert np.median(found.light[valid]) == pytest.approx(30, rel=0.02)


def cloudy(light, config=CONFIG):
    """(H, W) bool: the clouds of a frame."""
    found = clouds_of(detection_image(coadd(light), config), FWHM, config)
    return found.clouds if found is not None else np.zeros(SHAPE, bool)


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_clouds_are_wide_and_have_no_middle(seed: int) -> None:
    assert cloudy(clouds(seed)).mean() > 0.9


@pytest.mark.parametrize("angle", [0.0, 1.2])
def test_a_spiral_as_large_as_the_frame_is_no_cloud(angle: float) -> None:
    y, x = np.indices(SHAPE) - 120.0
    u, v = x * np.cos(angle) + y * np.sin(angle), (y * np.cos(angle) - x * np.sin(angle)) / 0.7
    r = np.hypot(u, v) + 1
    arms = 1 + 0.8 * np.cos(2 * (np.arctan2(v, u) - 2.2 * np.log(r)))
    assert not cloudy(100 * np.exp(-r / 50) * arms, ALWAYS).any()


def test_a_single_irregular_object_is_a_cloud_only_where_that_is_asked_for() -> None:
    y, x = np.indices(SHAPE) - 120.0
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    light = np.where(r < 80 + 15 * np.sin(3 * angle), 20 + 15 * np.sin(x / 25) * np.cos(y / 20), 0)
    assert not cloudy(light).any()
    assert cloudy(light, ALWAYS).any()


def test_clouds_that_are_small_in_the_frame_are_left_alone() -> None:
    light = np.zeros(SHAPE)
    for part in (np.s_[10:80, 10:80], np.s_[160:235, 160:235]):
        light[part] = clouds(11)[part]
    less = replace(CONFIG, nebulosity_least_frame=0.5)
    assert 0.1 < cloudy(light).mean() < 0.3
    assert not cloudy(light, less).any()
    assert cloudy(light, replace(less, nebulosity="always")).any()


def test_galaxies_beside_each_other_are_no_clouds() -> None:
    y, x = np.indices(SHAPE)
    light = sum(
        100 * np.exp(-np.hypot((y - cy) / 1.3, x - cx) / 14) for cy, cx in ((70, 70), (150, 160))
    )
    assert not cloudy(light, ALWAYS).any()


def test_what_stars_make_up_is_their_cluster_and_no_cloud() -> None:
    rng = np.random.default_rng(3)
    at = rng.normal(120, 50, (400, 2)).clip(5, 234)
    light = sum(gaussian(SHAPE, y, x, 3e3 * rng.exponential(), FWHM) for y, x in at)
    assert not cloudy(light, ALWAYS).any()


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


def test_clouds_stay_where_they_are_not_looked_for() -> None:
    one = coadd(clouds(3), 3)
    config = replace(CONFIG, nebulosity="never")
    assert detect(one, detection_image(one, config), config).nebulosity is None


@pytest.mark.parametrize("radius", [15, 40])
def test_a_smooth_galaxy_is_no_cloud(radius: int) -> None:
    y, x = np.indices(SHAPE) - 120.0
    one = coadd(60 * np.exp(-np.hypot(y, 1.4 * x) / radius))
    found = detect(one, detection_image(one, CONFIG), CONFIG)
    assert found.nebulosity is None
    assert np.hypot(*(found.peaks - 120.0).T).min() < 3
