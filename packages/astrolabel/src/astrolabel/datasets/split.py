"""Split a dataset into parts that share no sky: train, validation, test.

Images go to a part by a region of the sky, or by the HEALPix cell of their centre. Then
what two parts have in common is removed from one of them. Images whose sky another part
has too are dropped. Objects that reach over a border, or are listed twice, stay labels on one
side and become ignore regions on the other.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
from astropy_healpix import HEALPix, nside_to_level, pixel_resolution_to_nside
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrolabel.core.celestial import unit_vectors
from astrolabel.core.errors import InputError
from astrolabel.datasets.footprints import (
    OVERLAP_ARCSEC2,
    Place,
    fraction_inside,
    near_pairs,
    overlap_arcsec2,
)
from astrolabel.datasets.regions import Region
from astrolabel.io.positions import sky_position
from astrolabel.io.stream import Annotations

SAME_OBJECT_ARCSEC = 0.5
"""Labels of two parts nearer than this are one object: three HSC pixels, less than the
seeing, within which no survey from the ground separates two."""
BORDER_ARCSEC = 10.0
"""A label flagged `peak_outside` within this of another part's image is that part's
object reaching over the border; more than the radius of all but the largest galaxies."""

Document = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Split:
    """Which part each image is in.

    Attributes
    ----------
    parts : names; where two parts claim one piece of sky the later one has it.
    part : (N,) int index into `parts` per image; -1 for none.
    why : per image that is in none, the reason.
    ignored : ids of annotations that become ignore regions.
    places : of the images.
    labels : number of annotations of each image.
    """

    parts: tuple[str, ...]
    part: NDArray[np.int64]
    why: Mapping[int, str]
    ignored: frozenset[int]
    places: tuple[Place, ...]
    labels: tuple[int, ...]


def by_regions(
    places: Sequence[Place], regions: Mapping[str, Sequence[Region]], rest: str | None
) -> tuple[tuple[str, ...], NDArray[np.int64], dict[int, str]]:
    """(parts, part per image, reasons) by regions of the sky.

    Parameters
    ----------
    regions : by part; of two that hold an image the later has it.
    rest : the part of images that are in no region; None leaves them out.
    """
    first = () if rest is None or rest in regions else (rest,)
    parts = (*first, *regions)
    part = np.full(len(places), -1)
    why: dict[int, str] = {}
    for k, one in enumerate(places):
        for name in reversed(list(regions)):
            inside = fraction_inside(regions[name], one)
            if inside == 1:
                part[k] = parts.index(name)
            elif inside > 0:
                why[k] = f"lies on the border of {name}'s region"
            if inside > 0:
                break
        else:
            if rest is not None:
                part[k] = parts.index(rest)
            else:
                why[k] = "is in no region"
    return parts, part, why


def by_cells(
    places: Sequence[Place],
    fractions: Mapping[str, float],
    order: int | None,
    seed: int,
    stable: bool = False,
) -> tuple[tuple[str, ...], NDArray[np.int64], dict[int, str], int]:
    """(parts, part per image, reasons, order) by the HEALPix cell of the images' centres.

    Cells go, whole, to the part that lacks most images of its share; their order is drawn from
    a hash of the seed, the order and the cell's number. Where the cells of the default order do
    not meet the shares, and no two images share sky, the next two finer orders are tried.

    Parameters
    ----------
    stable : draw the part of each cell by itself, from the same hash: it stays when more sky is
        added to the dataset, and shares are met on average only.

    Raises
    ------
    InputError
        When no image is on the sky or a part ends up empty.
    """
    known = [k for k, p in enumerate(places) if p.on_sky]
    if not known:
        raise InputError(
            "no image has a WCS, so none has a place on the sky",
            remedy="split by names: a region {coadds: [pattern]}",
        )
    orders = [order] if order is not None else _orders(places, known)
    wanted = shares_of(len(known), fractions)
    tried = []
    for one in orders:
        cells = _cells([places[k] for k in known], one)
        drawn = _drawn(cells, fractions, one, seed) if stable else _filled(cells, wanted, one, seed)
        away = np.abs(np.bincount(drawn, minlength=len(wanted)) - wanted).sum()
        tried.append((away, one, drawn, cells))
        if stable or not away:
            break
    _, order, drawn, cells = min(tried, key=lambda t: t[:2])
    parts = tuple(fractions)
    part = np.full(len(places), -1)
    part[known] = drawn
    for j, name in enumerate(parts):
        if not (part == j).any():
            raise InputError(
                f"{len(set(cells.tolist()))} HEALPix cells of order {order} leave none for {name}",
                remedy="choose smaller cells with --order, or another --seed",
            )
    why = {k: "has no WCS" for k in range(len(places)) if k not in set(known)}
    return parts, part, why, order


def shares_of(number: int, fractions: Mapping[str, float]) -> NDArray[np.int64]:
    """Images of each part: the fractions of a number, rounded so that they add up to it.

    No part is left empty where there are enough images.
    """
    exact = number * np.array(list(fractions.values())) / sum(fractions.values())
    shares = np.floor(exact).astype(np.int64)
    for j in np.argsort(shares - exact, kind="stable")[: number - shares.sum()]:
        shares[j] += 1
    while number >= len(shares) and (shares == 0).any():
        shares[int(shares.argmax())] -= 1
        shares[int(shares.argmin())] += 1
    return shares


def _orders(places: Sequence[Place], known: Sequence[int]) -> list[int]:
    """The finest cells that an image fills (an image is about sqrt(2) radii wide), and finer ones
    where that parts no sky that images share."""
    width = np.median([places[k].radius for k in known]) * np.sqrt(2) * u.rad
    order = int(nside_to_level(pixel_resolution_to_nside(width, round="down")))
    shared = any(
        overlap_arcsec2(places[k], places[j]) > OVERLAP_ARCSEC2 for k, j in near_pairs(places)
    )
    return [order] if shared else [order, order + 1, order + 2]


def _cells(places: Sequence[Place], order: int) -> NDArray[np.int64]:
    centres = np.array([p.centre for p in places])
    ra = np.arctan2(centres[:, 1], centres[:, 0]) % (2 * np.pi)
    dec = np.arcsin(np.clip(centres[:, 2], -1, 1))
    found = HEALPix(2**order, order="nested").lonlat_to_healpix(ra * u.rad, dec * u.rad)
    return np.asarray(found, np.int64)


def _draw(seed: int, order: int, cell: int) -> float:
    """A number from 0 to 1 that a cell always has."""
    digest = hashlib.sha256(f"{seed}/{order}/{cell}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _drawn(
    cells: NDArray[np.int64], fractions: Mapping[str, float], order: int, seed: int
) -> NDArray[np.int64]:
    """Part of each image, by its cell's own draw."""
    edges = np.cumsum(list(fractions.values())) / sum(fractions.values())
    draws = [_draw(seed, order, int(cell)) for cell in cells]
    found = np.searchsorted(edges, draws, side="right")
    return np.minimum(found, len(edges) - 1).astype(np.int64)


def _filled(
    cells: NDArray[np.int64], wanted: NDArray[np.int64], order: int, seed: int
) -> NDArray[np.int64]:
    """Part of each image: cells, the fullest first, to the part that lacks most for its share."""
    numbers, which, counts = np.unique(cells, return_inverse=True, return_counts=True)
    line = sorted(
        range(len(numbers)), key=lambda c: (-counts[c], _draw(seed, order, int(numbers[c])))
    )
    lacking = wanted.astype(float).copy()
    of_cell = np.full(len(numbers), -1)
    for left, c in zip(range(len(line), 0, -1), line, strict=True):
        # A part that the cell just fills comes before one that it leaves wanting.
        fits = lacking >= counts[c]
        among = np.where(fits, lacking / wanted.clip(1), -np.inf) if fits.any() else lacking
        empty = ~np.isin(np.arange(len(wanted)), of_cell)
        if left <= empty.sum():  # the last cells are for parts that have none
            among = np.where(empty, lacking, -np.inf)
        of_cell[c] = int(among.argmax())
        lacking[of_cell[c]] -= counts[c]
    return of_cell[which]


def separate(
    doc: Document,
    parts: tuple[str, ...],
    part: NDArray[np.int64],
    why: Mapping[int, str],
    places: Sequence[Place],
) -> Split:
    """Take out what two parts have in common (see the module's description)."""
    part, why = part.copy(), dict(why)
    for k, j in sorted(near_pairs(places)):
        if part[k] == part[j] or min(part[k], part[j]) < 0:
            continue
        if overlap_arcsec2(places[k], places[j]) > OVERLAP_ARCSEC2:
            loser = k if part[k] < part[j] else j
            winner = parts[max(part[k], part[j])]
            part[loser] = -1
            why[loser] = f"shares sky with an image of {winner}"
    ignored = _reaching_over(doc, part, places)
    ignored |= {low for low, _, _ in repeated(doc, part, ignored)}
    return Split(parts, part, why, frozenset(ignored), tuple(places), labels_of(doc))


def labels_of(doc: Document) -> tuple[int, ...]:
    """Number of annotations of each image."""
    counts = Counter(a["image_id"] for a in doc["annotations"])
    return tuple(counts[image["id"]] for image in doc["images"])


def _by_image(doc: Document) -> dict[int, int]:
    return {image["id"]: k for k, image in enumerate(doc["images"])}


def _reaching_over(doc: Document, part: NDArray[np.int64], places: Sequence[Place]) -> set[int]:
    """Labels whose peak lies beyond their image, in one of another part."""
    beside: dict[int, list[int]] = {}
    for k, j in near_pairs(places, BORDER_ARCSEC):
        if part[k] != part[j] and min(part[k], part[j]) >= 0:
            beside.setdefault(k, []).append(j)
            beside.setdefault(j, []).append(k)
    index = _by_image(doc)
    found = set()
    for a in doc["annotations"] if beside else ():
        k = index[a["image_id"]]
        flags = (a.get("attributes") or {}).get("flags") or ()
        if k not in beside or "peak_outside" not in flags:
            continue
        position = sky_position(a)
        if position and any(places[j].distance(*position) <= BORDER_ARCSEC for j in beside[k]):
            found.add(a["id"])
    return found


def repeated(
    doc: Document, part: NDArray[np.int64], ignored: Collection[int] = ()
) -> list[tuple[int, int, str]]:
    """(annotation of an earlier part, one of a later part, why) that are one object.

    Ignore regions, and the annotations of the ids `ignored`, do not count.
    """
    rows = _compared(doc, part, ignored)
    named, near = _of_one_name(rows), _of_one_place(rows)
    wanted = {*named.tolist(), *near.ravel().tolist()}
    about = {
        n: (int(part[k]), a["id"], str((a.get("attributes") or {}).get("object_id")))
        for n, (a, k) in enumerate(_with_index(doc) if wanted else ())
        if n in wanted
    }
    found: dict[tuple[int, int], str] = {}
    by_name: dict[str, list[tuple[int, int]]] = {}
    for n in named.tolist():
        p, number, name = about[n]
        by_name.setdefault(name, []).append((p, number))
    for name, group in by_name.items():
        last = max(group)
        for p, number in group:
            if p != last[0]:
                found[number, last[1]] = f"catalog object {name}"
    for i, j in near.tolist():
        (_, low, _), (_, high, _) = sorted((about[i], about[j]))
        found.setdefault((low, high), f"within {SAME_OBJECT_ARCSEC} arcsec")
    return [(low, high, why) for (low, high), why in sorted(found.items())]


class _Rows(NamedTuple):
    """Annotations that are compared, a few numbers each: there may be millions.

    number : place in the document.
    part : of the image.
    name : hash of the catalog object's name, 0 without one.
    sky : (N, 2) ra and dec in degrees, NaN without.
    """

    number: NDArray[np.int64]
    part: NDArray[np.int64]
    name: NDArray[np.int64]
    sky: NDArray[np.float64]


def _with_index(doc: Document) -> Iterator[tuple[dict[str, Any], int]]:
    """Each annotation, and the place of its image."""
    index = _by_image(doc)
    return ((a, index[a["image_id"]]) for a in doc["annotations"])


def _compared(doc: Document, part: NDArray[np.int64], ignored: Collection[int]) -> _Rows:
    """The annotations that are labels of an image in a part."""
    numbers, parts, names, sky = array("q"), array("q"), array("q"), array("d")
    for n, (a, k) in enumerate(_with_index(doc)):
        if a["iscrowd"] or part[k] < 0 or a["id"] in ignored:
            continue
        name = (a.get("attributes") or {}).get("object_id")
        numbers.append(n)
        parts.append(int(part[k]))
        names.append(hash(str(name)) or 1 if name else 0)
        sky.extend(sky_position(a) or (np.nan, np.nan))
    return _Rows(np.array(numbers), np.array(parts), np.array(names), np.array(sky).reshape(-1, 2))


def _of_one_name(rows: _Rows) -> NDArray[np.int64]:
    """Numbers of the annotations whose catalog object is in more than one part."""
    known = np.flatnonzero(rows.name)
    order = known[np.lexsort((rows.part[known], rows.name[known]))]
    same = np.zeros(len(order), bool)
    same[1:] = np.diff(rows.name[order]) == 0
    group = np.cumsum(~same) - 1
    several = np.zeros(len(order), bool)
    several[group[1:][same[1:] & (np.diff(rows.part[order]) != 0)]] = True
    return np.asarray(np.sort(rows.number[order[several[group]]]))


def _of_one_place(rows: _Rows) -> NDArray[np.int64]:
    """(M, 2) numbers of the annotations of different parts that are at one place."""
    placed = np.flatnonzero(np.isfinite(rows.sky).all(axis=1))
    if not placed.size:
        return np.zeros((0, 2), np.int64)
    tree = cKDTree(unit_vectors(*rows.sky[placed].T))
    pairs = placed[tree.query_pairs(np.radians(SAME_OBJECT_ARCSEC / 3600), output_type="ndarray")]
    apart = rows.part[pairs[:, 0]] != rows.part[pairs[:, 1]]
    return np.asarray(rows.number[pairs[apart]])


def part_document(doc: Document, split: Split, name: str) -> Document:
    """The document of one part, numbered from 1; its annotations are `Annotations`."""
    chosen = split.parts.index(name)
    images: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}
    for k, image in enumerate(doc["images"]):
        if split.part[k] == chosen:
            numbers[image["id"]] = len(images) + 1
            images.append({**image, "id": len(images) + 1})

    def own() -> Iterator[dict[str, Any]]:
        for a in doc["annotations"]:
            if a["image_id"] not in numbers:
                continue
            if a["id"] in split.ignored:
                attributes = {**a["attributes"], "ignored": "labelled in another part"}
                a = {**a, "iscrowd": 1, "attributes": attributes}
            yield {**a, "image_id": numbers[a["image_id"]]}

    def numbered() -> Iterator[dict[str, Any]]:
        return ({**a, "id": n} for n, a in enumerate(own(), start=1))

    count = sum(split.labels[k] for k in np.flatnonzero(split.part == chosen).tolist())
    return {**doc, "images": images, "annotations": Annotations(numbered, count)}
