"""The benchmarks' commands at toy size: what they say is not judged, but that they run."""

import importlib.util
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
        ablation.changed(LabelConfig(), {"detect.hidden.no_such": 1})


def test_the_ablation_labels_one_scene_by_every_recipe_it_is_asked_for(
    ablation, monkeypatch, capsys
):
    command = ["ablation.py", "--seeds", "21", "--size", "96", "--steps", "default"]
    monkeypatch.setattr(sys, "argv", [*command, "no pairs", "sep's noise"])
    ablation.main()
    _, heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["recipe", "labels", "completeness"]
    assert [row[: heading.index("labels")].strip() for row in rows] == [
        "default", "no pairs", "sep's noise",
    ]  # fmt: skip
    found = [int(row[: heading.index("completeness")].split()[-1]) for row in rows]
    assert found[0] >= found[2] > 0
