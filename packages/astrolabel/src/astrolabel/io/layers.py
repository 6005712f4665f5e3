"""One FITS file of one band: which HDU holds the image, mask and variance, and what its header
says of them."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from astrolabel.core.celestial import check_axes, check_numbers, frame_of, wcs_fault
from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size
from astrolabel.io import surveys, zeropoints
from astrolabel.io.cards import Cards, cards_of, readable
from astrolabel.io.integrity import check_headers
from astrolabel.io.surveys import Survey
from astrolabel.io.zeropoints import ZeroPoint

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("IMAGE", "SCI", "SCIENCE"),
    "mask": ("MASK", "DQ", "MSK", "FLAG", "FLAGS", "MASKBITS"),
    "variance": ("VARIANCE", "VAR"),
    "rms": ("RMS", "ERR", "ERROR", "SIGMA", "STDDEV", "STD", "UNC", "UNCERT"),
    "inverse": ("INVVAR", "IVAR", "WGT"),
    "weight": ("WEIGHT", "WHT", "WEI", "CONF"),
}
"""What an HDU is by its EXTTYPE or EXTNAME. The last four are the ways to give the noise of a
pixel: its variance, its root, one over it, and a weight that goes with one over it."""
NOISE = ("variance", "rms", "inverse", "weight")
"""Of several noise planes the first of these is taken: a weight beside an error plane is one of
resampling."""
CHIP = re.compile(r"(CCD|CHIP|DET|AMP|[NS])[ _.-]?\d+|.*\.SCI\d+", re.IGNORECASE)
"""EXTNAMEs of the detectors of a mosaic camera."""
CHIPS_IN_FILE = ("decam-cp", "ukidss", "vista")
"""Surveys whose files hold one image a detector."""


@dataclass(frozen=True)
class Layers:
    """Where one band lies in a file. Cheap to make and to send to a worker.

    Attributes
    ----------
    path : the FITS file.
    image, mask, variance : HDU numbers; None where the file has none.
    noise : what `variance` holds: ``variance``, ``rms`` (its root), ``inverse`` (one over it)
        or ``weight`` (what goes with one over it).
    index : plane of a cube along its first axis; None for a plain image.
    shape : (H, W) in pixels.
    planes : (name, bit) of a mask's planes, for one whose header does not hold them.
    survey : key of its row in the registry; empty for a file of no known survey.
    unread : further images of the file that are not read.
    """

    path: Path
    image: int
    shape: tuple[int, int]
    mask: int | None = None
    variance: int | None = None
    noise: str = "variance"
    index: int | None = None
    planes: tuple[tuple[str, int], ...] = ()
    survey: str = ""
    unread: int = 0

    @property
    def row(self) -> Survey | None:
        """The survey that it is of."""
        return surveys.BY_KEY.get(self.survey)


@contextmanager
def open_fits(path: Path) -> Iterator[fits.HDUList]:
    """The open file; anything wrong with it becomes an `InputError` that names it."""
    if regular_size(path) == 0:
        raise InputError("the file is empty", file=path, remedy="fetch it again")
    check_headers(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
            warnings.filterwarnings("ignore", message=".*header keyword is invalid.*")
            # astropy pads a short last block in silence but for this warning.
            warnings.filterwarnings("error", message=".*truncated.*")
            # Sections read only their own bytes; scaled integers refuse to be mapped.
            with fits.open(path, memmap=False) as hdus:
                yield hdus
    except InputError:
        raise
    except Exception as error:  # astropy's readers raise any kind: KeyError for a lacking card
        text = str(error).strip().splitlines()
        named = isinstance(error, (OSError, ValueError, Warning, fits.VerifyError))
        what = type(error).__name__ if not text else text[0]
        raise InputError(
            f"not a readable FITS file ({what if named or not text else repr(error)})",
            file=path,
            remedy="it may be truncated; fetch it again",
        ) from error


def find_layers(path: Path, survey: str = "", chip: int = 0) -> tuple[Layers, ...]:
    """The bands a file holds: one for an image, one a plane for a cube.

    HDUs are recognised by EXTTYPE, then EXTNAME, then (HSC's MaskedImage layout without
    either) by the MP_ cards of the mask with the image before and the variance behind it.

    Parameters
    ----------
    survey : key of a row of the registry; recognised by header and name where empty.
    chip : which of a file's images, where it has several (see `count_chips`).
    """
    with open_fits(path) as hdus:
        row = _survey(hdus, path, survey)
        chips = _chips(hdus, row)
        if not chips:
            raise InputError("no image in this file", file=path)
        if chip >= len(chips):
            raise InputError(f"{len(chips)} image(s) where number {chip + 1} is wanted", file=path)
        roles = _roles(hdus, chips, chip)
        shape = hdus[roles["image"]].shape
        for what in ("mask", *NOISE):
            if what in roles and hdus[roles[what]].shape != shape:
                raise InputError(
                    f"{what} of shape {hdus[roles[what]].shape} on an image of {shape}", file=path
                )
        unnamed = [i for i in _arrays(hdus) if _role(hdus[i].header) is None]
        unread = len(set(unnamed) - set(chips) - set(roles.values()))
    noise = next((kind for kind in NOISE if kind in roles), "variance")
    common: dict[str, Any] = {
        "path": path,
        "image": roles["image"],
        "mask": roles.get("mask"),
        "variance": roles.get(noise),
        "noise": _kind(noise, row, "") if noise in roles else noise,
        "shape": (int(shape[-2]), int(shape[-1])),
        "survey": "" if row is None else row.key,
        "unread": unread,
    }
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1):
        return (Layers(**common, index=None if len(shape) == 2 else 0),)
    if len(shape) == 3:
        return tuple(Layers(**common, index=k) for k in range(shape[0]))
    raise InputError(
        f"image with {len(shape)} axes {shape}", file=path, remedy="give (H, W) or (bands, H, W)"
    )


def count_chips(path: Path, survey: str = "") -> int:
    """How many images of one band a file holds: several SCI extensions, or one a detector."""
    with open_fits(path) as hdus:
        return len(_chips(hdus, _survey(hdus, path, survey)))


def _survey(hdus: fits.HDUList, path: Path, key: str) -> Survey | None:
    if key:
        return surveys.named(key)
    images = _of(hdus, "image") or _arrays(hdus)[:1]
    headers_ = [hdus[i].header for i in images[:1]] + [hdus[0].header]
    return surveys.recognise(cards_of(headers_), path.name)


def _arrays(hdus: fits.HDUList) -> list[int]:
    return [i for i, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) >= 2]


def _of(hdus: fits.HDUList, role: str) -> list[int]:
    return [i for i in _arrays(hdus) if _role(hdus[i].header) == role]


def _chips(hdus: fits.HDUList, row: Survey | None) -> list[int]:
    """The HDUs that hold an image of their own."""
    named = _of(hdus, "image")
    if named:
        return named
    free = [i for i in _arrays(hdus) if _role(hdus[i].header) is None]
    chips = [i for i in free if CHIP.fullmatch(_extname(hdus[i].header))]
    in_file = row is not None and row.key in CHIPS_IN_FILE
    if len(chips) > 1 and (in_file or len(chips) == len(free)):
        return chips
    return free if in_file else free[:1]


def _roles(hdus: fits.HDUList, chips: list[int], chip: int) -> dict[str, int]:
    """The HDU of each role, for one of the file's images."""
    image = chips[chip]
    roles = {"image": image}
    version = hdus[image].header.get("EXTVER", 1)
    for role in ("mask", *NOISE):
        found = _of(hdus, role)
        same = [i for i in found if hdus[i].header.get("EXTVER", 1) == version]
        if len(chips) == 1 and found:
            roles[role] = found[0]
        elif len(same) == 1:
            roles[role] = same[0]
        elif len(found) == len(chips):
            roles[role] = found[chip]
    named_image = _role(hdus[image].header) == "image"
    named_noise = any(kind in roles for kind in NOISE)
    if "mask" in roles and not named_noise and not named_image:
        behind = [i for i in _arrays(hdus) if i > roles["mask"] and not _extname(hdus[i].header)]
        if behind:
            roles["variance"] = behind[0]
    return roles


def find_extra(path: Path, role: str, chip: int = 0) -> Layers:
    """A file that holds only the ``mask``, ``variance`` or ``rms`` of a band.

    The HDU that says so, else the first image. A file of another kind of noise than the one
    asked for is taken for what its HDU says it is; a ``variance`` without such words for what
    its own name says (Euclid's ``EUC_MER_MOSAIC-VIS-RMS_TILE...``).
    """
    with open_fits(path) as hdus:
        row = _survey(hdus, path, "")
        arrays = [i for i in _arrays(hdus) if len(hdus[i].shape) == 2]
        if not arrays:
            raise InputError(f"no 2-D image to be the {role}", file=path)
        roles: dict[str, list[int]] = {}
        for i in arrays:
            roles.setdefault(_role(hdus[i].header) or "", []).append(i)
        found, word = role, ""
        if role in NOISE and role not in roles:
            by_name, word = _noise_by_name(path.name, row) if role == "variance" else ("", "")
            found = next((k for k in NOISE if k in roles), by_name or role)
        of_role = roles.get(found, arrays)
        chosen = of_role[chip] if chip < len(of_role) else of_role[0]
        height, width = hdus[chosen].shape
    shape, key = (int(height), int(width)), "" if row is None else row.key
    if role == "mask":
        return Layers(path, chosen, shape, mask=chosen, survey=key)
    return Layers(path, chosen, shape, variance=chosen, noise=_kind(found, row, word), survey=key)


def _kind(kind: str, row: Survey | None, word: str) -> str:
    """What a noise plane holds, as the survey means the word that names it."""
    return kind if row is None else row.noise.get(word or kind, kind)


def _noise_by_name(name: str, row: Survey | None) -> tuple[str, str]:
    """The kind of noise that one of the words of a file's name stands for, and the word."""
    words = set(re.split(r"[^A-Z]+", name.upper()))
    of_survey = [] if row is None else [(kind, word) for word, kind in row.noise.items()]
    usual = [(kind, word) for kind in NOISE for word in sorted(ROLES[kind])]
    return next((found for found in of_survey + usual if found[1] in words), ("", ""))


def _extname(header: fits.Header) -> str:
    return cards_of([header]).text("EXTNAME").upper()


def _role(header: fits.Header) -> str | None:
    for key in ("EXTTYPE", "EXTNAME"):
        try:
            name = str(header.get(key, "")).strip().upper()
        except fits.VerifyError:
            continue
        for role, names in ROLES.items():
            if name in names:
                return role
        if name:
            return "other" if key == "EXTTYPE" else None
    whole = header.get("BITPIX", 0) > 0  # an image may keep the cards of its mask
    return "mask" if whole and any(card.startswith("MP_") for card in header) else None


def read_cards(layers: Layers) -> Cards:
    """The cards of the image, then those of the file's first header."""
    with open_fits(layers.path) as hdus:
        return cards_of([hdus[layers.image].header, hdus[0].header])


def read_wcs(layers: Layers) -> WCS | None:
    """Celestial WCS of the whole image (SIP and tables kept); None where the header has none.

    Raises
    ------
    InputError
        For a WCS that cannot be used, or one that is not of the celestial sphere.
    """
    with open_fits(layers.path) as hdus, warnings.catch_warnings():
        header, _ = readable(hdus[layers.image].header)
        if "CTYPE1" not in header and not hdus[0].shape:
            header, _ = readable(hdus[0].header)  # where there are no pixels it is the file's
        warnings.filterwarnings("ignore", category=FITSFixedWarning)
        # SIP coefficients without the -SIP suffix: read as SIP, which HSC means.
        warnings.filterwarnings("ignore", message=".*SIP.*")
        try:
            check_axes(header)
            check_numbers(header)
            wcs = WCS(header, fobj=hdus, naxis=2)
            if not wcs.has_celestial:
                return None
            frame_of(wcs)
        except Exception as error:  # wcslib's errors have no common class of their own
            raise InputError(
                f"unusable WCS ({wcs_fault(error)})",
                file=layers.path,
                remedy="mend its cards, or remove CTYPE1 and CTYPE2: no sky positions then",
            ) from error
    return wcs


def read_zeropoint(layers: Layers) -> ZeroPoint:
    """AB magnitude of one count: by the rule of its survey, else by its cards."""
    row = layers.row
    rule = zeropoints.of_cards if row is None else row.zeropoint
    area = None
    with contextlib.suppress(InputError):
        if (wcs := read_wcs(layers)) is not None:
            area = float(wcs.proj_plane_pixel_area().to_value("sr"))
    return rule(read_cards(layers), area)


def read_origin(layers: Layers) -> tuple[int, int] | None:
    """(y, x) of the first pixel in the survey's own frame (LSST, HSC: the tract).

    From the LTV cards, else the WCS "A"; None where the header has neither.
    """
    cards = read_cards(layers)
    x, y = cards.number("LTV1"), cards.number("LTV2")
    if x is not None and y is not None:
        return -round(y), -round(x)
    x, y = cards.number("CRVAL1A"), cards.number("CRVAL2A")
    if x is not None and y is not None:
        # The linear WCS "A" counts parent pixels from 0; its reference pixel from 1.
        first_x, first_y = cards.number("CRPIX1A"), cards.number("CRPIX2A")
        x += 1 - (1.0 if first_x is None else first_x)
        y += 1 - (1.0 if first_y is None else first_y)
        return round(y), round(x)
    return None


@dataclass(frozen=True)
class Seeing:
    """A header's width of the PSF.

    Attributes
    ----------
    card : its keyword.
    value : its number.
    unit : ``px``, ``arcsec``, or empty where neither survey nor comment has it.
    """

    card: str
    value: float
    unit: str


SEEING_CARDS = ("SEEING", "PSF_FWHM", "FWHM", "IQ", "TOYPSF")


def read_seeing(layers: Layers) -> Seeing | None:
    """FWHM of the seeing, where a header card has it."""
    cards, row = read_cards(layers), layers.row
    known = {} if row is None else row.seeing
    for card in (*known, *SEEING_CARDS):
        value = cards.number(card)
        if value is None or not 0.05 < value < 50:
            continue
        comment = cards.comment(card).lower()
        unit = known.get(card, "")
        if re.search(r"\bpix|\bpx\b", comment):
            unit = "px"
        elif "arcsec" in comment or '"' in comment:
            unit = "arcsec"
        return Seeing(card, value, unit)
    return None
