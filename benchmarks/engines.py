"""Speed and memory of training and prediction, beside Detectron2's own trainer and predictor.

    python benchmarks/engines.py [--model r50-fpn] [--size 256] [--batch 2] [--steps 4]
                                 [--device cpu|cuda] [--amp] [--rounds 3] [--in-turn]

One run measures, on the same pictures, the same model and the same weights:

- this program's trainer and prediction on the engine torchvision,
- the same on the engine detectron2,
- Detectron2's own DefaultTrainer and DefaultPredictor.

Where Detectron2 is not installed only the first is measured, and the table says so. Every
measurement is a process of its own, because the largest memory of a process never goes down
again; the rounds go through all of them in turn, so that a machine busy for a while slows
all alike, and medians are printed. With `--in-turn` one process does a step of each program after
another: what slows one slows all, and the start is paid once. On a CPU seconds are of processor
time on --threads threads, without data workers; on a GPU of wall time, and the memory is the GPU's.

The pictures are 8-bit and full of small objects; the weights random, scaled so that the
network answers differently to different pixels. A step of training is everything from one
batch to the next: reading, augmentation (flips), losses, gradients, SGD. A prediction is
everything from a picture to boxes, classes and masks. Ours are run-length encoded, which is
what is written and measured; DefaultPredictor's are bitmaps of the picture's size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_inputs import (
    CLASSES,
    WARM,
    Clock,
    Settings,
    Turn,
    Turns,
    predictions,
    read_spec,
    write_pictures,
    write_weights,
)
from engine_theirs import predict_theirs, train_theirs

from astroseg.core.config import DataConfig, configured
from astroseg.engines import get_engine
from astroseg.engines.detectron2.engine import Detectron2Engine
from astroseg.models.spec import MODELS, model_spec
from astroseg.training.train import train

TASKS = ("train", "predict")
OURS = ("torchvision", "detectron2")
THEIRS = "Detectron2's own"


class Timed:
    """An engine that tells a clock of every step; all else is the engine's."""

    def __init__(self, engine: Any, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def losses(self, model: Any, batch: Any) -> Any:
        """Of the engine."""
        self._clock.tick()
        return self._engine.losses(model, batch)


def train_ours(given: Settings, clock: Clock | None = None) -> dict[str, float]:
    """Our trainer on one engine."""
    folder, clock = Path(given.folder), clock or Clock(given.device)
    steps = given.steps + WARM + 1
    with tempfile.TemporaryDirectory() as out:
        schedule = Path(out) / "bench.toml"
        schedule.write_text(
            f"batch = {given.batch}\ncrop = 1.0\n[[stages]]\nsteps = {steps}\nlr = 1e-6\n"
        )
        config = configured(
            "train",
            model=read_spec(folder).name,
            engine=given.who,
            weights=str(folder / "weights.safetensors"),
            data=DataConfig(contrast="none"),
            schedule=str(schedule),
            # The type Detectron2's trainer has.
            amp="fp16" if given.amp else "off",
            device=given.device,
            workers=4 if given.device == "cuda" else 0,
        )
        engine: Any = Timed(get_engine(given.who), clock)
        train(folder / "train.json", Path(out) / "run", config, engine=engine, quiet=True)
    return clock.result()


def predict_ours(given: Settings, clock: Clock | None = None) -> dict[str, float]:
    """One picture after another through one engine."""
    engine = get_engine(given.who)
    model = engine.build(read_spec(Path(given.folder)))
    engine.load(model, Path(given.folder) / "weights.safetensors")
    model.to(given.device)

    def find(picture: Any) -> int:
        seen = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)
        return len(engine.predict(model, [seen])[0].masks)

    return predictions(given, find, clock)


def measure(given: Settings, clock: Clock | None = None) -> dict[str, float]:
    """One measurement, in this process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    if given.who == THEIRS:
        return (train_theirs if given.task == "train" else predict_theirs)(given, clock)
    return (train_ours if given.task == "train" else predict_ours)(given, clock)


def in_turn(every: Sequence[Settings]) -> list[dict[str, float]]:
    """All measurements in this process, a step of each in turn."""
    turns = Turns(len(every))

    def one(place: int) -> dict[str, float]:
        given = every[place]
        try:
            return measure(given, Turn(given.device, turns, place, given.steps + WARM + 1))
        finally:
            turns.end(place)

    with ThreadPoolExecutor(len(every)) as pool:
        return list(pool.map(one, range(len(every))))


def run(given: Settings) -> dict[str, float]:
    """One measurement, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", json.dumps(dataclasses.asdict(given))],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{given.task} with {given.who} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(task: str, batch: int, results: dict[str, list[dict[str, float]]]) -> list[str]:
    """Lines of Markdown: medians over the rounds, and their ratios to Detectron2's own."""
    images = batch if task == "train" else 1
    medians = {
        who: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for who, rounds in results.items()
    }
    base = medians.get(THEIRS)
    lines = []
    for who, one in medians.items():
        name = who if who == THEIRS else f"astroseg, {who}"
        cells = [task, name, f"{images / one['seconds']:.3g}"]
        if "mib" in one:
            cells.append(f"{one['mib']:.0f}")
        if base is not None:
            cells.append(f"{base['seconds'] / one['seconds']:.2f}")
        if base is not None and "mib" in one:
            cells.append(f"{one['mib'] / base['mib']:.2f}")
        cells.append(f"{one['detections']:.0f}" if "detections" in one else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def heading(compared: bool, memory: bool = True) -> list[str]:
    """First two lines of the table."""
    cells = ["task", "program", "images/s"]
    cells += ["peak MiB"] if memory else []
    cells += ["speed to its own"] if compared else []
    cells += ["memory to its own"] if compared and memory else []
    cells.append("detections")
    return [f"| {' | '.join(cells)} |", "|" + "---|" * len(cells)]


def main() -> None:
    """Measure everything in turn and print one table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default="r50-fpn", choices=list(MODELS))
    parser.add_argument("--size", type=int, default=256, help="of the square pictures, px")
    parser.add_argument("--batch", type=int, default=2, help="pictures per step of training")
    parser.add_argument("--steps", type=int, default=4, help="counted, after two to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="processes per measurement")
    parser.add_argument("--proposals", type=int, default=1000, help="of the first stage")
    parser.add_argument("--regions", type=int, default=512, help="sampled per picture in training")
    parser.add_argument(
        "--in-turn",
        action="store_true",
        help="a step of each program in turn, in one process: less noise, no memory",
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--amp", action="store_true", help="train in fp16; predictions stay float32"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(Settings(**json.loads(given.measure)))))
        return
    if given.amp and given.device == "cpu":
        parser.error("--amp needs --device cuda: Detectron2's mixed precision is fp16 on GPUs")
    report(given)


def report(given: argparse.Namespace) -> None:
    """All rounds of all measurements, and what they come to."""
    theirs = Detectron2Engine()
    lacking = theirs.available() or theirs.refusal(
        model_spec(given.model, channels=3, classes=CLASSES)
    )
    who: Sequence[str] = OURS[:1] if lacking else (*OURS, THEIRS)
    if lacking:
        print(f"only astroseg on torchvision is measured: {lacking}")
    versions = (get_engine("torchvision") if lacking else theirs).versions()
    print(
        f"{given.model}, {given.size}x{given.size}, batch {given.batch}, {given.proposals} "
        f"proposals, {given.regions} regions, {given.device}, "
        f"{'fp16' if given.amp else 'float32'}; medians of "
        f"{'steps in turn' if given.in_turn else f'{given.rounds} rounds'}, {given.steps} steps; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + (f"; {torch.cuda.get_device_name()}" if given.device == "cuda" else "")
    )
    results: dict[str, dict[str, list[dict[str, float]]]] = {
        task: {one: [] for one in who} for task in given.tasks
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, given.size)
        write_weights(folder, given.model, given.proposals, given.regions)
        shared = {k: getattr(given, k) for k in ("batch", "steps", "device", "amp", "threads")}
        for task, rounds in results.items() if given.in_turn else ():
            every = [Settings(one, task, name, **shared) for one in who]
            for one, result in zip(who, in_turn(every), strict=True):
                rounds[one].append(result)
        for number in range(0 if given.in_turn else given.rounds):
            for task, rounds in results.items():
                for one in who:
                    rounds[one].append(run(Settings(one, task, name, **shared)))
                    print(f"round {number + 1}: {task}, {one}", file=sys.stderr)
    print("\n".join(heading(len(who) > 1, not given.in_turn)))
    for task, rounds in results.items():
        print("\n".join(table(task, given.batch, rounds)))


if __name__ == "__main__":
    main()
