from pathlib import Path

import pytest
import yaml
from fits_files import scene, write_calexp, write_plain

from astrolabel.errors import InputError
from astrolabel.manifest import read_manifest, request
from astrolabel.readers.find import find_coadds

SHIPPED = sorted((Path(__file__).parents[2] / "data_manifests").glob("*.yaml"))
GOOD = {
    "schema": 1,
    "name": "small",
    "survey": "hsc",
    "bands": ["g", "i"],
    "coadds": {"9813": ["4,5"]},
}


def write(folder, **changes):
    values = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_the_shipped_manifests_are_sound(path):
    manifest = read_manifest(path)
    assert manifest.description
    assert manifest.scheme in ("hsc", "hst")


def test_there_are_shipped_manifests():
    assert len(SHIPPED) >= 3


def test_only_the_coadds_of_the_manifest_are_taken(tmp_path):
    image, _ = scene()
    for patch in ("4,5", "4,6"):
        for band in "gri":
            write_calexp(tmp_path / "deep" / patch, band, image, patch=patch)
    asked = request(read_manifest(write(tmp_path, preset="paper", tile_size=64)))
    (coadd,) = find_coadds(asked.inputs)
    assert (coadd.name, coadd.bands) == ("9813-4,5", ("g", "i"))
    assert asked.config.preset == "paper"
    assert asked.config.tile.size == 64
    assert asked.config.classify.scheme == "none"


def test_files_by_band_are_relative_to_the_root(tmp_path):
    image, _ = scene()
    (tmp_path / "data").mkdir()
    write_plain(tmp_path / "data" / "g.fits", image)
    path = write(tmp_path, survey="fits", bands=["g"], coadds={"g": "g.fits"}, root="data")
    (coadd,) = find_coadds(request(read_manifest(path)).inputs)
    assert coadd.paths == (tmp_path / "data" / "g.fits",)
    moved = tmp_path / "elsewhere"
    (tmp_path / "data").rename(moved)
    (coadd,) = find_coadds(request(read_manifest(path), moved).inputs)
    assert coadd.paths == (moved / "g.fits",)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bandz": ["g"]}, "unknown key 'bandz'"),
        ({"bands": None}, "no 'bands'"),
        ({"schema": 7}, "schema 7"),
        ({"survey": "sdss"}, "survey is 'sdss'; give hsc or fits"),
        ({"scheme": "hsc"}, "without a catalog"),
        ({"coadds": {"9813": "4,5"}}, "patches of tract 9813"),
        ({"coadds": ["4,5"]}, "coadds is"),
        ({"bands": "gri"}, "bands is 'gri'"),
        ({"tile_size": "big"}, "tile_size is 'big'"),
        ({"name": 3}, "name is 3"),
    ],
)
def test_a_faulty_manifest_is_refused_with_the_key(tmp_path, changes, problem):
    with pytest.raises(InputError) as caught:
        read_manifest(write(tmp_path, **changes))
    assert problem in str(caught.value)
    assert "m.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list", "\x00"])
def test_what_is_not_a_manifest_is_refused(tmp_path, text):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError, match=r"m\.yaml: not"):
        read_manifest(tmp_path / "m.yaml")


def test_missing_coadds_and_catalogs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"2 of the manifest's 2 coadds.*calexp-HSC-G-9813-4,5"):
        request(read_manifest(write(tmp_path)))
    image, _ = scene()
    for band in "gi":
        write_calexp(tmp_path, band, image)
    path = write(tmp_path, catalog="forced.fits", scheme="hsc")
    with pytest.raises(InputError, match=r"forced\.fits: the manifest's catalog is not there"):
        request(read_manifest(path))
