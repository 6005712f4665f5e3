"""Labels against a catalog: who has a partner, how far off, how different in magnitude."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrolabel.catalog.catalog import FAKE, Catalog
from astrolabel.core.celestial import to_icrs, to_pixels, unit_vectors
from astrolabel.report import bins
from astrolabel.report.bins import Bins, Curve
from astrolabel.report.labels import Labels
from astrolabel.report.metrics import match

CELLS = 41
"""Cells a side of the offsets' histogram: an odd number, so that one is at zero."""
CHOSEN = {"f814w": "i"}
"""The label's band that a catalog's magnitude is compared with, where it has another name;
F814W is near i, but for a colour term of a few hundredths of a magnitude."""


@dataclass(frozen=True, eq=False)
class AgainstCatalog:
    """Labels and catalog objects matched one to one by position, nearest first.

    Attributes
    ----------
    name, scheme : of the catalog.
    radius_arcsec : of the match.
    n_labels, n_catalog, n_pairs : labels with a position; catalog objects (no artefacts)
        inside the images; matches.
    label_bins, catalog_bins : of the labels' and of the catalog's magnitudes.
    label_rate, catalog_rate : fraction of labels that have an object, of objects that have
        a label; each against its own magnitude in the curves (None without magnitudes).
    offset_arcsec : median (east, north) of label minus catalog.
    scatter_arcsec : (east, north), 1.48 times the median absolute deviation.
    separation_arcsec : median distance.
    band, catalog_band : magnitudes compared; empty without.
    magnitude : median of label minus catalog, and its scatter.
    magnitude_curve : the same against the catalog's magnitude, with quartiles.
    cells : (CELLS, CELLS) pairs by offset, north first, over plus and minus the radius.
    """

    name: str
    scheme: str
    radius_arcsec: float
    n_labels: int
    n_catalog: int
    n_pairs: int
    label_bins: Bins | None
    catalog_bins: Bins | None
    label_rate: Curve | None
    catalog_rate: Curve | None
    offset_arcsec: tuple[float, float]
    scatter_arcsec: tuple[float, float]
    separation_arcsec: float
    band: str
    catalog_band: str
    magnitude: tuple[float, float]
    magnitude_curve: Curve | None
    cells: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """(CELLS + 1,) arcsec, of `cells`."""
        return np.linspace(-self.radius_arcsec, self.radius_arcsec, CELLS + 1)


def compare_with_catalog(
    labels: Labels, catalog: Catalog, band: str | None, radius_arcsec: float
) -> AgainstCatalog:
    """Match the labels' positions with a catalog's, whatever their classes are from.

    Ignore regions take part: they are sources, if without a class. Labels whose peak is in
    a neighbouring tile do not.
    """
    ra, dec = labels.value("ra"), labels.value("dec")
    mine = np.flatnonzero(
        np.isfinite(ra)
        & np.isfinite(dec)
        & ~labels.flags.get("peak_outside", np.zeros(len(ra), bool))
    )
    theirs = _inside(labels, catalog)
    a, b = unit_vectors(ra[mine], dec[mine]), unit_vectors(catalog.ra[theirs], catalog.dec[theirs])
    pairs = match(a, b, float(2 * np.sin(np.radians(radius_arcsec / 3600) / 2)))
    label, row = mine[pairs[:, 0]], theirs[pairs[:, 1]]
    east = _turn(ra[label] - catalog.ra[row]) * np.cos(np.radians(catalog.dec[row])) * 3600
    north = (dec[label] - catalog.dec[row]) * 3600
    catalog_band = _catalog_band(catalog, band)
    their_mag = catalog.magnitudes.get(catalog_band, np.full(len(catalog), np.nan))
    my_band = CHOSEN.get(catalog_band, catalog_band)
    my_mag = labels.value(f"mag_{my_band}")
    difference = my_mag[label] - their_mag[row]
    known = difference[np.isfinite(difference)]
    steps = bins.magnitudes("catalog_mag", f"catalog {catalog_band} magnitude", their_mag[theirs])
    my_steps = bins.magnitudes(f"mag_{my_band}", f"{my_band} magnitude of the label", my_mag[mine])
    grid = np.linspace(-radius_arcsec, radius_arcsec, CELLS + 1)
    return AgainstCatalog(
        name=catalog.name,
        scheme=catalog.scheme,
        radius_arcsec=radius_arcsec,
        n_labels=len(mine),
        n_catalog=len(theirs),
        n_pairs=len(pairs),
        label_bins=my_steps,
        catalog_bins=steps,
        label_rate=None
        if my_steps is None
        else bins.fraction(my_steps, my_mag[mine], np.isin(mine, label)),
        catalog_rate=None
        if steps is None
        else bins.fraction(steps, their_mag[theirs], np.isin(theirs, row)),
        offset_arcsec=(bins.median(east), bins.median(north)),
        scatter_arcsec=(_scatter(east), _scatter(north)),
        separation_arcsec=bins.median(np.hypot(east, north)),
        band=my_band if len(known) else "",
        catalog_band=catalog_band,
        magnitude=(bins.median(known), _scatter(known)),
        magnitude_curve=None
        if steps is None or not len(known)
        else bins.quartiles(steps, their_mag[row], difference),
        cells=np.histogram2d(north, east, (grid, grid))[0].astype(np.int64),
    )


def _catalog_band(catalog: Catalog, band: str | None) -> str:
    names = list(catalog.magnitudes)
    return band if band in names else names[0] if names else ""


def _inside(labels: Labels, catalog: Catalog) -> NDArray[np.intp]:
    """Rows of the catalog that are objects and lie in at least one image."""
    tree = cKDTree(unit_vectors(catalog.ra, catalog.dec))
    found = np.zeros(len(catalog), bool)
    for index, image in enumerate(labels.images):
        wcs = labels.wcs(index)
        if wcs is None:
            continue
        height, width = image["height"], image["width"]
        x = np.array([0, width, 0, width, width / 2]) - 0.5
        y = np.array([0, 0, height, height, height / 2]) - 0.5
        points = unit_vectors(*to_icrs(wcs, x, y))
        reach = np.sqrt(((points[:4] - points[4]) ** 2).sum(1).max())
        near = np.array(tree.query_ball_point(points[4], reach * 1.01), np.intp)
        if len(near):
            px, py = to_pixels(wcs, catalog.ra[near], catalog.dec[near])
            inside = (px >= -0.5) & (px < width - 0.5) & (py >= -0.5) & (py < height - 0.5)
            found[near[inside]] = True
    return np.flatnonzero(found & (catalog.label != FAKE))


def _turn(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of right ascension across 0 as small numbers."""
    return (degrees + 180) % 360 - 180


def _scatter(values: NDArray[np.float64]) -> float:
    """1.4826 times the median absolute deviation: sigma, were it Gaussian."""
    return 1.4826 * bins.median(np.abs(values - bins.median(values)))
