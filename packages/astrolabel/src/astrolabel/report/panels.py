"""The report's plots, each an SVG made of measured numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from astrolabel.report import svg
from astrolabel.report.bins import Bins, Curve
from astrolabel.report.catalog import AgainstCatalog
from astrolabel.report.counts import Distribution
from astrolabel.report.leftover import LEVELS, Leftover
from astrolabel.report.truth import AgainstTruth

GROUPS = {"all": svg.INK, "isolated": svg.COLOURS[0], "blended": svg.COLOURS[1]}
"""Colours of curves by the truth's blending."""


def distribution(of: Distribution, title: str) -> str:
    """Numbers per bin, a histogram for each class."""
    most = max((max(counts, default=0) for counts in of.classes.values()), default=0)
    frame = svg.Frame(svg.axis_of(of.bins), svg.linear(0, max(most, 1) * 1.08, "labels", 4))
    edges = svg.borders(of.bins)
    colours = dict(zip(of.classes, _cycle(len(of.classes)), strict=True))
    marks = [svg.stairs(frame, edges, counts, colours[n]) for n, counts in of.classes.items()]
    return svg.panel(frame, marks, title, list(colours.items()))


def _cycle(n: int) -> list[str]:
    return [svg.COLOURS[k % len(svg.COLOURS)] for k in range(n)]


def fractions(curves: Mapping[str, tuple[Curve, str]], cut: Bins, label: str, title: str) -> str:
    """Fractions from 0 to 1, (curve, colour) by the name in the legend."""
    frame = svg.Frame(svg.axis_of(cut), svg.linear(0, 1.0, label))
    marks = [svg.curve(frame, cut, curve, colour) for curve, colour in curves.values()]
    legend = [(name, colour) for name, (_, colour) in curves.items()] if len(curves) > 1 else []
    return svg.panel(frame, marks, title, legend)


def around_zero(
    curves: Mapping[str, tuple[Curve, str]], cut: Bins, label: str, title: str, least: float
) -> str:
    """Medians with quartiles around zero; the axis reaches `least` at least."""
    ends = [abs(v) for curve, _ in curves.values() for part in (curve.low, curve.high)
            for v, n in zip(part, curve.count, strict=True) if n >= 5]  # fmt: skip
    reach = max([least, *ends]) * 1.1
    frame = svg.Frame(svg.axis_of(cut), svg.linear(-reach, reach, label, 6))
    marks = [svg.level(frame, 0.0)]
    marks += [svg.curve(frame, cut, curve, colour) for curve, colour in curves.values()]
    legend = [(name, colour) for name, (_, colour) in curves.items()] if len(curves) > 1 else []
    return svg.panel(frame, marks, title, legend)


def residual_histogram(left: Leftover) -> str:
    """Pixels by residual in and outside the masks, beside those of pure noise."""
    inside, outside = (n / max(n.sum(), 1) for n in (left.inside, left.outside))
    middles = (LEVELS[:-1] + LEVELS[1:]) / 2
    noise = np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi) * np.diff(LEVELS)
    y = svg.logarithmic(1e-6, 1.0, "fraction of pixels")
    frame = svg.Frame(svg.linear(-10, 10, "residual, sigma", 4), y)
    marks = [svg.line(frame, middles, np.where(noise > 1e-6, noise, np.nan), svg.FAINT, "4 3")]
    for part, colour in ((outside, GROUPS["all"]), (inside, GROUPS["blended"])):
        marks.append(svg.line(frame, middles, np.where(part > 0, part, np.nan), colour))
    legend = [("in masks", GROUPS["blended"]), ("outside", GROUPS["all"]), ("noise", svg.FAINT)]
    return svg.panel(frame, marks, "Pixels", legend)


def chi2_histogram(values: Sequence[float], title: str, what: str) -> str:
    """Numbers by chi2, on a logarithmic axis."""
    known = np.array([v for v in values if np.isfinite(v) and v > 0])
    edges = 10 ** np.arange(-1, 3.05, 0.1)
    counts = np.histogram(np.clip(known, edges[0], edges[-1] * 0.999), edges)[0]
    top = max(int(counts.max(initial=1)), 1) * 1.08
    frame = svg.Frame(
        svg.logarithmic(edges[0], edges[-1], "χ² per pixel"), svg.linear(0, top, what, 4)
    )
    marks = [svg.stairs(frame, edges, counts.tolist(), svg.COLOURS[0]), svg.upright(frame, 1.0)]
    return svg.panel(frame, marks, title)


def offsets(found: AgainstCatalog) -> str:
    """Where labels lie relative to their catalog objects."""
    r = found.radius_arcsec
    frame = svg.Frame(
        svg.linear(-r, r, "east, arcsec", 4), svg.linear(-r, r, "north, arcsec", 4), width=228
    )
    marks = [
        svg.cells(frame, found.edges, found.cells, svg.COLOURS[0]),
        svg.level(frame, 0.0),
        svg.upright(frame, 0.0),
    ]
    return svg.panel(frame, marks, "Label minus catalog")


def against_truth(found: AgainstTruth) -> list[tuple[str, list[str]]]:
    """Rows of plots: title, and a plot for each quantity."""

    def of(curves: Mapping[str, Mapping[str, Curve]], name: str) -> dict[str, tuple[Curve, str]]:
        # Isolated and blended apart, unless the axis is the blending itself.
        asked = ("all",) if "blended" in name else ("isolated", "blended")
        return {g: (curves[name][g], GROUPS[g]) for g in asked if g in curves[name]}

    rows = [
        (
            "Completeness: sources that have a label",
            [
                fractions(of(found.completeness, n), cut, "completeness", "")
                for n, cut in found.bins.items()
            ],
        ),
        (
            "Outlines: IoU with the true mask, median and quartiles",
            [fractions(of(found.iou, n), cut, "mask IoU", "") for n, cut in found.bins.items()],
        ),
        (
            "Purity: labels that have a source, against the label's own values",
            [
                fractions({"all": (curves["all"], svg.COLOURS[2])}, found.bins[n], "purity", "")
                for n, curves in found.purity.items()
            ],
        ),
    ]
    if found.magnitude:
        name = next(n for n in found.bins if n.startswith("mag_"))
        shown = {g: (found.magnitude[g], GROUPS[g]) for g in ("isolated", "blended")}
        plot = around_zero(shown, found.bins[name], "label - truth, mag", "", 0.05)
        rows.append(("Magnitudes: label minus truth, median and quartiles", [plot]))
    return rows
