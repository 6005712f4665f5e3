"""Settings from files, options and Python are the same tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from astroseg.cli.main import main, parser
from astroseg.cli.settings import settings
from astroseg.core.config import WORDS, Config, config_hash, configured
from astroseg.core.config.tree import changed, from_dict, settings_of, to_yaml
from astroseg.core.errors import InputError
from astroseg.core.yaml import parse_yaml

NEEDED = {
    "train": ["t.json", "--out", "r"],
    "predict": ["m.safetensors", "a.fits", "--out", "p"],
    "evaluate": ["t.json", "p.json", "--out", "e"],
}


def of(command: str, *words: str) -> Config:
    return settings(parser(command).parse([*NEEDED[command], *words]))


@pytest.mark.parametrize("one", [*settings_of(Config())], ids=lambda one: one.name)
def test_every_setting_is_explained_and_changes_the_hash(one: Any) -> None:
    assert len(one.help) > 20
    others: dict[type, Any] = {
        bool: lambda v: not v,
        int: lambda v: v + 1,
        str: lambda v: v + "x",
        float: lambda v: v * 0.9,
    }
    other = others.get(type(one.default), lambda v: v)(one.default)
    try:
        config = changed(Config(), {one.name: other})
    except InputError:  # one of a few words
        return
    assert (config_hash(config) == config_hash(Config())) == (other == one.default)


@pytest.mark.parametrize("command", list(WORDS))
def test_every_short_word_is_an_option_and_names_a_setting(command: str) -> None:
    options = parser(command)._option_string_actions
    names = {one.name for one in settings_of(Config())}
    for word, name in WORDS[command].items():
        assert name in names
        assert options[f"--{word}"].dest == name
        assert options["--" + name.replace("_", "-")].dest == name


def test_options_win_over_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("schedule: {lr: 1e-3, batch: 4}\npredict: {score: 0.1}\n")
    second.write_text("schedule: {batch: 6}\n")
    config = of("train", "--config", str(first), "--config", str(second), "--schedule.lr", "2e-3")
    assert (config.schedule.lr, config.schedule.batch, config.predict.score) == (2e-3, 6, 0.1)
    assert of("train", "--lr", "2e-3") == of("train", "--schedule.lr=0.002")
    assert of("train", "--lr", "2e-3") == configured("train", lr=2e-3)


def test_lists_and_words_that_stand_alone() -> None:
    config = of("train", "--bands", "g,r", "--strict", "--model.anchor-sizes", "[[4], [8]]")
    assert config.data.bands == ("g", "r")
    assert config.data.strict is True
    assert config.model.anchor_sizes == ((4.0,), (8.0,))
    assert of("evaluate", "--no-report").evaluate.report is False


def test_print_config_is_a_file_that_gives_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--lr", "5e-4", "--data.contrast", "lupton", "--print-config"]) == 0
    path = tmp_path / "c.yaml"
    path.write_text(capsys.readouterr().out)
    assert of("train", "--config", str(path)) == configured("train", lr=5e-4, contrast="lupton")
    assert from_dict(Config, parse_yaml(to_yaml(Config()))) == Config()
    assert json.loads(json.dumps(parse_yaml(to_yaml(Config()))))


def test_a_detectron2_file_is_the_models(tmp_path: Path) -> None:
    path = tmp_path / "rcnn.yaml"
    path.write_text("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}\n")
    assert of("train", "--config", str(path)).model.file == str(path)
    assert of("train", "--config", "own.py").model.file == "own.py"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule: {lrr: 1}", r"unknown setting schedule.lrr; did you mean schedule.lr\?"),
        ("lr: 1", r"unknown setting lr; did you mean schedule.lr\?"),
        ("data: {stretch: -1}", "data.stretch: expected number > 0"),
        ("data: {bands: 3}", "data.bands: expected list"),
        ("data: [", "not YAML"),
    ],
)
def test_a_wrong_file_is_named_with_the_nearest_word(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        of("train", "--config", str(path))
    assert str(path) in str(caught.value)


def test_python_names_the_nearest_word() -> None:
    with pytest.raises(InputError, match=r"unknown setting 'scor'; did you mean score\?"):
        configured("predict", scor=0.3)


@pytest.mark.parametrize("text", ['predict: {score: "\\ud800"}', 'data: {images: "\\ud800"}'])
def test_half_a_character_in_a_recipe_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert main(["predict", "--config", str(tmp_path / "c.yaml"), "--print-config"]) == 2
    assert capsys.readouterr().err.startswith(f"astroseg: {tmp_path / 'c.yaml'}: not YAML")


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (("--class-weights", "1,2.5"), {"class_weights": (1.0, 2.5)}),
        (("--class-weights", "none"), {"class_weights": None}),
        (("--model.rpn-iou", "0.3,0.5"), {"rpn_iou": (0.3, 0.5)}),
        (("--model.anchor-sizes", "[[8], [16, 32]]"), {"anchor_sizes": ((8.0,), (16.0, 32.0))}),
    ],
)
def test_lists_that_may_be_absent_are_written_as_the_help_says(
    words: tuple[str, ...], read: dict[str, Any]
) -> None:
    model = of("train", *words).model
    assert {name: getattr(model, name) for name in read} == read
