"""Corrections of labels: read, matched by place, applied."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.rle import decode
from astrolabel.review.corrections import apply, read_corrections

SHAPE = (40, 60)
BOXES = (Box(5, 5, 4, 6), Box(5, 12, 4, 6), Box(20, 30, 5, 5), Box(30, 50, 3, 3))


def document(order=(0, 1, 2, 3)):
    items = [
        coco.annotation(
            mask=np.ones(BOXES[k].shape, bool),
            box=BOXES[k],
            image_shape=SHAPE,
            category_id=1,
            attributes={"flux_g": 10.0 + k, "flux_err_g": 3.0 + k, "mag_g": 20.0, "name": k},
        )
        for k in order
    ]
    image = {"file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}
    names = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    return coco.merge({}, names, [{"image": image, "annotations": items}])


def place(k):
    box = BOXES[k]
    return {
        "id": k + 1,
        "image": "a.png",
        "x": box.x0 + box.width / 2,
        "y": box.y0 + box.height / 2,
    }


CORRECTIONS = [
    {
        "action": "merge",
        **place(0),
        "with": [place(1)],
        "time": "2026-01-01T00:00:00Z",
        "who": "me",
    },
    {"action": "class", **place(2), "class": "star"},
    {"action": "reject", **place(3)},
]


def named(doc):
    return {a["attributes"].get("name"): a for a in doc["annotations"]}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_corrections_follow_the_place_and_not_the_id(order):
    applied = apply(document(order), CORRECTIONS)
    assert not coco.validate(applied.document)
    assert {k: n for k, n in applied.done.items() if n} == {"reject": 1, "merge": 1, "class": 1}
    assert applied.lost == ()
    found = named(applied.document)
    assert set(found) == {0, 2}
    assert found[2]["category_id"] == 2
    assert found[2]["attributes"]["reviewed"] == "class"
    merged = found[0]
    assert merged["area"] == 48
    expected = np.zeros(SHAPE, bool)
    for k in (0, 1):
        expected[BOXES[k].slices] = True
    np.testing.assert_array_equal(decode(merged["segmentation"]), expected)
    assert merged["attributes"]["flux_g"] == 21.0
    assert merged["attributes"]["flux_err_g"] == 5.0
    assert merged["attributes"]["mag_g"] == pytest.approx(20 - 2.5 * np.log10(2), abs=1e-4)
    assert applied.document["info"]["corrections"] == CORRECTIONS


def test_a_correction_without_a_label_is_said_and_the_others_are_applied():
    away = {"action": "reject", "image": "a.png", "x": 1.0, "y": 38.0}
    other = {"action": "accept", **place(0), "image": "b.png"}
    applied = apply(document(), [away, other, CORRECTIONS[2]])
    assert len(applied.lost) == 2
    assert applied.done["reject"] == 1
    assert "2 without a label" in applied.summary()


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("off", [0.0, 2.5])  # inside the label's box, but not near its centre
@pytest.mark.parametrize("lacks", ["null", "absent"])
def test_a_label_without_a_mask_is_left_as_it_is(k, off, lacks):
    doc = document()
    doc["annotations"][k]["segmentation"] = None
    if lacks == "absent":
        del doc["annotations"][k]["segmentation"]
    with_it = {**place(0), "x": place(0)["x"] + off, "with": [place(1)]}
    cut = {"action": "split", **place(k), "x": place(k)["x"] + off, "peak": [7.0, 7.0]}
    applied = apply(doc, [{"action": "merge", **with_it}, cut, CORRECTIONS[1]])
    assert [line.rpartition(": ")[2] for line in applied.lost] == ["no label there"] * 2
    assert applied.document["annotations"][k] == doc["annotations"][k]
    assert len(applied.document["annotations"]) == 4
    assert applied.done["class"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds no corrections"),
        ({"corrections": [3]}, "correction 1 is not whole"),
        ({"corrections": [{"action": "burn", **place(0)}]}, "correction 1 is not whole"),
        ({"corrections": [{"action": "accept", "image": "a.png", "x": "1", "y": 2}]}, "not whole"),
        ({"corrections": [{"action": "class", **place(0)}]}, "names no class"),
        ({"corrections": [{"action": "merge", **place(0)}]}, "not whole"),
        ({"corrections": [{"action": "split", **place(0), "peak": [1]}]}, "not whole"),
        ({"corrections": [{"action": "add", **place(0), "outline": []}]}, "not whole"),
        ({"corrections": [{"action": "accept", **place(0), "made": [{}]}]}, "not whole"),
    ],
)
def test_a_file_that_holds_none_is_refused(tmp_path, content, said):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        read_corrections(path)


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no class 'quasar'; the document has galaxy, star"):
        apply(document(), [{"action": "class", **place(0), "class": "quasar"}])


def test_the_commands(tmp_path, capsys):
    coco.write_json(tmp_path / "coco.json", document())
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "corrections.json").write_text(json.dumps({"corrections": CORRECTIONS}))
    words = ["apply", str(tmp_path / "coco.json"), str(tmp_path / "corrections.json"), "--out"]
    assert main([*words, str(tmp_path / "new.json")]) == 0
    assert "1 reject, 1 merge, 1 class" in capsys.readouterr().out
    assert main(["validate", str(tmp_path / "new.json")]) == 0
    assert main([*words, str(tmp_path / "deep" / "new.json")]) == 2
    assert main(["review", str(tmp_path / "coco.json")]) == 0
    page = (tmp_path / "review" / "index.html").read_text()
    assert '"name":"galaxy"' in page
    assert "http" not in page
    assert (tmp_path / "review" / "pictures" / "0.js").read_text().startswith("arrived(")


def test_a_log_of_lines_is_read_and_an_undo_takes_back_the_one_before(tmp_path):
    path = tmp_path / "log.jsonl"
    entries = [CORRECTIONS[0], CORRECTIONS[2], {"action": "undo", "who": "me"}, CORRECTIONS[1]]
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert read_corrections(path) == [CORRECTIONS[0], CORRECTIONS[1]]
    path.write_text("{")
    with pytest.raises(InputError, match="line 1 is not JSON"):
        read_corrections(path)


WCS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 30.5,
    "CRPIX2": 20.5, "CDELT1": -5e-5, "CDELT2": 5e-5, "CUNIT1": "deg", "CUNIT2": "deg",
}  # fmt: skip


def on_sky(doc, name, dx=0, dy=0):
    """The document with a WCS; its image starts dx, dy pixels further."""
    wcs = {**WCS, "CRPIX1": WCS["CRPIX1"] - dx, "CRPIX2": WCS["CRPIX2"] - dy}
    image = {**doc["images"][0], "file_name": name, "astro": {"wcs": wcs}}
    return {**doc, "images": [image]}


def sky_of(x, y):
    """RA and Dec of pixel edges, near enough to the reference pixel."""
    dec = 2.0 + (y - 20) * 5e-5
    return {"ra": 150.0 - (x - 30) * 5e-5 / np.cos(np.radians(2.0)), "dec": dec}


def test_corrections_follow_the_sky_to_other_tiles():
    """The same sky in an image that starts 2 columns and 3 rows further, and with other names."""
    moved = document()
    for item in moved["annotations"]:
        x, y, w, h = item["bbox"]
        again = coco.annotation(
            mask=np.ones((h, w), bool), box=Box(y - 3, x - 2, h, w), image_shape=SHAPE,
            category_id=1, attributes=item["attributes"],
        )  # fmt: skip
        item |= again
    moved = on_sky(moved, "tile-b.png", 2, 3)
    made = coco.annotation(
        mask=np.ones((2, 2), bool), box=Box(21, 31, 2, 2), image_shape=SHAPE, category_id=1,
        attributes={"name": "new"},
    )  # fmt: skip
    outline = [[40.0, 10.0, 44.0, 10.0, 44.0, 13.0, 40.0, 13.0]]
    corrections = [
        {"action": "reject", **place(0)},
        {"action": "split", **place(2), "peak": [32, 22], "made": [
            {"segmentation": made["segmentation"], "class": "galaxy", "attributes": {"name": 2}},
            {"segmentation": made["segmentation"], "class": "star", "attributes": {"name": 9}},
        ]},
        {"action": "add", **place(3), "x": 42.0, "y": 11.5, "outline": outline, "class": "star"},
    ]  # fmt: skip
    corrections = [{**c, **sky_of(c["x"], c["y"]), "image": "old/tile-a.png"} for c in corrections]
    applied = apply(moved, corrections)
    assert applied.lost == ()
    assert not coco.validate(applied.document)
    items = applied.document["annotations"]
    assert {a["attributes"].get("name") for a in items} == {1, 2, 3, 9, None}
    assert named(applied.document)[2]["id"] == 3  # the first of a split keeps the id
    assert named(applied.document)[2]["bbox"] == [29, 18, 2, 2]
    assert named(applied.document)[9]["category_id"] == 2
    new = next(a for a in items if a["attributes"].get("reviewed") == "add")
    assert (new["bbox"], new["area"], new["category_id"]) == ([38, 7, 4, 3], 12, 2)


def test_a_label_that_grew_is_found_by_the_place_inside_it():
    doc = document()
    grown = coco.annotation(
        mask=np.ones((15, 15), bool), box=Box(17, 28, 15, 15), image_shape=SHAPE, category_id=1,
        attributes={"name": 2},
    )  # fmt: skip
    doc["annotations"][2] |= grown
    applied = apply(doc, [{"action": "class", **place(2), "class": "star"}])
    assert named(applied.document)[2]["category_id"] == 2
