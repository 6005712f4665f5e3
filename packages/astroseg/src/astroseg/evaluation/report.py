"""One self-contained HTML page that answers: can I trust this model?

No script, no file beside it: plots and pictures are inside as data URIs, so the page can be
mailed and opened years later. Its only links are to the review page of the truth, if that is there.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from urllib.parse import urlencode

from astroseg.evaluation import plots
from astroseg.evaluation.gallery import example_iou, tile_rows, typical_tile, worst_objects
from astroseg.evaluation.metrics.ap import SIZES
from astroseg.evaluation.metrics.ap_report import ApReport, ApScores
from astroseg.evaluation.metrics.bins import Attribute
from astroseg.evaluation.metrics.bootstrap import Interval
from astroseg.evaluation.metrics.reliability import LEAST_IOU
from astroseg.evaluation.metrics.results import Evaluated, Metrics

DEPTH = 0.8
"""Completeness that defines the depth: the paper evaluates its star samples near it (4.2)."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#212529;background:#f8f9fa;margin:0}
main{max-width:1120px;margin:0 auto;padding:24px 28px 60px;background:#fff}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:38px 0 8px;padding-top:14px;
border-top:1px solid #dee2e6}h3{font-size:15px;margin:20px 0 4px}
p{margin:6px 0;max-width:80ch}.dim{color:#6c757d;font-size:13px}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px 5px 0;text-align:left;border-bottom:1px solid #e9ecef;vertical-align:top}
th{font-weight:600;color:#495057;font-size:13px}td.n,th.n{text-align:right}
td b{font-size:16px}.ci{color:#868e96;font-size:12.5px;white-space:nowrap}
.note{background:#fff9db;border-left:4px solid #fab005;padding:8px 14px;margin:8px 0;max-width:85ch}
img{max-width:100%;display:block;margin:8px 0}.two{display:flex;flex-wrap:wrap;gap:8px 24px}
.two>div{flex:1 1 420px}code{font-size:13px}.key span{display:inline-block;margin-right:18px}
.key i{display:inline-block;width:14px;height:3px;vertical-align:middle;margin-right:5px}
"""


def page(result: Evaluated, *, tiles: int, review: str | None = None) -> str:
    """The page as HTML.

    Parameters
    ----------
    result : an evaluated test set.
    tiles : example tiles to show, worst first.
    review : address of astrolabel's review page of the truth, for links; None where there is
        none.
    """
    metrics = result.metrics
    parts = [
        _head(metrics),
        _summary(result),
        _notes(result),
        _left_out(metrics),
        _ap_section(result),
        _detection_section(result),
        _classification_section(result),
        _deblending_section(result),
        _sweep_section(metrics),
        _reliability_section(metrics),
        _targets_section(result),
        _pictures_section(result, tiles, review),
        _made_by(metrics),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Evaluation</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _interval(item: Interval, *, percent: bool = False) -> str:
    """A value with its interval, times 100 to one digit where the paper does so."""
    scale, digits = (100, 1) if percent else (1, 3)
    text = f"<b>{_number(item.value * scale, digits)}</b>"
    if math.isfinite(item.low):
        low, high = (_number(end * scale, digits) for end in (item.low, item.high))
        text += f' <span class="ci">[{low}, {high}]</span>'
    return text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """A table of ready HTML cells; `numbers` sets all columns but the first to the right."""
    mark = [' class="n"' if numbers and k else "" for k in range(len(head))]
    top = "".join(f"<th{m}>{cell}</th>" for m, cell in zip(mark, head, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{m}>{cell}</td>" for m, cell in zip(mark, row, strict=True)) + "</tr>"
        for row in rows
    ]
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _image(uri: str, alt: str) -> str:
    return f'<img src="{uri}" alt="{_text(alt)}">'


def _head(metrics: Metrics) -> str:
    said = metrics.info["predictions"]
    named = [
        f"{key} {_text(said[key])}"
        for key in ("model", "engine", "checkpoint", "contrast")
        if isinstance(said.get(key), str | int | float)
    ]
    c = metrics.counts
    return (
        "<h1>Can I trust this model?</h1>"
        f'<p class="dim">{" · ".join(named)}</p>'
        f"<p>{c['detections']:,} detections against {c['truths']:,} truths in "
        f"{c['images']:,} image{'s' * (c['images'] != 1)}. In brackets: "
        f"{_text(metrics.info['interval'])}.</p>"
    )


def _summary(result: Evaluated) -> str:
    """The headline numbers, each with what it means and what the paper reached."""
    m, config = result.metrics, result.metrics.info["config"]["evaluate"]
    score, iou = config["score_threshold"], config["iou_threshold"]
    rows = [
        ["Does it find what is there?", "completeness", _interval(m.detection.completeness), "–"],
        ["Is what it finds real?", "purity", _interval(m.detection.purity), "–"],
    ]
    rows += [
        ["How deep does it go?", f"{DEPTH:.0%} complete down to", _depth(result, item), "–"]
        for item in result.attributes
        if item.name.startswith("mag_")
    ]
    # The best of the paper's networks on labels from HST: text of 4.2 and Table 4.
    paper = {"galaxy": "0.994", "star": "0.884"}
    for name, scores in m.classification.classes.items():
        rows.append(
            [
                f"Is a {_text(name)} called a {_text(name)}?",
                "F1, matched only",
                _interval(scores.f1),
                paper.get(name.lower(), "–"),
            ]
        )
    d = m.deblending
    if d.mask is not None:
        rows.append(["Are outlines right?", "median mask IoU", _interval(d.mask.median), "0.65"])
    rows.append(
        [
            "Are boxes right?",
            "median box IoU<br><span class='dim'>a constant box of "
            f"{_number(d.baseline_size[0], 0)}×{_number(d.baseline_size[1], 0)} px</span>",
            _interval(d.box.median) + f"<br>{_interval(d.baseline.median)}",
            "0.94<br>–",
        ]
    )
    for kind, report in (("mask", m.mask_ap), ("box", m.box_ap)):
        if report is not None:
            rows.append(
                ["All of it at once", f"{kind} AP × 100", _interval(report.mean.ap, percent=True),
                 "–"]
            )  # fmt: skip
    return (
        _table(["", "measured by", "this model", "paper's best"], rows)
        + f'<p class="dim">Completeness, purity, classes and outlines: detections of score '
        f"≥ {score:g}, matched one to one to truths by box IoU &gt; {iou:g}, classes aside. "
        "The paper's numbers are of other data: a scale, not a target.</p>"
    )


def _depth(result: Evaluated, attribute: Attribute) -> str:
    """The faint edge of the last bin up to which completeness stays above `DEPTH`."""
    curve = result.metrics.detection.curves[attribute.name].completeness
    reached = None
    for edge, value, count in zip(curve.edges[1:], curve.value, curve.count, strict=True):
        if count >= 5 and value < DEPTH:  # fewer than five objects tell nothing
            break
        reached = edge
    if reached is None:
        return "nowhere"
    return f"<b>{_text(attribute.name.removeprefix('mag_'))} = {reached:g}</b>" + (
        " (the faintest truths)" if reached == curve.edges[-1] else ""
    )


def _notes(result: Evaluated) -> str:
    """What a reader must know before trusting the table."""
    m = result.metrics
    c, d = m.counts, m.deblending
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
    small = result.data.truth.area[~result.data.truth.crowd] < 32**2
    if len(small) and small.mean() > 0.95:
        notes.append(
            f"{small.mean():.1%} of the truths are “small” in COCO's sense: AP by size says "
            "little here. See AP by magnitude, signal-to-noise and blendedness."
        )
    if c["images not in the predictions file"]:
        notes.append(
            f"{c['images not in the predictions file']} images are not in the predictions "
            "file. Their truths count as missed."
        )
    if m.mask_ap is None:
        notes.append("One of the files has no masks: everything here is about boxes.")
    if not result.attributes:
        notes.append(
            "The truth has no magnitudes, signal-to-noise or blendedness under "
            "<code>attributes</code>: nothing is shown against them."
        )
    return "".join(f'<div class="note">{note}</div>' for note in notes)


def _left_out(metrics: Metrics) -> str:
    rows = [[_text(name), f"{number:,}"] for name, number in metrics.counts.items()]
    return "<h2>What was counted, and what was left out</h2>" + _table(
        ["", "number"], rows, numbers=True
    )


def _ap_section(result: Evaluated) -> str:
    m = result.metrics
    kinds = {"mask": m.mask_ap, "box": m.box_ap}
    present = {kind: report for kind, report in kinds.items() if report is not None}
    head = [""] + [f"{kind} {what}" for kind in present for what in ("AP", "AP50", "AP75")]
    rows = [["<b>mean of classes</b>", *_ap_cells([r.mean for r in present.values()])]]
    for name in result.data.classes:
        rows.append([_text(name), *_ap_cells([r.classes[name] for r in present.values()])])
    rows.append(["classes aside", *_ap_cells([r.any_class for r in present.values()])])
    for size in SIZES[1:]:
        rows.append([size.capitalize(), *_size_cells(list(present.values()), size)])
    out = (
        "<h2>Average precision</h2>"
        "<p>× 100, over IoU 0.50 to 0.95, at 0.50 and at 0.75; rows as in the paper's Table 2. "
        f"All detections are counted, up to {m.box_ap.max_detections:,} in an image. Small, "
        "medium and large are below 32², up to 96² and above 96² pixels, means of the "
        "classes.</p>" + _table(head, rows, numbers=True)
    )
    if result.attributes:
        for kind, report in present.items():
            made = plots.ap_bins(
                report.bins, result.attributes, [*result.data.classes, "any"], kind
            )
            out += f"<h3>{kind.capitalize()} AP in bins</h3>" + _image(
                plots.encode(made), f"{kind} AP in bins"
            )
        out += _estimates(result)
    return out


def _ap_cells(scores: Sequence[ApScores]) -> list[str]:
    return [_interval(item, percent=True) for s in scores for item in (s.ap, s.ap50, s.ap75)]


def _size_cells(reports: Sequence[ApReport], size: str) -> list[str]:
    return [_number(100 * value, 1) for report in reports for value in report.sizes[size]["mean"]]


def _estimates(result: Evaluated) -> str:
    """How false detections got their place in the bins."""
    said = ", ".join(
        f"{result.placed[item.name].estimated:,} for {_text(item.label)}"
        for item in result.attributes
    )
    return (
        '<p class="dim">A detection has its truth\'s value. One without a truth has its own '
        "where the predictions file gives it, else an estimate: the median of matched "
        "detections of like mask area, and for blendedness that of the truth it overlaps "
        f"most. Estimated: {said}.</p>"
    )


def _detection_section(result: Evaluated) -> str:
    detection = result.metrics.detection
    rows = [["all", _interval(detection.completeness), _interval(detection.purity)]]
    rows += [
        [
            _text(name),
            _interval(detection.completeness_of_class[name]),
            _interval(detection.purity_of_class[name]),
        ]
        for name in result.data.classes
    ]
    out = (
        "<h2>Detection</h2><p>Completeness of truths of a class, whatever class their "
        "detection was given; purity of detections given a class, whatever the truth's.</p>"
        + _table(["", "completeness", "purity"], rows, numbers=True)
    )
    if result.attributes:
        made = plots.detection_curves(detection, result.attributes)
        out += _image(plots.encode(made), "completeness and purity") + (
            '<p class="dim">Bands: 95 % intervals. Hollow: fewer than five objects.</p>'
        )
    return out


def _classification_section(result: Evaluated) -> str:
    c, classes = result.metrics.classification, result.data.classes
    rows = [
        [_text(name), *(_interval(v) for v in (s.precision, s.recall, s.f1)),
         f"{s.true_positives:,}", f"{s.false_positives:,}", f"{s.false_negatives:,}"]
        for name, s in c.classes.items()
    ]  # fmt: skip
    matrix = [
        [f"is {_text(name)}", *(f"{number:,}" for number in line)]
        for name, line in zip(classes, c.confusion, strict=True)
    ]
    out = (
        "<h2>Classification</h2><p>Of matched pairs only (paper, section 4.2), so labels that "
        "are missing or spurious do not matter.</p>"
        + _table(["", "precision", "recall", "F1", "TP", "FP", "FN"], rows, numbers=True)
        + _table(["", *(f"called {_text(name)}" for name in classes)], matrix, numbers=True)
    )
    magnitudes = [item for item in result.attributes if item.name.startswith("mag_")]
    for item in magnitudes:
        shown = ~result.pairs.below & ~result.pairs.ignored
        fig6 = plots.counts(result.data, item, result.placed[item.name].values, shown)
        fig7 = plots.class_curves(c, item, classes)
        out += (
            "<h3>Numbers against magnitude (as the paper's Fig. 6)</h3>"
            + _image(plots.encode(fig6), "numbers against magnitude")
            + "<h3>Precision and recall against magnitude (as Fig. 7)</h3>"
            + _image(plots.encode(fig7), "precision and recall against magnitude")
        )
    return out


def _deblending_section(result: Evaluated) -> str:
    d = result.metrics.deblending
    rows = [["boxes", _interval(d.box.median), *(_number(q) for q in d.box.quartiles)]]
    if d.mask is not None:
        rows.append(["masks", _interval(d.mask.median), *(_number(q) for q in d.mask.quartiles)])
        rows += [
            [f"masks, {_text(name)}", _interval(o.median), *(_number(q) for q in o.quartiles)]
            for name, o in d.mask_of_class.items()
        ]
    width, height = d.baseline_size
    rows.append(
        [f"constant box of {_number(width, 1)}×{_number(height, 1)} px",
         _interval(d.baseline.median), *(_number(q) for q in d.baseline.quartiles)]
    )  # fmt: skip
    out = (
        f"<h2>Deblending</h2><p>IoU of the {d.pairs:,} matched pairs (paper, section 4.3). The "
        "constant box has the truths' median size and sits at each truth's mask centre: what "
        "a box IoU is worth is its distance from that line.</p>"
        + _table(["IoU of", "median", "25 %", "75 %"], rows, numbers=True)
        + "<h3>Distributions (as Fig. 9)</h3>"
        + _image(plots.encode(plots.iou_distributions(d)), "distributions of IoU")
    )
    example = example_iou(result)
    if example is not None:
        out += "<h3>What an IoU looks like (as Fig. 5)</h3>" + _image(example, "an example of IoU")
    return out


def _sweep_section(metrics: Metrics) -> str:
    chosen = metrics.info["config"]["evaluate"]["score_threshold"]
    made = plots.confidence_sweep(metrics.sweep, metrics.info["classes"], chosen)
    return (
        "<h2>Choice of the score threshold</h2>"
        f"<p>Everything above but AP uses {chosen:g} (grey line).</p>"
        + _image(plots.encode(made), "confidence sweep")
    )


def _places(places: Sequence[tuple[str, float, float]], review: str | None) -> str:
    """Image and pixel of each object, linked to the review page where there is one."""
    out = []
    for name, x, y in places:
        text = _text(f"{name} x {x:.1f} y {y:.1f}")
        query = urlencode({"image": name, "x": f"{x:.1f}", "y": f"{y:.1f}"})
        link = None if review is None else _text(f"{review}#{query}")
        out.append(text if link is None else f'<a href="{link}">{text}</a>')
    return " · ".join(out)


def _reliability_section(metrics: Metrics) -> str:
    scores = metrics.reliability
    made = plots.reliability_curves(scores, metrics.info["classes"])
    return (
        "<h2>Are the scores probabilities?</h2><p>Of detections with a score of 0.8, eight in ten "
        f"should be right: matched to a truth of their class at {scores.kind} IoU ≥ "
        f"{LEAST_IOU:g}. Below the grey line, scores are too high. ECE is the mean distance "
        "from it. Detections that are not in the predictions file do not count. "
        "<code>astroseg calibrate</code> corrects a checkpoint's scores.</p>"
        + _image(plots.encode(made), "reliability of the scores")
    )


def _targets_section(result: Evaluated) -> str:
    scores = result.metrics.targets
    if not scores:
        return ""
    rows = [
        [_text(name), f"{s.pairs:,}", *(_interval(v) for v in (s.bias, s.scatter, s.outliers)),
         _number(s.outlier_limit), _interval(s.coverage)]
        for name, s in scores.items()
    ]  # fmt: skip
    head = ["", "pairs", "bias", "scatter", "outliers", "beyond", "coverage"]
    return (
        "<h2>Are the learned attributes right?</h2><p>Errors of matched pairs with a known truth; "
        "of a redshift they are divided by 1 + z. Bias is their median, scatter 1.4826 times "
        "their median absolute deviation. Coverage is the fraction of truths between the "
        "predicted quantiles: 0.68 where the uncertainties are right.</p>"
        + _table(head, rows, numbers=True)
        + _image(plots.encode(plots.targets(result)), "predicted against true")
    )


def _pictures_section(result: Evaluated, tiles: int, review: str | None) -> str:
    if not tiles:
        return ""
    out = "<h2>Worst cases</h2>"
    for kind in worst_objects(result):
        out += f"<h3>{_text(kind.title)}</h3>" + _image(kind.stamps, kind.title)
        out += f'<p class="dim">{_places(kind.places, review)}</p>'
    out += '<p class="dim">White: truth. Magenta: detection. Thick: the one in question.</p>'
    out += "<h2>Tiles, worst first</h2>" + _colour_key(result.data.classes)
    for title, uri in tile_rows(result, tiles):
        out += f"<h3>{_text(title)}</h3>" + _image(uri, title)
    title, uri = typical_tile(result)
    return out + (
        "<h2>A typical tile (as Fig. 8)</h2>" + f"<p>{_text(title)}</p>" + _image(uri, title)
    )


def _colour_key(classes: Sequence[str]) -> str:
    from astroseg.evaluation.pictures import CLASS_COLOURS, WRONG

    entries = [(CLASS_COLOURS[k % len(CLASS_COLOURS)], name) for k, name in enumerate(classes)]
    entries.append((WRONG, "missed truth (left), detection without a truth (right)"))
    return (
        '<p class="key">'
        + "".join(
            f'<span><i style="background:{colour}"></i>{_text(name)}</span>'
            for colour, name in entries
        )
        + "</p>"
    )


def _made_by(metrics: Metrics) -> str:
    info = json.dumps(metrics.info, indent=1, default=str)
    return (
        "<h2>How this was made</h2><details><summary>configuration, files, versions</summary>"
        f"<pre>{_text(info)}</pre></details>"
    )
