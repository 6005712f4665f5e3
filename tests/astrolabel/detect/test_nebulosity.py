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
from astrolabel.detect.nebulosity import nebulosity
from astrolabel.detect.source_probability import clouds_of

SHAPE = (240, 240)
FWHM = 4.0
CONFIG = DetectConfig(nebulosity_fwhm=4.0)


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
    star = gaussian(SHAPE, 120, 130, 5e3, FWHM)
    one = coadd(cloud + star)
    found = nebulosity(one, cloud > 1, np.array([[120.0, 130.0]]), FWHM, CONFIG)
    left = found.out_of(one).image[0]
    near = cloud > 10
    near &= star < 0.01
    assert abs(left[near].mean()) < 0.05 * cloud[near].mean()
    under_it = (left - star)[115:126, 125:136].mean()
    assert abs(under_it) < 0.15 * cloud[120, 130]
    assert np.abs(found.light[0, :20, :20]).max() < 0.01


def test_structure_that_the_mesh_does_not_follow_counts_as_noise() -> None:
    y = np.indices(SHAPE)[0]
    one = coadd(20 + 5 * np.sin(2 * np.pi * y / 9))
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


def look(parents, peaks):
    light = np.where(parents > 0, 10.0, 0.0)
    field = Field(light, np.ones(SHAPE), light[None], parents, FWHM, np.zeros((0, 2)), np.zeros(0))
    return Look.at(field, np.array(peaks, float))


@pytest.mark.parametrize(
    ("half", "likely", "is_cloud"), [(60, 0.01, True), (60, 0.5, False), (15, 0.01, False)]
)
def test_a_cloud_is_wide_and_its_main_candidate_surely_no_source(half, likely, is_cloud) -> None:
    parents = np.zeros(SHAPE, np.int32)
    parents[120 - half : 120 + half, 120 - half : 120 + half] = 1
    one = look(parents, [(120, 120)])
    found = clouds_of(one, np.array([likely]), CONFIG)
    assert (found == ((parents == 1) & is_cloud)).all()


def test_beside_a_cloud_a_wide_object_that_is_more_likely_none_is_one_too() -> None:
    parents = np.zeros(SHAPE, np.int32)
    parents[:, :80], parents[:, 90:160], parents[:, 170:] = 1, 2, 3
    one = look(parents, [(120, 40), (120, 125), (120, 205)])
    found = clouds_of(one, np.array([0.01, 0.4, 0.6]), CONFIG)
    assert (found == ((parents == 1) | (parents == 2))).all()


def test_stars_on_clouds_are_found_and_the_clouds_are_not() -> None:
    rng = np.random.default_rng(7)
    at = rng.uniform(10, 230, (15, 2))
    light = clouds(7)
    for y, x in at:
        light = light + gaussian(SHAPE, round(y), round(x), 10 ** rng.uniform(3.0, 4.0), FWHM)
    one = coadd(light, 7)
    found = detect(one, detection_image(one, CONFIG), CONFIG)
    assert found.nebulosity is not None
    clean = found.nebulosity.out_of(one)
    peaks = detect(clean, detection_image(clean, CONFIG), CONFIG).peaks
    apart = np.hypot(*(peaks[:, None] - at[None]).transpose(2, 0, 1))
    assert (apart.min(axis=0) < 3).mean() > 0.8
    assert (apart.min(axis=1) > 3).sum() < 5


def test_clouds_stay_where_they_are_not_asked_for() -> None:
    one = coadd(clouds(7), 7)
    config = replace(CONFIG, nebulosity_fwhm=0.0)
    assert detect(one, detection_image(one, config), config).nebulosity is None


@pytest.mark.parametrize("radius", [15, 40])
def test_a_smooth_galaxy_is_no_cloud(radius: int) -> None:
    y, x = np.indices(SHAPE) - 120.0
    one = coadd(60 * np.exp(-np.hypot(y, 1.4 * x) / radius))
    found = detect(one, detection_image(one, CONFIG), CONFIG)
    assert found.nebulosity is None
    assert np.hypot(*(found.peaks - 120.0).T).min() < 3
