"""Files as HSC, LSST, Euclid and Roman write them."""

import gzip
import shutil

import numpy as np
import pytest
from astropy.io import fits
from fits_files import SIGMA, gaussian, scene, tan_wcs, write_calexp, write_plain

from astrolabel.cli.main import main
from astrolabel.core.errors import InputError
from astrolabel.datasets.manifest import read_manifest
from astrolabel.datasets.manifest_files import coadds_of
from astrolabel.io import coco
from astrolabel.io.files import check
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.layers import find_extra, find_layers, read_origin, read_zeropoint
from astrolabel.label.overlaps import Footprint, neighbours, owned
from astrolabel.prepare import read

LSST_PLANES = {
    "BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7, "NO_DATA": 8, "CLIPPED": 9, "REJECTED": 10, "SENSOR_EDGE": 11, "STREAK": 12,
    "UNMASKEDNAN": 13, "VIGNETTED": 14,
}  # fmt: skip
TRACT, INNER, BORDER = 300, 100, 20
"""Sides in pixels of a tract of 3x3 patches, and the overlap: patches reach BORDER beyond their
inner parts, but not beyond the tract, as in LSST's sky map."""


def read_one(inputs):
    (files,) = find_coadds(inputs)
    check(files)
    return read.read(files, read.characterise(files))


def sky(seed=3):
    """A tract's pixels in nJy, and where its stars are."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, SIGMA, (TRACT, TRACT))
    stars = [(y, x) for y in range(20, TRACT, 45) for x in range(20, TRACT, 45)]
    for y, x in stars:
        image += gaussian(image.shape, y, x, 200 * SIGMA * rng.uniform(1, 4))
    return image.astype(np.float32), stars


def patch_box(index):
    y, x = divmod(index, 3)
    low = [max(k * INNER - BORDER, 0) for k in (y, x)]
    high = [min((k + 1) * INNER + BORDER, TRACT) for k in (y, x)]
    return (low[0], low[1], high[0], high[1])


def write_lsst(path, tract_image, index, place="LTV", mask=None):
    """One band of an LSST `deep_coadd`: tile-compressed, archive tables behind the planes."""
    y0, x0, y1, x1 = patch_box(index)
    image = tract_image[y0:y1, x0:x1]
    wcs = tan_wcs((TRACT, TRACT), scale_arcsec=0.2, ra=53.1, dec=-28.1)
    wcs.wcs.crpix = wcs.wcs.crpix - [x0, y0]
    header = wcs.to_header()
    header["BUNIT"] = "nJy"
    if place == "LTV":
        header["LTV1"], header["LTV2"] = -float(x0), -float(y0)
    if place in ("LTV", "A"):
        for axis, value in ((1, x0), (2, y0)):
            header[f"CTYPE{axis}A"] = "LINEAR"
            header[f"CRPIX{axis}A"], header[f"CRVAL{axis}A"] = 1.0, float(value)
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    hdus = [fits.PrimaryHDU()]
    for name, data in (
        ("IMAGE", image), ("MASK", mask), ("VARIANCE", np.full_like(image, SIGMA**2)),
    ):  # fmt: skip
        how = {} if name == "MASK" else {"quantize_level": 100}
        hdu = fits.CompImageHDU(data, header.copy(), name=name, **how)
        hdu.header["EXTTYPE"] = name
        if name == "MASK":
            for plane, bit in LSST_PLANES.items():
                hdu.header[f"HIERARCH MP_{plane}"] = bit
        hdus.append(hdu)
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=[1.0])])
    table.header["EXTTYPE"] = "ARCHIVE_INDEX"
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([*hdus, table]).writeto(path)


@pytest.mark.parametrize(
    ("file", "name", "band"),
    [
        ("deep_coadd_5063_14_i.fits", "5063-14", "i"),
        ("deep_coadd_5063_14_i_lsst_cells_v1_LSSTComCam_runs_DRP_DP1_v29.fits", "5063-14", "i"),
        ("deepCoadd_calexp_3828_24_r_DC2_2_2i_runs_DP0_2_v23.fits.fz", "3828-24", "r"),
        ("deepCoadd_calexp_i_5063_14_skymap.fits", "5063-14", "i"),
        ("deepCoadd_9813_40_N921_hsc_rings_v1.fits", "9813-40", "n921"),
        ("calexp-i-3828-2,2.fits", "3828-2,2", "i"),
        ("calexp-HSC-I2-9813-4,5.fits.gz", "9813-4,5", "i"),
        ("calexp-HSC-NB0921-9813-4,5.fits.fz", "9813-4,5", "nb0921"),
    ],
)
def test_tract_patch_and_band_are_in_the_names(tmp_path, file, name, band):
    write_lsst(tmp_path / "a/deep/tree.fits", sky()[0], 4)
    path = tmp_path / "a/deep" / file
    if file.endswith("gz"):
        path.write_bytes(gzip.compress((tmp_path / "a/deep/tree.fits").read_bytes()))
    else:
        shutil.move(tmp_path / "a/deep/tree.fits", path)
    (found,) = find_coadds(Inputs((tmp_path,)))
    assert (found.name, found.bands) == (name, (band,))
    assert f"{found.tract}-{found.patch}" == name
    assert find_coadds(Inputs((path,))) == (found,)


@pytest.mark.parametrize(
    "file",
    [
        "deepCoadd_calexp_background_3828_24_r_run.fits",
        "deepCoadd_meas_3828_24_i_run.fits",
        "deep_coadd_5063_14.fits",
        "calexp-9813-4,5.fits",
        ".deep_coadd_5063_14_i.fits",
    ],
)
def test_other_files_of_the_butler_are_no_coadds(tmp_path, file):
    (tmp_path / file).write_bytes(b"something else")
    with pytest.raises(InputError, match="no HSC or LSST coadds"):
        find_coadds(Inputs((tmp_path,)))


def test_a_deep_coadd_is_read_with_its_own_planes_unit_and_place(tmp_path):
    image, _ = sky()
    y0, x0, y1, x1 = patch_box(5)
    mask = np.zeros((y1 - y0, x1 - x0), np.int32)
    for rows, plane in ((0, "NO_DATA"), (10, "SENSOR_EDGE"), (20, "SAT"), (30, "BAD")):
        mask[rows : rows + 5] = 1 << LSST_PLANES[plane]
    write_lsst(tmp_path / "deep_coadd_5063_5_i.fits", image, 5, mask=mask)
    coadd = read_one(Inputs((tmp_path,)))
    np.testing.assert_allclose(coadd.image[0], image[y0:y1, x0:x1], atol=SIGMA / 20)
    assert coadd.zeropoints == (31.4,)
    assert (coadd.tract, coadd.patch, coadd.origin) == ("5063", "5", (y0, x0))
    bad = ~coadd.valid[0].any(axis=1)
    assert np.flatnonzero(bad).tolist() == [0, 1, 2, 3, 4, 30, 31, 32, 33, 34]
    assert coadd.plane("SAT")[0, 20:25].all()
    tract = tan_wcs((TRACT, TRACT), scale_arcsec=0.2, ra=53.1, dec=-28.1)
    np.testing.assert_allclose(
        np.ravel(coadd.world(7, 9)), tract.all_pix2world(x0 + 9, y0 + 7, 0), rtol=1e-12
    )


@pytest.mark.parametrize("place", ["LTV", "A"])
def test_every_pixel_of_a_tract_belongs_to_one_of_its_patches(tmp_path, place):
    image, _ = sky()
    prints = []
    for index in range(9):
        path = tmp_path / f"deep_coadd_5063_{index}_i.fits"
        write_lsst(path, image, index, place)
        (files,) = find_coadds(Inputs((path,)))
        origin = read_origin(files.layers[0])
        assert origin == patch_box(index)[:2]
        prints.append(Footprint(files.name, files.shape, files.tract, origin))
    owners = np.zeros(image.shape, int)
    for one in prints:
        y, x = np.indices(one.shape).reshape(2, -1)
        mine = owned(one, neighbours(prints)[one.name], y, x).reshape(one.shape)
        owners[one.box.slices] += mine
    assert (owners == 1).all()


@pytest.mark.parametrize("place", ["LTV", "none"])
def test_a_star_on_two_patches_is_labelled_once(tmp_path, place):
    """Without an origin in the files the sky tells that patches overlap."""
    image, stars = sky()
    for index in (3, 4, 6, 7):
        write_lsst(tmp_path / f"in/deep_coadd_5063_{index}_i.fits", image, index, place)
    arguments = ["make-coco", str(tmp_path / "in"), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    document = coco.read(tmp_path / "out/coco.json")
    wcs = tan_wcs((TRACT, TRACT), scale_arcsec=0.2, ra=53.1, dec=-28.1)
    at = [(a["attributes"]["ra"], a["attributes"]["dec"])
          for a in document["annotations"] if not a["iscrowd"]]  # fmt: skip
    x, y = wcs.all_world2pix(*np.array(at).T, 0)
    wanted = [(sy, sx) for sy, sx in stars if sy > 100 - BORDER and sx < 200 + BORDER]
    found = [int((np.hypot(y - sy, x - sx) < 2).sum()) for sy, sx in wanted]
    assert found == [1] * len(wanted)
    assert len(at) == len(wanted)


@pytest.mark.parametrize("fluxmag0", [None, 0.0])
@pytest.mark.parametrize("suffix", ["", ".gz", ".fz"])
def test_hsc_coadds_of_any_packing_have_zero_point_27(tmp_path, suffix, fluxmag0):
    image, _ = scene()
    planes = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8,
              "BRIGHT_OBJECT": 9, "CLIPPED": 11, "REJECTED": 14, "SENSOR_EDGE": 15}  # fmt: skip
    folder = tmp_path / "deepCoadd-results/HSC-I/9813/4,5"
    path = write_calexp(folder, "i", image, planes=planes, fluxmag0=fluxmag0,
                        origin=(19900, 15900), compress=suffix == ".fz")  # fmt: skip
    if suffix:
        content = path.read_bytes()
        path.unlink()
        packed = gzip.compress(content) if suffix == ".gz" else content
        path.with_name(path.name + suffix).write_bytes(packed)
    coadd = read_one(Inputs((tmp_path,)))
    assert coadd.zeropoints == (27.0,)
    assert coadd.origin == (19900, 15900)
    assert {name: coadd.planes.get(name) is not None for name in planes} == dict.fromkeys(
        planes, True
    )
    np.testing.assert_allclose(coadd.image[0], image, atol=SIGMA / 2 if suffix == ".fz" else 0)


def test_cosmic_rays_of_a_real_coadd_are_pixels_like_others(real_data):
    """They were interpolated in one exposure of many: why CR is no reason to drop a pixel."""
    data = np.load(real_data / "hsc_cosmos_35.npz")
    for image, variance, mask in zip(data["images"], data["variance"], data["mask"], strict=True):
        hit, interpolated = ((mask >> bit) & 1 == 1 for bit in (3, 2))
        np.testing.assert_array_equal(hit, interpolated)
        assert hit.mean() > 0.015
        ratio = np.median(variance[hit]) / np.median(variance[~hit])
        assert ratio == pytest.approx(1, abs=0.05)
        assert np.isfinite(image[hit]).all()
    assert "CR" not in read.BAD_PLANES


def test_the_real_single_exposure_reads_under_a_coadds_name(tmp_path, real_data):
    shutil.copy(real_data / "hsc_ccd_maskedimage.fits", tmp_path / "calexp-HSC-I-9813-4,5.fits")
    coadd = read_one(Inputs((tmp_path,)))
    assert coadd.zeropoints == (27.0,)  # its FLUXMAG0 is 0
    assert coadd.shape == (200, 200)


# Euclid and Roman.


def write_euclid(folder, image, tile="102018211"):
    wcs = tan_wcs(image.shape, scale_arcsec=0.1)
    image = image.copy()
    image[:, :4] = np.nan
    flags = np.zeros(image.shape, np.int32)
    flags[:6] = 1
    flags[10:16] = 4
    rms = np.full(image.shape, SIGMA, np.float32)
    rms[-5:] = 0
    end = f"TILE{tile}-ABC_20241018T115132.fits"
    return (
        write_plain(folder / f"EUC_MER_BGSUB-MOSAIC-VIS_{end}", image, wcs, MAGZERO=24.5),
        write_plain(folder / f"EUC_MER_MOSAIC-VIS-RMS_{end}", rms, wcs),
        write_plain(folder / f"EUC_MER_MOSAIC-VIS-FLAG_{end}", flags, wcs),
    )


@pytest.mark.parametrize("option", ["rms", "variance"])
def test_a_mosaic_with_maps_of_rms_and_flags(tmp_path, option):
    image, _ = scene()
    science, rms, flags = write_euclid(tmp_path, image)
    coadd = read_one(
        Inputs(
            band_files=((("vis",), science),),
            mask={"*": flags},
            planes={"NO_DATA": 0, "SAT": 2},
            **{option: {"*": rms}},
        )
    )
    assert coadd.zeropoints == (24.5,)
    valid = np.ones(image.shape, bool)
    valid[:6] = valid[-5:] = valid[:, :4] = False
    np.testing.assert_array_equal(coadd.valid[0], valid)
    np.testing.assert_allclose(coadd.variance[0][valid], SIGMA**2, rtol=1e-5)
    assert coadd.plane("SAT")[0].sum() == 6 * image.shape[1]


def test_flags_without_named_bits_are_all_bad(tmp_path):
    science, rms, flags = write_euclid(tmp_path, scene()[0])
    files = ((("vis",), science),)
    coadd = read_one(Inputs(band_files=files, rms={"vis": rms}, mask={"vis": flags}))
    assert not coadd.valid[0, 10:16].any()
    assert any("planes have no names" in note.text for note in coadd.notes)
    named = Inputs(band_files=files, mask={"vis": flags}, planes={"BAD": 0})
    assert not any("planes have no names" in note.text for note in read_one(named).notes)


def test_what_a_noise_map_is_called_tells_its_kind(tmp_path):
    image = np.ones((9, 9), np.float32)
    for name, option, kind in (
        ("a_invvar.fits", "variance", "inverse"),
        ("a-RMS_b.fits", "variance", "rms"),
        ("charms.fits", "variance", "variance"),
        ("a_var.fits", "rms", "rms"),
    ):
        assert find_extra(write_plain(tmp_path / name, image), option).noise == kind


def test_a_variance_and_an_rms_of_one_band_are_refused(tmp_path):
    science, rms, _ = write_euclid(tmp_path, scene()[0])
    with pytest.raises(InputError, match="both a variance and an rms"):
        find_coadds(
            Inputs(band_files=((("vis",), science),), rms={"vis": rms}, variance={"*": rms})
        )


def test_sci_err_and_dq_in_one_file(tmp_path):
    image, _ = scene()
    dq = np.zeros(image.shape, np.uint32)
    dq[3] = 1 << 30
    sci = fits.ImageHDU(image, tan_wcs(image.shape, scale_arcsec=0.11).to_header(), name="SCI")
    sci.header["BUNIT"], sci.header["PIXAR_SR"] = "MJy/sr", 2.8e-13
    err = fits.ImageHDU(np.full_like(image, SIGMA), name="ERR")
    path = tmp_path / "Roman_F129_sim.fits"
    fits.HDUList([fits.PrimaryHDU(), sci, err, fits.ImageHDU(dq, name="DQ")]).writeto(path)
    coadd = read_one(Inputs(band_files=((("f129",), path),)))
    np.testing.assert_allclose(coadd.variance, SIGMA**2, rtol=1e-5)
    assert np.flatnonzero(~coadd.valid[0].any(axis=1)).tolist() == [3]
    # 1 MJy/sr in such a pixel is 0.28 microjansky.
    assert read_zeropoint(find_layers(path)[0]).value == pytest.approx(
        23.9 - 2.5 * np.log10(0.28), abs=2e-3
    )


@pytest.mark.parametrize("given", ["SAT", "SAT=x", "SAT=31", "=3"])
def test_bits_that_are_none_are_refused(tmp_path, capsys, given):
    path = write_plain(tmp_path / "g.fits", scene()[0])
    arguments = ["make-coco", "--band", f"g={path}", "--mask-planes", given]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "--mask-planes" in capsys.readouterr().err


def test_reading_the_same_files_in_another_way_labels_them_anew(tmp_path, capsys):
    science, rms, flags = write_euclid(tmp_path, scene()[0])
    arguments = ["make-coco", "--band", f"vis={science}", "--rms", str(rms), "--mask", str(flags)]
    arguments += ["--out", str(tmp_path / "out"), "--quiet"]
    assert main(arguments) == 0
    found = coco.read(tmp_path / "out/coco.json")["annotations"]
    assert main([*arguments, "--mask-planes", "SAT=0"]) == 0
    again = coco.read(tmp_path / "out/coco.json")["annotations"]
    assert not any("saturated" in a["attributes"]["flags"] for a in found)
    assert again != found


def test_a_manifest_finds_what_the_butler_and_euclid_call_their_files(tmp_path, capsys):
    image, _ = sky()
    for index in (3, 4):
        for band in "gi":
            name = f"deep_coadd_5063_{index}_{band}_lsst_cells_v1_LSSTComCam_runs_DP1.fits"
            write_lsst(tmp_path / "in" / name, image, index)
    manifest = tmp_path / "m.yaml"
    head = "schema: 2\nname: m\nsurvey: fits\nroot: in\n"
    manifest.write_text(
        head + 'bands: [g, i]\ncoadds:\n  pattern: "deep_coadd_{tract}_{patch}_{band}_*.fits"\n'
        '  patches: {"5063": [3, 4]}\n'
    )
    found = coadds_of(read_manifest(manifest), tmp_path / "in", [])
    assert [(f.name, f.tract, f.patch) for f in found] == [
        ("5063-3", "5063", "3"),
        ("5063-4", "5063", "4"),
    ]
    assert main(["manifest", "check", str(manifest), "--quiet"]) == 0
    second = tmp_path / "in/deep_coadd_5063_3_g_another.fits"
    shutil.copy(found[0].layers[0].path, second)
    with pytest.raises(InputError, match=r"deep_coadd_5063_3_g_\*\.fits could be this file or"):
        coadds_of(read_manifest(manifest), tmp_path / "in", [])
    second.unlink()
    found[1].layers[1].path.unlink()
    capsys.readouterr()
    assert main(["manifest", "check", str(manifest), "--quiet"]) == 2
    assert "missing: deep_coadd_5063_4_i_*.fits" in capsys.readouterr().out

    write_euclid(tmp_path / "in", scene()[0])
    manifest.write_text(
        head + "bands: [vis]\ncoadds:\n"
        '  pattern: "EUC_MER_BGSUB-MOSAIC-{BAND}_TILE{patch}-*.fits"\n'
        '  rms: "EUC_MER_MOSAIC-{BAND}-RMS_TILE{patch}-*.fits"\n'
        '  patches: {"0": [102018211]}\n'
    )
    (files,) = coadds_of(read_manifest(manifest), tmp_path / "in", [])
    assert (files.name, files.variance["vis"].noise) == ("0-102018211", "rms")
