"""Truth and predictions in, `metrics.json` and a page of plots out. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from astroseg.core.errors import InputError
from astroseg.core.files import sha256, write_json, write_text
from astroseg.core.version import __version__
from astroseg.evaluation.metrics import bins, bootstrap
from astroseg.evaluation.metrics.ap_report import ap_report
from astroseg.evaluation.metrics.classification import classify, sweep
from astroseg.evaluation.metrics.deblending import deblend
from astroseg.evaluation.metrics.detection import detect
from astroseg.evaluation.metrics.matching import Pairs, box_candidates, mask_candidates, pair
from astroseg.evaluation.metrics.objects import EvaluationSet
from astroseg.evaluation.metrics.read import read
from astroseg.evaluation.metrics.results import Evaluated, Metrics

SCHEMA = 1
"""Of metrics.json; raised when a field changes its meaning."""


@dataclass(frozen=True)
class EvaluateConfig:
    """How to evaluate.

    Attributes
    ----------
    score_threshold : detections below it count in AP only; 0.5 as in the paper (4.3).
    iou_threshold : box IoU above which a detection and a truth may pair; 0.5 as in the
        paper (4.2). At least 0.5, or a detection may pair with a neighbour it hardly covers.
    band : of the magnitudes to bin by; the paper's i. Another one there is where absent.
    magnitude_step : width of the magnitude bins; 0.5 mag, a dozen bins over a survey's range.
    resamples : bootstrap draws; 1000 leaves the ends of a 95 % interval uncertain by some
        5 % of its width.
    seed : of the bootstrap, so that a run repeated gives the same file.
    tiles : example tiles on the page, worst first.
    report : whether to write the page.
    """

    score_threshold: float = 0.5
    iou_threshold: float = 0.5
    band: str = "i"
    magnitude_step: float = 0.5
    resamples: int = 1000
    seed: int = 1
    tiles: int = 4
    report: bool = True

    def __post_init__(self) -> None:
        checks = {
            "score_threshold must be in 0..1": 0 <= self.score_threshold <= 1,
            "iou_threshold must be in 0.5..1": 0.5 <= self.iou_threshold < 1,
            "magnitude_step must be above 0": self.magnitude_step > 0,
            "resamples must be at least 1": self.resamples >= 1,
            "tiles must be at least 0": self.tiles >= 0,
        }
        for problem, good in checks.items():
            if not good:
                raise InputError(problem, remedy="change that option")


def evaluate(truth: Path, predictions: Path, out: Path, config: EvaluateConfig) -> Metrics:
    """Evaluate predictions; write ``metrics.json`` and ``report.html`` into folder `out`.

    Raises
    ------
    InputError
        When a file is wrong or the two do not belong together (see `metrics.read.read`).
    OutputError
        When `out` cannot be written.
    """
    result = compute(read(truth, predictions), config, truth=truth, predictions=predictions)
    write_json(out / "metrics.json", dataclasses.asdict(result.metrics), indent=1)
    if config.report:
        from astroseg.evaluation.report import page

        write_text(out / "report.html", page(result, tiles=config.tiles))
    return result.metrics


def compute(
    data: EvaluationSet,
    config: EvaluateConfig,
    *,
    truth: Path | None = None,
    predictions: Path | None = None,
) -> Evaluated:
    """All metrics of a test set. The paths are recorded, not read but for their hashes."""
    weights = bootstrap.draw(len(data.images), config.resamples, config.seed)
    boxes = box_candidates(data.truth, data.detections)
    masks = mask_candidates(data.truth, data.detections) if data.has_masks else None
    pairs = pair(data.truth, data.detections, boxes, config.score_threshold, config.iou_threshold)
    attributes = bins.attributes(data.truth, config.band, config.magnitude_step)
    placed = {
        item.name: bins.place(item, data.truth, data.detections, boxes, pairs)
        for item in attributes
    }
    thresholds = np.round(np.arange(0.05, 1.0, 0.05), 2)
    metrics = Metrics(
        schema=SCHEMA,
        info=_info(data, config, truth, predictions),
        counts=_counts(data, pairs, attributes),
        box_ap=ap_report(data, "box", boxes, attributes, placed, weights),
        mask_ap=None
        if masks is None
        else ap_report(data, "mask", masks, attributes, placed, weights),
        detection=detect(data, pairs, attributes, placed, weights),
        classification=classify(data, pairs, attributes, weights),
        deblending=deblend(data, pairs, boxes, masks, weights),
        sweep=sweep(data, boxes, thresholds, config.iou_threshold),
    )
    return Evaluated(data, pairs, boxes, masks, attributes, placed, metrics)


def _counts(
    data: EvaluationSet, pairs: Pairs, attributes: tuple[bins.Attribute, ...]
) -> dict[str, int]:
    """What there was and what was left out."""
    with_detections = np.unique(data.detections.image)
    counts = {
        "images": len(data.images),
        "images without detections": len(data.images) - len(with_detections),
        "images not in the predictions file": len(data.without_predictions),
        "truths": int((~data.truth.crowd).sum()),
        "ignore regions": int(data.truth.crowd.sum()),
        "detections": len(data.detections),
        "detections below the score threshold": int(pairs.below.sum()),
        "detections on ignore regions": int(pairs.ignored.sum()),
        "matched pairs": len(pairs.truth),
        "truths missed": int(pairs.missed.sum()),
        "detections without a truth": int(pairs.spurious.sum()),
    }
    for item in attributes:
        outside = item.bin(data.truth.attributes[item.name]) < 0
        counts[f"truths without {item.name} or outside its bins"] = int(
            (outside & ~data.truth.crowd).sum()
        )
    return counts


def _info(
    data: EvaluationSet, config: EvaluateConfig, truth: Path | None, predictions: Path | None
) -> dict[str, Any]:
    """What made these numbers."""
    libraries = ("numpy", "scipy", "pycocotools", "faster-coco-eval", "matplotlib")
    files = {"truth": truth, "predictions": predictions}
    return {
        "astroseg": __version__,
        "libraries": {name: version(name) for name in libraries},
        "config": dataclasses.asdict(config),
        "files": {
            role: {"path": str(path), "sha256": sha256(path)}
            for role, path in files.items()
            if path is not None
        },
        "classes": list(data.classes),
        "repairs": list(data.repairs),
        "truth": dict(data.truth_info),
        "predictions": dict(data.prediction_info),
        "interval": f"{bootstrap.COVERAGE:.0%} bootstrap over images, {config.resamples} "
        f"resamples, seed {config.seed}",
    }
