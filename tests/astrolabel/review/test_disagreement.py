"""Disagreement of labels with predictions and truth, on cases whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.frames import frames_of
from astrolabel.review.columns import attribute_columns
from astrolabel.review.disagreement import SMALL_PX, compare
from astrolabel.review.layers import layer, places_of, read_layer

SHAPE = (60, 80)
PLACE = {1: (0, 0, 0, 0, SHAPE)}
WCS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 40.0,
    "CRPIX2": 30.0, "CDELT1": -5e-5, "CDELT2": 5e-5, "CUNIT1": "deg", "CUNIT2": "deg",
}  # fmt: skip


def item(*box, category=1):
    box = Box(*box)
    made = coco.annotation(
        mask=np.ones(box.shape, bool), box=box, image_shape=SHAPE, category_id=category,
        attributes={},
    )  # fmt: skip
    return {**made, "image_id": 1}


def scores(ours, theirs, classes=("", "galaxy", "star")):
    one, other = layer(ours, PLACE), layer(theirs, PLACE)
    names = dict(enumerate(classes))
    return compare(one, other, one.text(names), other.text(names))


def weight(area):
    return area / (area + SMALL_PX)


def test_a_label_is_as_far_from_its_best_match_as_their_iou():
    mine, theirs = scores([item(0, 0, 10, 10), item(30, 30, 4, 5)], [item(0, 0, 10, 5)])
    np.testing.assert_allclose(mine.iou, [0.5, 0])
    np.testing.assert_array_equal(mine.best, [0, -1])
    np.testing.assert_allclose(mine.score, [0.5 * weight(100), 1 * weight(20)])
    np.testing.assert_allclose(theirs.iou, [0.5])


def test_another_class_is_full_disagreement_and_an_unknown_one_is_none():
    a, b = item(0, 0, 10, 10), item(0, 0, 10, 10, category=2)
    assert scores([a], [b])[0].score[0] == pytest.approx(weight(100))
    assert scores([a], [b], ("", "galaxy", ""))[0].score[0] == 0


def test_two_sources_in_one_label_are_a_disagreement_of_the_label():
    merged = item(0, 0, 10, 20)
    mine, _ = scores([merged], [item(0, 0, 10, 13), item(0, 13, 10, 7)])
    # IoU with the larger is 0.65; the smaller has no match, IoU 0.35.
    assert mine.iou[0] == pytest.approx(0.65)
    assert mine.score[0] == pytest.approx(0.65 * weight(70))


def document(name, origin=(0, 0), wcs=WCS, items=()):
    image = {"file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
    if wcs is not None:
        image["astro"] = {"wcs": wcs, "origin": list(origin)}
    names = [{"id": 1, "name": "galaxy"}]
    return coco.merge({}, names, [{"image": image, "annotations": list(items)}])


def test_another_document_lies_on_the_labels_by_its_wcs(tmp_path):
    ours = document("sky-r0c0.png", (100, 200), items=[item(10, 20, 5, 5)])
    # The same sky on an image that starts 3 columns to the left and 2 rows below.
    moved = {**WCS, "CRPIX1": 43.0, "CRPIX2": 32.0}
    theirs = document("other.png", wcs=moved, items=[item(12, 23, 5, 5)])
    (tmp_path / "t.json").write_text(json.dumps(theirs))
    frames = frames_of(ours["images"])
    other, names = read_layer(tmp_path / "t.json", ours, frames)
    assert names == {1: "galaxy"}
    assert other.masks[0][1] == Box(10, 20, 5, 5)
    mine = layer(ours["annotations"], places_of(ours, frames))
    assert compare(mine, other, ["galaxy"], ["galaxy"])[0].score[0] == 0


@pytest.mark.parametrize("crpix", [40.5, 4000.0])
def test_a_document_of_other_pixels_is_refused(tmp_path, crpix):
    ours = document("a.png", items=[item(0, 0, 5, 5)])
    theirs = document("b.png", wcs={**WCS, "CRPIX1": crpix}, items=[item(0, 0, 5, 5)])
    (tmp_path / "t.json").write_text(json.dumps(theirs))
    with pytest.raises(InputError, match="nothing on the images of the labels"):
        read_layer(tmp_path / "t.json", ours, frames_of(ours["images"]))


def test_attributes_are_columns_of_numbers_or_of_texts():
    rows = [{"ra": 150.123456789, "n": 2**30, "flags": ["edge"], "s": "a"}, {"mag": 20.5, "s": "b"}]
    columns, texts = attribute_columns(rows)
    assert columns["attr.ra"].dtype == np.float64
    assert columns["attr.ra"][0] == 150.123456789
    assert columns["attr.n"][0] == 2**30
    assert np.isnan(columns["attr.mag"][0])
    assert columns["attr.mag"].dtype == np.float32
    assert texts == {"attr.flags": ['["edge"]'], "attr.s": ["a", "b"]}
    np.testing.assert_array_equal(columns["attr.s"], [0, 1])
    np.testing.assert_array_equal(columns["attr.flags"], [0, -1])


@pytest.mark.parametrize("key", ["file_name", "height", "width"])
@pytest.mark.parametrize("harm", [lambda image, key: image.update({key: None}), dict.pop])
def test_a_truth_whose_image_lacks_what_all_have_is_refused(tmp_path, key, harm):
    doc = {
        "images": [{"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}],
        "categories": [{"id": 1, "name": "galaxy"}],
        "annotations": [{**item(0, 0, 10, 10), "id": 1}],
    }
    frames = frames_of(doc["images"])
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(doc))
    assert len(read_layer(path, doc, frames)[0]) == 1
    other = json.loads(path.read_text())
    harm(other["images"][0], key)
    path.write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"truth\.json|a\.png"):
        read_layer(path, doc, frames)
