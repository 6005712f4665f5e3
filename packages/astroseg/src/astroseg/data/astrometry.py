"""The celestial coordinates of images: WCS of their cards, positions, and whether two agree."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import (
    BarycentricMeanEcliptic,
    SkyCoord,
    Supergalactic,
    angular_separation,
)
from astropy.io import fits
from astropy.time import Time
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.data.headers import number

_NUMBERS = ("CRVAL", "CRPIX", "CDELT", "CROTA", "CD1_", "CD2_", "PC1_", "PC2_")
_OF_A_WCS = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CUNIT|CDELT|CROTA|PC00|CD\d_|PC\d_|PV\d_|[AB]P?_\d|CPDIS|CQDIS|D2IMDIS|"
    r"DP\d|DQ\d|LONPOLE|LATPOLE|RADESYS|EQUINOX)"
)


SAME_GRID = 0.5
"""px on the sky by which the bands of one image may lie apart: beyond, pixels are other ones."""


def celestial(cards: Mapping[str, Any], file: Path) -> WCS | None:
    """The WCS of cards, None for one that is not of the sky.

    Lookup tables of distortion (HST's exposures) are taken from the file.

    Raises
    ------
    Exception
        astropy raises nearly every kind for cards that make no WCS.
    """
    header = fits.Header()
    for key, value in cards.items():
        if len(key) <= 8 and isinstance(value, str | int | float):
            # Of a number that is written as text, wcslib would read none, and take 0.
            header[key] = number(value) if key.startswith(_NUMBERS) else value
    _read_as_tpv(header)
    # Without data there is no size to check; naxis leaves out a band axis.
    if any(key.startswith(("CPDIS", "CQDIS", "D2IMDIS")) for key in header):
        with fits.open(file, memmap=False) as hdus:
            wcs = WCS(header, fobj=hdus, naxis=2)
    else:
        wcs = WCS(header, naxis=2)
    if not wcs.has_celestial:
        return None
    _frame(wcs)
    return wcs


def _read_as_tpv(header: fits.Header) -> None:
    """SCAMP's polynomials as wcslib reads them.

    Older files call the projection TAN, of whose latitude axis the standard has no parameters; and
    coefficients that are absent are those of no distortion.
    """
    kinds = [str(header.get(f"CTYPE{axis}", "")) for axis in (1, 2)]
    given = [any(f"PV{axis}_{m}" in header for m in range(40)) for axis in (1, 2)]
    if all(given) and all(kind.endswith("-TAN") for kind in kinds):
        kinds = [kind.removesuffix("TAN") + "TPV" for kind in kinds]
    if all(kind.endswith("-TPV") for kind in kinds):
        for axis in (1, 2):
            header[f"CTYPE{axis}"] = kinds[axis - 1]
            header.setdefault(f"PV{axis}_1", 1.0)


def sky_position(wcs: WCS, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any]:
    """ICRS right ascension and declination, degrees, of pixels, the first one's centre being
    (0, 0); whatever the order and the frame of the WCS's axes."""
    world = wcs.all_pix2world(np.stack([x, y], axis=1), 0)
    frame = _frame(wcs)
    position = SkyCoord(world[:, wcs.wcs.lng], world[:, wcs.wcs.lat], unit="deg", frame=frame)
    with warnings.catch_warnings():
        # ICRS and FK5 differ by milliarcseconds; tables of the Earth's rotation play no part.
        warnings.simplefilter("ignore", AstropyWarning)
        equatorial = position.icrs
    return equatorial.ra.deg, equatorial.dec.deg


def _frame(wcs: WCS) -> Any:
    """The frame of a WCS's longitude and latitude.

    astropy knows no supergalactic axes, and takes ecliptic ones for equatorial: wcslib fills in
    RADESYS for them.

    Raises
    ------
    ValueError : axes of none that lies on the sky.
    """
    kind = wcs.wcs.lngtyp.strip()
    if kind == "ELON":
        equinox = wcs.wcs.equinox
        return BarycentricMeanEcliptic(equinox=Time(equinox, format="jyear")
                                       if np.isfinite(equinox) else "J2000")  # fmt: skip
    return Supergalactic() if kind == "SLON" else wcs_to_celestial_frame(wcs)


def check_one_grid(
    headers: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    files: Sequence[Path],
    names: Sequence[str] = (),
) -> None:
    """Raise InputError where headers place the bands of one image (H, W) apart on the sky.

    Parameters
    ----------
    headers : cards of each band; those without a WCS place it nowhere.
    files : of each band.
    names : of the bands within one file, else those of the files.
    """
    placed = [k for k, cards in enumerate(headers) if "CTYPE1" in cards]
    for other in placed[1:]:
        first = placed[0]
        pair = (headers[first], files[first]), (headers[other], files[other])
        if (pixels := _shift(*pair, shape)) > SAME_GRID:
            here, there = (names[k] if names else files[k].name for k in (first, other))
            raise InputError(
                f"has the band {there} {pixels:.3g} px from {here} on the sky",
                file=files[other],
                remedy="resample the bands to one grid",
            )


_Placed = tuple[Mapping[str, Any], Path]


def _shift(first: _Placed, second: _Placed, shape: tuple[int, int]) -> float:
    """The most by which two images of one size lie apart, in px of the first; 0 where a WCS
    cannot be used."""
    cards = [{k: v for k, v in one.items() if _OF_A_WCS.match(k)} for one, _ in (first, second)]
    if cards[0] == cards[1]:
        return 0.0
    height, width = shape
    x = np.array([0.0, width - 1, 0, width - 1, (width - 1) / 2])
    y = np.array([0.0, 0, height - 1, height - 1, (height - 1) / 2])
    try:
        a, b = celestial(*first), celestial(*second)
        if a is None or b is None:
            return 0.0
        here, there = sky_position(a, x, y), sky_position(b, x, y)
        steps = [_apart(here, sky_position(a, x + dx, y + dy)) for dx, dy in ((1, 0), (0, 1))]
    except Exception:  # as of `celestial`; a WCS that cannot be used places nothing
        return 0.0
    pixels = _apart(here, there) / np.maximum(*steps)
    known = pixels[np.isfinite(pixels)]  # corners of maps of all the sky lie outside of it
    return float(known.max()) if len(known) else 0.0


def _apart(one: tuple[Any, Any], other: tuple[Any, Any]) -> NDArray[np.float64]:
    """Angles between positions, radians."""
    return np.asarray(angular_separation(*map(np.radians, (*one, *other))))
