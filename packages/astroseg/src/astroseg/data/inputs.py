"""Images that a user names on the command line or in Python."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astroseg.core.errors import InputError
from astroseg.data import fits_images, pictures
from astroseg.data.bands import canonical
from astroseg.data.dataset import ImageRecord
from astroseg.data.identifiers import is_file, readable
from astroseg.data.images import ARRAY_SUFFIXES, read_pixels

SUFFIXES = (*fits_images.SUFFIXES, *ARRAY_SUFFIXES, *pictures.SUFFIXES)

logger = logging.getLogger(__name__)

_NAMED = re.compile(r"(?P<band>[A-Za-z0-9_.'-]{1,20})=(?P<file>.+)", re.DOTALL)


def expand(inputs: Sequence[str]) -> list[str]:
    """The images of a list that may hold folders, patterns and lists of images (``.txt``).

    Raises
    ------
    InputError
        When a folder, pattern or list has no image.
    """
    found: list[str] = []
    for text in inputs:
        path = Path(text)
        if is_file(path):
            listed = text.lower().endswith(".txt")
            more = _listed(path) if listed else [text]
        elif path.is_dir():
            more = sorted(str(f) for f in path.iterdir() if f.name.lower().endswith(SUFFIXES))
        elif any(c in text for c in "*?"):
            more = sorted(str(f) for f in Path(path.anchor or ".").glob(_below(path)))
        else:
            more = [text]
        if not more:
            raise InputError(
                "has no image", file=text, remedy=f"give images such as {', '.join(SUFFIXES[:8])}"
            )
        found += more
    return found


def _listed(path: Path) -> list[str]:
    """The images of a list, a line each: from the current folder, or that of the list."""
    lines = (line.strip() for line in path.read_text("utf-8-sig").splitlines())
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            files, bands = files_of(line, path.parent)
            pairs = zip(bands or ("",) * len(files), files, strict=True)
            found.append(",".join(f"{band}={file}" if band else str(file) for band, file in pairs))
    return found


def _below(pattern: Path) -> str:
    """A pattern relative to its root or to the current folder."""
    return str(pattern.relative_to(pattern.anchor))


def image_records(images: Sequence[str]) -> tuple[ImageRecord, ...]:
    """Images numbered from 1; those of one name in several folders are named with their folders."""
    records = [image_record(text, number) for number, text in enumerate(images, start=1)]
    alike = Counter(record.name for record in records)
    return tuple(
        replace(record, name=readable(str(record.files[0]))) if alike[record.name] > 1 else record
        for record in records
    )


def image_record(text: str, number: int) -> ImageRecord:
    """An image given by name alone: what else is known comes from its header.

    Parameters
    ----------
    text : a file, or files of one image joined by commas, each perhaps as band=FILE.
    number : its id.
    """
    files, bands = files_of(text)
    pixels = read_pixels(files)
    if bands and len(bands) != len(pixels.planes):
        raise InputError(
            f"holds {len(pixels.planes)} bands, but {', '.join(bands)} are named",
            file=files[0],
            remedy="give one file of one band to each name",
        )
    for band, name, file in zip(bands, pixels.bands, files, strict=False):
        if canonical(name) not in (None, canonical(band)):
            logger.warning("%s: is given as the band %s, and its header says %s", file, band, name)
    return ImageRecord(
        id=number,
        name=readable(files[0].name),
        files=files,
        height=pixels.shape[0],
        width=pixels.shape[1],
        bands=bands,
        zeropoint=pixels.zeropoint,
        wcs=pixels.header if "CTYPE1" in pixels.header else None,
    )


def files_of(text: str, root: Path = Path()) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Files joined by commas, which may be part of their names, too, as of HSC's patches;
    and the bands where each file is given as band=FILE.

    Parameters
    ----------
    root : folder of the files that are not found from the current one.
    """

    def found(name: str) -> Path | None:
        return next((p for p in (Path(name), root / name) if is_file(p)), None)

    files: list[Path] = []
    bands: list[str] = []
    name, band = "", ""
    for piece in text.split(","):
        if not name and not found(piece):
            piece = piece.lstrip()  # of "g=FILE, r=FILE"
        if not name and not found(piece) and (match := _NAMED.fullmatch(piece)):
            band, piece = match["band"], match["file"]
        name = f"{name},{piece}" if name else piece
        if (file := found(name)) is not None:
            files.append(file)
            bands += [band] if band else []
            name, band = "", ""
    if name:  # what is no file is named by the error of reading it
        files.append(Path(name))
    return tuple(files), tuple(bands) if len(bands) == len(files) else ()
