"""One self-contained HTML page that answers: can I trust this model?

No script, no file beside it: plots and pictures are inside as data URIs, so the page can be
mailed and opened years later. Its only links are to the review page of the truth, if that is there.
Its text is in ``templates/report.html.j2``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup

from astroseg.evaluation import plots
from astroseg.evaluation.gallery import example_iou, tile_rows, typical_tile, worst_objects
from astroseg.evaluation.metrics.ap import SIZES
from astroseg.evaluation.metrics.ap_report import ApScores
from astroseg.evaluation.metrics.bins import Attribute
from astroseg.evaluation.metrics.bootstrap import Interval
from astroseg.evaluation.metrics.reliability import LEAST_IOU
from astroseg.evaluation.metrics.results import Evaluated
from astroseg.evaluation.pictures import CLASS_COLOURS, WRONG

DEPTH = 0.8
"""Completeness that defines the depth: the paper evaluates its star samples near it (4.2)."""

PAPER = {"galaxy": "0.994", "star": "0.884"}
"""F1 of the best of the paper's networks on labels from HST: text of 4.2 and Table 4."""


def page(result: Evaluated, *, tiles: int, review: str | None = None) -> str:
    """The page as HTML.

    Parameters
    ----------
    result : an evaluated test set.
    tiles : example tiles to show, worst first.
    review : address of astrolabel's review page of the truth, for links; None where there is
        none.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("astroseg.evaluation", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("report.html.j2").render(
        result=result,
        headline=_headline(result),
        notes=_notes(result),
        counted=[[name, f"{n:,}"] for name, n in result.metrics.counts.items()],
        least_iou=LEAST_IOU,
        **_about(result),
        **_average_precision(result),
        **_detection(result),
        **_classification(result),
        **_deblending(result),
        **_scores(result),
        **_targets(result),
        **_pictures(result, tiles, review),
    )
    return text.lstrip() + "\n"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _interval(item: Interval, *, percent: bool = False) -> Markup:
    """A value with its interval, times 100 to one digit where the paper does so."""
    scale, digits = (100, 1) if percent else (1, 3)
    text = Markup("<b>{}</b>").format(_number(item.value * scale, digits))
    if math.isfinite(item.low):
        low, high = (_number(end * scale, digits) for end in (item.low, item.high))
        text += Markup(' <span class="ci">[{}, {}]</span>').format(low, high)
    return text


def _about(result: Evaluated) -> dict[str, Any]:
    info = result.metrics.info
    said = info["predictions"]
    named = ("model", "engine", "checkpoint", "contrast")
    return {
        "model": [f"{k} {said[k]}" for k in named if isinstance(said.get(k), str | int | float)],
        "made_by": json.dumps(info, indent=1, default=str),
    }


def _headline(result: Evaluated) -> list[list[str]]:
    """The headline numbers, each with what it means and what the paper reached."""
    m, d = result.metrics, result.metrics.deblending
    rows = [
        ["Does it find what is there?", "completeness", _interval(m.detection.completeness), "–"],
        ["Is what it finds real?", "purity", _interval(m.detection.purity), "–"],
    ]
    rows += [
        ["How deep does it go?", f"{DEPTH:.0%} complete down to", _depth(result, item), "–"]
        for item in result.attributes
        if item.name.startswith("mag_")
    ]
    for name, scores in m.classification.classes.items():
        paper = PAPER.get(name.lower(), "–")
        question = f"Is a {name} called a {name}?"
        rows.append([question, "F1, matched only", _interval(scores.f1), paper])
    if d.mask is not None:
        rows.append(["Are outlines right?", "median mask IoU", _interval(d.mask.median), "0.65"])
    constant = Markup(
        'median box IoU<br><span class="dim">a constant box of {}×{} px</span>'
    ).format(*(_number(side, 0) for side in d.baseline_size))
    both = _interval(d.box.median) + Markup("<br>") + _interval(d.baseline.median)
    rows.append(["Are boxes right?", constant, both, Markup("0.94<br>–")])
    for kind, report in (("mask", m.mask_ap), ("box", m.box_ap)):
        if report is not None:
            value = _interval(report.mean.ap, percent=True)
            rows.append(["All of it at once", f"{kind} AP × 100", value, "–"])
    return rows


def _depth(result: Evaluated, attribute: Attribute) -> str:
    """The faint edge of the last bin up to which completeness stays above `DEPTH`."""
    curve = result.metrics.detection.curves[attribute.name].completeness
    reached = None
    for edge, value, count in zip(curve.edges[1:], curve.value, curve.count, strict=True):
        if count >= 5 and value < DEPTH:  # fewer than five objects say nothing
            break
        reached = edge
    if reached is None:
        return "nowhere"
    text = Markup("<b>{} = {:g}</b>").format(attribute.name.removeprefix("mag_"), reached)
    return text + " (the faintest truths)" if reached == curve.edges[-1] else text


def _notes(result: Evaluated) -> list[str]:
    """What a reader must know before trusting the table."""
    m = result.metrics
    c, d = m.counts, m.deblending
    small = result.data.truth.area[~result.data.truth.ignored] < 32**2
    absent = c["images not in the predictions file"]
    notes = []
    if c["images"] == 1:
        notes.append("There is only one image, so there are no intervals.")
    elif c["images"] < 10:
        notes.append(f"With {c['images']} images the intervals are themselves uncertain.")
    if d.pairs and d.box.median.value <= d.baseline.median.value:
        notes.append(
            "A constant box does as well as the model's: in this truth boxes hardly vary, so "
            "box IoU says nothing about deblending. Look at the masks."
        )
    if len(small) and small.mean() > 0.95:
        notes.append(
            f"{small.mean():.1%} of the truths are “small” in COCO's sense: AP by size says "
            "little here. See AP by magnitude, signal-to-noise and blendedness."
        )
    if absent:
        notes.append(f"{absent} images are not in the predictions file: their truths are missed.")
    if m.mask_ap is None:
        notes.append("One of the files has no masks: everything here is about boxes.")
    if not result.attributes:
        notes.append(
            "The truth has no magnitudes, signal-to-noise or blendedness under `attributes`: "
            "nothing is shown against them."
        )
    return notes


def _average_precision(result: Evaluated) -> dict[str, Any]:
    m, classes = result.metrics, result.data.classes
    kinds = {"mask": m.mask_ap, "box": m.box_ap}
    present = {kind: report for kind, report in kinds.items() if report is not None}
    reports = list(present.values())

    def cells(scores: Sequence[ApScores]) -> list[str]:
        return [_interval(item, percent=True) for s in scores for item in (s.ap, s.ap50, s.ap75)]

    rows = [[Markup("<b>mean of classes</b>"), *cells([r.mean for r in reports])]]
    rows += [[name, *cells([r.classes[name] for r in reports])] for name in classes]
    rows.append(["classes aside", *cells([r.any_class for r in reports])])
    for size in SIZES[1:]:
        means = [value for report in reports for value in report.sizes[size]["mean"]]
        rows.append([size.capitalize(), *(_number(100 * value, 1) for value in means)])
    shown = present.items() if result.attributes else ()
    return {
        "ap_head": ["", *(f"{kind} {what}" for kind in present for what in ("AP", "AP50", "AP75"))],
        "ap_rows": rows,
        "ap_in_bins": [
            (kind, plots.encode(plots.ap_bins(r.bins, result.attributes, [*classes, "any"], kind)))
            for kind, r in shown
        ],
    }


def _detection(result: Evaluated) -> dict[str, Any]:
    found = result.metrics.detection
    rows = [["all", _interval(found.completeness), _interval(found.purity)]]
    for name in result.data.classes:
        both = found.completeness_of_class[name], found.purity_of_class[name]
        rows.append([name, *(_interval(one) for one in both)])
    plot = None
    if result.attributes:
        plot = plots.encode(plots.detection_curves(found, result.attributes))
    return {"detection_rows": rows, "detection_plot": plot}


def _classification(result: Evaluated) -> dict[str, Any]:
    c, classes = result.metrics.classification, result.data.classes
    shown = ~result.pairs.below & ~result.pairs.ignored
    by_magnitude = []
    for item in result.attributes:
        if item.name.startswith("mag_"):
            numbers = plots.counts(result.data, item, result.placed[item.name].values, shown)
            curves = plots.class_curves(c, item, classes)
            by_magnitude.append((plots.encode(numbers), plots.encode(curves)))
    return {
        "class_rows": [
            [name, *(_interval(v) for v in (s.precision, s.recall, s.f1)),
             f"{s.true_positives:,}", f"{s.false_positives:,}", f"{s.false_negatives:,}"]
            for name, s in c.classes.items()
        ],
        "confusion_head": ["", *(f"called {name}" for name in classes)],
        "confusion": [
            [f"is {name}", *(f"{number:,}" for number in line)]
            for name, line in zip(classes, c.confusion, strict=True)
        ],
        "by_magnitude": by_magnitude,
    }  # fmt: skip


def _deblending(result: Evaluated) -> dict[str, Any]:
    d = result.metrics.deblending
    width, height = (_number(side, 1) for side in d.baseline_size)
    overlaps = {"boxes": d.box} | ({} if d.mask is None else {"masks": d.mask})
    overlaps |= {f"masks, {name}": one for name, one in d.mask_of_class.items()}
    overlaps[f"constant box of {width}×{height} px"] = d.baseline
    return {
        "deblending_rows": [
            [name, _interval(one.median), *(_number(q) for q in one.quartiles)]
            for name, one in overlaps.items()
        ],
        "iou_plot": plots.encode(plots.iou_distributions(d)),
        "example": example_iou(result),
    }


def _scores(result: Evaluated) -> dict[str, Any]:
    m = result.metrics
    chosen, classes = m.info["config"]["evaluate"]["score_threshold"], m.info["classes"]
    thresholds = plots.threshold_curves(m.by_threshold, classes, chosen)
    reliability = plots.reliability_curves(m.reliability, classes)
    return {
        "threshold_plot": plots.encode(thresholds),
        "reliability_plot": plots.encode(reliability),
    }


def _link(review: str | None, name: str, x: float, y: float) -> str | None:
    """Address of a place on the review page, where there is one."""
    query = urlencode({"image": name, "x": f"{x:.1f}", "y": f"{y:.1f}"})
    return None if review is None else f"{review}#{query}"


def _targets(result: Evaluated) -> dict[str, Any]:
    """Of the learned attributes, where there are any."""
    scores = result.metrics.targets
    rows = [
        [name, f"{s.pairs:,}", *(_interval(v) for v in (s.bias, s.scatter, s.outliers)),
         _number(s.outlier_limit), _interval(s.coverage)]
        for name, s in scores.items()
    ]  # fmt: skip
    plot = plots.encode(plots.targets(result)) if scores else None
    return {"target_rows": rows, "target_plot": plot}


def _pictures(result: Evaluated, tiles: int, review: str | None) -> dict[str, Any]:
    """Worst objects and tiles, and a typical tile; nothing where no tiles are wanted."""
    if not tiles:
        return {"typical": None}
    names = enumerate(result.data.classes)
    key = [(CLASS_COLOURS[k % len(CLASS_COLOURS)], name) for k, name in names]
    return {
        "worst": [
            (
                kind.title,
                kind.stamps,
                [(f"{n} x {x:.1f} y {y:.1f}", _link(review, n, x, y)) for n, x, y in kind.places],
            )
            for kind in worst_objects(result)
        ],
        "key": [*key, (WRONG, "missed truth (left), detection without a truth (right)")],
        "tile_pictures": tile_rows(result, tiles),
        "typical": typical_tile(result),
    }
