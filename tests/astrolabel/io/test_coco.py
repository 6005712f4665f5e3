import copy
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco

SHAPE = (60, 80)
CATEGORIES = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]


def disc(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.hypot(y, x) <= radius


def shard(name, n=3):
    mask = disc(4)
    return {
        "image": {"file_name": name, "height": SHAPE[0], "width": SHAPE[1]},
        "annotations": [
            coco.annotation(
                mask=mask,
                box=Box(3 * k, 10 * k - 2, *mask.shape),
                image_shape=SHAPE,
                category_id=1 + k % 2,
                attributes={"object_id": "43158034708430721", "mag_i": 20.5},
            )
            for k in range(n)
        ],
    }


@pytest.fixture
def written(tmp_path):
    """A document of two images, with their PNGs, on disk."""
    doc = coco.merge({"version": "1"}, CATEGORIES, [shard("a.png"), shard("b.png", 2)])
    for image in doc["images"]:
        Image.new("RGB", SHAPE[::-1]).save(tmp_path / image["file_name"])
    coco.write_json(tmp_path / "coco.json", doc)
    return tmp_path / "coco.json"


def truth(number):
    """The mask of the n-th annotation of the first image, in the full frame."""
    frame = np.zeros((80, 100), bool)
    frame[3 * number : 3 * number + 9, 10 * number + 8 : 10 * number + 17] = disc(4)
    return frame[: SHAPE[0], 10 : 10 + SHAPE[1]]


def test_an_annotation_is_tight_true_and_inside():
    item = shard("a.png")["annotations"][0]  # its box starts two columns left of the image
    assert item["bbox"] == [0, 0, 7, 9]
    assert item["area"] == disc(4)[:, 2:].sum()
    np.testing.assert_array_equal(coco.decode(item["segmentation"]), truth(0))
    assert item["iscrowd"] == 0


@pytest.mark.parametrize("box", [Box(2, 2, 5, 5), Box(500, 2, 5, 5)])
def test_an_annotation_without_a_pixel_is_refused(box):
    mask = np.zeros((5, 5), bool) if box.y0 == 2 else np.ones((5, 5), bool)
    with pytest.raises(ValueError, match="no pixel"):
        coco.annotation(mask=mask, box=box, image_shape=SHAPE, category_id=1, attributes={})


def test_merge_numbers_from_one_in_order_and_leaves_the_shards_alone():
    shards = [
        shard("a.png"),
        {"image": None, "annotations": [], "state": "skipped:no data"},
        shard("b.png", 2),
    ]
    before = copy.deepcopy(shards)
    doc = coco.merge({"version": "1"}, CATEGORIES, shards, [{"id": 1, "name": "CC0", "url": ""}])
    assert shards == before
    assert [(i["id"], i["file_name"]) for i in doc["images"]] == [(1, "a.png"), (2, "b.png")]
    assert [(a["id"], a["image_id"]) for a in doc["annotations"]] == [
        (1, 1), (2, 1), (3, 1), (4, 2), (5, 2),
    ]  # fmt: skip
    assert doc["licenses"][0]["name"] == "CC0"
    assert coco.validate(doc, None) == ()


def test_labels_of_a_rejected_tile_are_not_lost_silently():
    with pytest.raises(ValueError, match="without an image"):
        coco.merge({}, CATEGORIES, [{**shard("a.png"), "image": None}])


def test_equal_documents_give_equal_bytes(tmp_path):
    doc = coco.merge({"b": 1, "a": 2}, CATEGORIES, [shard("a.png")])
    reordered = {key: doc[key] for key in reversed(doc)}
    reordered["info"] = {"a": 2, "b": 1}
    coco.write_json(tmp_path / "one.json", doc)
    coco.write_json(tmp_path / "two.json", reordered)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    coco.write_json(tmp_path / "again.json", coco.read(tmp_path / "one.json"))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_nan_becomes_null_and_numpy_becomes_plain(tmp_path):
    doc = {
        "nan": float("nan"),
        "inf": np.float32(np.inf),
        "list": [{"deep": [np.float64("nan"), 1.5]}],
        "f4": np.float32(20.1),
        "i8": np.int64(2**62),
        "array": np.array([1.0, np.nan]),
        "bool": np.bool_(True),
    }
    coco.write_json(tmp_path / "x.json", doc)
    text = (tmp_path / "x.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {
        "nan": None, "inf": None, "list": [{"deep": [None, 1.5]}], "f4": 20.1,
        "i8": 2**62, "array": [1.0, None], "bool": True,
    }  # fmt: skip


def test_what_json_cannot_hold_is_a_programming_error(tmp_path):
    with pytest.raises(TypeError, match="set cannot be written"):
        coco.write_json(tmp_path / "x.json", {"a": {1, 2}})
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"x\.json"):
        coco.write_json(tmp_path / "file" / "x.json", {"images": []})


def test_every_truncation_is_one_clear_error(written):
    whole = written.read_text().rstrip()
    for length in {0, 1, 20, len(whole) // 2, len(whole) - 1}:
        written.write_text(whole[:length])
        with pytest.raises(InputError, match=r"coco\.json: is (empty|cut off)") as caught:
            coco.read(written)
        assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{'images': []}", "not valid JSON"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not text"),
        (b"[]", "a list of 0 entries"),
        (b'[{"file_name": "a", "annotations": []}]', "list of 1 Detectron2 records"),
        (b'[{"image_id": 1, "category_id": 1, "score": 0.5}]', "COCO results"),
        (b'[{"a": 1}]', "objects with the keys a"),
        (b"3", "holds a int"),
        (b'{"images": [], "categories": {}}', "no list of annotations, categories"),
    ],
)
def test_what_is_not_coco_is_told_what_it_is(tmp_path, content, why):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=why) as caught:
        coco.read(path)
    assert caught.value.file == str(path)
    assert caught.value.remedy


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        coco.read(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a folder"):
        coco.read(tmp_path)


# pycocotools' own decoder has not caught up with numpy 2's __array__ protocol.
pycocotools_decodes = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")


@pycocotools_decodes
def test_pycocotools_reads_the_masks(written):
    from pycocotools.coco import COCO

    loaded = COCO(str(written))
    assert [c["name"] for c in loaded.loadCats(loaded.getCatIds())] == ["galaxy", "star"]
    items = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
    for number, item in enumerate(items):
        np.testing.assert_array_equal(loaded.annToMask(item), truth(number))


def test_faster_coco_eval_scores_the_document_perfect_against_itself(written):
    fast = pytest.importorskip("faster_coco_eval")
    loaded = fast.COCO(str(written))
    results = [
        {key: item[key] for key in ("image_id", "category_id", "segmentation", "bbox")}
        | {"score": 0.9}
        for item in loaded.loadAnns(loaded.getAnnIds())
    ]
    evaluation = fast.COCOeval_faster(loaded, loaded.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_supervision_reads_the_masks(written):
    with warnings.catch_warnings():
        # It warns when OpenCV is absent, and of its own coming changes.
        warnings.simplefilter("ignore")
        supervision = pytest.importorskip("supervision")
        loaded = supervision.DetectionDataset.from_coco(
            images_directory_path=str(written.parent), annotations_path=str(written)
        )
        _, _, detections = loaded[0]
    assert loaded.classes == ["galaxy", "star"]
    assert len(loaded) == 2
    for number in range(3):
        np.testing.assert_array_equal(np.asarray(detections.mask[number]), truth(number))


@pycocotools_decodes
def test_torchvision_reads_the_annotations(written):
    datasets = pytest.importorskip("torchvision.datasets")
    loaded = datasets.CocoDetection(str(written.parent), str(written))
    assert len(loaded) == 2
    picture, items = loaded[0]
    assert picture.size == SHAPE[::-1]
    assert [item["id"] for item in items] == [1, 2, 3]
    np.testing.assert_array_equal(loaded.coco.annToMask(items[1]), truth(1))
