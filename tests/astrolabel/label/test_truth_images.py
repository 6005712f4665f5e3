"""Labels of simulated scenes from pictures of their objects."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from fits_files import gaussian, tan_wcs, write_plain

from astrolabel.cli.main import main
from astrolabel.core.config import TruthConfig
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.truth import find_scenes
from astrolabel.label.truth_images import truth_mask

SIDE = 96
OBJECTS = [  # CLASS_ID, y, x, counts, FWHM in pixels
    (1, 20.0, 30.0, 30000, 4.0),
    (2, 60.0, 40.0, 8000, 9.0),
    (2, 62.0, 48.0, 5000, 7.0),
    (2, 80.0, 95.0, 5000, 8.0),
    (2, 5.0, 80.0, 0, 5.0),
]


def write_scene(folder, *, seed=0, objects=OBJECTS, bands="grz", masks="masks.fits"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lights = [gaussian((SIDE, SIDE), y, x, flux, fwhm) for _, y, x, flux, fwhm in objects]
    for k, band in enumerate(bands):
        image = rng.normal(50, 3, (SIDE, SIDE)) + (k + 1) * np.sum(lights, axis=0)
        write_plain(folder / f"img_{band}.fits", image.astype(np.float32),
                    tan_wcs((SIDE, SIDE), scale_arcsec=0.263))  # fmt: skip
    hdus = []
    for (kind, *_), light in zip(objects, lights, strict=True):
        hdu = (fits.ImageHDU if hdus else fits.PrimaryHDU)(np.floor(light).astype(np.float32))
        hdu.header["CLASS_ID"] = kind
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(folder / masks)
    return folder


def run(folder, out, *more):
    return main(["truth-coco", str(folder), "--out", str(out), "--quiet", *more])


def test_objects_become_labels_with_class_place_and_tight_box(tmp_path):
    write_scene(tmp_path / "in/training/set_0")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    document = coco.read(tmp_path / "out/coco.json")
    assert not coco.validate(document, tmp_path / "out")
    (image,) = document["images"]
    assert image["astro"]["bands"] == ["g", "r", "z"]
    assert image["file_name"] == "images/training-set_0-r0c0.png"
    cube = fits.getdata(tmp_path / "out" / image["astro"]["cube"])
    assert cube.shape == (3, SIDE, SIDE)
    names = {c["id"]: c["name"] for c in document["categories"]}
    found = document["annotations"]
    kinds = ["star", "galaxy", "galaxy", "galaxy"]
    assert [names[a["category_id"]] for a in found] == kinds
    assert [a["attributes"]["object_id"] for a in found] == ["0", "1", "2", "3"]
    wcs = tan_wcs((SIDE, SIDE), scale_arcsec=0.263)
    for (_, y, x, _, _), label in zip(OBJECTS[:3], found, strict=False):
        at = wcs.all_world2pix(label["attributes"]["ra"], label["attributes"]["dec"], 0)
        np.testing.assert_allclose(at, (x, y), atol=0.3)
    assert [a["attributes"]["n_blended"] for a in found] == [1, 2, 2, 1]
    assert "blended" in found[1]["attributes"]["flags"]
    assert "edge" in found[3]["attributes"]["flags"]
    x, _, w, _ = found[3]["bbox"]
    assert x + w == SIDE
    for label in found:
        mask = coco.decode(label["segmentation"])
        assert label["area"] == mask.sum()
    assert document["info"]["sources"] == {"ok": 4, "skipped:no light": 1}


def test_a_mask_is_what_is_above_its_fraction_of_the_peak_smoothed():
    light = gaussian((61, 61), 30, 30, 1e5, 8.0).astype(np.float32)
    config = TruthConfig()
    for fraction in (config.star_fraction, config.galaxy_fraction):
        mask = truth_mask(light, fraction, config)
        # A circle where the Gaussian falls to the fraction; smoothing hardly moves its edge.
        radius = 8.0 / 2.3548 * np.sqrt(-2 * np.log(fraction))
        assert np.sqrt(mask.area / np.pi) == pytest.approx(radius, abs=0.35)


def test_specks_do_not_outlive_the_smoothing():
    light = gaussian((61, 61), 30, 30, 1e5, 8.0).astype(np.float32)
    clean = truth_mask(light, 0.08, TruthConfig())
    light[5, 5] = light[50:52, 8:10] = light.max() / 2
    light[30, 30 + 9] = 0
    speckled = truth_mask(light, 0.08, TruthConfig())
    assert speckled.box == clean.box
    assert truth_mask(np.zeros((9, 9), np.float32), 0.08, TruthConfig()) is None
    lone = np.zeros((31, 31), np.float32)
    lone[15, 15] = 1
    assert truth_mask(lone, 0.08, TruthConfig()) is None


def test_one_bad_scene_is_named_and_the_others_are_labelled(tmp_path, capsys):
    for number in (0, 2, 10, 11, 12, 13):
        write_scene(tmp_path / f"in/set_{number}", seed=number)
    path = tmp_path / "in/set_2/masks.fits"
    path.write_bytes(path.read_bytes()[:50000])
    (tmp_path / "in/set_11/masks.fits").unlink()
    (tmp_path / "in/set_12/img_r.fits").unlink()
    with fits.open(tmp_path / "in/set_13/masks.fits", mode="update") as hdus:
        hdus[2].header["CLASS_ID"] = 7
    assert run(tmp_path / "in", tmp_path / "out", "--bands", "g,r") == 2
    told = capsys.readouterr().err
    assert "set_2/masks.fits: not a readable FITS file" in told
    assert "set_11: no masks.fits" in told
    assert "set_12: no img_r.fits" in told
    assert "set_13/masks.fits: HDU 2 has CLASS_ID 7; give 1 for a star, 2 for a galaxy" in told
    document = coco.read(tmp_path / "out/coco.json")
    names = [image["file_name"] for image in document["images"]]
    assert names == ["images/set_0-r0c0.png", "images/set_10-r0c0.png"]
    shutil.rmtree(tmp_path / "in/set_2")
    write_scene(tmp_path / "in/set_2", seed=2)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/tiles").glob("set_*0*.json")}
    assert run(tmp_path / "in", tmp_path / "out", "--bands", "g,r") == 2
    again = coco.read(tmp_path / "out/coco.json")
    assert len(again["images"]) == 3
    kept = {name: (tmp_path / "out/tiles" / name).stat().st_mtime_ns for name in before}
    assert before["set_0-r0c0.json"] == kept["set_0-r0c0.json"]


def test_two_runs_give_the_same_bytes(tmp_path):
    write_scene(tmp_path / "in/set_0")
    for out in ("a", "b"):
        assert run(tmp_path / "in/set_0", tmp_path / out) == 0
    for file in ("coco.json", "images/set_0-r0c0.png", "cubes/set_0-r0c0.fits"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_scene_in_tiles_has_its_masks_cut_at_their_borders(tmp_path):
    write_scene(tmp_path / "in/set_0")
    assert run(tmp_path / "in", tmp_path / "whole") == 0
    assert run(tmp_path / "in", tmp_path / "tiles", "--tile-size", "48") == 0
    whole = coco.read(tmp_path / "whole/coco.json")["annotations"]
    tiles = coco.read(tmp_path / "tiles/coco.json")
    # Every object lies outside one of the four tiles, and a tile without a label is no image.
    assert len(tiles["images"]) == 3
    assert {i["id"] for i in tiles["images"]} == {a["image_id"] for a in tiles["annotations"]}
    area = {str(k): 0 for k in range(4)}
    for a in tiles["annotations"]:
        area[a["attributes"]["object_id"]] += a["area"]
    assert area == {a["attributes"]["object_id"]: a["area"] for a in whole}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "nothing", "no such folder"),
        (lambda p: p, "no scene"),
    ],
)
def test_a_folder_without_scenes_says_what_a_scene_is(tmp_path, make, says):
    with pytest.raises(InputError, match=says):
        find_scenes([make(tmp_path)])


def test_pictures_of_another_size_or_none_are_refused(tmp_path, capsys):
    write_scene(tmp_path / "in/set_0")
    path = tmp_path / "in/set_0/masks.fits"
    small = fits.PrimaryHDU(np.ones((8, 8), np.float32))
    small.header["CLASS_ID"] = 1
    small.writeto(path, overwrite=True)
    assert run(tmp_path / "in", tmp_path / "out") == 2
    assert "HDU 0 has 8x8 pixels, the scene's images have 96x96" in capsys.readouterr().err
    fits.PrimaryHDU().writeto(path, overwrite=True)
    assert run(tmp_path / "in", tmp_path / "out") == 2
    assert "no picture of an object" in capsys.readouterr().err


def test_a_manifest_builds_scenes_by_their_truth(tmp_path):
    for part, seed in (("training", 1), ("test", 2)):
        write_scene(tmp_path / f"in/{part}/set_0", seed=seed)
    manifest = tmp_path / "scenes.yaml"
    manifest.write_text(
        "schema: 2\nname: scenes\nsurvey: fits\nbands: [g, r, z]\nroot: in\n"
        'coadds:\n  pattern: "*/set_*/img_{band}.fits"\n  truth: "*/set_*/masks.fits"\n'
        'splits:\n  train: {coadds: ["training-*"]}\n  test: {coadds: ["test-*"]}\n'
    )
    arguments = ["manifest", "build", str(manifest), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(arguments) == 0
    train = coco.read(tmp_path / "out/train.json")
    assert len(train["annotations"]) == 4
    assert {a["attributes"]["class_source"] for a in train["annotations"]} == {"truth"}
    (tmp_path / "in/test/set_0/masks.fits").unlink()
    shutil.rmtree(tmp_path / "out")
    assert main([*arguments, "--no-fetch"]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('  truth: "{band}.fits"\nscheme: hsc', "coadds.truth gives the classes"),
        ('  rms: "rms.fits"', "rms"),
        ('  mask: "m_{band}.fits"\n  planes: {SAT: 40}', "planes"),
        ("  planes: 3", "planes"),
        (
            '  rms: "r_{band}.fits"\n'
            'source: {archive: url, server: "https://a.b", coadds: "{band}"}',
            "coadds.rms cannot be fetched",
        ),
    ],
)
def test_what_does_not_fit_in_a_manifest_is_refused(tmp_path, capsys, line, told):
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "schema: 2\nname: m\nsurvey: fits\nbands: [g, r]\n"
        f'coadds:\n  pattern: "img_{{band}}.fits"\n{line}\n'
    )
    assert main(["manifest", "check", str(manifest)]) == 2
    assert told in capsys.readouterr().err


def test_a_manifest_gives_maps_of_rms_and_flags(tmp_path):
    write_scene(tmp_path / "in")
    flags = np.zeros((SIDE, SIDE), np.int16)
    flags[:9] = 4
    for band in "grz":
        write_plain(tmp_path / f"in/rms_{band}.fits", np.full((SIDE, SIDE), 3.0, np.float32))
        write_plain(tmp_path / f"in/flag_{band}.fits", flags)
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "schema: 2\nname: m\nsurvey: fits\nbands: [g, r, z]\nroot: in\ncoadds:\n"
        '  pattern: "img_{band}.fits"\n  rms: "rms_{band}.fits"\n  mask: "flag_{band}.fits"\n'
        "  planes: {SAT: 2}\n"
    )
    from astrolabel.datasets.manifest import read_manifest
    from astrolabel.datasets.manifest_files import coadds_of
    from astrolabel.prepare import read

    (files,) = coadds_of(read_manifest(manifest), tmp_path / "in", [])
    coadd = read.read(files, read.characterise(files))
    assert (coadd.variance == 9).all()
    assert coadd.plane("SAT")[:, :9].all()
    assert coadd.valid.all()
    assert not any("rms of the source-free sky" in note.text for note in coadd.notes)
