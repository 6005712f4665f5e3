"""The benchmarks' commands at toy size: what they say is not judged, but that they run."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from astrolabel.core.config import LabelConfig, preset

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # it imports its neighbour
    found = importlib.util.spec_from_file_location("benchmark_ablation", FOLDER / "ablation.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    yield module
    sys.modules.pop("labels", None)


def test_each_row_of_the_ablation_is_another_recipe(ablation):
    recipes = ablation.recipes(list(ablation.STEPS))
    assert recipes["default"] == preset("default")
    assert len({recipe.digest() for recipe in recipes.values()}) == len(recipes)
    with pytest.raises(TypeError, match="no_such"):
        ablation.changed(LabelConfig(), {"detect.residual.no_such": 1})


def test_the_ablation_labels_one_scene_by_every_recipe_it_is_asked_for(
    ablation, monkeypatch, capsys
):
    command = ["ablation.py", "--seeds", "21", "--size", "96", "--steps", "default"]
    monkeypatch.setattr(sys, "argv", [*command, "no close pairs", "sep's noise"])
    ablation.main()
    _, heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["recipe", "labels", "completeness"]
    assert [row[: heading.index("labels")].strip() for row in rows] == [
        "default", "no close pairs", "sep's noise",
    ]  # fmt: skip
    found = [int(row[: heading.index("completeness")].split()[-1]) for row in rows]
    assert found[0] >= found[2] > 0


@pytest.fixture
def real_galaxies(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    found = importlib.util.spec_from_file_location("real_galaxies", FOLDER / "real_galaxies.py")
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "real_galaxies", module)  # its dataclasses look it up
    found.loader.exec_module(module)
    yield module
    sys.modules.pop("labels", None)


def test_the_galaxies_added_to_a_training_scene_are_many_kinds_and_always_the_same(real_galaxies):
    from large_galaxies import large_galaxies

    from astrolabel.core.config.simulate import SimulateConfig

    configs = [SimulateConfig(size=256, seed=seed) for seed in range(8)]
    drawn = [list(large_galaxies(config)) for config in configs]
    again = [list(large_galaxies(config)) for config in configs]
    assert [[(b.y, b.mags.tolist()) for b in d] for d in drawn] == [
        [(b.y, b.mags.tolist()) for b in d] for d in again
    ]
    bodies = [b for some in drawn for b in some]
    assert {len(some) for some in drawn} <= {1, 2, 3}
    assert all(b.real is not None and 0 < b.y < 256 and 0 < b.x < 256 for b in bodies)
    assert max(b.half_light_arcsec for b in bodies) > 3 * min(b.half_light_arcsec for b in bodies)


def test_sources_that_another_outshines_are_no_truth_to_learn_from(real_galaxies, tmp_path):
    import sky_model

    file = tmp_path / "coco.json"
    shares = (0.0, sky_model.OUTSHONE, 0.95)
    rows = [{"attributes": {"blendedness": s}, "iscrowd": 0} for s in shares]
    file.write_text(json.dumps({"images": [], "annotations": rows}))
    seen = json.loads(sky_model.seen(file).read_text())
    assert [row["iscrowd"] for row in seen["annotations"]] == [0, 0, 1]
    assert json.loads(file.read_text())["annotations"] == rows


def test_galaxies_to_tune_on_and_to_report_are_apart(real_galaxies):
    def columns(part):
        places = [p for kind in real_galaxies.HDF[part].values() for p in kind]
        return [(x - half, x + half) for x, _, half in places]

    assert min(low for low, _ in columns("train")) >= 500
    assert max(high for _, high in columns("final")) < 535
    assert all((low + high) / 2 < 500 for low, high in columns("final"))


def test_without_the_data_one_line_says_what_is_missing(real_galaxies, monkeypatch, capsys):
    words = ["real_galaxies.py", "--part", "test", "--data", "/no/such/folder"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="no folder of real data at /no/such/folder"):
        real_galaxies.main()
    assert capsys.readouterr().out == ""


def test_grid_holds_one_galaxy_at_every_size_and_magnitude(real_galaxies):
    pytest.importorskip("skimage", reason="has the picture of the deep field")
    scene = real_galaxies.grid(real_galaxies.hdf(810, 608, 26, "late"))
    radii = {round(s.body.half_light_arcsec, 2) for s in scene.sources}
    assert radii == set(real_galaxies.GRID_RADII_ARCSEC)
    assert {s.body.i_mag for s in scene.sources} == set(real_galaxies.GRID_MAGS)
    assert len(scene.sources) == len(radii) * len(real_galaxies.GRID_MAGS)
    assert max(s.n_blended for s in scene.sources) == 1
