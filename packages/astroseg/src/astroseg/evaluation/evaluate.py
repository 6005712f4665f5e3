"""Truth and predictions in, `metrics.json` and a page of plots out. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from astroseg.core.config import Config, config_hash, configured, to_dict
from astroseg.core.files import sha256, write_json, write_text
from astroseg.core.version import __version__
from astroseg.evaluation.metrics import bins, bootstrap
from astroseg.evaluation.metrics.ap_report import ap_report
from astroseg.evaluation.metrics.classification import by_threshold, classify
from astroseg.evaluation.metrics.deblending import deblend
from astroseg.evaluation.metrics.detection import detect
from astroseg.evaluation.metrics.matching import Pairs, box_candidates, mask_candidates, pair
from astroseg.evaluation.metrics.objects import EvaluationSet
from astroseg.evaluation.metrics.read import read
from astroseg.evaluation.metrics.reliability import reliability
from astroseg.evaluation.metrics.results import Evaluated, Metrics
from astroseg.evaluation.metrics.targets import evaluate_targets

SCHEMA = 1
"""Of metrics.json; raised when a field changes its meaning."""


def evaluate(
    truth: str | Path,
    predictions: str | Path,
    out: str | Path | None = None,
    config: Config | None = None,
    **words: Any,
) -> Metrics:
    """Evaluate predictions against the truth.

    Parameters
    ----------
    truth, predictions : files (see `astroseg.evaluation.metrics.read.read`).
    out : folder for ``metrics.json`` and ``report.html``; None writes nothing.
    config : settings; `words` (``score=0.3``) win over them.

    Raises
    ------
    InputError
        When a file is wrong or the two do not belong together.
    OutputError
        When `out` cannot be written.

    Examples
    --------
    >>> metrics = evaluate("test.json", "found/predictions.json")  # doctest: +SKIP
    >>> metrics.mask_ap.mean.ap.value  # doctest: +SKIP
    """
    truth, predictions = Path(truth), Path(predictions)
    config = configured("evaluate", config, **words)
    data = read(
        truth,
        predictions,
        classes=config.data.classes,
        strict=config.data.strict,
        ignored_as_objects=config.data.iscrowd == "object",
    )
    result = compute(data, config, truth=truth, predictions=predictions)
    if out is None:
        return result.metrics
    write_json(Path(out) / "metrics.json", dataclasses.asdict(result.metrics), indent=1)
    if config.evaluate.report:
        from astroseg.evaluation.report import page

        review = review_of(result.data.folder, Path(out))
        text = page(result, tiles=config.evaluate.tiles, review=review)
        write_text(Path(out) / "report.html", text)
    return result.metrics


def review_of(truth: Path, out: Path) -> str | None:
    """Address, from a folder, of the review page that `astrolabel review` writes beside a truth
    file; None where there is none."""
    page = truth / "review" / "index.html"
    return quote(Path(os.path.relpath(page, out)).as_posix()) if page.is_file() else None


def compute(
    data: EvaluationSet,
    config: Config,
    *,
    truth: Path | None = None,
    predictions: Path | None = None,
) -> Evaluated:
    """All metrics of a test set. The paths are recorded, not read but for their hashes."""
    how = config.evaluate
    weights = bootstrap.draw(len(data.images), how.resamples, how.seed)
    boxes = box_candidates(data.truth, data.detections)
    masks = mask_candidates(data.truth, data.detections) if data.has_masks else None
    pairs = pair(data.truth, data.detections, boxes, how.score_threshold, how.iou_threshold)
    attributes = bins.attributes(data.truth, how.band, how.magnitude_step)
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
        by_threshold=by_threshold(data, boxes, thresholds, how.iou_threshold),
        reliability=reliability(data, boxes, "box")
        if masks is None
        else reliability(data, masks, "mask"),
        targets=evaluate_targets(data, pairs, how, weights),
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
        "truths": int((~data.truth.ignored).sum()),
        "ignore regions": int(data.truth.ignored.sum()),
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
            (outside & ~data.truth.ignored).sum()
        )
    return counts


def _info(
    data: EvaluationSet, config: Config, truth: Path | None, predictions: Path | None
) -> dict[str, Any]:
    """What made these numbers."""
    libraries = ("numpy", "scipy", "pycocotools", "faster-coco-eval", "matplotlib")
    files = {"truth": truth, "predictions": predictions}
    return {
        "astroseg": __version__,
        "libraries": {name: version(name) for name in libraries},
        "config": to_dict(config),
        "config_hash": config_hash(config),
        "files": {
            role: {"path": str(path), "sha256": sha256(path)}
            for role, path in files.items()
            if path is not None
        },
        "classes": list(data.classes),
        "repairs": list(data.repairs),
        "truth": dict(data.truth_info),
        "predictions": dict(data.prediction_info),
        "interval": f"{bootstrap.COVERAGE:.0%} bootstrap over images, {config.evaluate.resamples} "
        f"resamples, seed {config.evaluate.seed}",
    }
