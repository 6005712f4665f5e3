"""Where images lie on the sky: footprints, whether they overlap, what region holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import shapely
from astropy.coordinates import Latitude, Longitude
from mocpy import MOC
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrolabel.core.celestial import unit_vectors
from astrolabel.core.errors import InputError
from astrolabel.datasets.regions import Region
from astrolabel.io.integrity import check_headers
from astrolabel.io.outline import sky_outline

OVERLAP_ARCSEC2 = 1.0
"""Less common sky than this is the rounding of edges that touch."""


@dataclass(frozen=True, eq=False)
class Place:
    """An image of a dataset on the sky.

    Attributes
    ----------
    index : of the image in the dataset.
    name : of the image's file, without folder and suffix.
    tract, patch : the survey's, or empty.
    ra, dec : (N,) degrees along the outline, the first point not repeated; empty without
        a WCS.
    centre : (3,) unit vector; NaN without a WCS.
    radius : chord from the centre to the farthest point of the outline.
    """

    index: int
    name: str
    tract: str
    patch: str
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    centre: NDArray[np.float64]
    radius: float

    @property
    def on_sky(self) -> bool:
        return len(self.ra) > 0

    def distance(self, ra: float, dec: float) -> float:
        """Arcseconds from a position near the image to it; 0 inside."""
        point = _gnomonic(unit_vectors(np.array([ra]), np.array([dec])), self.centre)
        gap = _flat(self, self.centre).distance(shapely.Point(point[0]))
        return float(np.degrees(gap)) * 3600


def place(index: int, image: Mapping[str, Any]) -> Place:
    """Where one of ``images[]`` lies, by its ``astro.wcs``."""
    astro = image.get("astro") or {}
    name = str(image["file_name"]).rsplit("/", 1)[-1].rsplit(".", 1)[0]
    names = str(astro.get("tract") or ""), str(astro.get("patch") or "")
    outline = sky_outline(image)
    if outline is None:
        empty = np.zeros(0)
        return Place(index, name, *names, empty, empty, np.full(3, np.nan), np.nan)
    ra, dec = outline
    vectors = unit_vectors(ra, dec)
    radius = float(np.linalg.norm(vectors[:-1] - vectors[-1], axis=1).max())
    return Place(index, name, *names, ra[:-1], dec[:-1], vectors[-1], radius)


def near_pairs(places: Sequence[Place], margin_arcsec: float = 0.0) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) of places whose surrounding circles come within a margin."""
    known = [k for k, p in enumerate(places) if p.on_sky]
    if len(known) < 2:
        return
    margin = np.radians(margin_arcsec / 3600)
    radii = np.array([places[k].radius for k in known])
    centres = np.array([places[k].centre for k in known])
    tree = cKDTree(centres)
    for a, reach in enumerate(radii + radii.max() + margin):
        for b in tree.query_ball_point(centres[a], reach):
            if b > a and np.linalg.norm(centres[a] - centres[b]) < radii[a] + radii[b] + margin:
                yield known[a], known[b]


def overlap_arcsec2(one: Place, other: Place) -> float:
    """Common area of two images in square arcseconds."""
    middle = one.centre + other.centre
    a, b = _flat(one, middle), _flat(other, middle)
    return float(a.intersection(b).area) * np.degrees(1.0) ** 2 * 3600**2


def _flat(one: Place, middle: NDArray[np.float64]) -> shapely.Polygon:
    """The outline seen from the sphere's centre on the plane that touches it at `middle`."""
    return shapely.Polygon(_gnomonic(unit_vectors(one.ra, one.dec), middle))


def _gnomonic(vectors: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) on the tangent plane, where great circles are straight; NaN on the far side."""
    axis = middle / np.linalg.norm(middle)
    east = np.cross([0, 0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0, 0], axis)
    east /= np.linalg.norm(east)
    depth = vectors @ axis
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = np.stack([vectors @ east, vectors @ np.cross(axis, east)], axis=-1) / depth[:, None]
    flat[depth <= 0] = np.nan
    return flat


def fraction_inside(regions: Sequence[Region], one: Place) -> float:
    """How much of an image lies in a union of regions: 0, 1, or between for its outline.

    Its outline and centre are asked, so that a region smaller than an image, wholly inside
    it and off its centre, is not seen.
    """
    for region in regions:
        if region.kind == "coadds":
            names = one.name, re.sub(r"-r\d+c\d+$", "", one.name)  # the tile's, the coadd's
            if any(fnmatchcase(name, pattern) for name in names for pattern in region.value):
                return 1.0
        elif region.kind == "patches" and one.patch in region.value.get(one.tract, ()):
            return 1.0
    areas = [r for r in regions if r.kind not in ("coadds", "patches")]
    if not areas or not one.on_sky:
        return 0.0
    ra_dec = np.degrees(
        [np.arctan2(one.centre[1], one.centre[0]), np.arcsin(np.clip(one.centre[2], -1, 1))]
    )
    ra, dec = np.append(one.ra, ra_dec[0] % 360), np.append(one.dec, ra_dec[1])
    inside = np.zeros(len(ra), bool)
    for region in areas:
        inside |= contains(region, ra, dec)
    return float(inside.mean())


def contains(
    region: Region, ra: NDArray[np.float64], dec: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether positions in degrees lie in a circle, polygon, HEALPix or MOC region."""
    vectors = unit_vectors(ra, dec)
    if region.kind == "circle":
        centre_ra, centre_dec, radius = region.value
        centre = unit_vectors(np.array([centre_ra]), np.array([centre_dec]))
        chord = 2 * np.sin(np.radians(radius) / 2)
        return np.asarray(np.linalg.norm(vectors - centre, axis=1) <= chord)
    if region.kind == "polygon":
        corners = unit_vectors(*np.array(region.value, float).T)
        middle = corners.sum(axis=0)
        flat = _gnomonic(vectors, middle)
        inside = np.zeros(len(ra), bool)
        here = np.isfinite(flat).all(axis=1)
        polygon = shapely.Polygon(_gnomonic(corners, middle))
        inside[here] = shapely.covers(polygon, shapely.points(flat[here]))
        return inside
    return np.asarray(
        _moc(region).contains_lonlat(Longitude(ra, u.deg), Latitude(dec, u.deg)), bool
    )


def moc_of_file(path: Path) -> str:
    """The ASCII form of a MOC's FITS file.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    check_headers(path)  # a name that is no file would be taken for an address
    try:
        return str(MOC.from_fits(path).to_string("ascii"))
    except Exception as error:  # its reader raises many kinds, some of its own
        raise InputError(
            f"cannot be read as a MOC ({error})", file=path, remedy="give a spatial MOC in FITS"
        ) from error


def _moc(region: Region) -> MOC:
    if region.kind == "healpix":
        order, pixels = region.value
        depths = np.full(len(pixels), order, np.uint8)
        return MOC.from_healpix_cells(np.array(pixels, np.uint64), depths, max_depth=order)
    try:
        # Commas and spaces both part cells in the standard; the library knows spaces.
        return MOC.from_string(region.value.replace(",", " "))
    except OSError as error:
        raise InputError(
            f"the MOC {region.value[:40]!r} cannot be read ({error})",
            remedy='write it as "6/100-103 7/1024", no cell within another',
        ) from error
