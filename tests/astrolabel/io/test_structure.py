"""Documents of wrong types end in one line before anything is done with them."""

import copy
import json
import os

import pytest

from astrolabel.core.celestial import wcs_of_cards
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.polygons import mask_of
from astrolabel.io.structure import check_results, check_structure
from astrolabel.io.validate import validate

LABEL = {
    "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0,
    "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]], "attributes": {"mag_i": 20.0},
}  # fmt: skip
SOUND = {
    "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 64}],
    "categories": [{"id": 1, "name": "galaxy"}],
    "annotations": [LABEL],
}

NAMED = {"image_id": "image", "bbox": "bbox|has the box", "category_id": "category"}
"""What a message says of a key, where that is not its name."""


def read(folder, text):
    path = folder / "c.json"
    path.write_text(text)
    return coco.read(path)


def test_a_sound_document_is_read_as_it_is(tmp_path):
    assert read(tmp_path, json.dumps(SOUND)) == SOUND


def test_documents_of_other_programs_may_lack_what_they_lack(tmp_path):
    doc = copy.deepcopy(SOUND)
    for key in ("area", "iscrowd", "bbox", "attributes"):
        del doc["annotations"][0][key]
    doc["images"][0] |= {"license": 3, "coco_url": "http://a"}
    assert read(tmp_path, json.dumps(doc)) == doc


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("annotations", "image_id", [1]),
        ("annotations", "image_id", 7),
        ("annotations", "id", 2**70),
        ("annotations", "id", None),
        ("annotations", "attributes", [1]),
        ("annotations", "segmentation", "x"),
        ("annotations", "bbox", {"a": 1}),
        ("images", "astro", [1]),
        ("images", "astro", {"wcs": 3}),
        ("images", "height", -5),
        ("images", "height", 2**40),
        ("images", "file_name", 3),
        ("images", "file_name", "x" * 5000),
        ("categories", "name", None),
        ("annotations", "bbox", [1, 1, float("nan"), 4]),
        ("annotations", "bbox", [1, 1, -5, 4]),
        ("annotations", "bbox", [1, 1, 1e300, 4]),
        ("annotations", "bbox", [1, 1]),
        ("annotations", "category_id", 99),
        ("annotations", "attributes", {"flags": 5}),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, kind, key, value):
    doc = copy.deepcopy(SOUND)
    doc[kind][0][key] = value
    with pytest.raises(InputError, match=NAMED.get(key, key)) as caught:
        read(tmp_path, json.dumps(doc))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("half", ["\\ud800", "\\udc00"])
def test_half_a_character_is_told_also_where_objects_are_replaced(tmp_path, half):
    text = json.dumps(SOUND).replace("galaxy", half)
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        coco.read(tmp_path / "c.json", lambda item: item)
    whole = text.replace(half, "\\ud83d\\ude00")
    (tmp_path / "c.json").write_text(whole)
    assert coco.read(tmp_path / "c.json")["categories"][0]["name"] == "\U0001f600"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        json.dumps(SOUND)[:-1] + ', "x": ' + "9" * 5000 + "}",
        json.dumps(SOUND).replace("galaxy", "\\ud800"),
        json.dumps({**SOUND, "annotations": [None]}),
    ],
    ids=["lists", "objects", "digits", "half a character", "null"],
)
def test_what_json_allows_and_no_document_holds_is_one_line(tmp_path, text):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1e300, 10**400, 1e6, "1"]
)
def test_polygons_are_bounded_before_they_are_drawn(value):
    with pytest.raises(ValueError, match="polygon"):
        mask_of([[1, 1, value, 1, 9, 9]], (64, 64))


def test_a_list_of_no_polygons_is_no_mask():
    with pytest.raises(ValueError, match="no polygons"):
        mask_of([], (64, 64))


@pytest.mark.parametrize(
    "cards",
    [
        {"WCSAXES": 20_000},
        {"CRPIX1": [1]},
        {"CTYPE1": "x"},
        {"A_ORDER": 10**5, "CTYPE1": "RA---TAN-SIP"},
        {"CTYPE1": "RA---TAB"},
    ],
)
def test_a_wcs_that_is_none_is_one_line(cards):
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, **cards}
    with pytest.raises(InputError, match="an image has an unusable WCS") as caught:
        wcs_of_cards(sky)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match="pipe"):
        coco.read(tmp_path / "a.json")


def test_validate_survives_ids_that_cannot_be_counted():
    doc = copy.deepcopy(SOUND)
    doc["categories"][0]["id"] = doc["annotations"][0]["category_id"] = [1]
    assert len(validate(doc)) >= 2


@pytest.mark.parametrize("odd", [{"image_id": None}, {"score": "x"}, {"segmentation": 3},
                                 {"attributes": {"score": None}}, 3])  # fmt: skip
def test_results_of_wrong_types_are_refused(odd):
    good = {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": {"size": [9, 9]}}
    check_results([good], "p.json")
    bad = {**good, **odd} if isinstance(odd, dict) else odd
    with pytest.raises(InputError, match=r"p\.json: results\[1\]"):
        check_results([good, bad], "p.json")


@pytest.mark.parametrize(
    "name", [None, "", ".", "..", "a/", "a/..", "\0", "a\nb", "x" * 300, "a/" * 30]
)
def test_a_picture_has_a_name_that_files_can_be_called_by(name):
    image = {"id": 1, "file_name": name, "height": 9, "width": 9}
    with pytest.raises(InputError, match="file_name"):
        check_structure({"images": [image], "categories": [], "annotations": []}, "a.json")
    for good in ("a.png", "../val/..b.png", "/data/гало.png", ".hidden", "a/./b"):
        doc = {"images": [{**image, "file_name": good}], "categories": [], "annotations": []}
        check_structure(doc, "a.json")
