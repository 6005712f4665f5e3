"""PNG, JPEG and TIFF with every bit, band and turn that is in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from astroseg.core.errors import InputError
from astroseg.data.bands import COLOURS

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")

Planes = tuple[list[NDArray[Any]], tuple[str, ...]]

_ALPHA = (1, 2)  # of TIFF's ExtraSamples: associated and unassociated
_ORIENTATION = 274  # TIFF and EXIF tag


def read_picture(file: Path) -> Planes:
    """Planes of a picture, and the names of its colours where it has them.

    Viewers and labelling tools show a picture turned as its EXIF orientation says, so the
    planes are. An alpha channel is left out. The pages of a TIFF are bands.
    """
    if file.suffix.lower() in (".tif", ".tiff"):
        return _read_tiff(file)
    with file.open("rb") as handle:
        head = handle.read(26)
    # Pillow reads 16-bit colours with 8 bits. 2 and 6 are PNG's types of colour.
    if head[1:4] == b"PNG" and head[24] == 16 and head[25] in (2, 6):
        return _deep_png(file)
    with Image.open(file) as picture:
        return _planes(picture)


def _planes(picture: Any) -> Planes:
    """Of an open picture of 8 bits a colour, or of one band of any depth."""
    upright = ImageOps.exif_transpose(picture)
    mode = upright.mode
    if mode == "1":
        upright = upright.convert("L")
    elif mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        upright = upright.convert("RGB")
    data = np.array(upright)
    if data.ndim == 2:
        return [data], ()
    count = 1 if upright.mode == "LA" else 3
    planes = [np.ascontiguousarray(data[..., i]) for i in range(count)]
    return planes, COLOURS if count == 3 else ()


def _deep_png(file: Path) -> Planes:
    """A colour PNG of 16 bits, from two readings: of the high bytes and of the low ones."""
    halves = []
    for byte_order in ("B", "L"):  # Pillow keeps the first byte of two, or the second
        with Image.open(file) as picture:
            picture.tile = [t._replace(args=f"{picture.mode};16{byte_order}") for t in picture.tile]
            halves.append(np.stack(_planes(picture)[0]).astype(np.uint16))
    return list((halves[0] << 8) | halves[1]), COLOURS


def _read_tiff(file: Path) -> Planes:
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        colours = page.photometric in (2, 3, 5, 6)  # RGB, palette, CMYK, YCbCr
        if (
            colours
            and page.dtype == np.uint8
            and page.samplesperpixel <= 4
            and len(tiff.pages) == 1
        ):
            with Image.open(file) as picture:
                return _planes(picture)
        series = tiff.series[0]
        try:
            data = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise InputError(
                f"is compressed as {tifffile.COMPRESSION(page.compression).name}",
                file=file,
                remedy="pip install imagecodecs, or save it without compression",
            ) from error
        axes = series.axes
        data = np.moveaxis(data, (axes.index("Y"), axes.index("X")), (-2, -1))
        samples = axes.replace("Y", "").replace("X", "")
        if samples == "S" and page.extrasamples:
            kept = len(data) - len(page.extrasamples)
            extra = [k for k, kind in enumerate(page.extrasamples, kept) if kind not in _ALPHA]
            data = data[[*range(kept), *extra]]
        data = data.reshape(-1, *data.shape[-2:])
        tag = page.tags.get(_ORIENTATION)
        planes = [_turned(plane, int(tag.value) if tag else 1) for plane in data]
    rgb = page.photometric == 2 and len(planes) == 3 and data.dtype == np.uint8
    return planes, COLOURS if rgb else ()


def _turned(plane: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A plane upright: 2, 3 and 4 mirror rows and columns, 5 to 8 swap them first."""
    if orientation >= 5:
        plane = plane.T
        orientation = {5: 1, 6: 2, 7: 3, 8: 4}.get(orientation, 1)
    rows = slice(None, None, -1 if orientation in (3, 4) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3) else 1)
    return np.ascontiguousarray(plane[rows, columns])
