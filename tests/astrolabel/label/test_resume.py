"""What a run leaves is proved before it is used; what others left is not taken for its own."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from astropy.io import fits
from filelock import FileLock
from fits_files import SIGMA, scene, write_calexp, write_plain

from astrolabel.core.config import LabelConfig, MaskConfig, TileConfig
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import pictures
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label import merge, pipeline, shards
from astrolabel.label.cost import tile_bytes
from astrolabel.label.pipeline import make_coco
from astrolabel.label.plan import plan
from astrolabel.label.status import status
from astrolabel.label.workers import Workers

SMALL = LabelConfig(tile=TileConfig(size=48, margin_px=12))


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A coadd of 96x96 pixels in g and i: 2x2 tiles under SMALL."""
    folder = tmp_path_factory.mktemp("sky")
    image, _ = scene((96, 96), n=8)
    for band in "gi":
        rng = np.random.default_rng(ord(band))
        write_calexp(folder, band, (image + rng.normal(0, SIGMA, image.shape)).astype("f4"))
    return folder


@pytest.fixture(scope="module")
def finished(sky, tmp_path_factory):
    """A whole run, to be copied and harmed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    run(sky, out)
    return out


@pytest.fixture
def out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def run(sky, out, config=SMALL, **options):
    return make_coco(find_coadds(Inputs((sky,))), config, out, progress=False, **options)


def content(out):
    """Bytes of every file of a run by name."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != shards.LOCK
    }


def flipped(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


HARM = {
    "flipped": flipped,
    "cut": lambda path, draw: path.write_bytes(path.read_bytes()[: draw.randrange(100)]),
    "emptied": lambda path, draw: path.write_bytes(b""),
    "gone": lambda path, draw: path.unlink(),
    "another tile's": lambda path, draw: shutil.copy(
        draw.choice(sorted(set(path.parent.glob("[!.]*")) - {path})), path
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_whatever_is_harmed_of_a_finished_run_is_made_again(sky, finished, out, harm):
    draw, expected = random.Random(harm), content(finished)
    names = [n for n in expected if n.partition("/")[0] in shards.FOLDERS]
    chosen = [draw.choice([n for n in names if n.startswith(f)]) for f in shards.FOLDERS]
    for name in chosen:
        HARM[harm](out / name, draw)
    run(sky, out)
    assert content(out) == expected


def test_every_flipped_bit_of_a_shard_is_seen(out):
    path = next((out / "tiles").glob("*.json"))
    sound, draw = path.read_bytes(), random.Random(1)
    assert shards.read(out, path.stem) is not None
    for _ in range(100):
        path.write_bytes(sound)
        flipped(path, draw)
        assert shards.read(out, path.stem) is None


def test_what_a_killed_run_left_half_written_is_cleaned_away(sky, finished, out):
    for name in (".0123abcd.coco.json", "tiles/.0123abcd.a.json", "cubes/.ffffffff.a.fits"):
        (out / name).write_text("half")
    (out / ".keep").write_text("the user's own")
    run(sky, out)
    assert content(out) == {**content(finished), ".keep": b"the user's own"}


def test_two_runs_do_not_write_into_one_folder(sky, out):
    before = content(out)
    with (
        FileLock(out / shards.LOCK),
        pytest.raises(OutputError, match="another run is writing into this folder"),
    ):
        run(sky, out)
    assert content(out) == before


def test_a_shard_of_another_recipe_is_never_merged(sky, out):
    other = replace(SMALL, mask=MaskConfig(threshold_sigma=8))
    coadds = find_coadds(Inputs((sky,)))
    tasks, _ = plan(coadds, other, out, None, 1, False)
    with pytest.raises(OutputError, match="not the shard that this run wrote"):
        merge.merge(tasks, other, None, out, [])


def test_the_status_of_a_run_is_told_from_its_folder(sky, out):
    (out / "tiles/9813-4,5-r0c1.json").unlink()
    told = status(out)
    assert told.states == {"ok": 3, "waiting": 1}
    assert not told.running
    with FileLock(out / shards.LOCK):
        assert status(out).running
    assert "3 of 4 tiles" in told.text()


def test_a_dead_band_makes_no_image_and_is_said(tmp_path):
    path = write_plain(tmp_path / "g.fits", np.zeros((64, 64), "f4"))
    inputs = Inputs(band_files=((("g",), path),))
    result = make_coco(find_coadds(inputs), LabelConfig(), tmp_path / "out", progress=False)
    state = "skipped:band g is 0 in every pixel"
    assert result.tiles == (("g-r0c0", state),)
    assert result.problems == (f"no tile has labels; 1 of 1 ended as {state}",)
    document = json.loads(result.coco.read_text())
    assert (document["images"], document["annotations"]) == ([], [])


def test_an_empty_sky_is_an_image_without_labels_and_is_said(tmp_path):
    empty = np.random.default_rng(1).normal(0, 1, (64, 64)).astype("f4")
    inputs = Inputs(band_files=((("g",), write_plain(tmp_path / "g.fits", empty)),))
    result = make_coco(find_coadds(inputs), LabelConfig(), tmp_path / "out", progress=False)
    assert result.problems == ("tile g-r0c0: no source found",)
    document = json.loads(result.coco.read_text())
    assert (len(document["images"]), document["annotations"]) == (1, [])
    assert "doubt: labels: none" in result.summary()


def test_damaged_input_makes_no_labels(sky, tmp_path):
    here = tmp_path / "in"
    shutil.copytree(sky, here)
    path = here / "calexp-HSC-G-9813-4,5.fits"
    with fits.open(path) as hdus:
        hdus.writeto(path, overwrite=True, checksum=True)
    assert run(here, tmp_path / "out").problems == ()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"calexp-HSC-G.*(DATASUM|CHECKSUM)"):
        run(here, tmp_path / "out2")


def test_a_coadd_that_breaks_its_reader_harms_no_other(sky, tmp_path, monkeypatch):
    here = tmp_path / "in"
    shutil.copytree(sky, here)
    image, _ = scene((96, 96), n=8)
    for band in "gi":
        write_calexp(here, band, image, patch="4,6")
    real = pipeline.plan.__globals__["check"]

    def breaks(files):
        if files.patch == "4,6":
            raise KeyError("NAXIS9")
        return real(files)

    monkeypatch.setitem(pipeline.plan.__globals__, "check", breaks)
    result = run(here, tmp_path / "out")
    assert [state for _, state in result.tiles] == ["ok"] * 4
    assert len(result.problems) == 1
    assert "cannot be labelled (KeyError" in result.problems[0]


def test_tiles_beyond_the_memory_are_skipped_and_said_so_and_done_with_more(sky, finished, out):
    result = run(sky, out, jobs=Workers(memory_gb=0.1))
    assert result.problems == ()  # what is done is done
    shutil.rmtree(out)
    result = run(sky, out, jobs=Workers(memory_gb=0.1))
    assert {s.partition(" needs")[0] for _, s in result.tiles} == {"skipped:memory:"}
    assert "--tile-size" in result.problems[0]
    run(sky, out, jobs=Workers(memory_gb=64))
    assert content(out) == content(finished)


def test_no_more_coadds_are_looked_at_at_once_than_the_memory_has_room_for(sky):
    coadds = find_coadds(Inputs((sky,)))
    need = tile_bytes((96, 96), 2)
    for memory, jobs in ((0, 8), (0.5 * need, 1), (3.5 * need, 3), (99 * need, 8)):
        workers = Workers(8, memory_gb=memory / 1e9)
        assert pipeline.planners(coadds, SMALL, workers) == jobs
    small = replace(SMALL, prepare=replace(SMALL.prepare, section_px=48))
    assert pipeline.planners(coadds, small, Workers(8, memory_gb=3.5 * need / 1e9)) == 3
    assert tile_bytes((48, 48), 2) < need


# Processes that die.


def started(sky, out, *more):
    words = [sys.executable, "-m", "astrolabel", "make-coco", str(sky), "--tile-size", "48"]
    words += ["--margin", "12", "--quiet", "--jobs", "2", "--out", str(out), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers_of(process):
    """Processes below a process that work on tiles."""
    try:
        below = psutil.Process(process.pid).children()
        return [p for p in below if any("LokyProcess" in word for word in p.cmdline())]
    except psutil.NoSuchProcess:
        return []


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_stopped_run_and_the_next_ends_the_same(sky, finished, tmp_path, number):
    out = tmp_path / "out"
    process = started(sky, out)
    children = wait_for(lambda: workers_of(process))
    wait_for(lambda: list((out / "tiles").glob(".running-*")))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    assert psutil.wait_procs(children, timeout=10)[1] == []
    run(sky, out)
    assert content(out) == content(finished)


@pytest.mark.slow
def test_a_killed_worker_costs_its_tile_a_second_try(sky, finished, tmp_path):
    out = tmp_path / "out"
    process = started(sky, out)
    wait_for(lambda: list((out / "tiles").glob(".running-*")))
    os.kill(workers_of(process)[0].pid, signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (0, "")
    assert content(out) == content(finished)


def deadly(task):
    """Work that one tile's worker dies of, as of too little memory."""
    if task.name.endswith("r0c1"):
        assert multiprocessing.current_process().name != "MainProcess"
        os.kill(os.getpid(), signal.SIGKILL)
    return pipeline.work(task)


@pytest.mark.slow
def test_a_tile_that_two_workers_die_of_fails_and_the_others_go_on(sky, out, monkeypatch):
    real = pipeline.finished
    monkeypatch.setattr(pipeline, "finished", lambda _, *rest: real(deadly, *rest))
    shutil.rmtree(out / "tiles")
    result = run(sky, out, jobs=2)
    states = [state.partition(":")[0] for _, state in result.tiles]
    assert states == ["ok", "failed", "ok", "ok"]
    assert result.problems[0].startswith("tile 9813-4,5-r0c1: crash")
    # The next run tries it again, and does not die of it either where it has no workers.
    assert run(sky, out, jobs=1).tiles == result.tiles


def test_a_tile_that_cannot_be_written_ends_the_run_and_is_no_state_of_it(
    sky, finished, tmp_path, monkeypatch
):
    """A full disk is not the tile's fault: a shard that calls it failed would outlast the disk."""

    def full(path, pixels):
        raise OutputError("cannot be written (No space left on device)", file=path)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "write_png", full)
        with pytest.raises(OutputError, match="No space left"):
            run(sky, tmp_path / "out")
    assert list((tmp_path / "out" / "tiles").glob("[!.]*")) == []
    run(sky, tmp_path / "out")
    assert content(tmp_path / "out") == content(finished)


def test_an_image_without_pixels_is_one_line(tmp_path):
    path = tmp_path / "g.fits"
    fits.PrimaryHDU(np.zeros((200, 0), "f4")).writeto(path)
    cards = {"NAXIS": 2, "NAXIS1": 0, "NAXIS2": 200}
    with fits.open(path) as hdus:  # astropy writes an image without pixels as none
        hdus[0].header.update(cards)
        text = hdus[0].header.tostring()
    path.write_bytes(text.encode())
    with pytest.raises(InputError, match=r"g\.fits: an image without pixels"):
        make_coco(find_coadds(Inputs(band_files=((("g",), path),))), SMALL, tmp_path / "out")
