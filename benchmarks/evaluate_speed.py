"""CPU time and peak memory of `astroseg evaluate` beside pycocotools on a crowded test set.

The full size is that of the paper's test set at survey depth: 95 tiles of 1000x1000 pixels
with 600 truths and 800 detections each, 57,000 and 76,000 in all, boxes and masks. Each
side runs in its own process on the same files, from reading them to the last number:
astroseg everything it computes (AP with 1000 bootstrap resamples, matched-only scores,
curves, page), pycocotools AP alone with its limit of detections lifted.

    python benchmarks/evaluate_speed.py                 # minutes: pycocotools is slow
    python benchmarks/evaluate_speed.py --scale 0.05    # 5 tiles
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from astroseg.core.rle import encode_at

SIDE = 1000
IMAGES, TRUTHS, DETECTIONS = 95, 600, 800


def synthesize(folder: Path, images: int, seed: int = 0) -> tuple[Path, Path]:
    """Truth of random ellipses, and detections of most of them, twice of some, and of nothing."""
    rng = np.random.default_rng(seed)
    shapes = [_ellipse(rng) for _ in range(500)]
    annotations: list[dict[str, object]] = []
    predictions: list[dict[str, object]] = []
    for image in range(1, images + 1):
        corners = rng.integers(0, SIDE - 40, (TRUTHS, 2))
        kinds = rng.integers(0, len(shapes), TRUTHS)
        classes = rng.choice([1, 2], TRUTHS, p=[0.9, 0.1])
        for corner, kind, label in zip(corners, kinds, classes, strict=True):
            entry = _entry(shapes[kind], corner, image, int(label))
            entry |= {"id": len(annotations) + 1, "iscrowd": 0}
            magnitude = float(26 - rng.exponential(1.5))
            entry["attributes"] = {"mag_i": magnitude, "snr": 5 * 10 ** (0.4 * (26 - magnitude))}
            annotations.append(entry)
        found = rng.permutation(TRUTHS)[:540]
        again = np.concatenate([found, rng.choice(found, 100)])
        for k in again:
            corner = corners[k] + rng.integers(-1, 2, 2)
            label = int(classes[k]) if rng.random() < 0.95 else 3 - int(classes[k])
            predictions.append(_entry(shapes[kinds[k]], corner, image, label))
        for _ in range(DETECTIONS - len(again)):
            corner = rng.integers(0, SIDE - 40, 2)
            predictions.append(_entry(shapes[rng.integers(len(shapes))], corner, image, 1))
    for entry in predictions:
        entry["score"] = float(rng.random())
    truth = {
        "images": [
            {"id": k, "file_name": f"{k}.png", "height": SIDE, "width": SIDE}
            for k in range(1, images + 1)
        ],
        "categories": [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}],
        "annotations": annotations,
    }
    paths = folder / "truth.json", folder / "predictions.json"
    for path, content in zip(paths, (truth, predictions), strict=True):
        path.write_text(json.dumps(content))
    return paths


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    """A survey source's mask, median box some 13 pixels."""
    a = 3 + rng.exponential(4)
    b, angle = a * rng.uniform(0.5, 1), rng.uniform(0, np.pi)
    r = int(min(a, 18)) + 1
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


def _entry(shape: np.ndarray, corner: np.ndarray, image: int, label: int) -> dict[str, object]:
    y, x = (int(v) for v in np.clip(corner, 0, SIDE - max(shape.shape)))
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    box = [x + columns[0], y + rows[0], len(columns), len(rows)]
    return {
        "image_id": image,
        "category_id": label,
        "bbox": [float(v) for v in box],
        "area": int(shape.sum()),
        "segmentation": encode_at(shape, (y, x), (SIDE, SIDE)),
    }


def run_astroseg(truth: Path, predictions: Path, out: Path) -> dict[str, float]:
    """Our evaluation, page and all."""
    from astroseg.core.config import configured
    from astroseg.evaluation.evaluate import evaluate

    metrics = evaluate(truth, predictions, out, configured("evaluate"))
    assert metrics.mask_ap is not None
    return {"box": metrics.box_ap.mean.ap.value, "mask": metrics.mask_ap.mean.ap.value}


def run_pycocotools(truth: Path, predictions: Path, out: Path) -> dict[str, float]:
    """AP only. The detections' boxes are dropped for masks, as Detectron2 does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    result = {}
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        for name, kind in (("box", "bbox"), ("mask", "segm")):
            entries = json.loads(predictions.read_text())
            if kind == "segm":
                for entry in entries:
                    del entry["bbox"]
            engine = COCOeval(gt, gt.loadRes(entries), kind)
            engine.params.maxDets = [DETECTIONS]
            engine.evaluate()
            engine.accumulate()
            precision = engine.eval["precision"][:, :, :, 0, 0]
            result[name] = float(precision[precision > -1].mean())
    return result


Runner = Callable[[Path, Path, Path], dict[str, float]]


def _child(runner: Runner, paths: tuple[Path, Path, Path], pipe: object) -> None:
    result = runner(*paths)
    used = resource.getrusage(resource.RUSAGE_SELF)
    pipe.send((result, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20))  # type: ignore[attr-defined]


def measure(runner: Runner, *paths: Path) -> tuple[dict[str, float], float, float]:
    """The AP, CPU seconds and peak GiB of a runner in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(runner, paths, theirs))
    process.start()
    theirs.close()
    answer = ours.recv()
    process.join()
    return answer  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the 95 tiles")
    parser.add_argument("--only", choices=["astroseg", "pycocotools"], help="run one side")
    args = parser.parse_args()
    images = max(1, round(args.scale * IMAGES))
    runners: dict[str, Runner] = {"astroseg": run_astroseg, "pycocotools": run_pycocotools}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, predictions = synthesize(folder, images)
        print(f"{images} tiles, {images * TRUTHS} truths, {images * DETECTIONS} detections")
        seconds, scores = {}, {}
        for label, runner in runners.items():
            if args.only in (None, label):
                scores[label], seconds[label], peak = measure(
                    runner, truth, predictions, folder / "out"
                )
                print(f"{label:12s} {seconds[label]:8.1f} s CPU  {peak:5.2f} GiB peak", flush=True)
    if len(seconds) == 2:
        print(f"ratio        {seconds['pycocotools'] / seconds['astroseg']:8.1f}")
        for kind in ("box", "mask"):
            difference = abs(scores["astroseg"][kind] - scores["pycocotools"][kind])
            print(f"{kind} AP       {scores['astroseg'][kind]:.6f}, differs by {difference:.1e}")


if __name__ == "__main__":
    main()
