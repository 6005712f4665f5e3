"""Settings: a tree of dataclasses read strictly from plain values, YAML and options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from astrolabel.core.config import LabelConfig, preset
from astrolabel.core.config.tree import changed, from_dict, parse, settings_of, to_dict, to_yaml
from astrolabel.core.errors import InputError
from astrolabel.core.yaml import parse_yaml, read_yaml


@dataclass(frozen=True)
class Leaf:
    width_px: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    """Width of the
    filter, pixels."""
    rounds: int = 3
    pair: tuple[float, float] = (0.8, 2.0)
    names: tuple[str, ...] = ()
    smooth: bool = True
    size: int | None = None


@dataclass(frozen=True)
class Root:
    kind: str = "plain"
    leaf: Leaf = field(default_factory=Leaf)


SETTINGS = {one.name: one for one in settings_of(Root())}


@pytest.mark.parametrize("name", ["default", "paper"])
@pytest.mark.parametrize("comments", [True, False])
def test_yaml_reads_back_as_the_same_tree(name, comments):
    config = preset(name)
    assert from_dict(LabelConfig, parse_yaml(to_yaml(config, comments))) == config
    assert from_dict(LabelConfig, to_dict(config)) == config


def test_help_is_the_docstring_below_the_attribute():
    assert SETTINGS["leaf.width_px"].help == "Width of the filter, pixels."
    assert SETTINGS["leaf.rounds"].help == ""
    assert "  # Width of the filter, pixels.\n  width_px: 2.0\n" in to_yaml(Root())


def test_what_is_not_given_is_the_bases():
    base = Root(leaf=Leaf(rounds=7))
    assert from_dict(Root, {"leaf": {"width_px": 3}}, base).leaf == Leaf(width_px=3.0, rounds=7)
    assert from_dict(Root, {}) == Root()
    assert changed(base, {"leaf.smooth": False}).leaf == Leaf(rounds=7, smooth=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"leaf": {"width_px": "3"}}, "leaf.width_px: expected number, got text"),
        ({"leaf": {"width_px": -1}}, "leaf.width_px: expected number > 0"),
        ({"leaf": {"width_px": float("nan")}}, "leaf.width_px"),
        ({"leaf": {"pair": [1.0, float("inf")]}}, "leaf.pair: not a finite number"),
        ({"leaf": {"rounds": 1.5}}, "leaf.rounds: expected integer, got number"),
        ({"leaf": {"rounds": True}}, "leaf.rounds"),
        ({"leaf": {"pair": [1]}}, "leaf.pair: expected list of length 2"),
        ({"leaf": {"widht_px": 3}}, "unknown setting leaf.widht_px; did you mean leaf.width_px?"),
        ({"width_px": 3}, "unknown setting width_px; did you mean leaf.width_px?"),
        ({"leaves": {}}, "unknown setting leaves; did you mean leaf?"),
        ({"leaf": 3}, "leaf: expected settings by name, got 3"),
        ({3: 3}, "unknown setting 3"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_value_is_one_line_that_names_it(values: Any, said: str):
    with pytest.raises(InputError) as error:
        from_dict(Root, values, file=Path("recipe.yaml"))
    assert str(error.value).startswith("recipe.yaml: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("leaf.width_px", "3", 3.0),
        ("leaf.width_px", "1e-4", 1e-4),
        ("leaf.width_px", ".5", 0.5),
        ("leaf.width_px", "5.", 5.0),
        ("leaf.width_px", "+5", 5.0),
        ("leaf.pair", ".5, -.25", (0.5, -0.25)),
        ("leaf.rounds", "4", 4),
        ("leaf.pair", "0.5,1", (0.5, 1.0)),
        ("leaf.pair", "[0.5, 1]", (0.5, 1.0)),
        ("leaf.names", "g,r", ("g", "r")),
        ("leaf.names", "", ()),
        ("leaf.smooth", "false", False),
        ("leaf.size", "9", 9),
        ("leaf.size", "none", None),
        ("kind", "[x]", "[x]"),
    ],
)
def test_the_text_of_an_option(name, text, value):
    got = parse(SETTINGS[name], text)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("leaf.width_px", "wide"), ("leaf.width_px", "0"), ("leaf.width_px", "nan"),
        ("leaf.rounds", "4.5"), ("leaf.rounds", "."), ("leaf.pair", "1"),
        ("leaf.pair", "[1"), ("leaf.smooth", "2"),
    ],
)  # fmt: skip
def test_text_that_is_no_such_value(name, text):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} '"):
        parse(SETTINGS[name], text)


def numbers(tree: Any, prefix: str = "") -> list[str]:
    return [one.name for one in settings_of(tree) if _is_number(one.default)]


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("name", numbers(LabelConfig()))
def test_another_number_is_another_hash(name):
    config = LabelConfig()
    value = {one.name: one.default for one in settings_of(config)}[name]
    many = isinstance(value, tuple)
    for other in (
        (tuple(v / 2 for v in value), tuple(2 * v for v in value))
        if many
        else (value + 1, value / 2)
    ):
        try:
            again = changed(config, {name: other})
            break
        except InputError:  # beyond its bounds, or a whole number is wanted
            continue
    assert again.digest() != config.digest()


def test_every_setting_of_a_run_has_help():
    assert [s.name for s in settings_of(LabelConfig()) if not s.help and s.name != "preset"] == []


def test_the_tree_holds_plain_frozen_values():
    def check(tree: Any) -> None:
        assert tree.__dataclass_params__.frozen
        for one in dataclasses.fields(tree):
            if dataclasses.is_dataclass(value := getattr(tree, one.name)):
                check(value)

    check(LabelConfig())
    assert hash(LabelConfig()) == hash(from_dict(LabelConfig, {}))


def test_yaml_numbers_and_mistakes(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1e-4\nb: 1.5e3\nc: -2E5\nd: e5\ne: -.5\n")
    assert read_yaml(path) == {"a": 1e-4, "b": 1500.0, "c": -2e5, "d": "e5", "e": -0.5}
    path.write_text("")
    assert read_yaml(path) == {}
    for text, said in (
        ("a: 1\na: 2\n", "given twice"), ("- 1\n", "not a mapping"), ("a: [1\n", "not YAML"),
        ('a: "\\ud800"\n', "not YAML"), ('"\\ud800": 1\n', "not YAML"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_yaml(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
