"""Objects of two parts, and the documents of parts, against what is plainly so."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from astrolabel.datasets.split import (
    SAME_OBJECT_ARCSEC,
    Split,
    labels_of,
    part_document,
    repeated,
)
from astrolabel.io import coco
from astrolabel.io.stream import Annotations

IMAGES = 4
NEAR = SAME_OBJECT_ARCSEC / 3600
labels = st.lists(
    st.fixed_dictionaries(
        {
            "image_id": st.integers(1, IMAGES),
            "iscrowd": st.sampled_from([0, 0, 0, 1]),
            "object_id": st.sampled_from([None, "", "a", "b", "c"]),
            # On one meridian, with pairs well inside and well outside of half an arcsecond.
            "place": st.one_of(st.none(), st.integers(0, 12)),
        }
    ),
    max_size=12,
)
parts = st.lists(st.integers(-1, 2), min_size=IMAGES, max_size=IMAGES)


def document(given_labels):
    items = []
    for number, one in enumerate(given_labels, start=1):
        dec = None if one["place"] is None else 2 + one["place"] * 0.7 * NEAR
        attributes = {"ra": 150.0, "dec": dec, "object_id": one["object_id"]}
        items.append({
            "id": number, "image_id": one["image_id"], "category_id": 1,
            "iscrowd": one["iscrowd"], "attributes": attributes,
        })  # fmt: skip
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(1, IMAGES + 1)]
    loops = Annotations(lambda: iter(items), len(items))
    return {"info": {}, "categories": [], "images": images, "annotations": loops}


def plainly(items, part):
    """The pairs that are one object, by looking at all pairs."""
    of = {a["id"]: part[a["image_id"] - 1] for a in items}
    listed = [a for a in items if not a["iscrowd"] and of[a["id"]] >= 0]
    pairs = set()
    for a in listed:
        same = [
            (of[b["id"]], b["id"])
            for b in listed
            if a["attributes"]["object_id"]
            and b["attributes"]["object_id"] == a["attributes"]["object_id"]
        ]
        if same and of[a["id"]] != max(same)[0]:
            pairs.add((a["id"], max(same)[1]))
        for b in listed:
            decs = [x["attributes"]["dec"] for x in (a, b)]
            if of[a["id"]] < of[b["id"]] and None not in decs and abs(decs[0] - decs[1]) < NEAR:
                pairs.add((a["id"], b["id"]))
    return pairs


@given(labels, parts)
def test_objects_of_two_parts_are_those_that_a_look_at_all_pairs_finds(given_labels, part):
    doc = document(given_labels)
    found = repeated(doc, np.array(part))
    assert {(low, high) for low, high, _ in found} == plainly(list(doc["annotations"]), part)


@given(labels, parts, st.sets(st.integers(1, 12)))
def test_each_label_is_in_the_part_of_its_image_and_numbered_from_1(given_labels, part, ignored):
    doc = document(given_labels)
    split = Split(("x", "y", "z"), np.array(part), {}, frozenset(ignored), (), labels_of(doc))
    total = 0
    for j, name in enumerate(split.parts):
        one = part_document(doc, split, name)
        items = list(one["annotations"])
        assert len(one["annotations"]) == len(items)
        assert [a["id"] for a in items] == list(range(1, len(items) + 1))
        assert [i["id"] for i in one["images"]] == list(range(1, part.count(j) + 1))
        files = {i["id"]: i["file_name"] for i in one["images"]}
        wanted = [a for a in doc["annotations"] if part[a["image_id"] - 1] == j]
        assert [files[a["image_id"]] for a in items] == [f"{a['image_id']}.png" for a in wanted]
        for a, b in zip(items, wanted, strict=True):
            assert a["iscrowd"] == (1 if b["id"] in ignored else b["iscrowd"])
        total += len(items)
    assert total == sum(part[a["image_id"] - 1] >= 0 for a in doc["annotations"])


shards = st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 9), max_size=4)), max_size=6)


@given(shards)
def test_a_merged_document_has_every_label_of_every_shard_in_order(given_shards):
    made = [
        {
            "image": {"file_name": str(k)} if has else None,
            "annotations": [{"area": area} for area in areas] if has else [],
        }
        for k, (has, areas) in enumerate(given_shards)
    ]
    doc = coco.merge({}, [], made)
    flat = [(s["image"]["file_name"], a["area"]) for s in made for a in s["annotations"]]
    files = {image["id"]: image["file_name"] for image in doc["images"]}
    assert [(files[a["image_id"]], a["area"]) for a in doc["annotations"]] == flat
    assert [a["id"] for a in doc["annotations"]] == list(range(1, len(flat) + 1))
    assert list(files) == list(range(1, len(files) + 1))
