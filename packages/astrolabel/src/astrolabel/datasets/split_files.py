"""`astrolabel split`: read label files, write one per part, and find leaks between parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from astrolabel.core.errors import InputError
from astrolabel.core.files import file_hash, write_bytes
from astrolabel.datasets.footprints import (
    OVERLAP_ARCSEC2,
    moc_of_file,
    near_pairs,
    overlap_arcsec2,
    place,
)
from astrolabel.datasets.manifest import read_manifest
from astrolabel.datasets.regions import Region, read_splits
from astrolabel.datasets.sky_map import sky_map
from astrolabel.datasets.split import (
    Document,
    Split,
    by_cells,
    by_regions,
    labels_of,
    part_document,
    repeated,
    separate,
    shares_of,
)
from astrolabel.io import coco
from astrolabel.io.stream import Annotations
from astrolabel.io.structure import check_structure


@dataclass(frozen=True, eq=False)
class Written:
    """What `split_files` wrote.

    Attributes
    ----------
    files : the document of each part.
    map : the sky map.
    split : the parts themselves.
    document : what was split.
    wanted : images that the fractions ask for, by part; empty for regions.
    """

    files: Mapping[str, Path]
    map: Path
    split: Split
    document: Document
    wanted: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """A few lines for people."""
        lines, split = [], self.split
        own, ignored = Counter[int](), Counter[int]()
        for j, number in zip(split.part.tolist(), split.labels, strict=True):
            own[j] += number
        if split.ignored:
            part_of = dict(
                zip((i["id"] for i in self.document["images"]), split.part.tolist(), strict=True)
            )
            for a in self.document["annotations"]:
                ignored[part_of[a["image_id"]]] += a["id"] in split.ignored
        for name, path in self.files.items():
            j = split.parts.index(name)
            more = f", {ignored[j]} more of objects that another part has" if ignored[j] else ""
            images = int((split.part == j).sum())
            lines.append(f"{path}: {images} images, {own[j] - ignored[j]} labels{more}")
        came = {n: int((split.part == split.parts.index(n)).sum()) for n in self.wanted}
        if came != self.wanted:
            asked = ", ".join(f"{n} {name}" for name, n in self.wanted.items())
            lines.append(
                f"asked for {asked}: cells of the sky are not divided; a finer --order has "
                "smaller ones, another --seed others"
            )
        reasons = Counter(split.why.values())
        lines += [f"in no part: {n} images, each {why}" for why, n in sorted(reasons.items())]
        return "\n".join([*lines, f"map: {self.map}"])


def split_files(
    files: Sequence[Path],
    out: Path,
    *,
    regions: Mapping[str, Sequence[Region]] | None = None,
    rest: str | None = "train",
    fractions: Mapping[str, float] | None = None,
    order: int | None = None,
    seed: int = 0,
    stable: bool = False,
) -> Written:
    """Split label files into ``out/<part>.json`` and draw ``out/split.svg``.

    Parameters
    ----------
    regions : of each part. Where all are names of coadds (simulated scenes, whose WCS may
        all be the same), nothing is compared on the sky. Or
    fractions : the share of each part, by HEALPix cells of `order` (by default the finest
        that an image fills): met exactly as far as cells allow.
    stable : the part of a cell stays when more sky is added; shares are met on average.
    rest : the part of the images in none of the regions; None leaves them out.

    Raises
    ------
    InputError
        When the files cannot be read or do not belong together, or a part would be empty.
    OutputError
        When a file cannot be written.
    """
    doc, hashes = read_all(files, out)
    places = tuple(place(k, image) for k, image in enumerate(doc["images"]))
    rule: dict[str, Any] = {"sources": hashes}
    wanted: dict[str, int] = {}
    if regions is not None:
        parts, part, why = by_regions(places, regions, rest)
        rule["regions"] = {
            name: [{r.kind: r.value} for r in given] for name, given in regions.items()
        }
        rule["rest"] = rest
    else:
        shares = fractions or {"train": 0.8, "val": 0.1, "test": 0.1}
        parts, part, why, order = by_cells(places, shares, order, seed, stable)
        rule |= {"fractions": dict(shares), "healpix_order": order, "seed": seed, "stable": stable}
        on_sky = sum(p.on_sky for p in places)
        wanted = dict(zip(shares, shares_of(on_sky, shares).tolist(), strict=True))
    if regions is not None and all(r.kind == "coadds" for g in regions.values() for r in g):
        split = Split(parts, part, why, frozenset(), places, labels_of(doc))
    else:
        split = separate(doc, parts, part, why, places)
    for j, name in enumerate(parts):
        if not (split.part == j).any():
            raise InputError(
                f"no image is left for the part {name}",
                remedy="look at the regions: an image must lie wholly in one",
            )
    written = {}
    for name in parts:
        one = part_document(doc, split, name)
        dropped = {doc["images"][k]["file_name"]: reason for k, reason in split.why.items()}
        one["info"] = {**(one["info"] or {}), "split": {"part": name, **rule, "dropped": dropped}}
        written[name] = out / f"{name}.json"
        coco.write_document(written[name], one)
    title = f"{', '.join(p.name for p in files)} split into {', '.join(parts)}"
    drawing = sky_map(places, split.part, parts, split.why, title)
    write_bytes(out / "split.svg", drawing.encode())
    return Written(written, out / "split.svg", split, doc, {} if stable else wanted)


def read_regions(
    given: Sequence[str] | None, manifest: Path | None
) -> dict[str, tuple[Region, ...]] | None:
    """Regions by part, from ``PART=KIND:VALUE`` words or a manifest; None without both.

    Raises
    ------
    InputError
        For a word that cannot be read, and a manifest without splits.
    """
    if manifest is not None:
        splits = dict(read_manifest(manifest).splits)
        if not splits:
            raise InputError(
                "has no splits", file=manifest, remedy="add regions by part under `splits`"
            )
        return splits
    if not given:
        return None
    regions: dict[str, list[Any]] = {}
    for word in given:
        part, _, rest = word.partition("=")
        kind, colon, value = rest.partition(":")
        if not part or not colon:
            raise InputError(f"--region {word!r}", remedy="write PART=circle:RA,DEC,RADIUS")
        regions.setdefault(part, []).append({kind: _region_value(word, kind, value)})
    return read_splits(Path("--region"), regions)


def _region_value(word: str, kind: str, value: str) -> Any:
    """What a manifest would have under this kind."""
    if kind == "circle":
        try:
            return [float(v) for v in value.split(",")]
        except ValueError as error:
            raise InputError(
                f"--region {word!r} ({error})", remedy="write PART=circle:RA,DEC,RADIUS"
            ) from error
    if kind == "patches":
        tract, _, patch = value.partition("/")
        return {tract: [patch]}
    if kind == "moc" and value.endswith(".fits"):
        return moc_of_file(Path(value))
    return [value] if kind == "coadds" else value


def read_all(files: Sequence[Path], folder: Path) -> tuple[Document, list[dict[str, str]]]:
    """One document of several files, its paths counted from `folder`; and their hashes.

    Raises
    ------
    InputError
        For a faulty file, other categories than the first's, or an image given twice.
    """
    merged: Document | None = None
    hashes, seen, loops = [], set(), []
    for file in files:
        doc = coco.read_stream(file)
        if found := coco.validate(doc):
            raise InputError(
                f"is faulty ({len(found)} problems; {found[0]})",
                file=file,
                remedy="`astrolabel validate` lists them",
            )
        check_structure(doc, file, annotations=False)
        hashes.append({"file": file.name, "sha256": file_hash(file)})
        if merged is None:
            merged = {**doc, "images": [], "annotations": []}
        elif doc["categories"] != merged["categories"]:
            raise InputError(
                f"its categories are not those of {files[0].name}",
                file=file,
                remedy="label both with one --scheme",
            )
        numbers = {}
        for image in doc["images"]:
            moved = coco.rebased(image, file.parent, folder)
            if moved["file_name"] in seen:
                raise InputError(f"{image['file_name']} is given twice", file=file)
            seen.add(moved["file_name"])
            numbers[image["id"]] = len(merged["images"]) + 1
            merged["images"].append({**moved, "id": numbers[image["id"]]})
        loops.append((doc["annotations"], numbers))
    if merged is None:
        raise InputError("no label file is given", remedy="name a coco.json")
    merged.setdefault("info", {})

    def again() -> Iterator[dict[str, Any]]:
        own = ((a, numbers) for annotations, numbers in loops for a in annotations)
        for n, (a, numbers) in enumerate(own, start=1):
            yield {**a, "id": n, "image_id": numbers[a["image_id"]]}

    count = sum(len(annotations) for annotations, _ in loops)
    return {**merged, "annotations": Annotations(again, count)}, hashes


def leaks(files: Sequence[Path]) -> list[str]:
    """What the parts of a dataset have in common that they must not, a line each.

    Images that share sky, images of the same file, and objects that are labels in two
    parts: by catalog id, or within half an arcsecond.

    Raises
    ------
    InputError
        When a file cannot be read or is faulty, or fewer than two are given.
    """
    if len(files) < 2:
        raise InputError("one part cannot leak", remedy="name two label files or more")
    docs = []
    for file in files:
        doc, _ = read_all([file], Path("/"))
        docs.append(doc)
    found = []
    images = [(p, image) for p, doc in enumerate(docs) for image in doc["images"]]
    owners: dict[str, int] = {}
    for p, image in images:
        if owners.setdefault(image["file_name"], p) != p:
            both = f"{files[owners[image['file_name']]]} and {files[p]}"
            found.append(f"{both}: both have {image['file_name']}")
    places = [place(k, image) for k, (_, image) in enumerate(images)]
    for k, j in sorted(near_pairs(places)):
        p, q = images[k][0], images[j][0]
        if p != q and (area := overlap_arcsec2(places[k], places[j])) > OVERLAP_ARCSEC2:
            found.append(
                f"{files[p]} and {files[q]}: {places[k].name} and {places[j].name} share "
                f"{area:.0f} square arcseconds of sky"
            )
    found += _common_objects(files, docs)
    return found


def _common_objects(files: Sequence[Path], docs: Sequence[Document]) -> list[str]:
    """Objects that two documents label."""
    sizes = [len(doc["images"]) for doc in docs]
    images = [{"id": n} for n in range(sum(sizes))]
    # Images and annotations of each document are numbered from 1 (see `read_all`).
    before = np.cumsum([0, *sizes]).tolist()
    starts = np.cumsum([0, *(len(doc["annotations"]) for doc in docs)]).tolist()

    def again() -> Iterator[dict[str, Any]]:
        for first, start, doc in zip(before, starts, docs, strict=False):
            for a in doc["annotations"]:
                yield {**a, "id": start + a["id"], "image_id": first + a["image_id"] - 1}

    def named(number: int) -> str:
        p = int(np.searchsorted(starts, number)) - 1
        return f"annotation {number - starts[p]} of {files[p]}"

    joined = {"images": images, "annotations": Annotations(again, starts[-1])}
    pairs = repeated(joined, np.repeat(np.arange(len(docs)), sizes))
    return [f"{named(low)} and {named(high)} are one object: {why}" for low, high, why in pairs]
