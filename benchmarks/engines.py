"""Speed and memory of training and prediction, beside Detectron2's own trainer and predictor.

    python benchmarks/engines.py [--model r50-fpn] [--size 256] [--batch 2] [--steps 4]
                                 [--device cpu|cuda] [--amp] [--rounds 3]

One run measures, on the same pictures, the same model and the same weights:

- this program's trainer and prediction on the engine torchvision,
- the same on the engine detectron2,
- Detectron2's own DefaultTrainer and DefaultPredictor.

Where Detectron2 is not installed only the first is measured, and the table says so. Every
measurement is a process of its own, because the largest memory of a process never goes down
again; the rounds go through all of them in turn, so that a machine busy for a while slows
all alike, and medians are printed. On a CPU seconds are of processor time on --threads
threads, without data workers; on a GPU of wall time, and the memory is the GPU's.

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
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from astroseg.config import DataConfig, TrainConfig
from astroseg.engines import get_engine
from astroseg.engines.detectron2 import Detectron2Engine
from astroseg.models.spec import MODELS, ModelSpec, model_spec
from astroseg.rle import encode_at
from astroseg.train import train
from astroseg.weights import read_checkpoint, read_header

CLASSES = ("galaxy", "star")
PICTURES = 8
DENSITY = 75 / 256**2  # objects per px^2, as of the simulated tiles that tiny learns from
WARM = 2  # first steps not counted: allocations, caches, choice of algorithms
TASKS = ("train", "predict")
OURS = ("torchvision", "detectron2")
THEIRS = "Detectron2's own"
ANSWERS = ("objectness_logits", "predictor")


# --- what is measured: pictures, weights, settings


def write_pictures(folder: Path, size: int) -> None:
    """PICTURES pictures of round objects and their COCO file."""
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    rows, columns = np.mgrid[:size, :size]
    for number in range(1, PICTURES + 1):
        picture = rng.normal(20, 5, (size, size, 3))
        for _ in range(max(1, round(DENSITY * size**2))):
            y, x = rng.integers(6, size - 6, 2)
            radius = rng.uniform(2, 6)
            inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
            picture[inside] += rng.uniform(40, 180, 3)
            height, width = np.nonzero(inside)
            y0, x0, y1, x1 = height.min(), width.min(), height.max() + 1, width.max() + 1
            rle = encode_at(inside[y0:y1, x0:x1], (int(y0), int(x0)), (size, size))
            counts = rle["counts"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(1, 3)),
                    "bbox": [int(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "area": int(inside.sum()),
                    "iscrowd": 0,
                    "segmentation": {
                        "size": [size, size],
                        "counts": counts.decode() if isinstance(counts, bytes) else counts,
                    },
                }
            )
        name = f"{number}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / name)
        images.append({"id": number, "file_name": name, "height": size, "width": size})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(document))


def write_weights(folder: Path, name: str, proposals: int) -> None:
    """Random weights of the model, in our format and as Detectron2 reads them."""
    spec = model_spec(
        name,
        channels=3,
        classes=CLASSES,
        score_threshold=0.0,  # random scores mean nothing: all that suppression leaves counts
        rpn_pre_nms_top_n=(proposals, proposals),
        rpn_post_nms_top_n=(proposals, proposals),
        **({"rpn_top_n_area": None} if name == "tiny" else {}),
    )
    engine = get_engine("torchvision")
    model = engine.build(spec, seed=0)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("conv3.norm.weight"):
                value.fill_(0.2)  # else every block doubles what frozen statistics let pass
            elif key.endswith(".weight") and any(f".{answer}." in key for answer in ANSWERS):
                value.mul_(5)
    engine.save(model, folder / "weights.safetensors", {"contrast": "none"})
    torch.save({"model": model.state_dict()}, folder / "weights.pth")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one measurement, in its own process."""

    who: str
    task: str
    folder: str
    batch: int
    steps: int
    device: str
    amp: bool
    threads: int


class Clock:
    """Seconds of each step: of the processor, or of a GPU that has finished its work."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.times: list[float] = []
        self.peak = 0.0

    def tick(self) -> None:
        """A step begins, and the one before ends."""
        if self.cuda:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter() if self.cuda else time.process_time())
        self.peak = peak_mib(self.cuda)

    def result(self) -> dict[str, float]:
        """Median seconds of the steps after the first, and the memory up to the last."""
        seconds = [b - a for a, b in zip(self.times[WARM:], self.times[WARM + 1 :], strict=False)]
        return {"seconds": statistics.median(seconds), "mib": self.peak}


def peak_mib(cuda: bool) -> float:
    """Largest memory so far: of the GPU's tensors, or of the process."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    # Linux counts in kB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


# --- ours


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


def train_ours(given: Settings) -> dict[str, float]:
    """Our trainer on one engine."""
    folder, clock = Path(given.folder), Clock(given.device)
    steps = given.steps + WARM + 1
    with tempfile.TemporaryDirectory() as out:
        schedule = Path(out) / "bench.toml"
        schedule.write_text(
            f"batch = {given.batch}\ncrop = 1.0\n[[stages]]\nsteps = {steps}\nlr = 1e-6\n"
        )
        config = TrainConfig(
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


def predict_ours(given: Settings) -> dict[str, float]:
    """One picture after another through one engine."""
    engine = get_engine(given.who)
    model = engine.build(read_spec(Path(given.folder)))
    engine.load(model, Path(given.folder) / "weights.safetensors")
    model.to(given.device)

    def find(picture: Any) -> int:
        seen = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)
        return len(engine.predict(model, [seen])[0].masks)

    return predictions(given, find)


def predictions(given: Settings, find: Callable[[Any], int]) -> dict[str, float]:
    """Time a function from a red-green-blue picture to the number of its detections."""
    clock, found = Clock(given.device), []
    for step in range(given.steps + WARM):
        picture = np.array(Image.open(Path(given.folder) / f"{step % PICTURES + 1}.png"))
        clock.tick()
        found.append(find(picture))
    clock.tick()
    return {**clock.result(), "detections": statistics.median(found)}


def read_spec(folder: Path) -> ModelSpec:
    """Of the model that is measured."""
    spec = read_header(folder / "weights.safetensors").spec
    assert spec is not None
    return spec


# --- Detectron2's


def their_config(given: Settings, out: str) -> Any:
    """Detectron2's configuration of the same model, data and step."""
    from detectron2.config import get_cfg

    from astroseg.engines.detectron2_config import settings

    folder = Path(given.folder)
    spec = read_spec(folder)
    size = Image.open(folder / "1.png").size[0]
    values: dict[str, Any] = {} if needs_adapter(spec, given) else dict(settings(spec))
    values |= {
        "MODEL.DEVICE": given.device,
        "MODEL.MASK_ON": True,  # its reader of data asks that too
        "MODEL.WEIGHTS": str(folder / "weights.pth"),
        "INPUT.FORMAT": "BGR" if spec.reverse_channels else "RGB",
        "INPUT.MASK_FORMAT": "bitmask",
        "INPUT.MIN_SIZE_TRAIN": [size],
        "INPUT.MAX_SIZE_TRAIN": size,
        "INPUT.MIN_SIZE_TEST": size,
        "INPUT.MAX_SIZE_TEST": size,
        "DATASETS.TRAIN": ["benchmark"],
        "DATASETS.TEST": [],
        "DATALOADER.NUM_WORKERS": 4 if given.device == "cuda" else 0,
        "SOLVER.IMS_PER_BATCH": given.batch,
        "SOLVER.MAX_ITER": given.steps + WARM + 1,
        "SOLVER.BASE_LR": 1e-6,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.STEPS": [],
        "SOLVER.AMP.ENABLED": given.amp,
        "OUTPUT_DIR": out,
    }
    config = get_cfg()
    config.merge_from_list([part for item in values.items() for part in item])
    return config


def needs_adapter(spec: ModelSpec, given: Settings) -> bool:
    """Whether Detectron2's trainer gets the model that our engine builds of its parts.

    Its yacs configuration has no transformers, and its own deformable convolutions train on
    GPUs only.
    """
    return spec.backbone != "resnet" or bool(spec.deform_stages and given.device == "cpu")


def their_models(given: Settings) -> None:
    """Let Detectron2's trainer and predictor build what its configuration cannot say."""
    from detectron2.engine import defaults

    spec = read_spec(Path(given.folder))

    def build(config: Any) -> torch.nn.Module:
        return get_engine("detectron2").build(spec).to(config.MODEL.DEVICE)

    if needs_adapter(spec, given):
        defaults.build_model = build


def train_theirs(given: Settings) -> dict[str, float]:
    """Detectron2's DefaultTrainer."""
    from detectron2.data.datasets import register_coco_instances
    from detectron2.engine import DefaultTrainer, HookBase

    clock, folder = Clock(given.device), Path(given.folder)
    register_coco_instances("benchmark", {}, str(folder / "train.json"), str(folder))
    their_models(given)
    with tempfile.TemporaryDirectory() as out:
        trainer = DefaultTrainer(their_config(given, out))
        trainer.resume_or_load(resume=False)
        check_weights(trainer.model, folder)
        hook = HookBase()
        hook.before_step = clock.tick
        trainer.register_hooks([hook])
        trainer.train()
    return clock.result()


def predict_theirs(given: Settings) -> dict[str, float]:
    """Detectron2's DefaultPredictor."""
    from detectron2.engine import DefaultPredictor

    their_models(given)
    predictor = DefaultPredictor(their_config(given, given.folder))
    check_weights(predictor.model, Path(given.folder))

    def find(picture: Any) -> int:
        return len(predictor(np.ascontiguousarray(picture[..., ::-1]))["instances"])

    return predictions(given, find)


def check_weights(model: torch.nn.Module, folder: Path) -> None:
    """Stop if Detectron2 did not load every weight."""
    wanted, _ = read_checkpoint(folder / "weights.safetensors")
    held = model.state_dict()
    wrong = [k for k, v in wanted.items() if k not in held or not torch.equal(held[k].cpu(), v)]
    if wrong or len(wanted) != len(held):
        sys.exit(f"Detectron2 holds other weights: {wrong[:3]}, {len(held)} for {len(wanted)}")


# --- the table


def measure(given: Settings) -> dict[str, float]:
    """One measurement, in this process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    if given.who == THEIRS:
        return train_theirs(given) if given.task == "train" else predict_theirs(given)
    return train_ours(given) if given.task == "train" else predict_ours(given)


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
        cells = [task, name, f"{images / one['seconds']:.3g}", f"{one['mib']:.0f}"]
        if base is not None:
            cells += [f"{base['seconds'] / one['seconds']:.2f}", f"{one['mib'] / base['mib']:.2f}"]
        cells.append(f"{one['detections']:.0f}" if "detections" in one else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def heading(compared: bool) -> list[str]:
    """First two lines of the table."""
    cells = ["task", "program", "images/s", "peak MiB"]
    cells += ["speed to its own", "memory to its own"] if compared else []
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
        f"proposals, {given.device}, {'fp16' if given.amp else 'float32'}; medians of "
        f"{given.rounds} rounds of {given.steps} steps; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + (f"; {torch.cuda.get_device_name()}" if given.device == "cuda" else "")
    )
    results: dict[str, dict[str, list[dict[str, float]]]] = {
        task: {one: [] for one in who} for task in given.tasks
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, given.size)
        write_weights(folder, given.model, given.proposals)
        shared = {k: getattr(given, k) for k in ("batch", "steps", "device", "amp", "threads")}
        for number in range(given.rounds):
            for task, rounds in results.items():
                for one in who:
                    rounds[one].append(run(Settings(one, task, name, **shared)))
                    print(f"round {number + 1}: {task}, {one}", file=sys.stderr)
    print("\n".join(heading(len(who) > 1)))
    for task, rounds in results.items():
        print("\n".join(table(task, given.batch, rounds)))


if __name__ == "__main__":
    main()
