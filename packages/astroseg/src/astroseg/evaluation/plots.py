"""Plots of an evaluation: the paper's Figs. 5 to 9 for one run, and what goes with them.

Figures are made without pyplot: no global state, no window system.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from astroseg.evaluation.metrics.bins import Attribute
from astroseg.evaluation.metrics.bootstrap import Curve
from astroseg.evaluation.metrics.classification import ByThreshold, Classification
from astroseg.evaluation.metrics.deblending import Deblending
from astroseg.evaluation.metrics.detection import Detection
from astroseg.evaluation.metrics.objects import EvaluationSet
from astroseg.evaluation.metrics.reliability import ALL_CLASSES, Reliability
from astroseg.evaluation.metrics.results import Evaluated
from astroseg.evaluation.metrics.targets import target_pairs

CLASS_COLOURS = ("#1c7ed6", "#e8890c", "#7048e8", "#0ca678", "#d6336c", "#868e96")
"""Of curves on white, by class, in the order of `pictures.CLASS_COLOURS`."""

_INK, _GRID = "#343a40", "#e9ecef"


def figure(width: float, height: float, *, fitted: bool = True) -> Figure:
    """An empty figure of inches, 110 dots each: sharp at the width a page shows it.

    `fitted` makes room for labels.
    """
    made = Figure(figsize=(width, height), dpi=110, layout="constrained" if fitted else None)
    FigureCanvasAgg(made)
    return made


def tidy(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Labels, a light grid, no box."""
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#adb5bd")


def encode(made: Figure, *, photo: bool = False) -> str:
    """A figure as a data URI: PNG, or JPEG for photographs of the sky."""
    buffer = io.BytesIO()
    layout = made.get_layout_engine()
    if layout is not None:  # here, for savefig would draw everything once more
        layout.execute(made)
        made.set_layout_engine("none")
    if photo:
        # 88: noise and one-pixel outlines stay clean at a third of PNG's size.
        made.savefig(buffer, format="jpeg", pil_kwargs={"quality": 88})
    else:
        made.savefig(buffer, format="png")
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _places(attribute: Attribute) -> NDArray[np.float64]:
    """(B,) where the points of the bins go: their middle, or 0, 1, ... for counts."""
    e = attribute.edges
    if attribute.name == "n_blended":
        return np.arange(len(e) - 1, dtype=np.float64)
    return np.sqrt(e[:-1] * e[1:]) if attribute.log else (e[:-1] + e[1:]) / 2


def draw_curve(
    axes: Axes, curve: Curve, attribute: Attribute, *, colour: str, label: str, style: str = "-"
) -> None:
    """A binned fraction: its interval as a band; bins of under 5 objects hollow."""
    x, value = _places(attribute), np.array(curve.value)
    axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, value, style, color=colour, linewidth=1.6, label=label)
    few = np.array(curve.count) < 5
    axes.plot(x[~few], value[~few], "o", color=colour, markersize=4)
    axes.plot(x[few], value[few], "o", color=colour, markersize=4, markerfacecolor="white")


def _axis(axes: Axes, attribute: Attribute) -> None:
    edges = attribute.edges
    if attribute.log:
        axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
    elif attribute.name == "n_blended":
        low, high = edges[:-1].astype(int), edges[1:].astype(int) - 1
        names = [f"{a}" if a == b else f"{a}–{b}" for a, b in zip(low, high, strict=True)]
        axes.set_xticks(range(len(names)), [*names[:-1], f"≥{low[-1]}"])


def counts(
    data: EvaluationSet, attribute: Attribute, values: NDArray[np.float64], shown: NDArray[np.bool_]
) -> Figure:
    """Fig. 6: truths and detections of each class against magnitude."""
    made = figure(5.2, 3.6)
    axes = made.add_subplot()
    truth, edges = data.truth, attribute.edges
    mine = truth.attributes[attribute.name]
    for k, name in enumerate(data.classes):
        colour = CLASS_COLOURS[k % len(CLASS_COLOURS)]
        of_truth = mine[(truth.label == k) & ~truth.ignored & np.isfinite(mine)]
        of_found = values[(data.detections.label == k) & shown & np.isfinite(values)]
        axes.stairs(np.histogram(of_truth, edges)[0], edges, color=colour, alpha=0.25, fill=True)
        axes.stairs(
            np.histogram(of_truth, edges)[0], edges, color=colour, linewidth=1.4,
            label=f"{name}, truth",
        )  # fmt: skip
        axes.stairs(
            np.histogram(of_found, edges)[0], edges, color=colour, linewidth=1.4, linestyle="--",
            label=f"{name}, detected",
        )  # fmt: skip
    axes.set_yscale("log")
    tidy(axes, attribute.label, "objects per bin")
    axes.legend(frameon=False, fontsize=8)
    return made


def class_curves(
    classification: Classification, attribute: Attribute, classes: Sequence[str]
) -> Figure:
    """Fig. 7: matched-only precision and recall of each class against magnitude."""
    made = figure(4.2 * max(len(classes), 1), 3.4)
    panels = made.subplots(1, len(classes), squeeze=False, sharey=True)[0]
    for k, (axes, name) in enumerate(zip(panels, classes, strict=True)):
        both = classification.curves[attribute.name][name]
        colour = CLASS_COLOURS[k % len(CLASS_COLOURS)]
        draw_curve(axes, both.recall, attribute, colour=colour, label="recall")
        draw_curve(axes, both.precision, attribute, colour=_INK, label="precision", style="--")
        _axis(axes, attribute)
        axes.set_ylim(-0.03, 1.05)
        tidy(axes, attribute.label, "" if k else "fraction of pairs", name)
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    return made


def detection_curves(detection: Detection, attributes: Sequence[Attribute]) -> Figure:
    """Completeness and purity against each attribute."""
    made = figure(4.2 * len(attributes), 3.4)
    panels = made.subplots(1, len(attributes), squeeze=False, sharey=True)[0]
    for k, (axes, attribute) in enumerate(zip(panels, attributes, strict=True)):
        both = detection.curves[attribute.name]
        draw_curve(axes, both.completeness, attribute, colour="#0ca678", label="completeness")
        draw_curve(axes, both.purity, attribute, colour="#d6336c", label="purity", style="--")
        _axis(axes, attribute)
        axes.set_ylim(-0.03, 1.05)
        tidy(axes, attribute.label, "" if k else "fraction")
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    return made


def ap_bins(
    tables: dict[str, dict[str, dict[str, list[float]]]],
    attributes: Sequence[Attribute],
    classes: Sequence[str],
    kind: str,
) -> Figure:
    """AP50 (full) and AP (dashed) against each attribute, by class."""
    made = figure(4.2 * len(attributes), 3.4)
    panels = made.subplots(1, len(attributes), squeeze=False, sharey=True)[0]
    for k, (axes, attribute) in enumerate(zip(panels, attributes, strict=True)):
        x = _places(attribute)
        for c, name in enumerate(classes):
            colour = CLASS_COLOURS[c % len(CLASS_COLOURS)]
            row = tables[attribute.name][name]
            axes.plot(x, row["ap50"], "-o", color=colour, markersize=3, label=f"{name} AP50")
            axes.plot(x, row["ap"], "--", color=colour, linewidth=1, label=f"{name} AP")
        _axis(axes, attribute)
        axes.set_ylim(-0.03, 1.05)
        tidy(axes, attribute.label, "" if k else f"{kind} AP")
        if k == 0:
            axes.legend(frameon=False, fontsize=8)
    return made


def iou_distributions(deblending: Deblending) -> Figure:
    """Fig. 9: IoU of the pairs' boxes and masks, and of the constant box."""
    made = figure(8.4, 3.4)
    panels = made.subplots(1, 2)
    edges = np.array(deblending.edges)
    rows = [(panels[0], deblending.box, "#1c7ed6", "box")]
    if deblending.mask is not None:
        rows.append((panels[1], deblending.mask, "#0ca678", "mask"))
    else:
        panels[1].set_axis_off()
    for axes, overlap, colour, kind in rows:
        axes.stairs(overlap.histogram, edges, color=colour, fill=True, alpha=0.35)
        axes.stairs(
            overlap.histogram, edges, color=colour, label=f"median {overlap.median.value:.2f}"
        )
        if np.isfinite(overlap.median.value):
            axes.axvline(overlap.median.value, color=colour, linewidth=1.4)
        tidy(axes, f"{kind} IoU", "matched pairs")
    base = deblending.baseline
    panels[0].stairs(
        base.histogram, edges, color=_INK, linestyle="--",
        label=f"constant box, median {base.median.value:.2f}",
    )  # fmt: skip
    for axes, *_ in rows:
        axes.set_xlim(0, 1)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    return made


def threshold_curves(scores: ByThreshold, classes: Sequence[str], chosen: float) -> Figure:
    """What the score threshold does to classes, completeness, purity and numbers."""
    made = figure(12.6, 3.4)
    panels = made.subplots(1, 3)
    for k, name in enumerate(classes):
        colour = CLASS_COLOURS[k % len(CLASS_COLOURS)]
        panels[0].plot(scores.score, scores.f1[name], color=colour, label=f"{name} F1")
        panels[0].plot(scores.score, scores.precision[name], "--", color=colour, linewidth=0.9)
        panels[0].plot(scores.score, scores.recall[name], ":", color=colour, linewidth=1.2)
    panels[1].plot(scores.score, scores.completeness, color="#0ca678", label="completeness")
    panels[1].plot(scores.score, scores.purity, "--", color="#d6336c", label="purity")
    panels[2].plot(scores.score, scores.detections, color=_INK, label="detections")
    titles = ("classes, matched only (-- precision, ··· recall)", "detection", "how many are left")
    for axes, title in zip(panels, titles, strict=True):
        axes.axvline(chosen, color="#adb5bd", linewidth=1, zorder=0)
        tidy(axes, "score threshold", "", title)
        axes.set_ylim(bottom=0)
    for axes in panels[:2]:
        axes.set_ylim(-0.03, 1.05)
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    return made


def reliability_curves(reliability: Reliability, classes: Sequence[str]) -> Figure:
    """Fraction of right detections against their score, and how many there are."""
    made = figure(8.4, 3.4)
    left, right = made.subplots(1, 2)
    edges = np.array(reliability.edges)
    left.plot([0, 1], [0, 1], color="#adb5bd", linewidth=1, zorder=0)
    for k, name in enumerate((ALL_CLASSES, *classes)):
        one = reliability.curves[name]
        colour = CLASS_COLOURS[(k - 1) % len(CLASS_COLOURS)] if k else _INK
        known = np.array(one.count) > 0
        score, fraction = np.array(one.score)[known], np.array(one.right)[known]
        error = one.expected_calibration_error
        label = f"{name}, ECE {error:.3f}" if np.isfinite(error) else name
        left.plot(score, fraction, "-o", color=colour, markersize=4, linewidth=1.4, label=label)
        right.stairs(one.count, edges, color=colour, linewidth=1.4, fill=False)
    left.set_xlim(0, 1)
    left.set_ylim(-0.03, 1.05)
    tidy(left, "mean score", "fraction right")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    right.set_xlim(0, 1)
    if any(reliability.curves[ALL_CLASSES].count):
        right.set_yscale("log")
    tidy(right, "score", "detections")
    return made


def targets(result: Evaluated) -> Figure:
    """Predicted against true values of each learned attribute, with the quantiles."""
    names = result.data.targets
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    made = figure(4.2 * columns, 3.8 * rows)
    panels = made.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        one, scores = target_pairs(result.data, result.pairs, name), result.metrics.targets[name]
        tidy(axes, f"true {name}", f"predicted {name}")
        if not len(one.truth):
            continue
        # A thousand bars are a picture, more are a black square.
        shown = np.linspace(0, len(one.truth) - 1, min(len(one.truth), 1000)).astype(int)
        span = (one.truth[shown], one.low[shown], one.high[shown])
        axes.vlines(*span, color="#74c0fc", linewidth=0.6, alpha=0.6)
        axes.plot(one.truth[shown], one.found[shown], ".", color="#1c7ed6", markersize=3)
        ends = np.array([one.truth.min(), one.truth.max()])
        axes.plot(ends, ends, color=_INK, linewidth=1)
        limit = scores.outlier_limit * (1 + ends if scores.over_one_plus_z else 1)
        for sign in (-1, 1):
            axes.plot(ends, ends + sign * limit, "--", color="#adb5bd", linewidth=1)
        room = 0.1 * max(float(np.ptp(ends)), 1e-9)
        axes.set_xlim(ends[0] - room, ends[1] + room)
        axes.set_ylim(ends[0] - 2 * room, ends[1] + 2 * room)
    return made


def draw_iou_example(
    axes: Axes, truth: NDArray[np.float64], found: NDArray[np.float64], iou: float
) -> None:
    """Fig. 5: a truth's and a detection's XYWH box, what they share, and their IoU."""
    low = np.maximum(truth[:2], found[:2])
    high = np.minimum(truth[:2] + truth[2:], found[:2] + found[2:])
    axes.add_patch(Rectangle(tuple(low), *(high - low), color="#63e6be", alpha=0.35))
    for box, colour, label in ((truth, "#35c9ff", "truth"), (found, "#ffd43b", "detection")):
        axes.add_patch(
            Rectangle(tuple(box[:2]), *box[2:], fill=False, color=colour, linewidth=2, label=label)
        )
    axes.legend(fontsize=8, loc="upper right", framealpha=0.8)
    axes.set_title(f"IoU = {iou:.2f}", loc="left", fontsize=10, color=_INK)
