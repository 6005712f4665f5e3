"""Zero points of cards and units as pipelines write them: the AB magnitude of a count, or none."""

import numpy as np
import pytest
from astropy.io import fits

from astrolabel.io.cards import cards_of
from astrolabel.io.zeropoints import from_unit, hst, not_linear, of_cards

PIXEL_SR = (0.2 / 206264.806) ** 2


def zero(rule=of_cards, **cards):
    header = fits.Header()
    for key, value in cards.items():
        header[key] = value
    return rule(cards_of([header]), PIXEL_SR)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("nJy", 31.4), ("uJy", 23.9), ("microJy", 23.9), ("mJy", 16.4), ("Jy", 8.9),
        ("nJy/pixel", 31.4), ("uJy/pix", 23.9), ("Jy pixel-1", 8.9), ("10*nJy", 28.9),
        ("nanomaggy", 22.5), ("maggies", 0.0), ("erg/s/cm2/Hz", -48.6),
        ("10^-29 erg/s/cm2/Hz", 23.9), ("W m-2 Hz-1", -56.1),
        ("muJy", 23.9), ("nanomaggy/pixel", 22.5), ("ERG/S/CM**2/HZ", -48.6),
        ("MJy/sr", 8.9 - 2.5 * np.log10(1e6 * PIXEL_SR)),
    ],
)  # fmt: skip
def test_a_unit_of_flux_is_a_zero_point(unit, expected):
    assert zero(from_unit, BUNIT=unit).value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    "unit",
    ["erg/s/cm2/A", "ergs/s/cm^2/Ang", "ERG/CM2/S/A", "erg s-1 cm-2 A-1", "erg/(s cm2 Angstrom)"],
)
def test_a_flux_per_wavelength_has_a_zero_point_at_its_pivot(unit):
    """Which is -2.5 log10 of the flux per frequency in erg/s/cm2/Hz, less 48.6."""
    expected = -2.5 * np.log10(5500.0**2 / 2.99792458e18) - 48.6
    assert zero(BUNIT=unit, PHOTPLAM=5500.0).value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("unit", ["ELECTRONS/S", "counts s-1", "DN/sec", "electron s^-1", ""])
def test_rates_of_hst_have_the_zero_point_of_its_sensitivity(unit):
    cards = {"PHOTFLAM": 7e-20, "PHOTPLAM": 8045.0, "EXPTIME": 2000.0}
    per_second = -2.5 * np.log10(7e-20) - 5 * np.log10(8045) - 2.408
    assert zero(hst, BUNIT=unit, **cards).value == pytest.approx(per_second)
    in_time = per_second + 2.5 * np.log10(2000)
    assert zero(hst, BUNIT="ELECTRONS", **cards).value == pytest.approx(in_time)


@pytest.mark.parametrize(
    "unit", ["ADU", "counts", "DN", "electron/s", "Jy/beam", "MJY", "3", "%%&foo/bar**"]
)
def test_a_unit_that_is_none_of_flux_gives_none(unit):
    assert zero(BUNIT=unit).value is None


@pytest.mark.parametrize(
    ("cards", "doubtful"),
    [
        ({"MAGZERO": 99.0}, True),
        ({"MAGZPT": -99.0}, True),
        ({"PHOTZP": -9999.0}, True),
        ({"MAGZERO": "UNKNOWN"}, True),
        ({"MAGZERO": 25.0, "MAGSYS": "Vega"}, True),
        ({"MAGZPT": (25.0, "zero point, Vega")}, True),
        ({"MAGZPT": (25.0, "mag for 1 ADU/s"), "EXPTIME": 60.0}, True),
        ({"MAGZPT": (25.0, "mag for 1 count per second"), "BUNIT": "ADU"}, True),
        ({}, False),
    ],
)
def test_a_card_that_is_no_ab_magnitude_of_a_count_is_said_and_not_used(cards, doubtful):
    found = zero(**cards)
    assert found.value is None
    assert found.doubtful == doubtful


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"MAGZERO": "25.3"}, 25.3),
        ({"MAGZERO": 99.0, "MAGZPT": 26.2}, 26.2),
        ({"MAGZERO": 99.0, "BUNIT": "uJy"}, 23.9),
        ({"MAGZPT": (25.0, "AB zero point"), "EXPTIME": 60.0}, 25.0),
        ({"MAGZPT": (25.0, "mag for 1 ADU/s"), "EXPTIME": 100.0, "BUNIT": "ADU"}, 30.0),
        ({"MAGZPT": (25.0, "mag for 1 e-/s"), "EXPTIME": 100.0, "BUNIT": "electron/s"}, 25.0),
    ],
)
def test_a_card_is_the_magnitude_of_a_count(cards, expected):
    assert zero(**cards).value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("unit", ["nJy", "MJy/sr", "electron/s", "DN", "analog counts", "slog", ""])
def test_units_of_flux_are_linear(unit):
    assert not not_linear(cards_of([fits.Header({"BUNIT": unit})]))


@pytest.mark.parametrize(
    ("other", "doubtful"),
    [({"PHOTZP": 30.0}, True), ({"PHOTZP": 25.05}, False), ({"PHOTZP": -99.0}, False),
     ({"MAGZPT": 20.0, "EXPTIME": 100.0}, False), ({"MAGZPT": 20.0, "EXPTIME": 10.0}, True)],
)  # fmt: skip
def test_cards_that_contradict_each_other_are_doubtful(other, doubtful):
    found = zero(MAGZERO=25.0, **other)
    assert found.value == 25.0
    assert found.doubtful == doubtful
