"""Settings on the command line, and what the command line costs before it does anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from astrolabel.cli.main import main, parser
from astrolabel.cli.settings import settings
from astrolabel.core.config import LabelConfig, preset
from astrolabel.core.config.tree import from_dict, settings_of, to_yaml
from astrolabel.core.yaml import parse_yaml

HEAVY = {
    "numpy", "scipy", "astropy", "numba", "PIL", "matplotlib", "sep", "shapely", "joblib",
    "pycocotools", "galsim", "pyarrow", "mocpy", "jinja2", "requests",
}  # fmt: skip


def of(*words: str, command: str = "make-coco") -> LabelConfig:
    return settings(parser(command).parse(words))


@pytest.mark.parametrize("words", [("--help",), ("make-coco", "--help"), ("export", "--help")])
def test_help_loads_no_heavy_module(words):
    code = (
        "import sys\nfrom astrolabel.cli.main import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit:\n    pass\n"
        "print('loaded', *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


def test_importing_the_package_loads_no_heavy_module():
    code = "import sys, astrolabel; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (HEAVY | {"yaml", "msgspec", "argparse"}) & set(done.stdout.split()) == set()


def test_labelling_loads_nothing_that_few_runs_need():
    code = (
        "import sys, astrolabel.cli.labelling, astrolabel.io.find, astrolabel.label.pipeline\n"
        "print(*{m.partition('.')[0] for m in sys.modules}, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seldom = {"shapely", "matplotlib", "pyarrow", "requests", "scipy.stats"}
    seldom |= {"scipy.signal", "astrolabel.datasets", "astrolabel.simulate"}
    assert seldom & set(done.stdout.split()) == set()


@pytest.mark.parametrize("one", [*settings_of(LabelConfig())], ids=lambda one: one.name)
def test_every_setting_is_an_option_with_dashes_and_underscores(one):
    if one.name == "preset":
        assert of("--preset", "paper") == preset("paper")
        return
    values = parser("make-coco")._option_string_actions
    assert values[one.option].dest == values[f"--{one.name}"].dest == one.name


def test_a_file_wins_over_the_preset_and_an_option_over_the_file(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("preset: paper\nmask: {threshold_sigma: 4, min_area: 3}\n")
    config = of("--config", str(recipe), "--mask.min-area", "2")
    assert (config.mask.threshold_sigma, config.mask.min_area) == (4.0, 2)
    assert config.detect == preset("paper").detect
    later = tmp_path / "later.yaml"
    later.write_text("mask: {threshold_sigma: 6}\n")
    config = of("--config", str(recipe), "--config", str(later))
    assert (config.mask.threshold_sigma, config.mask.min_area) == (6.0, 3)
    assert of("--config", str(recipe), "--preset", "default").detect == LabelConfig().detect


def test_short_and_long_options_are_the_same_setting():
    assert of("--tile-size", "100") == of("--tile.size", "100") == of("--tile.size=100")
    assert of("--class-bands", "g,r").classify.class_bands == ("g", "r")
    assert of("--keep-unmatched").classify.keep_unmatched is True
    assert of("--keep-unmatched", "false").classify.keep_unmatched is False


def test_print_config_is_a_recipe_and_needs_no_input(capsys, tmp_path):
    assert main(["make-coco", "--preset", "paper", "--mask.faint", "0.9", "--print-config"]) == 0
    printed = capsys.readouterr().out
    wanted = of("--preset", "paper", "--mask.faint", "0.9")
    assert from_dict(LabelConfig, parse_yaml(printed)) == wanted
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(printed)
    assert of("--config", str(recipe)) == wanted
    for command in ("truth-coco", "relabel", "manifest build"):
        assert main([*command.split(), "--print-config"]) == 0, command


def test_help_config_explains_every_setting_or_those_asked_for(capsys):
    assert main(["make-coco", "--help-config"]) == 0
    everything = capsys.readouterr().out
    assert all(s.option in everything for s in settings_of(LabelConfig()) if s.name != "preset")
    assert main(["make-coco", "--help-config", "mask"]) == 0
    printed = capsys.readouterr().out
    assert "--mask.threshold-sigma NUMBER  (default 5.0)\n    Mask threshold" in printed
    assert "--tile.size" not in printed
    assert main(["make-coco", "--help-config", "nothing"]) == 2


def test_help_stays_short_and_says_how_to_see_more(capsys):
    with pytest.raises(SystemExit):
        main(["make-coco", "--help"])
    printed = capsys.readouterr().out
    assert "--help-config" in printed
    assert "--detect.threshold-sigma" not in printed
    assert len(printed.splitlines()) < 115


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("make-coco --mask.treshold-sigma 3", "did you mean --mask.threshold-sigma?"),
        ("make-coco --mask.threshold_sgima 3", "did you mean --mask.threshold-sigma?"),
        ("make-coco --faint 3", "did you mean --mask.faint?"),
        ("make-coco --bnads g", "did you mean --bands?"),
        ("make-coco --mask.faint dim", "--mask.faint 'dim': expected number"),
        ("make-coco --out", "expected one argument"),
        ("make-coc a", "did you mean make-coco?"),
        ("manifest chekc a.yaml", "did you mean manifest check?"),
        ("validate a.json b.json", "unexpected 'b.json'"),
        ("make-coco --config none.yaml --out o", "none.yaml: cannot be read"),
    ],
)
def test_a_wrong_word_is_one_line_that_names_the_nearest(words, said, capsys):
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("astrolabel: ")
    assert len(printed.err.splitlines()) == 1
    assert said in printed.err


def test_a_manifest_holds_settings(tmp_path, capsys):
    path = tmp_path / "m.yaml"
    text = (
        "schema: 2\nname: one\nsurvey: hsc\nbands: [g]\ntile_size: 90\n"
        'coadds: {patches: {"9813": ["4,5"]}}\nconfig:\n  mask: {threshold_sigma: 3}\n'
    )
    path.write_text(text)
    config = of("--manifest", str(path), "--mask.min-area", "2")
    assert (config.mask.threshold_sigma, config.mask.min_area, config.tile.size) == (3.0, 2, 90)
    path.write_text(text.replace("threshold_sigma", "treshold_sigma"))
    assert main(["manifest", "check", str(path)]) == 2
    said = capsys.readouterr().err
    assert "m.yaml: unknown setting mask.treshold_sigma; did you mean mask.threshold_sigma?" in said


def test_yaml_of_the_default_is_explained():
    lines = to_yaml(LabelConfig()).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.lstrip().startswith("#") for line in lines) > 50
