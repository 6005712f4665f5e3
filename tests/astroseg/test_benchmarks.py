"""The benchmarks' commands at toy size: what they say is not judged, but that they run."""

import importlib.util
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from train_helpers import write_sky_set

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


def write_tiles(decam, out, tiles):
    """What the simulation would leave; then nothing is simulated."""
    for name, count in decam.tiles_of(tiles).items():
        for number in range(count):
            folder = out / name / f"{number:04d}"
            path = write_sky_set(folder, 1, size=64, sources=8, seed=number)
            document = json.loads(path.read_text())
            astro = document["images"][0]["astro"]
            astro["files"] = [astro.pop("cube")]
            (folder / "truth.json").write_text(json.dumps(document))


def test_decam_tiles_become_a_table_beside_the_papers(decam, tmp_path, monkeypatch, capsys):
    write_tiles(decam, tmp_path, 2)
    command = ["decam.py", "--out", str(tmp_path), "--tiles", "2", "--size", "64", "--steps", "2"]
    command += ["--model", "tiny", "--device", "cpu", "--batch-size", "1"]
    for _ in range(2):  # the second goes on where nothing is left to do
        monkeypatch.setattr(sys, "argv", command)
        decam.main()
        *_, galaxy, star = capsys.readouterr().out.strip().splitlines()
        assert galaxy.endswith("| 65.8 | 62.5 |")
        assert star.endswith("| 70.1 | 68.0 |")


def test_the_papers_sets_shrink_alike(decam):
    assert decam.tiles_of(1000) == {"train": 1000, "val": 250, "test": 50}
    assert decam.tiles_of(4) == {"train": 4, "val": 1, "test": 1}


def test_a_class_without_objects_has_no_percentage(decam):
    assert decam.percent(None, "star") == "-"


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
