"""What the headers of survey files say of bands, zero points and the unit of the pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units
from numpy.typing import NDArray

from astroseg.data.bands import canonical

FILTER_CARDS = (
    "FILTER", "BAND", "FILTERID", "FILTNAM", "FILTNAME", "WFFBAND", "FPA.FILTER", "FPA.FILTERID",
    "FILTER1", "FILTER2", "FILTER3", "FILTNAM1", "FILTNAM2", "FILTER01", "FILTER02",
    "ESO INS FILT1 NAME", "ESO INS FILT2 NAME", "INSFILTE", "FILT", "FILTERS",
    "LSST BUTLER DATAID BAND",
)  # fmt: skip
"""Cards that name the filter; cameras with several wheels have one for each."""

NO_FILTER = ("CLEAR", "OPEN", "NONE", "EMPTY", "N/A", "UNKNOWN")

_NUMBERED: Mapping[str, tuple[str, Mapping[float, str]]] = {
    "WISE": ("BAND", {1: "w1", 2: "w2", 3: "w3", 4: "w4"}),
    "GALEX": ("BAND", {1: "NUV", 2: "FUV"}),
    "Spitzer": ("CHNLNUM", {1: "ch1", 2: "ch2", 3: "ch3", 4: "ch4"}),
}
"""Card and names of the bands of telescopes that number them, by TELESCOP."""

_ZEROPOINTS = (
    "MAGZERO", "PHOTZP", "MAGZP", "MAG_ZERO", "ZEROPNT", "ZEROPT", "ZEROPOINT", "ABZP", "ZP",
)  # fmt: skip
"""Cards that hold the magnitude of one unit of flux."""

_VEGA = {
    "PHOTSYS": ("VEGA",),
    "INSTRUME": ("WFCAM", "VIRCAM"),
    "TELESCOP": ("WISE",),
    "ORIGIN": ("2MASS",),
}
"""Cards of the surveys whose zero points are Vega magnitudes, or of one count a second."""

_COUNTS_A_SECOND = {"NUV": 20.08, "FUV": 18.82}
"""AB zero points of GALEX (Morrissey et al. 2007, ApJS 173, 682)."""

_MAGGIES = {"nanomaggy": 22.5, "nanomaggies": 22.5, "nmgy": 22.5, "maggy": 0.0, "maggies": 0.0}
_ANY_CASE = {
    "jy": "Jy", "njy": "nJy", "ujy": "uJy", "microjy": "uJy", "nanojy": "nJy", "jansky": "Jy",
    "nanojansky": "nJy", "microjansky": "uJy", "millijansky": "mJy", "megajansky/sr": "MJy/sr",
    "mjy/sr": "MJy/sr", "mjy.sr-1": "MJy/sr",
}  # fmt: skip
"""Units that can mean one thing only, whatever their case; "MJY" alone may be mega or milli."""
_JANSKY = 8.9
"""AB magnitude of a jansky, as surveys round it (31.4 for a nanojansky)."""

_SENTINEL = 90.0
"""Magnitudes beyond stand for none."""


def band_names(cards: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of `count` planes: BANDS "g,r,i", BAND1.. or the Legacy Surveys' BAND0.., or the
    filter of one plane; () without."""
    text = cards.get("BANDS")
    if isinstance(text, str) and len(names := text.replace(",", " ").split()) == count:
        return tuple(names)
    for first in (0, 1):
        numbered = [cards.get(f"BAND{i}") for i in range(first, first + count)]
        if all(isinstance(name, str) for name in numbered):
            return tuple(str(name).strip() for name in numbered)
    if count == 1 and (name := filter_card(cards)):
        return (name,)
    return ()


def filter_card(cards: Mapping[str, Any]) -> str:
    """The filter by the first card that names a known one, else the first that is not clear.

    JWST's pupil wheel holds the narrower filter of two.
    """
    pupil = cards.get("PUPIL")
    if isinstance(pupil, str) and (canonical(pupil) or "")[:1] == "f":
        return pupil.strip()
    named = [cards.get(key) for key in FILTER_CARDS]
    found = [name.strip() for name in named if isinstance(name, str) and name.strip()]
    found = [name for name in found if not name.upper().startswith(NO_FILTER)]
    if known := [name for name in found if canonical(name) is not None]:
        return known[0]
    if found:
        return found[0]
    key, bands = _NUMBERED.get(str(cards.get("TELESCOP", "")).strip(), ("", {}))
    return bands.get(number(cards.get(key)), "")


def zeropoint(cards: Mapping[str, Any]) -> float:
    """AB magnitude of one unit of flux by a header, NaN where it does not say.

    FLUXMAG0 is HSC's flux of magnitude 0; MAGZERO and its like are zero points of the pixels'
    unit; stacks of Pan-STARRS are scaled to 25 for one count a second; PHOTFLAM and PHOTPLAM are
    HST's, of one electron a second (ACS data handbook, section 5.1.1).
    """
    if (flux := number(cards.get("FLUXMAG0"))) > 0:
        return 2.5 * math.log10(flux)
    if any(_text(cards, key).upper().startswith(words) for key, words in _VEGA.items()):
        return math.nan
    for key in _ZEROPOINTS:
        if abs(value := number(cards.get(key))) < _SENTINEL:
            return value
    if _text(cards, "TELESCOP") == "GALEX":
        return _COUNTS_A_SECOND.get(filter_card(cards), math.nan)
    time = number(cards.get("EXPTIME"))
    of_time = 2.5 * math.log10(time) if time > 0 else math.nan
    if "BSOFTEN" in cards:
        return 25 + of_time
    text = _text(cards, "BUNIT")
    flam, plam = number(cards.get("PHOTFLAM")), number(cards.get("PHOTPLAM"))
    if flam > 0 and plam > 0:
        per_second = not text or "/S" in text.upper().replace(" ", "")
        zero = -2.5 * math.log10(flam) - 5 * math.log10(plam) - 2.408
        return zero if per_second else zero + of_time
    return _MAGGIES[text.lower()] if text.lower() in _MAGGIES else _of_unit(text, cards)


def _text(cards: Mapping[str, Any], key: str) -> str:
    return str(cards.get(key, "")).strip()


def _of_unit(text: str, cards: Mapping[str, Any]) -> float:
    """Of a flux density, or a surface brightness where the area of a pixel is known."""
    try:
        unit = units.Unit(_ANY_CASE.get(text.lower(), text))
        if unit.is_equivalent(units.Jy / units.sr):
            area = number(cards.get("PIXAR_SR"))
            if math.isnan(area):
                area = (pixel_scale(cards) * units.arcsec).to_value(units.rad) ** 2
            jansky = (unit * units.sr).to(units.Jy) * area
        else:
            jansky = unit.to(units.Jy)
    except (ValueError, TypeError):  # of an unknown unit, or one of no flux
        return math.nan
    return _JANSKY - 2.5 * math.log10(jansky) if jansky > 0 else math.nan


def pixel_scale(cards: Mapping[str, Any] | None) -> float:
    """Side of a pixel in arcsec by the cards of a WCS (FITS paper II), NaN without.

    >>> round(pixel_scale({"CTYPE1": "RA---TAN", "CDELT1": -1e-4, "CDELT2": 1e-4}), 6)
    0.36
    """
    cards = cards or {}
    steps = (cards.get("CDELT1", 1.0), cards.get("CDELT2", 1.0))
    if any(f"CD{i}_{j}" in cards for i in (1, 2) for j in (1, 2)):
        name, steps, diagonal = "CD", (1.0, 1.0), 0.0
    elif "CDELT1" in cards or "PC1_1" in cards:
        name, diagonal = "PC", 1.0
    else:
        return math.nan
    try:
        a, b, c, d = (
            float(steps[i - 1]) * float(cards.get(f"{name}{i}_{j}", diagonal if i == j else 0.0))
            for i in (1, 2)
            for j in (1, 2)
        )
        unit = units.Unit(_text(cards, "CUNIT1") or "deg").to(units.arcsec)
    except (TypeError, ValueError):
        return math.nan
    area = abs(a * d - b * c)
    return float(unit) * math.sqrt(area) if 0 < area < math.inf else math.nan


def linear(data: NDArray[Any], cards: Mapping[str, Any]) -> NDArray[Any]:
    """Pixels that are an inverse hyperbolic sine of the flux as the flux (Pan-STARRS;
    outerspace.stsci.edu, "PS1 Stack images"); all others as they are."""
    soft, zero = number(cards.get("BSOFTEN")), number(cards.get("BOFFSET"))
    if not soft > 0 or not math.isfinite(zero):
        return data
    with np.errstate(over="ignore"):
        flux = zero + 2 * soft * np.sinh(data.astype(np.float64) * 0.4 * math.log(10))
    return flux.astype(np.float32)


def number(value: Any) -> float:
    """A card's finite number, also where it is written as text; else NaN."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan
