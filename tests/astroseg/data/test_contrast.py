"""The paper's scalings against their definitions, and asinh for any number of bands."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.visualization import make_lupton_rgb
from PIL import Image, ImageEnhance

from astroseg.core.errors import InputError
from astroseg.data.contrast import CONTRASTS, measure


@pytest.fixture
def gri() -> np.ndarray:
    rng = np.random.default_rng(1)
    image = rng.normal(0, 0.05, (3, 40, 50))
    yy, xx = np.mgrid[:40, :50]
    star = np.exp(-0.5 * ((yy - 20) ** 2 + (xx - 30) ** 2) / 4)
    image += star * np.array([3.0, 40.0, 9.0])[:, None, None]
    return image.astype(np.float32)


def test_lupton_is_astropys_with_i_as_red(gri: np.ndarray) -> None:
    g, r, i = gri
    expected = make_lupton_rgb(i, r, g, minimum=0, stretch=0.5, Q=10)
    found = measure("lupton", gri, ("g", "r", "i"))(gri)
    assert found.dtype == np.float32
    assert (found == expected.transpose(2, 0, 1)).all()
    assert found.max() == 255


def test_colours_follow_the_wavelength_not_the_order(gri: np.ndarray) -> None:
    shuffled = gri[[2, 0, 1]]
    expected = measure("lupton", gri, ("g", "r", "i"))(gri)
    assert (measure("lupton", shuffled, ("HSC-I", "HSC-G", "HSC-R"))(shuffled) == expected).all()
    # Bands of unknown name are taken to come blue first.
    assert (measure("lupton", gri)(gri) == expected).all()


def test_high_contrast_is_pils_contrast_then_brightness(gri: np.ndarray) -> None:
    g, r, i = gri
    picture = Image.fromarray(make_lupton_rgb(i, r, g, minimum=0, stretch=0.5, Q=10))
    picture = ImageEnhance.Brightness(ImageEnhance.Contrast(picture).enhance(2)).enhance(2)
    found = measure("lupton-hc", gri, ("g", "r", "i"))(gri)
    assert (found == np.asarray(picture).transpose(2, 0, 1)).all()


def test_zscale_has_one_constant_for_all_bands_and_is_cast_to_int16(gri: np.ndarray) -> None:
    faint = gri.copy()
    faint[:, 20, 30] = 1.0  # nothing beyond 32.8 sigma
    intensity = faint.mean(axis=0, dtype=np.float64)
    expected = 1e3 * (faint - intensity.mean()) / intensity.std()
    found = measure("zscale", faint, ("g", "r", "i"))(faint)
    assert (found == expected[::-1].astype(np.int16)).mean() > 0.999  # but for rounding
    assert np.abs(found - expected[::-1]).max() <= 1.001


def test_zscale_clips_where_int16_would_wrap() -> None:
    image = np.random.default_rng(0).normal(0, 1, (3, 200, 200)).astype(np.float32)
    image[:, 5, 5], image[:, 9, 9] = 3000, -3000
    found = measure("zscale", image)(image)
    assert (found[:, 5, 5] == 32767).all()
    assert (found[:, 9, 9] == -32768).all()


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_asinh_is_flux_in_units_of_sigma_for_any_number_of_bands(bands: int) -> None:
    image = np.random.default_rng(0).normal(0, 2, (bands, 30, 30)).astype(np.float32)
    sigma = [0.5 + b for b in range(bands)]
    found = measure("asinh", image, (), sigma)(image)
    expected = np.arcsinh(image / np.array(sigma, np.float32)[:, None, None])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32


def test_asinh_estimates_the_noise_where_the_dataset_does_not_say() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, [[[1.0]], [[7.0]]], (2, 300, 300)).astype(np.float32)
    image[:, :20, :20] += 1e4  # a bright source does not count
    sigma = measure("asinh", image, (), (float("nan"), 1.0)).sigma
    assert sigma == pytest.approx((1.0, 7.0), rel=0.02)


@pytest.mark.parametrize("name", CONTRASTS)
def test_window_of_an_image_is_scaled_as_in_the_whole(name: str, gri: np.ndarray) -> None:
    scaling = measure(name, gri, ("g", "r", "i"))
    assert (scaling(gri[:, 10:30, 20:45]) == scaling(gri)[:, 10:30, 20:45]).all()


@pytest.mark.parametrize("name", ["lupton", "lupton-hc", "zscale"])
def test_three_band_contrast_of_five_bands_names_the_one_that_can(name: str) -> None:
    with pytest.raises(InputError, match=r"not 5; .*asinh"):
        measure(name, np.zeros((5, 8, 8), np.float32))


def test_band_without_noise_is_refused() -> None:
    with pytest.raises(InputError, match="band 1 of 1 has no noise"):
        measure("asinh", np.zeros((1, 8, 8), np.float32))


def test_unknown_contrast_is_refused() -> None:
    with pytest.raises(InputError, match="unknown contrast 'linear'"):
        measure("linear", np.zeros((3, 8, 8), np.float32))
