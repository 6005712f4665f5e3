"""A map of a dataset's images on the sky, as one SVG that any browser opens."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from astrolabel.datasets.footprints import Place

COLOURS = ("#4477aa", "#ccbb44", "#ee6677", "#228833", "#66ccee", "#aa3377")
"""Told apart with any colour vision (Tol's bright scheme)."""
DROPPED = "#bbbbbb"
WIDTH_PX = 900
MARGIN_PX = 70
GAP_DEG = 20.0
"""Fields farther apart than this get maps of their own: else they would be two dots."""


def sky_map(
    places: Sequence[Place],
    part: NDArray[np.int64],
    parts: Sequence[str],
    why: Mapping[int, str],
    title: str,
) -> str:
    """The SVG: one panel per field, east to the left, each image in its part's colour.

    Images in no part are grey; hovering over an image tells its name, part and reason.
    """
    fields = _fields(places)
    body, top = [], 60
    for members in fields:
        drawn, height = _panel([places[k] for k in members], members, part, parts, why, top)
        body += drawn
        top += height
    legend = []
    for j, name in enumerate((*parts, "in none")):
        colour = COLOURS[j % len(COLOURS)] if j < len(parts) else DROPPED
        count = int((part == j).sum()) if j < len(parts) else int((part < 0).sum())
        x = MARGIN_PX + 200 * j
        legend.append(
            f'<rect x="{x}" y="32" width="14" height="14" fill="{colour}"/>'
            f'<text x="{x + 20}" y="44">{html.escape(name)}: {count} images</text>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{top}" '
            f'viewBox="0 0 {WIDTH_PX} {top}" font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH_PX}" height="{top}" fill="white"/>',
            f'<text x="{MARGIN_PX}" y="20" font-size="16">{html.escape(title)}</text>',
            *legend,
            *body,
            "</svg>",
            "",
        ]
    )


def _fields(places: Sequence[Place]) -> list[list[int]]:
    """Indices of the images on the sky, in groups less than `GAP_DEG` apart."""
    groups: list[list[int]] = []
    for k, one in enumerate(places):
        if not one.on_sky:
            continue
        limit = 2 * np.sin(np.radians(GAP_DEG) / 2)
        near = [g for g in groups if np.linalg.norm(places[g[0]].centre - one.centre) < limit]
        if near:
            near[0].append(k)
        else:
            groups.append([k])
    return groups


def _panel(
    places: Sequence[Place],
    members: Sequence[int],
    part: NDArray[np.int64],
    parts: Sequence[str],
    why: Mapping[int, str],
    top: int,
) -> tuple[list[str], int]:
    """(elements, height in pixels) of one field."""
    middle = np.mean([p.centre for p in places], axis=0)
    ra0 = float(np.degrees(np.arctan2(middle[1], middle[0])))
    # Right ascension from the middle, so that a field across 0h is one piece.
    outlines = [np.stack([(p.ra - ra0 + 180) % 360 - 180, p.dec], axis=1) for p in places]
    points = np.concatenate(outlines)
    (left, bottom), (right, upper) = points.min(axis=0), points.max(axis=0)
    shrink = np.cos(np.radians((bottom + upper) / 2))
    scale = min(
        (WIDTH_PX - 2 * MARGIN_PX) / max((right - left) * shrink, 1e-9), 600 / (upper - bottom)
    )
    height = (upper - bottom) * scale

    def to_page(point: NDArray[np.float64]) -> tuple[float, float]:
        return (
            MARGIN_PX + (right - float(point[0])) * shrink * scale,
            top + 10 + (upper - float(point[1])) * scale,
        )

    drawn = []
    for k, one, outline in zip(members, places, outlines, strict=True):
        j = int(part[k])
        colour = COLOURS[j % len(COLOURS)] if j >= 0 else DROPPED
        told = parts[j] if j >= 0 else why.get(k, "in no part")
        corners = " ".join("{:.1f},{:.1f}".format(*to_page(p)) for p in outline)
        drawn.append(
            f'<polygon points="{corners}" fill="{colour}" fill-opacity="0.6" stroke="#333" '
            f'stroke-width="0.4"><title>{html.escape(f"{one.name}: {told}")}</title></polygon>'
        )
    base = top + 10 + height
    for value in _ticks(left + ra0, right + ra0):
        x, _ = to_page(np.array([value - ra0, bottom]))
        drawn.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base:.1f}" y2="{base + 5:.1f}" stroke="#333"/>'
            f'<text x="{x:.1f}" y="{base + 19:.1f}" text-anchor="middle">{value % 360:.6g}</text>'
        )
    for value in _ticks(bottom, upper):
        _, y = to_page(np.array([left, value]))
        drawn.append(
            f'<line x1="{MARGIN_PX - 5}" x2="{MARGIN_PX}" y1="{y:.1f}" y2="{y:.1f}" stroke="#333"/>'
            f'<text x="{MARGIN_PX - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>'
        )
    x = MARGIN_PX + (right - left) * shrink * scale / 2
    drawn.append(
        f'<text x="{x:.1f}" y="{base + 38:.1f}" text-anchor="middle">'
        "right ascension (degrees; declination on the left)</text>"
    )
    return drawn, int(height) + 80


def _ticks(low: float, high: float) -> list[float]:
    """Three to eight round values between two."""
    span = max(high - low, 1e-6)
    step = 10.0 ** np.floor(np.log10(span / 3))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= 8)
    first = int(np.ceil(low / step))
    return [round(k * step, 10) for k in range(first, int(np.floor(high / step)) + 1)]
