"""Overlapping coadds: every piece of sky is labelled once."""

import numpy as np
import pytest
from astropy.wcs import WCS
from fits_files import SIGMA, scene, tan_wcs, write_calexp, write_plain
from scipy.spatial import cKDTree

from astrolabel.core.box import Box
from astrolabel.core.config import LabelConfig, TileConfig, preset
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.overlaps import Footprint, neighbours, owned, primary_box
from astrolabel.label.pipeline import make_coco

SIDE, STEP = 100, 80
"""Of a patch, and from one patch to the next: 20 pixels of overlap."""
GRID = [
    Footprint(f"0-{c},{r}", (SIDE, SIDE), "0", (STEP * r, STEP * c))
    for r in range(3)
    for c in range(3)
]


def test_a_grid_of_patches_is_cut_in_the_middle_of_its_overlaps():
    near = neighbours(GRID)
    boxes = {f.name: primary_box(f, near[f.name]) for f in GRID}
    assert boxes["0-0,0"] == Box(0, 0, 90, 90)
    assert boxes["0-1,1"].shape in {(80, 80), (81, 81), (80, 81), (81, 80)}
    counts = np.zeros((260, 260), int)
    for f in GRID:
        counts[boxes[f.name].shifted(*f.origin).slices] += 1
    assert (counts == 1).all()


def test_every_pixel_of_a_tract_is_owned_once():
    near = neighbours(GRID)
    counts = np.zeros((260, 260), int)
    y, x = (v.ravel().astype(float) for v in np.indices((SIDE, SIDE)))
    for f in GRID:
        mine = owned(f, near[f.name], y, x)
        np.add.at(counts, (y[mine].astype(int) + f.origin[0], x[mine].astype(int) + f.origin[1]), 1)
    assert (counts == 1).all()


def turned(degrees, ra, dec, name):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [50.5, 50.5]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    wcs.wcs.cd = np.array([[-c, s], [s, c]]) * 0.2 / 3600
    return Footprint(name, (SIDE, SIDE), name, (0, 0), wcs)


def test_between_tracts_every_position_is_owned_once():
    tracts = [
        turned(0, 0.0, 60.0, "a"),
        turned(30, 359.9965, 60.0005, "b"),
        turned(-20, 0.002, 60.003, "c"),
    ]
    near = neighbours(tracts)
    assert {o.name for o in near["a"]} == {"b", "c"}
    rng = np.random.default_rng(0)
    ra, dec = 359.999 + rng.uniform(-0.006, 0.006, 4000), 60 + rng.uniform(-0.003, 0.006, 4000)
    owners, covers = np.zeros(4000, int), np.zeros(4000, int)
    for f in tracts:
        x, y = f.wcs.all_world2pix(ra, dec, 0)
        inside = (abs(y - 49.5) < 50) & (abs(x - 49.5) < 50)
        covers += inside
        owners[inside] += owned(f, near[f.name], y[inside], x[inside])
    assert (covers > 1).sum() > 200
    np.testing.assert_array_equal(owners, np.minimum(covers, 1))


def test_coadds_apart_or_without_a_place_on_the_sky_are_left_whole():
    nowhere = [Footprint("a", (10, 20)), Footprint("b", (10, 20))]
    apart = [turned(0, 10.0, 0.0, "a"), turned(0, 11.0, 0.0, "b")]
    for pair in (nowhere, apart):
        near = neighbours(pair)
        assert near == {"a": (), "b": ()}
        assert primary_box(pair[0], near["a"]) == Box.of_shape(pair[0].shape)


def test_of_two_coadds_of_one_place_the_first_by_name_has_it():
    pair = [turned(0, 10.0, 0.0, "b"), turned(0, 10.0, 0.0, "a")]
    near = neighbours(pair)
    assert primary_box(pair[1], near["a"]) == Box(0, 0, SIDE, SIDE)
    assert primary_box(pair[0], near["b"]).area == 0


@pytest.fixture(scope="module")
def tract(tmp_path_factory):
    """2x2 patches of 120 pixels with 30 of overlap, on one sky of 210x210 with 40 stars."""
    folder = tmp_path_factory.mktemp("tract")
    image, positions = scene((210, 210), n=40)
    wcs = tan_wcs(image.shape)
    for r in range(2):
        for c in range(2):
            box = Box(90 * r, 90 * c, 120, 120)
            part = np.ascontiguousarray(image[box.slices])
            for band in "gr":
                write_calexp(
                    folder, band, part, patch=f"{c},{r}", origin=(box.y0, box.x0),
                    wcs=wcs.slice(box.slices),
                )  # fmt: skip
    return folder, positions, wcs


def labelled(folder, out, overlaps):
    config = LabelConfig(tile=TileConfig(size=70, margin_px=24, overlaps=overlaps))
    result = make_coco(find_coadds(Inputs((folder,))), config, out, progress=False)
    document = coco.read(result.coco)
    own = [
        a
        for a in document["annotations"]
        if not a["iscrowd"] and "peak_outside" not in a["attributes"]["flags"]
    ]
    sky = np.array([[a["attributes"]["ra"], a["attributes"]["dec"]] for a in own])
    return document, sky


def test_overlapping_patches_label_no_object_twice(tract, tmp_path):
    folder, positions, wcs = tract
    document, sky = labelled(folder, tmp_path / "resolved", "resolve")
    pixels = wcs.all_world2pix(sky, 0)
    assert len(cKDTree(pixels).query_pairs(2.0)) == 0
    gap = cKDTree(pixels).query(positions[:, ::-1])[0]
    assert (gap < 1.0).all()
    assert len(sky) == len(positions)
    assert sum(i["height"] * i["width"] for i in document["images"]) == 210 * 210


def test_naive_labelling_of_overlapping_patches_labels_objects_twice(tract, tmp_path):
    folder, positions, wcs = tract
    _, sky = labelled(folder, tmp_path / "kept", "keep")
    pairs = cKDTree(wcs.all_world2pix(sky, 0)).query_pairs(2.0)
    assert len(pairs) > 5
    assert len(sky) > len(positions) + 5


def test_what_is_labelled_in_another_tract_is_an_ignore_region_here(tmp_path):
    rng = np.random.default_rng(4)
    shape = (120, 120)
    here, there = tan_wcs(shape), tan_wcs(shape)
    angle = np.radians(10)
    there.wcs.pc = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    there.wcs.crval = here.all_pix2world([[95, 60]], 0)[0]
    stars = np.array([[y, x] for y in (20, 60, 100) for x in (40, 70, 90, 110)], float)
    sky = here.all_pix2world(stars[:, ::-1], 0)
    gy, gx = np.indices(shape)
    for name, wcs in (("1", here), ("2", there)):
        image = rng.normal(0, SIGMA, shape)
        for x, y in wcs.all_world2pix(sky, 0):
            image += 60 * SIGMA * np.exp(-((gy - y) ** 2 + (gx - x) ** 2) / (2 * 1.7**2))
        write_calexp(tmp_path / "in", "i", image.astype("f4"), tract=name, wcs=wcs)
    document, found = labelled(tmp_path / "in", tmp_path / "out", "resolve")
    pixels = here.all_world2pix(found, 0)
    assert len(cKDTree(pixels).query_pairs(3.0)) == 0
    assert (cKDTree(pixels).query(stars[:, ::-1])[0] < 1).all()
    crowds = [a for a in document["annotations"] if a["iscrowd"]]
    assert len(crowds) >= 2
    states = document["info"]["sources"]
    assert states["skipped:labelled in another coadd"] >= len(crowds)


def test_another_neighbour_makes_the_tiles_anew(tract, tmp_path):
    folder, _, _ = tract
    coadds = find_coadds(Inputs((folder,)))
    config = LabelConfig(tile=TileConfig(size=200, margin_px=24))
    make_coco(coadds[:1], config, tmp_path, progress=False)
    alone = coco.read(tmp_path / "coco.json")["images"][0]
    make_coco(coadds, config, tmp_path, progress=False)
    together = coco.read(tmp_path / "coco.json")["images"][0]
    assert (alone["height"], together["height"]) == (120, 105)


def test_the_paper_preset_keeps_overlaps():
    assert preset("paper").tile.overlaps == "keep"
    assert preset("default").tile.overlaps == "resolve"


def test_a_coadd_that_lies_on_another_is_said_to_be_left_out(tmp_path):
    for name in ("a", "b"):
        write_plain(tmp_path / f"{name}.fits", scene()[0], tan_wcs((128, 160)))
    inputs = Inputs((tmp_path / "a.fits", tmp_path / "b.fits"), bands=("i",))
    result = make_coco(find_coadds(inputs), LabelConfig(), tmp_path / "out", progress=False)
    assert [name for name, _ in result.tiles] == ["a-r0c0"]
    (problem,) = result.problems
    assert problem.startswith("b: not labelled, its sky is that of a;")
