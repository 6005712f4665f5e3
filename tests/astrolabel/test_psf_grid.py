"""PSFs that vary over a coadd: stamps by position."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from fits_files import gaussian

from astrolabel import psf
from astrolabel.box import Box
from astrolabel.coadd import Coadd
from astrolabel.config import LabelConfig
from astrolabel.deblend import make_deblender
from astrolabel.detect import detection_image
from astrolabel.errors import InputError
from astrolabel.label import deblend
from astrolabel.readers import characterise, read
from astrolabel.readers.find import Inputs, find_coadds

SHAPE = (80, 240)
PLACES = {"x": [40.0, 120.0, 200.0], "y": [40.0, 40.0, 40.0]}
WIDTHS = (3.4, 4.2, 5.4)
FLUX = 20.0
SIGMA = 0.02


def stamps() -> np.ndarray:
    return np.stack([gaussian((43, 43), 21, 21, 1.0, w) for w in WIDTHS]).astype(np.float32)


def sky() -> np.ndarray:
    """A star under each of the PSFs, on noise."""
    image = np.random.default_rng(5).normal(0, SIGMA, SHAPE)
    for y, x, width in zip(PLACES["y"], PLACES["x"], WIDTHS, strict=True):
        image += gaussian(SHAPE, y, x, FLUX, width)
    return image.astype(np.float32)


def written(folder, table=PLACES, cube=None):
    """Files of a coadd of one band and of its PSFs; the coadd as it is found."""
    cube = stamps() if cube is None else cube
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(cube), fits.table_to_hdu(Table(table))]
    hdus[-1].name = "POSITIONS"
    fits.HDUList(hdus).writeto(folder / "psf.fits")
    variance = fits.ImageHDU(np.full(SHAPE, SIGMA**2, np.float32), name="VARIANCE")
    image = fits.ImageHDU(sky(), name="IMAGE")
    fits.HDUList([fits.PrimaryHDU(), image, variance]).writeto(folder / "field_i.fits")
    inputs = Inputs((folder / "field_i.fits",), bands=("i",), psf={"i": folder / "psf.fits"})
    return find_coadds(inputs)[0]


def test_nearest_stamp_is_that_of_a_place_in_any_part_of_the_coadd(tmp_path) -> None:
    files = written(tmp_path)
    known = characterise(files)
    assert known.notes["psf_i"] == "3 by position, read from psf.fits"
    np.testing.assert_allclose(known.psfs[0], stamps()[1], atol=1e-6)  # the middle's
    part = read(files, known, Box(0, 100, 80, 140)).cutout(Box(0, 40, 80, 100))
    for x, nearest in ((-25, 1), (15, 1), (25, 2), (70, 2)):
        np.testing.assert_allclose(part.psfs_at(40, x)[0], stamps()[nearest], atol=1e-6)


def test_each_blend_is_fitted_under_the_psf_of_its_place(tmp_path) -> None:
    files = written(tmp_path)
    coadd = read(files, characterise(files))
    config = LabelConfig()
    detection = detection_image(coadd, config.detect)

    def fluxes(coadd: Coadd) -> np.ndarray:
        engine = make_deblender(config.deblend)
        sources = deblend(coadd, detection, Box.of_shape(SHAPE), config, engine)[0]
        assert [s.kind for s in sources if s.state == "ok"]
        return np.array([s.flux[0] for s in sorted(sources, key=lambda s: s.x)])

    np.testing.assert_allclose(fluxes(coadd), FLUX, rtol=0.03)


def test_stamps_are_padded_to_one_size() -> None:
    grid = psf.StampGrid(np.zeros((1, 2)), np.ones((1, 3, 3), np.float32) / 9)
    assert grid.padded(7).stamps.shape == (1, 7, 7)
    assert grid.padded(7).stamps[0, 2:5, 2:5].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"x": [1.0], "y": [1.0]}, "does not tell x and y of 3 stamps"),
        ({"a": [1.0, 2, 3], "y": [1.0, 2, 3]}, "does not tell x and y"),
        ({"x": [1.0, np.nan, 3], "y": [1.0, 2, 3]}, "finite"),
    ],
)
def test_positions_that_do_not_fit_their_stamps_are_refused(tmp_path, table, match) -> None:
    with pytest.raises(InputError, match=match):
        characterise(written(tmp_path, table))


def test_positions_without_a_cube_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no cube of PSF stamps"):
        characterise(written(tmp_path, cube=stamps()[0]))
