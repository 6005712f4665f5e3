"""Shards become one document: numbered, counted, checked, and told about."""

import json
from dataclasses import replace

import numpy as np
import pytest
from filelock import FileLock
from fits_files import SIGMA, scene, write_calexp

from astrolabel.core.config import LabelConfig, TileConfig
from astrolabel.core.errors import OutputError
from astrolabel.core.files import file_hash
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label import merge, shards
from astrolabel.label.pipeline import make_coco
from astrolabel.label.plan import plan

SMALL = LabelConfig(tile=TileConfig(size=48, margin_px=12))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(tasks, what is in their shards) of a run of 2x2 tiles in one band."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "sky").mkdir()
    image, _ = scene((96, 96), n=8)
    noise = np.random.default_rng(1).normal(0, SIGMA, image.shape)
    write_calexp(folder / "sky", "i", (image + noise).astype("f4"))
    coadds = find_coadds(Inputs((folder / "sky",)))
    make_coco(coadds, SMALL, folder / "out", progress=False)
    tasks, _ = plan(coadds, SMALL, folder / "out", None, 1, False)
    return tasks, [shards.read_whole(t.out, t.name, t.key) for t in tasks]


@pytest.fixture
def out(done, tmp_path):
    """A folder with these shards' files, and none of their shards yet."""
    tasks, _ = done
    for name in shards.FOLDERS:
        (tmp_path / name).mkdir()
    for name in ("images", "cubes", "residuals"):
        for path in (tasks[0].out / name).iterdir():
            (tmp_path / name / path.name).hardlink_to(path)
    return tmp_path


def merged(done, out, changes=(), problems=(), config=SMALL):
    """Merge the shards, with some of them changed."""
    tasks = [replace(t, out=out) for t in done[0]]
    for shard, change in zip(done[1], (*changes, *[{}] * 4), strict=False):
        shards.write(out, {**shard, **change})
    return merge.merge(tasks, config, None, out, problems)


NONE = {"image": None, "annotations": [], "sources": []}


def test_labels_are_numbered_in_the_order_of_tiles_and_those_without_image_left_out(done, out):
    result = merged(done, out, [{}, {**NONE, "state": "skipped:x"}])
    doc = coco.read(out / "coco.json")
    kept = [s for k, s in enumerate(done[1]) if k != 1]
    assert [i["id"] for i in doc["images"]] == [1, 2, 3]
    assert [i["file_name"] for i in doc["images"]] == [s["image"]["file_name"] for s in kept]
    expected = [
        {**a, "id": 0, "image_id": n} for n, s in enumerate(kept, 1) for a in s["annotations"]
    ]
    assert len(expected) > 3
    for number, item in enumerate(expected, 1):
        item["id"] = number
    assert doc["annotations"] == expected
    assert result.coco == out / "coco.json"
    assert [state for _, state in result.tiles] == ["ok", "skipped:x", "ok", "ok"]
    assert [t["state"] for t in doc["info"]["tiles"]] == ["ok", "skipped:x", "ok", "ok"]
    assert [t["name"] for t in doc["info"]["tiles"]] == [t.name for t in done[0]]
    assert result.problems == ()


def test_images_have_the_hashes_of_their_files(done, out):
    merged(done, out)
    for image in coco.read(out / "coco.json")["images"]:
        named = {"picture": image["file_name"], "cube": image["astro"]["cube"],
                 "residual": image["astro"]["residual"]}  # fmt: skip
        assert image["astro"]["sha256"] == {k: file_hash(out / n) for k, n in named.items()}


def test_sources_are_counted_by_state(done, out):
    two = [{"state": "ok"}, {"state": "skipped:x"}]
    result = merged(done, out, [{"sources": two}, {"sources": two[:1]}] + [{"sources": []}] * 2)
    assert result.sources == {"ok": 2, "skipped:x": 1}
    assert coco.read(out / "coco.json")["info"]["sources"] == {"ok": 2, "skipped:x": 1}
    first = result.summary().splitlines()[:3]
    assert first == [f"{out / 'coco.json'}: 4 tiles labelled", "  2 ok", "  1 skipped:x"]


def test_the_summary_counts_tiles_that_were_left_out(done, out):
    changes = [{**NONE, "state": "skipped:x"}, {**NONE, "state": "failed:y"}]
    result = merged(done, out, changes)
    head = result.summary().splitlines()[0]
    assert head.endswith("2 tiles labelled, 1 skipped, 1 failed")
    assert result.problems == (f"tile {done[0][1].name}: y",)


def test_what_is_empty_is_a_problem_and_all_without_labels_is_one_more(done, out):
    empty = [{"annotations": []}, *[{**NONE, "state": "skipped:no data"}] * 3]
    result = merged(done, out, empty, ["told before"])
    assert result.problems == ("told before", f"tile {done[0][0].name}: no source found")
    result = merged(done, out, [{**NONE, "state": "skipped:no data in g"}] * 3 + [
        {**NONE, "state": "skipped:x"}])  # fmt: skip
    assert result.problems == (
        "no tile has labels; 3 of 4 ended as skipped:no data in g; leave the band out, or raise "
        "tile.max_no_data",
    )
    result = merged(done, out, [{**NONE, "state": "skipped:x"}] * 4)
    assert result.problems == ("no tile has labels; 4 of 4 ended as skipped:x",)


def test_a_run_without_tiles_is_an_empty_document(done, out):
    result = merge.merge([], SMALL, None, out, ["nothing"])
    doc = coco.read(out / "coco.json")
    assert (doc["images"], doc["annotations"], result.problems) == ([], [], ("nothing",))


def test_doubts_are_problems_where_the_run_is_strict(done, out):
    doubt = {"severity": "doubt", "kind": "sky", "band": "i", "text": "odd"}
    noted = [{"notes": [doubt]}] * 4
    assert merged(done, out, noted).problems == ()
    strict = replace(SMALL, prepare=replace(SMALL.prepare, strict=True))
    result = merged(done, out, noted, config=strict)
    assert len(result.problems) == 1
    assert "odd" in result.problems[0]


@pytest.mark.parametrize("what", ["key", "picture", "gone"])
def test_only_what_this_run_wrote_is_merged(what, done, out):
    tasks = [replace(t, out=out) for t in done[0]]
    merged(done, out)
    if what == "key":
        tasks[2] = replace(tasks[2], key="another")
    elif what == "picture":
        path = out / done[1][2]["image"]["file_name"]
        path.unlink()
        path.write_bytes(b"x")
    else:
        shards.path_of(out, tasks[2].name).unlink()
    with pytest.raises(OutputError, match=f"{tasks[2].name}.*is not the shard"):
        merge.merge(tasks, SMALL, None, out, [])


def test_a_faulty_shard_makes_no_document(done, out):
    items = [{**done[1][0]["annotations"][0], "area": 1}]
    with pytest.raises(OutputError, match=r"would be faulty.*area 1"):
        merged(done, out, [{"annotations": items}])
    assert not (out / "coco.json").exists()


def test_many_labels_are_a_table_too(done, out, monkeypatch):
    pytest.importorskip("pyarrow")
    total = sum(len(s["annotations"]) for s in done[1])
    monkeypatch.setattr(merge, "PARQUET_BEYOND", total)
    merged(done, out)
    assert not (out / "coco.parquet").exists()
    monkeypatch.setattr(merge, "PARQUET_BEYOND", total - 1)
    assert merged(done, out).problems == ()
    one, other = coco.read(out / "coco.json"), coco.read(out / "coco.parquet")
    assert one["images"] == other["images"]
    assert [a["bbox"] for a in one["annotations"]] == [a["bbox"] for a in other["annotations"]]
    croissant = json.loads((out / "croissant.json").read_text())
    assert croissant


def test_without_the_library_of_tables_the_labels_are_whole(done, out, monkeypatch):
    from astrolabel.core.errors import InputError

    def missing(*_):
        raise InputError("pyarrow is not installed")

    monkeypatch.setattr(merge, "PARQUET_BEYOND", 0)
    monkeypatch.setattr(merge, "write_parquet", missing)
    result = merged(done, out)
    assert result.problems == ("no Parquet table beside coco.json: pyarrow is not installed",)
    assert coco.read(out / "coco.json")["annotations"]


def test_the_provenance_is_that_of_the_run(done, out):
    merged(done, out)
    info = coco.read(out / "coco.json")["info"]
    (coadd,) = info["coadds"]
    assert info["config_hash"] == SMALL.digest()
    assert info["config"] == json.loads(json.dumps(SMALL.to_dict()))
    assert info["inputs"] == [
        {"file": name, "sha256": digest} for name, digest in sorted(done[0][0].hashes.items())
    ]
    assert coadd["name"] == done[0][0].files.name
    assert coadd["bands"] == ["i"]
    assert coadd["files"] == dict(done[0][0].look.hashes)
    (layer,) = coadd["layers"]
    assert layer["path"] == done[0][0].files.layers[0].path.name
    assert layer["shape"] == [96, 96]
    assert (coadd["variance"], coadd["mask"], coadd["overlaps"]) == ({}, {}, [])
    assert (coadd["truth"], info["catalog"]) == (None, None)
    assert {"numpy", "astropy", "sep"} <= set(info["libraries"])
    assert info["program"] == f"astrolabel {info['version']}"


def test_a_shard_is_read_as_it_was_written_and_only_so(done, out):
    shard, task = done[1][0], done[0][0]
    assert shards.read(out, task.name) is None
    shards.write(out, shard)
    assert shards.read(out, task.name) == shard
    assert shards.read_whole(out, task.name, task.key) == shard
    assert shards.read_whole(out, task.name, "another") is None
    assert shards.read_whole(out, "another", task.key) is None
    path = shards.path_of(out, task.name)
    assert path == out / "tiles" / f"{task.name}.json"
    path.rename(shards.path_of(out, "another"))
    assert shards.read(out, "another") is None
    for bad in (b"", b"{}", b'{"sha256": "00",\n}', b"\xff\n"):
        path.write_bytes(bad)
        assert shards.read(out, task.name) is None


@pytest.mark.parametrize("of", ["cube", "residual"])
def test_a_file_of_a_tile_that_is_changed_or_gone_undoes_its_shard(of, done, out):
    shard, task = done[1][0], done[0][0]
    shards.write(out, shard)
    path = out / shard["image"]["astro"][of]
    data = path.read_bytes()
    path.unlink()
    assert shards.read_whole(out, task.name, task.key) is None
    path.write_bytes(data)
    assert shards.read_whole(out, task.name, task.key) == shard
    path.write_bytes(data[:-1])
    assert shards.read_whole(out, task.name, task.key) is None


@pytest.mark.parametrize(
    ("state", "again"),
    [("ok", False), ("skipped:x", False), ("skipped:memory", True), ("failed:y", True)],
)
def test_what_failed_or_had_no_room_is_tried_again(state, again, done, out):
    task = done[0][0]
    shards.write(out, {**done[1][0], **NONE, "state": state})
    assert (shards.read_done(out, task.name, task.key) is None) is again
    assert shards.read_whole(out, task.name, task.key)["files"] == {}


def test_a_folder_is_one_runs_and_is_cleared_of_what_a_killed_one_left(tmp_path):
    out = tmp_path / "new" / "out"
    with shards.opened(out):
        assert {p.name for p in out.iterdir()} == {*shards.FOLDERS, shards.LOCK}
        with pytest.raises(OutputError, match="another run is writing"), shards.opened(out):
            pass
        (out / ".0123abcd.coco.json").touch()
    kept = [out / ".hidden", out / "tiles" / "a.json", out / "images" / ".0123.png"]
    mark, left = out / "tiles" / ".running-a", out / "cubes" / ".0123abcd.a.fits"
    for path in (*kept, mark, left):
        path.touch()
    assert not (out / ".0123abcd.coco.json").exists()
    with shards.opened(out):  # the mark says what a killed run was at
        assert [p.exists() for p in (*kept, mark, left)] == [True] * 4 + [False]
    assert [p.exists() for p in (*kept, mark)] == [True] * 3 + [False]
    with FileLock(out / shards.LOCK, timeout=0):  # free again
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), shards.opened(tmp_path / "file"):
        pass


def test_a_tile_is_marked_while_it_is_worked_on(out):
    with shards.running(out, "a"):
        assert shards.was_running(out, "a")
        assert not shards.was_running(out, "a")
    with pytest.raises(ZeroDivisionError), shards.running(out, "b"):
        raise ZeroDivisionError
    assert shards.was_running(out, "b")
    with shards.running(out, "c"):
        pass
    assert not shards.was_running(out, "c")
