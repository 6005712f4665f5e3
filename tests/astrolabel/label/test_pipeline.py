import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from fits_files import SIGMA, gaussian, scene, tan_wcs, write_calexp, write_plain

from astrolabel.catalog.catalog import read_catalog
from astrolabel.core.config import (
    ClassifyConfig,
    DeblendConfig,
    LabelConfig,
    MaskConfig,
    TileConfig,
    preset,
)
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco, rle
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.validate import validate
from astrolabel.label import pipeline, work
from astrolabel.label.pipeline import make_coco

SMALL = LabelConfig(tile=TileConfig(size=80, margin_px=24))


@pytest.fixture(scope="module")
def patch(tmp_path_factory):
    """A coadd of 128x160 pixels in g,r,i with 12 stars: 2x2 tiles under SMALL."""
    folder = tmp_path_factory.mktemp("patch")
    image, positions = scene()
    for band, scale in zip("gri", (0.5, 1.0, 1.5), strict=True):
        rng = np.random.default_rng(ord(band))
        write_calexp(folder, band, (image * scale + rng.normal(0, SIGMA, image.shape)).astype("f4"))
    return folder, positions


def run(inputs, out, config=SMALL, **options):
    return make_coco(find_coadds(inputs), config, out, progress=False, **options)


@pytest.fixture(scope="module")
def whole(patch, tmp_path_factory):
    """A run over the patch under SMALL: to be read, or copied and changed."""
    return run(Inputs((patch[0],)), tmp_path_factory.mktemp("whole"))


def watched(monkeypatch):
    """The names of the tiles that are worked on from now on."""
    done = []
    label = pipeline.work
    monkeypatch.setattr(pipeline, "work", lambda task: (done.append(task.name), label(task))[1])
    return done


def test_every_star_is_labelled_once_at_its_place(patch, whole):
    _, positions = patch
    document = coco.read(whole.coco)
    assert [state for _, state in whole.tiles] == ["ok"] * 4
    wcs = tan_wcs((128, 160))
    own = [a for a in document["annotations"] if "peak_outside" not in a["attributes"]["flags"]]
    sky = np.array([[a["attributes"]["ra"], a["attributes"]["dec"]] for a in own])
    x, y = wcs.all_world2pix(sky, 0).T
    gap = np.hypot(y[:, None] - positions[:, 0], x[:, None] - positions[:, 1])
    assert (gap.min(axis=0) < 0.5).all()
    assert len(own) == len(positions)


def test_the_file_and_what_it_points_to_are_whole(whole):
    folder = whole.coco.parent
    document = coco.read(whole.coco)
    assert validate(document, folder) == ()
    for image in document["images"]:
        cube = fits.getdata(folder / image["astro"]["cube"])
        assert cube.shape == (3, image["height"], image["width"])
        assert cube.dtype == np.dtype(">f4")
        assert image["astro"]["bands"] == ["g", "r", "i"]
    covered = sum(i["height"] * i["width"] for i in document["images"])
    assert covered == 128 * 160
    info = document["info"]
    assert info["config_hash"] == SMALL.digest()
    assert {f["file"] for f in info["inputs"]} == {f"calexp-HSC-{b}-9813-4,5.fits" for b in "GRI"}
    assert sum(info["sources"].values()) == sum(whole.sources.values())


def test_a_source_on_a_tile_edge_is_whole_in_the_halo_and_clipped_in_both_tiles(tmp_path):
    image = np.random.default_rng(0).normal(0, SIGMA, (96, 160)).astype(np.float32)
    gy, gx = np.indices(image.shape)
    image += 4000 * SIGMA / 40 * np.exp(-((gy - 48) ** 2 + (gx - 78) ** 2) / (2 * 4**2))
    write_calexp(tmp_path / "in", "i", image.astype("f4"))
    config = LabelConfig(tile=TileConfig(size=96, margin_px=32))
    document = coco.read(run(Inputs((tmp_path / "in",)), tmp_path / "two", config).coco)
    whole = coco.read(
        run(Inputs((tmp_path / "in",)), tmp_path / "one", LabelConfig(tile=TileConfig(200))).coco
    )
    parts = document["annotations"]
    assert [a["image_id"] for a in parts] == [1, 2]
    assert ["peak_outside" in a["attributes"]["flags"] for a in parts] == [False, True]
    assert all("edge" in a["attributes"]["flags"] for a in parts)
    joined = np.concatenate([rle.decode(a["segmentation"]) for a in parts], axis=1)
    single = rle.decode(whole["annotations"][0]["segmentation"])
    assert (joined & single).sum() / (joined | single).sum() > 0.98


def test_masks_below_the_smallest_area_are_no_labels_and_said_so(patch, tmp_path):
    folder, _ = patch
    config = LabelConfig(tile=TileConfig(200), mask=MaskConfig(min_area=60))
    result = run(Inputs((folder,)), tmp_path, config)
    areas = [a["area"] for a in coco.read(result.coco)["annotations"]]
    assert min(areas) >= 60
    assert result.sources["ok"] == len(areas) < 12
    assert result.sources["skipped:mask below 60 pixels"] == 12 - len(areas)


def test_jobs_change_nothing(patch, whole, tmp_path):
    two = run(Inputs((patch[0],)), tmp_path, jobs=2).coco.read_bytes()
    assert whole.coco.read_bytes() == two


def test_a_run_takes_finished_tiles_as_they_are_and_does_the_rest(
    patch, whole, tmp_path, monkeypatch
):
    folder, _ = patch
    shutil.copytree(whole.coco.parent, tmp_path / "b")
    shards = sorted((tmp_path / "b" / "tiles").glob("*.json"))
    shards[1].unlink()
    shards[2].write_text('{"key": "cut sho')  # a shard torn by a full disk
    (tmp_path / "b" / "coco.json").unlink()
    done = watched(monkeypatch)
    again = run(Inputs((folder,)), tmp_path / "b")
    assert done == [p.stem for p in shards[1:3]]
    assert again.coco.read_bytes() == whole.coco.read_bytes()


def test_another_recipe_or_another_input_is_labelled_anew(patch, whole, tmp_path, monkeypatch):
    folder, _ = patch
    here = tmp_path / "in"
    shutil.copytree(folder, here)
    shutil.copytree(whole.coco.parent, tmp_path / "out")
    done = watched(monkeypatch)
    run(Inputs((here,)), tmp_path / "out")
    assert done == []
    stricter = LabelConfig(tile=SMALL.tile, mask=MaskConfig(threshold_sigma=8))
    run(Inputs((here,)), tmp_path / "out", stricter)
    assert len(done) == 4
    image, _ = scene(seed=9)
    write_calexp(here, "g", image)
    run(Inputs((here,)), tmp_path / "out", stricter)
    assert len(done) == 8


def test_a_killed_run_goes_on_and_ends_in_the_same_file(patch, whole, tmp_path):
    folder, _ = patch
    words = [sys.executable, "-m", "astrolabel", "make-coco", str(folder), "--tile-size", "80"]
    words += ["--halo", "24", "--quiet", "--out", str(tmp_path)]
    killed = subprocess.Popen(words)
    shards = tmp_path / "tiles"
    while killed.poll() is None and not list(shards.glob("[!.]*.json")):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    run(Inputs((folder,)), tmp_path)
    assert (tmp_path / "coco.json").read_bytes() == whole.coco.read_bytes()
    assert not list(tmp_path.rglob(".*.json"))


def test_a_tile_without_data_is_skipped_and_the_others_are_labelled(tmp_path):
    image, _ = scene()
    mask = np.zeros(image.shape, np.int32)
    mask[:64, :48] = 1 << 8  # 60 % of the first tile
    write_calexp(tmp_path / "in", "g", image, mask=mask)
    write_calexp(tmp_path / "in", "i", image)
    result = run(Inputs((tmp_path / "in",)), tmp_path / "out")
    states = [state for _, state in result.tiles]
    assert states == ["skipped:60 % of the pixels of band g have no data", "ok", "ok", "ok"]
    assert result.problems == ()
    assert len(coco.read(result.coco)["images"]) == 3


def test_a_coadd_that_cannot_be_read_harms_no_other(patch, tmp_path):
    folder, _ = patch
    here = tmp_path / "in"
    shutil.copytree(folder, here)
    image, _ = scene()
    for band in "gri":
        write_calexp(here, band, image[:-1] if band == "r" else image, patch="4,6")
    result = run(Inputs((here,)), tmp_path / "out")
    assert [state for _, state in result.tiles] == ["ok"] * 4
    assert len(result.problems) == 1
    assert "calexp-HSC-R-9813-4,6.fits" in result.problems[0]


def test_files_of_the_same_name_in_two_folders_are_both_known_by_their_content(tmp_path):
    image, _ = scene((64, 64), n=4)
    rng = np.random.default_rng(1)
    for band in "gi":
        (tmp_path / band).mkdir()
        noisy = image + rng.normal(0, SIGMA, image.shape)
        write_plain(tmp_path / band / "sky.fits", noisy.astype("f4"))
    inputs = Inputs(band_files=tuple(((b,), tmp_path / b / "sky.fits") for b in "gi"))
    first = coco.read(run(inputs, tmp_path / "out").coco)
    assert {f["file"] for f in first["info"]["inputs"]} == {"g/sky.fits", "i/sky.fits"}
    assert len({f["sha256"] for f in first["info"]["inputs"]}) == 2
    # Either of them changed makes other labels.
    write_plain(tmp_path / "g/sky.fits", (noisy + SIGMA).astype("f4"))
    second = coco.read(run(inputs, tmp_path / "out").coco)
    assert first["annotations"] != second["annotations"]


def test_a_tile_that_breaks_is_recorded_and_tried_again(patch, tmp_path, monkeypatch):
    folder, _ = patch
    label = work.label_tile

    def breaks(coadd, tile, *rest):
        if (tile.row, tile.column) == (0, 1):
            raise RuntimeError("out of luck")
        return label(coadd, tile, *rest)

    monkeypatch.setattr(work, "label_tile", breaks)
    result = run(Inputs((folder,)), tmp_path)
    assert [s.partition(":")[0] for _, s in result.tiles] == ["ok", "failed", "ok", "ok"]
    assert result.problems == ("tile 9813-4,5-r0c1: RuntimeError: out of luck",)
    monkeypatch.undo()
    assert run(Inputs((folder,)), tmp_path).problems == ()


def test_an_image_without_a_finite_pixel_is_skipped(tmp_path):
    path = write_plain(tmp_path / "i.fits", np.full((64, 64), np.nan, np.float32))
    result = run(Inputs(band_files=((("i",), path),)), tmp_path / "out")
    assert result.tiles[0][1] == "skipped:100 % of the pixels of band i have no data"
    (problem,) = result.problems
    assert problem.startswith(f"no tile has labels; 1 of 1 ended as {result.tiles[0][1]}; leave")


def test_a_galaxy_larger_than_a_cutout_is_said_with_what_to_do(tmp_path):
    image = gaussian((128, 128), 64, 64, 4000, fwhm=40)
    image += np.random.default_rng(0).normal(0, SIGMA, image.shape)
    path = write_plain(tmp_path / "i.fits", image.astype(np.float32))
    config = LabelConfig(deblend=DeblendConfig(max_pixels=900))
    result = run(Inputs(band_files=((("i",), path),)), tmp_path / "out", config)
    (problem,) = result.problems
    assert "has a label (skipped:footprint larger than 900 pixels); raise deblend" in problem


def test_an_output_that_is_a_file_is_said_so(patch, tmp_path):
    folder, _ = patch
    (tmp_path / "out").write_text("taken")
    with pytest.raises(OutputError, match="--out"):
        run(Inputs((folder,)), tmp_path / "out")


def test_nothing_readable_is_an_error_and_leaves_no_file(tmp_path):
    image, _ = scene()
    write_calexp(tmp_path / "in", "g", image)
    write_calexp(tmp_path / "in", "r", image[:-1])
    with pytest.raises(InputError, match="calexp-HSC-R"):
        run(Inputs((tmp_path / "in",)), tmp_path / "out")
    assert not (tmp_path / "out" / "coco.json").exists()


# Classes.


def hsc_catalog(folder, positions, **columns):
    wcs = tan_wcs((128, 160))
    ra, dec = wcs.all_pix2world(positions[:, 1], positions[:, 0], 0)
    n = len(positions)
    table = {
        "object_id": 43158034708430000 + np.arange(n),
        "ra": ra,
        "dec": dec,
        "i_cmodel_mag": np.full(n, np.nan),
        "i_extendedness_value": np.arange(n) % 2.0,
    }
    table.update(columns)
    path = folder / "catalog.fits"
    Table(table).write(path, overwrite=True)
    return path


def with_catalog(patch, whole, tmp_path, config, **columns):
    folder, positions = patch
    plain = coco.read(whole.coco)["annotations"]
    own = [a for a in plain if "peak_outside" not in a["attributes"]["flags"]]
    sky = np.array([[a["attributes"]["ra"], a["attributes"]["dec"]] for a in own])
    x, y = tan_wcs((128, 160)).all_world2pix(sky, 0).T
    nearest = np.hypot(y[:, None] - positions[:, 0], x[:, None] - positions[:, 1]).argmin(axis=0)
    mag = np.array([own[k]["attributes"]["mag_i"] for k in nearest])
    columns = {"i_cmodel_mag": mag + 0.1, **columns}
    path = hsc_catalog(tmp_path, positions, **columns)
    catalog = (read_catalog(path, "hsc"), path)
    document = coco.read(run(Inputs((folder,)), tmp_path / "out", config, catalog=catalog).coco)
    return document, own


def scheme(**options):
    return LabelConfig(tile=SMALL.tile, classify=ClassifyConfig(scheme="hsc", **options))


def test_classes_come_from_the_catalog_with_ids_as_text(patch, whole, tmp_path):
    document, own = with_catalog(patch, whole, tmp_path, scheme())
    names = {c["id"]: c["name"] for c in document["categories"]}
    assert list(names.values()) == ["galaxy", "star"]
    labels = [a for a in document["annotations"] if "peak_outside" not in a["attributes"]["flags"]]
    assert len(labels) == len(own) == 12
    for a in labels:
        number = int(a["attributes"]["object_id"]) - 43158034708430000
        assert isinstance(a["attributes"]["object_id"], str)
        assert names[a["category_id"]] == ("galaxy" if number % 2 else "star")
        assert a["attributes"]["class_source"] == "hsc"


def test_unmatched_sources_are_dropped_or_kept_as_ignore_regions(patch, whole, tmp_path):
    far = np.where(np.arange(12) < 3, 30.0, 22.0)  # no magnitude agrees for three of them

    def mags(document):
        return [a["iscrowd"] for a in document["annotations"]
                if "peak_outside" not in a["attributes"]["flags"]]  # fmt: skip

    magnitude = {"i_extendedness_value": np.where(far > 25, np.nan, 1.0)}
    for name in "ab":
        (tmp_path / name).mkdir()
    dropped, _ = with_catalog(patch, whole, tmp_path / "a", scheme(), **magnitude)
    kept, _ = with_catalog(patch, whole, tmp_path / "b", scheme(keep_unmatched=True), **magnitude)
    assert len(mags(dropped)) == 9
    assert sorted(mags(kept)) == [0] * 9 + [1] * 3


def test_the_papers_preset_has_no_halo_and_seps_noise():
    paper = preset("paper")
    assert paper.tile.margin_px == 0
    assert paper.detect.noise == "sep"
    assert paper.detect.peaks == "sep"
    assert paper.detect.deblend_contrast == 0.005
    assert paper.mask.threshold_sigma == paper.detect.threshold_sigma == 5
    with pytest.raises(InputError, match="default or paper"):
        preset("papers")


def test_the_real_decals_cutouts_are_labelled(real_data, tmp_path):
    files = tuple(((b,), real_data / f"decals_dr7_{b}.fits") for b in "grz")
    result = run(Inputs(band_files=files), tmp_path, LabelConfig())
    document = coco.read(result.coco)
    assert validate(document, tmp_path) == ()
    assert 60 <= len(document["annotations"]) <= 150
    # The large elliptical at the middle left, counted by eye at (y, x) = (320, 203).
    (galaxy,) = [
        a
        for a in document["annotations"]
        if a["bbox"][0] < 203 < a["bbox"][0] + a["bbox"][2]
        and a["bbox"][1] < 320 < a["bbox"][1] + a["bbox"][3]
        and a["area"] > 500
    ]
    assert 16.0 < galaxy["attributes"]["mag_r"] < 18.5
    # The two saturated stars, in the middle and at the left edge, are one source each.
    for y, x in ((177, 334), (219, 11)):
        boxes = [a["bbox"] for a in document["annotations"]]
        near = [np.hypot(b[1] + b[3] / 2 - y, b[0] + b[2] / 2 - x) < 15 for b in boxes]
        assert sum(near) == 1
    assert json.loads((tmp_path / "tiles/decals_dr7_g-r0c0.json").read_text())["state"] == "ok"


def test_the_brightest_stars_of_a_real_ntt_image_are_labelled(real_data, tmp_path):
    # Of its few stars one with a whole core lies 11 pixels from the edge. Without it a galaxy was
    # taken for the PSF, and the stars for cosmic rays.
    inputs = Inputs(band_files=((("R",), real_data / "real/ntt_emmi_r.fits"),))
    document = coco.read(run(inputs, tmp_path, LabelConfig()).coco)
    boxes = np.array([a["bbox"] for a in document["annotations"]])
    for y, x in ((182, 232), (65, 7), (33, 148), (11, 80), (152, 4)):
        inside = (boxes[:, 0] <= x) & (x < boxes[:, 0] + boxes[:, 2])
        inside &= (boxes[:, 1] <= y) & (y < boxes[:, 1] + boxes[:, 3])
        assert inside.sum() == 1, (y, x)
