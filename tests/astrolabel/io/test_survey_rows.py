"""Every row of the registry of surveys, read from tiny files in that survey's layout."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from fits_files import tan_wcs

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs
from astrolabel.core.errors import InputError
from astrolabel.io import layer_pixels, layers, surveys
from astrolabel.io.find import Inputs, find_coadds

SHAPE = (6, 8)
SIGMA = 0.25
FLUX = np.arange(48, dtype=np.float64).reshape(SHAPE) / 8
BOX = Box.of_shape(SHAPE)
SKY = tan_wcs(SHAPE, scale_arcsec=1.0)
PIXEL_SR = np.radians(1 / 3600) ** 2
MEGAJANSKY_PER_SR = 8.9 - 2.5 * np.log10(1e6 * PIXEL_SR)
MP = {"MP_BAD": 0, "MP_SAT": 1, "HIERARCH MP_NO_DATA": 9}
LSST = [("IMAGE", "flux", {}), ("MASK", "mask", MP), ("VARIANCE", "variance", {})]
PS1 = {"BSOFTEN": 2.5, "BOFFSET": 0.75, "EXPTIME": 40.0}


@dataclass(frozen=True)
class Case:
    """A survey's files of one band and what is right of them.

    Attributes
    ----------
    files : by file name its HDUs: (EXTNAME, what it holds, cards). The first is the image's.
    cards : of the first header of every file.
    zeropoint : AB magnitude of one count.
    noise : how the noise plane is to be read; empty for none.
    mask : value of the mask's pixel (1, 2), and the planes that must be set there.
    """

    files: dict[str, list[tuple[str, str, dict[str, Any]]]]
    zeropoint: float
    noise: str = ""
    cards: dict[str, Any] = field(default_factory=dict)
    mask: tuple[int, set[str]] | None = None


def one(what, **cards):
    return [("", what, cards)]


CASES = {
    "hsc": Case({"calexp-HSC-I-9813-4,5.fits": LSST}, 27.0, "variance", mask=(512, {"NO_DATA"})),
    "lsst": Case({"deep_coadd_5063_14_i.fits": LSST}, 31.4, "variance", mask=(2, {"SAT"})),
    "decam-cp": Case(
        {"c4d_160102_030405_ooi_z_v1.fits": [("N4", "flux", {"MAGZERO": 30.3})],
         "c4d_160102_030405_oow_z_v1.fits": [("N4", "inverse", {})],
         "c4d_160102_030405_ood_z_v1.fits": [("N4", "mask", {})]},
        30.3, "weight", {"INSTRUME": "DECam", "PLVER": "V3.9"}, (5, {"COSMIC_RAY"}),
    ),
    "des": Case(
        {"DES0219-0541_r2590p01_i.fits": [
            ("SCI", "flux", {}), ("MSK", "mask", {}), ("WGT", "inverse", {})]},
        30.0, "inverse", mask=(2, {"SAT"}),
    ),
    "decals": Case(
        {"legacysurvey-1500p020-image-g.fits": one("flux"),
         "legacysurvey-1500p020-invvar-g.fits": one("inverse"),
         "legacysurvey-1500p020-maskbits.fits": one("mask")},
        22.5, "inverse", {"LEGPIPEV": "DR9.6"}, (2, {"BRIGHT_OBJECT"}),
    ),
    "panstarrs": Case(
        {"rings.v3.skycell.1784.059.stk.i.unconv.fits": one("asinh flux", **PS1),
         "rings.v3.skycell.1784.059.stk.i.unconv.wt.fits": one("asinh variance", **PS1),
         "rings.v3.skycell.1784.059.stk.i.unconv.mask.fits": one("mask")},
        25 + 2.5 * np.log10(40), "variance", mask=(0x20, {"SAT"}),
    ),
    "sdss": Case(
        {"frame-r-004263-5-0260.fits": one("flux", BUNIT="nanomaggy")},
        22.5, "", {"TELESCOP": "2.5m", "CAMCOL": 5},
    ),
    "kids": Case(
        {"KiDS_DR4.1_150.1_2.2_r_sci.fits": one("flux"),
         "KiDS_DR4.1_150.1_2.2_r_wei.fits": one("inverse"),
         "KiDS_DR4.1_150.1_2.2_r_msk.fits": one("mask")},
        0.0, "weight", mask=(64, {"BAD"}),
    ),
    "hst": Case(
        {"hst_acs_wfc_f814w_drz.fits": [
            ("SCI", "flux", {"BUNIT": "ELECTRONS/S", "PHOTFLAM": 7.03e-20, "PHOTPLAM": 8045.0}),
            ("WHT", "inverse", {}), ("CTX", "mask", {})]},
        25.95, "weight", {"TELESCOP": "HST"},
    ),
    "jwst": Case(
        {"jw01234-o001_t001_nircam_clear-f200w_i2d.fits": [
            ("SCI", "flux", {"BUNIT": "MJy/sr", "PIXAR_SR": PIXEL_SR}), ("ERR", "sigma", {}),
            ("CON", "mask", {}), ("WHT", "seconds", {})]},
        MEGAJANSKY_PER_SR, "rms", {"TELESCOP": "JWST"},
    ),
    "euclid": Case(
        {"EUC_MER_BGSUB-MOSAIC-VIS_TILE102018211-A.fits": one("flux", MAGZERO=24.5),
         "EUC_MER_MOSAIC-VIS-RMS_TILE102018211-A.fits": one("sigma"),
         "EUC_MER_MOSAIC-VIS-FLAG_TILE102018211-A.fits": one("mask")},
        24.5, "rms", mask=(1, {"BAD"}),
    ),
    "roman": Case(
        {"Roman_WAS_F158_mosaic.fits": [
            ("SCI", "flux", {"BUNIT": "MJy/sr"}), ("ERR", "sigma", {}), ("DQ", "mask", {})]},
        MEGAJANSKY_PER_SR, "rms", {"TELESCOP": "ROMAN"}, (1, {"BAD"}),
    ),
    "ztf": Case(
        {"ztf_000123_zr_c01_q1_refimg.fits": one("flux", MAGZP=26.3),
         "ztf_000123_zr_c01_q1_refunc.fits": one("sigma"),
         "ztf_000123_zr_c01_q1_mskimg.fits": one("mask")},
        26.3, "rms", {"INSTRUME": "ZTF/MOSAIC"}, (256, {"SAT"}),
    ),
    "ukidss": Case(
        {"w20050101_00001_st.fits": [("", "flux", {"MAGZPT": 24.0})],
         "w20050101_00001_st_conf.fits": [("", "inverse", {})]},
        24.0 + 2.5 + 0.938, "weight", {"INSTRUME": "WFCAM", "FILTER": "J", "EXP_TIME": 10.0},
    ),
    "vista": Case(
        {"v20100101_00001_st_tl.fits": [("", "flux", {"MAGZPT": 23.5})],
         "v20100101_00001_st_tl_conf.fits": [("", "inverse", {})]},
        23.5 + 2.5 + 1.827, "weight",
        {"INSTRUME": "VIRCAM", "HIERARCH ESO INS FILT1 NAME": "Ks", "EXPTIME": 10.0},
    ),
    "cfht": Case(
        {"MegaPipe.371.128.G.MP9401.fits": one("flux", PHOTZP=30.0),
         "MegaPipe.371.128.G.MP9401.weight.fits": one("inverse")},
        30.0, "weight", {"INSTRUME": "MegaPrime"},
    ),
    "spitzer": Case(
        {"SPITZER_I1_12345_0000_2_E123_maic.fits": one("flux", BUNIT="MJy/sr"),
         "SPITZER_I1_12345_0000_2_E123_munc.fits": one("sigma", BUNIT="MJy/sr")},
        MEGAJANSKY_PER_SR, "rms", {"TELESCOP": "Spitzer"},
    ),
    "wise": Case(
        {"unwise-1500p015-w1-img-m.fits": one("flux", BAND=1, MAGZP=22.5),
         "unwise-1500p015-w1-invvar-m.fits": one("inverse", BAND=1, MAGZP=22.5)},
        22.5 + 2.699, "inverse", {"TELESCOP": "WISE"},
    ),
    "galex": Case(
        {"MISDR1_12345_0001-nd-int.fits": one("flux", BAND=1)}, 20.08, "", {"TELESCOP": "GALEX"}
    ),
}  # fmt: skip


def pixels(what, mask_value):
    """What a plane holds, as the survey writes it."""
    if what == "mask":
        values = np.zeros(SHAPE, np.int32)
        values[1, 2] = mask_value
        return values
    full = {"variance": SIGMA**2, "sigma": SIGMA, "inverse": SIGMA**-2, "seconds": 900.0}
    name = what.removeprefix("asinh ")
    flux = FLUX if name == "flux" else np.full(SHAPE, full[name])
    if what != name:  # x = v / 1.0857362, flux = BOFFSET + BSOFTEN (e^x - e^-x)
        flux = np.arcsinh((flux - PS1["BOFFSET"]) / (2 * PS1["BSOFTEN"])) * 1.0857362
    return flux.astype(np.float32)


def write(folder, case):
    """The files of a case; (image, noise, mask), None for what has no file of its own."""
    paths = {}
    for name, planes in case.files.items():
        primary = fits.PrimaryHDU()
        primary.header.update(case.cards)
        hdus = [primary]
        for extname, what, cards in planes:
            header = SKY.to_header()
            header.update(cards)
            value = 0 if case.mask is None else case.mask[0]
            hdus.append(fits.ImageHDU(pixels(what, value), header, name=extname or None))
        fits.HDUList(hdus).writeto(folder / name)
        paths[planes[0][1].removeprefix("asinh ")] = folder / name
    noise = next((paths[w] for w in ("variance", "sigma", "inverse") if w in paths), None)
    return paths["flux"], noise, paths.get("mask")


def test_every_row_has_a_file():
    assert set(CASES) == set(surveys.BY_KEY)


@pytest.mark.parametrize("key", CASES)
def test_files_in_a_surveys_layout_are_read_as_it_means_them(tmp_path, key):
    case = CASES[key]
    image, noise, mask = write(tmp_path, case)
    extra = {name: {"*": path} for name, path in (("variance", noise), ("mask", mask)) if path}
    named = {"paths": (image,)} if key in ("hsc", "lsst") else {"band_files": ((("i",), image),)}
    (files,) = find_coadds(Inputs(**named, **extra))
    (layer,) = files.layers
    assert layer.survey == key
    np.testing.assert_allclose(layer_pixels.read_image(layer, BOX), FLUX, rtol=1e-5, atol=1e-5)
    assert layers.read_zeropoint(layer).value == pytest.approx(case.zeropoint, abs=0.01)

    given = files.variance.get("i", layer)
    variance = layer_pixels.read_variance(given, BOX)
    if case.noise:
        assert given.noise == case.noise
        np.testing.assert_allclose(variance, SIGMA**2, rtol=1e-4)
    else:
        assert variance is None

    found = layer_pixels.read_mask(files.mask.get("i", layer), BOX)
    if case.mask is None:
        assert found is None
    else:
        bits, planes = found
        at = {name for name, bit in planes.items() if bits[1, 2] >> bit & 1}
        assert at == case.mask[1]
        bits[1, 2] = 0
        assert not bits.any()

    where = np.ravel(to_icrs(layers.read_wcs(layer), 3, 2))
    np.testing.assert_allclose(where, np.ravel(WCS.wcs_pix2world(SKY, 3, 2, 0)), atol=1e-9)


def plain(path, *extensions, **cards):
    hdus = [fits.ImageHDU(pixels("flux", 0), SKY.to_header(), name=n) for n in extensions]
    for k, hdu in enumerate(hdus):
        hdu.ver = k + 1
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    with fits.open(path, mode="update") as opened:
        opened[0].header.update(cards)
    return path


def test_files_to_be_looked_at_need_no_band_names(tmp_path):
    one_ = plain(tmp_path / "a.fits", "SCI", FILTER="F814W")
    cube = tmp_path / "b.fits"
    fits.PrimaryHDU(np.zeros((3, *SHAPE), np.float32)).writeto(cube)
    bad = tmp_path / "c.fits"
    bad.write_bytes(b"no image")
    problems = []
    found = find_coadds(Inputs((one_, cube, bad)), problems, unnamed=True)
    assert [(f.name, f.bands) for f in found] == [("a", ("f814w",)), ("b", ("1", "2", "3"))]
    assert [p.file for p in problems] == [str(bad)]


def test_a_single_image_needs_no_band_name(tmp_path):
    one_, other = (plain(tmp_path / f"{n}.fits", "SCI", FILTER="F814W") for n in "ab")
    (found,) = find_coadds(Inputs((one_,)))
    assert found.bands == ("f814w",)
    fits.PrimaryHDU(np.zeros(SHAPE, np.float32)).writeto(tmp_path / "bare.fits")
    (found,) = find_coadds(Inputs((tmp_path / "bare.fits",)))
    assert found.bands == ("1",)
    with pytest.raises(InputError, match="--bands names 0"):
        find_coadds(Inputs((one_, other)))  # bands of one coadd, or coadds?
    fits.PrimaryHDU(np.zeros((3, *SHAPE), np.float32)).writeto(tmp_path / "cube.fits")
    with pytest.raises(InputError, match="--bands names 0"):
        find_coadds(Inputs((tmp_path / "cube.fits",)))


def test_every_image_of_a_file_is_a_coadd_also_without_band_options(tmp_path):
    path = plain(tmp_path / "flc.fits", "SCI", "SCI")
    found = find_coadds(Inputs((path,), bands=("i",)))
    assert [f.name for f in found] == ["flc-image1", "flc-image2"]
    assert [f.layers[0].image for f in found] == [1, 2]


def test_named_noise_is_read_and_not_what_lies_behind_the_mask(tmp_path):
    path = tmp_path / "r.fits"
    planes = [
        fits.PrimaryHDU(pixels("flux", 0), SKY.to_header()),
        fits.ImageHDU(np.full(SHAPE, 1 / SIGMA**2, np.float32), name="IVAR"),
        fits.ImageHDU(np.zeros(SHAPE, np.int32), name="MASK"),
        fits.ImageHDU(np.ones(SHAPE, np.float32), name="SKY"),
    ]
    fits.HDUList(planes).writeto(path)
    (found,) = layers.find_layers(path)
    assert (found.image, found.variance, found.noise, found.mask) == (0, 1, "inverse", 2)
    assert found.unread == 1
    np.testing.assert_allclose(layer_pixels.read_variance(found, BOX), SIGMA**2, rtol=1e-5)


def test_an_image_may_keep_the_cards_of_its_mask(tmp_path):
    header = SKY.to_header()
    header["MP_BAD"] = 0
    fits.PrimaryHDU(pixels("flux", 0), header).writeto(tmp_path / "r.fits")
    (found,) = layers.find_layers(tmp_path / "r.fits")
    assert (found.image, found.mask) == (0, None)
