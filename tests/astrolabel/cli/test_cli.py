import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fits_files import SIGMA, scene, write_calexp, write_plain

from astrolabel.cli.arguments import COMMANDS
from astrolabel.cli.main import main
from astrolabel.io import coco


@pytest.fixture
def coadds(tmp_path):
    image, _ = scene()
    for band in "gri":
        rng = np.random.default_rng(ord(band))
        noisy = image + rng.normal(0, SIGMA, image.shape)
        write_calexp(tmp_path / "in", band, noisy.astype("f4"))
    return tmp_path / "in"


def run(*words):
    return main([str(w) for w in words])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*command.split(), "--help")
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.partition("\nexample")[2].split())
    assert f"astrolabel {command}" in shown


def test_make_coco_validate_and_preview(coadds, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("make-coco", coadds, "--out", out, "--bands", "g,i", "--quiet") == 0
    assert "1 tiles labelled" in capsys.readouterr().out
    assert run("validate", out / "coco.json") == 0
    assert "no problems" in capsys.readouterr().out
    assert run("preview", out / "coco.json") == 0
    assert "index.html" in capsys.readouterr().out
    assert list((out / "preview").glob("*.png"))
    assert coco.read(out / "coco.json")["images"][0]["astro"]["bands"] == ["g", "i"]


def test_what_the_user_changes_reaches_the_recipe(coadds, tmp_path):
    out = tmp_path / "out"
    words = "--preset paper --tile-size 100 --halo 10 --detection-image weighted --jobs 2 --quiet"
    assert run("make-coco", coadds, "--out", out, *words.split()) == 0
    config = coco.read(out / "coco.json")["info"]["config"]
    assert config["preset"] == "paper"
    assert config["tile"]["size"] == 100
    assert config["tile"]["margin_px"] == 10
    assert config["detect"]["combine"] == "weighted"
    assert config["detect"]["noise"] == "sep"


def test_plain_files_are_named_by_band(tmp_path):
    image, _ = scene()
    g = write_plain(tmp_path / "g.fits", image)
    r = write_plain(tmp_path / "r.fits", image)
    out = tmp_path / "out"
    words = ("make-coco", "--band", f"g={g}", f"r={r}", "--zeropoint", "22.5", "--out", out)
    assert run(*words, "--quiet") == 0
    document = coco.read(out / "coco.json")
    assert document["images"][0]["astro"]["zeropoint"] == [22.5, 22.5]
    assert document["categories"][0]["name"] == "source"


def test_validate_prints_each_problem_and_fails(coadds, tmp_path, capsys):
    out = tmp_path / "out"
    run("make-coco", coadds, "--out", out, "--quiet")
    document = json.loads((out / "coco.json").read_text())
    document["annotations"][1]["id"] = document["annotations"][0]["id"]
    document["annotations"][2]["area"] += 5
    (out / "coco.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert run("validate", out / "coco.json") == 2
    printed = capsys.readouterr().out
    assert "2 problems" in printed
    assert len(printed.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["make-coco", "{in}"], "no --out"),
        (["make-coco", "--out", "{out}"], "no input"),
        (["make-coco", "nowhere", "--out", "{out}"], "nowhere: no such file"),
        (["make-coco", "{in}", "--out", "{out}", "--bands", "g,z"], "has no z band"),
        (["make-coco", "{in}", "--out", "{out}", "--scheme", "hsc"], "--catalog and --scheme"),
        (["make-coco", "{in}", "--out", "{out}", "--scheme", "hsc", "--catalog", "no.fits"],
         "no.fits"),
        (["make-coco", "{in}", "--out", "{out}", "--deblender", "magic"], "magic"),
        (["make-coco", "{in}", "--out", "{out}", "--zeropoint", "g=bright"], "bright"),
        (["make-coco", "--band", "g", "--out", "{out}"], "--band 'g'; write --band g=..."),
        (["make-coco", "--band", "g=no.fits", "--out", "{out}"], "no.fits: no such file"),
        (["make-coco", "--manifest", "no.yaml"], "no.yaml: cannot be read"),
        (["validate", "no.json"], "no.json"),
        (["preview", "no.json"], "no.json"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_exit_code_2(coadds, tmp_path, capsys, words, problem):
    out = tmp_path / "out"
    filled = [w.format(**{"in": coadds, "out": out}) for w in words]
    assert run(*filled) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("astrolabel: ")
    assert problem in lines[0]
    assert not (out / "coco.json").exists()


def test_a_bad_coadd_is_told_and_the_others_are_labelled(coadds, tmp_path, capsys):
    image, _ = scene()
    for band in "gr":
        write_calexp(coadds, band, image, patch="4,6")
    path = write_calexp(coadds, "i", image, patch="4,6")
    path.write_bytes(path.read_bytes()[:50_000])
    out = tmp_path / "out"
    assert run("make-coco", coadds, "--out", out, "--quiet") == 2
    captured = capsys.readouterr()
    assert "1 tiles labelled" in captured.out
    assert "calexp-HSC-I-9813-4,6.fits" in captured.err
    assert len(coco.read(out / "coco.json")["images"]) == 1


def test_a_stop_from_the_keyboard_says_how_to_go_on(coadds, tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("astrolabel.label.pipeline.make_coco", stopped)
    assert run("make-coco", coadds, "--out", tmp_path / "out") == 130
    assert "rerun the command to resume" in capsys.readouterr().err


def test_the_log_holds_the_command_the_tiles_and_the_end(coadds, tmp_path, capsys):
    log = tmp_path / "logs" / "run.log"
    words = ("make-coco", coadds, "--out", tmp_path / "out", "--tile-size", "80", "--log", log)
    assert run(*words, "--quiet") == 0
    assert "tiles:" not in capsys.readouterr().err
    text = log.read_text()
    assert "make-coco" in text.splitlines()[0]
    assert "9813-4,5-r1c1: " in text
    assert text.rstrip().endswith("ended with exit code 0")
    assert run("validate", tmp_path / "none.json", "--log", log) == 2
    assert "none.json" in log.read_text().splitlines()[-1]
    assert run("validate", tmp_path / "none.json", "--log", tmp_path) == 2


def test_an_error_is_one_line(tmp_path):
    """In a process of its own: pytest's own handlers hide what logging prints by itself."""
    words = [sys.executable, "-m", "astrolabel", "validate", str(tmp_path / "none.json")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("astrolabel: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_log_may_be_a_pipe_that_something_reads(tmp_path, capsys):
    pipe, none = tmp_path / "pipe", tmp_path / "none.json"
    os.mkfifo(pipe)
    assert run("validate", none, "--log", pipe) == 2
    assert "nothing reads" in capsys.readouterr().err
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("validate", none, "--log", pipe) == 2
    assert b"none.json" in os.read(reader, 1000)
    os.close(reader)
    for device in (os.devnull, "/dev/stderr"):
        assert run("validate", none, "--log", device) == 2


def test_verbose_says_each_tile(coadds, tmp_path, capsys):
    assert run("make-coco", coadds, "--out", tmp_path / "out", "--verbose") == 0
    printed = capsys.readouterr().err
    assert "9813-4,5-r0c0: " in printed
    assert "\r" not in printed
