"""What benchmarks/engines.py measures on: pictures, weights, settings, and the clock.

Everything that a program is measured by lies here, apart from the programs.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from astroseg.core.rle import encode_at
from astroseg.engines import get_engine
from astroseg.models.spec import ModelSpec, model_spec
from astroseg.weights.checkpoint import read_header

CLASSES = ("galaxy", "star")
PICTURES = 8
DENSITY = 75 / 256**2  # objects per px^2, as of the simulated tiles that tiny learns from
WARM = 2  # first steps not counted: allocations, caches, choice of algorithms
ANSWERS = ("objectness_logits", "predictor")


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


def write_weights(folder: Path, name: str, proposals: int, regions: int = 512) -> None:
    """Random weights of the model, in our format and as Detectron2 reads them."""
    spec = model_spec(
        name,
        channels=3,
        classes=CLASSES,
        score_threshold=0.0,  # random scores mean nothing: all that suppression leaves counts
        rpn_pre_nms_top_n=(proposals, proposals),
        rpn_post_nms_top_n=(proposals, proposals),
        roi_batch=regions,
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


class Turn(Clock):
    """A clock of one of several programs that take turns step by step in one process."""

    def __init__(self, device: str, turns: Turns, place: int, ticks: int) -> None:
        super().__init__(device)
        self.turns, self.place, self.left = turns, place, ticks
        self.seconds: list[float] = []

    def tick(self) -> None:
        """A step ends; the others' next ones are done before this program's next begins.

        After the last step this program goes on alone until it ends: what it does then is timed
        for none.
        """
        super().tick()
        self.left -= 1
        if len(self.times) > 1:
            self.seconds.append(self.times[-1] - self.times[-2])
        if self.left:
            self.turns.hand_on(self.place)
            super().tick()
            self.times = self.times[-1:]

    def result(self) -> dict[str, float]:
        """Median seconds of the steps after the first."""
        return {"seconds": statistics.median(self.seconds[WARM:])}


class Turns:
    """Whose turn it is among threads, of which one works at a time once all have begun.

    In every second round those after the first come in the opposite order: a step costs more after
    one that left little of its memory to it, so each follows each.
    """

    def __init__(self, count: int) -> None:
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._working = set(range(count))
        self._count, self._rounds, self._now = count, 0, -1
        self._order: list[int] = []

    def hand_on(self, place: int) -> None:
        """Let the next one work, and wait until it is this one's turn again."""
        with self._changed:
            self._waiting.add(place)
            self._next()
            self._changed.wait_for(lambda: self._now == place)
            self._waiting.discard(place)

    def end(self, place: int) -> None:
        """This one is done."""
        with self._changed:
            self._working.discard(place)
            self._next()

    def _next(self) -> None:
        """The next one's turn, as soon as all that still work wait."""
        if not self._working or not self._waiting >= self._working:
            return
        self._order = [k for k in self._order if k in self._working]
        if not self._order:
            others = list(range(1, self._count))
            self._order = [0, *(others[::-1] if self._rounds % 2 else others)]
            self._order = [k for k in self._order if k in self._working]
            self._rounds += 1
        self._now = self._order.pop(0)
        self._changed.notify_all()


def peak_mib(cuda: bool) -> float:
    """Largest memory so far: of the GPU's tensors, or of the process."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    # Linux counts in kB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def predictions(
    given: Settings, find: Callable[[Any], int], clock: Clock | None = None
) -> dict[str, float]:
    """Time a function from a red-green-blue picture to the number of its detections."""
    clock, found = clock or Clock(given.device), []
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
