"""Pixels to the sky and back: ICRS degrees whatever frame, equinox and axis order a WCS has."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.coordinates import (
    ICRS,
    BarycentricMeanEcliptic,
    BaseCoordinateFrame,
    Galactic,
    SkyCoord,
    Supergalactic,
)
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray

from astrolabel.core.errors import InputError

Degrees = NDArray[np.float64]
MAX_AXES = 9
"""Of a WCS: surveys have two, cubes three; wcslib allocates their square."""


FRAMES = {
    "GLON": lambda equinox: Galactic(),
    "SLON": lambda equinox: Supergalactic(),
    "ELON": lambda equinox: BarycentricMeanEcliptic(equinox=equinox),
}
"""Frames by the name of their longitude; astropy takes the last two for ICRS."""


def unit_vectors(ra: Degrees, dec: Degrees) -> NDArray[np.float64]:
    """(N, 3) directions of positions in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def frame_of(wcs: WCS) -> BaseCoordinateFrame:
    """The celestial frame of a WCS.

    Raises
    ------
    ValueError
        For axes or a reference system that are no celestial frame (the Sun's, say).
    """
    wcs.wcs.set()  # a WCS that was built by hand does not know its axes before
    name = wcs.wcs.lngtyp.strip()
    if name in FRAMES:
        year = wcs.wcs.equinox
        return FRAMES[name](Time(year if np.isfinite(year) else 2000.0, format="jyear"))
    if name != "RA":
        raise ValueError(f"coordinates {name or 'without a name'} are no right ascension")
    return wcs_to_celestial_frame(wcs)


def to_icrs(wcs: WCS, x: ArrayLike, y: ArrayLike) -> tuple[Degrees, Degrees]:
    """(ra, dec) in ICRS degrees of pixels counted from 0, distortions included; each of the
    shape of `x`."""
    frame = frame_of(wcs)
    world = wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
    longitude, latitude = np.asarray(world[wcs.wcs.lng]), np.asarray(world[wcs.wcs.lat])
    if isinstance(frame, ICRS):
        return longitude, latitude
    sky = SkyCoord(longitude, latitude, unit="deg", frame=frame).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def to_pixels(wcs: WCS, ra: ArrayLike, dec: ArrayLike) -> tuple[Degrees, Degrees]:
    """(x, y) in pixels counted from 0 of ICRS degrees; NaN on the other side of the sky."""
    frame = frame_of(wcs)
    longitude, latitude = np.asarray(ra, float), np.asarray(dec, float)
    if not isinstance(frame, ICRS):
        sky = SkyCoord(longitude, latitude, unit="deg", frame="icrs").transform_to(frame)
        longitude = np.asarray(sky.spherical.lon.deg)
        latitude = np.asarray(sky.spherical.lat.deg)
    world: list[Any] = [longitude, longitude]
    world[wcs.wcs.lng], world[wcs.wcs.lat] = longitude, latitude
    x, y = wcs.all_world2pix(*world, 0, quiet=True)
    return np.asarray(x), np.asarray(y)


def check_axes(cards: Mapping[str, Any]) -> None:
    """Refuse, with ValueError, a WCS whose axes alone would take gigabytes."""
    axes = cards.get("WCSAXES", 2)
    if isinstance(axes, int) and axes > MAX_AXES:
        raise ValueError(f"it has {axes} axes")


NUMBER = re.compile(r"(CRVAL|CRPIX|CDELT|CROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d+")
"""Cards of a WCS's first two axes that are numbers."""


def check_numbers(header: fits.Header) -> None:
    """Refuse, with ValueError, the header of a celestial image without a place or a scale. For
    what is lacking, or is text, astropy takes 0 and 1 degree in silence.

    Numbers that are written as text are made numbers in `header`, and SCAMP's polynomials whole.
    """
    if not re.match(r"[A-Z]{1,4}-+[A-Z]{3}", str(header.get("CTYPE1", ""))):
        return
    for key in [key for key in header if NUMBER.fullmatch(key)]:
        value = header[key]
        if isinstance(value, fits.card.Undefined):
            del header[key]
        elif isinstance(value, str):
            try:
                header[key] = float(value)
            except ValueError:
                raise ValueError(f"card {key} is the text {value!r}") from None
    needed = ["CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"]
    if not any(key in header for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")):
        needed += ["CDELT1", "CDELT2"]
    elif "PC1_1" in header and not np.allclose(_matrix(header, "CD"), _matrix(header, "PC")):
        raise ValueError("its CD and PC cards differ")
    lacking = [key for key in needed if key not in header]
    if lacking:
        raise ValueError(f"no number in {', '.join(lacking)}")
    _complete_polynomials(header)


def _complete_polynomials(header: fits.Header) -> None:
    """Name SCAMP's polynomials TPV; give them a CD matrix and the linear terms that are left out.

    By the convention (fits.gsfc.nasa.gov/registry/tpvwcs) these are 1; wcslib takes 0. With CDELT
    it takes their variables in pixels. On a plain TAN axis 1 alone may have PV cards, 1 to 4, and
    1 is an angle: in a polynomial it is about 1.
    """
    types = [str(header.get(f"CTYPE{i}", "")) for i in (1, 2)]
    orders = {i: [int(k[4:]) for k in header if k.startswith(f"PV{i}_")] for i in (1, 2)}
    if all(name.endswith("-TAN") for name in types):
        longitude = 1 + types[1].startswith(("RA", "GLON", "ELON"))
        of_scamp = orders[3 - longitude] or max(orders[longitude], default=0) > 4
        if not of_scamp and abs(header.get(f"PV{longitude}_1", 0.0) - 1) > 0.1:
            return
        for i, name in enumerate(types, 1):
            header[f"CTYPE{i}"] = name[:-3] + "TPV"
    elif not all(name.endswith("-TPV") for name in types):
        return
    for i in (1, 2):
        header.setdefault(f"PV{i}_1", 1.0)
    if not any(key.startswith("CD") and key[2].isdigit() for key in header):
        matrix = WCS(header, naxis=2).pixel_scale_matrix
        for key in [key for key in header if re.fullmatch(r"PC[12]_[12]|C(DELT|ROTA)[12]", key)]:
            del header[key]
        for (i, j), value in np.ndenumerate(matrix):
            header[f"CD{i + 1}_{j + 1}"] = value


def _matrix(header: fits.Header, name: str) -> Degrees:
    """(2, 2) degrees a pixel, of the CD cards, or of PC and CDELT."""
    unit = float(name == "PC")
    cells = [[header.get(f"{name}{i}_{j}", unit * (i == j)) for j in (1, 2)] for i in (1, 2)]
    scale = [[header.get(f"CDELT{i}", 1.0)] for i in (1, 2)] if name == "PC" else 1.0
    return np.array(cells, float) * np.array(scale)


def wcs_of_cards(cards: Mapping[str, Any]) -> WCS:
    """The celestial WCS that a label file's cards hold.

    Raises
    ------
    InputError
        For cards that make none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_axes(cards)
            wcs = WCS(fits.Header(dict(cards)))
            frame_of(wcs)
    except Exception as error:  # wcslib's errors have no common class of their own
        raise InputError(
            f"an image has an unusable WCS ({wcs_fault(error)})",
            remedy="`astrolabel validate` lists all that is wrong",
        ) from error
    return wcs


def wcs_fault(error: Exception) -> str:
    """What is wrong with a WCS, without the places in wcslib's sources."""
    if isinstance(error, TypeError):  # of astropy, on comparing cards
        return "a card has text for a number"
    text = re.split(r"ERROR \d+ in \S+ at line \d+ of file \S+:", " ".join(str(error).split()))[-1]
    return text.strip(" .")
