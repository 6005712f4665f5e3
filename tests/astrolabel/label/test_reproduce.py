"""A tile labelled again from its provenance is the same to the byte, or what differs is said."""

import json
import shutil

import numpy as np
import pytest
from astropy.table import Table
from fits_files import SIGMA, scene, tan_wcs, write_calexp

from astrolabel.catalog.catalog import catalog_for
from astrolabel.cli.main import main
from astrolabel.core.config import ClassifyConfig, LabelConfig, TileConfig
from astrolabel.core.errors import InputError
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.label.reproduce import reproduce

TILE = "9813-4,5-r0c1"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """(folder of the survey's files, COCO file): 1x2 tiles with classes."""
    folder = tmp_path_factory.mktemp("sky")
    image, positions = scene((64, 96), n=8)
    for band in "gi":
        rng = np.random.default_rng(ord(band))
        write_calexp(folder, band, (image + rng.normal(0, SIGMA, image.shape)).astype("f4"))
    ra, dec = tan_wcs((64, 96)).all_pix2world(positions[:, ::-1], 0).T
    catalog = folder / "acs.fits"
    n = len(ra)
    columns = {"number": np.arange(n), "ra": ra, "dec": dec, "mag_auto": np.full(n, 22.0)}
    columns |= {"mu_class": np.arange(n) % 2 + 1}
    Table(columns).write(catalog)
    config = LabelConfig(
        tile=TileConfig(size=64, margin_px=12), classify=ClassifyConfig(scheme="hst")
    )
    found = catalog_for(catalog, config.classify), catalog
    coadds = find_coadds(Inputs((folder,)))
    out = tmp_path_factory.mktemp("out")
    return folder, make_coco(coadds, config, out, found, progress=False).coco


def test_a_tile_is_the_same_again_to_the_byte(labelled, capsys):
    folder, path = labelled
    words = ["reproduce", str(path), "--tile", TILE, "--inputs", str(folder)]
    assert main(words) == 0
    assert "the same to the byte" in capsys.readouterr().out


def test_what_was_changed_is_named(labelled, tmp_path):
    folder, path = labelled
    shutil.copytree(path.parent, tmp_path / "out")
    doc = json.loads(path.read_text())
    image = next(i for i in doc["images"] if i["file_name"].endswith(f"{TILE}.png"))
    chosen = next(a for a in doc["annotations"] if a["image_id"] == image["id"])
    chosen["attributes"]["mag_i"] += 0.1
    (tmp_path / "out/coco.json").write_text(json.dumps(doc))
    cube = tmp_path / "out" / image["astro"]["cube"]
    cube.write_bytes(cube.read_bytes()[:-1] + b"x")
    found = reproduce(tmp_path / "out/coco.json", TILE, [folder])
    assert found.differences == (
        f"the cube {cube} was changed",
        f"annotation {chosen['id']}: attributes differ",
    )


def test_another_input_file_is_refused(labelled, tmp_path):
    folder, path = labelled
    with pytest.raises(InputError, match="is not there"):
        reproduce(path, TILE, [tmp_path])
    shutil.copytree(folder, tmp_path / "in")
    image, _ = scene((64, 96), n=8, seed=3)
    write_calexp(tmp_path / "in", "g", image)
    with pytest.raises(InputError, match="is another file"):
        reproduce(path, TILE, [tmp_path / "in"])
    with pytest.raises(InputError, match="has no tile"):
        reproduce(path, "9813-4,5-r7c7", [folder])


@pytest.mark.parametrize("tiles", [None, [], "absent"])
def test_a_document_without_its_tiles_is_said_to_differ(labelled, tmp_path, tiles):
    folder, path = labelled
    shutil.copytree(path.parent, tmp_path / "out")
    doc = json.loads(path.read_text())
    doc["info"]["tiles"] = tiles
    if tiles == "absent":
        del doc["info"]["tiles"]
    (tmp_path / "out/coco.json").write_text(json.dumps(doc))
    found = reproduce(tmp_path / "out/coco.json", TILE, [folder])
    assert found.differences == ("its state was None, now ok",)


def test_a_document_with_tiles_that_are_none_is_refused(labelled, tmp_path):
    folder, path = labelled
    doc = json.loads(path.read_text())
    for odd in (3, {}, {"name": "a"}, {"name": None, "state": "ok"}):
        doc["info"]["tiles"] = [odd]
        (tmp_path / "coco.json").write_text(json.dumps(doc))
        with pytest.raises(InputError, match=r"info\.tiles\[0\]"):
            reproduce(tmp_path / "coco.json", TILE, [folder])
