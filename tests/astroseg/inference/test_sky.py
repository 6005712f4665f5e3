"""The catalog's positions, shapes and magnitudes, against the sources that were drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from astroseg.core.errors import InputError
from astroseg.core.rle import encode_at
from astroseg.core.samples import Prediction
from astroseg.data.dataset import ImageRecord
from astroseg.inference.sky import check_format, image_catalog, read_wcs, write_catalog

SHAPE = (60, 80)
CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 31.0,  # FITS counts from 1: column 30 from 0
    "CRPIX2": 21.0,
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CD1_1": -1e-4,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 1e-4,
    "LONG_KEYWORD": "ignored",
}


def catalog(mask: np.ndarray, flux: np.ndarray, **known: object) -> Table:
    record = ImageRecord(3, "a.fits", (Path("a.fits"),), *SHAPE, **known)
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    prediction = Prediction(
        np.array([box], np.float32),
        np.array([0.9], np.float32),
        np.array([1]),
        (encode_at(mask, (0, 0), SHAPE),),
    )
    zeropoint = known.get("zeropoint", ())

    def window(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        return flux[:, y0:y1, x0:x1]

    return image_catalog(
        record,
        prediction,
        window,
        ("g", "r"),
        zeropoint,
        ("galaxy", "star"),
        wcs=read_wcs(record),
    )


def test_star_has_its_position_on_the_sky_and_its_magnitude() -> None:
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = np.exp(-0.5 * ((yy - 20.0) ** 2 + (xx - 30.0) ** 2) / 4) / (8 * np.pi)
    flux = np.stack([100 * star, 1000 * star]).astype(np.float32)
    mask = (yy - 20) ** 2 + (xx - 30) ** 2 < 100
    row = catalog(mask, flux, wcs=CARDS, zeropoint=(27.0, 27.0))[0]
    assert (row["x"], row["y"]) == pytest.approx((30, 20), abs=1e-4)
    assert (row["ra"], row["dec"]) == pytest.approx((150.0, 2.0), abs=1e-9)
    assert (row["mag_g"], row["mag_r"]) == pytest.approx((22.0, 19.5), abs=1e-3)
    assert (row["class"], row["image_id"]) == ("star", 3)
    assert row["area"] == mask.sum()


def test_shape_is_that_of_the_ellipse() -> None:
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    angle = np.radians(30)
    u = (xx - 40) * np.cos(angle) + (yy - 30) * np.sin(angle)
    v = (yy - 30) * np.cos(angle) - (xx - 40) * np.sin(angle)
    mask = (u / 20) ** 2 + (v / 8) ** 2 <= 1
    row = catalog(mask, np.zeros((2, *SHAPE), np.float32))[0]
    # A uniform ellipse's second moment along an axis is a quarter of the axis squared; a
    # mask of whole pixels has it to a twentieth of one.
    assert (row["a"], row["b"]) == pytest.approx((10, 4), abs=0.05)
    assert row["theta"] == pytest.approx(30, abs=0.5)
    assert (row["x"], row["y"]) == pytest.approx((40, 30), abs=0.01)  # no light: the mask's
    assert np.isnan(row["ra"])


@pytest.mark.parametrize("suffix", [".fits", ".parquet"])
def test_catalogs_of_images_are_written_as_one(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    mask = np.zeros(SHAPE, np.bool_)
    mask[3:6, 4:8] = True
    table = catalog(mask, np.ones((2, *SHAPE), np.float32), zeropoint=(27.0, np.nan))
    assert check_format(suffix[1:]) == suffix
    write_catalog(tmp_path / f"c{suffix}", [table, table[:0], table])
    if suffix == ".fits":
        found = Table.read(tmp_path / "c.fits")
        assert str(found["ra"].unit) == "deg"
    else:
        from pyarrow import parquet

        found = Table(parquet.read_table(tmp_path / "c.parquet").to_pydict())
    assert len(found) == 2
    assert set(found.colnames) == set(table.colnames)
    assert list(found["area"]) == [12, 12]


def test_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="use fits or parquet"):
        check_format("csv")


FRAMES = {
    "galactic": ("GLON-TAN", "GLAT-TAN"),
    "barycentricmeanecliptic": ("ELON-TAN", "ELAT-TAN"),
    "supergalactic": ("SLON-TAN", "SLAT-TAN"),
}


@pytest.mark.parametrize("frame", ["swapped", *FRAMES])
def test_positions_are_icrs_whatever_the_axes(frame: str) -> None:
    expected = SkyCoord(150.0, 2.0, unit="deg")
    cards = dict(CARDS)
    if frame == "swapped":
        cards |= {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0}
        cards |= {"CD1_1": 1e-4, "CD2_2": -1e-4}
    else:
        there = expected.transform_to(frame).spherical
        cards |= dict(zip(("CTYPE1", "CTYPE2"), FRAMES[frame], strict=True))
        cards |= {"CRVAL1": there.lon.deg, "CRVAL2": there.lat.deg}
    mask = np.zeros(SHAPE, np.bool_)
    mask[20, 30] = True
    row = catalog(mask, np.ones((2, *SHAPE), np.float32), wcs=cards)[0]
    assert (row["ra"], row["dec"]) == pytest.approx((150.0, 2.0), abs=1e-9)


def test_cards_whose_numbers_are_text_count() -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[20, 30] = True
    row = catalog(mask, np.ones((2, *SHAPE), np.float32), wcs=CARDS | {"CRVAL1": "150.0"})[0]
    assert (row["ra"], row["dec"]) == pytest.approx((150.0, 2.0), abs=1e-9)


@pytest.mark.parametrize("kind", ["TAN", "TPV"])
@pytest.mark.parametrize("first", [{"PV1_1": 1.0, "PV2_1": 1.0}, {}], ids=["whole", "defaults"])
def test_polynomials_of_scamp_are_read_whatever_the_projection_is_called(
    kind: str, first: dict[str, float]
) -> None:
    # PV1_2 is another pole to the standard; PV1_1 is 1 where it is absent.
    mask = np.zeros(SHAPE, np.bool_)
    mask[40, 60] = True
    cards = CARDS | {"CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}"}
    cards |= {"PV1_0": 0.0, "PV1_2": 0.0, "PV2_0": 0.0, "PV2_2": 0.0} | first
    row = catalog(mask, np.ones((2, *SHAPE), np.float32), wcs=cards)[0]
    plain = catalog(mask, np.ones((2, *SHAPE), np.float32), wcs=CARDS)[0]
    assert (row["ra"], row["dec"]) == pytest.approx((plain["ra"], plain["dec"]), abs=1e-9)


@pytest.mark.parametrize("cards", [{"CTYPE2": "RA---TAN"}, {"CRVAL1": "unknown"}])
def test_a_wcs_that_cannot_be_used_leaves_positions_unknown(
    cards: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[20, 30] = True
    cards = CARDS | cards
    row = catalog(mask, np.ones((2, *SHAPE), np.float32), wcs=cards)[0]
    assert np.isnan(row["ra"])
    assert "its WCS cannot be used" in caplog.text


def test_text_beyond_ascii_is_escaped_in_fits(tmp_path: Path) -> None:
    table = Table({"image": ["gal\u00e1xia"], "x": [1.0]})
    write_catalog(tmp_path / "c.fits", [table])
    assert Table.read(tmp_path / "c.fits")["image"][0] == "gal\\xe1xia"


def test_a_catalog_has_the_probability_of_every_class() -> None:
    record = ImageRecord(3, "a.fits", (Path("a.fits"),), *SHAPE)
    prediction = Prediction(
        np.array([[1, 1, 3, 3]], np.float32),
        np.array([0.7], np.float32),
        np.array([1]),
        (encode_at(np.ones((2, 2), bool), (1, 1), SHAPE),),
        np.array([[0.2, 0.7]], np.float32),
    )
    table = image_catalog(
        record, prediction, lambda *_: np.ones((1, 2, 2), np.float32), "g", (), ("galaxy", "star")
    )
    assert (table["prob_galaxy"][0], table["prob_star"][0]) == pytest.approx((0.2, 0.7))
