"""The report as one HTML page: no script, no file beside it; links to the review page alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astrolabel.report import plots
from astrolabel.report.examples import Kind, worst_tiles
from astrolabel.report.links import flag_link, link_to, place_of, tile_link
from astrolabel.report.measured import Measured
from astrolabel.report.render import number, percent, render
from astrolabel.report.stamps import draw, tile_pictures
from astrolabel.report.verdict import notes, of_files, verdict

TILES = 3
"""Worst tiles shown, and a typical one."""
INPUTS = 20
"""Input files listed."""
TITLES = {"diameter": "Size", "snr": "Signal to noise", "n_blended": "Blending"}


def page(measured: Measured, kinds: Sequence[Kind], machine: str, review: str | None = None) -> str:
    """The page of a measured dataset.

    Parameters
    ----------
    kinds : the examples that it shows.
    machine : name of the file with its numbers.
    review : address of the review page, for links to the examples; None where there is none.
    """
    m, of = measured, measured.distributions
    return render(
        "report.html.j2",
        m=m,
        kinds=kinds,
        machine=machine,
        draw=draw,
        place_of=place_of,
        link_to=link_to,
        review=review,
        verdict=verdict(m),
        notes=notes(m),
        of_files=of_files(m),
        distributions=[plots.distribution(d, TITLES.get(n, "Magnitude")) for n, d in of.items()],
        medians_head=["median", *(d.bins.label for d in of.values())],
        medians=[[n, *(number(d.medians[n], 2) for d in of.values())] for n in m.counts.classes],
        **_counted(m, review),
        **_residuals(m, review),
        **_catalog(m),
        **_truth(m),
        **_made_from(m),
    )


def _counted(m: Measured, review: str | None) -> dict[str, Any]:
    """What became of tiles and detections, and the flags."""
    c = m.counts
    states = []
    for name, counted in (("tiles", c.tiles), ("detections", c.detections)):
        total = sum(counted.values())
        ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        states.append((name, [[state, f"{n:,}", percent(n / total)] for state, n in ordered]))
    return {
        "states": states if c.tiles or c.detections else [],
        "flags": [
            [flag_link(name, review if n else None), f"{n:,}", percent(n / max(c.labels, 1)),
             c.flag_meanings.get(name, "")]
            for name, n in c.flags.items()
        ],
    }  # fmt: skip


def _residuals(m: Measured, review: str | None) -> dict[str, Any]:
    left = m.residuals
    if not left.tiles:
        return {}
    names = [str(image["file_name"]) for image in m.labels.images]
    ranked = sorted(left.tiles, key=lambda t: (-t.chi2_inside if t.pixels_inside else 0, t.image))
    found = [
        plots.residual_histogram(left),
        plots.chi2_histogram(left.chi2[m.labels.own].tolist(), "Labels by χ²", "labels"),
    ]
    if len(left.tiles) > 1:
        inside = [t.chi2_inside for t in left.tiles]
        found.append(plots.chi2_histogram(inside, "Tiles by χ² in masks", "tiles"))
    chosen, tiles = worst_tiles(left, TILES), []
    for rank, index in enumerate(chosen):
        what = "the middle one" if rank and rank == len(chosen) - 1 else f"number {rank + 1}"
        pictures = [uri for uri in tile_pictures(m.labels, index) if uri]
        tiles.append((f"{names[index]}, {what} by χ² in masks", pictures))
    return {
        "residual_plots": found,
        "residual_rows": [
            [tile_link(names[t.image], review), number(t.chi2_inside, 2), number(t.chi2_outside, 2),
             f"{t.groups_outside:,}"]
            for t in ranked[:10]
        ],
        "tiles": tiles,
    }  # fmt: skip


def _catalog(m: Measured) -> dict[str, Any]:
    found = m.catalog
    if found is None:
        return {}
    rows = [
        ["median offset east, north (arcsec)", " ".join(f"{v:+.3f}" for v in found.offset_arcsec)],
        ["scatter east, north (arcsec)", " ".join(number(v) for v in found.scatter_arcsec)],
        ["median separation (arcsec)", number(found.separation_arcsec)],
    ]
    if found.band:
        what = f"{found.band} of the label - catalog's {found.catalog_band} (median, scatter)"
        rows.append([what, f"{found.magnitude[0]:+.3f} ± {found.magnitude[1]:.3f}"])
    shown, colour = [plots.offsets(found)], plots.GROUPS["isolated"]
    for curve, cut, title in (
        (found.catalog_rate, found.catalog_bins, "Objects that have a label"),
        (found.label_rate, found.label_bins, "Labels that have an object"),
    ):
        if curve is not None and cut is not None:
            shown.append(plots.fractions({"": (curve, colour)}, cut, "part", title))
    if found.magnitude_curve is not None and found.catalog_bins is not None:
        curves = {"": (found.magnitude_curve, colour)}
        title = "Median and quartiles"
        shown.append(
            plots.around_zero(curves, found.catalog_bins, "label - catalog, mag", title, 0.1)
        )
    return {
        "catalog_name": Path(found.name).name, "catalog_plots": shown, "catalog_rows": rows,
    }  # fmt: skip


def _truth(m: Measured) -> dict[str, Any]:
    found = m.truth
    if found is None:
        return {}
    q = found.quality
    of_faint = (
        "a label on a source too faint for a mask is not false"
        if found.complete_list
        else "sources too faint for a mask are not in the truth's file: labels on them count as "
        "false"
    )
    rows = [
        ["completeness", percent(q.completeness), ""],
        ["completeness of blended", percent(q.completeness_blended), ""],
        ["purity", percent(q.purity), of_faint],
        ["median mask IoU, isolated", number(q.iou_isolated), ""],
        ["median mask IoU, blended", number(q.iou_blended), ""],
        ["median offset", f"{number(found.offset_px, 2)} px", ""],
        ["flux excess, isolated", percent(found.flux_bias["isolated"]), "median, S/N above 20"],
        ["flux excess, blended", percent(found.flux_bias["blended"]), "median, S/N above 20"],
    ]
    names = list(dict.fromkeys(true for true, _ in found.confusion))
    return {
        "truth_rows": rows,
        "confusion_head": ["matched", *(f"called {name}" for name in names)],
        "confusion": [[f"is {a}", *(f"{found.confusion[a, b]:,}" for b in names)] for a in names],
        "truth_plots": plots.against_truth(found),
    }


def _made_from(m: Measured) -> dict[str, Any]:
    info = m.labels.info
    said = [str(info[key]) for key in ("description", "program") if isinstance(info.get(key), str)]
    recipe = info.get("config") or {}
    if isinstance(recipe, Mapping) and "preset" in recipe:
        said.append(f"preset {recipe['preset']}")
    if "config_hash" in info:
        said.append(f"configuration {info['config_hash']}")
    inputs = [item for item in info.get("inputs") or [] if isinstance(item, Mapping)]
    libraries = info.get("libraries") or {}
    return {
        "said": said,
        "libraries": ", ".join(f"{name} {version}" for name, version in libraries.items()),
        "inputs": [
            [item.get("file", ""), str(item.get("sha256", ""))[:16]] for item in inputs[:INPUTS]
        ],
        "more_inputs": len(inputs) - INPUTS,
    }
