"""How many of what: tiles and detections by state, labels by class, flag and size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.classify import UNMATCHED
from astrolabel.report import bins
from astrolabel.report.bins import Bins
from astrolabel.report.labels import Labels


@dataclass(frozen=True)
class Counts:
    """What the document holds, and what it says of how it was made.

    Attributes
    ----------
    tiles, detections : number by state; empty where the document has none.
    images, labels, ignored, elsewhere : images; labels that count; ignore regions; masks
        whose peak lies in a neighbouring tile.
    classes : labels by class name.
    flags : labels by flag.
    flag_meanings : as the document explains them.
    matched : labels with a catalog's object id.
    """

    tiles: Mapping[str, int]
    detections: Mapping[str, int]
    images: int
    labels: int
    ignored: int
    elsewhere: int
    classes: Mapping[str, int]
    flags: Mapping[str, int]
    flag_meanings: Mapping[str, str]
    matched: int

    @property
    def tiles_by_kind(self) -> dict[str, int]:
        """``ok``, ``skipped`` and ``failed``."""
        total: Counter[str] = Counter({"ok": 0, "skipped": 0, "failed": 0})
        for state, number in self.tiles.items():
            total[state.partition(":")[0]] += number
        return dict(total)

    @property
    def in_catalog(self) -> tuple[int, int]:
        """Detections with a class from the catalog, and all that asked for one."""
        matched = self.detections.get("ok", 0)
        asked = sum(n for state, n in self.detections.items() if state.startswith(UNMATCHED))
        return matched, matched + asked


def count(labels: Labels) -> Counts:
    """Count what a document holds."""
    own, info = labels.own, labels.info
    tiles = info.get("tiles") or []
    return Counts(
        tiles=dict(Counter(str(tile["state"]) for tile in tiles)),
        detections=dict(info.get("sources") or {}),
        images=len(labels.images),
        labels=int(own.sum()),
        ignored=int(labels.ignored.sum()),
        elsewhere=int((~own & ~labels.ignored).sum()),
        classes={name: int((own & (labels.category == k)).sum()) for k, name in labels.classes()},
        flags={name: int((column & own).sum()) for name, column in labels.flags.items()},
        flag_meanings={str(k): _meaning(v) for k, v in (info.get("flags") or {}).items()},
        matched=int((labels.matched & own).sum()),
    )


def _meaning(explained: Any) -> str:
    """A flag's meaning: a text, or a table's entry that has one."""
    if isinstance(explained, Mapping):
        return str(explained.get("meaning") or explained.get("description") or "")
    return str(explained)


@dataclass(frozen=True, eq=False)
class Distribution:
    """Labels by one quantity: numbers per bin by class, and the median of each class."""

    bins: Bins
    classes: Mapping[str, tuple[int, ...]]
    medians: Mapping[str, float]


def distributions(labels: Labels, band: str | None) -> dict[str, Distribution]:
    """Magnitude, diameter, signal-to-noise and blending of the labels, by class."""
    own = labels.own
    wanted: dict[str, tuple[NDArray[np.float64], Bins | None]] = {}
    if band is not None:
        name = f"mag_{band}"
        wanted[name] = (
            labels.value(name),
            bins.magnitudes(name, f"{band} magnitude", labels.value(name)[own]),
        )
    size = diameter_arcsec(labels)
    unit = "arcsec"
    if not np.isfinite(size[own]).any():
        size, unit = 2 * np.sqrt(labels.area / np.pi), "pixels"
    wanted["diameter"] = (
        size,
        bins.logarithmic("diameter", f"diameter of the mask, {unit}", size[own]),
    )
    snr, blended = labels.value("snr"), labels.value("n_blended")
    wanted["snr"] = (snr, bins.logarithmic("snr", "S/N in the mask", snr[own]))
    wanted["n_blended"] = (blended, bins.blends(blended[own]))
    out = {}
    for name, (values, cut) in wanted.items():
        if cut is None:
            continue
        of_class = {n: values[own & (labels.category == k)] for k, n in labels.classes()}
        out[name] = Distribution(
            cut,
            {n: bins.histogram(cut, v) for n, v in of_class.items()},
            {n: bins.median(v) for n, v in of_class.items()},
        )
    return out


def diameter_arcsec(labels: Labels) -> NDArray[np.float64]:
    """(N,) diameter of the circle of each mask's area; NaN without a WCS."""
    scale = labels.pixel_scale
    if not len(labels):
        return np.zeros(0)
    return np.asarray(2 * np.sqrt(labels.area / np.pi) * scale[labels.image])
