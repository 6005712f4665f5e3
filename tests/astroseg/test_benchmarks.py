"""The benchmarks' commands at toy size: what they say is not judged, but that they run."""

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name, monkeypatch):
    """A benchmark as a module; it may import its neighbours."""
    monkeypatch.syspath_prepend(str(FOLDER))
    found = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, found.name, module)  # dataclasses look there
    found.loader.exec_module(module)
    return module


@pytest.fixture
def engines(monkeypatch):
    return load("engines", monkeypatch)


@pytest.fixture
def settings(engines, tmp_path):
    """Of a measurement on small pictures, in this process's number of threads."""
    engines.write_pictures(tmp_path, 64)
    engines.write_weights(tmp_path, "tiny", 50)

    def made(who, task):
        threads = torch.get_num_threads()
        return engines.Settings(who, task, str(tmp_path), 1, 1, "cpu", False, threads)

    return made


TASKS = pytest.mark.parametrize("task", ["train", "predict"])


@TASKS
def test_training_and_prediction_are_measured(engines, settings, task):
    result = engines.measure(settings("torchvision", task))
    assert result["seconds"] > 0
    assert result["mib"] > 0
    assert ("detections" in result) == (task == "predict")
    [line] = engines.table(task, 1, {"torchvision": [result, result]})
    assert line.count("|") == engines.heading(False)[0].count("|")


@TASKS
def test_programs_in_turn_are_measured_in_one_process(engines, settings, task):
    results = engines.in_turn([settings("torchvision", task)] * 2)
    assert all(one["seconds"] > 0 and "mib" not in one for one in results)
    [line] = engines.table(task, 1, {"torchvision": results})
    assert line.count("|") == engines.heading(False, False)[0].count("|")


def test_one_of_several_programs_works_at_a_time(engines):
    turns, steps, working = engines.Turns(3), [], []

    def program(place):
        clock = engines.Turn("cpu", turns, place, 4)
        for _ in range(4):
            clock.tick()
            assert not working  # the others wait
            working.append(place)
            time.sleep(0.01)
            working.clear()
            steps.append(place)
        turns.end(place)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(program, range(3)))
    # What follows the last step is not timed.
    assert steps == [0, 1, 2, 0, 2, 1, 0, 0, 1, 1, 2, 2]


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is None, reason="no Detectron2")
@TASKS
def test_detectron2s_own_programs_are_measured(engines, settings, task):
    results = {who: [engines.run(settings(who, task))] for who in ("detectron2", engines.THEIRS)}
    for line in engines.table(task, 1, results):
        assert line.count("|") == engines.heading(True)[0].count("|")


@pytest.mark.parametrize("name", ["parity", "evaluate_speed", "loader_speed", "predict_memory"])
def test_a_benchmark_is_imported_without_what_it_compares_with(name, monkeypatch):
    assert load(name, monkeypatch).main


def test_medians_of_rounds_stand_beside_detectron2s_own(engines):
    rounds = [{"seconds": s, "mib": m} for s, m in ((4.0, 100.0), (1.0, 300.0), (2.0, 200.0))]
    own = [{"seconds": 4.0, "mib": 400.0}]
    first, second = engines.table("train", 2, {"torchvision": rounds, engines.THEIRS: own})
    assert first == "| train | astroseg, torchvision | 1 | 200 | 2.00 | 0.50 |  |"
    assert second == "| train | Detectron2's own | 0.5 | 400 | 1.00 | 1.00 |  |"


@pytest.fixture
def decam(monkeypatch):
    return load("decam", monkeypatch)


@pytest.fixture
def decam_table(decam, tmp_path, monkeypatch, capsys):
    """Runs the benchmark with a model and gives the rows of its table."""

    def made(model):
        command = ["decam.py", "--out", str(tmp_path), "--tiles", "2", "1", "1", "--size", "64"]
        command += ["--steps", "2", "--batch-size", "1", "--jobs", "1"]
        monkeypatch.setattr(sys, "argv", [*command, "--model", model, "--device", "cpu"])
        decam.main()
        table = capsys.readouterr().out.split("---|\n")[-1]
        return [line.split("|")[1:-1] for line in table.splitlines()]

    return made


def test_decam_tiles_become_a_table_beside_the_papers(decam_table):
    for _ in range(2):  # the second goes on where nothing is left to do
        galaxy, star = decam_table("tiny")
        assert galaxy[:2] + galaxy[-2:] == [" galaxy ", " trained ", " 65.8 ", " 62.5 "]
        assert star[:2] + star[-2:] == [" star ", " trained ", " 70.1 ", " 68.0 "]


def test_the_built_in_model_stands_beside_itself_fine_tuned(decam_table):
    rows = decam_table("sky")
    assert [row[1].strip() for row in rows] == ["unchanged", "fine-tuned"] * 2


def test_a_class_without_objects_has_no_percentage(decam):
    assert decam.percent(None, "star") == "-"


def test_the_clip_shows_what_commands_print_and_ends_with_the_picture(monkeypatch, tmp_path):
    clip = load("clip", monkeypatch)
    step = clip.record("printf 'one\\ntwo\\n'", tmp_path)
    assert step.output == ("one", "two")
    play = clip.frames([step], Image.new("RGB", (64, 64), "white"), "white")
    clip.save(play, tmp_path / "clip.webp")
    shown = Image.open(tmp_path / "clip.webp")
    assert shown.n_frames == len(play)
    assert shown.width <= 900
    shown.seek(shown.n_frames - 1)
    assert np.mean(np.asarray(shown.convert("L")) > 250) > 0.5
    with pytest.raises(SystemExit, match="no such"):
        clip.record("echo no such; exit 1", tmp_path)


def test_the_sky_of_seams_has_its_stars_in_a_fits_cube(monkeypatch, tmp_path):
    from astropy.io import fits

    seams = load("seams", monkeypatch)
    monkeypatch.setattr(seams, "STRIP", 40)
    place = seams.lattice(96, 24, [50])
    assert place.tolist() == [24, 50, 72]
    centres, flux = seams.stars(place)
    seams.write_sky(tmp_path / "sky.fits", 96, 2, place)
    cube = fits.getdata(tmp_path / "sky.fits")
    assert cube.shape == (2, 96, 96)
    bright = centres[flux > 500]
    assert len(bright) > 2
    assert (cube[:, bright[:, 0], bright[:, 1]] > 15).all()


def test_label_memory_reads_what_it_writes(monkeypatch, tmp_path, capfd):
    label_memory = load("label_memory", monkeypatch)
    label_memory.write_labels(tmp_path / "a.json", 300, 7)
    label_memory.measure(tmp_path / "a.json", 0)
    assert "300 objects in 7 images" in capfd.readouterr().out
