"""The report's plots: figures of matplotlib as SVG pictures inside the page."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.report.bins import FEW, Bins, Curve
from astrolabel.report.catalog import AgainstCatalog
from astrolabel.report.counts import Distribution
from astrolabel.report.residuals import LEVELS, Residuals
from astrolabel.report.truth import AgainstTruth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")
"""Okabe and Ito's, dark enough on white, in the order of the hues of `io.colours.PALETTE`."""
INK, FAINT = "#343a40", "#adb5bd"
GROUPS = {"all": INK, "isolated": COLOURS[0], "blended": COLOURS[1]}
"""Colours of curves by the truth's blending."""
SIZE_IN = (2.75, 2.2)
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e9ecef", "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "legend.fontsize": 7, "legend.frameon": False, "lines.linewidth": 1.5,
    "svg.fonttype": "path", "svg.hashsalt": "astrolabel",
}  # fmt: skip
"""Equal numbers give equal bytes: ids of SVG elements come from the salt alone."""


@dataclass
class Plot:
    """A plot's title and its picture as a data URI."""

    title: str
    uri: str = ""


@contextmanager
def _plot(title: str, x: str, y: str) -> Iterator[tuple[Axes, Plot]]:
    """Axes to draw on; the plot's picture is made at the end."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, dpi=72)  # as SVG has it
        FigureCanvasSVG(figure)
        axes, made = figure.subplots(), Plot(title or y)
        yield axes, made
        axes.set(title=title, xlabel=x, ylabel=y)
        if axes.get_legend_handles_labels()[1]:
            axes.legend()
        ConstrainedLayoutEngine().execute(
            figure
        )  # not by savefig, which would draw everything once more
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=100, metadata={"Date": None})
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        made.uri = f"data:image/svg+xml;base64,{text}"


def _lay_out(axes: Axes, bins: Bins) -> NDArray[np.float64]:
    """Set the x axis for a quantity's bins; (B+1,) where they end on it."""
    edges = np.array(bins.edges, np.float64)
    if bins.kind == "counts":
        names = [
            f"≥{a:g}" if math.isinf(b) else f"{a:g}" if b == a + 1 else f"{a:g}–{b - 1:g}"
            for a, b in itertools.pairwise(bins.edges)
        ]
        axes.set_xticks(range(len(bins)), names)
        edges = np.arange(len(bins) + 1, dtype=np.float64) - 0.5
    elif bins.kind == "log":
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    return edges


def _draw(axes: Axes, bins: Bins, curve: Curve, colour: str, label: str) -> None:
    """A curve over bins: interval as a band, line, dots; hollow where a bin has few."""
    edges = _lay_out(axes, bins)
    x = np.sqrt(edges[:-1] * edges[1:]) if bins.kind == "log" else (edges[:-1] + edges[1:]) / 2
    value, few = np.array(curve.value), np.array(curve.count) < FEW
    axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x, value, color=colour, label=label)
    for rows, fill in ((few, "white"), (~few, colour)):
        axes.plot(x[rows], value[rows], "o", ms=3.5, mfc=fill, mec=colour)


def distribution(of: Distribution, title: str) -> Plot:
    """Numbers per bin, a histogram for each class."""
    with _plot(title, of.bins.label, "labels") as (axes, plot):
        edges = _lay_out(axes, of.bins)
        for k, (name, counts) in enumerate(of.classes.items()):
            axes.stairs(counts, edges, color=COLOURS[k % len(COLOURS)], label=name)
        axes.set_ylim(bottom=0)
    return plot


def fractions(
    curves: Mapping[str, tuple[Curve, str]], cut: Bins, label: str, title: str = ""
) -> Plot:
    """Fractions from 0 to 1, (curve, colour) by the name in the legend."""
    with _plot(title, cut.label, label) as (axes, plot):
        for name, (curve, colour) in curves.items():
            _draw(axes, cut, curve, colour, name if len(curves) > 1 else "")
        axes.set_ylim(0, 1.02)
    return plot


def around_zero(
    curves: Mapping[str, tuple[Curve, str]], cut: Bins, label: str, title: str, least: float
) -> Plot:
    """Medians with quartiles around zero; the axis reaches `least` at least."""
    ends = [abs(v) for curve, _ in curves.values() for part in (curve.low, curve.high)
            for v, n in zip(part, curve.count, strict=True) if n >= FEW]  # fmt: skip
    reach = max([least, *ends]) * 1.1
    with _plot(title, cut.label, label) as (axes, plot):
        axes.axhline(0, color=FAINT, ls="--", lw=1)
        for name, (curve, colour) in curves.items():
            _draw(axes, cut, curve, colour, name if len(curves) > 1 else "")
        axes.set_ylim(-reach, reach)
    return plot


def residual_histogram(left: Residuals) -> Plot:
    """Pixels by residual in and outside the masks, beside those of pure noise."""
    middles = (LEVELS[:-1] + LEVELS[1:]) / 2
    noise = np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi) * np.diff(LEVELS)
    with _plot("Pixels", "residual, sigma", "fraction of pixels") as (axes, plot):
        axes.plot(middles, noise, color=FAINT, ls="--", label="noise")
        for counts, colour, name in (
            (left.outside, GROUPS["all"], "outside"), (left.inside, GROUPS["blended"], "in masks"),
        ):  # fmt: skip
            part = counts / max(counts.sum(), 1)
            axes.plot(middles, np.where(part > 0, part, np.nan), color=colour, label=name)
        axes.set(yscale="log", ylim=(1e-6, 1), xlim=(-10, 10))
    return plot


def chi2_histogram(values: Sequence[float], title: str, what: str) -> Plot:
    """Numbers by chi2, on a logarithmic axis."""
    known = np.array([v for v in values if np.isfinite(v) and v > 0])
    edges = 10 ** np.arange(-1, 3.05, 0.1)
    counts = np.histogram(np.clip(known, edges[0], edges[-1] * 0.999), edges)[0]
    with _plot(title, "χ² per pixel", what) as (axes, plot):
        axes.stairs(counts, edges, color=COLOURS[0])
        axes.axvline(1, color=FAINT, ls="--", lw=1)
        axes.set(xscale="log", xlim=(edges[0], edges[-1]), ylim=(0, None))
    return plot


def offsets(found: AgainstCatalog) -> Plot:
    """Where labels lie relative to their catalog objects: the more, the darker."""
    with _plot("Label minus catalog", "east, arcsec", "north, arcsec") as (axes, plot):
        shade: Any = np.sqrt(found.cells)
        axes.pcolormesh(found.edges, found.edges, shade, cmap="Blues", rasterized=True)
        axes.axhline(0, color=FAINT, ls="--", lw=1)
        axes.axvline(0, color=FAINT, ls="--", lw=1)
        axes.set_aspect("equal")
    return plot


def against_truth(found: AgainstTruth) -> list[tuple[str, list[Plot]]]:
    """Rows of plots: title, and a plot for each quantity."""

    def of(curves: Mapping[str, Mapping[str, Curve]], name: str) -> dict[str, tuple[Curve, str]]:
        # Isolated and blended apart, unless the axis is the blending itself.
        asked = ("all",) if "blended" in name else ("isolated", "blended")
        return {g: (curves[name][g], GROUPS[g]) for g in asked if g in curves[name]}

    cuts = found.bins.items()
    rows = [
        (
            "Completeness: sources that have a label",
            [fractions(of(found.completeness, n), cut, "completeness") for n, cut in cuts],
        ),
        (
            "Outlines: IoU with the true mask, median and quartiles",
            [fractions(of(found.iou, n), cut, "mask IoU") for n, cut in cuts],
        ),
        (
            "Purity: labels that have a source, against the label's own values",
            [
                fractions({"all": (curves["all"], COLOURS[2])}, found.bins[n], "purity")
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
