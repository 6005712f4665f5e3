"""Metrics as a few lines of text for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astroseg.core.errors import InputError
from astroseg.core.files import read_json
from astroseg.evaluation.metrics.ap_report import ApReport
from astroseg.evaluation.metrics.bootstrap import Interval
from astroseg.evaluation.metrics.reliability import ALL_CLASSES
from astroseg.evaluation.metrics.results import Metrics


def summarise(metrics: Metrics) -> str:
    """The headline numbers with their 95 % intervals, and what was left out."""
    lines = []
    for name, report in (("mask", metrics.mask_ap), ("box", metrics.box_ap)):
        if report is not None:
            lines += _average_precision(name, report)
    lines.append(f"completeness  {_text(metrics.detection.completeness)}")
    lines.append(f"purity        {_text(metrics.detection.purity)}")
    for name, scores in metrics.classification.classes.items():
        lines.append(
            f"{name}, matched only: F1 {_text(scores.f1)}, precision "
            f"{_number(scores.precision.value)}, recall {_number(scores.recall.value)}"
        )
    found = metrics.deblending
    if found.mask is not None:
        lines.append(f"median mask IoU {_text(found.mask.median)}")
    width, height = found.baseline_size
    lines.append(
        f"median box IoU  {_text(found.box.median)}; a constant box of {width:.0f}x{height:.0f} "
        f"px has {_number(found.baseline.median.value)}"
    )
    error = metrics.reliability.curves[ALL_CLASSES].expected_calibration_error
    lines.append(f"expected calibration error of the scores {_number(error)}")
    for name, target in metrics.targets.items():
        lines.append(
            f"{name}: bias {_number(target.bias.value)}, scatter {_number(target.scatter.value)}, "
            f"outliers {_number(target.outliers.value)}, coverage of 68 % "
            f"{_number(target.coverage.value)} ({target.pairs} pairs)"
        )
    lines += [f"{name.replace('_', ' ')}: {count}" for name, count in metrics.counts.items()]
    lines += metrics.info.get("repairs", [])
    return "\n".join(lines)


def _average_precision(kind: str, report: ApReport) -> list[str]:
    rows = [
        f"{kind} AP {_text(report.mean.ap)}, AP50 {_number(report.mean.ap50.value)}, "
        f"AP75 {_number(report.mean.ap75.value)}"
    ]
    for name, scores in report.classes.items():
        rows.append(
            f"  {name}: AP {_number(scores.ap.value)}, AP50 {_number(scores.ap50.value)} "
            f"({scores.truths} objects)"
        )
    return rows


def _text(interval: Interval) -> str:
    low, high = _number(interval.low), _number(interval.high)
    return f"{_number(interval.value)} [{low}, {high}]"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def beside(metrics: Metrics, other: Path) -> str:
    """The headline numbers next to those of another evaluation's metrics.json.

    Raises
    ------
    InputError
        When the other file is not one of this program's.
    """
    ours, theirs = dataclasses.asdict(metrics), read_json(other)
    if not isinstance(theirs, dict) or theirs.get("schema") != metrics.schema:
        raise InputError(
            "not a metrics.json of this version", file=other, remedy="evaluate those again"
        )
    rows = [
        ("mask AP", "mask_ap.mean.ap"),
        ("mask AP50", "mask_ap.mean.ap50"),
        ("box AP50", "box_ap.mean.ap50"),
        ("completeness", "detection.completeness"),
        ("purity", "detection.purity"),
        *(
            (f"F1 {name}, matched only", f"classification.classes.{name}.f1")
            for name in metrics.classification.classes
        ),
        ("median mask IoU", "deblending.mask.median"),
    ]
    width = max(len(title) for title, _ in rows)
    lines = [f"{'':{width}}   this  {other.parent.name}"]
    for title, path in rows:
        here, there = (_number(_value(values, path)) for values in (ours, theirs))
        lines.append(f"{title:{width}}  {here:>5}  {there}")
    return "\n".join(lines)


def _value(values: Mapping[str, Any], path: str) -> float:
    """The value of an interval by its dotted place; NaN where it has none."""
    found: Any = values
    for key in (*path.split("."), "value"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float("nan") if found is None else float(found)
