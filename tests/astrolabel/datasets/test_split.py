"""Parts of a dataset share no sky and no object."""

import json
import tracemalloc

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy_healpix import HEALPix
from mocpy import MOC

from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.datasets.footprints import contains, near_pairs, overlap_arcsec2, place
from astrolabel.datasets.regions import Region
from astrolabel.datasets.split_files import leaks, read_regions, split_files
from astrolabel.io import coco

SIDE = 100
SCALE = 0.2 / 3600


def tile(name, ra, dec, tract="1", patch="0,0", angle=0.0):
    """An image entry of 20 by 20 arcsec centred at (ra, dec)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(SIDE + 1) / 2] * 2
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[-c, s], [s, c]]) * SCALE
    header = wcs.to_header()
    astro = {
        "wcs": {key: header[key] for key in header},
        "tract": tract,
        "patch": patch,
        "cube": f"cubes/{name}.fits",
        "bands": ["i"],
    }
    return {"file_name": f"images/{name}.png", "height": SIDE, "width": SIDE, "astro": astro}


def label(ra=None, dec=None, object_id=None, flags=(), **more):
    return {
        **coco.annotation(
            mask=np.ones((3, 3), bool), box=Box(5, 5, 3, 3), image_shape=(SIDE, SIDE),
            category_id=1,
            attributes={"ra": ra, "dec": dec, "object_id": object_id, "flags": list(flags)},
        ),
        **more,
    }  # fmt: skip


def document(tiles, labels=None):
    shards = [{"image": t, "annotations": (labels or {}).get(k, [])} for k, t in enumerate(tiles)]
    return coco.merge({"description": "sky"}, [{"id": 1, "name": "source"}], shards)


def grid(n=6, ra=150.0, dec=2.0):
    """n x n tiles side by side."""
    step = SIDE * SCALE
    return [
        tile(f"p-r{r}c{c}", ra - c * step / np.cos(np.radians(dec)), dec + r * step)
        for r in range(n)
        for c in range(n)
    ]


def written(tmp_path, doc, **how):
    path = tmp_path / "coco.json"
    coco.write_json(path, doc)
    return split_files([path], tmp_path / "parts", **how)


def parts_of(result):
    return {name: coco.read(path) for name, path in result.files.items()}


def test_chance_gives_every_image_to_one_part(tmp_path):
    result = written(tmp_path, document(grid()))
    parts = parts_of(result)
    names = [i["file_name"] for doc in parts.values() for i in doc["images"]]
    assert len(names) == len(set(names)) == 36
    assert set(parts) == {"train", "val", "test"}
    assert leaks(list(result.files.values())) == []
    assert all(coco.validate(doc) == () for doc in parts.values())


def test_a_document_without_provenance_is_split(tmp_path):
    parts = parts_of(written(tmp_path, {**document(grid(2)), "info": None}, fractions={"a": 1}))
    assert parts["a"]["info"]["split"]["part"] == "a"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_split(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        written(tmp_path / name, document(grid()), fractions={"train": 1, "test": 1}, seed=seed)
    read = {n: (tmp_path / n / "parts" / "test.json").read_bytes() for n in "abc"}
    assert read["a"] == read["b"]
    assert read["a"] != read["c"]


def test_more_sky_leaves_the_parts_of_the_old_as_they_were(tmp_path):
    few, many = grid(4), grid(4) + grid(4, ra=151.0)
    test = {}
    for name, tiles in (("few", few), ("many", many)):
        (tmp_path / name).mkdir()
        doc = document([{**t, "file_name": f"{k}.png"} for k, t in enumerate(tiles)])
        result = written(
            tmp_path / name, doc, fractions={"train": 1, "test": 1}, order=12, stable=True
        )
        test[name] = {i["file_name"].split("/")[-1] for i in parts_of(result)["test"]["images"]}
    assert test["few"] == test["many"] & {f"{k}.png" for k in range(16)}


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, (51, 7, 6)), (3, (7, 1, 1)), (2, (2, 1, 1)), (10, (80, 10, 10))],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_fractions_are_met_to_the_image_by_tiles_side_by_side(tmp_path, side, expected, seed):
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    result = written(tmp_path, document(grid(side)), fractions=shares, seed=seed)
    assert tuple(len(p["images"]) for p in parts_of(result).values()) == expected
    assert "asked for" not in result.summary()
    assert leaks(list(result.files.values())) == []


def test_shares_that_whole_cells_cannot_meet_are_said(tmp_path):
    """Ten tiles in a cell, and another ten in one far from it: of two, one part has ten."""
    tiles = [tile(f"a{k}", 150.0, 2.0) for k in range(10)]
    tiles += [tile(f"b{k}", 170.0, 2.0) for k in range(10)]
    shares = {"train": 0.8, "test": 0.2}
    result = written(tmp_path, document(tiles), fractions=shares)
    assert [len(p["images"]) for p in parts_of(result).values()] == [10, 10]
    assert "asked for 16 train, 4 test: cells of the sky are not divided" in result.summary()


def test_stable_shares_are_kept_on_average(tmp_path):
    tiles = grid(15)
    shares = {"train": 0.7, "test": 0.3}
    result = written(tmp_path, document(tiles), fractions=shares, stable=True)
    share = len(parts_of(result)["test"]["images"]) / len(tiles)
    assert abs(share - 0.3) < 4 * np.sqrt(0.21 / len(tiles))


def test_a_region_takes_the_images_wholly_inside_and_drops_those_on_its_border(tmp_path):
    tiles = grid()
    radius = 1.6 * SIDE * SCALE
    region = Region("circle", (150.0, 2.0, radius))
    result = written(tmp_path, document(tiles), regions={"test": (region,)})
    parts = parts_of(result)
    assert {i["file_name"].split("/")[-1] for i in parts["test"]["images"]} == {"p-r0c0.png"} | {
        "p-r0c1.png", "p-r1c0.png",
    }  # fmt: skip
    dropped = parts["train"]["info"]["split"]["dropped"]
    assert set(dropped.values()) == {"lies on the border of test's region"}
    assert len(parts["train"]["images"]) + len(dropped) + 3 == 36
    assert leaks(list(result.files.values())) == []


def test_images_that_share_sky_with_a_later_part_are_dropped(tmp_path):
    tiles = [
        tile("a", 10.0, 0.0, patch="1,1"),
        tile("b", 10.0 + 0.9 * SIDE * SCALE, 0.0, patch="1,2"),
        tile("c", 10.1, 0.0, patch="1,2"),
    ]
    region = Region("patches", {"1": ("1,1",)})
    result = written(tmp_path, document(tiles), regions={"test": (region,)})
    assert [i["file_name"] for i in parts_of(result)["train"]["images"]] == ["../images/c.png"]
    assert list(result.split.why.values()) == ["shares sky with an image of test"]


def test_tiles_side_by_side_do_not_overlap_and_shifted_ones_do():
    step = SIDE * SCALE
    places = [place(k, tile(str(k), ra, 0.0)) for k, ra in enumerate((10, 10 + step, 10.5 * 1))]
    assert overlap_arcsec2(places[0], places[1]) < 0.01
    half = place(3, tile("h", 10 + step / 2, 0.0))
    assert overlap_arcsec2(places[0], half) == pytest.approx(20 * 10, rel=1e-3)
    turned = place(4, tile("t", 10.0, 0.0, angle=45))
    octagon = 400 * 2 * (np.sqrt(2) - 1)
    assert overlap_arcsec2(places[0], turned) == pytest.approx(octagon, rel=1e-3)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.9999, 45.0), (123.0, 89.999)])
def test_overlaps_are_found_across_zero_hours_and_at_the_pole(ra, dec):
    one = place(0, tile("a", ra, dec))
    other = place(1, tile("b", ra, dec + SIDE * SCALE / 2 * (-1 if dec > 89 else 1)))
    assert list(near_pairs([one, other])) == [(0, 1)]
    assert overlap_arcsec2(one, other) == pytest.approx(200, rel=0.02)


def half_and_half(labels):
    """Two tiles side by side, the second the test part."""
    step = SIDE * SCALE
    tiles = [tile("a", 10.0, 0.0, patch="0,0"), tile("b", 10.0 + step, 0.0, patch="1,0")]
    return document(tiles, labels), {"test": (Region("patches", {"1": ("1,0",)}),)}


def crowds(result):
    return {
        name: [a["iscrowd"] for a in doc["annotations"]] for name, doc in parts_of(result).items()
    }


def test_an_object_that_reaches_over_the_border_is_a_label_on_one_side_only(tmp_path):
    edge = 10.0 + SIDE * SCALE / 2
    doc, regions = half_and_half(
        {
            0: [label(edge - 5e-4, 0.0, flags=["edge", "peak_outside"]), label(10.0, 0.0)],
            1: [label(edge + 1e-4, 0.0, flags=["edge"])],
        }
    )
    assert crowds(written(tmp_path, doc, regions=regions)) == {"train": [1, 0], "test": [0]}


def test_an_object_that_reaches_into_the_later_part_stays_with_its_owner(tmp_path):
    edge = 10.0 + SIDE * SCALE / 2
    doc, regions = half_and_half(
        {
            0: [label(edge - 1e-4, 0.0, object_id="7", flags=["edge"])],
            1: [label(edge + 1e-4, 0.0, object_id="7", flags=["edge", "peak_outside"])],
        }
    )
    assert crowds(written(tmp_path, doc, regions=regions)) == {"train": [0], "test": [1]}


def test_one_catalog_object_is_a_label_in_one_part_only(tmp_path):
    doc, regions = half_and_half(
        {
            0: [label(10.001, 0.0, "42"), label(10.0, 0.0, "43"), label(10.0, 0.001)],
            1: [label(10.005, 0.0, "42"), label(10.006, 0.0, "44")],
        }
    )
    result = written(tmp_path, doc, regions=regions)
    assert crowds(result) == {"train": [1, 0, 0], "test": [0, 0]}
    assert "2 labels, 1 more of objects that another part has" in result.summary()


def test_the_check_finds_sky_objects_and_images_in_common(tmp_path):
    step = SIDE * SCALE
    a = document([tile("a", 10.0, 0.0)], {0: [label(10.0, 0.0, "1"), label(10.001, 0.0)]})
    b = document(
        [tile("b", 10.0 + step / 2, 0.0)],
        {0: [label(10.003, 0.0, "1"), label(10.001 + 5e-5, 0.0), label(10.001, 0.0, iscrowd=1)]},
    )
    for name, doc in (("a", a), ("b", b)):
        coco.write_json(tmp_path / f"{name}.json", doc)
    found = leaks([tmp_path / "a.json", tmp_path / "b.json"])
    assert len(found) == 3
    assert "a and b share 200 square arcseconds of sky" in found[0]
    assert "annotation 1 of" in found[1]
    assert "catalog object 1" in found[1]
    assert "within 0.5 arcsec" in found[2]
    coco.write_json(tmp_path / "c.json", a)
    assert any("both have" in line for line in leaks([tmp_path / "a.json", tmp_path / "c.json"]))


def test_the_check_names_labels_of_any_of_several_files(tmp_path):
    """Each file's ids are its own, also where one before it is empty."""
    for k, found in enumerate(([1.0, 2.0], [], [3.0], [4.0, 5.0, 3.0])):
        labels = {0: [label(10.0 + k, 0.001 * dec, f"{dec}") for dec in found]}
        coco.write_json(tmp_path / f"{k}.json", document([tile(f"{k}", 10.0 + k, 0.0)], labels))
    (line,) = leaks([tmp_path / f"{k}.json" for k in range(4)])
    assert line == (
        f"annotation 1 of {tmp_path / '2.json'} and annotation 3 of {tmp_path / '3.json'} are one "
        "object: catalog object 3.0"
    )


def test_neither_split_nor_check_holds_the_labels(tmp_path):
    files, pad = [], "x" * 20_000
    for k in range(2):
        labels = [label(10.0 + k, 1e-3 * n, f"{k}-{n}") for n in range(400)]
        labels = [{**a, "attributes": {**a["attributes"], "pad": pad}} for a in labels]
        files.append(tmp_path / f"{k}.json")
        coco.write_json(files[-1], document([tile(f"{k}", 10.0 + k, 0.0)], {0: labels}))
    regions = {"a": (Region("coadds", ("0",)),), "b": (Region("coadds", ("1",)),)}
    for work in (
        lambda: leaks(files),
        lambda: split_files(files, tmp_path / "out", regions=regions, rest=None).summary(),
    ):
        work()  # imports
        tracemalloc.start()
        work()
        assert tracemalloc.get_traced_memory()[1] < 800 * len(pad) / 4
        tracemalloc.stop()


def test_the_check_command_fails_on_leaks(tmp_path, capsys):
    coco.write_json(tmp_path / "a.json", document([tile("a", 10.0, 0.0)]))
    coco.write_json(tmp_path / "b.json", document([tile("b", 10.0, 0.0)]))
    coco.write_json(tmp_path / "c.json", document([tile("c", 11.0, 0.0)]))
    assert main(["split", "--check", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "1 leaks" in capsys.readouterr().out
    assert main(["split", "--check", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 0
    assert capsys.readouterr().out == "no leaks\n"


def test_files_are_joined_and_their_paths_followed(tmp_path):
    for name, ra in (("one", 10.0), ("two", 20.0)):
        (tmp_path / name / "images").mkdir(parents=True)
        tiles = [tile(f"{name}-{k}", ra + k, 0.0) for k in range(2)]
        coco.write_json(tmp_path / name / "coco.json", document(tiles, {0: [label(ra, 0.0)]}))
    files = [tmp_path / name / "coco.json" for name in ("one", "two")]
    regions = {"test": (Region("coadds", ("two*",)),)}
    result = split_files(files, tmp_path / "out", regions=regions)
    parts = parts_of(result)
    assert [i["file_name"] for i in parts["test"]["images"]] == [
        "../two/images/two-0.png", "../two/images/two-1.png",
    ]  # fmt: skip
    assert parts["test"]["images"][0]["astro"]["cube"] == "../two/cubes/two-0.fits"
    assert [a["image_id"] for a in parts["test"]["annotations"]] == [1]
    sources = parts["train"]["info"]["split"]["sources"]
    assert [s["file"] for s in sources] == ["coco.json", "coco.json"]


def test_scenes_parted_by_name_may_have_one_sky(tmp_path):
    tiles = [tile(f"{name}-{k}", 10.0, 0.0) for name in ("training", "test") for k in range(3)]
    labels = {k: [label(10.0, 0.0)] for k in range(6)}
    regions = {
        "train": (Region("coadds", ("training-*",)),),
        "test": (Region("coadds", ("test-*",)),),
    }
    result = written(tmp_path, document(tiles, labels), regions=regions, rest=None)
    assert crowds(result) == {"train": [0] * 3, "test": [0] * 3}


@pytest.mark.parametrize("kind", ["circle", "polygon", "healpix", "moc"])
def test_regions_hold_what_they_should(kind):
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(355, 365, 3000) % 360, rng.uniform(-5, 5, 3000)
    if kind == "circle":
        found = contains(Region(kind, (0.0, 1.0, 3.0)), ra, dec)
        centre = SkyCoord(0, 1, unit="deg")
        expected = SkyCoord(ra, dec, unit="deg").separation(centre).deg < 3.0
    elif kind == "polygon":
        corners = ((358.0, -2.0), (2.0, -2.0), (2.0, 2.0), (358.0, 2.0))
        found = contains(Region(kind, corners), ra, dec)
        x = (ra + 180) % 360 - 180
        clear = (abs(abs(dec) - 2) > 0.01) & (abs(abs(x) - 2) > 0.01)  # sides are great circles
        expected = np.where(clear, (abs(x) < 2) & (abs(dec) < 2), found)
    else:
        cells = HEALPix(2**4, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
        chosen = tuple(np.unique(cells)[::2].tolist())
        text = "4/" + ",".join(map(str, chosen))
        value = (4, chosen) if kind == "healpix" else text
        found, expected = contains(Region(kind, value), ra, dec), np.isin(cells, chosen)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(found, expected)


def test_a_polygon_does_not_hold_the_other_side_of_the_sky():
    corners = ((10.0, 0.0), (20.0, 0.0), (20.0, 10.0))
    there = contains(Region("polygon", corners), np.array([197.0]), np.array([-3.0]))
    here = contains(Region("polygon", corners), np.array([17.0]), np.array([3.0]))
    assert (there[0], here[0]) == (False, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["test"], "write PART=circle"),
        (["test=circle:1,2,x"], "write PART=circle"),
        (["test=circle:1,2"], "circle"),
        (["test=square:1,2"], "square"),
    ],
)
def test_a_region_that_cannot_be_read_is_explained(words, message):
    with pytest.raises(InputError, match=message):
        read_regions(words, None)


def test_regions_of_the_command_line():
    found = read_regions(["test=circle:1,2,0.5", "test=patches:9/4,5", "val=moc:4/7-9"], None)
    assert [r.kind for r in found["test"]] == ["circle", "patches"]
    assert found["val"] == (Region("moc", "4/7-9"),)


def test_a_moc_file_is_a_region(tmp_path):
    moc = MOC.from_string("4/7-9")
    moc.save(tmp_path / "field.fits", format="fits")
    found = read_regions([f"test=moc:{tmp_path / 'field.fits'}"], None)
    cell = HEALPix(16, order="nested").healpix_to_lonlat([7, 10])
    inside = contains(found["test"][0], *(v.deg for v in cell))
    assert inside.tolist() == [True, False]
    (tmp_path / "text.fits").write_text("no moc")
    with pytest.raises(InputError, match=r"text\.fits: not a readable FITS file"):
        read_regions([f"test=moc:{tmp_path / 'text.fits'}"], None)


def test_what_cannot_be_split_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"cells of order .* leave none for"):
        written(tmp_path, document([tile("a", 10.0, 0.0)]))
    nowhere = tile("a", 10.0, 0.0)
    nowhere["astro"]["wcs"] = None
    with pytest.raises(InputError, match="no image has a WCS"):
        written(tmp_path, document([nowhere]))
    far = {"test": (Region("circle", (200.0, 0.0, 1.0)),)}
    with pytest.raises(InputError, match="no image is left for the part test"):
        written(tmp_path, document(grid(2)), regions=far)
    assert not (tmp_path / "parts").exists()


def test_other_categories_cannot_be_joined(tmp_path):
    a, b = document([tile("a", 1.0, 0.0)]), document([tile("b", 2.0, 0.0)])
    b["categories"] = [{"id": 1, "name": "star"}]
    for name, doc in (("a", a), ("b", b)):
        coco.write_json(tmp_path / f"{name}.json", doc)
    with pytest.raises(InputError, match=r"b\.json.*categories are not those of a\.json"):
        split_files([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "out")


def test_the_map_shows_every_image_in_its_colour(tmp_path):
    result = written(tmp_path, document(grid(3)), fractions={"train": 1, "test": 1})
    text = result.map.read_text()
    assert text.count("<title>p-r") == 9
    assert text.count("p-r1c1: ") == 1
    n = len(json.loads(result.files["test"].read_text())["images"])
    assert f"test: {n} images" in text
