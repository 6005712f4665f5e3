"""Plots as SVG text that stands in a page: axes, lines, bands, dots, steps, cells.

Hand-made, because a handful of marks is all the report needs: a plotting library would be
this package's largest dependency.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.report.bins import FEW, Bins, Curve

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")
"""Okabe and Ito's, dark enough on white, in the order of `preview.PALETTE`'s hues: what is
blue or orange on a picture is so on a plot."""
INK, GRID, FAINT = "#343a40", "#e9ecef", "#adb5bd"
LETTER_PX = 6.4
"""Mean width of a letter of the legend."""


@dataclass(frozen=True)
class Axis:
    """A range of values, what they are called, and where ticks go (value, text)."""

    low: float
    high: float
    label: str
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fraction of the way along the axis."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            part = (np.log10(np.maximum(values, self.low * 1e-9)) - low) / (high - low)
        else:
            part = (np.asarray(values) - self.low) / (self.high - self.low)
        return np.asarray(part, np.float64)


@dataclass(frozen=True)
class Frame:
    """Where a plot's axes lie in its picture, in CSS pixels."""

    x: Axis
    y: Axis
    width: int = 258
    height: int = 205
    left: int = 46
    right: int = 12
    top: int = 24
    bottom: int = 40

    def points(
        self, x: Sequence[float] | NDArray[np.float64], y: Sequence[float] | NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N, 2) positions in the picture; values beyond the y axis lie on its ends."""
        u = self.x.place(np.asarray(x, np.float64))
        v = np.clip(self.y.place(np.asarray(y, np.float64)), 0, 1)
        across = self.left + u * (self.width - self.left - self.right)
        down = self.height - self.bottom - v * (self.height - self.top - self.bottom)
        return np.stack([across, down], axis=1)


def linear(low: float, high: float, label: str, ticks: int = 5) -> Axis:
    """An axis with about so many round ticks."""
    if not low < high:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / ticks
    step = 10 ** math.floor(math.log10(raw))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= raw * 0.999)
    marks = [
        k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
    return Axis(low, high, label, tuple((m, f"{m + 0.0:.6g}") for m in marks))


def logarithmic(low: float, high: float, label: str) -> Axis:
    """An axis of powers of ten, with 2 and 5 between where there are few of them."""
    between = (1, 2, 5) if high / low < 300 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [m * 10.0**k for k in decades for m in between]
    kept = [m for m in marks if low * 0.999 <= m <= high * 1.001]
    return Axis(low, high, label, tuple((m, _power(m)) for m in kept), log=True)


def _power(value: float) -> str:
    """A number of one digit as text: powers of ten as such where zeros would be many."""
    if 0.01 <= value < 1e4:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = round(value / 10.0**exponent)
    power = f"10{str(exponent).translate(_RAISED)}"
    return power if digit == 1 else f"{digit}·{power}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def axis_of(bins: Bins) -> Axis:
    """The axis that a quantity's bins lie along."""
    e = bins.edges
    if bins.kind == "log":
        return logarithmic(e[0], e[-1], bins.label)
    if bins.kind == "counts":
        names = [
            f"≥{a:g}" if math.isinf(b) else f"{a:g}" if b == a + 1 else f"{a:g}–{b - 1:g}"
            for a, b in itertools.pairwise(e)
        ]
        return Axis(-0.5, len(bins) - 0.5, bins.label, tuple(enumerate(names)))
    return linear(e[0], e[-1], bins.label)


def places(bins: Bins) -> NDArray[np.float64]:
    """(B,) where the bins' points go on their axis."""
    e = np.array(bins.edges)
    if bins.kind == "counts":
        return np.arange(len(bins), dtype=np.float64)
    middle = np.sqrt(e[:-1] * e[1:]) if bins.kind == "log" else (e[:-1] + e[1:]) / 2
    return np.asarray(middle, np.float64)


def borders(bins: Bins) -> NDArray[np.float64]:
    """(B+1,) where the bins end on their axis."""
    whole = np.arange(len(bins) + 1, dtype=np.float64) - 0.5
    return whole if bins.kind == "counts" else np.array(bins.edges, np.float64)


def _path(points: NDArray[np.float64]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def line(frame: Frame, x: NDArray[np.float64], y: NDArray[np.float64], colour: str,
         dash: str = "") -> str:  # fmt: skip
    """A line through the points, broken at NaN."""
    out = []
    known = np.isfinite(y)
    for part in np.split(np.arange(len(x)), np.flatnonzero(~known)):
        part = part[known[part]]
        if len(part) > 1:
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            out.append(
                f'<polyline points="{_path(frame.points(x[part], y[part]))}" fill="none" '
                f'stroke="{colour}" stroke-width="1.7"{dashed}/>'
            )
    return "".join(out)


def curve(frame: Frame, bins: Bins, of: Curve, colour: str, dash: str = "") -> str:
    """A curve over bins: interval as a band, line, dots; hollow where a bin has few."""
    x, value = places(bins), np.array(of.value)
    known = np.isfinite(value)
    band = np.concatenate(
        [
            frame.points(x[known], np.array(of.low)[known]),
            frame.points(x[known], np.array(of.high)[known])[::-1],
        ]
    )
    out = f'<polygon points="{_path(band)}" fill="{colour}" opacity="0.13"/>' if len(band) else ""
    out += line(frame, x, value, colour, dash)
    for (px, py), few in zip(
        frame.points(x[known], value[known]), np.array(of.count)[known] < FEW, strict=True
    ):
        fill = "#fff" if few else colour
        out += f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" fill="{fill}" stroke="{colour}"/>'
    return out


def stairs(
    frame: Frame, edges: NDArray[np.float64], counts: Sequence[float], colour: str,
    filled: bool = True,
) -> str:  # fmt: skip
    """A histogram as steps down to the axis."""
    x = np.repeat(edges, 2)
    floor = frame.y.low
    y = np.concatenate([[floor], np.repeat(np.asarray(counts, float), 2), [floor]])
    fill = f'fill="{colour}" fill-opacity="0.13"' if filled else 'fill="none"'
    return (
        f'<polyline points="{_path(frame.points(x, y))}" {fill} stroke="{colour}" '
        'stroke-width="1.5"/>'
    )


def cells(frame: Frame, edges: NDArray[np.float64], counts: NDArray[np.int64], colour: str) -> str:
    """A (B, B) histogram of points, y first: the more, the darker (by square root)."""
    most = max(int(counts.max(initial=0)), 1)
    corners = frame.points(edges, edges)
    out = []
    for row, column in np.argwhere(counts):
        x0, x1 = corners[column, 0], corners[column + 1, 0]
        y0, y1 = corners[row + 1, 1], corners[row, 1]
        shade = 0.12 + 0.88 * math.sqrt(counts[row, column] / most)
        out.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
            f'fill="{colour}" opacity="{shade:.2f}"/>'
        )
    return "".join(out)


def level(frame: Frame, y: float) -> str:
    """A dashed line across, at a value worth comparing with."""
    ends = np.array([frame.x.low, frame.x.high])
    return line(frame, ends, np.array([y, y]), FAINT, "4 3")


def upright(frame: Frame, x: float) -> str:
    """A dashed line upwards."""
    ends = np.array([frame.y.low, frame.y.high])
    return line(frame, np.array([x, x]), ends, FAINT, "4 3")


def panel(
    frame: Frame, marks: Sequence[str], title: str, legend: Sequence[tuple[str, str]] = ()
) -> str:
    """A whole plot: grid, axes, marks, title and (text, colour) of the legend."""
    out = [
        f'<svg viewBox="0 0 {frame.width} {frame.height}" width="{frame.width}" '
        f'height="{frame.height}" role="img" aria-label="{html.escape(title)}">'
    ]
    x0, x1 = frame.left, frame.width - frame.right
    y0, y1 = frame.height - frame.bottom, frame.top
    for value, text in frame.x.ticks:
        x = x0 + float(frame.x.place(np.array([value]))[0]) * (x1 - x0)
        anchor = "end" if x > x1 - 6 and len(text) > 2 else "middle"  # else it is cut off
        out.append(f'<path d="M{x:.1f} {y0}V{y1}" stroke="{GRID}"/>')
        out.append(
            f'<text x="{x:.1f}" y="{y0 + 14}" text-anchor="{anchor}">{html.escape(text)}</text>'
        )
    for value, text in frame.y.ticks:
        y = y0 - float(frame.y.place(np.array([value]))[0]) * (y0 - y1)
        out.append(f'<path d="M{x0} {y:.1f}H{x1}" stroke="{GRID}"/>')
        out.append(
            f'<text x="{x0 - 5}" y="{y + 4:.1f}" text-anchor="end">{html.escape(text)}</text>'
        )
    out += marks
    out.append(f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="{FAINT}"/>')
    middle = (y0 + y1) / 2
    out.append(
        f'<text x="{(x0 + x1) / 2}" y="{frame.height - 6}" text-anchor="middle">'
        f"{html.escape(frame.x.label)}</text>"
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">'
        f"{html.escape(frame.y.label)}</text>"
        f'<text x="{x0}" y="14" class="t">{html.escape(title)}</text>'
    )
    for text, colour in reversed(legend):
        out.append(
            f'<text x="{x1}" y="14" text-anchor="end" style="fill:{colour}" class="l">'
            f"{html.escape(text)}</text>"
        )
        x1 -= round(LETTER_PX * len(text)) + 8
    return "".join(out) + "</svg>"
