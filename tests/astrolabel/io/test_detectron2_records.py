"""Detectron2 records, as DeepDISC keeps them, from and to our labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from fits_files import scene, tan_wcs, write_plain
from PIL import Image
from pycocotools import mask as coco_mask

from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.detectron2_records import from_records, is_records, to_records
from astrolabel.io.polygons import edge_polygons, fill_contours

CONTOURS = json.loads((Path(__file__).parents[1] / "references/opencv_contours.json").read_text())
SHAPE = (40, 50)


def blobs(seed):
    rng = np.random.default_rng(seed)
    return rng.random((12, 14)) < 0.6


def document(n=5):
    """Labels of two images of masks with holes, fragments and pixels on the border."""
    annotations = [
        {
            **coco.annotation(
                mask=blobs(k),
                box=Box(7 * k - 3, 8 * k - 4, 12, 14),
                image_shape=SHAPE,
                category_id=1 + k % 2,
                attributes={"object_id": str(2**60 + k), "mag_i": 20.5 + k},
                iscrowd=int(k == 3),
            ),
            "id": k + 1,
            "image_id": 1 + k % 2,
        }
        for k in range(n)
    ]
    annotations.sort(key=lambda a: a["image_id"])
    for k, a in enumerate(annotations, start=1):
        a["id"] = k
    images = [
        {"id": k, "file_name": f"images/{k}.png", "height": SHAPE[0], "width": SHAPE[1],
         "astro": {"bands": ["g", "r"], "cube": f"cubes/{k}.fits", "tract": "1", "residual": None}}
        for k in (1, 2)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    return {"info": {}, "licenses": [], "categories": categories, "images": images,
            "annotations": annotations}  # fmt: skip


def write_document(folder):
    doc = document()
    (folder / "images").mkdir(parents=True)
    (folder / "cubes").mkdir()
    for image in doc["images"]:
        Image.new("RGB", SHAPE[::-1]).save(folder / image["file_name"])
        cube = np.arange(2 * SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(2, *SHAPE)
        write_plain(folder / image["astro"]["cube"], cube)
    coco.write_json(folder / "coco.json", doc)
    return doc


@pytest.mark.parametrize("name", CONTOURS["masks"])
def test_contours_give_back_the_mask_they_were_traced_around(name):
    wanted = np.array([[c == "#" for c in row] for row in CONTOURS["masks"][name]["mask"]])
    moved = [
        [v + (7 if k % 2 == 0 else 3) for k, v in enumerate(ring)]
        for ring in CONTOURS["masks"][name]["contours"]
    ]
    mask, box = fill_contours(moved, (30, 30))
    whole = np.zeros((30, 30), bool)
    whole[box.slices] = mask
    np.testing.assert_array_equal(whole[3 : 3 + wanted.shape[0], 7 : 7 + wanted.shape[1]], wanted)
    assert whole.sum() == wanted.sum()


def test_contours_beyond_the_image_are_cut_off():
    mask, box = fill_contours([[-2, -3, -2, 4, 5, 4, 5, -3]], (10, 10))
    assert (box.y0, box.x0, mask.shape) == (0, 0, (5, 6))
    assert mask.all()
    assert fill_contours([[-9, -9, -9, -5, -5, -5]], (10, 10))[0].size == 0


@pytest.mark.parametrize("seed", range(8))
def test_polygons_along_the_edges_hold_the_same_pixels_for_detectron2(seed):
    mask = blobs(seed)
    polygons = edge_polygons(mask, Box(20, 30, *mask.shape))
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, *SHAPE))
    filled = coco.decode({"size": list(SHAPE), "counts": merged["counts"].decode()})
    whole = np.zeros(SHAPE, bool)
    whole[20:32, 30:44] = mask
    np.testing.assert_array_equal(filled, whole)


def test_labels_come_back_from_records_as_they_were():
    doc = document()
    records = json.loads(json.dumps(to_records(doc)))
    assert is_records(records)
    assert [r["filename"] for r in records] == ["deepdisc/1.npy", "deepdisc/2.npy"]
    assert {a["category_id"] for r in records for a in r["annotations"]} == {0, 1}
    back = from_records(records, Path("x.json"))
    assert back["annotations"] == doc["annotations"]
    assert back["categories"] == doc["categories"]
    assert back["images"] == doc["images"]


def published(**changes):
    """A record as DeepDISC writes them, around a disc at x 10 to 16, y 5 to 10."""
    ring = CONTOURS["masks"]["disc"]["contours"][0]
    item = {
        "bbox": [2, -3, 21, 21], "area": 441, "bbox_mode": 1, "category_id": 1, "imag": 24.8,
        "segmentation": [[v + (10 if k % 2 == 0 else 5) for k, v in enumerate(ring)]],
    }  # fmt: skip
    record = {"file_name": "/far/G-1-0,2-c1.fits", "filename_G": "./g.fits",
              "filename_R": "./r.fits", "image_id": 0, "height": 40, "width": 50}  # fmt: skip
    return {**record, "annotations": [{**item, **changes}]}


def test_published_boxes_areas_and_outlines_are_mended():
    record = published()
    (a,) = from_records([record], Path("x"), ["star", "galaxy"])["annotations"]
    wanted = np.array([[c == "#" for c in row] for row in CONTOURS["masks"]["disc"]["mask"]])
    assert a["area"] == wanted.sum()
    assert a["bbox"] == [10, 5, 7, 6]
    assert a["category_id"] == 2
    assert a["attributes"] == {"imag": 24.8}
    as_coco_fills = from_records([record], Path("x"), ["s", "g"], "edges")["annotations"][0]
    assert as_coco_fills["area"] < 0.8 * a["area"]


def test_records_of_one_image_id_are_images_of_their_own():
    doc = from_records([published(), published()], Path("x"), ["star", "galaxy"])
    assert [i["id"] for i in doc["images"]] == [1, 2]
    assert [a["image_id"] for a in doc["annotations"]] == [1, 2]
    assert doc["images"][0]["astro"] == {"files": ["./g.fits", "./r.fits"], "bands": ["g", "r"]}


def test_masks_outside_the_image_are_dropped_and_counted():
    gone = published(segmentation=[[60, 60, 60, 66, 66, 66]])
    doc = from_records([gone, published()], Path("x"), ["star", "galaxy"])
    assert (len(doc["annotations"]), doc["info"]["dropped"]) == (1, 1)


def test_rle_and_polygons_off_the_grid_are_read_as_coco_has_them():
    rle = coco.encode(np.ones((4, 6), bool), Box(8, 9, 4, 6), SHAPE)
    packed = {**rle, "counts": rle["counts"].encode()}
    for segmentation in (rle, packed, [[9.0001, 8, 15, 8, 15, 12, 9.0001, 12]]):
        (a,) = from_records([published(segmentation=segmentation)], Path("x"), ["star", "galaxy"])[
            "annotations"
        ]
        assert a["bbox"] == [9, 8, 6, 4]
        assert a["segmentation"] == rle


@pytest.mark.parametrize(
    ("records", "classes", "told"),
    [
        ([{"annotations": [], "height": 3, "width": 3}], (), "record 1.*file_name"),
        ([published(), {**published(), "height": "x"}], ("a", "b"), "record 2 of the list"),
        ([published()], ("star",), r"category_id 1 \(from 0\), but 1 classes"),
        ([published(category_id=-1)], (), "category_id -1"),
        ([published(segmentation={"size": [9, 9], "counts": "1"})], (), "record 1"),
        ([published(segmentation=None)], (), "record 1"),
    ],
)
def test_records_that_cannot_be_used_are_named(records, classes, told):
    with pytest.raises(InputError, match=told):
        from_records(records, Path("x.json"), classes)


def test_export_writes_arrays_and_records_that_come_back(tmp_path):
    doc = write_document(tmp_path / "labels")
    labels = tmp_path / "labels/coco.json"
    out = tmp_path / "elsewhere"
    assert main(["export", str(labels), "--to", "deepdisc", "--out", str(out)]) == 0
    records = json.loads((out / "coco-deepdisc.json").read_text())
    array = np.load(out / records[0]["filename"])
    assert (array.shape, array.dtype) == ((2, *SHAPE), np.float32)
    assert (out / records[0]["file_name"]).is_file()
    before = (out / "coco-deepdisc.json").read_bytes()
    assert main(["export", str(labels), "--to", "deepdisc", "--out", str(out)]) == 0
    assert (out / "coco-deepdisc.json").read_bytes() == before
    back, listed = tmp_path / "labels/again", str(out / "coco-deepdisc.json")
    assert main(["export", listed, "--to", "coco", "--out", str(back)]) == 0
    again = coco.read(back / "coco-deepdisc-coco.json")
    assert again["annotations"] == doc["annotations"]
    assert not coco.validate(again, back)
    assert (back / again["images"][0]["astro"]["cube"]).is_file()


def test_pictures_and_cubes_are_made_of_the_records_images(tmp_path):
    image, _ = scene(SHAPE, n=2)
    wcs = tan_wcs(SHAPE)
    (tmp_path / "data").mkdir()
    for band in "gr":
        write_plain(tmp_path / f"data/{band}.fits", image, wcs)
        write_plain(tmp_path / f"data/img_{band}.fits", image, wcs)
    np.save(tmp_path / "data/cube.npy", np.stack([image, image, image]))
    array = {**published(), "filename": "deep/cube.npy"}
    del array["filename_G"], array["filename_R"]
    stem = {**array, "file_name": "/home/x/set_0/img"}
    del stem["filename"]
    (tmp_path / "list.json").write_text(json.dumps([published(), array, stem]))
    arguments = ["export", str(tmp_path / "list.json"), "--to", "coco", "--classes", "star,galaxy"]
    arguments += ["--images", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    doc = coco.read(tmp_path / "out/list-coco.json")
    assert not coco.validate(doc, tmp_path / "out")
    assert [i["astro"]["bands"] for i in doc["images"]] == [["g", "r"], ["0", "1", "2"], ["g", "r"]]
    assert doc["images"][0]["astro"]["wcs"]["CTYPE1"] == "RA---TAN"
    assert doc["images"][1]["astro"]["wcs"] is None
    for entry in doc["images"]:
        cube = fits.getdata(tmp_path / "out" / entry["astro"]["cube"])
        np.testing.assert_array_equal(cube[0], image)


def test_images_that_are_missing_or_of_another_size_are_named(tmp_path, capsys):
    (tmp_path / "list.json").write_text(json.dumps([published()]))
    arguments = ["export", str(tmp_path / "list.json"), "--to", "coco", "--classes", "star,galaxy"]
    arguments += ["--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "image 1 of the records is not there (./g.fits)" in capsys.readouterr().err
    for band in "gr":
        write_plain(tmp_path / f"{band}.fits", np.zeros((9, 9), np.float32))
    assert main(arguments) == 2
    assert "9x9 pixels, but its record says 40x50" in capsys.readouterr().err
    assert not (tmp_path / "out/list-coco.json").exists()


def test_an_array_of_pickled_objects_is_refused(tmp_path, capsys):
    np.save(tmp_path / "cube.npy", np.array([{"a": 1}], object), allow_pickle=True)
    record = {**published(), "filename": "cube.npy"}
    del record["filename_G"], record["filename_R"]
    (tmp_path / "list.json").write_text(json.dumps([record]))
    arguments = ["export", str(tmp_path / "list.json"), "--to", "coco", "--classes", "star,galaxy"]
    assert main([*arguments, "--images", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "cube.npy: not a readable array" in capsys.readouterr().err


def test_classes_of_records_are_refused_for_other_files_and_images_are_not(tmp_path, capsys):
    write_document(tmp_path / "labels")
    labels = tmp_path / "labels/coco.json"
    assert main(["export", str(labels), "--to", "coco", "--classes", "a,b"]) == 2
    assert "--classes names the classes of Detectron2 records" in capsys.readouterr().err
    before = labels.read_bytes()
    words = ["export", str(labels), "--to", "coco", "--images", str(tmp_path / "labels")]
    assert main(words) == 0
    assert labels.read_bytes() == before


def test_a_cube_that_is_gone_stops_the_export_before_anything_is_written(tmp_path, capsys):
    write_document(tmp_path / "labels")
    (tmp_path / "labels/cubes/2.fits").unlink()
    arguments = ["export", str(tmp_path / "labels/coco.json"), "--to", "deepdisc"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "2.fits: there is no such cube" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# numpy 2 warns of how Detectron2's polygons are made an array of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_detectron2_itself_reads_the_same_masks():
    structures = pytest.importorskip("detectron2.structures", exc_type=ImportError)
    utils = pytest.importorskip("detectron2.data.detection_utils", exc_type=ImportError)
    doc = document()
    for record, image_id in zip(to_records(doc), (1, 2), strict=True):
        items = [
            {**a, "bbox_mode": structures.BoxMode(a["bbox_mode"])} for a in record["annotations"]
        ]
        found = utils.annotations_to_instances(items, SHAPE)
        masks = structures.BitMasks.from_polygon_masks(found.gt_masks, *SHAPE).tensor.numpy()
        own = [a for a in doc["annotations"] if a["image_id"] == image_id]
        np.testing.assert_array_equal(masks, [coco.decode(a["segmentation"]) for a in own])
