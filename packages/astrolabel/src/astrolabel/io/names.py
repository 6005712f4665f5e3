"""What the names of survey files hold: band, tract, patch, and a stamp's place on the sky."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

COADDS = (
    re.compile(
        r"calexp-(?:HSC-)?(?P<filter>[A-Za-z0-9]+)-(?P<tract>\d+)-(?P<patch>\d+,\d+)"
        r"\.fits(\.fz|\.gz)?"
    ),
    re.compile(
        r"(?:deepCoadd_calexp|deepCoadd|deep_coadd)_(?:(?P<filter>[ugrizy]|N\d+)_)?"
        r"(?P<tract>\d+)_(?P<patch>\d+(?:[,-]\d+)?)(?:_(?P<behind>[ugrizy]|N\d+))?(?:_.+)?"
        r"\.fits(\.fz|\.gz)?"
    ),
)
"""Names of coadds with tract, patch and band. First HSC's, in the flat form of its archive and
in its deepCoadd-results tree (LSST's simulations have the same tree without ``HSC-``). Then what
LSST's butler calls the files it exports, dataset type first (``deep_coadd_5063_14_i_...``)."""
STAMPS = (
    re.compile(
        r"(?:\d+-)?psf-calexp-\w+-(?:HSC-)?(?P<filter>[A-Za-z0-9]+)-(?P<tract>\d+)-"
        r"(?P<patch>\d+,\d+)-(?P<ra>\d+(?:\.\d+)?)-(?P<dec>[+-]?\d+(?:\.\d+)?)"
        r"\.fits(\.fz|\.gz)?"
    ),
    re.compile(
        r"\d+_psf_coadd_(?P<ra>\d+\.\d+)_(?P<dec>[+-]\d+\.\d+)_(?P<tract>\d+)_"
        r"(?P<patch>\d+,\d+)_(?:HSC-)?(?P<filter>[A-Za-z0-9]+)\.fits(\.fz|\.gz)?"
    ),
)
"""Names of PSF stamps with their place. First those of HSC's PSF picker, alone or with the
number of a line of the list of places (``2-psf-calexp-pdr2_dud-HSC-I-9813-4,6-150.17282-
2.60907.fits``; southern declinations have a second minus). Then what the release's own
downloadPsf.py makes of them (``2_psf_coadd_150.17282_+2.60907_9813_4,6_HSC-I.fits``)."""
FIRST_LETTER = re.compile(r"[UGRIZY]\d?", re.IGNORECASE)
"""Broad bands by the names of their filters: HSC-I2 is the second filter of the band i."""


@dataclass(frozen=True)
class StampName:
    """What the name of a PSF stamp holds: band, patch, and its place in degrees."""

    band: str
    tract: str
    patch: str
    ra: float
    dec: float


def coadd_name(file: Path) -> tuple[str, str, str] | None:
    """(band, tract, patch) in a coadd's name; None for any other name."""
    for pattern in COADDS:
        match = pattern.fullmatch(file.name)
        if match is None:
            continue
        found = match.groupdict()
        name = found["filter"] or found.get("behind")
        if name:
            return _band(name), found["tract"], found["patch"]
    return None


def stamp_name(file: Path) -> StampName | None:
    """Band, patch and place in a stamp's name; None for any other name."""
    for pattern in STAMPS:
        match = pattern.fullmatch(file.name)
        if match is not None:
            found = match.groupdict()
            ra, dec = float(found["ra"]), float(found["dec"])
            return StampName(_band(found["filter"]), found["tract"], found["patch"], ra, dec)
    return None


def _band(filter_name: str) -> str:
    letter = FIRST_LETTER.fullmatch(filter_name)
    return (filter_name[0] if letter else filter_name).lower()


def flat_name(file_name: str) -> str:
    """A picture's name without folders: what other formats, which have none, call it."""
    return file_name.replace("/", "_").removeprefix("images_")
