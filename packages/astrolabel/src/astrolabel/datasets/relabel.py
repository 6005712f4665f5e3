"""The same masks with new classes: one deblending serves several label schemes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.catalog import GALAXY, STAR, Catalog, catalog_for
from astrolabel.catalog.classify import NO_CLASS, OK, Classes, categories, classify
from astrolabel.catalog.combine import galaxy_probability
from astrolabel.core.config import ClassifyConfig
from astrolabel.core.errors import InputError
from astrolabel.core.files import file_hash
from astrolabel.io import coco
from astrolabel.io.positions import sky_position

Document = dict[str, Any]
ELSEWHERE = ("labelled in another coadd", "labelled in another part")
"""Reasons of ignore regions that stay so whatever their class."""


@dataclass(frozen=True)
class Relabelled:
    """What `relabel_file` wrote.

    Attributes
    ----------
    coco : the file.
    states : number of masks by state, ``ok`` or why they have no class.
    """

    coco: Path
    states: Mapping[str, int]

    def summary(self) -> str:
        width = max(len(str(n)) for n in self.states.values()) if self.states else 1
        return "\n".join(
            [f"{self.coco}:", *(f"  {n:{width}d} {state}" for state, n in self.states.items())]
        )


def relabel_file(
    source: Path,
    out: Path,
    catalogs: list[tuple[Path, ClassifyConfig]],
) -> Relabelled:
    """Give a label file's masks the classes of one or two other catalogs.

    Parameters
    ----------
    source : COCO document with ``ra`` and ``dec`` (and magnitudes, for a match by these)
        among its attributes.
    out : the new document; in the same folder, since its images are named from there.
    catalogs : each with its rule; the first says what becomes of masks without a class.
        Where two are given their classes are combined by `galaxy_probability`, the first
        trusted more.

    Raises
    ------
    InputError
        When a file cannot be read or the labels have no positions.
    OutputError
        When `out` cannot be written.
    """
    if out.resolve().parent != source.resolve().parent:
        raise InputError(
            "the new file must lie beside the old one, which names its images from there",
            file=out,
            remedy=f"choose a file in {source.parent}",
        )
    doc = coco.read(source)
    read = [(catalog_for(path, config), config) for path, config in catalogs]
    new, states = relabel(doc, read)
    info = dict(new.get("info") or {})
    hashes = {path.name: file_hash(path) for path, _ in catalogs}
    rules = [asdict(config) for _, config in catalogs]
    # The hash is of the recipe as it is now; the classes are part of it.
    recipe = {**(info.get("config") or {}), "classify": rules[0]}
    info["config"] = recipe
    info["config_hash"] = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[
        :16
    ]
    info["catalog"] = read[0][0].described(catalogs[0][0].name)
    info["relabelled"] = {
        "from": {"file": source.name, "sha256": file_hash(source)},
        "catalogs": [
            {**catalog.described(path.name), "sha256": hashes[path.name], "rule": rule}
            for (path, _), (catalog, _), rule in zip(catalogs, read, rules, strict=True)
        ],
        "states": states,
    }
    new["info"] = info
    coco.write_json(out, new)
    return Relabelled(out, states)


def relabel(
    doc: Document, catalogs: list[tuple[Catalog, ClassifyConfig]]
) -> tuple[Document, dict[str, int]]:
    """(the document with new classes, number of masks by state); see `relabel_file`.

    Matches are made image by image, as when coadds are labelled. What was an ignore region
    for want of a class is tried again; what is labelled elsewhere stays one. Masks without
    a class are left out, or kept as ignore regions where the rule says so.
    """
    config = catalogs[0][1]
    items = doc["annotations"]
    by_image: dict[int, list[int]] = {}
    for k, a in enumerate(items):
        if sky_position(a) is None:
            raise InputError(
                f"annotation {a['id']} has no sky position",
                remedy="relabel files that `astrolabel make-coco` made from coadds with a WCS",
            )
        by_image.setdefault(a["image_id"], []).append(k)
    label = np.zeros(len(items), np.int64)
    probability = np.full(len(items), np.nan)
    state = np.full(len(items), "", object)
    ids: list[str | None] = [None] * len(items)
    votes = np.zeros((len(catalogs), len(items)), np.int8)
    for rows in by_image.values():
        for w, (catalog, rule) in enumerate(catalogs):
            found = _classes(items, rows, catalog, rule)
            votes[w, rows] = found.category_id
            for i, k in enumerate(rows):
                if found.catalog_index[i] >= 0 and ids[k] is None:
                    ids[k] = str(found.object_id[i])
                if w == 0 or state[k] != OK:
                    state[k] = found.state[i] if w == 0 or found.state[i] == OK else state[k]
    label[:] = votes[0]
    if len(catalogs) == 2:
        magnitude = _magnitudes(items, config.magnitude_band)
        probability = galaxy_probability(votes[0], votes[1], magnitude, config.fusion)
        label = np.where(probability >= 0.5, GALAXY, np.where(probability < 0.5, STAR, 0))
        state[(label == 0) & (state == OK)] = NO_CLASS
    schemes = [rule.scheme for _, rule in catalogs]
    kept: list[dict[str, Any]] = []
    for k, a in enumerate(items):
        changed = _changed(a, int(label[k]), str(state[k]), ids[k], schemes, votes[:, k])
        if len(catalogs) == 2 and np.isfinite(probability[k]):
            changed["attributes"]["p_galaxy"] = round(float(probability[k]), 4)
        if not changed.get("iscrowd") or config.keep_unmatched or _elsewhere(a):
            kept.append({**changed, "id": len(kept) + 1})
    counted = Counter("labelled elsewhere" if _elsewhere(a) else str(s)
                      for a, s in zip(items, state, strict=True))  # fmt: skip
    new = {**doc, "categories": categories(config.scheme), "annotations": kept}
    return new, dict(sorted(counted.items()))


def _elsewhere(a: Mapping[str, Any]) -> bool:
    return a.get("iscrowd") == 1 and a["attributes"].get("ignored") in ELSEWHERE


def _classes(
    items: list[dict[str, Any]], rows: list[int], catalog: Catalog, rule: ClassifyConfig
) -> Classes:
    ra = np.array([items[k]["attributes"]["ra"] for k in rows], float)
    dec = np.array([items[k]["attributes"]["dec"] for k in rows], float)
    magnitude = _magnitudes([items[k] for k in rows], rule.magnitude_band)
    known = any(f"mag_{rule.magnitude_band}" in items[k]["attributes"] for k in rows)
    return classify(ra, dec, magnitude if known else None, catalog, rule)


def _magnitudes(items: list[dict[str, Any]], band: str) -> NDArray[np.float64]:
    values = [a["attributes"].get(f"mag_{band}") for a in items]
    return np.array([np.nan if v is None else v for v in values], float)


def _changed(
    a: Mapping[str, Any],
    label: int,
    state: str,
    object_id: str | None,
    schemes: list[str],
    votes: NDArray[np.int8],
) -> dict[str, Any]:
    """An annotation with its new class, or as an ignore region."""
    attributes = {k: v for k, v in a["attributes"].items() if k not in ("ignored", "p_galaxy")}
    attributes["object_id"] = object_id
    used = [scheme for scheme, vote in zip(schemes, votes, strict=True) if vote in (GALAXY, STAR)]
    attributes["class_source"] = "+".join(used) if used else (schemes[0] if object_id else None)
    if _elsewhere(a):
        attributes["ignored"] = a["attributes"]["ignored"]
    elif state != OK:
        attributes["ignored"] = state.removeprefix("skipped:")
    ignored = int("ignored" in attributes)
    return {**a, "category_id": max(label, 1), "iscrowd": ignored, "attributes": attributes}
