"""What `make demo` does once installed, at a small size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("galsim", reason="the demo simulates: pip install astrolabel[simulate]")

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_ends_in_labels_and_pictures(tmp_path):
    done = subprocess.run(
        ["make", "run-demo", f"OUT={tmp_path}", "SIZE=400", f"BIN={Path(sys.executable).parent}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "labels/coco.json") in done.stdout
    document = json.loads((tmp_path / "labels/coco.json").read_text())
    truth = json.loads((tmp_path / "sky/truth.json").read_text())
    # Two thirds of the sources or more have a label with a class of the catalog.
    assert len(document["annotations"]) > 0.6 * len(truth["annotations"])
    assert {c["name"] for c in document["categories"]} == {"galaxy", "star"}
    assert (tmp_path / "labels/preview/index.html").exists()
    assert len(list((tmp_path / "labels/preview").glob("*.png"))) == len(document["images"])
