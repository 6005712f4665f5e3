"""Labels of other programs, whose pixels are known."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs
from astrolabel.core.errors import InputError
from astrolabel.export.convert import export
from astrolabel.export.importing import import_labels
from astrolabel.io import coco
from astrolabel.io.rle import decode

SHAPE = (50, 70)
CARDS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 30.0,
    "CRPIX2": 20.0, "CDELT1": -1e-4, "CDELT2": 1e-4, "CUNIT1": "deg", "CUNIT2": "deg",
}  # fmt: skip
NORTH_UP = 0.36
"""arcsec a pixel."""


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    path = tmp_path / "i.fits"
    fits.PrimaryHDU(pixels, fits.Header(CARDS)).writeto(path)
    return path


def masks(path):
    doc = coco.read(path)
    assert coco.validate(doc, path.parent) == ()
    return doc, [decode(a["segmentation"]) for a in doc["annotations"]]


def test_a_segmentation_map_and_its_overlaps_come_back_as_the_masks(tmp_path, image):
    a, b = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    a[5:20, 5:30] = True
    a[40:44, 60:66] = True  # two pieces
    b[10:14, 20:40] = True
    items = [
        coco.annotation(
            mask=m, box=Box.of_shape(SHAPE), image_shape=SHAPE, category_id=1, attributes={}
        )
        for m in (a, b)
    ]
    entry = {"file_name": "i.png", "height": SHAPE[0], "width": SHAPE[1], "astro": {"wcs": CARDS}}
    doc = coco.merge({}, [{"id": 1, "name": "s"}], [{"image": entry, "annotations": items}])
    (tmp_path / "x").mkdir()
    coco.write_json(tmp_path / "x" / "coco.json", doc)
    (folder,) = export(tmp_path / "x" / "coco.json", ["segmentation"])
    (map_,) = folder.glob("*.fits")
    made = import_labels(map_, [("i", image)], tmp_path / "out" / "coco.json", name="galaxy")
    assert (made.labels, made.left_out) == (2, 0)
    found, pixels = masks(made.coco)
    np.testing.assert_array_equal(pixels[0], a)
    np.testing.assert_array_equal(pixels[1], b)
    assert [c["name"] for c in found["categories"]] == ["galaxy"]
    assert [x["attributes"]["object_id"] for x in found["annotations"]] == ["1", "2"]
    astro = found["images"][0]["astro"]
    assert astro["bands"] == ["i"]
    assert astro["sky_sigma"][0] == pytest.approx(1, abs=0.05)
    with fits.open(made.coco.parent / astro["cube"]) as hdus:
        np.testing.assert_array_equal(hdus[0].data[0], fits.getdata(image))


def test_photutils_writes_maps_and_catalogs_that_are_read(tmp_path):
    segmentation = pytest.importorskip("photutils.segmentation", reason="makes the map")
    y, x = np.indices(SHAPE)
    light = np.zeros(SHAPE)
    for cy, cx, a, b in ((15, 20, 6, 3), (32, 50, 4, 4)):
        light += 100 * np.exp(-((x - cx) ** 2 / a**2 + (y - cy) ** 2 / b**2) / 2)
    map_ = segmentation.detect_sources(light, 5, 5)
    path = tmp_path / "i.fits"
    fits.PrimaryHDU(light.astype(np.float32)).writeto(path)
    fits.PrimaryHDU(map_.data).writeto(tmp_path / "map.fits")
    made = import_labels(tmp_path / "map.fits", [("i", path)], tmp_path / "a.json")
    _, pixels = masks(made.coco)
    for k, mask in enumerate(pixels, 1):
        np.testing.assert_array_equal(mask, map_.data == k)
    table = segmentation.SourceCatalog(light, map_).to_table()
    table.write(tmp_path / "t.ecsv")
    made = import_labels(tmp_path / "t.ecsv", [("i", path)], tmp_path / "b.json")
    _, pixels = masks(made.coco)
    for mask, (cy, cx) in zip(pixels, ((15, 20), (32, 50)), strict=True):
        rows, columns = np.nonzero(mask)
        assert (rows.mean(), columns.mean()) == pytest.approx((cy, cx), abs=0.3)
    # The first is twice as wide as high.
    rows, columns = np.nonzero(pixels[0])
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2, abs=0.3)


def ellipse(cx, cy, a, b, degrees):
    y, x = np.indices(SHAPE)
    t = np.radians(degrees)
    u, v = x - cx, y - cy
    along, across = u * np.cos(t) + v * np.sin(t), v * np.cos(t) - u * np.sin(t)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def test_sextractors_catalog_counts_from_one_and_has_kron_radii(tmp_path, image):
    names = ("X_IMAGE", "Y_IMAGE", "A_IMAGE", "B_IMAGE", "THETA_IMAGE", "KRON_RADIUS")
    table = Table(
        rows=[(31.0, 21.0, 4.0, 2.0, 30.0, 2.5), (51.0, 31.0, 2.0, 2.0, 0.0, 0.0)], names=names
    )
    table.write(tmp_path / "t.fits")
    made = import_labels(tmp_path / "t.fits", [("i", image)], tmp_path / "a.json")
    _, pixels = masks(made.coco)
    np.testing.assert_array_equal(pixels[0], ellipse(30, 20, 10, 5, 30))
    np.testing.assert_array_equal(pixels[1], ellipse(50, 30, 6, 6, 0))  # three second moments
    header = [f"# {k + 1} {name} about it [pixel]" for k, name in enumerate(names)]
    rows = [" ".join(map(str, row)) for row in table]
    (tmp_path / "t.cat").write_text("\n".join([*header, *rows]) + "\n")
    again = import_labels(tmp_path / "t.cat", [("i", image)], tmp_path / "b.json")
    assert [np.array_equal(*p) for p in zip(masks(again.coco)[1], pixels, strict=True)] == [
        True
    ] * 2


def test_a_catalog_on_the_sky_by_named_columns(tmp_path, image, capsys):
    wcs = WCS(fits.Header(CARDS))
    ra, dec = to_icrs(wcs, [30.0, 200.0], [20.0, 20.0])
    table = Table({"R": ra, "D": dec, "maj": [10 * NORTH_UP] * 2, "min": [5 * NORTH_UP] * 2,
                   "PA": [60.0, 0.0], "kind": ["star", "galaxy"]})  # fmt: skip
    table.write(tmp_path / "t.csv")
    words = ["ra=R", "dec=D", "a=maj", "b=min", "pa=PA", "class=kind"]
    out = tmp_path / "made"
    command = ["import", str(tmp_path / "t.csv"), "--image", f"i={image}", "--out", str(out)]
    assert main([*command, "--columns", *words]) == 0
    assert "1 labels; 1 without a pixel in the image" in capsys.readouterr().out
    doc, pixels = masks(out / "coco.json")
    # North is up and east is left: 60 degrees from north to east is 150 from +x.
    difference = pixels[0] ^ ellipse(30, 20, 10, 5, 150)
    assert difference.sum() <= 4
    assert [c["name"] for c in doc["categories"]] == ["star"]
    assert doc["annotations"][0]["attributes"]["ra"] == pytest.approx(ra[0], abs=3e-5)


def test_ds9_regions_on_the_image_and_on_the_sky(tmp_path, image):
    pytest.importorskip("regions", reason="reads DS9's files")
    (tmp_path / "a.reg").write_text(
        "# Region file format: DS9 version 4.1\nimage\n"
        "circle(31,21,5.2) # tag={galaxy} text={7}\nellipse(51,31,8,4,30) # color=red\n"
        "polygon(10.5,10.5,14.5,10.5,14.5,13.5,10.5,13.5)\npoint(5,5)\n"
    )
    made = import_labels(tmp_path / "a.reg", [("i", image)], tmp_path / "a.json", name="star")
    doc, pixels = masks(made.coco)
    np.testing.assert_array_equal(pixels[0], ellipse(30, 20, 5.2, 5.2, 0))
    np.testing.assert_array_equal(pixels[1], ellipse(50, 30, 8, 4, 30))
    assert doc["annotations"][2]["bbox"] == [10, 10, 4, 3]
    names = {c["id"]: c["name"] for c in doc["categories"]}
    assert [names[a["category_id"]] for a in doc["annotations"]] == ["galaxy", "star", "star"]
    assert doc["annotations"][0]["attributes"]["object_id"] == "7"
    # Those that are written on the sky come back as the same pixels.
    folder = export(made.coco, ["ds9"])[0]
    (written,) = folder.glob("*.reg")
    again = import_labels(written, [("i", image)], tmp_path / "b.json")
    for one, other in zip(masks(again.coco)[1], pixels, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: fits.PrimaryHDU(np.ones((5, 5), np.int32)).writeto(p), "a map of 5x5 pixels on"),
        (lambda p: fits.PrimaryHDU(np.full(SHAPE, 0.5)).writeto(p), "no whole numbers"),
        (lambda p: fits.PrimaryHDU(np.zeros(SHAPE, np.int32)).writeto(p), "none of 0 labels"),
        (lambda p: Table({"p": [1.0], "q": [2.0]}).write(p), "no ellipses that are known"),
    ],
)
def test_what_cannot_be_imported_is_explained(tmp_path, image, make, said):
    make(tmp_path / "t.fits")
    with pytest.raises(InputError, match=said):
        import_labels(tmp_path / "t.fits", [("i", image)], tmp_path / "a.json")
