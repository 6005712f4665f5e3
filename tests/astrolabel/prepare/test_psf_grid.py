"""PSFs that vary over a coadd: stamps by position."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from fits_files import gaussian, tan_wcs, write_calexp

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError
from astrolabel.deblend import make_deblender
from astrolabel.detect.image import detection_image
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.names import stamp_name
from astrolabel.label.tile import deblend
from astrolabel.prepare.read import characterise, read

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
    assert known.note("psf", "i") == "3 by position, read from psf.fits"
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
        ({"x": [1.0], "y": [1.0]}, "does not hold x and y of 3 stamps"),
        ({"a": [1.0, 2, 3], "y": [1.0, 2, 3]}, "does not hold x and y"),
        ({"x": [1.0, np.nan, 3], "y": [1.0, 2, 3]}, "finite"),
    ],
)
def test_positions_that_do_not_fit_their_stamps_are_refused(tmp_path, table, match) -> None:
    with pytest.raises(InputError, match=match):
        characterise(written(tmp_path, table))


def test_positions_without_a_cube_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no cube of PSF stamps"):
        characterise(written(tmp_path, cube=stamps()[0]))


# A folder of stamps, one file for each place.

PATCH = "9813-4,5"
WCS = tan_wcs(SHAPE, 0.168)


def place(x: float, y: float) -> tuple[float, float]:
    ra, dec = WCS.all_pix2world(x, y, 0)
    return float(ra), float(dec)


def stamp_file(folder, x, stamp, band="I", patch=PATCH, number=0, place_of=place):
    """A stamp as the PSF picker names it, in a subfolder as its tar has one."""
    ra, dec = place_of(x, 40.0)
    start = f"{number}-" if number else ""
    name = f"{start}psf-calexp-pdr3_dud-HSC-{band}-{patch}-{ra:.5f}-{dec:.5f}.fits"
    (folder / "arch-1").mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(stamp).writeto(folder / "arch-1" / name)
    return folder / "arch-1" / name


def picker_folder(folder):
    """Stamps of the band i at three places, of another band, patch and place beside it."""
    for number, (x, stamp) in enumerate(zip(PLACES["x"], stamps(), strict=True), start=2):
        stamp_file(folder, x, stamp, number=number)
    wrong = gaussian((43, 43), 21, 21, 1.0, 9.0).astype(np.float32)
    stamp_file(folder, 40.0, wrong, band="G")
    stamp_file(folder, 60.0, wrong, patch="9813-4,6")
    stamp_file(folder, 300.0, wrong)
    return folder


def coadd_of(folder, **inputs):
    image = folder / "in" / f"calexp-HSC-I-{PATCH}.fits"
    if not image.exists():
        write_calexp(folder / "in", "i", sky(), wcs=WCS)
    return find_coadds(Inputs((folder / "in",), **inputs))[0]


def test_a_folder_of_stamps_is_what_a_cube_with_positions_is(tmp_path) -> None:
    picker_folder(tmp_path / "stamps")
    files = coadd_of(tmp_path, psf={"*": tmp_path / "stamps"})
    known = characterise(files)
    assert known.note("psf", "i").startswith("3 by position, read from 2-psf-calexp-pdr3_dud-HSC-I")
    (tmp_path / "cube").mkdir()
    same = characterise(written(tmp_path / "cube"))
    np.testing.assert_array_equal(known.psfs, same.psfs)
    for grid, cube in zip(known.psf_grids, same.psf_grids, strict=True):
        np.testing.assert_array_equal(grid.stamps, cube.stamps)
        # Names tell five digits: 0.036 arcsec, 0.2 pixels.
        np.testing.assert_allclose(grid.positions, cube.positions, atol=0.2)
    # All that is read counts: an exchanged stamp makes other labels.
    assert {p.name for p in files.paths} >= {p.name for p in files.psf["i"]}
    assert len(files.psf["i"]) == 4


def test_the_pickers_stamps_beside_a_coadd_are_found(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for path in (picker_folder(tmp_path / "a") / "arch-1").iterdir():
        path.rename(tmp_path / "in" / path.name)
    known = characterise(coadd_of(tmp_path))
    assert len(known.psf_grids[0].stamps) == 3
    # One for the whole coadd, by its name, goes before them.
    fits.PrimaryHDU(stamps()[0]).writeto(tmp_path / "in" / f"psf-calexp-HSC-I-{PATCH}.fits")
    known = characterise(coadd_of(tmp_path))
    assert known.note("psf", "i") == f"read from psf-calexp-HSC-I-{PATCH}.fits"
    assert known.psf_grids == ()


def test_stamps_of_other_names_tell_their_place_in_their_header(tmp_path) -> None:
    for x, stamp in zip(PLACES["x"], stamps(), strict=True):
        hdu = fits.ImageHDU(stamp)
        hdu.header["RA"], hdu.header["DEC"] = place(x, 40.0)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / f"{x:.0f}.fits")
    known = characterise(coadd_of(tmp_path / "sky", psf={"i": tmp_path}))
    expected = np.stack([PLACES["y"], PLACES["x"]], axis=1)
    found = known.psf_grids[0].positions
    np.testing.assert_allclose(found[np.argsort(found[:, 1])], expected, atol=1e-6)
    with pytest.raises(InputError, match=r"no PSF stamp of band i.*--psf i=FOLDER"):
        coadd_of(tmp_path / "sky", psf={"*": tmp_path})


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("2-psf-calexp-pdr2_dud-HSC-I-9813-4,6-150.17282-2.60907.fits", (150.17282, 2.60907)),
        ("psf-calexp-s19a_wide-HSC-I2-9813-4,6-34.96731--4.15553.fits", (34.96731, -4.15553)),
        ("3_psf_coadd_34.96731_-4.15553_9813_4,6_HSC-I.fits", (34.96731, -4.15553)),
        ("psf-calexp-pdr3_dud-NB0387-9813-4,6-150.1-2.2.fits", (150.1, 2.2)),
    ],
)
def test_names_of_the_picker_tell_band_patch_and_place(tmp_path, name, place) -> None:
    told = stamp_name(tmp_path / name)
    assert (told.ra, told.dec) == place
    assert (told.band, told.tract, told.patch) == ("nb0387" if "NB" in name else "i", "9813", "4,6")
    assert stamp_name(tmp_path / "psf-calexp-HSC-I-9813-4,6.fits") is None


def test_stamps_that_are_of_no_use_are_refused(tmp_path) -> None:
    folder = tmp_path / "stamps"
    (folder / "arch-1").mkdir(parents=True)
    with pytest.raises(InputError, match="no PSF stamp of band i of tract 9813 patch 4,5"):
        coadd_of(tmp_path, psf={"*": folder})
    for x in (300.0, 400.0):
        stamp_file(folder, x, stamps()[0])
    with pytest.raises(InputError, match="lie beside the coadd, none on it"):
        characterise(coadd_of(tmp_path, psf={"*": folder}))
    fits.PrimaryHDU(stamps()[0]).writeto(folder / "odd.fits")
    with pytest.raises(InputError, match=r"odd\.fits.*neither its name nor cards RA and DEC"):
        characterise(coadd_of(tmp_path, psf={"i": folder}))
    (folder / "odd.fits").unlink()
    stamp_file(folder, 40.0, stamps())
    with pytest.raises(InputError, match="0 images where one PSF stamp is wanted"):
        characterise(coadd_of(tmp_path, psf={"*": folder}))
    files = written(tmp_path)  # without a WCS
    paths = tuple((folder / "arch-1").iterdir())
    with pytest.raises(InputError, match="the coadd has no WCS"):
        characterise(dataclasses.replace(files, psf={"i": paths}))
