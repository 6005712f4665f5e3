"""The review page in a real browser: look, filter, correct, save, read back."""

from __future__ import annotations

import json
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image
from review_scene import SHAPE as SHAPE_OF_SCENE
from review_scene import B, scene

from astrolabel.core.box import Box
from astrolabel.io import coco
from astrolabel.review.corrections import apply, read_corrections
from astrolabel.review.page import write_review
from astrolabel.review.server import Server
from astrolabel.review.session import Session

SHAPE = (120, 160)


def document(n_side=4):
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0,
           "CRPIX1": 80.5, "CRPIX2": 60.5, "CDELT1": -5e-5, "CDELT2": 5e-5,
           "CUNIT1": "deg", "CUNIT2": "deg"}  # fmt: skip
    items = [
        coco.annotation(
            mask=np.ones((8, 6), bool),
            box=Box(10 + 28 * row, 8 + 38 * column, 8, 6),
            image_shape=SHAPE,
            category_id=1 + column % 2,
            attributes={"mag_i": 20.0 + row, "flags": ["edge"] if row == 0 else [], "snr": 9.0},
        )
        for row in range(n_side)
        for column in range(n_side)
    ]
    image = {
        "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1],
        "astro": {"wcs": wcs, "origin": [0, 0], "bands": ["i"]},
    }  # fmt: skip
    names = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "<b>star"}]
    return coco.merge({}, names, [{"image": image, "annotations": items}])


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="drives a browser")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync.sync_playwright() as made:
        opened = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def review(browser, tmp_path):
    """(page in the browser, folder); errors and requests beyond the page fail the test."""
    coco.write_json(tmp_path / "coco.json", document())
    Image.fromarray(np.full((*SHAPE, 3), 40, np.uint8)).save(tmp_path / "a.png")
    file = write_review(tmp_path / "coco.json", tmp_path / "review.html")
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: wrong.append(r.url) if r.url.startswith("http") else None)
    page.goto(file.as_uri())
    page.wait_for_function("window.review")
    yield page, tmp_path
    assert wrong == []
    page.close()


def state(page):
    return page.evaluate("window.review.state()")


def test_every_outline_is_drawn_and_filters_take_some_away(review):
    page, _ = review
    page.wait_for_function("window.review.state().drawn === 16")
    page.locator("#flags input").first.check()
    page.wait_for_function("window.review.state().drawn === 4")
    page.locator("#flags input").first.uncheck()
    page.locator("#classes input").first.uncheck()
    page.wait_for_function("window.review.state().drawn === 8")
    assert "8 of 16 labels" in page.inner_text("#count")
    assert "<b>star (8)" in page.inner_text("#classes")  # names are text


def test_a_click_chooses_the_label_under_it_and_tells_where_it_is(review):
    page, _ = review
    view = state(page)["view"]
    # The first label, row 10-17 and column 8-13 of the image, is at the bottom of the sky.
    x, y = 8 + 3, SHAPE[0] - (10 + 4)
    box = page.locator("#sky").bounding_box()
    at = (box["x"] + (x - view["x"]) * view["zoom"], box["y"] + (y - view["y"]) * view["zoom"])
    page.mouse.move(*at)
    page.mouse.click(*at)
    assert state(page)["chosen"] == 1
    words = page.inner_text("#place").split()
    assert float(words[1]) == pytest.approx(10.5, abs=0.3)
    assert float(words[3]) == pytest.approx(13.5, abs=0.3)
    ra, dec = float(words[4]), float(words[5])
    assert ra == pytest.approx(150 + (79.5 - 10.5) * 5e-5, abs=2e-5)
    assert dec == pytest.approx(2 + (13.5 - 59.5) * 5e-5, abs=2e-5)


def test_keys_correct_and_undo_and_the_file_is_applied(review):
    page, folder = review
    page.select_option("#order", "id")
    page.fill("#who", "Ada")
    page.locator("#sky").focus()
    page.keyboard.press("n")
    assert state(page)["chosen"] == 1
    page.keyboard.press("x")  # rejects 1, goes to 2
    assert state(page)["chosen"] == 2
    page.keyboard.press("1")  # 2 is a galaxy now
    page.keyboard.press("n")
    page.keyboard.press("x")
    page.keyboard.press("z")  # not 3 after all
    with page.expect_download() as saved:
        page.keyboard.press("s")
    saved.value.save_as(folder / "corrections.json")
    found = read_corrections(folder / "corrections.json")
    assert [(c["action"], c["id"], c["who"]) for c in found] == [
        ("reject", 1, "Ada"), ("class", 2, "Ada"),
    ]  # fmt: skip
    applied = apply(coco.read(folder / "coco.json"), found)
    assert applied.lost == ()
    kept = {a["id"]: a["category_id"] for a in applied.document["annotations"]}
    assert len(kept) == 15
    assert kept[2] == 1


def test_shift_and_click_merge(review):
    page, folder = review
    page.evaluate("window.review.choose(1)")
    view, box = state(page)["view"], page.locator("#sky").bounding_box()
    x, y = 8 + 38 + 3, SHAPE[0] - 14
    page.keyboard.down("Shift")
    page.mouse.click(
        box["x"] + (x - view["x"]) * view["zoom"], box["y"] + (y - view["y"]) * view["zoom"]
    )
    page.keyboard.up("Shift")
    page.keyboard.press("m")
    (entry,) = state(page)["corrections"]
    applied = apply(coco.read(folder / "coco.json"), [entry])
    assert applied.done["merge"] == 1
    merged = next(a for a in applied.document["annotations"] if a["id"] == 1)
    assert merged["area"] == 2 * 48


def test_labels_without_a_doubt_follow_by_their_residual(browser, tmp_path):
    doc = document()
    for k, item in enumerate(doc["annotations"]):
        item["attributes"]["chi2"] = float(k % 5)
    coco.write_json(tmp_path / "coco.json", doc)
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    page = browser.new_page()
    page.goto(write_review(tmp_path / "coco.json", tmp_path / "r.html").as_uri())
    page.wait_for_function("window.review")
    assert page.evaluate("document.querySelector('#order').value") == "doubt"
    shown = page.locator("#queue button span").all_inner_texts()
    assert shown[:3] == ["χ² 4", "χ² 4", "χ² 4"]
    page.close()


def test_keys_alone_merge(review):
    page, folder = review
    page.fill("#go", "1")
    page.keyboard.press("Enter")
    page.locator("#sky").focus()
    page.keyboard.press("c")
    assert "Held for a merge: 1" in page.inner_text("#message")
    page.fill("#go", "2")
    page.keyboard.press("Enter")
    page.locator("#sky").focus()
    page.keyboard.press("m")
    (entry,) = state(page)["corrections"]
    assert (entry["id"], [p["id"] for p in entry["with"]]) == (2, [1])
    assert apply(coco.read(folder / "coco.json"), [entry]).done["merge"] == 1
    page.keyboard.press("c")  # a new one, alone
    assert "1" not in page.inner_text("#message").replace("Held for a merge: 2", "")


def test_a_chosen_label_is_shown_by_itself_and_what_the_page_lacks_is_said(review):
    page, _ = review
    page.evaluate("window.review.choose(3)")
    assert page.locator("#stamps figcaption").all_inner_texts() == ["image"]
    shown = page.evaluate(
        """() => { const c = document.querySelector("#stamps canvas");
          return [c.width, c.height, c.getContext("2d").getImageData(3, 3, 1, 1).data[0]]; }"""
    )
    assert shown == [6 + 12, 8 + 12, 40]  # the label and six pixels around, of the grey picture
    assert "No residual was written" in page.inner_text("#fit")
    assert "--serve" in page.inner_text("#fit")


def test_wheel_and_keys_zoom_and_a_link_opens_a_label(review):
    page, folder = review
    before = state(page)["view"]["zoom"]
    box = page.locator("#sky").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"window.review.state().view.zoom > {before * 2}")
    page.keyboard.press("h")
    page.wait_for_function(f"Math.abs(window.review.state().view.zoom - {before}) < 1e-6")
    for hash_ in ("#9", "#id=9", "#image=a.png&x=11&y=70"):
        page.goto("about:blank")
        page.goto((folder / "review.html").as_uri() + hash_)
        page.wait_for_function("window.review && window.review.state().chosen === 9")


def test_a_link_opens_the_labels_of_a_flag_or_a_whole_tile(review):
    page, folder = review
    address = (folder / "review.html").as_uri()
    page.goto("about:blank")
    page.goto(address + "#flag=edge")
    page.wait_for_function("window.review && window.review.state().drawn > 0")
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('4 of 16')")
    assert state(page)["chosen"] in (1, 2, 3, 4)  # the first row has the flag
    page.goto("about:blank")
    page.goto(address + "#image=a.png")
    page.wait_for_function("window.review && window.review.state().drawn === 16")
    view, sky = state(page)["view"], page.locator("#sky").bounding_box()
    assert view["x"] + sky["width"] / view["zoom"] / 2 == pytest.approx(SHAPE[1] / 2, abs=1)
    assert view["zoom"] == pytest.approx(min(sky["width"], sky["height"]) / SHAPE[1], rel=0.01)


def test_a_phone_shows_the_sky_first_and_nothing_is_wider_than_it(review):
    page, _ = review
    page.set_viewport_size({"width": 390, "height": 800})
    sky = page.locator("#sky").bounding_box()
    assert sky["y"] == 0
    assert sky["width"] == 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    chosen, queue = (page.locator(f"#{i}").bounding_box() for i in ("chosen", "queue"))
    assert sky["height"] <= chosen["y"] < 520  # what can be done comes below the sky
    assert queue["y"] > chosen["y"]
    page.evaluate("document.querySelector('#queue').scrollIntoView()")
    assert page.locator("#sky").bounding_box()["y"] == 0  # the sky stays


def test_predictions_are_a_layer_and_order_the_queue(browser, tmp_path):
    doc = document()
    coco.write_json(tmp_path / "coco.json", doc)
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    results = [{**a, "score": 0.9} for a in doc["annotations"] if a["id"] != 6]
    (tmp_path / "p.json").write_text(json.dumps(results))
    file = write_review(
        tmp_path / "coco.json", tmp_path / "r.html", predictions=tmp_path / "p.json"
    )
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("window.review")
    for order in ("disagreement", "iou"):
        page.select_option("#order", order)
        assert page.locator("#queue button").first.get_attribute("data-id") == "6"
    assert page.evaluate("window.review.layers.predictions.n") == 15
    page.close()


@pytest.mark.parametrize("odd", [{"iscrowd": None}, {"iscrowd": 300}, {"id": 2**40}])
def test_a_page_is_made_of_labels_whose_numbers_are_odd(tmp_path, odd):
    doc = document()
    doc["annotations"][0].update(odd)
    coco.write_json(tmp_path / "coco.json", doc)
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    for other in (None, tmp_path / "coco.json"):
        assert write_review(tmp_path / "coco.json", tmp_path / "r.html", truth=other).exists()


def test_a_missed_source_is_in_the_queue_and_becomes_a_label(browser, tmp_path):
    doc = document()
    truth = {**doc, "annotations": doc["annotations"]}
    coco.write_json(tmp_path / "truth.json", truth)
    coco.write_json(tmp_path / "coco.json", {**doc, "annotations": doc["annotations"][1:]})
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    file = write_review(tmp_path / "coco.json", tmp_path / "r.html", truth=tmp_path / "truth.json")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("window.review")
    first = page.locator("#queue button").first
    assert (first.get_attribute("data-kind"), first.get_attribute("data-id")) == ("truth", "1")
    first.click()
    page.locator("#sky").focus()
    page.keyboard.press("a")
    (entry,) = state(page)["corrections"]
    assert entry["action"] == "add"
    assert "15 of 15" not in page.inner_text("#count")
    applied = apply(coco.read(tmp_path / "coco.json"), [entry])
    made = applied.document["annotations"][-1]
    assert made["segmentation"] == doc["annotations"][0]["segmentation"]
    assert made["attributes"]["reviewed"] == "add"
    page.close()


def test_a_value_is_a_filter(review):
    page, _ = review
    page.select_option("#column", "mag_i")
    page.fill("#high", "21.5")
    page.wait_for_function("window.review.state().drawn === 8")
    page.fill("#low", "20.5")
    page.wait_for_function("window.review.state().drawn === 4")


def test_text_stands_out_from_its_ground(review):
    """WCAG AA: 4.5 to 1 for every visible text."""
    page, _ = review
    page.evaluate("window.review.choose(1)")
    assert page.inner_text("#chosen") == "Label 1: galaxy"
    low = page.evaluate(
        """() => {
          const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
          const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(v => linear(v / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = e => {
            for (; e; e = e.parentElement) {
              const colour = getComputedStyle(e).backgroundColor;
              if (!colour.endsWith(", 0)")) return colour;
            }
            return "rgb(0,0,0)";
          };
          const text = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
          const shown = [...document.querySelectorAll("body *")].filter(e => e.offsetParent);
          return shown.filter(text).map(e => {
            const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
            return [e.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
          }).filter(([, ratio]) => ratio < 4.5);
        }"""
    )
    assert low == []


def test_unsaved_corrections_stay_with_their_labels(browser, tmp_path):
    """The browser keeps them for the next visit, and shows them on no other file of that name."""
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "a.png")
    files = []
    for name, doc in (("one", document()), ("two", document(3))):
        coco.write_json(tmp_path / "coco.json", doc)
        files.append(write_review(tmp_path / "coco.json", tmp_path / f"{name}.html"))
    context = browser.new_context()
    page = context.new_page()
    for file, drawn, kept in ((files[0], 16, 0), (files[1], 9, 0), (files[0], 15, 1)):
        page.goto(file.as_uri())
        page.wait_for_function(f"window.review && window.review.state().drawn === {drawn}")
        assert len(state(page)["corrections"]) == kept
        if file == files[0] and not kept:
            page.evaluate("window.review.choose(5)")
            page.keyboard.press("x")
            page.wait_for_function("window.review.state().corrections.length === 1")
    assert state(page)["corrections"][0]["id"] == 5
    page.keyboard.press("z")
    page.wait_for_function("window.review.state().drawn === 16")
    context.close()


def until(page, expression):
    """Wait for an expression; `wait_for_function` needs what the page's policy forbids."""
    deadline = time.monotonic() + 240  # the first fit on a machine compiles for a minute
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def test_a_split_by_keys_is_fitted_by_the_server(browser, tmp_path):
    path = scene(tmp_path / "labels")
    server = Server(Session(path, tmp_path / "made"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(server.address)
    until(page, "window.review && window.review.state().drawn === 2")
    page.fill("#go", "1")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#fit').textContent.startsWith('Fit: ')")
    assert page.locator("#stamps figure img").count() == 4
    page.locator("#sky").focus()
    page.keyboard.press("d")
    # The second star is six pixels to the right of the label's middle.
    view, box = state(page)["view"], page.locator("#sky").bounding_box()
    x, y = B[1] + 0.5, SHAPE_OF_SCENE[0] - (B[0] + 0.5)
    at = (box["x"] + (x - view["x"]) * view["zoom"], box["y"] + (y - view["y"]) * view["zoom"])
    page.mouse.click(*at)
    until(page, "window.review.state().corrections.length === 1")
    until(page, "window.review.layers.made.n === 2")
    assert state(page)["chosen"] == 1
    assert [c["action"] for c in read_corrections(path.with_name("coco.corrections.jsonl"))] == [
        "split"
    ]
    until(page, "document.querySelector('#place').textContent.includes('g ')")
    page.keyboard.press("z")
    until(page, "window.review.state().corrections.length === 0")
    assert read_corrections(path.with_name("coco.corrections.jsonl")) == []
    page.keyboard.press("x")
    until(page, "window.review.state().corrections.length === 1")
    page.reload()
    until(page, "window.review && window.review.state().drawn === 1")
    assert wrong == []
    page.close()
    server.shutdown()
    server.server_close()
