"""Four channels of any bands: what differs between surveys makes no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astroseg.core.config import DataConfig
from astroseg.core.errors import InputError
from astroseg.data.any_bands import SkyScaling
from astroseg.data.any_bands import measure_sky as measured
from astroseg.data.bands import by_wavelength
from astroseg.data.images import Pixels
from astroseg.data.inputs import image_record
from astroseg.data.look import look_at, read_record

RNG = np.random.default_rng(3)
Y, X = np.mgrid[:512, :640].astype(np.float32)


def measure_sky(flux: np.ndarray, bands: tuple[str, ...] = ()) -> SkyScaling:
    pixels = Pixels(tuple(flux))
    return measured(pixels.crop, len(flux), pixels.shape, bands)


def scene(bands: int = 3) -> np.ndarray:
    """Sky noise of 1, 2, 3, ... and one source in the middle."""
    noise = RNG.normal(size=(bands, 512, 640)).astype(np.float32)
    source = 50 * np.exp(-((Y - 200) ** 2 + (X - 300) ** 2) / 18)
    return (noise + source) * np.arange(1, bands + 1, dtype=np.float32)[:, None, None]


def test_the_unit_of_the_bands_does_not_matter() -> None:
    flux = scene()
    for factor in (1e-19, 1e3):
        other = flux * np.float32(factor)
        assert measure_sky(other)(other) == pytest.approx(measure_sky(flux)(flux), abs=1e-3)


def test_the_second_channel_is_the_plain_sum_where_bands_have_one_unit() -> None:
    flux = scene()  # noises 1, 2, 3
    plain = measure_sky(flux)(flux)
    assert np.sinh(plain[1]) == pytest.approx(flux.sum(axis=0) / np.sqrt(14), rel=0.05, abs=0.2)
    # A unit of its own that is said by a zero point is undone;
    other = flux * np.array([1, 10, 1], np.float32)[:, None, None]
    pixels = Pixels(tuple(other))
    said = measured(pixels.crop, 3, pixels.shape, zeropoint=(25.0, 27.5, 25.0))
    assert said(other) == pytest.approx(plain, abs=1e-3)
    # ... without, bands whose noises are far apart are summed by noise.
    apart = flux * np.array([1e-19, 1e3, 7], np.float32)[:, None, None]
    by_noise = measure_sky(apart)(apart)
    expected = (flux / np.array([1, 2, 3], np.float32)[:, None, None]).sum(axis=0) / np.sqrt(3)
    assert np.sinh(by_noise[1]) == pytest.approx(expected, rel=0.05, abs=0.2)
    assert by_noise[[0, 2]] == pytest.approx(plain[[0, 2]], abs=1e-3)


def test_the_faint_light_of_sources_is_no_sky() -> None:
    rng = np.random.default_rng(8)
    flux = rng.normal(size=(3, 512, 512)).astype(np.float32)
    y, x = np.mgrid[-20:21, -20:21]
    for _ in range(800):
        j, i = rng.integers(20, 492, 2)
        galaxy = min(2 / rng.random() ** 1.5, 300) * np.exp(-np.hypot(y, x) / rng.uniform(1.5, 3))
        flux[:, j - 20 : j + 21, i - 20 : i + 21] += galaxy.astype(np.float32)
    # The median of all pixels is 0.5 sigma too high in each band, and the noise 17 %.
    sky = measure_sky(flux)
    assert sky.level == pytest.approx(0, abs=0.05)
    assert sky.sigma == pytest.approx(1, rel=0.02)


def test_a_sky_with_a_gradient_is_subtracted() -> None:
    flux = scene()
    sky = 400 + 0.004 * Y + 0.002 * X  # 2 and 1.3 sigma across the first band
    seen = measure_sky(flux + sky)(flux + sky)
    assert np.abs(np.median(seen[:3], axis=(1, 2))).max() < 0.05
    assert seen[1, 200, 300] == pytest.approx(measure_sky(flux)(flux)[1, 200, 300], abs=0.05)


def test_a_galaxy_that_fills_a_cell_is_not_subtracted() -> None:
    flux = np.concatenate([scene(), scene()], axis=2)
    y, x = np.mgrid[: flux.shape[1], : flux.shape[2]]
    galaxy = 40 * np.exp(-np.hypot(y - 256, x - 640) / 90)
    seen = measure_sky(flux + galaxy.astype(np.float32))(flux + galaxy.astype(np.float32))
    assert np.sinh(np.median(seen[1, 236:276, 620:660])) > 25


def test_one_band_gives_three_equal_channels_in_units_of_its_noise() -> None:
    flux = scene(1) * 12
    seen = measure_sky(flux)(flux)
    assert seen.shape == (4, 512, 640)
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    assert np.sinh(seen[1, 200, 300]) == pytest.approx(50, abs=4)


def test_channels_are_bluer_all_and_redder_bands_whatever_their_order() -> None:
    flux = scene()
    flux[2, 200, 300] += 300  # red
    seen = measure_sky(flux, ("g", "r", "z"))(flux)
    turned = flux[[2, 0, 1]]
    assert np.array_equal(measure_sky(turned, ("z", "g", "r"))(turned), seen)
    assert np.sinh(seen[2, 200, 300]) > np.sinh(seen[0, 200, 300]) + 50
    # Noise of a sum of bands of unit noise, divided by the root of their number.
    assert np.std(seen[:3, :, 500:], axis=(1, 2)) == pytest.approx([0.75, 0.75, 0.75], abs=0.08)


def test_bands_of_unknown_names_keep_their_order() -> None:
    assert by_wavelength(("z", "g", "r"), 3) == (1, 2, 0)
    assert by_wavelength(("z", "extension 3", "r"), 3) == (0, 1, 2)
    assert by_wavelength((), 2) == (0, 1)
    assert by_wavelength(("W-C-RC", "W-J-V", "W-J-B", "W-S-Z+"), 4) == (2, 1, 0, 3)


def test_bands_of_unknown_names_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flux = scene()
    for names, said in ((("r", "g", "z"), []), (("Foo", "g", "Bar"), ["Foo, Bar are not known"])):
        files = [tmp_path / f"{name}.fits" for name in names]
        for file, plane, name in zip(files, flux, names, strict=True):
            fits.writeto(file, plane, fits.Header({"FILTER": name}), overwrite=True)
        record = image_record(",".join(map(str, files)), 1)
        caplog.clear()
        look_at(record, read_record(record), (), 4, DataConfig(contrast="sky"))
        assert [one for one in said if one in caplog.text] == said
        assert len(caplog.records) == len(said)


def test_a_crop_equals_the_crop_of_the_whole() -> None:
    flux = scene() + 3 * Y
    scaling = measure_sky(flux)
    crop = scaling(flux[:, 100:300, 250:500], 100, 250)
    assert crop == pytest.approx(scaling(flux)[:, 100:300, 250:500], abs=1e-4)


def test_pixels_without_data_are_at_the_level_of_the_sky() -> None:
    flux = scene() + 1000
    flux[:, :, 600:] = 0
    flux[:, :20] = np.nan
    seen = measure_sky(flux)(flux)
    assert (seen[:3, :, 600:] == 0).all()
    assert (seen[:3, :20] == 0).all()
    assert np.abs(np.median(seen[:3, 20:, :600], axis=(1, 2))).max() < 0.05


@pytest.mark.parametrize("value", [0.0, np.nan, -999.0, 0.37, 1e30])
def test_the_noise_is_that_of_the_observed_part(value: float) -> None:
    flux = scene()
    flux[:, :, :350] = value
    flux[1, :, 400:] = value  # of one band alone
    assert measure_sky(flux).sigma == pytest.approx((1, 2, 3), rel=0.05)


@pytest.mark.parametrize("fwhm", [1.7, 3.0, 5.0, 8.0])
def test_the_seeing_is_that_of_the_narrow_sources(fwhm: float) -> None:
    """Stars anywhere in their pixels, among twice as many galaxies of three times their size."""
    rng = np.random.default_rng(7)
    image = rng.normal(size=(512, 640)).astype(np.float32)
    for number in range(36):
        y, x = 40 + 80 * (number // 6) + rng.random(), 50 + 100 * (number % 6) + rng.random()
        size = fwhm if number % 3 == 0 else 3 * fwhm
        image += 150 * np.exp(-4 * np.log(2) * ((Y - y) ** 2 + (X - x) ** 2) / size**2)
    scaling = measure_sky(image[None])
    assert scaling.fwhm == pytest.approx(fwhm, rel=0.12)
    seen = scaling(image[None])
    assert seen[3] == pytest.approx(np.log2(scaling.fwhm / 3), abs=1e-6)


def test_an_image_without_bright_sources_shows_no_seeing() -> None:
    scaling = measure_sky(RNG.normal(size=(1, 300, 300)).astype(np.float32))
    assert np.isnan(scaling.fwhm)
    assert (scaling(np.ones((1, 5, 5), np.float32))[3] == -3).all()


def test_a_band_without_noise_is_refused() -> None:
    flux = scene()
    flux[1] = 7
    with pytest.raises(InputError, match="band 2 of 3 has no noise"):
        measure_sky(flux)
