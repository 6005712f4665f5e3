"""The AB magnitude of one count of an image, from its header."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy import units

from astrolabel.io.cards import SENTINEL, Cards

HEADER_ZEROPOINTS = ("MAGZERO", "MAGZPT", "MAGZP", "ZEROPNT", "ZEROPOINT", "PHOTZP", "ZP")
AB_OF_JANSKY = 8.9
"""AB magnitude of a jansky, as surveys round it (31.4 for a nanojansky)."""
MAGGIES = {"nanomaggy": 22.5, "nanomaggies": 22.5, "nmgy": 22.5, "maggy": 0.0, "maggies": 0.0}
ANY_CASE = {"JY": "Jy", "NJY": "nJy", "UJY": "uJy", "MJY/SR": "MJy/sr", "JY/PIXEL": "Jy"}
"""Units that keep their meaning in capitals. MJY alone may be mega or milli."""
VEGA_TO_AB = {
    "WFCAM": {"Z": 0.528, "Y": 0.634, "J": 0.938, "H": 1.379, "K": 1.900},
    "VIRCAM": {"Z": 0.502, "Y": 0.600, "J": 0.916, "H": 1.366, "KS": 1.827},
    "WISE": {"1": 2.699, "2": 3.339, "3": 5.174, "4": 6.620},
}
"""AB less Vega magnitudes: Hewett et al. (2006, MNRAS 367, 454), Gonzalez-Fernandez et al. (2018,
MNRAS 474, 5459), Jarrett et al. (2011, ApJ 735, 112)."""


@dataclass(frozen=True)
class ZeroPoint:
    """The AB magnitude of one count.

    Attributes
    ----------
    value : None where it is not known.
    source : what it is from, or why it is not known.
    doubtful : whether a card or unit that was there could not be used.
    """

    value: float | None
    source: str
    doubtful: bool = False


Rule = Callable[[Cards, "float | None"], ZeroPoint]
"""From the cards and the solid angle of a pixel."""


def of_cards(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
    """From FLUXMAG0, a magnitude card or the unit.

    Parameters
    ----------
    pixel_sr : solid angle of a pixel, for units of surface brightness.
    """
    flux_of_zero = cards.number("FLUXMAG0")
    if flux_of_zero is not None and flux_of_zero > 0:
        return ZeroPoint(float(2.5 * np.log10(flux_of_zero)), "card FLUXMAG0")
    refused = ""
    for key in HEADER_ZEROPOINTS:
        if not cards.has(key):
            continue
        value = cards.number(key)
        if value is None or abs(value) >= SENTINEL:
            shown = cards.text(key) if value is None else f"{value:g}"
            refused = f"card {key} = {shown} stands for none"
        elif vega := _vega(cards, key):
            refused = f"card {key} is in Vega magnitudes ({vega})"
        else:
            return _contradicted(cards, key, _per_count(cards, key, value))
    of_unit = from_unit(cards, pixel_sr)
    if of_unit.value is None and refused:
        return ZeroPoint(None, refused, True)
    return of_unit


def _contradicted(cards: Cards, key: str, found: ZeroPoint) -> ZeroPoint:
    """A zero point, doubtful where another card has another, and not by the exposure time."""
    time = cards.number("EXPTIME") or 1.0
    for other in HEADER_ZEROPOINTS:
        value = cards.number(other)
        if other == key or value is None or found.value is None or abs(value) >= SENTINEL:
            continue
        off = abs(value - found.value)
        if min(off, abs(off - abs(2.5 * np.log10(max(time, 1e-30))))) > SAME_MAG:
            text = f"{found.source}; card {other} has {value:g}"
            return ZeroPoint(found.value, text, True)
    return found


SAME_MAG = 0.1
"""Zero points of two cards that differ by less are of two calibrations."""


def _vega(cards: Cards, key: str) -> str:
    """What says that a zero point is no AB magnitude; empty for nothing."""
    for system in ("MAGSYS", "PHOTSYS", "PHOTSYST", "ZPSYS", "MAGTYPE"):
        if cards.text(system).upper().startswith("VEGA"):
            return f"{system} = {cards.text(system)}"
    return "its comment" if "vega" in cards.comment(key).lower() else ""


PER_SECOND = re.compile(r"/ ?s(ec(ond)?)?\b|per sec|s(ec)?(\^|\*\*)?-1\b", re.IGNORECASE)


def _per_count(cards: Cards, key: str, value: float) -> ZeroPoint:
    """The magnitude of a card, which may be that of one count a second in pixels of counts."""
    source = f"card {key}, taken for the AB magnitude of one count"
    unit = cards.text("BUNIT")
    if not PER_SECOND.search(cards.comment(key)) or PER_SECOND.search(unit):
        return ZeroPoint(value, source)
    time = cards.number("EXPTIME")
    if not unit or not time or time <= 0:
        why = "there is no card BUNIT" if not unit else "there is no exposure time"
        return ZeroPoint(None, f"card {key} is of one count a second and {why}", True)
    return ZeroPoint(
        float(value + 2.5 * np.log10(time)), f"card {key}, of one count a second, in {time:g} s"
    )


NOT_LINEAR = re.compile(r"\b(mag|mags|magnitudes?|dex|log|log10|ln|sqrt|asinh)\b", re.IGNORECASE)


def not_linear(cards: Cards) -> str:
    """The unit of pixels that are no linear flux, such as ``mag/arcsec2``; else empty."""
    unit = cards.text("BUNIT")
    return unit if NOT_LINEAR.search(unit) else ""


def from_unit(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
    """From BUNIT: a flux density, a surface brightness, or a flux per wavelength (with the
    pivot wavelength of PHOTPLAM)."""
    text = cards.text("BUNIT")
    if not text:
        return ZeroPoint(None, "no card gives it")
    name = PER_PIXEL.sub("", text).lower()
    if name in MAGGIES:
        return ZeroPoint(MAGGIES[name], f"unit {text}")
    unit = _unit(text)
    if unit is None:
        return ZeroPoint(None, f"unit {text!r} is none of flux", text.lower() in ("mjy", "mjy/sr"))
    if unit.is_equivalent(units.Jy / units.sr):
        area = cards.number("PIXAR_SR") or pixel_sr
        if not area:
            return ZeroPoint(None, f"unit {text} without the area of a pixel", True)
        return ZeroPoint(_of_jansky((unit * units.sr).to(units.Jy) * area), f"unit {text}")
    if unit.is_equivalent(units.Jy):
        return ZeroPoint(_of_jansky(unit.to(units.Jy)), f"unit {text}")
    if unit.is_equivalent(units.Unit("erg / (s cm2 AA)")):
        pivot = cards.number("PHOTPLAM")
        if pivot is None:
            return ZeroPoint(None, f"unit {text} without a pivot wavelength (PHOTPLAM)")
        flux = (1 * unit).to(units.Jy, units.spectral_density(pivot * units.AA))
        return ZeroPoint(_of_jansky(float(flux.value)), f"unit {text} at {pivot:g} Angstrom")
    return ZeroPoint(None, f"unit {text!r} is none of flux")


PER_PIXEL = re.compile(r"(?i) ?(/ ?pix(el)?|pix(el)?-1|pix(el)?\^-1)$")


def _unit(text: str) -> units.UnitBase | None:
    if text == text.upper():
        text = ANY_CASE.get(text.replace(" ", ""), text)
        if text == "MJY":
            return None
    text = text.replace("**", "^") if "**" in text else text
    text = PER_PIXEL.sub("", text)
    text = re.sub(r"(?i)\b(micro|mu)(?=jy\b)", "u", text)
    if re.search(r"(?i)\bergs?\b", text):  # beside it A is no ampere
        text = re.sub(r"\bergs\b", "erg", text.lower())
        text = re.sub(r"\b(a|ang|angstroms)\b", "angstrom", text).replace("hz", "Hz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)  # of more slashes than one
        try:
            return units.Unit(text)
        except (ValueError, TypeError):
            return None


def _of_jansky(one: float) -> float:
    return float(-2.5 * np.log10(one)) + AB_OF_JANSKY


def hst(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
    """From the inverse sensitivity, per electron and second."""
    flam, plam = cards.number("PHOTFLAM"), cards.number("PHOTPLAM")
    if not flam or not plam or flam <= 0 or plam <= 0:
        return of_cards(cards, pixel_sr)
    value = -2.5 * np.log10(flam) - 5 * np.log10(plam) - 2.408
    source = "cards PHOTFLAM and PHOTPLAM"
    unit = cards.text("BUNIT")
    if unit and not PER_SECOND.search(unit):
        time = cards.number("EXPTIME")
        if not time or time <= 0:
            return ZeroPoint(None, f"unit {unit} without an exposure time", True)
        value, source = value + 2.5 * np.log10(time), f"{source}, in {time:g} s"
    return ZeroPoint(float(value), source)


def panstarrs(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
    """Stacks are scaled to 25 for one count per second."""
    time = cards.number("EXPTIME")
    if not time or time <= 0:
        return ZeroPoint(None, "no EXPTIME", True)
    return ZeroPoint(float(25 + 2.5 * np.log10(time)), f"25 for one count a second, in {time:g} s")


def vega_per_second(instrument: str, time_key: str) -> Rule:
    """A rule for MAGZPT in Vega magnitudes of one count per second."""

    def rule(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
        value, time = cards.number("MAGZPT"), cards.number(time_key)
        time = time or cards.number("EXPTIME")
        name = (cards.text("FILTER") or cards.text("ESO INS FILT1 NAME")).strip().upper()
        offset = VEGA_TO_AB[instrument].get(name)
        if value is None or abs(value) >= SENTINEL or offset is None or not time or time <= 0:
            return ZeroPoint(
                None,
                f"Vega MAGZPT of {instrument}, whose filter {name!r} or time is unknown",
                True,
            )
        source = f"card MAGZPT (Vega, per second), in {time:g} s, AB - Vega {offset:g}"
        return ZeroPoint(float(value + 2.5 * np.log10(time) + offset), source)

    return rule


def constant(value: float, source: str) -> Rule:
    """A rule for surveys whose images all have one zero point, unless a card has another."""

    def rule(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
        found = of_cards(cards, pixel_sr)
        return found if found.value is not None else ZeroPoint(value, source)

    return rule


def wise(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
    """unWISE and AllWISE atlases: Vega, 22.5 and MAGZP."""
    offset = VEGA_TO_AB["WISE"].get(cards.text("BAND").strip().upper().lstrip("W"))
    value = cards.number("MAGZP")
    if offset is None or value is None or abs(value) >= SENTINEL:
        return ZeroPoint(None, "Vega magnitudes without MAGZP and BAND", True)
    return ZeroPoint(value + offset, f"card MAGZP (Vega), AB - Vega {offset:g}")


def galex(cards: Cards, pixel_sr: float | None) -> ZeroPoint:
    """Intensity maps in counts per second: 18.82 (FUV) and 20.08 (NUV)."""
    band = {1.0: 20.08, 2.0: 18.82}.get(cards.number("BAND") or 0.0)
    if band is None:
        return of_cards(cards, pixel_sr)
    return ZeroPoint(band, "GALEX, of one count a second")
