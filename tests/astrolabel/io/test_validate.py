import copy
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.io import coco

SHAPE = (40, 50)
NAN, INF = float("nan"), float("inf")


def sound():
    """A document with nothing wrong in it: two images, two annotations, one ignored."""
    items = [
        coco.annotation(
            mask=np.ones((5, 7), bool),
            box=Box(10, 12, 5, 7),
            image_shape=SHAPE,
            category_id=1,
            attributes={"ra": 150.0, "mag_i": None},
            iscrowd=k,
        )
        for k in (0, 1)
    ]
    shards = [
        {
            "image": {"file_name": f"{name}.png", "height": 40, "width": 50, "astro": {}},
            "annotations": [item],
        }
        for name, item in zip("ab", items, strict=True)
    ]
    return coco.merge({}, [{"id": 1, "name": "galaxy"}], shards)


def broken(*path_and_value):
    """The sound document with one value replaced, or taken out where it is `...`."""
    *path, last, value = path_and_value
    doc = copy.deepcopy(sound())
    at = doc
    for key in path:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return doc


def test_a_sound_document_has_no_problem():
    assert coco.validate(sound(), None) == ()


FIRST = ("annotations", 0)
RLE = (*FIRST, "segmentation")


def test_every_wrong_value_of_an_entry_is_named_with_its_remedy():
    doc = broken(*FIRST, {"id": -1, "image_id": "x", "category_id": 1, "bbox": [1, 2, None, 4]})
    assert [str(p) for p in coco.validate(doc, None)] == [
        "annotation -1: id: expected integer >= 1; number from 1",
        "annotation -1: image_id: expected integer, got text",
        "annotation -1: bbox[2]: expected number, got null",
        "annotation -1: has no area",
        "annotation -1: has no segmentation",
        "annotation -1: has no iscrowd",
    ]


@pytest.mark.parametrize(
    ("doc", "where", "what"),
    [
        (broken("annotations", 1, "id", 1), "annotation 1", "more than once"),
        (broken("images", 1, "id", 1), "image 1", "more than once"),
        (broken(*FIRST, "id", "1"), "annotation at index 0", "id: expected integer, got text"),
        (broken(*FIRST, "id", 1.0), "annotation at index 0", "id: expected integer, got number"),
        (broken(*FIRST, "id", True), "annotation at index 0", "id: expected integer"),
        (broken(*FIRST, "id", 0), "annotation 0", "id: expected integer >= 1"),
        (broken(*FIRST, "id", ...), "annotation at index 0", "has no id"),
        (broken(*FIRST, "image_id", 99), "annotation 1", "image 99 is not in"),
        (broken(*FIRST, "image_id", "1"), "annotation 1", "image_id: expected integer, got text"),
        (broken(*FIRST, "category_id", 3), "annotation 1", "category 3 is not in"),
        (
            broken(*FIRST, "category_id", None),
            "annotation 1",
            "category_id: expected integer",
        ),
        (broken(*FIRST, "iscrowd", 2), "annotation 1", "iscrowd: invalid enum value 2"),
        (
            broken(*FIRST, "iscrowd", False),
            "annotation 1",
            "iscrowd: expected integer",
        ),
        (broken(*FIRST, "iscrowd", ...), "annotation 1", "has no iscrowd"),
        (broken(*FIRST, "bbox", [12, 10, NAN, 5]), "annotation 1", "not finite"),
        (broken(*FIRST, "bbox", [12, 10, INF, 5]), "annotation 1", "not finite"),
        (broken(*FIRST, "bbox", [12, 10, 0, 5]), "annotation 1", "no extent"),
        (broken(*FIRST, "bbox", [12, 10, 39, 5]), "annotation 1", "leaves its image"),
        (broken(*FIRST, "bbox", [-1, 10, 7, 5]), "annotation 1", "leaves its image"),
        (
            broken(*FIRST, "bbox", [12, 10, 7]),
            "annotation 1",
            "bbox: expected list of length 4",
        ),
        (broken(*FIRST, "bbox", None), "annotation 1", "bbox: expected list, got null"),
        (broken(*FIRST, "bbox", [11, 10, 8, 5]), "annotation 1", "not tight"),
        (broken(*FIRST, "bbox", [12, 10, 7, 4]), "annotation 1", "not tight"),
        (broken(*FIRST, "area", 36), "annotation 1", "area 36 disagrees"),
        (broken(*FIRST, "area", NAN), "annotation 1", "area: expected number > 0.0"),
        (broken(*FIRST, "area", 0), "annotation 1", "area: expected number > 0.0"),
        (broken(*FIRST, "area", "35"), "annotation 1", "area: expected number, got text"),
        (broken(*RLE, "counts", "`n1"), "annotation 1", "mask is empty"),
        (broken(*RLE, "size", [50, 40]), "annotation 1", "RLE is of a 50x40 image"),
        (broken(*RLE, "size", [41, 50]), "annotation 1", "cover 2000 pixels"),
        (broken(*RLE, "size", ...), "annotation 1", "RLE size None"),
        (broken(*RLE, "counts", b"P_1"), "annotation 1", "bytes"),
        (broken(*RLE, "counts", "P_"), "annotation 1", "cut off"),
        (broken(*RLE, "counts", ...), "annotation 1", "NoneType"),
        (broken(*RLE, None), "annotation 1", "segmentation: expected"),
        (broken(*RLE, ...), "annotation 1", "has no segmentation"),
        (broken(*RLE, []), "annotation 1", "mask is empty"),
        (broken(*RLE, [[1, 2, 3, 4]]), "annotation 1", "three or more finite points"),
        (broken(*RLE, [[1, 2, 3, 4, NAN, 6]]), "annotation 1", "three or more finite points"),
        (broken(*RLE, [[0, 0, 1e9, 0, 1e9, 9]]), "annotation 1", "polygon leaves"),
        (broken(*RLE, [[22, 10, 29, 10, 29, 15, 22, 15]]), "annotation 1", "not tight"),
        (broken(*FIRST, "attributes", {"mag": {"i": NAN}}), "annotation 1", "NaN or infinity"),
        (
            broken(*FIRST, "attributes", []),
            "annotation 1",
            "attributes: expected mapping",
        ),
        (broken(*FIRST, 5), "annotation at index 0", "expected mapping, got integer"),
        (broken("images", 0, "file_name", ...), "image 1", "has no file_name"),
        (broken("images", 0, "file_name", 7), "image 1", "file_name: expected text, got integer"),
        (broken("images", 0, "file_name", "b.png"), "image 2", "another image's too"),
        (broken("images", 0, "height", 40.0), "image 1", "height: expected integer, got number"),
        (broken("images", 0, "astro", {"fwhm": [INF]}), "image 1", "NaN or infinity"),
        (broken("categories", 0, "name", ...), "category 1", "has no name"),
        (broken("annotations", {}), "document", "no list of annotations"),
        (broken("images", ...), "document", "no list of images"),
    ],
)
def test_each_kind_of_problem_is_found_and_placed(doc, where, what):
    found = [p for p in coco.validate(doc, None) if p.where == where and what in p.what]
    assert len(found) == 1, coco.validate(doc, None)


def test_one_fault_is_one_problem():
    for doc in (
        broken(*FIRST, "bbox", [12, 10, 39, 5]),
        broken(*FIRST, "area", 36),
        broken(*RLE, "counts", "`n1"),  # 2000 unset pixels
        broken(*RLE, "size", [50, 40]),
    ):
        assert len(coco.validate(doc, None)) == 1


def test_a_category_used_twice_is_found():
    doc = sound()
    doc["categories"].append({"id": 1, "name": "star"})
    assert [str(p) for p in coco.validate(doc, None)] == [
        "category 1: id is used more than once; give every entry its own"
    ]


def test_polygons_are_measured_but_forgiven_half_a_pixel_of_outline():
    square = [[12, 10, 19, 10, 19, 15, 12, 15]]
    doc = broken(*RLE, square)
    assert coco.validate(doc, None) == ()
    doc["annotations"][0]["area"] = 70
    assert "disagrees" in coco.validate(doc, None)[0].what


def test_images_beside_the_document_are_opened(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (50, 40)).save(tmp_path / "b.png")
    assert coco.validate(sound(), tmp_path) == ()
    Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    (tmp_path / "b.png").unlink()
    assert [(p.where, p.what) for p in coco.validate(sound(), tmp_path)] == [
        ("image 1", "file a.png is 50x40 pixels, not 40x50"),
        ("image 2", f"file b.png is missing from {tmp_path}"),
    ]
    (tmp_path / "b.png").write_bytes(b"not a picture")
    assert "cannot be opened" not in str(coco.validate(sound(), tmp_path)[0])
    assert "not an image" in coco.validate(sound(), tmp_path)[1].what


def test_a_picture_whose_text_would_fill_the_memory_is_a_problem(tmp_path):
    """Pillow refuses it with ValueError, which is none of its own errors."""
    sound = io.BytesIO()
    Image.new("RGB", (64, 64)).save(sound, "PNG")
    body = b"zTXt" + b"a\0\0" + zlib.compress(bytes(3_000_000))
    text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(sound.getvalue()[:33] + text + sound.getvalue()[33:])
    doc = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 64}],
        "annotations": [],
        "categories": [{"id": 1, "name": "galaxy"}],
    }
    (problem,) = coco.validate(doc, tmp_path)
    assert "is not an image that can be opened" in problem.what
