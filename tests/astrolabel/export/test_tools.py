"""Each format opened by the tool that it is for, where that is installed.

Recorded trial: hats-import 0.11.1, ultralytics 8.4.190, napari 0.9.2 with napari-geojson
0.1.6, LabelMe 7.9.1, STILTS 3.4.7
(2026-11).
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits
from review_scene import SHRED, scene

from astrolabel.core.errors import InputError
from astrolabel.export.convert import export
from astrolabel.io import coco


@pytest.fixture
def file(tmp_path):
    """Three labels of one image with a WCS."""
    path = scene(tmp_path / "labels", SHRED)
    doc = coco.read(path)
    doc["images"][0]["astro"]["wcs"] = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0,
        "CRPIX1": 48.5, "CRPIX2": 48.5, "CDELT1": -5e-5, "CDELT2": 5e-5,
        "CUNIT1": "deg", "CUNIT2": "deg",
    }  # fmt: skip
    for k, item in enumerate(doc["annotations"]):
        item["attributes"] = {
            "ra": 150.0 + 1e-3 * k, "dec": 2.0, "flux_g": 100.0, "chi2": 1.25,
            "model": "point", "flags": ["edge"],
        }  # fmt: skip
    coco.write_json(path, doc)
    return path


def stilts(*words):
    """Standard output of STILTS."""
    if shutil.which("stilts") is None:
        pytest.skip("STILTS is not installed")
    return subprocess.run(
        ["stilts", *map(str, words)], check=True, capture_output=True, text=True
    ).stdout


def test_stilts_reads_values_units_and_ucds_and_finds_no_fault(file):
    paths = export(file, ["fits", "votable"])
    for path in paths:
        rows = stilts(
            "tpipe", f"in={path}", "cmd=keepcols 'id ra chi2 flux_g'", "ofmt=csv"
        ).splitlines()
        assert rows[0] == "id,ra,chi2,flux_g"
        assert len(rows) == 4
        ident, ra, chi2, flux = map(float, rows[2].split(","))
        assert (ident, ra, chi2) == (2, 150.001, 1.25)
        assert flux == pytest.approx(100 * 10 ** (-0.4 * (27 - 31.4)), rel=1e-5)
        about = stilts("tpipe", f"in={path}", "cmd=meta name units ucd", "ofmt=csv")
        assert "flux_g,nJy,phot.flux;em.opt.B" in about
    # astropy's arraysize="1", an erratum of 2017, is all that STILTS finds.
    found = stilts("votlint", paths[1]).splitlines()
    assert [line for line in found if line and 'arraysize="1"' not in line] == []


def test_hats_reads_every_row(file):
    pytest.importorskip("hats_import")
    import hats

    (folder,) = export(file, ["hats"])
    (again,) = export(file, ["hats"])  # replaced
    assert again == folder
    catalog = hats.read_hats(folder)
    assert len(catalog) == 3
    assert {"id", "ra", "dec", "chi2"} <= set(catalog.schema.names)


def test_hats_without_its_library_or_without_positions_is_refused(file, monkeypatch):
    import sys

    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "hats_import.pipeline", None)
        patched.setitem(sys.modules, "hats_import.catalog.arguments", None)
        with pytest.raises(InputError, match=r"astrolabel\[hats\]"):
            export(file, ["hats"])
    pytest.importorskip("hats_import")
    doc = coco.read(file)
    doc["annotations"][1]["attributes"]["ra"] = None
    coco.write_json(file, doc)
    with pytest.raises(InputError, match="1 of 3 labels have no RA"):
        export(file, ["hats"])


def test_ultralytics_loads_pictures_and_polygons_from_anywhere(file, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    data = pytest.importorskip("ultralytics.data.dataset")
    utils = pytest.importorskip("ultralytics.data.utils")
    (folder,) = export(file, ["yolo"])
    monkeypatch.chdir(tmp_path)
    found = utils.check_det_dataset(str(folder / "data.yaml"))
    loaded = data.YOLODataset(img_path=found["train"], data=found, task="segment", augment=False)
    (label,) = loaded.labels
    assert found["names"] == {0: "galaxy", 1: "star"}
    assert [int(c) for c in label["cls"][:, 0]] == [0, 0, 0]
    x, y = label["segments"][2].T * 96
    box = SHRED[2]
    assert (x.min(), x.max()) == pytest.approx((box.x0, box.x1), abs=1e-3)
    assert (y.min(), y.max()) == pytest.approx((box.y0, box.y1), abs=1e-3)


def test_napari_draws_the_outlines(file):
    reader = pytest.importorskip("napari_geojson")
    (folder,) = export(file, ["geojson"])
    path = str(folder / "a.geojson")
    ((shapes, about, kind),) = reader.napari_get_reader(path)(path)
    assert kind == "shapes"
    assert len(shapes) == len(about["shape_type"]) == 3


def test_labelme_opens_its_files(file):
    labelme = pytest.importorskip("labelme._label_file")
    (folder,) = export(file, ["labelme"])
    opened = labelme.LabelFile(str(folder / "a.json"))
    assert [shape["label"] for shape in opened.shapes] == ["galaxy"] * 3
    assert opened.imagePath == "a.png"


def test_ds9_regions_hold_the_pixels(file):
    regions = pytest.importorskip("regions")
    (folder,) = export(file, ["ds9"])
    found = regions.Regions.read(folder / "a.reg", format="ds9")
    assert len(found) == 3


def test_photutils_measures_on_the_map(file):
    segmentation = pytest.importorskip("photutils.segmentation")
    (folder,) = export(file, ["segmentation"])
    labels = segmentation.SegmentationImage(fits.getdata(folder / "a.fits"))
    image = np.ones((96, 96))
    sums = segmentation.SourceCatalog(image, labels).segment_flux
    assert sums.tolist() == [box.area for box in SHRED]
