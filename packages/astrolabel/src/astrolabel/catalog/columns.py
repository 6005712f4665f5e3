"""Which columns of a catalog mean what, and which rule makes classes of them.

Three schemes are built in: ``hsc``, the forced catalogs of the HSC public releases;
``hst``, the ACS catalog of COSMOS (Leauthaud et al. 2007) under its own column names or
those of COSMOS2020; ``lsst``, the Object tables of LSST. Any other catalog is described by
a few words (`parse_columns`), the scheme ``columns``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from astrolabel.core.errors import InputError

SCHEMES = ("none", "hsc", "hst", "lsst", "columns")
"""Class schemes; ``none`` is one class without a catalog."""


@dataclass(frozen=True)
class ColumnMap:
    """A catalog's columns, by lower-case name; of several names the first that is there.

    Attributes
    ----------
    ids, ra, dec : of the object.
    magnitudes : AB magnitude columns by band; a name with ``{}`` holds for every band.
    fluxes : the same of fluxes in nJy.
    extendedness : columns above 0.5 for galaxies (their mean, where there are several); a
        name with ``{}`` is asked for in each band of the classes.
    extendedness_else : column in their place in a file that has none of them.
    label : column of a class.
    values : texts of that column by ``galaxy``, ``star`` and ``fake``; others are unknown.
    primary : column that is true for rows to use; "" uses all, and so does a file
        without it.
    unit : ``deg``, ``rad`` or ``auto``: the file's own unit, else degrees.
    epoch : Julian year of the positions, or the column of it; None where it is not known.
    match : ``magnitude``: the candidate of the nearest magnitude (paper, 3.2); ``nearest``
        (paper, 4.1).
    """

    ids: tuple[str, ...]
    ra: tuple[str, ...] = ("ra",)
    dec: tuple[str, ...] = ("dec",)
    magnitudes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fluxes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extendedness: tuple[str, ...] = ()
    extendedness_else: str = ""
    label: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    primary: str = ""
    unit: str = "auto"
    epoch: float | str | None = None
    match: str = "nearest"


HSC = ColumnMap(
    ids=("object_id",),
    magnitudes={"*": ("{}_cmodel_mag",)},
    extendedness=("{}_extendedness_value",),
    primary="isprimary",
    unit="deg",
    match="magnitude",
)
HST = ColumnMap(
    ids=("number", "id"),
    ra=("ra", "alpha_j2000"),
    dec=("dec", "delta_j2000"),
    magnitudes={"f814w": ("mag_auto", "acs_mag_auto", "acs_f814w_mag")},
    label=("mu_class", "acs_mu_class"),
    # Leauthaud et al. (2007): 3 are artefacts.
    values={"galaxy": ("1",), "star": ("2",), "fake": ("3",)},
    unit="deg",
)
"""The same columns in IRSA's `cosmos_acs_iphot_200709` and in COSMOS2020."""
LSST = ColumnMap(
    ids=("objectid", "id"),
    ra=("coord_ra", "ra"),
    dec=("coord_dec", "dec"),
    fluxes={"*": ("{}_cmodelflux", "{}_cmodel_flux")},
    extendedness=("{}_extendedness",),
    extendedness_else="refextendedness",
    primary="detect_isprimary",
    match="magnitude",
)
"""Object tables of DP0.2 and DP1; coordinates are degrees there, and radians in the
pipeline's own source catalogs, which say so."""


def scheme_columns(scheme: str, words: Mapping[str, str] | None = None) -> ColumnMap:
    """The columns of a scheme; `words` describe those of the scheme ``columns``.

    Raises
    ------
    InputError
        For an unknown scheme, and where words are missing or not wanted.
    """
    if scheme == "columns":
        if not words:
            raise InputError(
                "scheme columns needs the catalog's columns",
                remedy="give id=NAME ra=NAME dec=NAME class=NAME galaxy=VALUE star=VALUE",
            )
        return parse_columns(words)
    if words:
        raise InputError(
            f"the columns of scheme {scheme} are known",
            remedy="give columns with --scheme columns, or leave them out",
        )
    known = {"hsc": HSC, "hst": HST, "lsst": LSST}
    if scheme not in known:
        raise InputError(f"unknown catalog scheme {scheme!r}", remedy=f"choose {_choices()}")
    return known[scheme]


def _choices() -> str:
    return f"{', '.join(SCHEMES[1:-1])} or {SCHEMES[-1]}"


_WORDS = ("id", "ra", "dec", "class", "galaxy", "star", "fake", "extendedness", "primary", "unit",
          "epoch", "match")  # fmt: skip


def parse_columns(words: Mapping[str, str]) -> ColumnMap:
    """Columns from words by name.

    ``id``, ``ra``, ``dec``: column names. The class: ``extendedness`` (one column or
    several with commas; above 0.5 is a galaxy), or ``class`` with the values ``galaxy``,
    ``star`` and ``fake`` (several with commas). ``mag_<band>`` or ``flux_<band>`` (nJy);
    ``primary``, a column that is true for rows to use; ``unit``, ``deg`` or ``rad``;
    ``epoch``, a year or a column; ``match``, ``nearest`` or ``magnitude``.

    Raises
    ------
    InputError
        For an unknown, missing or contradictory word.
    """
    bands: dict[str, dict[str, tuple[str, ...]]] = {"mag": {}, "flux": {}}
    for name, value in words.items():
        found = re.fullmatch(r"(mag|flux)_(\w+)", name)
        if not value:
            raise InputError(f"{name}= is empty", remedy="give a column's name or a value")
        if found:
            bands[found[1]][found[2].lower()] = (value.lower(),)
        elif name not in _WORDS:
            raise InputError(
                f"unknown column word {name!r}",
                remedy=f"choose of {', '.join(_WORDS)}, mag_<band>, flux_<band>",
            )
    missing = [name for name in ("id", "ra", "dec") if name not in words]
    if missing or ("class" in words) == ("extendedness" in words):
        what = missing[0] if missing else "class or extendedness, one of the two,"
        raise InputError(f"{what} is missing among the columns", remedy="give NAME=COLUMN")
    values = {k: tuple(words[k].split(",")) for k in ("galaxy", "star", "fake") if k in words}
    if ("class" in words) != bool({"galaxy", "star"} & set(values)):
        raise InputError(
            "the values of galaxy and star go with a class column",
            remedy="give class=COLUMN galaxy=VALUE star=VALUE",
        )
    for name, choices in (("unit", ("deg", "rad")), ("match", ("nearest", "magnitude"))):
        if words.get(name, choices[0]) not in choices:
            raise InputError(f"{name}={words[name]}", remedy=f"choose {' or '.join(choices)}")
    return ColumnMap(
        ids=(words["id"].lower(),),
        ra=(words["ra"].lower(),),
        dec=(words["dec"].lower(),),
        magnitudes=bands["mag"],
        fluxes=bands["flux"],
        extendedness=tuple(words.get("extendedness", "").lower().split(","))
        if "extendedness" in words
        else (),
        label=(words["class"].lower(),) if "class" in words else (),
        values=values,
        primary=words.get("primary", "").lower(),
        unit=words.get("unit", "auto"),
        epoch=_epoch(words.get("epoch")),
        match=words.get("match", "nearest"),
    )


def _epoch(word: str | None) -> float | str | None:
    if word is None:
        return None
    try:
        return float(word)
    except ValueError:
        return word.lower()
