"""What the columns of a source catalog are: units, UCDs (IVOA UCD1+) and one line for people."""

from __future__ import annotations

import re
from dataclasses import dataclass

from astropy import units as u

BANDS = {
    "u": "em.opt.U", "g": "em.opt.B", "v": "em.opt.V", "r": "em.opt.R", "i": "em.opt.I",
    "z": "em.opt.I", "y": "em.opt.I", "j": "em.IR.J", "h": "em.IR.H", "k": "em.IR.K",
}  # fmt: skip
"""The part of the spectrum that UCDs know for a band's middle wavelength, by the band's name."""


@dataclass(frozen=True)
class Meaning:
    """A column's unit, UCD (empty where none fits) and description."""

    unit: u.UnitBase | None = None
    ucd: str = ""
    description: str = ""


BY_NAME: tuple[tuple[str, Meaning], ...] = (
    ("id", Meaning(None, "meta.id;meta.main", "number of the label")),
    ("coadd", Meaning(None, "meta.id;obs.image", "coadd that the label lies on")),
    ("image", Meaning(None, "meta.id;meta.file", "picture of the tile")),
    ("class", Meaning(None, "src.class", "class of the label")),
    ("ra", Meaning(u.deg, "pos.eq.ra;meta.main", "right ascension of the light, ICRS")),
    ("dec", Meaning(u.deg, "pos.eq.dec;meta.main", "declination of the light, ICRS")),
    ("x", Meaning(u.pix, "pos.cartesian.x", "column of the light in the coadd, from 0")),
    ("y", Meaning(u.pix, "pos.cartesian.y", "row of the light in the coadd, from 0")),
    ("area", Meaning(u.pix**2, "phys.angArea", "pixels of the mask")),
    ("ignore", Meaning(None, "meta.code", "whether it is an ignore region")),
    (r"bbox_[xy]", Meaning(u.pix, "", "first edge of the mask's box in the coadd")),
    (r"bbox_(width|height)", Meaning(u.pix, "phys.angSize", "side of the mask's box")),
    (r"mag_(?P<band>.+)", Meaning(u.mag, "phot.mag", "AB magnitude of the whole model")),
    (r"flux_err_(?P<band>.+)", Meaning(u.nJy, "stat.error;phot.flux", "one sigma of the flux")),
    (r"flux_(?P<band>.+)", Meaning(u.nJy, "phot.flux", "total flux of the model")),
    ("snr", Meaning(None, "stat.snr", "light in the mask over its noise")),
    ("chi2", Meaning(None, "stat.fit.chi2", "mean squared residual in the mask, sigma squared")),
    ("model", Meaning(None, "src.morph.type", "point, sersic or disc+bulge")),
    (r"half_light_radius_(?P<unit>.+)", Meaning(None, "phys.angSize", "half-light radius, "
     "circularised, before the PSF")),
    (r"(disc|bulge)_radius_(?P<unit>.+)", Meaning(None, "phys.angSize", "half-light radius of "
     "one component, circularised")),
    (r"((disc|bulge)_)?axis_ratio", Meaning(None, "phys.angSize;arith.ratio", "minor over major "
     "axis, before the PSF")),
    ("theta", Meaning(u.deg, "pos.posAng", "major axis, from +x towards +y")),
    ("position_angle", Meaning(u.deg, "pos.posAng", "major axis, from north to east")),
    ("sersic_index", Meaning(None, "src.morph.param", "Sersic index")),
    (r"(disc|bulge)_index", Meaning(None, "src.morph.param", "Sersic index of one component")),
    (r"bulge_fraction_(?P<band>.+)", Meaning(None, "phot.flux;arith.ratio", "part of the flux "
     "that is the bulge's")),
    ("ignored", Meaning(None, "", "why it is an ignore region")),
    ("object_id", Meaning(None, "meta.id.cross", "id in the catalog of the classes")),
    ("class_source", Meaning(None, "meta.bib", "where the class is from")),
    ("n_blended", Meaning(None, "meta.number", "peaks in the connected footprint")),
    ("flags", Meaning(None, "meta.code.qual", "names of the quality flags")),
    ("flag_bits", Meaning(None, "meta.code.qual", "the quality flags as bits")),
    ("p_galaxy", Meaning(None, "stat.probability;src.class", "probability of a galaxy")),
    ("score", Meaning(None, "stat.probability", "score of a prediction")),
)  # fmt: skip
"""By the name's pattern, the first that matches all of it."""
UNITS: dict[str, u.UnitBase] = {"arcsec": u.arcsec, "px": u.pix}


def meaning_of(name: str) -> Meaning:
    """What a column of this name is; an empty meaning for names that are not the program's."""
    for pattern, found in BY_NAME:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        parts = match.groupdict()
        unit = UNITS.get(parts.get("unit", ""), found.unit)
        where = BANDS.get(parts.get("band", "").lower(), "")
        ucd = f"{found.ucd};{where}" if where and found.ucd else found.ucd
        return Meaning(unit, ucd, found.description)
    return Meaning()
