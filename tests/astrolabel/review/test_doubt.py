"""Doubtful labels come first: each planted fault for its own reason."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.io import coco
from astrolabel.io.frames import frames_of
from astrolabel.review.disagreement import compare
from astrolabel.review.doubt import MEMBERS, REASONS, class_ratio, doubts
from astrolabel.review.layers import layer, places_of
from astrolabel.review.light import Light, detection_plane, measure
from astrolabel.review.page import page_data
from astrolabel.review.values import light_of

SHAPE = (120, 160)
SIGMA = {"star": 1.5, "galaxy": 3.0}
BLOBS = [(20, 20, "galaxy"), (20, 60, "galaxy"), (20, 100, "star"), (70, 25, "galaxy"),
         (70, 36, "galaxy"), (70, 90, "galaxy"), (70, 130, "star")]  # fmt: skip


def light_plane():
    rng = np.random.default_rng(3)
    y, x = np.indices(SHAPE)
    plane = rng.standard_normal(SHAPE).astype(np.float32)
    for cy, cx, kind in BLOBS:
        plane += 60 * np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / SIGMA[kind] ** 2)
    return plane.astype(np.float32)


def disc(cy, cx, radius=5):
    y, x = np.indices(SHAPE)
    return (y - cy) ** 2 + (x - cx) ** 2 <= radius**2


def labels_with_faults():
    """Right, cut in two, right, two in one, a false one; masks and classes."""
    cut = disc(20, 60)
    left = cut.copy()
    left[:, 60:] = False
    return [
        (disc(20, 20), 1), (left, 1), (cut & ~left, 1), (disc(20, 100), 2),
        (disc(70, 25) | disc(70, 36), 1), (disc(70, 90), 1), (disc(70, 130), 2), (disc(110, 60), 1),
    ]  # fmt: skip


def as_layer(masks):
    items = [
        coco.annotation(mask=m, box=Box.of_shape(SHAPE), image_shape=SHAPE, category_id=c,
                        attributes={})
        for m, c in masks
    ]  # fmt: skip
    image = {"file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}
    names = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    doc = coco.merge({}, names, [{"image": image, "annotations": items}])
    return doc, layer(doc["annotations"], places_of(doc, frames_of(doc["images"])))


def test_each_fault_is_found_for_its_reason():
    _, labels = as_layer(labels_with_faults())
    _, truth = as_layer([(disc(y, x), 1 + (kind == "star")) for y, x, kind in BLOBS])
    light = measure(labels.masks, light_plane())
    classes = np.array([a["category_id"] - 1 for a in labels.items])
    names = {1: "galaxy", 2: "star"}
    one, _ = compare(labels, truth, labels.text(names), truth.text(names))
    found = doubts(light, classes, [one])
    why = [REASONS[k] for k in found.reason]
    assert (why[1], why[2], why[4], why[7]) == (
        "part of a source", "part of a source", "two sources", "no light",
    )  # fmt: skip
    wrong = [1, 2, 4, 7]
    right = [0, 3, 5, 6]
    assert found.score[wrong].min() > 0.8
    assert found.score[right].max() < 0.3
    # Without predictions the same labels come first.
    alone = doubts(light, classes)
    assert set(np.argsort(-alone.score)[:4]) == set(wrong)


def test_a_companion_on_a_galaxy_is_no_cut_and_no_second_source():
    plane = light_plane()
    y, x = np.indices(SHAPE)
    plane += (30 * np.exp(-0.5 * ((y - 20) ** 2 + (x - 25) ** 2) / 1.2**2)).astype(np.float32)
    light = measure(as_layer([(disc(20, 20, 8), 1), (disc(20, 25, 2), 2)])[1].masks, plane)
    assert light.border.max() < 0.2  # they share pixels
    assert light.second.max() < 5  # the companion's peak is its own


def test_a_class_that_does_not_fit_the_width_stands_out():
    rng = np.random.default_rng(0)
    number = 4 * MEMBERS
    classes = np.arange(number) % 2
    flux = rng.uniform(1e3, 1e5, number)
    width = np.where(classes == 0, 40.0, 12.0) * np.exp(0.05 * rng.standard_normal(number))
    classes[7] = 0  # a star called a galaxy
    zero = np.zeros(number)
    light = Light(zero + 10, flux, width, zero, zero)
    ratio = class_ratio(light, classes)
    assert ratio.argmax() == 7
    assert ratio[7] > 20
    assert np.delete(ratio, 7).max() < 0
    assert REASONS[doubts(light, classes).reason[7]] == "class"
    few = np.where(classes == 1, -1, classes)  # one class alone cannot be compared
    assert class_ratio(light, few).max() == 0


def test_a_saturated_core_is_not_taken_for_two_sources(tmp_path):
    doc, labels = as_layer(labels_with_faults())
    fits.PrimaryHDU(light_plane()[None]).writeto(tmp_path / "cube.fits")
    doc["images"][0]["astro"] = {"cube": "cube.fits", "bands": ["g"]}
    places = places_of(doc, frames_of(doc["images"]))
    before = light_of(labels, doc, places, tmp_path).second
    assert before[4] > 50
    doc["annotations"][4]["attributes"]["flags"] = ["saturated"]
    labels = layer(doc["annotations"], places)
    after = light_of(labels, doc, places, tmp_path).second
    assert after[4] == 0
    np.testing.assert_array_equal(np.delete(after, 4), np.delete(before, 4))


def test_the_plane_is_in_sigma_of_all_bands_with_their_sky_subtracted():
    rng = np.random.default_rng(1)
    cube = rng.standard_normal((3, 200, 200)) * np.array([1, 2, 5])[:, None, None] + 1000
    cube = cube.astype(np.float32)
    cube[0, :50] = np.nan
    for sigma in (None, (1.0, 2.0, 5.0)):
        plane = detection_plane(cube, sigma)
        assert plane[50:].std() == pytest.approx(1, rel=0.03)
        assert abs(plane[50:].mean()) < 0.03


def test_the_page_has_the_doubts_of_labels_with_a_cube_and_none_without(tmp_path):
    doc, _ = as_layer(labels_with_faults())
    fits.PrimaryHDU(light_plane()[None]).writeto(tmp_path / "cube.fits")
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    for cube, expected in ((True, True), (False, False)):
        if cube:
            doc["images"][0]["astro"] = {"cube": "cube.fits", "bands": ["g"]}
        else:
            doc["images"][0].pop("astro")
        packed = page_data(doc, tmp_path / "coco.json")["layers"]["labels"]
        column = next((c for c in packed["columns"] if c["name"] == "doubt_for"), None)
        assert column["texts"] == list(REASONS[1:])
        raw = __import__("zlib").decompress(__import__("base64").b64decode(packed["data"]))
        reasons = np.frombuffer(raw, np.int32, column["length"], column["at"])
        assert (reasons >= 0).any() == expected
