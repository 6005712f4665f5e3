import numpy as np
import pytest
from astropy.io import fits
from fits_files import SIGMA, gaussian, scene, tan_wcs, write_calexp, write_plain

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io.files import check
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.layer_pixels import read_mask
from astrolabel.io.layers import find_layers, read_origin, read_zeropoint
from astrolabel.prepare import read


def read_one(inputs, box=None):
    (files,) = find_coadds(inputs)
    check(files)
    return read.read(files, read.characterise(files), box)


def hsc(folder, bands="gri", **options):
    image, positions = scene()
    for band in bands:
        write_calexp(folder, band, image, **options)
    return image, positions


@pytest.mark.parametrize("tree", [False, True])
def test_hsc_coadds_are_found_flat_and_in_the_deepcoadd_tree(tmp_path, tree):
    image, _ = scene()
    for band in "gri":
        folder = tmp_path / f"deepCoadd-results/HSC-{band.upper()}/9813/4,5" if tree else tmp_path
        write_calexp(folder, band, image)
    coadd = read_one(Inputs((tmp_path,)))
    assert coadd.bands == ("g", "r", "i")
    assert (coadd.name, coadd.tract, coadd.patch) == ("9813-4,5", "9813", "4,5")
    np.testing.assert_array_equal(coadd.image[2], image)
    assert coadd.image.dtype == np.float32
    assert coadd.image.dtype.isnative
    assert coadd.zeropoints == (27.0, 27.0, 27.0)


def test_layers_without_exttype_are_told_by_the_mp_cards(tmp_path):
    hsc(tmp_path, "i", exttype=False)
    (layers,) = find_layers(tmp_path / "calexp-HSC-I-9813-4,5.fits")
    assert (layers.image, layers.mask, layers.variance) == (1, 2, 3)


def test_tile_compressed_planes_are_read(tmp_path):
    image, _ = hsc(tmp_path, "i", compress=True)
    coadd = read_one(Inputs((tmp_path,)), Box(10, 20, 30, 40))
    # Floats are compressed with loss by default: to a quarter of the noise.
    np.testing.assert_allclose(coadd.image[0], image[10:40, 20:60], atol=SIGMA / 2)


def test_a_part_is_the_whole_cut(tmp_path):
    hsc(tmp_path, origin=(4200, 8400))
    whole = read_one(Inputs((tmp_path,)))
    part = read_one(Inputs((tmp_path,)), Box(30, 40, 50, 60))
    np.testing.assert_array_equal(part.image, whole.image[:, 30:80, 40:100])
    assert whole.origin == (4200, 8400)
    assert part.origin == (4230, 8440)
    np.testing.assert_allclose(part.world(5, 6), whole.world(35, 46), rtol=1e-12)


def test_no_data_is_read_at_the_bit_the_header_gives(tmp_path):
    image, _ = scene()
    for band, bit in (("g", 8), ("r", 9)):
        mask = np.zeros(image.shape, np.int32)
        mask[:10] = 1 << bit
        other = {8: 9, 9: 8}[bit]
        mask[20:30] = 1 << other
        planes = {"BAD": 0, "SAT": 1, "NO_DATA": bit, "DETECTED": other}
        write_calexp(tmp_path, band, image, planes=planes, mask=mask)
    coadd = read_one(Inputs((tmp_path,)))
    missing = coadd.plane("NO_DATA")
    for k in range(2):
        assert missing[k, :10].all()
        assert not missing[k, 10:].any()
    assert not coadd.valid[:, :10].any()
    assert coadd.valid[:, 20:30].all()


def test_the_flux_of_magnitude_zero_gives_the_zero_point(tmp_path):
    image, _ = scene()
    path = write_calexp(tmp_path, "i", image, fluxmag0=10 ** (0.4 * 26.5))
    (layers,) = find_layers(path)
    assert read_zeropoint(layers).value == pytest.approx(26.5)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"MAGZERO": 30.0}, 30.0),
        ({"BUNIT": "nanomaggy"}, 22.5),
        ({"BUNIT": "nJy"}, 31.4),
        ({"SURVEY": "DECaLS"}, 22.5),
        ({}, None),
    ],
)
def test_zero_points_of_other_surveys(tmp_path, cards, expected):
    path = write_plain(tmp_path / "a.fits", np.zeros((9, 9), np.float32), **cards)
    assert read_zeropoint(find_layers(path)[0]).value == expected


def test_the_alternate_wcs_gives_the_tract_origin_without_ltv(tmp_path):
    path = write_plain(
        tmp_path / "a.fits", np.zeros((9, 9), np.float32),
        CRVAL1A=8400.0, CRVAL2A=4200.0, CRPIX1A=1.0, CRPIX2A=1.0,
    )  # fmt: skip
    assert read_origin(find_layers(path)[0]) == (4200, 8400)


def test_plain_images_get_what_they_lack_and_say_so(tmp_path):
    image, _ = scene((160, 200), n=20)
    wcs = tan_wcs(image.shape)
    files = tuple(((b,), write_plain(tmp_path / f"{b}.fits", image + 3, wcs)) for b in "gz")
    coadd = read_one(Inputs(band_files=files))
    sigma = np.sqrt(np.median(coadd.variance))
    assert sigma == pytest.approx(SIGMA, rel=0.05)
    assert abs(np.median(coadd.image)) < SIGMA  # the pedestal of 3 counts has gone
    assert np.isnan(coadd.zeropoints).all()
    assert {"psf", "noise", "zeropoint", "mask"} <= {n.kind for n in coadd.notes if n.band == "g"}


def test_flat_tops_of_images_without_a_mask_are_saturated(tmp_path):
    image, _ = scene((160, 200), n=12)
    image[80:90, 100:110] += gaussian((10, 10), 4.6, 5.2, SIGMA * 2e4).astype(np.float32)
    level = 200 * SIGMA
    path = write_plain(tmp_path / "g.fits", np.minimum(image, level))
    coadd = read_one(Inputs(band_files=((("g",), path),)))
    saturated = coadd.plane("SAT")[0]
    assert saturated[85, 105]
    assert not saturated[image < 0.5 * level].any()
    assert coadd.valid[0, 85, 105]


def test_a_cube_gives_the_planes_that_are_asked_for(tmp_path):
    cube = np.stack([scene(seed=k)[0] for k in range(5)])
    path = write_plain(tmp_path / "cube.fits", cube)
    coadd = read_one(Inputs(bands=("i", "g"), band_files=((tuple("grizy"), path),)))
    assert coadd.bands == ("i", "g")
    level = cube[2] - coadd.image[0]  # only a smooth sky level is taken off
    assert np.ptp(level) < SIGMA


def test_one_band_is_enough(tmp_path):
    image, _ = scene()
    coadd = read_one(Inputs(band_files=((("i",), write_plain(tmp_path / "i.fits", image)),)))
    assert coadd.image.shape == (1, *image.shape)
    assert coadd.wcs is None


def test_separate_variance_mask_and_psf_files_are_used(tmp_path):
    image, _ = scene()
    stamp = psf.moffat(4.0, size=21)
    bad = np.zeros(image.shape, np.int16)
    bad[:5] = 3
    inputs = Inputs(
        band_files=((("i",), write_plain(tmp_path / "i.fits", image)),),
        variance={"*": write_plain(tmp_path / "v.fits", np.full_like(image, SIGMA**2))},
        mask={"i": write_plain(tmp_path / "m.fits", bad)},
        psf={"i": write_plain(tmp_path / "p.fits", stamp * 7)},
        zeropoints={"*": 25.0},
    )
    coadd = read_one(inputs)
    assert (coadd.variance == np.float32(SIGMA**2)).all()
    assert not coadd.valid[0, :5].any()
    assert coadd.valid[0, 5:].all()
    np.testing.assert_allclose(coadd.psfs[0], stamp, rtol=1e-5)
    assert coadd.zeropoints == (25.0,)


def test_inverse_variance_in_the_file_becomes_variance(tmp_path):
    image, _ = scene()
    weight = np.full(image.shape, SIGMA**-2, np.float32)
    weight[0] = 0
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI"), fits.ImageHDU(weight, name="WHT")]
    fits.HDUList(hdus).writeto(tmp_path / "i.fits")
    coadd = read_one(Inputs(band_files=((("i",), tmp_path / "i.fits"),)))
    np.testing.assert_allclose(coadd.variance[0, 1:], SIGMA**2, rtol=1e-6)
    assert not coadd.valid[0, 0].any()


def test_stamps_beside_the_coadds_are_taken(tmp_path):
    hsc(tmp_path)
    for band in "gri":
        write_plain(tmp_path / f"psf-calexp-HSC-{band.upper()}-9813-4,5.fits", psf.moffat(4.4))
    coadd = read_one(Inputs((tmp_path,)))
    assert psf.fwhm_px(coadd.psfs[0]) == pytest.approx(4.4, rel=0.03)
    assert any(str(note).startswith("i psf: read from") for note in coadd.notes)


# What is wrong is said with the file and the remedy.


def test_a_missing_band_is_named(tmp_path):
    hsc(tmp_path, "gr")
    with pytest.raises(InputError, match=r"9813 patch 4,5 has no i band.*fetch it"):
        find_coadds(Inputs((tmp_path,), bands=("g", "r", "i")))


def test_bands_of_different_shape_are_refused(tmp_path):
    image, _ = scene()
    write_calexp(tmp_path, "g", image)
    write_calexp(tmp_path, "r", image[:-1])
    (files,) = find_coadds(Inputs((tmp_path,)))
    with pytest.raises(InputError, match=r"HSC-R.*127x160.*128x160"):
        check(files)


def test_bands_of_different_wcs_are_refused(tmp_path):
    image, _ = scene()
    write_calexp(tmp_path, "g", image)
    write_calexp(tmp_path, "r", image, wcs=tan_wcs(image.shape, ra=150.1002))
    (files,) = find_coadds(Inputs((tmp_path,)))
    with pytest.raises(InputError, match=r"HSC-R.*pixels off that of calexp-HSC-G"):
        check(files)


@pytest.mark.parametrize("length", [0, 100, 3000, 30000])
def test_a_truncated_file_is_named(tmp_path, length):
    path = write_calexp(tmp_path, "i", scene()[0])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"calexp-HSC-I-9813-4,5\.fits"):
        read_one(Inputs((tmp_path,)))


def test_a_file_that_is_not_fits_is_named(tmp_path):
    (tmp_path / "a.fits").write_text("<html>401 Unauthorized</html>")
    with pytest.raises(InputError, match=r"a\.fits: not a readable FITS file"):
        find_coadds(Inputs(band_files=((("g",), tmp_path / "a.fits"),)))


def test_a_folder_without_coadds_says_how_to_give_others(tmp_path):
    with pytest.raises(InputError, match="--band g=FILE"):
        find_coadds(Inputs((tmp_path,)))


def test_two_files_of_one_band_are_refused(tmp_path):
    hsc(tmp_path / "a", "i")
    hsc(tmp_path / "b", "i")
    with pytest.raises(InputError, match="a second i-band file"):
        find_coadds(Inputs((tmp_path,)))


def test_an_option_for_a_band_that_is_not_used_is_refused(tmp_path):
    hsc(tmp_path, "i")
    with pytest.raises(InputError, match="names the band z"):
        find_coadds(Inputs((tmp_path,), zeropoints={"z": 27.0}))


# Real pixels.


def test_the_real_maskedimage_has_no_data_at_bit_9(real_data):
    path = real_data / "hsc_ccd_maskedimage.fits"
    (layers,) = find_layers(path)
    assert (layers.image, layers.mask, layers.variance) == (1, 2, 3)
    bits, planes = read_mask(layers, Box.of_shape(layers.shape))
    assert planes["NO_DATA"] == 9
    with fits.open(path) as hdus:
        raw = np.asarray(hdus[2].data).astype(int)
    coadd = read_one(Inputs(band_files=((("i",), path),)))
    np.testing.assert_array_equal(coadd.plane("NO_DATA")[0], (raw & 512) != 0)
    np.testing.assert_array_equal(coadd.plane("SAT")[0], (raw & 2) != 0)
    np.testing.assert_array_equal(bits, raw)


def test_the_real_decals_cutouts_are_one_coadd(real_data):
    files = tuple(((b,), real_data / f"decals_dr7_{b}.fits") for b in "grz")
    coadd = read_one(Inputs(band_files=files))
    assert coadd.zeropoints == (22.5, 22.5, 22.5)
    assert coadd.pixel_scale_arcsec == pytest.approx(0.262, rel=1e-3)
    for stamp in coadd.psfs:  # DECaLS delivers 1.0 to 1.5 arcsec
        assert 0.9 < psf.fwhm_px(stamp) * 0.262 < 1.6
    # The two brightest stars, by eye; the elliptical and the fainter stars are not.
    y, x = np.nonzero(coadd.plane("SAT").any(axis=0))
    apart = np.array([np.hypot(y - 219, x - 11), np.hypot(y - 177, x - 334)])
    assert (apart.min(axis=0) < 13).all()
    assert ((apart < 3).sum(axis=1) > 10).all()
    assert any(n.band == "r" and "photon noise" in n.text for n in coadd.notes)


def test_a_mask_that_does_not_tell_what_is_saturated_gets_it_from_the_pixels(tmp_path):
    image, _ = scene((160, 200), n=12)
    image[80:90, 100:110] += gaussian((10, 10), 4.6, 5.2, SIGMA * 2e4).astype(np.float32)
    level = 200 * SIGMA
    bad = np.zeros(image.shape, np.int16)
    bad[10:14, 20:24] = 1
    bad[image > level] = 1  # a mask of what is bad for any reason
    path = write_plain(tmp_path / "g.fits", np.minimum(image, level))
    mask = write_plain(tmp_path / "mask.fits", bad)
    coadd = read_one(Inputs(band_files=((("g",), path),), mask={"g": mask}))
    assert coadd.plane("SAT")[0, 85, 105]
    assert not coadd.plane("SAT")[0, :40, :40].any()
    assert not coadd.valid[0, 85, 105]
    assert any(n.kind == "mask" and "saturated" in n.text for n in coadd.notes)
