"""What pixels mean, in training and in prediction: compared, converted or refused."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from astroseg.core.config import DataConfig, PredictConfig
from astroseg.core.errors import InputError
from astroseg.data.dataset import Dataset, ImageRecord, Truths
from astroseg.data.images import Pixels, read_pixels
from astroseg.data.look import look_at
from astroseg.data.units import Units, gains, pixel_scale, training_units, with_zeropoint

HSC = Units((0.168, 0.168), (27.0, 27.0, 27.0), (0.02, 0.02, 0.02))
LUPTON = DataConfig(contrast="lupton")
BANDS = ("g", "r", "i")


def cards(scale: float) -> dict[str, Any]:
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CD1_1": -scale / 3600,
        "CD2_2": scale / 3600,
    }


def image(zeropoint: tuple[float, ...] = (), scale: float = 0.168, unit: float = 1.0) -> Any:
    sky = np.random.default_rng(0).normal(0, 0.02 * unit, (3, 64, 64)).astype(np.float32)
    sky[:, 30:34, 30:34] += 2 * unit
    record = ImageRecord(1, "a.fits", (Path("a.fits"),), 64, 64, BANDS, (), zeropoint, cards(scale))
    return record, Pixels(tuple(sky))


@pytest.mark.parametrize(
    "header",
    [
        {"CD1_1": -3e-5, "CD1_2": 4e-5, "CD2_1": 4e-5, "CD2_2": 3e-5},
        {"CDELT1": -7e-5, "CDELT2": 7e-5, "PC1_1": 0.6, "PC1_2": -0.8, "PC2_1": 0.8, "PC2_2": 0.6},
        {"CDELT1": -4e-5, "CDELT2": 4e-5},
        {"PC1_1": 5e-5, "PC2_2": 5e-5},
    ],
)
def test_pixel_scale_is_astropys(header: dict[str, float]) -> None:
    kinds = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    wcs = WCS(fits.Header(list((kinds | header).items())))
    expected = 3600 * math.sqrt(np.prod(proj_plane_pixel_scales(wcs)))
    assert pixel_scale(kinds | header) == pytest.approx(expected, rel=1e-9)


def test_a_scale_that_no_header_says_is_unknown() -> None:
    for nothing in (None, {}, {"CTYPE1": "RA---TAN"}, {"CD1_1": "x"}, {"CD1_1": 0.0}):
        assert math.isnan(pixel_scale(nothing))


def test_the_same_sky_in_another_unit_looks_the_same() -> None:
    """1 count of zero point 27 is 57.544 nJy of zero point 31.4."""
    looks = []
    for zero, unit in ((27.0, 1.0), (31.4, 57.544)):
        record, pixels = image((zero,) * 3, unit=unit)
        look = look_at(
            record, pixels, BANDS, 3, LUPTON,
            lambda order, r=record, p=pixels: gains(r, p, order, HSC, LUPTON, PredictConfig()),
        )  # fmt: skip
        looks.append(look(pixels.whole(look.order)))
    assert np.abs(looks[0] - looks[1]).max() <= 1  # of 255 grey levels
    assert looks[0].max() > 100
    plain = look_at(record, pixels, BANDS, 3, LUPTON)
    assert np.abs(plain(pixels.whole(plain.order)) - looks[0]).max() > 50


def test_gain_is_by_channel_in_the_models_order() -> None:
    record, pixels = image((27.0, 28.0, 24.5))
    trained = dataclasses.replace(HSC, sky_sigma=())
    found = gains(record, pixels, (2, 1, 0), trained, LUPTON, PredictConfig())
    assert np.allclose(found, [10.0, 10**-0.4, 1.0])


def test_noise_units_need_no_zero_point(caplog: pytest.LogCaptureFixture) -> None:
    record, pixels = image((), unit=50)
    asinh = DataConfig(contrast="asinh")
    assert gains(record, pixels, (0, 1, 2), HSC, asinh, PredictConfig()) == ()
    assert not caplog.records


def test_an_unknown_zero_point_or_a_doubtful_one_is_said_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        record, pixels = image(())
        assert gains(record, pixels, (0, 1, 2), HSC, LUPTON, PredictConfig()) == ()
    (line,) = (r.getMessage() for r in caplog.records)
    assert "its zero points are unknown" in line
    caplog.clear()
    record, pixels = image((27.0,) * 3, unit=57.5)  # says counts, holds nJy
    gains(record, pixels, (0, 1, 2), HSC, LUPTON, PredictConfig())
    (line,) = (r.getMessage() for r in caplog.records)
    assert "sky noise is 57 times" in line


def test_an_image_of_another_pixel_scale_is_refused_unless_allowed() -> None:
    for scale in (0.05, 0.262):
        record, pixels = image(scale=scale)
        with pytest.raises(InputError, match=f"pixels of {scale} arcsec.* trained on 0.168"):
            gains(record, pixels, (0, 1, 2), HSC, LUPTON, PredictConfig())
        gains(record, pixels, (0, 1, 2), HSC, LUPTON, PredictConfig(scale_tolerance=4))
        many = dataclasses.replace(HSC, pixel_scale=(0.05, 0.3))
        gains(record, pixels, (0, 1, 2), many, LUPTON, PredictConfig())


def test_zero_points_are_the_datasets_then_the_headers_then_the_given() -> None:
    record, pixels = image()
    known = dataclasses.replace(pixels, zeropoint=(25.0, math.nan, 25.0))
    own = dataclasses.replace(record, zeropoint=(math.nan, math.nan, 30.0))
    assert with_zeropoint(own, known, (22.5,)).zeropoint == (25.0, 22.5, 30.0)
    assert with_zeropoint(record, pixels).zeropoint == ()
    one = dataclasses.replace(record, zeropoint=(27.0,))
    assert with_zeropoint(one, pixels).zeropoint == (27.0, 27.0, 27.0)
    with pytest.raises(InputError, match="has 3 bands, and 2 zero points are given"):
        with_zeropoint(record, pixels, (1.0, 2.0))


def test_units_of_a_training_set(tmp_path: Path) -> None:
    records = []
    for number, (zero, scale) in enumerate([(27.0, 0.168), (27.004, 0.17), (27.0, 0.168)]):
        record, pixels = image((zero, 27.0, 27.0 + number), scale)
        path = tmp_path / f"{number}.fits"
        fits.writeto(path, pixels.whole())
        records.append(dataclasses.replace(record, files=(path,)))
    truth = Truths.__new__(Truths)
    dataset = Dataset(tmp_path / "x.json", ("a",), (1,), tuple(records), truth)
    found = training_units(dataset, [(2, 1, 0)] * 3, DataConfig())
    assert found.pixel_scale == pytest.approx((0.168, 0.17))
    assert math.isnan(found.zeropoint[0])  # i differs from image to image
    assert found.zeropoint[1:] == (27.0, 27.0)
    assert np.allclose(found.sky_sigma, 0.02, rtol=0.1)
    again = Units.from_json(found.to_json())
    assert np.allclose(again.zeropoint, found.zeropoint, equal_nan=True)
    assert (again.pixel_scale, again.sky_sigma) == (found.pixel_scale, found.sky_sigma)
    for broken in ("[1]", '{"x": [1]}', '{"zeropoint": 3}', "{"):
        with pytest.raises(ValueError):
            Units.from_json(broken)


def test_header_zero_points_reach_the_training_set(tmp_path: Path) -> None:
    record, pixels = image()
    path = tmp_path / "a.fits"
    fits.writeto(path, pixels.whole(), fits.Header({"MAGZERO": 25.5}))
    one = dataclasses.replace(record, files=(path,))
    dataset = Dataset(tmp_path / "x.json", ("a",), (1,), (one,), Truths.__new__(Truths))
    assert training_units(dataset, [(0, 1, 2)], DataConfig()).zeropoint == (25.5,) * 3
    assert read_pixels([path]).zeropoint == (25.5,) * 3
