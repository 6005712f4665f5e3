"""Give each label a class: one-to-one catalog match, then the catalog's class rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.catalog import FAKE, GALAXY, STAR, UNKNOWN, Catalog
from astrolabel.catalog.columns import SCHEMES
from astrolabel.catalog.crossmatch import Pairs, best_first, pairs_within
from astrolabel.core.config import ClassifyConfig
from astrolabel.core.errors import InputError

OK = "ok"
TAKEN = "skipped:catalog object taken by a better match"
IS_FAKE = "skipped:fake"
NO_CLASS = "skipped:class unknown"
NO_MAGNITUDE = "skipped:source has no magnitude"
NO_OBJECT = "skipped:no catalog object within"
NO_AGREEMENT = "skipped:no magnitude agrees within"
UNMATCHED = (TAKEN, IS_FAKE, NO_CLASS, NO_MAGNITUDE, NO_OBJECT, NO_AGREEMENT)
"""How the states begin of sources that have a mask and found no class in the catalog."""


@dataclass(frozen=True, eq=False)
class Classes:
    """The class of each of N sources, in their order.

    Attributes
    ----------
    category_id : (N,) int64: a COCO category, or 0 for none.
    catalog_index : (N,) int64: row of the catalog it was matched with, or -1. A source
        may have a match and no class, where the catalog does not know it.
    object_id : (N,) int64 or str, of that row; zero or empty without a match.
    separation_arcsec : (N,) float64, to that row; NaN without a match.
    state : per source ``ok`` or ``skipped:<reason>``.
    """

    category_id: NDArray[np.int64]
    catalog_index: NDArray[np.int64]
    object_id: NDArray[np.int64] | NDArray[np.str_]
    separation_arcsec: NDArray[np.float64]
    state: tuple[str, ...]


def categories(scheme: str) -> list[dict[str, Any]]:
    """COCO categories of a class scheme."""
    if scheme == "none":
        return [{"id": 1, "name": "source", "supercategory": "sky"}]
    if scheme in (*SCHEMES, "truth"):
        return [
            {"id": GALAXY, "name": "galaxy", "supercategory": "sky"},
            {"id": STAR, "name": "star", "supercategory": "sky"},
        ]
    raise InputError(f"unknown class scheme {scheme!r}", remedy=f"choose {', '.join(SCHEMES)}")


def classify(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    magnitude: NDArray[np.float64] | None,
    catalog: Catalog | None,
    config: ClassifyConfig,
) -> Classes:
    """Match sources with a catalog, one to one, and take its classes.

    Of all pairs within the radius that a scheme allows, the best is a match; then the
    best among what remains of both sides, and so on. So no source and catalog row that are
    not matched are a better pair than both their matches. A source whose best candidate is the
    best of no other source gets what a match for it alone would give (the paper's rule).
    The order of the rows does not matter: what is equally good is decided by
    separation, then by position.

    By magnitude (``hsc``, ``lsst``; paper, 3.2): rows without magnitude or extendedness are
    no candidates; the best pair has the smallest magnitude difference, which must be below
    `config.max_magnitude_difference`.
    The nearest (``hst``; paper, 4.1): artefacts are no candidates; the best pair is the
    closest.
    A row of unknown class is a candidate, for it is what is there; its source is left
    without a class rather than given a neighbour's.

    Parameters
    ----------
    ra, dec : (N,) degrees, finite.
    magnitude : (N,) AB magnitudes of the sources in `config.magnitude_band`, NaN where
        unknown; only a match by magnitude needs them.
    catalog : of the same scheme; None for the scheme ``none``.
    config : radius, band and largest magnitude difference.

    Raises
    ------
    InputError
        When sources have no position, or catalog and config do not go together.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    if config.scheme == "none":
        return _all_of_one_class(len(ra))
    if catalog is None or catalog.scheme != config.scheme:
        has = "none" if catalog is None else f"one of scheme {catalog.scheme}"
        raise InputError(
            f"scheme {config.scheme} needs a catalog of its kind, not {has}",
            remedy="give --catalog FILE and --scheme to go with it",
        )
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise InputError(
            "sources have no sky position to match with a catalog",
            remedy="give coadds with a celestial WCS, or leave out the catalog",
        )
    # One text that all share: np.full would make ten million of it.
    state = np.empty(len(ra), object)
    state.fill(f"{NO_OBJECT} {config.radius_arcsec:g} arcsec")
    allowed, cost = _candidates(ra, dec, magnitude, catalog, config, state)
    matched = best_first(allowed, cost, (ra, dec), (catalog.ra, catalog.dec, catalog.object_id))
    del allowed, cost  # of ten million sources, a quarter of a gigabyte
    index = np.full(len(ra), -1, np.int64)
    index[matched.source] = matched.row
    separation = np.full(len(ra), np.nan)
    separation[matched.source] = matched.separation
    label = np.full(len(ra), UNKNOWN, np.int64)
    label[matched.source] = catalog.label[matched.row]
    state[matched.source] = OK
    state[matched.source[label[matched.source] == UNKNOWN]] = NO_CLASS
    object_id: Any = np.zeros(len(ra), catalog.object_id.dtype)  # zero or empty: no id
    object_id[matched.source] = catalog.object_id[matched.row]
    return Classes(label, index, object_id, separation, tuple(state.tolist()))


def _all_of_one_class(n: int) -> Classes:
    return Classes(
        category_id=np.ones(n, np.int64),
        catalog_index=np.full(n, -1, np.int64),
        object_id=np.full(n, "", np.str_),
        separation_arcsec=np.full(n, np.nan),
        state=(OK,) * n,
    )


def _candidates(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    magnitude: NDArray[np.float64] | None,
    catalog: Catalog,
    config: ClassifyConfig,
    state: NDArray[np.object_],
) -> tuple[Pairs, NDArray[np.float64]]:
    """(pairs that the catalog's rule allows, their cost); writes the other sources' reasons."""
    pairs = pairs_within(ra, dec, catalog.ra, catalog.dec, config.radius_arcsec)
    if catalog.match == "magnitude":
        allowed, cost = _alike(pairs, magnitude, catalog, config, state)
    else:
        allowed, cost = _real(pairs, catalog, state)
    state[allowed.source] = TAKEN
    return allowed, cost


def _alike(
    pairs: Pairs,
    magnitude: NDArray[np.float64] | None,
    catalog: Catalog,
    config: ClassifyConfig,
    state: NDArray[np.object_],
) -> tuple[Pairs, NDArray[np.float64]]:
    """Pairs that agree in magnitude, and by how much; the reason for the other sources.

    Later reasons replace earlier ones: the reason is the last hurdle a source fell at.
    """
    band = config.magnitude_band.lower()
    if band not in catalog.magnitudes:
        raise InputError(
            f"the catalog has no {band}-band magnitudes (it has: {', '.join(catalog.magnitudes)})",
            file=catalog.name,
            remedy=f"add the {band} magnitudes or choose another band",
        )
    if magnitude is None:
        raise InputError(
            f"scheme {config.scheme} compares magnitudes, and the sources have none in band {band}",
            remedy=f"label coadds that include the band {band}, or choose another band",
        )
    mine = np.asarray(magnitude, np.float64)[pairs.source]
    difference = np.abs(mine - catalog.magnitudes[band][pairs.row])
    agrees = difference < config.max_magnitude_difference  # False where either is NaN
    known = catalog.label[pairs.row] != UNKNOWN
    state[pairs.source] = f"{NO_AGREEMENT} {config.max_magnitude_difference:g} mag"
    state[pairs.source[np.isnan(mine)]] = NO_MAGNITUDE
    state[pairs.source[agrees & ~known]] = NO_CLASS
    allowed = agrees & known
    return (pairs, difference) if allowed.all() else (pairs.where(allowed), difference[allowed])


def _real(
    pairs: Pairs, catalog: Catalog, state: NDArray[np.object_]
) -> tuple[Pairs, NDArray[np.float64]]:
    """Pairs with a real object, and their separation; the reason for the other sources."""
    real = catalog.label[pairs.row] != FAKE
    state[pairs.source[~real]] = IS_FAKE
    allowed = pairs if real.all() else pairs.where(real)
    return allowed, allowed.separation
