"""One FITS file of one band: which HDU holds the image, mask and variance, and how to
read a part of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size
from astrolabel.io.integrity import check_headers

HEADER_ZEROPOINTS = ("MAGZERO", "MAGZPT", "MAGZP", "ZEROPNT", "ZEROPOINT", "PHOTZP", "ZP")
UNIT_ZEROPOINTS = {"nanomaggy": 22.5, "nanomaggies": 22.5, "njy": 31.4, "ujy": 23.9, "mjy": 16.4}
"""AB magnitude of one unit: m = -2.5 log10(f) + zero point; 31.4 for a nanojansky."""
SURVEY_ZEROPOINTS = {"DECALS": 22.5, "LEGACYSURVEY": 22.5, "LEGACYSURVEYS": 22.5}
"""Surveys whose coadds are in nanomaggies without a card that says so."""
FILE_ZEROPOINTS = (("calexp-", 27.0), ("deepCoadd_", 27.0), ("deep_coadd_", 31.4))
"""Survey coadds by the start of their name: those of HSC and of LSST before 2025 are scaled
to 27 (FLUXMAG0 is 0 in some files, absent from others), those of LSST since are in nJy."""
JANSKY_OF_AB_ZERO = 3631.0

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("IMAGE", "SCI", "SCIENCE"),
    "mask": ("MASK", "DQ", "MSK", "FLAG", "FLAGS"),
    "variance": ("VARIANCE", "VAR"),
    "inverse": ("INVVAR", "IVAR", "WEIGHT", "WHT"),
    "rms": ("RMS", "ERR", "ERROR", "SIGMA", "STDDEV"),
}
"""What an HDU is by its EXTTYPE or EXTNAME. The last three are the three ways to tell the
noise of a pixel: its variance, one over that, and its root."""
NOISE = ("variance", "inverse", "rms")


@dataclass(frozen=True)
class Layers:
    """Where one band lies in a file. Cheap to make and to send to a worker.

    Attributes
    ----------
    path : the FITS file.
    image, mask, variance : HDU numbers; None where the file has none.
    noise : what `variance` holds: ``variance``, ``inverse`` (one over it) or ``rms`` (its
        root).
    index : plane of a cube along its first axis; None for a plain image.
    shape : (H, W) in pixels.
    planes : (name, bit) of a mask's planes, for one whose header does not tell.
    """

    path: Path
    image: int
    shape: tuple[int, int]
    mask: int | None = None
    variance: int | None = None
    noise: str = "variance"
    index: int | None = None
    planes: tuple[tuple[str, int], ...] = ()


@contextmanager
def open_fits(path: Path) -> Iterator[fits.HDUList]:
    """The open file; anything wrong with it becomes an `InputError` that names it."""
    if regular_size(path) == 0:
        raise InputError("the file is empty", file=path, remedy="fetch it again")
    check_headers(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
            # astropy pads a short last block in silence but for this warning.
            warnings.filterwarnings("error", message=".*truncated.*")
            # Sections read only their own bytes; scaled integers refuse to be mapped.
            with fits.open(path, memmap=False) as hdus:
                yield hdus
    except InputError:
        raise
    except (OSError, ValueError, TypeError, EOFError, Warning, fits.VerifyError) as error:
        text = str(error).strip().splitlines()
        raise InputError(
            f"not a readable FITS file ({text[0] if text else type(error).__name__})",
            file=path,
            remedy="it may be truncated; fetch it again",
        ) from error


def find_layers(path: Path) -> tuple[Layers, ...]:
    """The bands a file holds: one for an image, one a plane for a cube.

    HDUs are told apart by EXTTYPE, then EXTNAME, then (HSC's MaskedImage layout without
    either) by the MP_ cards of the mask with the image before and the variance behind it.
    """
    with open_fits(path) as hdus:
        roles: dict[str, int] = {}
        arrays = [i for i, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) >= 2]
        for i in arrays:
            role = _role(hdus[i].header)
            if role is not None:
                roles.setdefault(role, i)
        named_image = "image" in roles
        if "image" not in roles:
            free = [i for i in arrays if i not in roles.values()]
            if not free:
                raise InputError("no image in this file", file=path)
            roles["image"] = free[0]
        if "mask" in roles and "variance" not in roles and not named_image:
            behind = [i for i in arrays if i > roles["mask"]]
            if behind:
                roles["variance"] = behind[0]
        shape = hdus[roles["image"]].shape
        for what in ("mask", *NOISE):
            if what in roles and hdus[roles[what]].shape != shape:
                raise InputError(
                    f"{what} of shape {hdus[roles[what]].shape} on an image of {shape}", file=path
                )
    noise = next((kind for kind in NOISE if kind in roles), "variance")
    common: dict[str, Any] = {
        "path": path,
        "image": roles["image"],
        "mask": roles.get("mask"),
        "variance": roles.get(noise),
        "noise": noise,
        "shape": (int(shape[-2]), int(shape[-1])),
    }
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1):
        return (Layers(**common, index=None if len(shape) == 2 else 0),)
    if len(shape) == 3:
        return tuple(Layers(**common, index=k) for k in range(shape[0]))
    raise InputError(
        f"image with {len(shape)} axes {shape}", file=path, remedy="give (H, W) or (bands, H, W)"
    )


def find_extra(path: Path, role: str) -> Layers:
    """A file that holds only the ``mask``, ``variance`` or ``rms`` of a band.

    The HDU that says so, else the first image. A file of another kind of noise than the one
    asked for is taken for what its HDU says it is; a ``variance`` without such words for what
    its own name says (Euclid's ``EUC_MER_MOSAIC-VIS-RMS_TILE...``).
    """
    with open_fits(path) as hdus:
        arrays = [i for i, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) == 2]
        if not arrays:
            raise InputError(f"no 2-D image to be the {role}", file=path)
        roles = {_role(hdus[i].header): i for i in reversed(arrays)}
        found = role
        if role in NOISE and role not in roles:
            by_name = _noise_by_name(path.name) if role == "variance" else None
            found = next((k for k in NOISE if k in roles), by_name or role)
        chosen = roles.get(found, arrays[0])
        height, width = hdus[chosen].shape
    if role == "mask":
        return Layers(path, chosen, (int(height), int(width)), mask=chosen)
    return Layers(path, chosen, (int(height), int(width)), variance=chosen, noise=found)


def _noise_by_name(name: str) -> str | None:
    """The kind of noise that one of the words of a file's name stands for."""
    words = set(re.split(r"[^A-Z]+", name.upper()))
    return next((kind for kind in NOISE if words & set(ROLES[kind])), None)


def _role(header: fits.Header) -> str | None:
    for key in ("EXTTYPE", "EXTNAME"):
        name = str(header.get(key, "")).strip().upper()
        for role, names in ROLES.items():
            if name in names:
                return role
        if name:
            return "other" if key == "EXTTYPE" else None
    return "mask" if any(card.startswith("MP_") for card in header) else None


def read_plane(path: Path, hdu: int, index: int | None, box: Box) -> NDArray[Any]:
    """One part of one HDU as it is on disk, in native byte order; (h, w)."""
    with open_fits(path) as hdus:
        where = box.slices if index is None else (index, *box.slices)
        return np.array(hdus[hdu].section[where])


def read_image(layers: Layers, box: Box) -> NDArray[np.float32]:
    data = read_plane(layers.path, layers.image, layers.index, box)
    if data.dtype.kind not in "fiu":
        raise InputError(f"image of type {data.dtype}", file=layers.path)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf: not valid
        return np.ascontiguousarray(data, dtype=np.float32)


def read_variance(layers: Layers, box: Box) -> NDArray[np.float32] | None:
    """The variance in counts squared; NaN where a file's inverse variance or rms is not
    positive."""
    if layers.variance is None:
        return None
    data = read_plane(layers.path, layers.variance, layers.index, box)
    data = np.ascontiguousarray(data, dtype=np.float32)
    if layers.noise == "variance":
        return data
    positive = np.where(data > 0, data, np.float32(np.nan))
    with np.errstate(over="ignore"):  # a root too large for float32 becomes inf: no information
        found = positive**2 if layers.noise == "rms" else 1 / positive
    return found.astype(np.float32, copy=False)


def read_mask(layers: Layers, box: Box) -> tuple[NDArray[np.int32], dict[str, int]] | None:
    """The mask and its plane bits by name, from this file's own MP_ cards.

    A mask without MP_ cards has the planes that the user names, else one, BAD: whatever is
    not zero.
    """
    if layers.mask is None:
        return None
    data = read_plane(layers.path, layers.mask, layers.index, box)
    with open_fits(layers.path) as hdus:
        header = hdus[layers.mask].header
        planes = {
            re.sub("^MP_", "", key): int(header[key]) for key in header if key.startswith("MP_")
        }
    planes = planes or dict(layers.planes)
    if not planes:
        return (data != 0).astype(np.int32), {"BAD": 0}
    return np.ascontiguousarray(data).astype(np.int64).astype(np.int32), planes


def headers(layers: Layers) -> tuple[fits.Header, fits.Header]:
    """(primary, image) headers; the same one where the image is the primary."""
    with open_fits(layers.path) as hdus:
        return hdus[0].header.copy(), hdus[layers.image].header.copy()


def read_wcs(layers: Layers) -> WCS | None:
    """Celestial WCS of the whole image (SIP kept); None where the header has none."""
    _, header = headers(layers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FITSFixedWarning)
        # SIP coefficients without the -SIP suffix: read as SIP, which HSC means.
        warnings.filterwarnings("ignore", message=".*SIP.*")
        try:
            wcs = WCS(header, naxis=2)
        except Exception as error:  # wcslib's errors have no common class of their own
            raise InputError(f"unusable WCS ({error})", file=layers.path) from error
    return wcs if wcs.has_celestial else None


def read_zeropoint(layers: Layers) -> float | None:
    """AB magnitude of one count, from FLUXMAG0, a magnitude card, the unit, the survey, or
    the kind of coadd that the file's name tells."""
    primary, header = headers(layers)
    for cards in (header, primary):
        flux_of_zero = cards.get("FLUXMAG0")
        if isinstance(flux_of_zero, (int, float)) and flux_of_zero > 0:
            return float(2.5 * np.log10(flux_of_zero))
        for key in HEADER_ZEROPOINTS:
            if isinstance(cards.get(key), (int, float)):
                return float(cards[key])
        unit = str(cards.get("BUNIT", "")).strip().lower()
        if unit in UNIT_ZEROPOINTS:
            return UNIT_ZEROPOINTS[unit]
        area = cards.get("PIXAR_SR")  # of a pixel in steradian
        if unit == "mjy/sr" and isinstance(area, (int, float)) and area > 0:
            return float(-2.5 * np.log10(1e6 * area / JANSKY_OF_AB_ZERO))
        survey = str(cards.get("SURVEY", "")).strip().upper()
        if survey in SURVEY_ZEROPOINTS:
            return SURVEY_ZEROPOINTS[survey]
    return next((z for start, z in FILE_ZEROPOINTS if layers.path.name.startswith(start)), None)


def read_origin(layers: Layers) -> tuple[int, int] | None:
    """(y, x) of the first pixel in the survey's own frame (LSST, HSC: the tract).

    From the LTV cards, else the WCS "A"; None where the header has neither.
    """
    _, header = headers(layers)
    if "LTV1" in header and "LTV2" in header:
        return -round(float(header["LTV2"])), -round(float(header["LTV1"]))
    if "CRVAL1A" in header and "CRVAL2A" in header:
        # The linear WCS "A" counts parent pixels from 0; its reference pixel from 1.
        x = float(header["CRVAL1A"]) + 1 - float(header.get("CRPIX1A", 1))
        y = float(header["CRVAL2A"]) + 1 - float(header.get("CRPIX2A", 1))
        return round(y), round(x)
    return None


def read_seeing_arcsec(layers: Layers) -> float | None:
    """FWHM of the seeing in arcseconds where a header card tells it."""
    for cards in headers(layers):
        for key in ("SEEING", "PSF_FWHM", "FWHM", "IQ", "TOYPSF"):
            value = cards.get(key)
            if isinstance(value, (int, float)) and 0.05 < value < 10:
                return float(value)
    return None
