"""The local server: who may ask, what is logged, undone and fitted."""

from __future__ import annotations

import http.client
import json
import threading

import numpy as np
import pytest
from review_scene import SHRED, A, B, scene

from astrolabel.io import coco
from astrolabel.io.rle import decode
from astrolabel.review.corrections import apply, read_corrections
from astrolabel.review.server import Server
from astrolabel.review.session import Session


@pytest.fixture
def served(tmp_path):
    path = scene(tmp_path / "labels")
    server = Server(Session(path, tmp_path / "made"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server, path
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server, what="", body=None, **headers):
    """(status, JSON or text) of a request."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    token = headers.pop("token", server.token)
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
        body = json.dumps(body)
    connection.request("GET" if body is None else "POST", f"/{token}/{what}", body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text


PLACE = {"id": 1, "image": "a.png", "x": 34 + 12.5, "y": 42 + 6.5}
REJECT = {"action": "reject", "id": 2, "image": "a.png", "x": 12.5, "y": 12.5, "who": "Ada"}


@pytest.mark.parametrize(
    "headers",
    [
        {"token": "wrong"},
        {"token": ""},
        {"Host": "example.org"},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_others_are_refused_and_change_nothing(served, headers):
    server, path = served
    assert server.server_address[0] == "127.0.0.1"
    for what, body in (("", None), ("correct", REJECT)):
        status, answer = ask(server, what, body, **headers)
        assert status == 403
        assert set(answer) == {"error"}
    assert not path.with_name("coco.corrections.jsonl").exists()


def test_what_is_no_request_of_the_page_is_refused(served):
    server, _ = served
    assert ask(server, "correct", {"action": "burn"})[0] == 409
    assert ask(server, "other", {})[0] == 404
    for ident, status in (("", 400), ("1e3", 400), ("../1", 400), ("77", 409)):
        assert ask(server, f"source?id={ident}")[0] == status
    assert ask(server, "pictures/../../labels/coco.json")[0] == 404
    assert ask(server, "correct", REJECT, Content_Type="text/plain")[0] == 415
    assert ask(server, "correct", REJECT, Content_Length="99999999")[0] == 413


def test_page_pictures_and_pixels(served):
    server, _ = served
    status, page = ask(server)
    assert status == 200
    assert '"serve"' in page
    assert ask(server, "pictures/0.js")[1].startswith("arrived(")
    status, values = ask(server, "pixel?image=a.png&x=40.5&y=48.5")
    assert set(values) == {"g", "r"}
    assert values["g"] > 100
    assert ask(server, "pixel?image=a.png&x=nan&y=1") == (200, {})


def test_corrections_are_appended_and_undone(served):
    server, path = served
    log = path.with_name("coco.corrections.jsonl")
    before = path.read_bytes()
    assert ask(server, "correct", REJECT)[0] == 200
    assert ask(server, "correct", REJECT)[0] == 409  # it is gone
    assert len(log.read_text().splitlines()) == 1
    assert ask(server, "undo", {"who": "Ada"})[0] == 200
    assert ask(server, "undo", {"who": "Ada"})[0] == 409
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["action"], first["who"]) == ("reject", "Ada")
    assert first["saved"]
    assert second["action"] == "undo"
    assert read_corrections(log) == []
    assert ask(server, "correct", REJECT)[0] == 200
    assert path.read_bytes() == before
    # Another session begins where this one is.
    again = Session(path, path.parent / "again")
    assert [a["id"] for a in again._now["annotations"]] == [1]


def test_a_split_is_fitted_and_applied_as_it_was_shown(served):
    server, path = served
    split = {"action": "split", **PLACE, "peak": [B[1], B[0]], "who": "Ada"}
    status, answer = ask(server, "correct", split)
    assert status == 200, answer
    one, two = answer["made"]
    assert one["id"] == 1
    assert two["id"] == 3
    applied = apply(coco.read(path), read_corrections(path.with_name("coco.corrections.jsonl")))
    assert not coco.validate(applied.document)
    made = {a["id"]: a for a in applied.document["annotations"]}
    assert made[3]["area"] == two["area"]
    assert decode(made[3]["segmentation"])[B]
    assert not decode(made[3]["segmentation"])[A]
    fluxes = sorted(made[k]["attributes"]["flux_g"] for k in (1, 3))
    np.testing.assert_allclose(fluxes, [2000, 4000], rtol=0.1)
    # Without what the server fitted, apply makes the same fit from the float cube.
    alone = apply(coco.read(path), [split], path.parent)
    again = {a["id"]: a for a in alone.document["annotations"]}
    assert again[3]["segmentation"] == made[3]["segmentation"]


def test_a_merge_of_two_halves_is_one_fit(tmp_path):
    path = scene(tmp_path / "labels", SHRED)
    session = Session(path, tmp_path / "made")
    one, two = (
        {"image": "a.png", "x": b.x0 + b.width / 2, "y": b.y0 + b.height / 2} for b in SHRED[:2]
    )
    answer = session.correct({"action": "merge", **one, "id": 1, "with": [two]})
    assert answer["note"] == ""
    assert [label["id"] for label in answer["made"]] == [1]
    applied = apply(coco.read(path), read_corrections(session.log))
    kept = {a["id"]: a for a in applied.document["annotations"]}
    assert set(kept) == {1, 3}
    mask = decode(kept[1]["segmentation"])
    assert all(mask[b.slices].all() for b in SHRED[:2])
    assert kept[1]["attributes"]["flux_g"] == pytest.approx(4000, rel=0.05)


def test_a_split_where_nothing_is_says_so_and_logs_nothing(served):
    server, path = served
    split = {"action": "split", **PLACE, "peak": [48, 20]}
    status, answer = ask(server, "correct", split)
    assert status == 409
    assert "finds no source at the second peak" in answer["error"]
    assert not path.with_name("coco.corrections.jsonl").exists()
