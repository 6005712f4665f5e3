"""Segmentation maps, source catalogs, YOLO and GeoJSON, read back by other readers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
import yaml
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.io.votable.ucd import parse_ucd
from astropy.table import QTable, Table
from astropy.wcs import WCS
from PIL import Image

import astrolabel as al
from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.export.convert import export
from astrolabel.io import coco

SHAPE = (30, 40)
BIG, SMALL = Box(5, 6, 12, 10), Box(8, 12, 4, 8)


def cards(x0=0, y0=0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = 20.5 - x0, 15.5 - y0
    wcs.wcs.cd = [[-5e-5, 0], [0, 5e-5]]
    header = wcs.to_header()
    return {key: header[key] for key in header}


def item(box, mask=None, category_id=1, **more):
    mask = np.ones(box.shape, bool) if mask is None else mask
    attributes = {"ra": 150.0, "dec": 2.0, "mag_g": 21.4, "flux_g": 100.0, "flags": ["edge"]}
    return coco.annotation(
        mask=mask,
        box=box,
        image_shape=SHAPE,
        category_id=category_id,
        attributes=attributes,
        **more,
    )  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """Two tiles side by side: two labels that overlap and an ignore region; one with a hole."""
    ring = np.ones((7, 7), bool)
    ring[2:5, 2:5] = False
    shards = [
        {
            "image": {
                "file_name": f"images/sky-r0c{k}.png", "height": SHAPE[0], "width": SHAPE[1],
                "astro": {"bands": ["g"], "zeropoint": [27.0], "origin": [100, 200 + 40 * k],
                          "wcs": cards(40 * k)},
            },
            "annotations": annotations,
        }
        for k, annotations in enumerate(
            (
                [item(BIG), item(SMALL, category_id=2), item(Box(20, 20, 5, 5), iscrowd=1)],
                [item(Box(3, 4, 7, 7), ring)],
            )
        )
    ]  # fmt: skip
    names = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    doc = coco.merge({}, names, shards)
    (tmp_path / "images").mkdir()
    for image in doc["images"]:
        Image.new("RGB", SHAPE[::-1]).save(tmp_path / image["file_name"])
    coco.write_json(tmp_path / "coco.json", doc)
    return tmp_path / "coco.json"


def test_the_segmentation_map_joins_tiles_and_keeps_overlaps(file):
    (folder,) = export(file, ["segmentation"])
    assert [p.name for p in folder.iterdir()] == ["sky.fits"]
    with fits.open(folder / "sky.fits") as hdus:
        ids, overlap = hdus[0].data, hdus["OVERLAP"].data
        wcs = WCS(hdus[0].header)
    assert ids.dtype.kind == "i"
    assert ids.dtype.itemsize == 4
    assert ids.shape == (30, 80)
    # The smaller label is on top, the larger one below it in the overlap plane.
    assert (ids[SMALL.slices] == 2).all()
    both = BIG & SMALL
    assert (overlap[both.slices] == 1).all()
    assert (overlap > 0).sum() == both.area
    assert (ids == 1).sum() == BIG.area - both.area
    assert (ids == 3).sum() == 0  # an ignore region is no label
    assert ids[3, 44] == 4
    assert ids[6, 47] == 0  # the hole
    assert wcs.pixel_to_world_values(59.5, 14.5)[0] < 150.0
    np.testing.assert_allclose(wcs.pixel_to_world_values(19.5, 14.5), (150, 2), atol=1e-9)


def test_photutils_reads_the_map(file):
    segmentation = pytest.importorskip("photutils.segmentation")
    (folder,) = export(file, ["segmentation"])
    found = segmentation.SegmentationImage(fits.getdata(folder / "sky.fits"))
    assert list(found.labels) == [1, 2, 4]
    assert found.get_area(2) == SMALL.area


@pytest.mark.parametrize("kind", ["fits", "ecsv", "votable"])
def test_the_catalog_has_units_in_every_format(file, kind):
    (path,) = export(file, [kind])
    table = QTable.read(path) if kind != "votable" else QTable(Table.read(path, format="votable"))
    assert len(table) == 4
    assert str(table["ra"].unit) == "deg"
    assert str(table["mag_g"].unit) == "mag"
    # 100 counts of zero point 27 are 5754 nJy.
    np.testing.assert_allclose(table["flux_g"].to_value("nJy"), 5754.4, rtol=1e-4)
    assert list(np.char.strip(np.asarray(table["class"]).astype(str))) == [
        "galaxy", "star", "galaxy", "galaxy",
    ]  # fmt: skip
    assert np.asarray(table["ignore"]).astype(bool).tolist() == [False, False, True, False]
    x, y = (table[name].to_value("pix")[3] for name in "xy")
    assert (x, y) == (40 + 4 + 3, 6)


FITTED = {
    "x": 3.25, "y": 4.5, "mag_g": 21.4, "flux_g": 100.0, "flux_err_g": 2.0, "snr": 50.0,
    "chi2": 1.1, "model": "sersic", "half_light_radius_arcsec": 0.7, "axis_ratio": 0.5,
    "theta": 30.0, "position_angle": 60.0, "sersic_index": 2.5, "n_blended": 2,
    "bulge_fraction_g": 0.3, "bulge_radius_arcsec": 0.2, "object_id": "17", "flags": [],
    "flag_bits": 0, "class_source": "hsc",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["fits", "votable"])
def test_every_value_of_the_fit_arrives_with_unit_ucd_and_description(file, kind):
    doc = coco.read(file)
    doc["annotations"][0]["attributes"] |= FITTED
    coco.write_json(file, doc)
    (path,) = export(file, [kind])
    if kind == "votable":
        fields = parse_single_table(path).fields
        ucds = {f.name: f.ucd for f in fields}
        units = {f.name: str(f.unit or "") for f in fields}
        words = {f.name: f.description for f in fields}
        value = Table.read(path, format="votable")[0]
    else:
        header = fits.getheader(path, 1)
        names = {n: header[f"TTYPE{n}"] for n in range(1, header["TFIELDS"] + 1)}
        ucds, units, words = (
            {name: header.get(f"{card}{n}", "") for n, name in names.items()}
            for card in ("TUCD", "TUNIT", "TCOMM")
        )
        value = Table.read(path)[0]
    for name, given in FITTED.items():
        if name == "flags":
            continue
        if isinstance(given, str):
            assert str(value[name]).strip() == given
        else:
            scale = 57.544 if name.startswith("flux") else 1  # counts of zero point 27 in nJy
            assert float(value[name]) == pytest.approx(given * scale, rel=1e-4), name
    for name, ucd in ucds.items():
        if not name.startswith("bbox_"):
            assert ucd, name
            parse_ucd(ucd, check_controlled_vocabulary=True, has_colon=False)
        assert words[name], name
    assert ucds["flux_err_g"] == "stat.error;phot.flux;em.opt.B"
    assert units["half_light_radius_arcsec"] == "arcsec"
    assert units["position_angle"] == "deg"


def test_yolo_draws_the_same_pixels(file):
    (path,) = export(file, ["yolo"])
    assert yaml.safe_load((path / "data.yaml").read_text())["names"] == {0: "galaxy", 1: "star"}
    lines = (path / "labels" / "sky-r0c0.txt").read_text().splitlines()
    assert len(lines) == 2  # without the ignore region
    assert (path / "images" / "sky-r0c0.png").is_file()
    for line, box in zip(lines, (BIG, SMALL), strict=True):
        points = np.array(line.split()[1:], float).reshape(-1, 2) * (SHAPE[1], SHAPE[0])
        drawn = shapely.Polygon(points)
        assert drawn.area == pytest.approx(box.area, abs=0.01)
        np.testing.assert_allclose(drawn.bounds, (box.x0, box.y0, box.x1, box.y1), atol=1e-3)
    assert [line[0] for line in lines] == ["0", "1"]


def test_geojson_polygons_enclose_the_masks(file):
    (folder,) = export(file, ["geojson"])
    first = json.loads((folder / "sky-r0c0.geojson").read_text())["features"]
    assert [shapely.geometry.shape(f["geometry"]).area for f in first] == [
        BIG.area, SMALL.area, 25,
    ]  # fmt: skip
    assert [f["properties"]["classification"]["name"] for f in first] == [
        "galaxy", "star", "ignored",
    ]  # fmt: skip
    (ring,) = json.loads((folder / "sky-r0c1.geojson").read_text())["features"]
    shape = shapely.geometry.shape(ring["geometry"])
    assert shape.area == 49 - 9
    assert len(shape.interiors) == 1
    assert shape.bounds == (4, 3, 11, 10)


def test_the_command_writes_several_formats(file, tmp_path, capsys):
    words = ["export", str(file), "--to", "segmentation", "fits", "--out", str(tmp_path / "o")]
    assert main(words) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "o" / "coco-segmentation"), str(tmp_path / "o" / "coco-catalog.fits"),
    ]  # fmt: skip


def test_the_map_is_that_of_labels(file):
    (folder,) = export(file, ["segmentation"])
    labels = al.read(file)
    np.testing.assert_array_equal(labels.segmentation, fits.getdata(folder / "sky.fits"))
    np.testing.assert_array_equal(labels.overlap, fits.getdata(folder / "sky.fits", "OVERLAP"))
