"""Memory that the masks of a crowded prediction cost beyond the model.

    python benchmarks/predict_memory.py [--model tiny] [--size 1000] [--detections 800]

Each stage runs in a process of its own, because the largest memory of a process never goes
down again: the network up to its pyramid (what the image costs whatever is found), the
prediction without masks, and the whole prediction. The masks' cost is the difference of the
last two; "all detections beyond the network" also counts proposals and the box head.
The model has random weights, so its scores mean nothing; the threshold is 0, so that as
many detections as asked for go through the mask head and become RLE.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np
import torch

from astroseg.engines import get_engine
from astroseg.engines.torchvision import TorchvisionEngine
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.spec import MODELS, model_spec

STAGES = ("network", "boxes", "masks")
GOAL_GB = 0.5


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    # Linux counts in kB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def run(stage: str, name: str, size: int, detections: int) -> dict[str, float]:
    """One stage: memory before and at its peak, and detections."""
    torch.set_num_threads(1)
    engine = get_engine("torchvision")
    assert isinstance(engine, TorchvisionEngine)
    spec = model_spec(
        name,
        channels=3,
        classes=("galaxy", "star"),
        score_threshold=0.0,
        nms_threshold=0.9,
        nms_any_class=None,
        detections_per_image=detections,
    ).for_scratch()
    model = engine.build(spec, seed=0).eval()
    assert isinstance(model, MaskRcnn)
    image = np.random.default_rng(0).normal(size=(3, size, size)).astype(np.float32)
    before, found = peak_gb(), 0
    with torch.inference_mode():
        if stage == "network":
            model.backbone(model._stack([torch.tensor(image)]))
        elif stage == "boxes":
            model.roi_heads.register_module("mask_head", Nothing(2 * spec.mask_pool))
            found = len(model([torch.tensor(image)])[0].scores)
        else:
            [prediction] = engine.predict(model, [image])
            found = len(prediction.masks)
    return {"before_gb": before, "peak_gb": peak_gb(), "detections": found}


class Nothing(torch.nn.Module):
    """In the mask head's place: answers of no memory."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One constant, expanded."""
        return x.new_zeros(1, 1, 1, 1).expand(len(x), 2, self.side, self.side)


def main() -> None:
    """Run every stage and print what each costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", choices=list(MODELS))
    parser.add_argument("--size", type=int, default=1000, help="of the square image, px")
    parser.add_argument("--detections", type=int, default=800)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(run(given.stage, given.model, given.size, given.detections)))
        return
    results = {}
    for stage in STAGES:
        command = [sys.executable, __file__, "--stage", stage, "--model", given.model]
        command += ["--size", str(given.size), "--detections", str(given.detections)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[stage] = json.loads(output.splitlines()[-1])
    peaks = {stage: result["peak_gb"] for stage, result in results.items()}
    masks = peaks["masks"] - peaks["boxes"]
    print(f"{given.model}, {given.size}x{given.size}, {results['masks']['detections']} detections")
    print(f"model in memory                     {results['masks']['before_gb']:.3f} GB")
    print(f"peak of the network alone           {peaks['network']:.3f} GB")
    print(f"peak with boxes                     {peaks['boxes']:.3f} GB")
    print(f"peak with boxes and masks           {peaks['masks']:.3f} GB")
    print(f"all detections beyond the network   {peaks['masks'] - peaks['network']:.3f} GB")
    print(f"masks                               {masks:.3f} GB (goal: below {GOAL_GB} GB)")


if __name__ == "__main__":
    main()
