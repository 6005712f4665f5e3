"""Train on simulated DECam tiles and print the AP beside the paper's Table 6 (Appendix A).

    python benchmarks/decam.py --model sky --device cpu --steps 6000
    python benchmarks/decam.py --device cuda --weights r50-fpn-coco
    python benchmarks/decam.py --tiles 8 2 1 --size 128 --steps 20 --model tiny --device cpu

Draws, trains, predicts, evaluates and prints, all below --out. Whatever is there already
is used: the command goes on where it was interrupted. The paper has 1000 tiles of 512x512
pixels in g, r, z with some 150 objects each to train with, 250 to choose the checkpoint by and
50 to test it, made with PhoSim. These are `astrolabel simulate`'s, with as many objects. Labels
are the simulation's truth, as the paper's are.

The schedule, crops and limits are the paper's, and --steps shortens them. `--model sky` begins
with the built-in model instead, prints what it does unchanged, and fine-tunes it on crops of as
many pixels as it was trained on.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

from astrolabel.simulate import SimulateConfig, write_scenes
from astroseg.core.config import DataConfig, configured
from astroseg.core.errors import AstrosegError
from astroseg.evaluation.evaluate import evaluate
from astroseg.evaluation.metrics.ap_report import ApReport
from astroseg.evaluation.metrics.results import Metrics
from astroseg.inference.predict import predict
from astroseg.models.spec import MODELS
from astroseg.training.train import STATE_NAME, train

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
FINE_TUNING: dict[str, Any] = {"schedule.crop": 256.0, "schedule.ema": 0.998, "lr": 2e-3}
"""Of the built-in model: crops, mean and rate of the second half of its own training."""


def draw(out: Path, name: str, count: int, given: argparse.Namespace) -> Path:
    """COCO file of a set; its tiles that are not there yet are drawn, each a sky of its own."""
    skies = [
        SimulateConfig(survey="decam", size=given.size, seed=FIRST_SEEDS[name] + number)
        for number in range(count)
    ]
    info = {"description": f"{count} simulated decam scenes: truth"}
    return write_scenes(out / name, skies, info, given.jobs)


def learn(out: Path, files: dict[str, Path], given: argparse.Namespace) -> Path:
    """Train, or go on; the best checkpoint by the validation set."""
    built_in = given.model == "sky"
    # The built-in model has a contrast of its own.
    contrast = "auto" if built_in else given.contrast
    config = configured(
        "train",
        model=given.model,
        engine=given.engine,
        weights="sky" if built_in else given.weights,
        data=DataConfig(contrast=contrast, stretch=STRETCH),
        steps=given.steps,
        batch=given.batch_size,
        device=given.device,
        amp=given.amp,
        **(FINE_TUNING if built_in else {}),
    )
    run = out / f"run-{given.model}-{contrast}-{given.tiles[0]}"
    resume = (run / STATE_NAME).is_file()
    result = train(files["train"], run, config, val_file=files["val"], resume=resume)
    if result.interrupted:
        sys.exit(f"stopped after step {result.step} of {result.steps}; the same command goes on")
    return result.checkpoint


def score(checkpoint: str | Path, truth: Path, out: Path, given: argparse.Namespace) -> Metrics:
    """Predictions of the test set down to a low score, and their metrics."""
    found = predict(
        checkpoint,
        [str(truth)],
        out / "predictions",
        configured("predict", score=0.05, engine=given.engine, device=given.device),
    )
    how = configured("evaluate", band="r", report=False)
    return evaluate(truth, found.results, out / "evaluation", how)


def table(rows: dict[str, Metrics], given: argparse.Namespace) -> str:
    """Markdown: AP and AP50 of boxes and masks beside the paper's AP, in per cent."""
    columns = ["boxes", "masks", *(f"{name} (paper)" for name in PAPER)]
    lines = [
        f"{given.model}, {given.tiles[0]} tiles of {given.size}x{given.size}; AP (AP50)",
        "",
        f"| class | model | {' | '.join(columns)} |",
        "|" + "---|" * (2 + len(columns)),
    ]
    for name in ("galaxy", "star"):
        theirs = [f"{one[name][given.contrast]:.1f}" for one in PAPER.values()]
        for row, metrics in rows.items():
            ours = [percent(report, name) for report in (metrics.box_ap, metrics.mask_ap)]
            lines.append(f"| {name} | {row} | {' | '.join([*ours, *theirs])} |")
    return "\n".join(lines)


def percent(report: ApReport | None, name: str) -> str:
    """AP and AP50 of a class in per cent; a dash where no test tile holds one."""
    if report is None or name not in report.classes:
        return "-"
    found = report.classes[name]
    if not math.isfinite(found.ap.value):
        return "-"
    return f"{100 * found.ap.value:.1f} ({100 * found.ap50.value:.1f})"


def main() -> None:
    """All steps, or what is left of them."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("decam"))
    parser.add_argument(
        "--tiles", type=int, nargs=3, default=[1000, 250, 50], help="to train, choose and test with"
    )
    parser.add_argument("--size", type=int, default=512, help="of a tile, px")
    parser.add_argument("--model", default="r50-fpn", choices=list(MODELS))
    parser.add_argument("--weights", default="", help="to start from, as of astroseg train")
    parser.add_argument(
        "--contrast",
        default="lupton",
        choices=("lupton", "lupton-hc", "zscale"),
        help="of all but the built-in model, and of the paper's row",
    )
    parser.add_argument("--steps", type=int, help="instead of the schedule's 50 epochs")
    parser.add_argument("--batch-size", type=int, help="instead of the schedule's")
    parser.add_argument("--engine", default="auto", choices=("auto", "torchvision", "detectron2"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--amp", default="auto", choices=("auto", "off", "bf16", "fp16"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tiles drawn at once")
    given = parser.parse_args()
    try:
        run(given)
    except AstrosegError as problem:
        sys.exit(f"decam.py: {problem}")


def run(given: argparse.Namespace) -> None:
    """Draw, train, predict, evaluate, print."""
    counts = dict(zip(FIRST_SEEDS, given.tiles, strict=True))
    files = {name: draw(given.out, name, count, given) for name, count in counts.items()}
    rows: dict[str, Metrics] = {}
    if given.model == "sky":
        rows["unchanged"] = score("sky", files["test"], given.out / "unchanged", given)
    checkpoint = learn(given.out, files, given)
    name = "fine-tuned" if rows else "trained"
    rows[name] = score(checkpoint, files["test"], checkpoint.parent, given)
    print(table(rows, given))


if __name__ == "__main__":
    main()
