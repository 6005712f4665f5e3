"""The report as one HTML page: no script, no link, no file beside it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from astrolabel.report import panels
from astrolabel.report.examples import Kind, worst_tiles
from astrolabel.report.measured import Measured
from astrolabel.report.stamps import draw, tile_pictures
from astrolabel.report.verdict import Line, notes, verdict

TILES = 3
"""Worst tiles shown, and a typical one."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#212529;background:#f8f9fa;margin:0}
main{max-width:1120px;margin:0 auto;padding:24px 28px 60px;background:#fff}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:38px 0 8px;padding-top:14px;
border-top:1px solid #dee2e6}h3{font-size:15px;margin:20px 0 4px}
p{margin:6px 0;max-width:85ch}.dim{color:#6c757d;font-size:13px}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px 5px 0;text-align:left;border-bottom:1px solid #e9ecef;vertical-align:top}
th{font-weight:600;color:#495057;font-size:13px}td.n,th.n{text-align:right}td b{font-size:16px}
.note{background:#fff9db;border-left:4px solid #fab005;padding:8px 14px;margin:8px 0;max-width:85ch}
.give{background:#f1f3f5;border-left:4px solid #adb5bd;padding:8px 14px;margin:8px 0;max-width:85ch}
.row{display:flex;flex-wrap:wrap;gap:8px 10px;align-items:flex-start}.row>table{margin-right:28px}
svg text{font:11px system-ui,sans-serif;fill:#495057}svg text.t{font-weight:600;font-size:12px}
svg text.l{font-weight:600}figure{margin:0 0 6px}
figcaption{font-size:12px;color:#495057}img{display:block;max-width:100%}
.stamps figure{width:260px}.stamps img{width:260px}.tile img{width:520px}
code{font-size:13px}
"""


def page(measured: Measured, kinds: Sequence[Kind], machine: str) -> str:
    """The page of a measured dataset, with these examples; `machine` names its numbers' file."""
    parts = [
        "<h1>Can I trust these labels?</h1>",
        _head(measured),
        _verdict(measured),
        "".join(f'<div class="note">{_text(note)}</div>' for note in notes(measured)),
        _counts(measured),
        _distributions(measured),
        _flags(measured),
        _residuals(measured),
        _catalog(measured),
        _truth(measured),
        _examples(measured, kinds),
        _made_by(measured, machine),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Labels</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}\u00a0%" if math.isfinite(value) else "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """A table of ready HTML cells; `numbers` sets all columns but the first to the right."""
    mark = [' class="n"' if numbers and k else "" for k in range(len(head))]
    top = "".join(f"<th{m}>{cell}</th>" for m, cell in zip(mark, head, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{m}>{cell}</td>" for m, cell in zip(mark, row, strict=True)) + "</tr>"
        for row in rows
    ]
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _row(plots: Sequence[str]) -> str:
    return f'<div class="row">{"".join(plots)}</div>'


def _give(what: str) -> str:
    return f'<div class="give">Not here. {what}</div>'


def _head(m: Measured) -> str:
    c, info = m.counts, m.labels.info
    said = [str(info[key]) for key in ("description", "program") if isinstance(info.get(key), str)]
    recipe = info.get("config") or {}
    if isinstance(recipe, Mapping) and "preset" in recipe:
        said.append(f"preset {recipe['preset']}")
    if "config_hash" in info:
        said.append(f"configuration {info['config_hash']}")
    classes = ", ".join(f"{n:,} {_text(name)}" for name, n in c.classes.items())
    return (
        f'<p class="dim">{_text(m.labels.path.name)} · {_text(" · ".join(said))}</p>'
        f"<p>{c.labels:,} labels ({classes}) in {c.images:,} image{'s' * (c.images != 1)}"
        + (f"; {c.ignored:,} ignore regions" if c.ignored else "")
        + "</p>"
    )


def _verdict(m: Measured) -> str:
    """The headline numbers: question, measure, value, what it would be were all well."""
    rows = [[_text(v.question), _text(v.measure), _answer(v), _text(v.ideal)] for v in verdict(m)]
    return _table(["", "measured by", "these labels", "were all well"], rows)


def _answer(line: Line) -> str:
    known = math.isfinite(line.value)
    return f"<b>{_text(line.text)}</b>" if known else f'<span class="dim">{_text(line.text)}</span>'


def _counts(m: Measured) -> str:
    c = m.counts
    out = "<h2>What became of every tile and detection</h2>"
    if not c.tiles and not c.detections:
        return out + _give(
            "The document does not tell; <code>astrolabel make-coco</code> writes it under "
            "<code>info</code>."
        )
    tables = []
    for name, counted in (("tiles", c.tiles), ("detections", c.detections)):
        total = sum(counted.values())
        rows = [
            [_text(state), f"{n:,}", _percent(n / total)]
            for state, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        ]
        tables.append(_table([name, "number", "part"], rows, numbers=True))
    out += _row(tables)
    if c.elsewhere:
        out += (
            f'<p class="dim">{c.elsewhere:,} masks have their peak in a neighbouring tile, which '
            "has the source too: they are in the file, and not counted below.</p>"
        )
    notes = [
        [_text(what), f"{n:,}", _text(text)]
        for what, texts in c.notes.items()
        for text, n in texts.items()
    ]
    if notes:
        out += "<h3>Where the tiles' noise, PSF and masks are from</h3>"
        out += _table(["", "tiles", "from"], notes)
    return out


def _distributions(m: Measured) -> str:
    titles = {"diameter": "Size", "snr": "Signal to noise", "n_blended": "Blending"}
    plots = [
        panels.distribution(d, titles.get(name, "Magnitude")) for name, d in m.distributions.items()
    ]
    head = ["median", *(_text(d.bins.label) for d in m.distributions.values())]
    rows = [
        [_text(name), *(_number(d.medians[name], 2) for d in m.distributions.values())]
        for name in m.counts.classes
    ]
    return "<h2>What the labels are like</h2>" + _row(plots) + _table(head, rows, numbers=True)


def _flags(m: Measured) -> str:
    c = m.counts
    if not c.flags:
        return "<h2>Flags</h2>" + _give("No label has a flag, and the document explains none.")
    rows = [
        [
            _text(name),
            f"{n:,}",
            _percent(n / max(c.labels, 1)),
            _text(c.flag_meanings.get(name, "")),
        ]
        for name, n in c.flags.items()
    ]
    return "<h2>Flags</h2>" + _table(["flag", "labels", "part", "meaning"], rows)


def _residuals(m: Measured) -> str:
    left = m.leftover
    out = (
        "<h2>What the models leave over</h2><p>Residual: the detection image less the models of "
        "all sources, in sigma. Where the models are right it is noise of chi2 1. What is kept "
        "ends at ±31.75 sigma.</p>"
    )
    if not left.tiles:
        return out + _give(
            "The residuals are not beside the document: label again with this version of "
            "<code>astrolabel make-coco</code>."
        )
    names = [_text(m.labels.images[t.image]["file_name"]) for t in left.tiles]
    ranked = sorted(
        zip(left.tiles, names, strict=True),
        key=lambda item: (-item[0].chi2_inside if item[0].pixels_inside else 0, item[0].image),
    )
    rows = [
        [name, _number(t.chi2_inside, 2), _number(t.chi2_outside, 2), f"{t.groups_outside:,}"]
        for t, name in ranked[:10]
    ]
    tiles = "" if len(left.tiles) == 1 else (
        panels.chi2_histogram([t.chi2_inside for t in left.tiles], "Tiles by χ² in masks", "tiles")
    )  # fmt: skip
    out += _row(
        [
            panels.residual_histogram(left),
            panels.chi2_histogram(left.chi2[m.labels.own].tolist(), "Labels by χ²", "labels"),
            tiles,
        ]
    )
    head = ["worst tiles", "χ² in masks", "χ² outside", "groups above 5 σ outside masks"]
    out += _table(head, rows, numbers=True)
    if left.without:
        out += f'<p class="dim">{left.without:,} images have no residual.</p>'
    chosen = worst_tiles(left, TILES)
    for rank, index in enumerate(chosen):
        name = _text(m.labels.images[index]["file_name"])
        what = "the middle one" if rank and rank == len(chosen) - 1 else f"number {rank + 1}"
        pictures = "".join(
            f'<figure class="tile"><img src="{uri}" alt="{what} of {name}"></figure>'
            for uri in tile_pictures(m.labels, index)
            if uri
        )
        out += f"<h3>{name}, {what} by χ² in masks</h3>" + _row([pictures])
    return out + (
        '<p class="dim">Red: light that no model took; blue: models brighter than the image; '
        "full colour at 5 sigma. Reduced pictures show block means in sigma of such a mean."
        "</p>"
    )


def _catalog(m: Measured) -> str:
    out = "<h2>Against the catalog</h2>" + _classes_given(m)
    found = m.catalog
    if found is None:
        return out + _give(
            "Give <code>--catalog FILE --scheme hsc</code> (or <code>hst</code>) for match rates "
            "and offsets."
        )
    out += (
        f"<p>{_text(Path(found.name).name)}: {found.n_catalog:,} objects inside the images, "
        f"{found.n_labels:,} labels; {found.n_pairs:,} pairs within {found.radius_arcsec:g} "
        "arcsec, one to one, nearest first, classes aside.</p>"
    )
    rows = [
        ["median offset east, north (arcsec)", " ".join(f"{v:+.3f}" for v in found.offset_arcsec)],
        ["scatter east, north (arcsec)", " ".join(_number(v) for v in found.scatter_arcsec)],
        ["median separation (arcsec)", _number(found.separation_arcsec)],
    ]
    if found.band:
        text = f"{found.magnitude[0]:+.3f} ± {found.magnitude[1]:.3f}"
        rows.append([f"{_text(found.band)} of the label - catalog's "
                     f"{_text(found.catalog_band)} (median, scatter)", text])  # fmt: skip
    plots = [panels.offsets(found)]
    for curve, cut, title in (
        (found.catalog_rate, found.catalog_bins, "Objects that have a label"),
        (found.label_rate, found.label_bins, "Labels that have an object"),
    ):
        if curve is not None and cut is not None:
            plots.append(
                panels.fractions({"": (curve, panels.GROUPS["isolated"])}, cut, "part", title)
            )
    if found.magnitude_curve is not None and found.catalog_bins is not None:
        shown = {"": (found.magnitude_curve, panels.GROUPS["isolated"])}
        plots.append(
            panels.around_zero(shown, found.catalog_bins, "label - catalog, mag",
                               "Median and quartiles", 0.1)
        )  # fmt: skip
    return out + _row(plots) + _table(["", ""], rows)


def _classes_given(m: Measured) -> str:
    """How many got their class from a catalog when the labels were made."""
    c = m.counts
    if not c.matched:
        return ""
    out = f"<p>{c.matched:,} of {c.labels:,} labels carry the id of a catalog's object."
    matched, asked = c.in_catalog
    if asked > matched:
        out += (
            f" When they were made {matched:,} of {asked:,} detections with a mask "
            f"({_percent(matched / asked)}) got a class; those without are left out of the file, "
            "or ignore regions in it. So the labels' own match rate says little; the catalog's "
            "says what is missing."
        )
    return out + "</p>"


def _truth(m: Measured) -> str:
    out = "<h2>Against the truth</h2>"
    found = m.truth
    if found is None:
        return out + _give(
            "Of a simulated sky, give <code>--truth truth.json</code> for completeness, purity "
            "and outlines."
        )
    q = found.quality
    out += (
        f"<p>{q.n_truth:,} sources with a true mask, {q.n_blended:,} of them blended; "
        f"{q.n_labels:,} labels; matched one to one within 3 pixels. What the edge of an image "
        "cuts is not counted.</p>"
    )
    rows = [
        ["completeness", _percent(q.completeness), ""],
        ["completeness of blended", _percent(q.completeness_blended), ""],
        ["purity", _percent(q.purity), "a label on a source too faint for a mask is not false"
         if found.complete_list else "sources too faint for a mask are not in the truth's file: "
         "labels on them count as false"],
        ["median mask IoU, isolated", _number(q.iou_isolated), ""],
        ["median mask IoU, blended", _number(q.iou_blended), ""],
        ["median offset", f"{_number(found.offset_px, 2)} px", ""],
        ["flux excess, isolated", _percent(found.flux_bias["isolated"]), "median, S/N above 20"],
        ["flux excess, blended", _percent(found.flux_bias["blended"]), "median, S/N above 20"],
    ]  # fmt: skip
    out += _table(["", "", ""], rows)
    if found.confusion:
        names = list(dict.fromkeys(true for true, _ in found.confusion))
        matrix = [[f"is {_text(a)}", *(f"{found.confusion[a, b]:,}" for b in names)] for a in names]
        head = ["matched", *(f"called {_text(b)}" for b in names)]
        out += _table(head, matrix, numbers=True)
    for title, plots in panels.against_truth(found):
        out += f"<h3>{_text(title)}</h3>" + _row(plots)
    return (
        out + '<p class="dim">Hollow dots: fewer than five objects. Bands of fractions: 95 %.</p>'
    )


def _examples(m: Measured, kinds: Sequence[Kind]) -> str:
    out = (
        "<h2>Examples</h2><p>On the left the label in white, others in their class's colour, "
        "ignore regions grey; on the right the residual.</p>"
    )
    for kind in kinds:
        figures = [
            f'<figure><img src="{draw(m.labels, s)}" alt="{_text(s.caption)}">'
            f"<figcaption>{_text(s.caption)}</figcaption></figure>"
            for s in kind.stamps
        ]
        out += (
            f'<h3>{_text(kind.title)} <span class="dim">{_text(kind.chosen_by)}</span></h3>'
            f'<div class="row stamps">{"".join(figures)}</div>'
        )
    return out


def _made_by(m: Measured, machine: str) -> str:
    info = m.labels.info
    libraries = info.get("libraries") or {}
    inputs = [
        [_text(item.get("file", "")), f"<code>{_text(str(item.get('sha256', ''))[:16])}</code>"]
        for item in (info.get("inputs") or [])[:20]
        if isinstance(item, Mapping)
    ]
    more = len(info.get("inputs") or []) - len(inputs)
    return (
        '<h2>Made from</h2><p class="dim">'
        + _text(", ".join(f"{name} {version}" for name, version in libraries.items()))
        + "</p>"
        + (_table(["file", "sha256"], inputs) if inputs else "")
        + (f'<p class="dim">and {more:,} more files</p>' if more > 0 else "")
        + f"<p class='dim'>The numbers of this page are in <code>{_text(machine)}</code> "
        "beside it.</p>"
    )
