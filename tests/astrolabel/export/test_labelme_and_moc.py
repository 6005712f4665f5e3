"""LabelMe's files there and back to the pixel; the MOC of what images cover."""

from __future__ import annotations

import json

import astropy.units as u
import numpy as np
import pytest
from astropy.wcs import WCS
from mocpy import MOC
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.export.convert import export
from astrolabel.export.importing import import_labels
from astrolabel.io import coco
from astrolabel.io.polygons import mask_of

SHAPE = (60, 80)


def cards(x0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = 40.5 - x0, 30.5
    wcs.wcs.cd = [[-5e-5, 0], [0, 5e-5]]
    header = wcs.to_header()
    return {key: header[key] for key in header}


def masks():
    """A blob with a hole, a label in two pieces, and one that overlaps the first."""
    rng = np.random.default_rng(1)
    blob = rng.random((20, 25)) < 0.7
    blob[8:12, 9:14] = False
    pieces = np.zeros((10, 30), bool)
    pieces[:4, :6] = pieces[6:, 20:] = True
    return [(blob, Box(5, 6, 20, 25)), (pieces, Box(45, 3, 10, 30)), (blob, Box(12, 20, 20, 25))]


@pytest.fixture
def file(tmp_path):
    items = [
        coco.annotation(mask=m, box=b, image_shape=SHAPE, category_id=1 + k % 2, attributes={})
        for k, (m, b) in enumerate(masks())
    ]
    items.append(
        coco.annotation(mask=np.ones((3, 3), bool), box=Box(50, 70, 3, 3), image_shape=SHAPE,
                        category_id=1, attributes={}, iscrowd=1)
    )  # fmt: skip
    shards = [
        {
            "image": {
                "file_name": f"images/sky-r0c{k}.png", "height": SHAPE[0], "width": SHAPE[1],
                "astro": {"bands": ["g"], "origin": [0, 80 * k], "wcs": cards(80 * k)},
            },
            "annotations": items if k == 0 else [],
        }
        for k in range(2)
    ]  # fmt: skip
    doc = coco.merge({}, [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}], shards)
    (tmp_path / "images").mkdir()
    for image in doc["images"]:
        Image.new("RGB", SHAPE[::-1]).save(tmp_path / image["file_name"])
    coco.write_json(tmp_path / "coco.json", doc)
    return tmp_path / "coco.json"


def test_labelme_there_and_back_is_the_same_to_the_pixel(file, tmp_path):
    (folder,) = export(file, ["labelme"])
    assert sorted(p.name for p in folder.iterdir()) == [
        "sky-r0c0.json", "sky-r0c0.png", "sky-r0c1.json", "sky-r0c1.png",
    ]  # fmt: skip
    made = import_labels(
        folder / "sky-r0c0.json", [("i", folder / "sky-r0c0.png")], tmp_path / "back/coco.json"
    )
    assert made.labels == 3  # an ignore region is no label
    before, after = coco.read(file), coco.read(made.coco)
    names = [{c["id"]: c["name"] for c in doc["categories"]} for doc in (before, after)]
    for one, other in zip(before["annotations"][:3], after["annotations"], strict=True):
        (mine, box), (theirs, where) = (mask_of(a["segmentation"], SHAPE) for a in (one, other))
        assert box == where
        np.testing.assert_array_equal(mine, theirs)
        assert names[0][one["category_id"]] == names[1][other["category_id"]]
        assert other["attributes"]["object_id"] == str(one["id"])


def test_labelmes_other_shapes_are_read(tmp_path):
    Image.new("RGB", SHAPE[::-1]).save(tmp_path / "a.png")
    shapes = [
        {"label": "star", "shape_type": "circle", "points": [[30, 30], [40, 30]]},
        {"label": "galaxy", "shape_type": "rectangle", "points": [[5, 5], [15, 25]]},
        {"label": "galaxy", "shape_type": "point", "points": [[3, 3]]},
    ]
    value = {"shapes": shapes, "imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    images = [("i", tmp_path / "a.png")]
    doc = coco.read(import_labels(path, images, tmp_path / "o/coco.json").coco)
    circle, rectangle = doc["annotations"]
    assert circle["area"] == pytest.approx(np.pi * 100, rel=0.03)
    assert rectangle["area"] == 200
    for wrong, message in (
        ({"imageHeight": 10}, "image of 10x80"),
        ({"shapes": [{"label": "x", "shape_type": "polygon", "points": [[1, 2]]}]}, "shape 1"),
        ({"shapes": [{"shape_type": "polygon", "points": []}]}, "shape 1"),
        ({"shapes": ["x"]}, "shape 1"),
    ):
        path.write_text(json.dumps({**value, **wrong}))
        with pytest.raises(InputError, match=message):
            import_labels(path, images, tmp_path / "o/coco.json")


def test_the_moc_is_the_sky_of_all_images(file):
    (path,) = export(file, ["moc"])
    moc = MOC.from_fits(path)
    wcs = WCS(cards(0))
    x, y = np.array([2, 78, 82, 158, 162, -3]), np.array([2, 57, 2, 57, 30, 30])
    sky = wcs.pixel_to_world(x, y)
    np.testing.assert_array_equal(moc.contains_skycoords(sky), [1, 1, 1, 1, 0, 0])
    area = moc.sky_fraction * (4 * np.pi * u.sr).to_value("deg2")
    assert area == pytest.approx(160 * 60 * 5e-5**2, rel=0.05)


def test_a_moc_of_images_without_a_place_is_refused(file):
    doc = coco.read(file)
    doc["images"][1]["astro"].pop("wcs")
    coco.write_json(file, doc)
    with pytest.raises(InputError, match="has no WCS"):
        export(file, ["moc"])
