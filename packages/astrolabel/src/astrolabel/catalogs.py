"""Read catalogs of classified sources into one set of column names.

Two schemes are known: ``hsc``, the forced catalogs of the HSC public releases, and
``hst``, the ACS catalog of COSMOS (Leauthaud et al. 2007) under its own column names or
under those of COSMOS2020. How a file is laid out is the business of `tabular`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrolabel.errors import InputError
from astrolabel.tabular import flags, numbers, read_columns, texts

UNKNOWN, GALAXY, STAR, FAKE = 0, 1, 2, 3
"""Values of `Catalog.label`; galaxy and star are also the category ids, and 1, 2 and 3
are the values of mu_class (Leauthaud et al. 2007)."""

EXTENDED = 0.5
"""Extendedness above this is a galaxy. The releases give 0 and 1 only; halfway is the
reading of the survey's pipeline where a catalog holds probabilities."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """N classified sources on the sky, in the order of the file.

    Attributes
    ----------
    name : the file it was read from.
    scheme : ``hsc`` or ``hst``.
    object_id : (N,) str. HSC's ids need 64 bits; they never pass through a float.
    ra, dec : (N,) float64, degrees, finite.
    magnitudes : AB magnitudes by band, (N,) float64 each; NaN where unknown.
    label : (N,) int8: 1 galaxy, 2 star, 3 fake (an artefact), 0 unknown.
    """

    name: str
    scheme: str
    object_id: NDArray[np.str_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    magnitudes: Mapping[str, NDArray[np.float64]]
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.object_id)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Catalog:
        """The catalog of these rows."""
        return replace(
            self,
            object_id=self.object_id[rows],
            ra=self.ra[rows],
            dec=self.dec[rows],
            magnitudes={band: values[rows] for band, values in self.magnitudes.items()},
            label=self.label[rows],
        )

    def rows_around(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], margin_arcsec: float
    ) -> NDArray[np.intp]:
        """Rows in the circle that holds these positions (degrees) and a margin around.

        A cheap first cut, so that matching a tile against a whole field costs little.
        """
        if len(ra) == 0 or len(self) == 0:
            return np.zeros(0, np.intp)
        points = unit_vectors(ra, dec)
        centre = points.mean(0)
        # Distances are chords of the unit sphere, never longer than the arc, so the cut
        # holds everything within the margin; the factor covers rounding.
        reach = np.sqrt(((points - centre) ** 2).sum(1).max()) + np.radians(margin_arcsec / 3600)
        apart = ((unit_vectors(self.ra, self.dec) - centre) ** 2).sum(1)
        return np.flatnonzero(apart <= (reach * (1 + 1e-6) + 1e-12) ** 2)


def unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) directions of positions in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def read_catalog(path: str | Path, scheme: str, *, magnitude_band: str = "i") -> Catalog:
    """Read a catalog; the file's suffix says its format (see `tabular.read_columns`).

    Column names are matched whatever their case. Rows without a position are left out,
    and so are those of an HSC catalog that are not primary (its patches overlap).

    Parameters
    ----------
    path : FITS, CSV, ECSV, IPAC or Parquet table.
    scheme : ``hsc`` or ``hst``.
    magnitude_band : of ``hsc``, the band whose magnitude and extendedness are used.

    Raises
    ------
    InputError
        When the file cannot be read, has no rows or lacks a column.
    """
    path = Path(path)
    if scheme == "hsc":
        catalog = _read_hsc(path, magnitude_band.lower())
    elif scheme == "hst":
        catalog = _read_hst(path)
    else:
        raise InputError(f"unknown catalog scheme {scheme!r}", remedy="choose hsc or hst")
    placed = np.isfinite(catalog.ra) & np.isfinite(catalog.dec)
    if not placed.any():
        raise InputError(
            "the catalog has no usable row", file=path, remedy="check the query that made it"
        )
    if (np.abs(catalog.dec[placed]) > 90).any():
        raise InputError(
            "declinations beyond 90 degrees", file=path, remedy="give ra and dec in degrees"
        )
    return catalog.take(placed)


def _read_hsc(path: Path, band: str) -> Catalog:
    needed = ["object_id", "ra", "dec", f"{band}_cmodel_mag", f"{band}_extendedness_value"]

    def wanted(names: Sequence[str]) -> list[str]:
        extra = [n for n in names if n == "isprimary" or re.fullmatch(r"\w+_cmodel_mag", n)]
        return [_first(path, names, n) for n in needed] + extra

    columns = read_columns(path, wanted)
    extendedness = numbers(path, f"{band}_extendedness_value", columns)
    label = np.where(extendedness > EXTENDED, GALAXY, STAR).astype(np.int8)
    label[np.isnan(extendedness)] = UNKNOWN
    catalog = Catalog(
        name=str(path),
        scheme="hsc",
        object_id=texts(path, "object_id", columns),
        ra=numbers(path, "ra", columns),
        dec=numbers(path, "dec", columns),
        magnitudes={
            name.removesuffix("_cmodel_mag"): numbers(path, name, columns)
            for name in columns
            if name.endswith("_cmodel_mag")
        },
        label=label,
    )
    if "isprimary" not in columns:
        return catalog
    return catalog.take(flags(path, "isprimary", columns))


HST_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("number", "id"),
    "ra": ("ra", "alpha_j2000"),
    "dec": ("dec", "delta_j2000"),
    "class": ("mu_class", "acs_mu_class"),
    "magnitude": ("mag_auto", "acs_mag_auto", "acs_f814w_mag"),
}
"""The same column in IRSA's `cosmos_acs_iphot_200709` and in COSMOS2020."""


def _read_hst(path: Path) -> Catalog:
    name: dict[str, str] = {}

    def wanted(names: Sequence[str]) -> list[str]:
        for what, choices in HST_NAMES.items():
            # The match does not use magnitudes, so a catalog may come without.
            if what != "magnitude" or any(choice in names for choice in choices):
                name[what] = _first(path, names, *choices)
        return list(name.values())

    columns = read_columns(path, wanted)
    mu_class = numbers(path, name["class"], columns)
    known = np.isin(mu_class, (GALAXY, STAR, FAKE))
    magnitudes = {}
    if "magnitude" in name:
        magnitudes["f814w"] = numbers(path, name["magnitude"], columns)
    return Catalog(
        name=str(path),
        scheme="hst",
        object_id=texts(path, name["id"], columns),
        ra=numbers(path, name["ra"], columns),
        dec=numbers(path, name["dec"], columns),
        magnitudes=magnitudes,
        label=np.where(known, mu_class, UNKNOWN).astype(np.int8),
    )


def _first(path: Path, names: Sequence[str], *choices: str) -> str:
    """The first of the choices that the table has."""
    for choice in choices:
        if choice in names:
            return choice
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    raise InputError(
        f"the catalog has no column {' or '.join(choices)} (it has: {shown or 'none'})",
        file=path,
        remedy="add the column or choose the other --scheme",
    )
