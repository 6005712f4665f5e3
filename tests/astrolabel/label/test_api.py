"""`astrolabel.label`: files and arrays in, `Labels` out."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, NDData, StdDevUncertainty
from fits_files import FWHM_PX, SIGMA, gaussian, scene, tan_wcs, write_calexp, write_plain

import astrolabel as al
from astrolabel.core.psf import moffat
from astrolabel.io import coco

SHAPE = (128, 160)
DATA = Path(__file__).parents[4] / "shared" / "data"


def bands(names="gri"):
    image, _ = scene(SHAPE)
    rng = np.random.default_rng(5)
    return [(image + rng.normal(0, SIGMA, SHAPE)).astype(np.float32) for _ in names]


@pytest.fixture(scope="module")
def labels():
    return al.label(*bands(), bands="gri", wcs=tan_wcs(SHAPE), zeropoints=27.0)


def masks_of(labels):
    return [a["segmentation"]["counts"] for a in labels.document["annotations"]]


def test_the_public_names_are_few_and_load_when_used():
    assert dir(al) == sorted(al.__all__)
    assert len(al.__all__) == 10
    for name in al.__all__:
        assert getattr(al, name) is not None
    assert "variance" in inspect.signature(al.label).parameters
    with pytest.raises(AttributeError):
        _ = al.labels  # type: ignore[attr-defined]


def test_label_can_be_called_before_and_after_its_folder_is_imported():
    code = (
        "import astrolabel as al; assert callable(al.label); import astrolabel.label.tile;"
        "assert callable(al.label); assert al.label.tile.label_tile; print(dir(al)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "InputError", done.stderr


def test_arrays_are_labelled_as_the_same_files_are(tmp_path, labels):
    paths = [
        write_plain(tmp_path / f"image_{band}.fits", image, tan_wcs(SHAPE))
        for band, image in zip("gri", bands(), strict=True)
    ]
    same = al.label(*map(str, paths), zeropoints=27.0)
    assert same.document["images"][0]["astro"]["bands"] == ["g", "r", "i"]
    assert len(labels) >= 8
    assert masks_of(same) == masks_of(labels)
    for ours, theirs in zip(labels.table, same.table, strict=True):
        assert ours["mag_i"] == theirs["mag_i"]
        assert ours["ra"] == theirs["ra"]
    cube = al.label(np.stack(bands()), bands="gri", wcs=tan_wcs(SHAPE), zeropoints=[27, 27, 27])
    assert masks_of(cube) == masks_of(labels)


def note_of(notes, kind, band):
    return "; ".join(n["text"] for n in notes if (n["kind"], n["band"]) == (kind, band))


def test_what_is_given_is_used_and_what_is_not_is_estimated(labels):
    notes = labels.document["info"]["tiles"][0]["notes"]
    assert "source-free sky" in note_of(notes, "noise", "g")
    assert "Moffat" in note_of(notes, "psf", "g")
    stamp = moffat(FWHM_PX)
    variance = np.full((3, *SHAPE), 2 * SIGMA**2, np.float32)
    told = al.label(np.stack(bands()), variance=variance, psf=stamp)
    notes = told.document["info"]["tiles"][0]["notes"]
    assert not note_of(notes, "noise", "band1")
    assert note_of(notes, "psf", "band1").startswith("read from")
    sigma = told.document["images"][0]["astro"]["sky_sigma"]
    np.testing.assert_allclose(sigma, np.sqrt(2) * SIGMA, rtol=1e-5)
    assert told.wcs is None


@pytest.mark.parametrize("kind", ["ccd", "std", "inverse"])
def test_nddata_brings_its_noise_mask_psf_wcs_and_unit(kind):
    image, where = scene(SHAPE)
    bad = np.zeros(SHAPE, bool)
    y, x = (round(v) for v in where[0])
    bad[y - 8 : y + 9, x - 8 : x + 9] = True
    sigma = np.full(SHAPE, SIGMA)
    given = {
        "uncertainty": StdDevUncertainty(sigma)
        if kind != "inverse"
        else InverseVariance(1 / sigma**2),
        "mask": bad,
        "psf": moffat(FWHM_PX),
        "wcs": tan_wcs(SHAPE),
        "unit": u.nJy,
    }
    one = CCDData(image, **given) if kind == "ccd" else NDData(image, **given)
    found = al.label(one, bands="i")
    astro = found.document["images"][0]["astro"]
    assert astro["zeropoint"][0] == pytest.approx(31.4, abs=1e-6)
    assert astro["sky_sigma"][0] == pytest.approx(SIGMA, rel=1e-5)
    assert found.wcs is not None
    notes = found.document["info"]["tiles"][0]["notes"]
    assert note_of(notes, "psf", "i").startswith("read from")
    near = np.hypot(found.table["x"].value - x, found.table["y"].value - y) < 4
    assert not near.any()  # its pixels are bad
    assert len(found) >= len(where) - 2


def test_the_table_has_units_positions_and_fluxes_in_njy(labels):
    table = labels.table
    assert table["ra"].unit == u.deg
    assert table["mag_i"].unit == u.mag
    assert table["flux_i"].unit == u.nJy
    ok = np.isfinite(table["mag_i"].value)
    expected = 31.4 - 2.5 * np.log10(table["flux_i"].value[ok])
    np.testing.assert_allclose(table["mag_i"].value[ok], expected, atol=2e-4)
    x, y = tan_wcs(SHAPE).all_world2pix(table["ra"].value, table["dec"].value, 0)
    np.testing.assert_allclose(table["x"].value, x, atol=0.8)
    np.testing.assert_allclose(table["y"].value, y, atol=0.8)


def test_fluxes_without_a_zero_point_stay_counts():
    table = al.label(bands("g")[0], bands="g").table
    assert table["flux_g"].unit == u.ct
    assert not np.isfinite(table["mag_g"].value).any()


def test_masks_segmentation_and_overlap_agree(labels):
    assert labels.segmentation.dtype == labels.overlap.dtype == np.int32
    assert labels.segmentation.shape == SHAPE
    covered = np.sum([mask.astype(int) for mask in labels.masks], axis=0)
    np.testing.assert_array_equal(covered > 0, labels.segmentation > 0)
    np.testing.assert_array_equal(covered > 1, labels.overlap > 0)
    for row, mask in zip(labels.table, labels.masks, strict=True):
        assert mask.sum() == row["area"].value
        ids = {*np.unique(labels.segmentation[mask]), *np.unique(labels.overlap[mask])}
        assert row["id"] in ids
    assert len(labels.masks[1:3]) == 2


def test_tiles_of_a_coadd_are_one_map(labels):
    small = {"tile": {"size": 70}}
    tiled = al.label(*bands(), bands="gri", wcs=tan_wcs(SHAPE), zeropoints=27.0, config=small)
    assert len(tiled.document["images"]) == 6
    assert list(tiled.frames) == ["image"]
    assert tiled.segmentation.shape == SHAPE
    whole, parts = labels.segmentation > 0, tiled.segmentation > 0
    assert (whole == parts).mean() > 0.999
    np.testing.assert_allclose(tiled.wcs.wcs.crval, labels.wcs.wcs.crval)
    np.testing.assert_allclose(
        tiled.wcs.all_pix2world(3, 4, 0), labels.wcs.all_pix2world(3, 4, 0), atol=1e-9
    )


def test_several_coadds_are_chosen_from_by_name(tmp_path):
    image, _ = scene()
    for patch in ("4,5", "4,6"):
        write_calexp(
            tmp_path, "g", image, patch=patch, wcs=tan_wcs(image.shape, ra=150 + len(patch))
        )
    both = al.label(tmp_path, config={"tile": {"overlaps": "keep"}})
    assert list(both.frames) == ["9813-4,5", "9813-4,6"]
    with pytest.raises(al.InputError, match=r"of 2 coadds; choose one: labels\.of"):
        _ = both.segmentation
    one = both.of("9813-4,6")
    assert one.segmentation.max() > 0
    assert set(one.table["coadd"]) == {"9813-4,6"}
    with pytest.raises(al.InputError, match="no coadd 'x'"):
        both.of("x")


def test_what_is_written_reads_back_the_same(labels, tmp_path):
    path = labels.to_coco(tmp_path / "out")
    again = al.read(path)
    assert again.document == coco.read(path)
    assert masks_of(again) == masks_of(labels)
    for image in again.document["images"]:
        assert (path.parent / image["file_name"]).is_file()
        assert (path.parent / image["astro"]["cube"]).is_file()
    assert not coco.validate(again.document, path.parent)
    assert again.to_coco(path.parent) == path  # onto itself


def test_the_files_go_with_the_last_labels_in_them():
    made = al.label(bands("g")[0])
    part = made.of("image")
    folder = made.folder
    del made
    assert folder.is_dir()
    del part
    gc.collect()
    assert not folder.exists()


def test_out_keeps_the_files(tmp_path):
    made = al.label(bands("g")[0], out=tmp_path / "kept")
    assert made.folder == tmp_path / "kept"
    assert (tmp_path / "kept" / "coco.json").is_file()


def test_a_notebook_shows_a_summary_and_rows(labels):
    html = labels._repr_html_()
    assert f"{len(labels)} labels" in html
    assert "<table" in html
    assert repr(labels).startswith("<Labels: ")


def test_a_plot_shows_one_outline_a_piece_of_a_label(labels):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    ax = labels.plot()
    assert sum(len(c.get_paths()) for c in ax.collections) >= len(labels)
    assert ax.get_ylim()[0] < ax.get_ylim()[1]
    assert labels.plot(ax=ax, outlines=False) is ax
    pyplot.close("all")


def test_any_coco_file_is_read(tmp_path):
    document = {
        "images": [{"id": 7, "file_name": "a/photo.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 3, "bbox": [2, 3, 4, 5], "area": 20,
             "segmentation": [[2, 3, 6, 3, 6, 8, 2, 8]], "iscrowd": 0},
        ],
    }  # fmt: skip
    coco.write_json(tmp_path / "c.json", document)
    read = al.read(tmp_path / "c.json")
    assert read.segmentation.sum() == 5 * 20
    assert read.table["class"].tolist() == ["cell"]
    assert (read.table["x"][0].value, read.table["y"][0].value) == (3.5, 5.0)


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ([], {}, "nothing to label"),
        (["no_such.fits"], {}, "no_such.fits"),
        (["g.fits", np.zeros(SHAPE)], {}, "files and arrays together"),
        ([np.zeros(SHAPE), np.zeros((5, 5))], {}, "resampled to one frame"),
        ([np.zeros(7)], {}, r"shape \(7,\)"),
        ([np.zeros(SHAPE)], {"bands": "gr"}, "1 images, but 2 bands"),
        ([np.zeros(SHAPE)], {"variance": np.zeros((4, 4))}, "variance of shape"),
        ([np.array([["a", "b"]])], {}, "give an array of numbers"),
        ([np.zeros(SHAPE)], {"config": {"mask": {"treshold_sigma": 3}}}, "did you mean"),
        ([np.zeros(SHAPE)], {"config": "papr"}, "unknown preset"),
        ([np.zeros(SHAPE)], {"catalog": "forced.fits"}, "classify.scheme"),
        ([np.zeros(SHAPE)], {"zeropoints": [27, 27]}, "2 zero points for 1 bands"),
        ([np.zeros(SHAPE)], {"wcs": 3}, "not a celestial WCS"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_a_line(given, options, said):
    with pytest.raises(al.InputError, match=said) as error:
        al.label(*given, **options)
    assert "\n" not in str(error.value)


def test_settings_come_as_mapping_file_preset_or_tree(tmp_path):
    one = bands("g")[0]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("mask: {threshold_sigma: 8}\n")
    same = [
        al.label(one, config=config).document["info"]["config_hash"]
        for config in ({"mask": {"threshold_sigma": 8}}, recipe, str(recipe))
    ]
    assert len(set(same)) == 1
    config = al.label(one, config="paper").document["info"]["config"]
    assert config["preset"] == "paper"


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data lie beside the repository")
@pytest.mark.slow
def test_three_lines_on_real_pixels_without_variance_and_psf():
    labels = al.label(*(DATA / f"decals_dr7_{band}.fits" for band in "grz"))
    assert len(labels) > 40
    sky = labels.segmentation == 0
    cube = fits.getdata(labels.folder / labels.document["images"][0]["astro"]["cube"])
    assert cube[:, ~sky].mean() > 20 * abs(cube[:, sky].mean())


def test_a_star_is_where_it_was_drawn():
    shape = (64, 64)
    image = np.random.default_rng(1).normal(0, 1, shape) + gaussian(shape, 30.3, 22.8, 3000.0)
    table = al.label(image.astype(">f4"), variance=np.ones(shape), psf=_star()).table
    assert len(table) == 1
    assert table["y"][0].value == pytest.approx(30.3, abs=0.3)
    assert table["x"][0].value == pytest.approx(22.8, abs=0.3)
    assert table["flux_band1"][0].value == pytest.approx(3000, rel=0.05)


def _star():
    stamp = gaussian((25, 25), 12, 12, 1.0)
    return stamp / stamp.sum()
