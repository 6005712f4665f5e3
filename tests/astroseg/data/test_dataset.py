"""COCO files of every kind become the same truth; faults are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight, encode_at
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


@pytest.mark.parametrize("segmentation", [[[1, 1, 2, 2]], {"size": [8, 9], "counts": [72]}])
def test_masks_without_a_pixel_are_left_out_and_counted(tmp_path: Path, segmentation: Any) -> None:
    data = read_dataset(write(tmp_path, annotated(segmentation=segmentation)))
    assert data.objects == 0
    assert data.left_out == {"mask without a pixel": 1}


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


def test_list_of_detectron2_records_is_converted(tmp_path: Path) -> None:
    # Every record of a published list may carry the same image_id.
    records = [record(), record(file_name=["g.fits", "r.fits"], annotations=[])]
    data = read_dataset(write(tmp_path, records), classes=("star", "galaxy"))
    assert [image.id for image in data.images] == [1, 2]
    assert data.images[1].files == (tmp_path / "g.fits", tmp_path / "r.fits")
    assert data.classes == ("star", "galaxy")
    assert data.truth[0].labels.tolist() == [1]


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
        (annotated(segmentation=None), "annotation 1 .* no segmentation"),
        (annotated(image_id=8), "annotation 1 .* image_id"),
        (annotated(category_id=8), "annotation 1 .* category_id"),
        (annotated(segmentation={"size": [9, 8], "counts": [72]}), "of 9x8 pixels, not 8x9"),
        (annotated(segmentation={"size": [8, 9], "counts": [70]}), "cover 70 pixels"),
        (document(categories=[{"id": 1}]), "category without id or name"),
        (document(categories=[]), "name at least one class"),
        (document(images=document()["images"] * 2), "two images of one id"),
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
