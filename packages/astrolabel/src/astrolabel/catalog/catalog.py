"""Read catalogs of classified sources into one set of column names.

What the columns mean is the business of `schemes`, how a file is laid out that of
`tabular`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.columns import ColumnMap, scheme_columns
from astrolabel.core.celestial import unit_vectors
from astrolabel.core.config import ClassifyConfig
from astrolabel.core.errors import InputError
from astrolabel.io.tabular import flags, ids, numbers, read_columns, read_unit, texts

UNKNOWN, GALAXY, STAR, FAKE = 0, 1, 2, 3
"""Values of `Catalog.label`; galaxy and star are also the category ids, and 1, 2 and 3
are the values of mu_class (Leauthaud et al. 2007)."""

EXTENDED = 0.5
"""Extendedness above this is a galaxy. The releases give 0 and 1 only; halfway is the
reading of the survey's pipeline where a catalog holds probabilities."""


NJY_ZEROPOINT = 31.4
"""AB magnitude of one nJy."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """N classified sources on the sky.

    `read_catalog` gives them in the order of declination; nothing depends on the order,
    but a search in an ordered catalog is quicker.

    Attributes
    ----------
    name : the file it was read from.
    scheme : see `schemes`.
    object_id : (N,) int64 or str, written as text. HSC's ids need 64 bits; they never
        pass through a float.
    ra, dec : (N,) float64, degrees, finite.
    magnitudes : AB magnitudes by band, (N,) float64 each; NaN where unknown.
    label : (N,) int8: 1 galaxy, 2 star, 3 fake (an artefact), 0 unknown.
    match : ``magnitude`` or ``nearest`` (see `schemes.ColumnMap`).
    epoch : Julian year of the positions; None where it is not known.
    """

    name: str
    scheme: str
    object_id: NDArray[np.int64] | NDArray[np.str_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    magnitudes: Mapping[str, NDArray[np.float64]]
    label: NDArray[np.int8]
    match: str = "nearest"
    epoch: float | None = None

    def __len__(self) -> int:
        return len(self.object_id)

    def described(self, file: str) -> dict[str, Any]:
        """What a dataset says of the catalog its classes are from."""
        return {"file": file, "scheme": self.scheme, "match": self.match, "epoch": self.epoch}

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
        reach = reach * (1 + 1e-6) + 1e-12
        rows = self._rows_between(centre, reach)
        apart = ((unit_vectors(self.ra[rows], self.dec[rows]) - centre) ** 2).sum(1)
        return np.asarray(rows[apart <= reach**2], np.intp)

    def _rows_between(self, centre: NDArray[np.float64], reach: float) -> NDArray[np.intp]:
        """Rows within the declinations of a sphere about a point of the unit ball."""
        if not (np.diff(self.dec) >= 0).all():
            return np.arange(len(self))
        low, high = np.degrees(np.arcsin(np.clip(centre[2] + np.array([-reach, reach]), -1, 1)))
        first, last = np.searchsorted(self.dec, [low - 1e-9, high + 1e-9])
        return np.arange(first, last)


def catalog_for(path: str | Path, config: ClassifyConfig) -> Catalog:
    """Read the catalog that a recipe's classes come from (see `read_catalog`)."""
    return read_catalog(
        path,
        config.scheme,
        magnitude_band=config.magnitude_band,
        class_bands=config.class_bands,
        columns=dict(config.columns),
    )


def read_catalog(
    path: str | Path,
    scheme: str,
    *,
    magnitude_band: str = "i",
    class_bands: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
) -> Catalog:
    """Read a catalog; the file's suffix says its format (see `tabular.read_columns`).

    Column names are matched whatever their case. Rows without a position are left out,
    and so are those that are not primary where the catalog says so (patches overlap).

    Parameters
    ----------
    path : FITS, CSV, ECSV, IPAC or Parquet table.
    scheme : ``hsc``, ``hst``, ``lsst`` or ``columns``.
    magnitude_band : the band whose magnitude is compared, and whose extendedness gives the
        class where `class_bands` are not given.
    class_bands : bands whose extendedness gives the class; where several are known, their
        mean.
    columns : of the scheme ``columns``, see `schemes.parse_columns`.

    Raises
    ------
    InputError
        When the file cannot be read, has no rows or lacks a column.
    """
    path = Path(path)
    map_ = scheme_columns(scheme, columns)
    bands = tuple(b.lower() for b in class_bands or (magnitude_band,))
    names: dict[str, Any] = {}

    def wanted(there: Sequence[str]) -> list[str]:
        names.update(_chosen(path, map_, there, bands, magnitude_band.lower()))
        flat = [names[k] for k in ("ids", "ra", "dec", "label", "primary", "epoch") if names[k]]
        return [*flat, *names["extendedness"], *names["mag"].values(), *names["flux"].values()]

    read = read_columns(path, wanted)
    factor = _degrees_per_unit(path, map_, names["ra"])
    catalog = Catalog(
        name=str(path),
        scheme=scheme,
        object_id=ids(path, names["ids"], read),
        ra=numbers(path, names["ra"], read) * factor,
        dec=numbers(path, names["dec"], read) * factor,
        magnitudes={
            **{band: _ab(numbers(path, name, read)) for band, name in names["flux"].items()},
            **{band: numbers(path, name, read) for band, name in names["mag"].items()},
        },
        label=_labels(path, map_, names, read),
        match=map_.match,
        epoch=_epoch(path, map_, names["epoch"], read),
    )
    keep = np.isfinite(catalog.ra) & np.isfinite(catalog.dec)
    if names["primary"]:
        keep &= flags(path, names["primary"], read)
    if not keep.any():
        raise InputError(
            "the catalog has no usable row", file=path, remedy="check the query that made it"
        )
    if (np.abs(catalog.dec[keep]) > 90).any():
        raise InputError(
            "declinations beyond 90 degrees", file=path, remedy="give ra and dec in degrees"
        )
    rows = np.flatnonzero(keep)
    return catalog.take(rows[np.argsort(catalog.dec[rows], kind="stable")])


def _chosen(
    path: Path, map_: ColumnMap, there: Sequence[str], bands: Sequence[str], magnitude_band: str
) -> dict[str, Any]:
    """The file's column for each meaning; "" or nothing where it may be missing and is."""
    extendedness = (
        [c.format(b) for c in map_.extendedness for b in bands] if map_.extendedness else []
    )
    extendedness = list(dict.fromkeys(extendedness))
    missing = [c for c in extendedness if c not in there]
    if missing and map_.extendedness_else in there:
        extendedness = [map_.extendedness_else]
    elif missing:
        _first(path, there, missing[0])
    mags = _per_band(path, map_.magnitudes, there)
    fluxes = _per_band(path, map_.fluxes, there)
    if map_.match == "magnitude" and magnitude_band not in {**mags, **fluxes}:
        given = {**map_.fluxes, **map_.magnitudes}
        choices = given.get(magnitude_band, given.get("*", (f"mag_{magnitude_band}",)))
        _first(path, there, *(c.format(magnitude_band) for c in choices))
    return {
        "ids": _first(path, there, *map_.ids),
        "ra": _first(path, there, *map_.ra),
        "dec": _first(path, there, *map_.dec),
        "label": _first(path, there, *map_.label) if map_.label else "",
        "primary": map_.primary if map_.primary in there else "",
        "epoch": _first(path, there, map_.epoch) if isinstance(map_.epoch, str) else "",
        "extendedness": extendedness,
        "mag": mags,
        "flux": fluxes,
    }


def _per_band(
    path: Path, wanted: Mapping[str, Sequence[str]], there: Sequence[str]
) -> dict[str, str]:
    """The first column there is by band; ``*`` with ``{}`` finds the bands by itself.

    A band's only name is the user's word and must be there.
    """
    found: dict[str, str] = {}
    for band, choices in wanted.items():
        if band != "*" and len(choices) == 1:
            _first(path, there, *choices)
        for choice in choices:
            if band == "*":
                pattern = re.escape(choice).replace(re.escape("{}"), r"(\w+)")
                for name in there:
                    if match := re.fullmatch(pattern, name):
                        found.setdefault(match[1], name)
            elif choice in there:
                found.setdefault(band, choice)
    return found


def _degrees_per_unit(path: Path, map_: ColumnMap, column: str) -> float:
    unit = map_.unit
    if unit == "auto":
        said = (read_unit(path, column) or "").lower()
        unit = "rad" if said.startswith("rad") else "deg"
    return float(np.degrees(1.0)) if unit == "rad" else 1.0


def _ab(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """AB magnitudes of fluxes in nJy; NaN where the flux is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, NJY_ZEROPOINT - 2.5 * np.log10(flux), np.nan)


def _labels(
    path: Path, map_: ColumnMap, names: Mapping[str, Any], read: Mapping[str, NDArray[Any]]
) -> NDArray[np.int8]:
    if names["label"]:
        plain = texts(path, names["label"], read)
        label = np.zeros(len(plain), np.int8)
        for value, given in (("galaxy", GALAXY), ("star", STAR), ("fake", FAKE)):
            label[np.isin(plain, [_canonical(v) for v in map_.values.get(value, ())])] = given
        return label
    values = np.stack([numbers(path, name, read) for name in names["extendedness"]])
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known.any(0), np.where(mean > EXTENDED, GALAXY, STAR), UNKNOWN).astype(np.int8)


def _canonical(value: str) -> str:
    """A class value as `texts` writes it: 1.0 as 1."""
    try:
        number = float(value)
    except ValueError:
        return value.strip()
    return str(int(number)) if number.is_integer() else value.strip()


def _epoch(
    path: Path, map_: ColumnMap, column: str, read: Mapping[str, NDArray[Any]]
) -> float | None:
    if isinstance(map_.epoch, float):
        return map_.epoch
    if not column:
        return None
    values = numbers(path, column, read)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else None


def _first(path: Path, names: Sequence[str], *choices: str) -> str:
    """The first of the choices that the table has."""
    for choice in choices:
        if choice in names:
            return choice
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    raise InputError(
        f"the catalog has no column {' or '.join(choices)} (it has: {shown or 'none'})",
        file=path,
        remedy="add the column or choose another --scheme",
    )
