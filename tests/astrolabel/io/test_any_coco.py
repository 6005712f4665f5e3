"""COCO files as other programs write them, seen by every viewer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import astrolabel as al
from astrolabel.cli.main import main
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.any_coco import find_picture, viewable


def foreign(**changes):
    """Ids from 0, no iscrowd; a polygon, an uncompressed RLE, and a box alone."""
    runs = [2 * 20 + 3, 4, 20 * 30 - 2 * 20 - 7]
    return {
        "images": [{"id": 0, "file_name": "photo.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 0, "name": "galaxy"}, {"id": 5, "name": "star"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "bbox": [2, 3, 4, 5], "area": 20,
             "segmentation": [[2, 3, 6, 3, 6, 8, 2, 8]]},
            {"id": 1, "image_id": 0, "category_id": 5,
             "segmentation": {"size": [20, 30], "counts": runs}},
            {"id": 2, "image_id": 0, "category_id": 5, "bbox": [10, 10, 3, 2], "area": 6},
        ],
        **changes,
    }  # fmt: skip


def write(folder, name, doc=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(foreign() if doc is None else doc))
    return path


def picture(path, size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)


def test_ids_boxes_areas_and_masks_are_made_whole(tmp_path):
    path = write(tmp_path, "c.json")
    picture(tmp_path / "photo.jpg")
    doc = viewable(coco.read(path), path)
    assert not coco.validate(doc, tmp_path)
    assert [a["area"] for a in doc["annotations"]] == [20, 4, 6]
    assert doc["annotations"][1]["bbox"] == [2, 3, 1, 4]
    labels = al.read(path)
    assert labels.table["class"].tolist() == ["galaxy", "star", "star"]
    assert np.count_nonzero(labels.segmentation) == 20 - 4 + 4 + 6


@pytest.mark.parametrize(
    "place",
    ["photo.jpg", "val2017/photo.jpg", "images/photo.jpg", "images/val2017/photo.jpg"],
)
def test_pictures_are_found_where_data_sets_keep_them(tmp_path, place):
    picture(tmp_path / place)
    path = write(tmp_path, "annotations/instances_val2017.json")
    assert find_picture("photo.jpg", path) == tmp_path / place
    assert find_picture("photo.jpg", path, tmp_path / place.rpartition("/")[0]).is_file()


def test_every_viewer_takes_the_folder_of_the_images(tmp_path, capsys):
    path = write(tmp_path / "labels", "c.json")
    picture(tmp_path / "elsewhere" / "photo.jpg")
    images = ["--images", str(tmp_path / "elsewhere")]
    assert main(["preview", str(path), *images]) == 0
    assert list((tmp_path / "labels" / "preview").glob("*_labels.png"))
    assert main(["report", str(path), *images]) == 0
    assert "3 labels" in (tmp_path / "labels" / "report.html").read_text()
    assert main(["export", str(path), "--to", "yolo", "segmentation", *images]) == 0
    assert main(["validate", str(path), *images]) == 2  # ids of 0 are still said
    said = capsys.readouterr().out
    assert "id: expected integer >= 1" in said
    assert "missing" not in said
    assert main(["preview", str(path)]) == 2
    assert "--images DIR" in capsys.readouterr().err


def test_what_cannot_be_mended_is_said(tmp_path):
    doc = foreign()
    del doc["images"][0]["height"]
    path = write(tmp_path, "c.json", doc)
    with pytest.raises(InputError, match="give --images DIR"):
        viewable(coco.read(path), path)
    with pytest.raises(InputError, match="no such folder"):
        viewable(foreign(), path, tmp_path / "none")
    broken = foreign(annotations=[{"id": 1, "image_id": 9, "category_id": 0}])
    with pytest.raises(InputError, match="annotation 1: no area or box"):
        viewable(broken, path)
