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
    "ESO INS FILT1 NAME", "ESO INS FILT2 NAME",
)  # fmt: skip
"""Cards that name the filter; cameras with several wheels have one for each."""

_NUMBERED: Mapping[str, tuple[str, Mapping[float, str]]] = {
    "WISE": ("BAND", {1: "w1", 2: "w2", 3: "w3", 4: "w4"}),
    "GALEX": ("BAND", {1: "NUV", 2: "FUV"}),
    "Spitzer": ("CHNLNUM", {1: "ch1", 2: "ch2", 3: "ch3", 4: "ch4"}),
}
"""Card and names of the bands of telescopes that number them, by TELESCOP."""

_MAGGIES = {"nanomaggy": 22.5, "nanomaggies": 22.5, "nmgy": 22.5}
_JANSKY = 8.9
"""AB magnitude of a jansky, as surveys round it (31.4 for a nanojansky)."""

_SENTINEL = 90.0
"""Magnitudes beyond stand for none."""


def band_names(cards: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of `count` planes: BANDS "g,r,i", BAND1.., or the filter of one plane; () without."""
    text = cards.get("BANDS")
    if isinstance(text, str) and len(names := text.replace(",", " ").split()) == count:
        return tuple(names)
    numbered = [cards.get(f"BAND{i}") for i in range(1, count + 1)]
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
    found = [name for name in found if not name.upper().startswith(("CLEAR", "OPEN", "NONE"))]
    if known := [name for name in found if canonical(name) is not None]:
        return known[0]
    if found:
        return found[0]
    key, bands = _NUMBERED.get(str(cards.get("TELESCOP", "")).strip(), ("", {}))
    return bands.get(number(cards.get(key)), "")


def zeropoint(cards: Mapping[str, Any]) -> float:
    """AB magnitude of one unit of flux by a header, NaN where it does not say.

    FLUXMAG0 is HSC's flux of magnitude 0; MAGZERO and PHOTZP are zero points of the pixels'
    unit; stacks of Pan-STARRS are scaled to 25 for one count a second; PHOTFLAM and PHOTPLAM are
    HST's, of one electron a second (ACS data handbook, section 5.1.1).
    """
    if (flux := number(cards.get("FLUXMAG0"))) > 0:
        return 2.5 * math.log10(flux)
    for key in ("MAGZERO", "PHOTZP"):
        if abs(value := number(cards.get(key))) < _SENTINEL:
            return value
    time = number(cards.get("EXPTIME"))
    of_time = 2.5 * math.log10(time) if time > 0 else math.nan
    if "BSOFTEN" in cards:
        return 25 + of_time
    text = str(cards.get("BUNIT", "")).strip()
    flam, plam = number(cards.get("PHOTFLAM")), number(cards.get("PHOTPLAM"))
    if flam > 0 and plam > 0:
        per_second = not text or "/S" in text.upper().replace(" ", "")
        zero = -2.5 * math.log10(flam) - 5 * math.log10(plam) - 2.408
        return zero if per_second else zero + of_time
    return _MAGGIES[text.lower()] if text.lower() in _MAGGIES else _of_unit(text, cards)


def _of_unit(text: str, cards: Mapping[str, Any]) -> float:
    """Of a flux density, or a surface brightness where the area of a pixel is known."""
    try:
        unit = units.Unit(text) if text else units.dimensionless_unscaled
        if unit.is_equivalent(units.Jy / units.sr):
            jansky = (unit * units.sr).to(units.Jy) * number(cards.get("PIXAR_SR"))
        else:
            jansky = unit.to(units.Jy)
    except (ValueError, TypeError):  # of an unknown unit, or one of no flux
        return math.nan
    return _JANSKY - 2.5 * math.log10(jansky) if jansky > 0 else math.nan


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
    """A card's number, NaN for text, truth values and none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)
