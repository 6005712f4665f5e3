"""A map of a dataset's images on the sky, as one SVG that any browser opens."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.datasets.footprints import Place

COLOURS = ("#4477aa", "#ccbb44", "#ee6677", "#228833", "#66ccee", "#aa3377", "#bbbbbb")
"""Distinct with any colour vision (Tol's bright scheme); the last is of images in no part."""
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

    Images in no part are grey. Hovering over an image shows its name, part and reason.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = (*parts, "in none")
    colours = [COLOURS[j % (len(COLOURS) - 1)] for j in range(len(parts))] + [COLOURS[-1]]
    fields = _fields(places)
    with matplotlib.rc_context({"svg.hashsalt": "astrolabel", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 1 + 5 * max(len(fields), 1)), layout="constrained")
        figure.suptitle(title)
        for axes, members in zip(
            figure.subplots(max(len(fields), 1), squeeze=False)[:, 0], fields, strict=False
        ):
            _draw(axes, [(k, places[k], colours[int(part[k])]) for k in members])
        counts = [int((part == j).sum()) for j in range(len(parts))] + [int((part < 0).sum())]
        legend = [
            Patch(color=colour, label=f"{name}: {count} images")
            for name, colour, count in zip(names, colours, counts, strict=True)
        ]
        figure.legend(handles=legend, loc="outside upper center", ncols=4)
        page = io.StringIO()
        figure.savefig(page, format="svg", metadata={"Date": None})
    text = page.getvalue()
    for k in (k for members in fields for k in members):
        reason = parts[int(part[k])] if part[k] >= 0 else why.get(k, "in no part")
        shown = html.escape(f"{places[k].name}: {reason}")
        text = text.replace(f'<g id="image-{k}">', f'<g id="image-{k}"><title>{shown}</title>')
    return text


def _fields(places: Sequence[Place]) -> list[list[int]]:
    """Indices of the images on the sky, in groups less than `GAP_DEG` apart."""
    groups: list[list[int]] = []
    limit = 2 * np.sin(np.radians(GAP_DEG) / 2)
    for k, one in enumerate(places):
        if not one.on_sky:
            continue
        near = [g for g in groups if np.linalg.norm(places[g[0]].centre - one.centre) < limit]
        if near:
            near[0].append(k)
        else:
            groups.append([k])
    return groups


def _draw(axes: Any, images: Sequence[tuple[int, Place, str]]) -> None:
    """One field: the outlines of its images, (index, place, colour) each."""
    middle = np.mean([place.centre for _, place, _ in images], axis=0)
    ra0 = float(np.degrees(np.arctan2(middle[1], middle[0])))
    for k, place, colour in images:
        # Right ascension from the middle, so that a field across 0h is one piece.
        ra = ra0 + (place.ra - ra0 + 180) % 360 - 180
        (drawn,) = axes.fill(ra, place.dec, color=colour, alpha=0.6, ec="#333333", lw=0.4)
        drawn.set_gid(f"image-{k}")
    axes.invert_xaxis()
    axes.set_aspect(1 / max(np.cos(np.radians(np.mean(axes.get_ylim()))), 0.01))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value % 360:.6g}")
    axes.set(xlabel="right ascension (degrees)", ylabel="declination (degrees)")
