"""Train on simulated DECam tiles and print the AP beside the paper's Table 6 (Appendix A).

    python benchmarks/decam.py --device cuda --weights r50-fpn-coco
    python benchmarks/decam.py --tiles 8 --size 128 --steps 20 --model tiny --device cpu

Simulates, trains, predicts, evaluates and prints, all below --out. Whatever is there already
is used: the command goes on where it was interrupted. The paper has 1000 tiles of 512x512
pixels in g, r, z with some 150 objects each to train with, 250 to choose the checkpoint by and
50 to test it, made with PhoSim. These are `astrolabel simulate`'s, with as many objects; for
another --tiles the other two sets shrink alike. Labels are the simulation's truth, as the
paper's are.

The schedule, crops and limits are the paper's, and --steps shortens them. Needs
astrolabel, whose command may be in another environment (--astrolabel).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from astroseg.core.config import DataConfig, configured
from astroseg.core.errors import AstrosegError
from astroseg.core.files import write_json
from astroseg.evaluation.evaluate import evaluate
from astroseg.evaluation.metrics.ap_report import ApReport
from astroseg.evaluation.metrics.results import Metrics
from astroseg.inference.predict import predict
from astroseg.models.spec import MODELS
from astroseg.training.train import STATE_NAME, train

SHARES = {"train": 1.0, "val": 0.25, "test": 0.05}  # of --tiles; the paper: 1000, 250, 50
FIRST_SEEDS = {"train": 100_001, "val": 200_001, "test": 300_001}
PAPER = {
    "R101-FPN": {"galaxy": {"lupton": 65.8, "lupton-hc": 58.3, "zscale": 29.8},
                 "star": {"lupton": 70.1, "lupton-hc": 64.3, "zscale": 54.3}},
    "MViTv2": {"galaxy": {"lupton": 62.5, "lupton-hc": 62.2, "zscale": 60.4},
               "star": {"lupton": 68.0, "lupton-hc": 68.6, "zscale": 66.4}},
}  # fmt: skip
"""Table 6: AP over IoU 0.50 to 0.95, of boxes or masks it does not say, in per cent."""
STRETCH = 0.05
"""Of the Lupton scalings, nanomaggies: some eight sky sigma of a band, as the paper's 0.5 is
of its HSC images. The 100 of its appendix is in PhoSim's counts."""


def tiles_of(tiles: int) -> dict[str, int]:
    """How many tiles each set has, one at least."""
    return {name: max(1, round(tiles * share)) for name, share in SHARES.items()}


def simulate(out: Path, given: argparse.Namespace) -> None:
    """Every tile that is not there yet, each a sky of its own."""
    jobs = [
        (out / name / f"{number:04d}", FIRST_SEEDS[name] + number)
        for name, count in tiles_of(given.tiles).items()
        for number in range(count)
    ]
    # The truth is written last, so a tile that has it is whole.
    missing = [job for job in jobs if not (job[0] / "truth.json").is_file()]

    def make(job: tuple[Path, int]) -> None:
        folder, seed = job
        command = [*given.astrolabel.datasets.split(), "simulate", str(folder), "--survey", "decam"]
        command += ["--size", str(given.size), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")

    with ThreadPoolExecutor(given.jobs) as pool:
        list(tqdm(pool.map(make, missing), "simulate", len(missing), disable=not missing))


def join(out: Path, name: str, tiles: int) -> Path:
    """One COCO file of a set's tiles; ids are counted through."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    document: dict[str, Any] = {}
    for number in range(tiles):
        folder = f"{name}/{number:04d}"
        document = json.loads((out / folder / "truth.json").read_text())
        [image] = document["images"]
        astro = image["astro"]
        astro["files"] = [f"{folder}/{file}" for file in astro["files"]]
        images.append({**image, "id": number + 1, "file_name": f"{folder}/{image['file_name']}"})
        for one in document["annotations"]:
            annotations.append({**one, "id": len(annotations) + 1, "image_id": number + 1})
    info = {"description": f"{tiles} simulated decam scenes: truth"}
    path = out / f"{name}.json"
    write_json(
        path, {**document, "info": info, "images": images, "annotations": annotations}, indent=None
    )
    print(f"{path}: {tiles} tiles, {len(annotations) / tiles:.0f} objects each")
    return path


def learn(out: Path, files: dict[str, Path], given: argparse.Namespace) -> Path:
    """Train, or go on; the best checkpoint by the validation set."""
    config = configured(
        "train",
        model=given.model,
        engine=given.engine,
        weights=given.weights,
        data=DataConfig(contrast=given.contrast, stretch=STRETCH),
        steps=given.steps,
        batch=given.batch_size,
        device=given.device,
        amp=given.amp,
    )
    run = out / f"run-{given.model}-{given.contrast}"
    resume = (run / STATE_NAME).is_file()
    result = train(files["train"], run, config, val_file=files["val"], resume=resume)
    if result.interrupted:
        sys.exit(f"stopped after step {result.step} of {result.steps}; the same command goes on")
    return result.checkpoint


def score(checkpoint: Path, truth: Path, given: argparse.Namespace) -> Metrics:
    """Predictions of the test set down to a low score, and their metrics."""
    run = checkpoint.parent
    found = predict(
        checkpoint,
        [str(truth)],
        run / "predictions",
        configured("predict", score=0.05, engine=given.engine, device=given.device),
    )
    return evaluate(truth, found.results, run / "evaluation", configured("evaluate", band="r"))


def table(metrics: Metrics, given: argparse.Namespace) -> str:
    """Markdown: AP of boxes and masks beside the paper's, in per cent."""
    names = [f"{name} (paper)" for name in PAPER]
    lines = [
        f"{given.model}, {given.contrast}, {given.tiles} tiles of {given.size}x{given.size}",
        "",
        f"| class | boxes | masks | {' | '.join(names)} |",
        "|" + "---|" * (3 + len(names)),
    ]
    for name in ("galaxy", "star"):
        ours = [percent(report, name) for report in (metrics.box_ap, metrics.mask_ap)]
        theirs = [f"{one[name][given.contrast]:.1f}" for one in PAPER.values()]
        lines.append(f"| {name} | {' | '.join([*ours, *theirs])} |")
    return "\n".join(lines)


def percent(report: ApReport | None, name: str) -> str:
    """AP of a class in per cent; a dash where no test tile holds one."""
    if report is None or name not in report.classes:
        return "-"
    value = report.classes[name].ap.value
    return f"{100 * value:.1f}" if math.isfinite(value) else "-"


def main() -> None:
    """All steps, or what is left of them."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("decam"))
    parser.add_argument("--tiles", type=int, default=1000, help="to train with")
    parser.add_argument("--size", type=int, default=512, help="of a tile, px")
    parser.add_argument("--model", default="r50-fpn", choices=list(MODELS))
    parser.add_argument("--weights", default="", help="to start from, as of astroseg train")
    parser.add_argument("--contrast", default="lupton", choices=("lupton", "lupton-hc", "zscale"))
    parser.add_argument("--steps", type=int, help="instead of the schedule's 50 epochs")
    parser.add_argument("--batch-size", type=int, help="instead of the schedule's")
    parser.add_argument("--engine", default="auto", choices=("auto", "torchvision", "detectron2"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--amp", default="auto", choices=("auto", "off", "bf16", "fp16"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="simulations at once")
    parser.add_argument("--astrolabel", default="astrolabel", help="command that simulates")
    given = parser.parse_args()
    try:
        run(given)
    except AstrosegError as problem:
        sys.exit(f"decam.py: {problem}")


def run(given: argparse.Namespace) -> None:
    """Simulate, train, predict, evaluate, print."""
    simulate(given.out, given)
    files = {name: join(given.out, name, n) for name, n in tiles_of(given.tiles).items()}
    print(table(score(learn(given.out, files, given), files["test"], given), given))


if __name__ == "__main__":
    main()
