"""Whether labels lie on the sky where the WCS of their image puts them."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.celestial import unit_vectors

EXACT_PX = 0.1
"""Most that `ra`, `dec` may be off from `x`, `y`: their rounding is a tenth of it, the half pixel
of a mixed convention five times it."""
LOOSE_PX = 2.0
"""Added to the size of the mask where a label has no `x`, `y`: its light is in or beside it."""
NAMED = 5
"""Offenders that a message names."""
REMEDY = (
    "ra and dec are ICRS degrees (not l and b, not swapped, not hours), x and y pixels of the "
    "image from 0"
)


@dataclass(frozen=True)
class Misplaced:
    """The labels of one image that are elsewhere on the sky than in the image.

    Attributes
    ----------
    checked : number of its labels with a position.
    ids : of those that are off, the farthest first.
    offset_px : the distance of each.
    """

    checked: int
    ids: tuple[int, ...]
    offset_px: tuple[float, ...]

    def __str__(self) -> str:
        named = ", ".join(
            f"{i} ({d:.4g} px)" for i, d in zip(self.ids[:NAMED], self.offset_px, strict=False)
        )
        more = ", ..." if len(self.ids) > NAMED else ""
        return (
            f"ra, dec of {len(self.ids)} of {self.checked} annotations are not where its WCS puts "
            f"their pixels: {named}{more}"
        )


def misplaced(
    cards: Mapping[str, Any],
    shape: tuple[float, float],
    ids: Sequence[int],
    sky: NDArray[np.float64],
    pixels: NDArray[np.float64],
    boxes: NDArray[np.float64],
) -> Misplaced:
    """The labels of an image whose sky position is not that of their pixels.

    Parameters
    ----------
    cards : header cards of the image's WCS, of any frame, equinox and axis order.
    shape : (H, W) of the image. A label without `x`, `y` whose box touches its edge is not
        checked: its light may lie anywhere beyond.
    ids : N, of the labels.
    sky : (N, 2) ra and dec in degrees (ICRS); rows with NaN are not checked.
    pixels : (N, 2) x and y from 0; NaN for the middle of the box, where light may be off by the
        size of the box.
    boxes : (N, 4) x, y, width, height in pixels.

    Raises
    ------
    ValueError
        For cards that are no celestial WCS.
    """
    exact = np.asarray(np.isfinite(pixels).all(axis=1))
    ends = boxes[:, :2] + boxes[:, 2:]
    inside = (boxes[:, :2] > 0).all(axis=1) & ~(ends >= np.array(shape[::-1], float)).any(axis=1)
    known = np.isfinite(sky).all(axis=1) & (exact | inside)
    if not known.any():
        return Misplaced(0, (), ())
    sky, pixels, boxes, exact = sky[known], pixels[known], boxes[known], exact[known]
    size = boxes[:, 2:]
    at = np.where(exact[:, None], pixels, boxes[:, :2] + (size - 1) / 2)
    allowed = np.where(exact, EXACT_PX, LOOSE_PX + size.max(axis=1))
    off = _apart_px(cards, at, sky)
    # A position without a place on the sky (NaN) is as wrong as one far away.
    rows = np.flatnonzero(~(off <= allowed))
    rows = rows[np.argsort(-np.nan_to_num(off[rows], nan=np.inf), kind="stable")]
    names = np.asarray(ids)[known]
    return Misplaced(
        len(sky), tuple(int(i) for i in names[rows]), tuple(float(d) for d in off[rows])
    )


def _apart_px(
    cards: Mapping[str, Any], at: NDArray[np.float64], sky: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) distance on the sky of pixels (x, y) from positions (ra, dec), in mean pixels."""
    # Half a second that documents without a WCS need not wait for.
    from astropy.io import fits
    from astropy.wcs import WCS

    from astrolabel.core.celestial import to_icrs

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(fits.Header(dict(cards)))
            if not wcs.has_celestial:
                raise ValueError("its axes are not of the sky")
            ra, dec = to_icrs(wcs.celestial, at[:, 0], at[:, 1])
            scale = float(np.sqrt(wcs.celestial.proj_plane_pixel_area().to_value("deg2")))
    except Exception as error:  # wcslib's errors have no common class of their own
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    here, there = unit_vectors(ra, dec), unit_vectors(*sky.T)
    chord = np.linalg.norm(here - there, axis=-1)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1))) / scale)


def of_document(
    images: Iterable[Any], annotations: Iterable[Any]
) -> Iterator[tuple[int, tuple[str, str | None]]]:
    """(image id, (what is wrong, remedy)) of each image with misplaced labels, in a document
    that may hold anything."""
    with_wcs = {}
    for image in images:
        astro = image.get("astro") if isinstance(image, dict) else None
        cards = astro.get("wcs") if isinstance(astro, dict) else None
        if isinstance(cards, dict) and cards and type(image.get("id")) is int:
            with_wcs[image["id"]] = (cards, shape_of(image))
    rows: dict[int, tuple[array[int], array[float]]] = {}  # millions of them
    for item in annotations if with_wcs else ():
        if (row := _row(item)) is not None and item["image_id"] in with_wcs:
            own = rows.setdefault(item["image_id"], (array("q"), array("d")))
            own[0].append(row[0])
            own[1].extend(row[1])
    for number, (cards, shape) in with_wcs.items():
        if number not in rows:
            continue
        ids, table = rows[number][0], np.array(rows[number][1]).reshape(-1, 8)
        try:
            found = misplaced(cards, shape, ids, table[:, :2], table[:, 2:4], table[:, 4:])
        except ValueError as error:
            yield number, (f"astro.wcs is no WCS of the sky ({error})", None)
            continue
        if found.ids:
            yield number, (str(found), REMEDY)


def shape_of(image: Mapping[str, Any]) -> tuple[float, float]:
    """(H, W); NaN where the entry does not have it."""
    return _number(image.get("height")), _number(image.get("width"))


def _row(item: Any) -> tuple[int, list[float]] | None:
    """Id of an annotation and its ra, dec, x, y and box; None where it has no position."""
    if not isinstance(item, dict) or type(item.get("image_id")) is not int:
        return None
    attributes, box, number = item.get("attributes"), item.get("bbox"), item.get("id")
    if not isinstance(attributes, dict) or not isinstance(box, list) or len(box) != 4:
        return None
    if type(number) is not int or abs(number) >= 2**63:
        return None
    values = [_number(attributes.get(key)) for key in ("ra", "dec", "x", "y")]
    edges = [_number(value) for value in box]
    return (number, values + edges) if np.isfinite([*values[:2], *edges]).all() else None


def sky_position(item: Mapping[str, Any]) -> tuple[float, float] | None:
    """RA and Dec of an annotation, degrees; None where it has none, or no numbers."""
    attributes = item.get("attributes") or {}
    ra, dec = _number(attributes.get("ra")), _number(attributes.get("dec"))
    return (ra, dec) if np.isfinite(ra + dec) else None


def _number(value: Any) -> float:
    """NaN for what is no number of a position."""
    good = type(value) in (int, float) and abs(value) < 1e9
    return float(value) if good else float("nan")
