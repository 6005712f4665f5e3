"""Manifests: what is sound is read to the letter, what is not is one clear line."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from fits_files import scene, write_calexp, write_plain

from astrolabel.cli.main import main
from astrolabel.core.errors import InputError
from astrolabel.datasets.build import build
from astrolabel.datasets.lock import check_content, read_lock
from astrolabel.datasets.manifest import read_manifest
from astrolabel.datasets.manifest_files import (
    coadds_of,
    located,
    survey_states,
    table,
    wanted_files,
)
from astrolabel.io import coco

FOLDER = Path(__file__).parents[3] / "data_manifests"
SHIPPED = sorted(p for p in FOLDER.glob("*.yaml") if not p.name.endswith(".lock.yaml"))
GOOD = {
    "schema": 2,
    "name": "small",
    "survey": "hsc",
    "bands": ["g", "i"],
    "coadds": {"patches": {"9813": ["4,5"]}},
}
PLAIN = {"survey": "fits", "coadds": {"pattern": "{tract}/{patch}-{band}.fits",
                                      "patches": {"5063": [12, "20-21"]}}}  # fmt: skip
HSC = {"archive": "hsc", "rerun": "pdr3_dud"}
WEB = {"archive": "url", "server": "https://a.org/b", "coadds": "{band}-{tract}-{patch}.fits"}


def write(folder, **changes):
    values = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def read(folder, **changes):
    return read_manifest(write(folder, **changes))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_the_shipped_manifests_are_sound_and_said_to_be(path, tmp_path, capsys):
    manifest = read_manifest(path)
    assert manifest.name == path.stem
    assert manifest.description
    assert yaml.safe_load(path.read_text())["schema"] == 2
    assert main(["manifest", "check", str(path), "--root", str(tmp_path)]) == 2
    printed = capsys.readouterr().out
    assert "sound" in printed
    assert "missing" in printed


def test_what_is_to_be_shipped_is():
    assert {p.stem for p in SHIPPED} >= {
        "demo", "demo_served", "decam_phosim", "hsc_dr3_train", "hsc_dr3_udcosmos_test",
        "hsc_dr3_udcosmos_test_hst", "lsst_dp1_ecdfs",
    }  # fmt: skip


def shipped(name):
    return read_manifest(FOLDER / f"{name}.yaml")


def test_both_test_sets_have_the_same_tiles_and_the_papers_cuts():
    hsc, hst = shipped("hsc_dr3_udcosmos_test"), shipped("hsc_dr3_udcosmos_test_hst")
    assert hsc.coadds == hst.coadds
    assert hsc.coadds.patches == {"9813": ("3,4", "4,4", "5,4", "3,5", "4,5", "5,5")}
    assert (hsc.classes.scheme, hst.classes.scheme) == ("hsc", "hst")
    for manifest in (hsc, shipped("hsc_dr3_train")):
        config = manifest.config()
        assert config.preset == "paper"
        assert config.tile.max_no_data == 0.3
        assert config.classify.radius_arcsec == 1.0
        assert config.classify.max_magnitude_difference == 1.0


def test_the_shipped_patches_are_where_they_are_said_to_be(real_data):
    """Middles and corners from the release's own list of tracts and patches."""
    centre, corners = {}, {}
    line = re.compile(
        r"Tract: (\d+)  Patch: (\d,\d)\s+(Center|Corner\d) \(RA, Dec\): \((\S+) , (\S+)\)"
    )
    for found in line.finditer((real_data / "tracts_patches_UD-COSMOS.txt").read_text()):
        tract, patch, what, *sky = found.groups()
        sky = np.array(sky, float)
        if what == "Center":
            centre[tract, patch] = sky
        else:
            corners.setdefault((tract, patch), []).append(sky)

    def patches(name):
        return [(t, p) for t, ps in shipped(name).coadds.patches.items() for p in ps]

    def apart(a, b):
        return np.hypot((a[0] - b[0]) * np.cos(np.radians(b[1])), a[1] - b[1])

    test, train = patches("hsc_dr3_udcosmos_test"), patches("hsc_dr3_train")
    assert len(test) * 16 == 96
    assert (len(train), 16 * len(train)) == (81, 1296)
    # The ACS mosaic is 1.64 square degrees around its middle: within 0.62 all is inside.
    for key in test:
        assert max(apart(c, (150.1163, 2.2009)) for c in corners[key]) < 0.62
    for key in train:
        assert apart(centre[key], (150.1191, 2.2058)) < 1.05
        # A whole patch, 0.187 degrees, lies between its middle and any test patch's edge.
        side = [np.abs((centre[key] - centre[t]) * (1, 1)).max() for t in test]
        assert min(side) > 1.9 * 0.1866
    middles = np.array([centre[k] for k in train])
    gaps = [np.abs(middles - m).max(axis=1) for m in middles]
    assert min(np.sort(g)[1] for g in gaps) > 0.09  # no patch's middle in another
    # The box of the queries holds the test patches and the match radius.
    ra, dec = np.array([c for key in test for c in corners[key]]).T
    assert 149.93 < ra.min() - 0.001 < ra.max() + 0.001 < 150.57
    assert 2.10 < dec.min() - 0.001 < dec.max() + 0.001 < 2.55
    west = middles[:, 0] < 150.71
    assert (west.sum(), (middles[:, 0] > 150.72).sum()) == (65, 16)


@pytest.mark.parametrize("name", ["hsc_dr3_udcosmos", "hsc_dr3_train"])
def test_the_queries_ask_for_what_the_reader_reads_and_for_clean_flags_in_five_bands(name):
    sql = (FOLDER / "queries" / f"{name}.sql").read_text()
    bare = re.sub(r"--.*", "", sql)
    for column in ("object_id", "ra", "dec", "isprimary", "i_cmodel_mag", "i_extendedness_value"):
        assert re.search(rf"[\s,]{column}\s", bare)
    flags = ("edge", "bad", "crcenter", "saturatedcenter", "interpolatedcenter")
    for band in "grizy":
        for flag in flags:
            assert f"AND NOT {band}_pixelflags_{flag}\n" in bare
        assert f"AND NOT {band}_cmodel_flag\n" in bare
    for flag in (*flags, "cmodel_flag"):
        assert re.search(rf"--   {flag} ", sql)  # explained
    assert "pdr3_dud_rev.forced" in bare
    assert bare.rstrip().endswith("object_id")  # ordered


def test_ranges_of_patches_are_written_out_in_order(tmp_path):
    manifest = read(tmp_path, coadds={"patches": {9813: ["3-5,4-5", "0,8"], "17": [12, "20-22"]}})
    assert manifest.coadds.patches == {
        "9813": ("3,4", "4,4", "5,4", "3,5", "4,5", "5,5", "0,8"),
        "17": ("12", "20", "21", "22"),
    }


def test_the_recipe_is_the_presets_with_the_manifests_numbers(tmp_path):
    cuts = {"max_no_data": 0.1, "match_radius_arcsec": 0.5, "magnitude_band": "r",
            "max_magnitude_difference": 2}  # fmt: skip
    config = read(tmp_path, preset="paper", tile_size=64, cuts=cuts).config()
    assert (config.preset, config.detect.noise) == ("paper", "sep")
    assert (config.tile.size, config.tile.margin_px, config.tile.max_no_data) == (64, 0, 0.1)
    assert config.classify.radius_arcsec == 0.5
    assert config.classify.magnitude_band == "r"
    assert config.classify.max_magnitude_difference == 2
    assert config.classify.scheme == "none"


def test_the_catalog_of_the_scheme_gives_the_classes(tmp_path):
    catalogs = [{"file": "a.fits", "scheme": "hsc"}, {"file": "b.csv", "scheme": "hst"}]
    assert read(tmp_path, catalogs=catalogs, scheme="hst").classes.file == "b.csv"
    assert read(tmp_path, catalogs=catalogs).classes is None


def test_splits_are_regions_by_name(tmp_path):
    moc = "3/0-2  4/700,701\n"
    splits = read(
        tmp_path,
        splits={
            "train": {"patches": {"9813": ["4,5"]}},
            "val": [{"circle": [150, 2, 0.5]}, {"polygon": [[1, 2], [2, 2], [2, 3]]}],
            "test": {"healpix": {"order": 3, "pixels": [9, 4, 9]}},
            "rest": {"moc": moc},
            "named": {"coadds": ["train-*"]},
        },
    ).splits
    assert [(r.kind, r.value) for rs in splits.values() for r in rs] == [
        ("patches", {"9813": ("4,5",)}),
        ("circle", (150.0, 2.0, 0.5)),
        ("polygon", ((1.0, 2.0), (2.0, 2.0), (2.0, 3.0))),
        ("healpix", (3, (4, 9))),
        ("moc", "3/0-2 4/700,701"),
        ("coadds", ("train-*",)),
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bandz": ["g"]}, "unknown key 'bandz'; did you mean bands? the keys are schema"),
        ({"bands": None}, "no 'bands'"),
        ({"schema": 7}, "schema 7, but this version reads 2"),
        ({"schema": 1}, "schema 1, but this version reads 2"),
        ({"schema": True}, "schema True"),
        ({"survey": "sdss"}, "survey is 'sdss'; give fits or hsc"),
        ({"survey": ["hsc"]}, "survey is ['hsc']"),
        ({"scheme": "hsc"}, "without a catalog of that scheme"),
        ({"bands": "gri"}, "bands is 'gri'"),
        ({"bands": ["g", "g"]}, "different names"),
        ({"tile_size": "big"}, "tile_size is 'big'"),
        ({"tile_size": 1.5}, "tile_size is 1.5"),
        ({"tile_size": True}, "tile_size is True"),
        ({"name": 3}, "name is 3"),
        ({"name": "../up"}, "it names a folder"),
        ({"coadds": ["4,5"]}, "coadds is ['4,5']"),
        ({"coadds": {"9813": ["4,5"]}}, "unknown key 'coadds.9813'"),
        ({"coadds": {"patches": {"9813": "4,5"}}}, "the patches of tract 9813 are '4,5'"),
        ({"coadds": {"patches": {"9813": ["a"]}}}, "the patches of tract 9813 are 'a'"),
        ({"coadds": {"patches": {"9813": ["5-3,4"]}}}, "'5-3,4'"),
        ({"coadds": {"patches": {"9813": ["1,2,3"]}}}, "'1,2,3'"),
        ({"coadds": {"patches": {"9813": [True]}}}, "True"),
        ({"coadds": {"patches": {"9813": []}}}, "[]"),
        ({"coadds": {"patches": {"9813": ["4,5", "3-4,5"]}}}, "has patch 4,5 twice"),
        ({"coadds": {"patches": {"cosmos": ["4,5"]}}}, "the tract 'cosmos'"),
        ({"coadds": {}}, "found by tract and patch"),
        ({"coadds": {"pattern": "a-{band}.fits"}}, "found by tract and patch"),
        ({"survey": "fits"}, "need their files' names"),
        ({"survey": "fits", "coadds": {"pattern": "/etc/{band}"}}, "relative to the manifest"),
        ({"survey": "fits", "coadds": {"pattern": "../{band}"}}, "without .."),
        ({"survey": "fits", "coadds": {"pattern": "a.fits"}}, "{band} in it"),
        ({"survey": "fits", "coadds": {"pattern": "{bnad}.fits"}}, "no braces but {band}"),
        ({"survey": "fits", "coadds": {"pattern": "{band.fits"}}, "no braces but {band}"),
        ({"survey": "fits", "coadds": {"pattern": "{band}-{patch}"}}, "coadds.patches as well"),
        ({**PLAIN, "coadds": {**PLAIN["coadds"], "pattern": "{band}"}}, "{tract} and {patch}"),
        ({"survey": "fits", "coadds": {"files": {"g": "a"}}}, "no 'coadds.files.i'"),
        ({"survey": "fits", "coadds": {"files": {"g": "a", "i": "b", "z": "c"}}}, "files.z"),
        ({"survey": "fits", "coadds": {"files": {"g": "a", "i": "b"}, "pattern": "{band}"}},
         "one or the other"),
        ({"catalogs": {"file": "a"}}, "catalogs is"),
        ({"catalogs": [{"file": "a"}]}, "no 'catalogs[0].scheme'; give columns, hsc, hst or lsst"),
        ({"catalogs": [{"scheme": "hsc"}]}, "no 'catalogs[0].file'"),
        ({"catalogs": [{"file": "a", "scheme": "none"}]}, "catalogs[0].scheme is 'none'"),
        ({"catalogs": [{"file": "a", "schema": "hsc"}]}, "did you mean scheme?"),
        ({"catalogs": [{"file": "../a", "scheme": "hsc"}]}, "without .."),
        ({"catalogs": [{"file": "a", "scheme": "hsc", "url": "ftp://a/b"}]}, "https://host/path"),
        ({"catalogs": [{"file": "a", "scheme": "hsc", "url": "https://u:p@a/b"}]}, "account name"),
        ({"catalogs": [{"file": "a", "scheme": "hsc", "url": "https://a", "query": "b"}]},
         "a query and an url"),
        ({"catalogs": [{"file": "a", "scheme": "hsc", "query": "b.sql"}]}, "no database"),
        ({"catalogs": [{"file": "a", "scheme": "hsc", "query": "b.sql"}], "source": HSC},
         "query b.sql is not there"),
        ({"catalogs": [{"file": "a", "scheme": "hsc"}, {"file": "b", "scheme": "hsc"}]},
         "two catalogs have the scheme hsc"),
        ({"catalogs": [{"file": "a", "scheme": "hsc"}, {"file": "a", "scheme": "hst"}]},
         "two catalogs have the file a"),
        ({"cuts": {"max_no_data": 30}}, "cuts.max_no_data is 30; give a number from 0 to 1"),
        ({"cuts": {"max_nodata": 0.3}}, "did you mean max_no_data?"),
        ({"cuts": {"match_radius_arcsec": float("nan")}}, "match_radius_arcsec is nan"),
        ({"cuts": [0.3]}, "cuts is [0.3]"),
        ({"source": {"archive": "ftp"}}, "source.archive is 'ftp'"),
        ({"source": {"archive": "hsc"}}, "no 'source.rerun'; give pdr3_dud"),
        ({"source": {**HSC, "coadds": "a"}}, "unknown key 'source.coadds'"),
        ({"source": {**HSC, "psfs": "no"}}, "source.psfs is 'no'; give true or false"),
        ({"source": {**HSC, "server": "hsc"}}, "source.server is 'hsc'"),
        ({"source": {"archive": "url"}}, "no 'source.server'"),
        ({"source": {**WEB, "coadds": "{tract}.fits"}}, "source.coadds is"),
        ({"source": {**WEB, "rerun": "a"}}, "unknown key 'source.rerun'"),
        ({**PLAIN, "source": HSC}, "give url for coadds of survey fits"),
        ({**PLAIN, "source": {**WEB, "psfs": "{tract}-{patch}-{band}"}}, "without coadds.psfs"),
        ({"survey": "fits", "coadds": {"pattern": "*/{band}"}, "source": WEB}, "found by *"),
        ({"splits": ["train"]}, "splits is ['train']"),
        ({"splits": {"a/b": {"circle": [0, 0, 1]}}}, "called 'a/b'"),
        ({"splits": {"a": {"circle": [150, 2]}}}, "[ra, dec, radius] in degrees"),
        ({"splits": {"a": {"circle": [400, 2, 1]}}}, "splits.a.circle is [400, 2, 1]"),
        ({"splits": {"a": {"circle": [150, 2, 0]}}}, "the radius up to 90"),
        ({"splits": {"a": {"polygon": [[0, 0], [1, 0]]}}}, "three or more different corners"),
        ({"splits": {"a": {"polygon": [[0, 0], [1, 0], [0, 0]]}}}, "different corners"),
        ({"splits": {"a": {"polygon": [[0, 0], [1, 0], [0, 91]]}}}, "in degrees"),
        ({"splits": {"a": {"healpix": {"order": 30, "pixels": [1]}}}}, "order is 30"),
        ({"splits": {"a": {"healpix": {"pixels": [1]}}}}, "no 'splits.a.healpix.order'"),
        ({"splits": {"a": {"healpix": {"order": 0, "pixels": [12]}}}}, "from 0 to 11"),
        ({"splits": {"a": {"moc": "3/768"}}}, "a MOC in ASCII"),
        ({"splits": {"a": {"moc": "3/5-2"}}}, "a MOC in ASCII"),
        ({"splits": {"a": {"moc": "all sky"}}}, "a MOC in ASCII"),
        ({"splits": {"a": {"moc": "30/1"}}}, "a MOC in ASCII"),
        ({"splits": {"a": {"sphere": 1}}}, "unknown key 'splits.a.sphere'"),
        ({"splits": {"a": {}}}, "splits.a: 0 keys; give one of patches"),
        ({"splits": {"a": {"circle": [0, 0, 1], "moc": "1/1"}}}, "splits.a: 2 keys; give one of"),
        ({"splits": {"a": {"coadds": []}}}, "splits.a.coadds is []"),
        ({"splits": {"a": {"patches": {"9813": ["4,6"]}}}}, "patch 4,6, which is not among"),
        ({"splits": {"a": {"patches": {"9813": ["4,5"]}}, "b": {"patches": {"9813": ["4,5"]}}}},
         "splits a and b both have tract 9813 patch 4,5"),
    ],
    ids=lambda v: v[:40] if isinstance(v, str) else "",
)  # fmt: skip
def test_a_faulty_manifest_is_refused_with_the_key(tmp_path, changes, problem):
    with pytest.raises(InputError) as caught:
        read(tmp_path, **changes)
    text = str(caught.value)
    assert problem in text
    assert "m.yaml: " in text
    assert "\n" not in text
    assert caught.value.remedy or "twice" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "not YAML"),
        ("- just\n- a list", "not a mapping"),
        ("\x00", "not YAML"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice, line 3"),
        ("a: {b: 1, b: 2}", "the key 'b' is given twice, line 1"),
        ("? [1, 2]\n: 3", "not YAML"),
        ("a: 2020-13-45", "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("a: !!float ''", "not YAML"),
        ("a: !!timestamp 99999-99-99", "not YAML"),
        ("a: !!bool perhaps", "not YAML"),
        ("a: " + "x" * 2**24, "not YAML (more than 16777216 characters)"),
    ],
)
def test_what_is_not_a_manifest_is_refused(tmp_path, text, problem):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"m\.yaml: .*{re.escape(problem)}"):
        read_manifest(tmp_path / "m.yaml")


def test_only_the_coadds_of_the_manifest_are_taken_also_from_hscs_tree(tmp_path):
    image, _ = scene()
    for patch in ("4,5", "4,6"):
        for band in "gri":
            write_calexp(tmp_path / "deepCoadd-results" / band / patch, band, image, patch=patch)
    (coadd,) = coadds_of(read(tmp_path), tmp_path, [])
    assert (coadd.name, coadd.bands) == ("9813-4,5", ("g", "i"))


def test_a_coadd_that_is_there_twice_is_told(tmp_path):
    image, _ = scene()
    write_calexp(tmp_path / "a", "g", image)
    write_calexp(tmp_path / "b", "g", image)
    with pytest.raises(InputError, match=r"b/calexp.*a second file of one coadd, besides .*a/"):
        located(read(tmp_path), tmp_path)


def test_plain_coadds_come_by_tract_and_patch_with_their_psfs(tmp_path):
    image, _ = scene()
    (tmp_path / "5063").mkdir()
    coadds = {**PLAIN["coadds"], "psfs": "{tract}/psf-{patch}-{BAND}.fits"}
    for patch in (12, 20, 21):
        for band in "gi":
            write_plain(tmp_path / f"5063/{patch}-{band}.fits", image)
            write_plain(tmp_path / f"5063/psf-{patch}-{band.upper()}.fits", image[:21, :21])
    found = coadds_of(read(tmp_path, survey="fits", coadds=coadds), tmp_path, [])
    assert [(c.name, c.tract, c.patch) for c in found] == [
        (f"5063-{p}", "5063", str(p)) for p in (12, 20, 21)
    ]
    assert found[0].psf["i"] == (tmp_path / "5063/psf-12-I.fits",)
    (tmp_path / "5063/psf-12-I.fits").unlink()
    with pytest.raises(InputError, match=r"1 of the manifest's 12 coadds and PSFs.*psf-12-I"):
        coadds_of(read(tmp_path, survey="fits", coadds=coadds), tmp_path, [])


def test_plain_coadds_come_by_a_star_in_natural_order(tmp_path):
    image, _ = scene()
    for number in (10, 9, 0):
        folder = tmp_path / "training" / f"set_{number}"
        folder.mkdir(parents=True)
        for band in "gi":
            write_plain(folder / f"img_{band}.fits", image)
    manifest = read(tmp_path, survey="fits", coadds={"pattern": "*/set_*/img_{band}.fits"})
    found = coadds_of(manifest, tmp_path, [])
    assert [c.name for c in found] == ["training-0", "training-9", "training-10"]
    (tmp_path / "training/set_9/img_i.fits").unlink()
    (state,) = [s for s in survey_states(manifest, tmp_path) if s.state != "new"]
    assert (state.state, state.wanted.file) == ("missing", "training/set_9/img_i.fits")
    with pytest.raises(InputError, match=r"no file there has a name of the manifest's pattern"):
        coadds_of(manifest, tmp_path / "training", [])


def test_files_by_band_are_relative_to_the_root(tmp_path):
    image, _ = scene()
    (tmp_path / "data").mkdir()
    write_plain(tmp_path / "data" / "g.fits", image)
    changes = {"survey": "fits", "bands": ["g"], "coadds": {"files": {"g": "g.fits"}}}
    manifest = read(tmp_path, **changes, root="data")
    (coadd,) = coadds_of(manifest, manifest.folder(), [])
    assert (coadd.name, coadd.paths) == ("small", (tmp_path / "data" / "g.fits",))
    moved = tmp_path / "elsewhere"
    (tmp_path / "data").rename(moved)
    (coadd,) = coadds_of(manifest, manifest.folder(moved), [])
    assert coadd.paths == (moved / "g.fits",)


def test_missing_coadds_and_catalogs_are_named_and_nothing_is_written(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"2 of the manifest's 2 coadds.*calexp-HSC-G-9813-4,5"):
        build(read(tmp_path), tmp_path, out)
    image, _ = scene()
    for band in "gi":
        write_calexp(tmp_path, band, image)
    manifest = read(tmp_path, catalogs=[{"file": "forced.fits", "scheme": "hsc"}], scheme="hsc")
    with pytest.raises(InputError, match=r"forced\.fits: the manifest's catalog is not there"):
        build(manifest, tmp_path, out)
    assert not out.exists()


def test_another_preset_keeps_the_manifests_own_numbers(tmp_path, capsys):
    image, _ = scene()
    for band in "gi":
        write_calexp(tmp_path, band, image)
    path = write(tmp_path, tile_size=200, cuts={"max_no_data": 0.2})
    out = tmp_path / "out"
    words = ("make-coco", "--manifest", path, "--preset", "paper", "--out", out, "--quiet")
    assert main([str(w) for w in words]) == 0
    config = coco.read(out / "coco.json")["info"]["config"]
    assert (config["preset"], config["detect"]["noise"]) == ("paper", "sep")
    assert (config["tile"]["size"], config["tile"]["max_no_data"]) == (200, 0.2)


def test_check_says_what_is_there_missing_and_wrong(tmp_path, capsys):
    image, _ = scene()
    write_calexp(tmp_path, "g", image)
    stump = write_calexp(tmp_path, "i", image)
    stump.write_bytes(stump.read_bytes()[:40_000])
    path = write(tmp_path, catalogs=[{"file": "forced.fits", "scheme": "hsc"}])
    assert main(["manifest", "check", str(path)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["wanted", "ok", "new", "missing", "wrong"]
    assert [line.split() for line in lines[2:5]] == [
        ["coadd", "g", "1", "0", "1", "0", "0"],
        ["coadd", "i", "1", "0", "0", "0", "1"],
        ["catalog", "1", "0", "0", "1", "0"],
    ]
    assert "calexp-HSC-I-9813-4,5.fits: not a readable FITS file" in lines[5]
    assert lines[6:] == ["missing: forced.fits"]
    write_calexp(tmp_path, "i", image)
    assert main(["manifest", "check", str(write(tmp_path))]) == 0


@pytest.mark.parametrize("cut", [1, 100, 2880, 3000, 50_000, 230_000])
def test_a_fits_file_cut_anywhere_is_seen(tmp_path, cut):
    whole = write_calexp(tmp_path, "g", scene()[0])
    check_content(whole)
    whole.write_bytes(whole.read_bytes()[:-cut])
    with pytest.raises(InputError, match="not a readable FITS file"):
        check_content(whole)


def test_a_long_list_of_what_is_amiss_is_cut(tmp_path):
    manifest = read(tmp_path, coadds={"patches": {"9813": ["0-8,0-8"]}})
    lines = table(survey_states(manifest, tmp_path)).splitlines()
    assert len(lines) == 3 + 20 + 1
    assert lines[-1] == "and 142 more"


def test_psfs_are_wanted_of_hsc_only_where_they_can_be_fetched(tmp_path):
    def kinds(**changes):
        return [w.kind for w in wanted_files(read(tmp_path, **changes), tmp_path)]

    assert kinds() == ["coadd"] * 2
    assert kinds(source=HSC) == ["coadd"] * 2 + ["psf"] * 2
    assert kinds(source={**HSC, "psfs": False}) == ["coadd"] * 2
    assert kinds(source=WEB) == ["coadd"] * 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schema: 2\nfiles: {}", "schema is 2; give 1"),
        ("schema: 1\nfile: {}", "did you mean files?"),
        ("schema: 1\nfiles: {a: {sha256: abc}}", "64 hexadecimal digits"),
        ("schema: 1\nfiles: {a: 3}", "a is 3"),
        ("schema: 1\nfiles: [a]", "files is ['a']"),
        ("[", "not YAML"),
    ],
)
def test_a_faulty_lock_is_told(tmp_path, text, problem):
    (tmp_path / "m.lock.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"m\.lock\.yaml: .*{re.escape(problem)}"):
        read_lock(tmp_path / "m.yaml")


def test_a_lock_is_written_and_read_back_sorted(tmp_path):
    lock = read_lock(tmp_path / "m.yaml")
    for file in ("b", "a"):
        lock = lock.with_entry(file, {"sha256": "0" * 64, "bytes": 1})
    assert list(read_lock(tmp_path / "m.yaml").entries) == ["a", "b"]
    first = (tmp_path / "m.lock.yaml").read_bytes()
    read_lock(tmp_path / "m.yaml").with_entry("a", {"sha256": "0" * 64, "bytes": 1})
    assert (tmp_path / "m.lock.yaml").read_bytes() == first


@pytest.mark.parametrize("action", ["check", "fetch", "build"])
def test_the_commands_end_a_faulty_manifest_in_one_line(tmp_path, capsys, action):
    path = write(tmp_path, bandz=[])
    assert main(["manifest", action, str(path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "did you mean bands?" in lines[0]
    with pytest.raises(SystemExit) as stop:
        main(["manifest", action, "--help"])
    assert stop.value.code == 0


@pytest.mark.parametrize("archive", [[[]], {"a": 1}, None, 7])
def test_an_archive_that_is_no_word_is_told_in_one_line(tmp_path, archive):
    source = {"archive": archive, "server": "http://127.0.0.1:9", "coadds": "{band}"}
    values = {"schema": 2, "name": "x", "survey": "fits", "bands": ["g"], "source": source,
              "coadds": {"pattern": "{band}.fits"}}  # fmt: skip
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"m\.yaml: source"):
        read_manifest(tmp_path / "m.yaml")


@pytest.mark.parametrize("pattern", [".bash_profile", ".config/{band}.fits", "a/.{band}.fits"])
def test_a_hidden_file_is_never_wanted(tmp_path, pattern):
    manifest = read(
        tmp_path, survey="fits", coadds={"pattern": pattern}, bands=["g"], scheme="none"
    )
    with pytest.raises(InputError, match="is a hidden one; give names that do not begin"):
        wanted_files(manifest, tmp_path)
