"""Everything the report measures, and the same as plain numbers for machines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from astrolabel.catalog.catalog import read_catalog
from astrolabel.core.config import ClassifyConfig
from astrolabel.io.positions import Misplaced, misplaced, shape_of
from astrolabel.report.bins import Curve, choose_band
from astrolabel.report.catalog import AgainstCatalog, compare_with_catalog
from astrolabel.report.counts import Counts, Distribution, count, distributions
from astrolabel.report.labels import Labels, read_labels
from astrolabel.report.residuals import Residuals, measure_residuals
from astrolabel.report.truth import AgainstTruth, compare_with_truth


@dataclass(frozen=True, eq=False)
class Measured:
    """A dataset measured; `catalog` and `truth` are None where none was given.

    `band` is the one whose magnitudes are shown; None when the labels have none. `misplaced`
    has, by index of an image, what is wrong with the sky positions of its labels.
    """

    labels: Labels
    band: str | None
    counts: Counts
    distributions: Mapping[str, Distribution]
    residuals: Residuals
    catalog: AgainstCatalog | None
    truth: AgainstTruth | None
    misplaced: Mapping[int, Misplaced | str] = field(default_factory=dict)


def measure(
    coco: Path,
    catalog: tuple[Path, str] | None = None,
    truth: Path | None = None,
    progress: bool = False,
    images: Path | None = None,
) -> Measured:
    """Measure a COCO document and the files beside it.

    Parameters
    ----------
    coco : the labels.
    catalog : a table and its scheme; the columns of the scheme ``columns`` are those that
        the labels were made with.
    truth : the truth of a simulated sky.
    progress : show a bar while tiles are read.
    images : folder of the images; found beside the document where None.

    Raises
    ------
    InputError
        When a file cannot be read or does not belong to the labels.
    """
    labels = read_labels(coco, images)
    used = (labels.info.get("config") or {}).get("classify") or {}
    bands = [name.removeprefix("mag_") for name in labels.values if name.startswith("mag_")]
    band = choose_band(_in_order(labels, bands), used.get("magnitude_band"))
    radius = float(used.get("radius_arcsec", ClassifyConfig.radius_arcsec))
    of_catalog = None
    if catalog is not None:
        path, scheme = catalog
        words = dict(used.get("columns") or ()) if scheme == "columns" else None
        read = read_catalog(path, scheme, magnitude_band=band or "i", columns=words)
        of_catalog = compare_with_catalog(labels, read, band, radius)
    return Measured(
        labels=labels,
        band=band,
        counts=count(labels),
        distributions=distributions(labels, band),
        residuals=measure_residuals(labels, progress),
        catalog=of_catalog,
        truth=None if truth is None else compare_with_truth(labels, read_labels(truth), band),
        misplaced=dict(_misplaced(labels)),
    )


def _misplaced(labels: Labels) -> Iterator[tuple[int, Misplaced | str]]:
    """Images with labels whose sky position is not that of their pixels; what is wrong."""
    columns = np.stack([labels.value(name) for name in ("ra", "dec", "x", "y")], axis=1)
    for index, (image, rows) in enumerate(zip(labels.images, labels.by_image, strict=True)):
        cards = (image.get("astro") or {}).get("wcs")
        if not cards or not len(rows):
            continue
        sky, pixels = columns[rows, :2], columns[rows, 2:]
        ids = labels.ids[rows].tolist()
        try:
            found = misplaced(cards, shape_of(image), ids, sky, pixels, labels.boxes[rows])
        except ValueError as error:
            yield index, f"its WCS is none of the sky ({error})"
            continue
        if found.ids:
            yield index, found


def _in_order(labels: Labels, bands: list[str]) -> list[str]:
    """Bands from blue to red, as the images name them; others after."""
    astro = (labels.images[0].get("astro") or {}) if labels.images else {}
    named = astro.get("bands") or []
    return [b for b in named if b in bands] + [b for b in bands if b not in named]


def numbers(measured: Measured) -> dict[str, Any]:
    """The report for machines: every number of the page, NaN as such."""
    m, left = measured, measured.residuals
    own = left.chi2[m.labels.own]
    known = own[np.isfinite(own)]
    return {
        "schema": 1,
        "labels": m.labels.path.name,
        "program": m.labels.info.get("program"),
        "config_hash": m.labels.info.get("config_hash"),
        "counts": {
            **asdict(m.counts),
            "tiles_by_kind": m.counts.tiles_by_kind,
            "detections_with_class": list(m.counts.in_catalog),
        },
        "distributions": {
            name: {
                "label": d.bins.label,
                "edges": d.bins.edges,
                "classes": dict(d.classes),
                "medians": dict(d.medians),
            }
            for name, d in m.distributions.items()
        },
        "residuals": {
            "chi2_inside": left.chi2_inside,
            "chi2_outside": left.chi2_outside,
            "chi2_of_labels_median": float(np.median(known)) if len(known) else math.nan,
            "groups_outside": left.groups_outside,
            "images_without": left.without,
            "tiles": [
                {**asdict(t), "file_name": m.labels.images[t.image]["file_name"]}
                for t in left.tiles
            ],
        },
        "misplaced": {
            str(m.labels.images[k]["file_name"]): found if isinstance(found, str) else asdict(found)
            for k, found in m.misplaced.items()
        },
        "catalog": None if m.catalog is None else _of_catalog(m.catalog),
        "truth": None if m.truth is None else _of_truth(m.truth),
    }


def _of_catalog(found: AgainstCatalog) -> dict[str, Any]:
    plain = (
        "scheme", "radius_arcsec", "n_labels", "n_catalog", "n_pairs", "offset_arcsec",
        "scatter_arcsec", "separation_arcsec", "band", "catalog_band", "magnitude",
    )  # fmt: skip
    curves = ("label_rate", "catalog_rate", "magnitude_curve")
    return {
        "file": Path(found.name).name,
        **{name: getattr(found, name) for name in plain},
        **{name: _curve(getattr(found, name)) for name in curves},
    }


def _of_truth(found: AgainstTruth) -> dict[str, Any]:
    def by_quantity(curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
        return {n: {g: _curve(c) for g, c in groups.items()} for n, groups in curves.items()}

    return {
        "file": found.truth.path.name,
        **asdict(found.quality),
        "complete_list": found.complete_list,
        "offset_px": found.offset_px,
        "flux_bias": dict(found.flux_bias),
        "confusion": [
            {"true": a, "given": b, "number": n} for (a, b), n in found.confusion.items()
        ],
        "completeness_curves": by_quantity(found.completeness),
        "purity_curves": by_quantity(found.purity),
        "iou_curves": by_quantity(found.iou),
        "magnitude_curves": {g: _curve(c) for g, c in found.magnitude.items()},
    }


def _curve(curve: Curve | None) -> dict[str, Any] | None:
    return None if curve is None else asdict(curve)
