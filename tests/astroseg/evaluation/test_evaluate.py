"""`evaluate`: files in, files out, and what is said of files that are wrong."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from eval_helpers import Entry, Scene, draw_images, scene
from PIL import Image
from pycocotools import mask as rle

from astroseg.core.config import configured
from astroseg.core.errors import InputError, OutputError
from astroseg.core.rle import decode_tight
from astroseg.evaluation.evaluate import evaluate
from astroseg.evaluation.metrics.read import read

QUICK = configured("evaluate", resamples=20, tiles=1)
NO_PAGE = configured("evaluate", resamples=20, report=False)


def test_metrics_and_page_import_no_torch() -> None:
    code = (
        "import sys, astroseg.evaluation.evaluate, astroseg.evaluation.report;"
        "print(sorted(m for m in sys.modules if m.split('.')[0] == 'torch'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def strict(text: str) -> Entry:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def test_metrics_file_is_strict_json_with_null_for_what_is_undefined(tmp_path: Path) -> None:
    made = scene(images=2)
    truth, predictions = made.save(tmp_path)
    metrics = evaluate(truth, predictions, tmp_path / "out", NO_PAGE)
    saved = strict((tmp_path / "out" / "metrics.json").read_text())
    assert saved["box_ap"]["sizes"]["large"]["mean"] == [None] * 3  # no such truths
    assert saved["box_ap"]["mean"]["ap"]["value"] == metrics.box_ap.mean.ap.value
    assert saved["info"]["config"]["evaluate"]["resamples"] == 20
    assert saved["info"]["files"]["truth"]["sha256"]
    assert not (tmp_path / "out" / "report.html").exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["metrics.json"]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    paths = scene(images=2).save(tmp_path)
    for name in ("a", "b"):
        evaluate(*paths, tmp_path / name, NO_PAGE)
    first, second = ((tmp_path / name / "metrics.json").read_bytes() for name in "ab")
    assert first == second


class Links(HTMLParser):
    """Everything the page would load, and its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]


def test_the_page_is_one_file_with_all_its_pictures(tmp_path: Path) -> None:
    made = scene(images=3, truths=25)
    draw_images(made.truth, tmp_path)
    evaluate(*made.save(tmp_path), tmp_path / "out", QUICK)
    text = (tmp_path / "out" / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert len(links.sources) >= 12
    assert "url(" not in text
    for source in links.sources:
        head, data = source.split(",", 1)
        assert re.fullmatch(r"data:image/(png|jpeg);base64", head)
        with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
            assert min(opened.size) > 50
    for said in ("Can I trust this model?", "Fig. 6", "Fig. 7", "Fig. 8", "Fig. 9", "Fig. 5"):
        assert said in text


@pytest.mark.parametrize("case", ["no pictures", "no masks", "no attributes", "no detections"])
def test_the_page_is_made_also_without(tmp_path: Path, case: str) -> None:
    made = scene(images=2, truths=10)
    if case == "no detections":
        made = Scene(made.truth, [])
    for item in [*made.truth["annotations"], *made.predictions]:
        if case == "no masks":
            del item["segmentation"]
        if case == "no attributes":
            item.pop("attributes", None)
    evaluate(*made.save(tmp_path), tmp_path / "out", QUICK)
    assert "Can I trust" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("unsaved")
def test_names_from_files_are_escaped_in_the_page(tmp_path: Path) -> None:
    made = scene(images=1, truths=8)
    made.truth["categories"][0]["name"] = "<b>galaxy</b>"
    made.truth["images"][0]["file_name"] = "<script>alert(1)</script>.png"
    evaluate(*made.save(tmp_path), tmp_path / "out", QUICK)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<script>" not in text
    assert "<b>galaxy" not in text


@pytest.mark.usefixtures("unsaved")
def test_worst_cases_say_where_they_are_and_link_to_the_review_page(tmp_path: Path) -> None:
    made = scene(images=1, truths=8)
    truth = made.truth["annotations"][0]
    (tmp_path / "labels").mkdir()
    files = Scene(made.truth, []).save(tmp_path / "labels")  # all are missed
    evaluate(*files, tmp_path / "out", QUICK)
    x, y, width, height = truth["bbox"]
    said = f"x {x + (width - 1) / 2:.1f} y {y + (height - 1) / 2:.1f}"
    text = (tmp_path / "out" / "report.html").read_text()
    assert said in text
    assert "<a href" not in text
    page = tmp_path / "labels" / "review" / "index.html"
    page.parent.mkdir()
    page.touch()
    evaluate(*files, tmp_path / "out", QUICK)
    text = (tmp_path / "out" / "report.html").read_text()
    links = re.findall(r'href="([^"#]+)#image=[^"]*&amp;x=([\d.]+)&amp;y=([\d.]+)"', text)
    assert len(links) == 8
    assert said in [f"x {a} y {b}" for _, a, b in links]
    assert (tmp_path / "out" / links[0][0]).resolve() == page.resolve()


def test_outlines_lie_on_the_masks_edges(tmp_path: Path) -> None:
    from astroseg.evaluation.pictures import edges

    mask = np.zeros((20, 30), np.uint8, order="F")
    mask[5:8, 10:12] = 1
    code = rle.encode(mask)
    made = scene(images=1, shape=(20, 30), truths=1)
    made.truth["annotations"][0]["segmentation"] = {
        "size": [20, 30], "counts": code["counts"].decode()
    }  # fmt: skip
    segments = edges(read(*made.save(tmp_path)).truth, 0)
    assert len(segments) == 10  # the outline of 2 x 3 pixels
    assert segments.reshape(-1, 2).min(axis=0).tolist() == [10, 5]
    assert segments.reshape(-1, 2).max(axis=0).tolist() == [12, 8]
    assert np.abs(segments[:, 0] - segments[:, 1]).sum(axis=1).tolist() == [1.0] * 10


def test_a_document_brings_its_info_and_its_own_category_ids(tmp_path: Path) -> None:
    made = scene(seed=1, images=2)
    truth, plain = made.save(tmp_path)
    swap = {1: 20, 2: 10}
    document = {
        "info": {"engine": "torchvision", "checkpoint": "run/last.safetensors"},
        "images": made.truth["images"],
        "categories": [{"id": 20, "name": "galaxy"}, {"id": 10, "name": "star"}],
        "predictions": [{**p, "category_id": swap[p["category_id"]]} for p in made.predictions],
    }
    path = tmp_path / "document.json"
    path.write_text(json.dumps(document))
    first = evaluate(truth, plain, tmp_path / "a", NO_PAGE)
    second = evaluate(truth, path, tmp_path / "b", NO_PAGE)
    assert second.box_ap.classes == first.box_ap.classes
    assert second.info["predictions"]["engine"] == "torchvision"


def test_the_file_beside_a_bare_list_says_what_made_it(tmp_path: Path) -> None:
    made = scene(seed=1, images=3)
    truth, plain = made.save(tmp_path)
    beside = {"info": {"engine": "torchvision"}, "images": made.truth["images"][:2]}
    beside["categories"] = made.truth["categories"]
    plain.write_text(json.dumps([p for p in made.predictions if p["image_id"] < 3]))
    plain.with_suffix(".info.json").write_text(json.dumps(beside))
    data = read(truth, plain)
    assert data.prediction_info == {"engine": "torchvision"}
    assert data.without_predictions == (3,)
    beside["categories"] = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "quasar"}]
    plain.with_suffix(".info.json").write_text(json.dumps(beside))
    with pytest.raises(InputError, match="quasar"):
        read(truth, plain)


def test_a_tile_predicted_from_its_cube_is_the_tile(tmp_path: Path) -> None:
    made = scene(images=1)
    made.truth["images"][0]["astro"] = {"cube": "cubes/deep_1.fits"}
    truth, path = made.save(tmp_path)
    images = [{**made.truth["images"][0], "file_name": "elsewhere/deep_1.fits"}]
    path.write_text(json.dumps({"images": images, "annotations": made.predictions}))
    assert len(read(truth, path).detections) == len(made.predictions)


def test_images_not_in_the_document_are_counted(tmp_path: Path) -> None:
    made = scene(images=3)
    truth, _ = made.save(tmp_path)
    path = tmp_path / "document.json"
    kept = [p for p in made.predictions if p["image_id"] != 2]
    images = [i for i in made.truth["images"] if i["id"] != 2]
    path.write_text(json.dumps({"images": images, "annotations": kept}))
    counts = evaluate(truth, path, tmp_path, NO_PAGE).counts
    assert counts["images not in the predictions file"] == 1
    assert counts["images without detections"] == 1


def test_polygons_and_uncompressed_rle_are_read_as_masks(tmp_path: Path) -> None:
    made = scene(images=1, shape=(20, 20), truths=1, missed=0.0, false=0.0, duplicates=0.0)
    square = [[2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]]
    item, found = made.truth["annotations"][0], made.predictions[0]
    item |= {"segmentation": square, "bbox": [2, 3, 6, 6], "area": 36}
    mask = np.zeros((20, 20), np.uint8)
    mask[3:9, 2:8] = 1
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    counts = np.diff(np.concatenate([[0], edges, [400]])).tolist()
    found["segmentation"] = {"size": [20, 20], "counts": counts}
    data = read(*made.save(tmp_path))
    assert data.truth.masks is not None
    assert data.detections.masks is not None
    for masks in (data.truth.masks, data.detections.masks):
        bitmap, corner = decode_tight(masks[0])
        assert (bitmap.shape, bitmap.all(), corner) == ((6, 6), True, (3, 2))


def change(made: Scene, what: str) -> None:
    """Spoil a scene in one way."""
    truth, found = made.truth, made.predictions
    changes: dict[str, Callable[[], object]] = {
        "image": lambda: found[0].update(image_id=99),
        "class": lambda: found[0].update(category_id=7),
        "score": lambda: found[0].pop("score"),
        "nan": lambda: found[3].update(score=float("nan")),
        "corners": lambda: found[0].update(bbox=[50, 50, -20, 60]),
        "size": lambda: found[0]["segmentation"].update(size=[64, 64]),
        "counts": lambda: found[0]["segmentation"].update(counts="0"),
        "some masks": lambda: found[2].pop("segmentation"),
        "no images": lambda: truth["images"].clear(),
        "twice": lambda: truth["images"].append(dict(truth["images"][0])),
        "no height": lambda: truth["images"][0].pop("height"),
        "names": lambda: truth["categories"][1].update(name="galaxy"),
    }
    changes[what]()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("image", "image_id 99, which is not listed"),
        ("class", "category_id 7, which is not listed"),
        ("score", "prediction .* score is missing or not finite"),
        ("nan", "score is missing or not finite: nan"),
        ("corners", "negative width or height"),
        ("size", "of an image of 64x64 pixels, not 128x128"),
        ("counts", "prediction .* RLE counts cover"),
        ("some masks", "1 predictions without a segmentation"),
        ("no images", "lists no images"),
        ("twice", "image ids twice: 1"),
        ("no height", "proper height or width"),
        ("names", "of the same name"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(tmp_path: Path, what: str, said: str) -> None:
    made = scene(images=2)
    change(made, what)
    with pytest.raises(InputError, match=said) as caught:
        evaluate(*made.save(tmp_path), tmp_path / "out", NO_PAGE)
    assert caught.value.remedy
    assert caught.value.file
    assert not (tmp_path / "out").exists()


def test_leftovers_are_repaired_counted_and_refused_when_strict(tmp_path: Path) -> None:
    made = scene(images=2, truths=6, missed=0.0, false=0.0, duplicates=0.0)
    rows = made.truth["annotations"]
    rows[0]["category_id"] = 9
    rows[1]["attributes"]["snr"] = "high"
    rows[2]["attributes"]["mag_i"] = 99.0
    rows.append(None)
    made.predictions[0]["bbox"] = [0, 0, "wide", 4]
    paths = made.save(tmp_path)
    metrics = evaluate(*paths, tmp_path / "out", NO_PAGE)
    assert metrics.counts["truths"] == 11
    said = "\n".join(metrics.info["repairs"])
    for line in (
        "truth: left out: 1 annotations, of a category that is not listed",
        "truth: left out: 1 annotations, an entry that is no object",
        "truth: repaired: 1 values of snr that are no numbers",
        "truth: repaired: 1 sentinel magnitudes",
        "predictions: repaired: 1 boxes that are not four finite numbers",
    ):
        assert line in said
    with pytest.raises(InputError, match=r"truth\.json: needs repairs .* no object"):
        read(*paths, strict=True)


def test_records_take_the_names_of_the_classes_from_the_predictions(tmp_path: Path) -> None:
    made = scene(images=1)
    number = {1: 0, 2: 1}
    rows = [
        {**a, "bbox_mode": 1, "category_id": number[a["category_id"]]}
        for a in made.truth["annotations"]
    ]
    record = {**made.truth["images"][0], "annotations": rows}
    truth, path = made.save(tmp_path)
    truth.write_text(json.dumps([record]))
    beside = {"categories": [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]}
    path.with_suffix(".info.json").write_text(json.dumps(beside))
    assert read(truth, path).classes == ("galaxy", "star")
    assert read(truth, path, classes=("galaxy", "star")).classes == ("galaxy", "star")


def test_classes_that_differ_between_the_files_are_both_named(tmp_path: Path) -> None:
    made = scene(images=1)
    truth, path = made.save(tmp_path)
    categories = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "quasar"}]
    path.write_text(json.dumps({"categories": categories, "annotations": made.predictions}))
    with pytest.raises(InputError, match=r"\['galaxy', 'quasar'\], the truth \['galaxy', 'star'\]"):
        read(truth, path)


def test_predictions_of_another_dataset_with_the_same_ids_are_refused(tmp_path: Path) -> None:
    made = scene(images=1)
    truth, path = made.save(tmp_path)
    images = [{**made.truth["images"][0], "file_name": "other/field_7.png"}]
    path.write_text(json.dumps({"images": images, "annotations": made.predictions}))
    with pytest.raises(InputError, match=r"is other/field_7\.png here and tile_1\.png in the"):
        read(truth, path)


@pytest.mark.parametrize("content", ["3", '{"a": 1}', "[1, 2]"])
def test_a_file_that_is_no_list_of_predictions_says_so(tmp_path: Path, content: str) -> None:
    truth, path = scene(images=1).save(tmp_path)
    path.write_text(content)
    with pytest.raises(InputError, match="no list of predictions"):
        read(truth, path)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"iou_threshold": 0.3}, {"score_threshold": 2.0}, {"resamples": 0}):
        with pytest.raises(InputError, match="expected"):
            configured("evaluate", **options)


def test_an_output_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    paths = scene(images=1, truths=5).save(tmp_path)
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        evaluate(*paths, tmp_path / "taken", NO_PAGE)


def test_a_truth_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    truth, predictions = scene(images=2).save(tmp_path)
    document = json.loads(truth.read_text())
    for row in document["annotations"]:  # keypoints alone
        del row["segmentation"], row["bbox"]
    truth.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"no annotation that can be used .*neither a mask nor"):
        evaluate(truth, predictions, None, NO_PAGE)
