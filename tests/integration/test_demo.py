"""What `make demo` does once installed, at a small size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the demo trains: pip install astroseg")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo_ends_in_labels_a_model_and_a_report(tmp_path):
    sizes = ["TRAIN_SIZE=300", "TEST_SIZE=256", "STEPS=4", "FINE_STEPS=4"]
    done = subprocess.run(
        ["make", "run-demo", f"OUT={tmp_path}", f"BIN={Path(sys.executable).parent}", *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "labels/train/coco.json").read_text())
    truth = json.loads((tmp_path / "sky/train/truth.json").read_text())
    own = [a for a in document["annotations"] if "peak_outside" not in a["attributes"]["flags"]]
    # Two thirds of the sources or more have a label with a class of the catalog.
    assert len(own) > 0.66 * len(truth["annotations"])
    assert {c["name"] for c in document["categories"]} == {"galaxy", "star"}
    assert (tmp_path / "labels/test/preview/index.html").exists()
    report = json.loads((tmp_path / "labels/test/report.json").read_text())
    assert report["verdict"]["completeness"] > 0.6
    assert (tmp_path / "first/catalog.fits").exists()
    assert (tmp_path / "scratch/last.safetensors").exists()
    # Four steps neither lose what the built-in model knows nor teach a new one anything.
    ap = {
        name: json.loads((tmp_path / f"evaluation/{name}/metrics.json").read_text())["mask_ap"]
        for name in ("scratch", "fine-tuned")
    }
    assert ap["fine-tuned"]["mean"]["ap"]["value"] > ap["scratch"]["mean"]["ap"]["value"] + 0.1
    metrics = json.loads((tmp_path / "evaluation/fine-tuned/metrics.json").read_text())
    n_test = len(json.loads((tmp_path / "labels/test/coco.json").read_text())["annotations"])
    assert metrics["counts"]["truths"] == n_test > 20
    assert "<html" in (tmp_path / "evaluation/fine-tuned/report.html").read_text()[:200]
    # The fine-tuned model's numbers are printed beside the built-in one's.
    assert "this  built-in" in done.stdout
    for named in (
        "labels/test/coco.json",
        "labels/test/report.html",
        "evaluation/fine-tuned/report.html",
    ):
        assert str(tmp_path / named) in done.stdout
