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
    return {a["attributes"]["name"]: a for a in doc["annotations"]}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_corrections_follow_the_place_and_not_the_id(order):
    applied = apply(document(order), CORRECTIONS)
    assert not coco.validate(applied.document)
    assert applied.done == {"accept": 0, "reject": 1, "merge": 1, "class": 1}
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds no corrections"),
        ({"corrections": [3]}, "correction 1 is not whole"),
        ({"corrections": [{"action": "burn", **place(0)}]}, "correction 1 is not whole"),
        ({"corrections": [{"action": "accept", "image": "a.png", "x": "1", "y": 2}]}, "not whole"),
        ({"corrections": [{"action": "class", **place(0)}]}, "names no class"),
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
    page = (tmp_path / "review.html").read_text()
    assert '"name":"galaxy"' in page
    assert "http" not in page.replace("http-equiv", "")
