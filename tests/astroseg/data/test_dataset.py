"""COCO files of every kind become the same truth; faults are named."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.stream import open_document
from astroseg.data.augment import View, decode, view_objects
from astroseg.data.coco import read_coco
from astroseg.data.dataset import check_same_classes, read_dataset

SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]
MASK = np.ones((3, 4), np.bool_)
RLE = encode_at(MASK, (1, 2), (8, 9))


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.png", "height": 8, "width": 9}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [SQUARE], "bbox": [0] * 4}
        ],
        "categories": [{"id": 3, "name": "star"}, {"id": 1, "name": "galaxy"}],
    }
    return base | changes


def write(folder: Path, value: Any, name: str = "set.json") -> Path:
    (folder / name).write_text(json.dumps(value))
    return folder / name


def annotated(**changes: Any) -> dict[str, Any]:
    return document(annotations=[document()["annotations"][0] | changes])


@pytest.mark.parametrize(
    "segmentation",
    [[SQUARE], RLE, {"size": [8, 9], "counts": [17, 3, 5, 3, 5, 3, 5, 3, 28]}],
    ids=["polygon", "compressed", "plain"],
)
def test_polygons_and_rle_give_the_same_mask(tmp_path: Path, segmentation: Any) -> None:
    data = read_dataset(write(tmp_path, annotated(segmentation=segmentation)))
    bitmap, corner = decode_tight(data.truth[0].masks[0])
    assert corner == (1, 2)
    assert (bitmap == MASK).all()
    assert data.classes == ("galaxy", "star")
    assert data.category_ids == (1, 3)
    assert data.truth[0].labels.tolist() == [1]


def test_ignore_regions_are_no_positives(tmp_path: Path) -> None:
    data = read_dataset(write(tmp_path, annotated(iscrowd=1, segmentation=RLE)))
    assert data.objects == 0
    assert len(data.truth[0].ignored) == 1


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 1, 2, 2]], "polygon of fewer than three points"),
        ([[]], "polygon of fewer than three points"),
        ([[2, 1, 6, 1, 6, 4, 2]], "polygon with an odd number of coordinates"),
        ({"size": [8, 9], "counts": [72]}, "mask without a pixel"),
        ([[20, 20, 25, 20, 25, 25]], "mask without a pixel"),
    ],
)
def test_what_holds_no_pixel_is_left_out_under_its_reason(
    tmp_path: Path, segmentation: Any, reason: str
) -> None:
    path = write(tmp_path, annotated(segmentation=segmentation))
    data = read_dataset(path)
    assert data.objects == 0
    assert data.repairs.left_out == {reason: 1}
    with pytest.raises(InputError, match=rf"labels no objects .*{reason}"):
        data.require_objects()
    with pytest.raises(InputError, match=rf"needs repairs .*{reason}"):
        read_dataset(path, strict=True)


@pytest.mark.parametrize(
    "segmentation",
    [
        SQUARE,
        [[[2, 1], [6, 1], [6, 4], [2, 4]]],
        [[2, 1], [6, 1], [6, 4], [2, 4]],
        [[{"x": 2, "y": 1}, {"x": 6, "y": 1}, {"x": 6, "y": 4}, {"x": 2, "y": 4}]],
        [{"x": "2", "y": "1"}, {"x": 6, "y": 1}, {"x": 6, "y": 4}, {"x": 2, "y": 4}],
        {"all_points_x": [2, 6, 6, 2], "all_points_y": [1, 1, 4, 4]},
        [SQUARE, [1, 1, 3]],
        [SQUARE, [1, 1, 3, 3]],
        [[[2, 1]], [[6, 1]], [[6, 4]], [[2, 4]]],
        [[[[2, 1]], [[6, 1]], [[6, 4]], [[2, 4]]]],
        [[str(v) for v in SQUARE], None, [1, 1]],
        json.dumps([SQUARE]),
        json.dumps(RLE),
        [RLE],
        [RLE, encode_at(MASK[:, :2], (1, 2), (8, 9))],
        {"size": [8, 9], "counts": str(RLE["counts"].encode())},
    ],
    ids=[
        "flat", "pairs", "bare pairs", "objects", "text", "via", "odd part", "short part",
        "bare opencv", "opencv", "no part", "json", "json rle", "list of rle", "rles", "bytes",
    ],
)  # fmt: skip
def test_other_tools_polygons_are_read_and_counted(tmp_path: Path, segmentation: Any) -> None:
    data = read_dataset(write(tmp_path, annotated(segmentation=segmentation)))
    bitmap, corner = decode_tight(data.truth[0].masks[0])
    assert (corner, bitmap.shape, bool(bitmap.all())) == ((1, 2), (3, 4), True)
    assert 1 <= sum(data.repairs.mended.values()) <= 2


@pytest.mark.parametrize(
    "value", [float("nan"), None, float("inf"), 1e9, -1e300, "x", 200.0], ids=str
)
def test_coordinates_that_would_crash_are_refused_by_id(tmp_path: Path, value: Any) -> None:
    spoilt = [*SQUARE[:3], value, *SQUARE[4:]]
    path = write(tmp_path, annotated(segmentation=[spoilt], id=77))
    with pytest.raises(InputError, match="annotation 77 cannot be used: a polygon"):
        read_dataset(path)


@pytest.mark.parametrize(
    "segmentation",
    [
        "[[2, 1", "[" * 100_000, [RLE, {"size": [8, 9], "counts": "~~~"}], [{}, {}],
        [[[2, 1, 2], [6, 1, 2], [6, 4, 2], [2, 4, 2]]],  # with visibility, as keypoints have it
        {"size": [8, 9], "counts": [17, 3.5, 51.5]},
    ],
)  # fmt: skip
def test_segmentations_of_no_meaning_are_refused_by_id(tmp_path: Path, segmentation: Any) -> None:
    with pytest.raises(InputError, match="annotation 77 cannot be used"):
        read_dataset(write(tmp_path, annotated(segmentation=segmentation, id=77)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"images": [document()["images"][0] | {"height": 10**9}]}, "more than COCO's masks"),
        ({"images": [document()["images"][0] | {"astro": {"zeropoint": [10**400]}}]}, "too large"),
        (annotated(segmentation={"size": ["\ud800", 9], "counts": "x"}), r"of \\ud800x9 pixels"),
        (annotated(segmentation={"size": [float("inf")] * 2, "counts": "x"}), "infxinf"),
        (annotated(segmentation={"all_points_x": 1, "all_points_y": 2}), "neither polygons"),
        (annotated(segmentation={"size": ["9" * 5000, 9], "counts": "x"}), r"999\.\.\."),
    ],
    ids=["pixels", "number", "half", "infinite", "points", "long"],
)
def test_hostile_values_are_one_short_line(
    tmp_path: Path, value: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_dataset(write(tmp_path, document(**value)))
    assert len(str(caught.value).encode()) < 1500


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_windows_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "set.json").write_text(json.dumps(document()), encoding=encoding)
    assert read_dataset(tmp_path / "set.json").objects == 1


def test_the_background_of_labelme_is_no_class(tmp_path: Path) -> None:
    value = document(
        categories=[
            {"id": 0, "name": "_background_"}, {"id": 3, "name": " star "},
            {"id": 1, "name": "galaxy", "supercategory": None},
        ]
    )  # fmt: skip
    data = read_dataset(write(tmp_path, value))
    assert (data.classes, data.category_ids) == (("galaxy", "star"), (1, 3))
    value["annotations"][0]["category_id"] = 0
    assert read_dataset(write(tmp_path, value)).classes[0] == "_background_"


def test_ids_as_text_a_mark_and_a_root_category_are_read(tmp_path: Path) -> None:
    value = annotated(image_id="7.0", category_id="3")
    value["images"][0]["id"] = "7"
    root = {"id": 0, "name": "sky", "supercategory": "none"}
    value["categories"] = [root] + [
        {**one, "id": str(one["id"]), "supercategory": "sky"} for one in value["categories"]
    ]
    (tmp_path / "set.json").write_text("\ufeff" + json.dumps(value), encoding="utf-8")
    data = read_dataset(tmp_path / "set.json")
    assert (data.classes, data.category_ids) == (("galaxy", "star"), (1, 3))
    assert data.truth[0].labels.tolist() == [1]
    assert data.images[0].id == 7


def test_image_ids_that_are_no_numbers_are_numbered(tmp_path: Path) -> None:
    value = annotated(image_id="tile-a")
    value["images"][0]["id"] = "tile-a"
    data = read_dataset(write(tmp_path, value))
    assert data.images[0].id == 1
    assert data.objects == 1


def test_stray_rows_are_left_out(tmp_path: Path) -> None:
    good = document()["annotations"][0]
    rows = [good, good | {"image_id": [1]}, good | {"image_id": 8}, good | {"category_id": 9}, None]
    data = read_dataset(write(tmp_path, document(annotations=rows)))
    assert data.objects == 1
    assert data.repairs.left_out == {
        "of an image that is not listed": 2,
        "of a category that is not listed": 1,
        "an entry that is no object": 1,
    }


def test_boxes_without_a_mask_become_ignore_regions(tmp_path: Path) -> None:
    good = document()["annotations"][0]
    box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 3, 2]}
    data = read_dataset(write(tmp_path, document(annotations=[good, box])))
    assert (data.objects, data.ignored) == (1, 1)
    bitmap, corner = decode_tight(data.truth[0].ignored[0])
    assert (bitmap.shape, corner) == ((2, 3), (0, 0))
    assert "1 boxes without a mask" in "\n".join(data.notes())


def test_an_annotation_that_was_begun_and_left_empty_is_left_out(tmp_path: Path) -> None:
    good = document()["annotations"][0]
    empty = {"image_id": 7, "category_id": 1, "segmentation": [], "area": 0, "bbox": [0, 0, 0, 0]}
    data = read_dataset(write(tmp_path, document(annotations=[good, empty])))
    assert (data.objects, data.ignored) == (1, 0)
    assert data.left_out == {"neither a mask nor a box": 1}


def test_crowds_can_be_taken_as_objects(tmp_path: Path) -> None:
    path = write(tmp_path, annotated(iscrowd="1", segmentation=RLE))
    assert "1 of 1 labels have iscrowd 1" in read_dataset(path).notes()[0]
    assert read_dataset(path, ignored_as_objects=True).objects == 1


@pytest.mark.parametrize(
    "name",
    [
        "/home/else/set/a b.png", "C:\\data\\set\\a b.png", "set/a b.png", "a b.png",
        "\\\\server\\share\\a b.png", "s3://bucket/set/a b.png", "file:///set/a%20b.png",
        "s3://bucket/a b.png?Signature=1/2", "/data/local-files/?d=set/a b.png",
        "https://host/data/upload/3/a%20b.png?x=y", "../../a b.png",
    ],
)  # fmt: skip
def test_names_of_another_machine_are_found_by_their_tail(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a b.png").write_bytes(b"")
    image = document()["images"][0] | {"file_name": name}
    data = read_dataset(write(tmp_path, document(images=[image])), images=tmp_path / "images")
    assert data.images[0].files == (tmp_path / "images/a b.png",)


def test_names_are_found_whichever_way_accents_are_written(tmp_path: Path) -> None:
    one, two = (unicodedata.normalize(form, "galax\u00eda.png") for form in ("NFC", "NFD"))
    (tmp_path / two).write_bytes(b"")
    image = document()["images"][0] | {"file_name": one}
    data = read_dataset(write(tmp_path, document(images=[image])))
    assert data.images[0].files == (tmp_path / two,)


@pytest.mark.parametrize(
    "changes",
    [
        {"segmentation": [[v / 9 for v in SQUARE]]},
        {"segmentation": [], "bbox": [0.2, 0.1, 0.4, 0.3]},
    ],
    ids=["polygon", "box"],
)
def test_fractions_of_the_image_are_left_out_and_named(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    good = document()["annotations"][0]
    corner = {"id": 2, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}  # the first pixel
    rows = [good, good | corner, good | {"id": 3} | changes]
    data = read_dataset(write(tmp_path, document(annotations=rows)))
    assert data.objects == 2
    ((reason, count),) = data.left_out.items()
    assert (count, "fractions of the image's sides" in reason) == (1, True)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"x": ' + "9" * 5000 + "}", '{"images": [{"id": {}}], "annotations": [], '
     '"categories": []}'],
    ids=["nested", "digits", "id"],
)  # fmt: skip
def test_hostile_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(InputError, match=r"set\.json: "):
        read_dataset(tmp_path / "set.json")


@pytest.mark.parametrize("name", ["a\0.png", "x" * 5000, "\ud800.png"], ids=["nul", "long", "lone"])
def test_names_that_no_file_has_are_kept_readable(tmp_path: Path, name: str) -> None:
    image = document()["images"][0] | {"file_name": name}
    data = read_dataset(write(tmp_path, document(images=[image])))
    assert data.images[0].name.isprintable()


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    rows = [
        document()["annotations"][0] | {"id": i, "note": 'a},{"b]', "at": [{"x": 1}, {"y": i}]}
        for i in range(400)
    ]
    path = write(tmp_path, document(annotations=rows))
    read = open_document(path, piece=2000, whole=0)
    assert len(read.pieces) > 10
    assert [row for part in read.rows() for row in part] == rows
    assert read.value == document(annotations=[])
    # A file with a second list of that name, or with NaN in it, is read whole.
    for text in (json.dumps({"info": {"annotations": [1]}, "annotations": rows[:3]}),
                 json.dumps({"annotations": [{"x": float("nan")}] * 500})):  # fmt: skip
        path.write_text(text)
        again = open_document(path, piece=2000, whole=0)
        assert str(again.value | {"annotations": [r for p in again.rows() for r in p]}) == str(
            json.loads(text)
        )


def test_deepdisc_contours_run_through_pixel_centres(tmp_path: Path) -> None:
    mask = np.zeros((8, 9), np.bool_)
    mask[1:6, 2:8] = True
    mask[3, 4:6] = False
    outer = [2, 1, 2, 5, 7, 5, 7, 1]
    hole = [3, 3, 4, 2, 5, 2, 6, 3, 5, 4, 4, 4]  # the hole's neighbours, the other way round
    one = record(file_name="g.npy", filename="fluxes.npy")
    one["annotations"][0]["segmentation"] = [outer, hole]
    data = read_dataset(write(tmp_path, [one]), strict=True)
    assert ["1 polygons of whole numbers are read as contours" in n for n in data.notes()] == [True]
    bitmap, corner = decode_tight(data.truth[0].masks[0])
    assert corner == (1, 2)
    assert (bitmap == mask[1:6, 2:8]).all()
    assert data.images[0].files == (tmp_path / "fluxes.npy",)  # an array before a picture
    one["astrolabel"] = {"polygons": "edges"}
    one["annotations"][0]["segmentation"] = [SQUARE]
    edges = read_dataset(write(tmp_path, [one]), strict=True)
    assert decode_tight(edges.truth[0].masks[0])[0].shape == (3, 4)
    assert edges.notes() == []


def test_survey_entry_gives_cube_bands_noise_and_coordinates(tmp_path: Path) -> None:
    astro = {
        "cube": "cubes/a.fits",
        "bands": ["g", "r"],
        "sky_sigma": [0.1, None],
        "zeropoint": [27.0, 27.0],
        "wcs": {"CTYPE1": "RA---TAN"},
    }
    image = document()["images"][0] | {"astro": astro}
    record = read_dataset(write(tmp_path, document(images=[image]))).images[0]
    assert record.files == (tmp_path / "cubes/a.fits",)
    assert record.bands == ("g", "r")
    assert record.sky_sigma[0] == 0.1
    assert np.isnan(record.sky_sigma[1])
    assert record.zeropoint == (27.0, 27.0)
    assert record.wcs == {"CTYPE1": "RA---TAN"}


def test_images_may_lie_in_another_folder(tmp_path: Path) -> None:
    data = read_dataset(write(tmp_path, document()), images="/data")
    assert data.images[0].files == (Path("/data/a.png"),)


def test_a_folder_that_is_given_wins_over_whole_paths(tmp_path: Path) -> None:
    # The labels' own images are still where they were made.
    for folder in ("made/set", "copied/set"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.png").write_bytes(b"")
    image = document()["images"][0] | {"file_name": str(tmp_path / "made/set/a.png")}
    path = write(tmp_path, document(images=[image]))
    own = read_dataset(path).images[0].files
    given = read_dataset(path, images=tmp_path / "copied").images[0].files
    assert (own, given) == ((tmp_path / "made/set/a.png",), (tmp_path / "copied/set/a.png",))
    lacking = read_dataset(path, images=tmp_path / "nowhere").images[0].files
    assert lacking == (tmp_path / "nowhere/a.png",)


def test_names_of_unlike_folders_are_never_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    images = [document()["images"][0] | {"id": 7 + n, "file_name": f"{n}/a.png"} for n in (0, 1)]
    path = write(tmp_path, document(images=images))
    with pytest.raises(InputError, match=r"images 0/a\.png and 1/a\.png, and both would be read"):
        read_dataset(path)
    for n in (0, 1):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "a.png").write_bytes(b"")
    assert [i.files[0].parent.name for i in read_dataset(path).images] == ["0", "1"]


def record(**changes: Any) -> dict[str, Any]:
    return {
        "file_name": "a.npy",
        "image_id": 1,
        "height": 8,
        "width": 9,
        "annotations": [
            {"bbox": [2, 1, 4, 3], "bbox_mode": 1, "segmentation": [SQUARE], "category_id": 1}
        ],
    } | changes


@pytest.mark.parametrize(
    "mode", [0, 0.0, "0", "BoxMode.XYXY_ABS", "<BoxMode.XYXY_ABS: 0>", "BoxMode.XYXY_ABS: 0"]
)
def test_modes_of_boxes_in_every_spelling(tmp_path: Path, mode: Any) -> None:
    corners = {"bbox": [2, 1, 6, 4], "bbox_mode": mode, "segmentation": None, "category_id": 0}
    masked = record()["annotations"][0]
    path = write(tmp_path, [record(annotations=[masked, corners])])
    data = read_dataset(path, classes=("star", "galaxy"))
    bitmap, corner = decode_tight(data.truth[0].ignored[0])
    assert (bitmap.shape, corner) == ((3, 4), (1, 2))


def test_list_of_detectron2_records_is_converted(tmp_path: Path) -> None:
    # Every record of a published list may carry the same image_id.
    records = [record(), record(file_name=["g.fits", "r.fits"], annotations=[])]
    data = read_dataset(write(tmp_path, records), classes=("star", "galaxy"))
    assert [image.id for image in data.images] == [1, 2]
    assert data.images[1].files == (tmp_path / "g.fits", tmp_path / "r.fits")
    assert data.classes == ("star", "galaxy")
    assert data.truth[0].labels.tolist() == [1]


@pytest.mark.parametrize("mode", [2, 4, "BoxMode.XYXY_REL", "<BoxMode.XYWHA_ABS: 4>"])
def test_modes_that_are_no_boxes_in_pixels_are_refused(tmp_path: Path, mode: Any) -> None:
    turned = record()["annotations"][0] | {"bbox_mode": mode}
    with pytest.raises(InputError, match="is neither XYXY_ABS"):
        read_dataset(write(tmp_path, [record(annotations=[turned])]))


def test_records_need_no_boxes_and_the_first_no_annotations(tmp_path: Path) -> None:
    empty = record()
    del empty["annotations"]
    masked = record()["annotations"][0]
    del masked["bbox"]
    data = read_dataset(write(tmp_path, [empty, record(annotations=[masked])]))
    assert [len(truth) for truth in data.truth] == [0, 1]
    bitmap, corner = decode_tight(data.truth[1].masks[0])
    assert (bitmap.shape, corner) == ((4, 5), (1, 2))  # of a contour


def test_records_may_name_one_file_per_band(tmp_path: Path) -> None:
    one = record() | {"filename_G": "g.fits", "filename_R": "r.fits"}
    del one["file_name"]
    image = read_dataset(write(tmp_path, [one])).images[0]
    assert image.files == (tmp_path / "g.fits", tmp_path / "r.fits")
    assert image.bands == ("G", "R")


def test_records_without_class_names_get_numbered_ones(tmp_path: Path) -> None:
    assert read_dataset(write(tmp_path, [record()])).classes == ("class_0", "class_1")


def test_record_with_more_classes_than_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"category_id 1 \(from 0\), but 1 classes .*--classes"):
        read_dataset(write(tmp_path, [record()]), classes=("star",))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (document(images=[]), "lists no images"),
        ([{"image_id": 1, "score": 0.5}], "list of predictions"),
        ({"images": []}, "has the keys images"),
        (
            annotated(segmentation=None, bbox=[1, 1, 4, 3]),
            "no segmentation in any of its 1 annotations",
        ),
        (annotated(image_id=8), "annotation 1 has image_id 8.* no annotation remains"),
        (annotated(category_id=8), "annotation 1 has category_id 8"),
        (annotated(segmentation={"size": [9, 8], "counts": [72]}), "of 9x8 pixels, not 8x9"),
        (annotated(segmentation={"size": [8, 9], "counts": [70]}), "cover 70 pixels"),
        (document(categories=[{"id": 1}]), "category without id or name"),
        (document(categories=[], annotations=[]), "name at least one class"),
        (document(images=document()["images"] * 2), "image ids twice: 7"),
        ([{"annotations": [], "file_name": "a"}], "record 1 .* 'height'"),
    ],
)
def test_fault_is_named_with_its_file(tmp_path: Path, value: Any, problem: str) -> None:
    with pytest.raises(InputError, match=rf"set\.json: .*{problem}"):
        read_dataset(write(tmp_path, value))


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"set\.json: is not JSON"):
        read_dataset(tmp_path / "set.json")
    with pytest.raises(InputError, match="no such file"):
        read_dataset(tmp_path / "none.json")


def test_files_of_different_classes_do_not_go_together(tmp_path: Path) -> None:
    first = read_dataset(write(tmp_path, document(), "a.json"))
    other = document(categories=[{"id": 1, "name": "star"}, {"id": 3, "name": "galaxy"}])
    second = read_dataset(write(tmp_path, other, "b.json"))
    with pytest.raises(InputError, match=r"b\.json: has the classes star, galaxy, but .*a\.json"):
        check_same_classes(first, second)


@pytest.mark.parametrize("measured", [False, True])
def test_labels_that_a_person_has_looked_at_weigh_more(tmp_path: Path, measured: bool) -> None:
    one = document()["annotations"][0] | {"segmentation": RLE}
    rows = [
        one | {"id": 1, "attributes": {"reviewed": "accept"}},
        one | {"id": 2, "attributes": {"reviewed": None, "snr": 5.0}},
        one | {"id": 3, "attributes": None},
        one | {"id": 4, "attributes": {"reviewed": "split"}, "iscrowd": 1},
    ]
    path = write(tmp_path, document(annotations=rows))
    data = read_dataset(path, measured=measured, reviewed_weight=4)
    weights = data.truth[0].weights
    assert weights is not None
    assert weights.tolist() == [4, 1, 1]
    assert data.truth.reviewed == 1
    assert data.without_small(1).truth[0].weights.tolist() == [4, 1, 1]
    assert read_dataset(path, measured=measured).truth[0].weights is None
    objects = decode(data.truth[0])
    seen = view_objects(objects, View(0, 0, 8, 9, mirror=True, turns=1))
    assert seen.weights is not None
    assert seen.weights.tolist() == [4, 1, 1]


@pytest.mark.parametrize("categories", [True, 3, "galaxy", {"id": 1}])
def test_categories_that_are_no_list_are_one_line(tmp_path: Path, categories: Any) -> None:
    path = write(tmp_path, document(categories=categories))
    for labelled in (True, False):
        with pytest.raises(InputError, match="categor"):
            read_coco(path, labelled=labelled)
