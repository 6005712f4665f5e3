"""The command line: what it says, its exit codes, and a whole small run of the real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from train_helpers import write_sky_set

from astroseg.cli.main import main


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sky_set(tmp_path_factory.mktemp("skies"), 4, size=64, sources=8)


def train(skies: Path, out: Path, *more: str) -> int:
    options = ["--model", "tiny", "--out", str(out), "--steps", "2", "--device", "cpu"]
    return main(["train", str(skies), *options, "--workers", "0", "--quiet", *more])


def test_train_predict_evaluate_and_resume(
    tmp_path: Path, skies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "predictions"
    assert train(skies, run, "--val", str(skies)) == 0
    assert "best.safetensors" in capsys.readouterr().out
    assert train(skies, run, "--val", str(skies), "--resume") == 0  # nothing left to do
    command = ["predict", str(run / "last.safetensors"), str(skies), "--out", str(out)]
    assert main([*command, "--score", "0.01", "--overlays", "1", "--quiet"]) == 0
    capsys.readouterr()
    evaluation = tmp_path / "evaluation"
    results = str(out / "predictions.json")
    assert main(["evaluate", str(skies), results, "--out", str(evaluation), "--no-report"]) == 0
    assert "mask AP" in capsys.readouterr().out
    assert (evaluation / "metrics.json").is_file()


@pytest.mark.parametrize("kind", ["records", "polygons"])
def test_records_and_polygons_train(tmp_path: Path, skies: Path, kind: str) -> None:
    document = json.loads(skies.read_text())
    by_image: dict[int, list[dict[str, object]]] = {}
    for item in document["annotations"]:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        by_image.setdefault(item["image_id"], []).append(
            {
                "bbox": [x, y, x + w, y + h],
                "bbox_mode": 0,
                "category_id": item["category_id"] - 1,
                "segmentation": item["segmentation"],
            }
        )
    records = [
        {
            "file_name": image["astro"]["cube"],
            "image_id": 1,
            "height": 64,
            "width": 64,
            "annotations": by_image[image["id"]],
        }
        for image in document["images"]
    ]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(records if kind == "records" else document))
    more = ["--images", str(skies.parent)]
    more += ["--classes", "galaxy,star"] if kind == "records" else []
    assert train(path, tmp_path / "run", *more) == 0


def test_models_lists_sizes_and_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "43.92 M" in out  # R50-FPN with two classes, as Detectron2 has it
    assert "licence" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["train", "none.json", "--model", "tiny", "--out", "run"], "no such file"),
        (["predict", "none.safetensors", "a.fits", "--out", "p"], "no such"),
        (["evaluate", "none.json", "none.json", "--out", "e"], "no such file"),
    ],
)
def test_error_is_one_line_and_exit_code_two(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("astroseg: ")
    assert problem in said
    assert said.count("\n") == 1


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path: Path) -> None:
    words = ["predict", "--images", "n\u00e4mlich", "--print-config"]
    run = subprocess.run(
        [sys.executable, "-m", "astroseg", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"},
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "n\\xe4mlich" in run.stdout


def test_unknown_model_names_those_there_are(
    tmp_path: Path, skies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "r51-fpn", "--out", str(tmp_path), "--quiet"]
    assert main(["train", str(skies), *options]) == 2
    assert "unknown model 'r51-fpn'; did you mean r50-fpn?" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--score", "1.5"], ["--tile-size", "-1"], ["--format", "csv"]])
def test_option_that_makes_no_sense_is_refused(
    bad: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "a", "b", "--out", "c", *bad]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["train", "none.json", "--out", "r", "--lrr", "3"],
        ["train", "none.json", "--out", "r", "--model", "tinny"],
        ["train", "none.json", "--out", "r", "--schedule", "papper"],
        ["train", "none.json", "--out", "r", "--data.contrast", "blue"],
        ["train", "none.json", "--out", "r"],
        ["trian", "none.json"],
        ["train", "--help"],
        ["predict", "--print-config"],
    ],
)
def test_wrong_words_and_help_need_no_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom astroseg.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'astropy', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") <= 1


def test_help_shows_examples_and_needs_no_torch() -> None:
    code = (
        "import sys\nfrom astroseg.cli.main import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout
    assert "--resume" in done.stdout
