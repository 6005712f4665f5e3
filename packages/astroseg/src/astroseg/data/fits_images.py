"""The pixels of FITS files."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.data.astrometry import check_one_grid
from astroseg.data.bands import are_known, canonical
from astroseg.data.headers import band_names, filter_card, linear, number, zeropoint
from astroseg.data.integrity import check_sums

SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fits.bz2", ".fits.fz", ".fz")

_NOT_PIXELS = re.compile(
    r"(^|[_\W])(MASK|MSK|VARIANCE|VAR|WEIGHT|WGT|WHT|IVAR|INVVAR|INVERSE|ERR|ERROR|RMS|UNC|NOISE|"
    r"SIGMA|DQ|FLAGS?|PSF|CON|CTX|CONTEXT|EXP|EXPMAP|NEXP|AREA|D2IMARR|WCSDVARR|SKY|BKG|"
    r"BACKGROUND)(\d|[_\W]|$)"
)
"""EXTNAME or EXTTYPE of extensions that lie beside the image of a coadd."""

_MAIN = ("", "SCI", "IMAGE", "DATA", "COADD", "PRIMARY", "COMPRESSED_IMAGE")
"""EXTNAME of the image itself."""

_BITPIX = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}

logger = logging.getLogger(__name__)


class FitsImage:
    """Planes of an image, their names and zero points, and its cards."""

    def __init__(self, file: Path, hdus: Sequence[Any], planes: Sequence[Any], nbytes: int) -> None:
        self.planes = tuple(planes)
        self.nbytes = nbytes
        self.cards = _cards(hdus[0])
        if len(hdus) > 1:
            headers = [_cards(hdu) for hdu in hdus]
            self.bands = tuple(_extension_band(hdu) for hdu in hdus)
            check_one_grid(headers, self.planes[0].shape, [file] * len(hdus), self.bands)
            self.zeropoint = tuple(zeropoint(header) for header in headers)
        else:
            count = len(self.planes)
            self.bands = band_names(self.cards, count)
            numbered = [number(self.cards.get(f"ZP{i}")) for i in range(count)]
            whole = zeropoint(self.cards)
            self.zeropoint = tuple(whole if math.isnan(z) else z for z in numbered)


def read_fits(file: Path, extension: str = "", shape: tuple[int, int] | None = None) -> FitsImage:
    """The image of a FITS file: 2-D, 3-D, or one extension a band.

    Parameters
    ----------
    extension : its number, EXTNAME or "EXTNAME,EXTVER"; "" finds the image itself.
    shape : (H, W) where it is known.

    Raises
    ------
    InputError
        When there is no image, or several that are no bands of one.
    """
    check_sums(file)
    with fits.open(file, memmap=False, lazy_load_hdus=True) as hdus:
        chosen = _chosen(file, hdus, extension)
        primary = hdus[0]
        planes: list[NDArray[Any]] = []
        nbytes = 0
        for hdu in chosen:
            mapped = _mapped(file, hdu)
            data = mapped if mapped is not None else linear(np.asarray(hdu.data), hdu.header)
            if data.ndim > 2 and len(chosen) > 1:
                raise InputError(
                    "has cubes in several extensions", file=file, remedy="give one of them"
                )
            data = data.reshape(data.shape[-3:])
            if data.ndim == 3 and "CTYPE1" not in hdu.header and bands_last(data.shape, shape):
                data = np.moveaxis(data, 2, 0)
            planes.extend(data[None] if data.ndim == 2 else data)
            nbytes += 0 if mapped is not None else data.nbytes
        inherited = [_WithPrimary(hdu, primary) for hdu in chosen]
        return FitsImage(file, inherited, planes, nbytes)


class _WithPrimary:
    """An extension whose header also has what the primary header says of the whole file."""

    def __init__(self, hdu: Any, primary: Any) -> None:
        self.name = str(hdu.name)
        self.header = hdu.header.copy()
        structure = ("SIMPLE", "BITPIX", "EXTEND", "COMMENT", "HISTORY", "CHECKSUM", "DATASUM", "")
        for card in primary.header.cards if hdu is not primary else ():
            if card.keyword not in (*structure, *self.header) and card.keyword[:5] != "NAXIS":
                self.header.append(card)


def _cards(hdu: Any) -> dict[str, Any]:
    return {
        key: value for key, value in hdu.header.items() if key and key not in ("COMMENT", "HISTORY")
    }


def _chosen(file: Path, hdus: Any, extension: str) -> list[Any]:
    if extension:
        name, _, version = extension.partition(",")
        key: Any = int(name) if name.isdigit() else (name, int(version or 1))
        try:
            return [hdus[key]]
        except (KeyError, IndexError) as error:
            raise InputError(
                f"has no extension {extension}", file=file, remedy="give its number or EXTNAME"
            ) from error
    found = [hdu for hdu in hdus if getattr(hdu, "is_image", False) and _is_pixels(hdu.header)]
    if not found:
        raise InputError(
            "has no image of two or three dimensions", file=file, remedy="give an image FITS file"
        )
    main = [hdu for hdu in found if _kind(hdu) in _MAIN]
    alike = len({hdu.shape for hdu in found}) == 1 and found[0].header.get("NAXIS") == 2
    if len(found) > 1 and alike and are_known([_extension_band(hdu) for hdu in found]):
        return found
    if len(main) > 1:  # maps of integers, such as segments, beside the image
        main = [hdu for hdu in main if hdu.header["BITPIX"] < 0] or main
    if len(found) == 1 or len(main) == 1:
        first = main[0] if main else found[0]
        others = [_kind(hdu) or _place(hdus, hdu) for hdu in found if hdu is not first]
        if others:
            logger.warning("%s: reads %s and not %s", file, _kind(first) or "the first image",
                           ", ".join(others))  # fmt: skip
        return [first]
    places = [_place(hdus, hdu) for hdu in found]
    raise InputError(
        f"holds several images ({'; '.join(places)}) that are no bands by name",
        file=file,
        remedy=f"choose one as '{file.name}[{places[0]}]'",
    )


def bands_last(found: tuple[int, ...], shape: tuple[int, int] | None) -> bool:
    """Whether an array is (H, W, C): by the size it should have, else by the short axis."""
    if shape is not None and found[1:] == tuple(shape):
        return False
    if shape is not None and found[:2] == tuple(shape):
        return True
    return found[2] < found[0]


def _place(hdus: Any, hdu: Any) -> str:
    """An extension as users name it: EXTNAME,EXTVER, or its number where it has no name."""
    return f"{hdu.name},{hdu.ver}" if hdu.header.get("EXTNAME") else str(hdus.index(hdu))


def _is_pixels(header: Any) -> bool:
    sides = [header.get(f"NAXIS{axis}", 0) for axis in range(1, header.get("NAXIS", 0) + 1)]
    if len(sides) < 2 or any(side != 1 for side in sides[3:]):
        return False
    kind = str(header.get("EXTTYPE", header.get("EXTNAME", ""))).strip().upper()
    return not _NOT_PIXELS.search(kind)


def _kind(hdu: Any) -> str:
    return str(hdu.header.get("EXTTYPE", hdu.header.get("EXTNAME", ""))).strip().upper()


def _mapped(file: Path, hdu: Any) -> NDArray[Any] | None:
    """The pixels mapped from disk, or None where they are scaled or compressed."""
    header = hdu.header
    plain = (
        hdu.fileinfo()["file"].compression is None
        and not isinstance(hdu, fits.CompImageHDU)
        and header.get("BSCALE", 1) == 1
        and header.get("BZERO", 0) == 0
        and "BLANK" not in header
        and "BSOFTEN" not in header
    )
    if not plain:
        return None
    shape = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
    offset = hdu.fileinfo()["datLoc"]
    return np.memmap(file, dtype=_BITPIX[header["BITPIX"]], mode="r", offset=offset, shape=shape)


def _extension_band(hdu: Any) -> str:
    """Band of one of several extensions: its EXTNAME where that is a filter, else FILTER."""
    name = _kind(hdu)
    if canonical(name) is not None:
        return name
    return filter_card(hdu.header) or name
