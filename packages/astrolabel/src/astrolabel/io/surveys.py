"""What files of known surveys mean: one row each, recognised by header and file name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from astrolabel.core.errors import InputError
from astrolabel.core.names import nearest
from astrolabel.io import zeropoints
from astrolabel.io.cards import Cards
from astrolabel.io.zeropoints import Rule

Bits = Mapping[str, int]


@dataclass(frozen=True)
class Survey:
    """One row of the registry.

    Attributes
    ----------
    key : what ``--survey`` takes.
    title : the survey or product in plain words.
    is_it : whether cards and file name are of this survey.
    noise : kind of noise plane by a word of a file's name, where it is not what it says.
    unit : of the pixels, for people.
    zeropoint : from the cards and the solid angle of a pixel.
    bits : value of the bits of an integer mask by plane name, for masks without MP_ cards.
    codes : plane name by value, for masks that hold one code a pixel.
    asinh : whether pixels are an inverse hyperbolic sine of the flux (BOFFSET, BSOFTEN).
    seeing : cards of the PSF's FWHM and their unit, ``px`` or ``arcsec``.
    fwhm_arcsec : FWHM of the PSF that is usual for the survey, of its papers and handbooks: a guess
        where an image shows no stars; None where filters or products differ too much.
    """

    key: str
    title: str
    is_it: Callable[[Cards, str], bool]
    unit: str
    zeropoint: Rule = zeropoints.of_cards
    noise: Mapping[str, str] = field(default_factory=dict)
    bits: Bits = field(default_factory=dict)
    codes: Mapping[int, str] = field(default_factory=dict)
    asinh: bool = False
    seeing: Mapping[str, str] = field(default_factory=dict)
    fwhm_arcsec: float | None = None


def _card(key: str, *starts: str) -> Callable[[Cards, str], bool]:
    """Whether a card's text starts with one of some words, whatever their case."""
    return lambda cards, name: cards.text(key).upper().startswith(tuple(s.upper() for s in starts))


def _name(pattern: str) -> Callable[[Cards, str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda cards, name: compiled.match(name) is not None


def _any(*rules: Callable[[Cards, str], bool]) -> Callable[[Cards, str], bool]:
    return lambda cards, name: any(rule(cards, name) for rule in rules)


def _both(*rules: Callable[[Cards, str], bool]) -> Callable[[Cards, str], bool]:
    return lambda cards, name: all(rule(cards, name) for rule in rules)


def _has(*keys: str) -> Callable[[Cards, str], bool]:
    return lambda cards, name: cards.has(*keys)


DES_BITS = {
    "BAD": 1 | 8 | 1024 | 32768,
    "SAT": 2 | 128,
    "INTRP": 4,
    "COSMIC_RAY": 16,
    "BRIGHT_OBJECT": 32,
    "TRAIL": 64 | 2048,
}
"""Morganson et al. (2018, PASP 130, 074501), table 7."""

SURVEYS: tuple[Survey, ...] = (
    Survey(
        "hsc", "HSC SSP coadds and other LSST Science Pipelines files scaled to 27",
        _any(_name(r"calexp-"), _name(r"deepCoadd_")), "counts",
        zeropoints.constant(27.0, "survey coadds are scaled to 27"), fwhm_arcsec=0.7,
    ),
    Survey(
        "lsst", "LSST deep_coadd (DP1 and later)", _name(r"deep_coadd_"), "nJy",
        zeropoints.constant(31.4, "survey coadds are in nJy"), fwhm_arcsec=1.1,
    ),
    Survey(
        "decam-cp", "DECam Community Pipeline",
        _both(_card("INSTRUME", "DECam"), _has("PLVER")), "counts", noise={"OOW": "weight"},
        codes={1: "BAD", 2: "NO_DATA", 3: "SAT", 4: "SAT", 5: "COSMIC_RAY", 6: "NO_DATA",
               7: "BAD", 8: "TRAIL"},
        seeing={"FWHM": "px"}, fwhm_arcsec=1.2,
    ),
    Survey(
        "des", "DES coadd tiles", _any(_has("TILENAME", "TILEID"), _name(r"DES\d{4}[+-]\d{4}_")),
        "counts", zeropoints.constant(30.0, "DES coadds are scaled to 30"), bits=DES_BITS,
        fwhm_arcsec=0.95,
    ),
    Survey(
        "decals", "DECaLS and other Legacy Surveys bricks",
        _any(_has("LEGPIPEV"), _has("BRICK", "SURVEY"), _name(r"legacysurvey-"),
             _card("SURVEY", "DECALS", "LEGACYSURVEY", "BASS", "MZLS")),
        "nanomaggies", zeropoints.constant(22.5, "Legacy Surveys are in nanomaggies"),
        bits={"BRIGHT_OBJECT": 2 | 2048, "SAT": 4 | 8 | 16 | 16384, "BAD": 1024}, fwhm_arcsec=1.2,
    ),
    Survey(
        "panstarrs", "Pan-STARRS stacks", _any(_has("BSOFTEN", "BOFFSET"), _name(r"rings\.v3\.")),
        "asinh of the flux", zeropoints.panstarrs, noise={"WT": "variance"},
        bits={"BAD": 0x1 | 0x2 | 0x4 | 0x10 | 0x2000, "NO_DATA": 0x8 | 0x40, "SAT": 0x20,
              "COSMIC_RAY": 0x100, "TRAIL": 0x800, "BRIGHT_OBJECT": 0x200 | 0x400 | 0x1000},
        asinh=True, fwhm_arcsec=1.2,
    ),
    Survey(
        "sdss", "SDSS frames", _any(_has("NMGY"), _both(_card("TELESCOP", "2.5m"), _has("CAMCOL"))),
        "nanomaggies", zeropoints.constant(22.5, "SDSS frames are in nanomaggies"), fwhm_arcsec=1.3,
    ),
    Survey(
        "kids", "KiDS coadds",
        _any(_name(r"KiDS_DR"), _card("OBJECT", "KIDS_"), _card("PROJECT", "KiDS")),
        "flux of zero point 0", zeropoints.constant(0.0, "KiDS coadds have zero point 0"),
        fwhm_arcsec=0.7,
    ),
    Survey(
        "hst", "HST drizzled images", _card("TELESCOP", "HST"), "electrons/s or counts",
        zeropoints.hst, fwhm_arcsec=0.13,
    ),
    # WHT of JWST is a drizzle weight; ERR, the total error, is read before it.
    Survey(
        "jwst", "JWST i2d mosaics", _card("TELESCOP", "JWST"), "MJy/sr", bits={"BAD": 1, "SAT": 2},
        fwhm_arcsec=0.08,
    ),
    Survey(
        "euclid", "Euclid MER mosaics", _any(_name(r"EUC_MER_"), _card("TELESCOP", "Euclid")),
        "counts",
    ),
    Survey(
        "roman", "Roman mosaics as FITS", _any(_card("TELESCOP", "ROMAN"), _name(r"Roman_")),
        "MJy/sr",
    ),
    Survey(
        "ztf", "ZTF science and reference images",
        _any(_card("INSTRUME", "ZTF"), _card("ORIGIN", "Zwicky"), _name(r"ztf_")), "counts",
        noise={"REFUNC": "rms"},
        bits={"TRAIL": 1, "BAD": 16 | 32 | 512, "SAT": 256, "NO_DATA": 1024,
              "COSMIC_RAY": 128, "BRIGHT_OBJECT": 4096},
        seeing={"SEEING": "px"}, fwhm_arcsec=2.0,
    ),
    Survey(
        "ukidss", "UKIDSS and other WFCAM images", _card("INSTRUME", "WFCAM"), "counts",
        zeropoints.vega_per_second("WFCAM", "EXP_TIME"), seeing={"SEEING": "px"}, fwhm_arcsec=0.9,
    ),
    Survey(
        "vista", "VISTA tiles and pawprints", _card("INSTRUME", "VIRCAM"), "counts",
        zeropoints.vega_per_second("VIRCAM", "EXPTIME"), seeing={"SEEING": "px"}, fwhm_arcsec=0.9,
    ),
    Survey(
        "cfht", "CFHT MegaPipe stacks",
        _any(_card("INSTRUME", "MegaPrime"), _card("ORIGIN", "CFHT"), _name(r"MegaPipe")), "counts",
        fwhm_arcsec=0.7,
    ),
    Survey(
        "spitzer", "Spitzer mosaics", _card("TELESCOP", "Spitzer"), "MJy/sr",
        noise={"MUNC": "rms"}, fwhm_arcsec=1.8,
    ),
    Survey(
        "wise", "WISE and unWISE coadds", _card("TELESCOP", "WISE"), "counts (Vega)",
        zeropoints.wise, fwhm_arcsec=6.1,
    ),
    Survey(
        "galex", "GALEX intensity maps", _card("TELESCOP", "GALEX"), "counts/s", zeropoints.galex,
        fwhm_arcsec=5.0,
    ),
)  # fmt: skip
BY_KEY: Mapping[str, Survey] = {survey.key: survey for survey in SURVEYS}


def recognise(cards: Cards, name: str) -> Survey | None:
    """The survey that an image's cards and its file's name are of."""
    return next((survey for survey in SURVEYS if survey.is_it(cards, name)), None)


def named(key: str) -> Survey:
    """The row of the registry with this key.

    Raises
    ------
    InputError
        For a key that is not in the registry.
    """
    if key not in BY_KEY:
        raise InputError(
            f"unknown survey {key!r}",
            remedy=nearest(key, BY_KEY) or f"known are {', '.join(BY_KEY)}",
        )
    return BY_KEY[key]
