"""PNG, JPEG and TIFF with every bit, band and turn that is in the file."""

from __future__ import annotations

import logging
import sys
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

logger = logging.getLogger(__name__)


def read_picture(file: Path) -> Planes:
    """Planes of a picture, and the names of its colours where it has them.

    Viewers and labelling tools show a picture turned as its EXIF orientation says, so the
    planes are. An alpha channel is left out. The pages of a TIFF are bands.
    """
    if file.suffix.lower() in (".tif", ".tiff"):
        return _read_tiff(file)
    with file.open("rb") as handle:
        head = handle.read(26)
    # Pillow reads 16-bit colours with 8 bits. 2 and 6 are PNG's types of colour, 4 grey and alpha.
    if head[1:4] == b"PNG" and head[24] == 16 and head[25] in (2, 4, 6):
        return _deep_grey_png(file) if head[25] == 4 else (_deep_colours(file, "big"), COLOURS)
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


def _deep_colours(file: Path, byte_order: str) -> list[NDArray[Any]]:
    """Planes of colours of 16 bits, which Pillow gives 8 of: the high byte and then the low one.

    Parameters
    ----------
    byte_order : of what Pillow decodes, "big" or "little".
    """
    halves = []
    for first in ("B", "L") if byte_order == "big" else ("L", "B"):
        with Image.open(file) as picture:
            more = [tile.args[1:] if isinstance(tile.args, tuple) else () for tile in picture.tile]
            picture.tile = [
                tile._replace(args=(f"{picture.mode};16{first}", *rest))
                for tile, rest in zip(picture.tile, more, strict=True)
            ]
            halves.append(np.stack(_planes(picture)[0]).astype(np.uint16))
    return list((halves[0] << 8) | halves[1])


def _deep_grey_png(file: Path) -> Planes:
    """A grey PNG of 16 bits with alpha, its four bytes read as four colours."""
    with Image.open(file) as picture:
        picture.tile = [t._replace(args="RGBA") for t in picture.tile]
        high, low = (plane.astype(np.uint16) for plane in _planes(picture)[0][:2])
    return [(high << 8) | low], ()


def _read_tiff(file: Path) -> Planes:
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        colours = page.photometric in (2, 3, 5, 6)  # RGB, palette, CMYK, YCbCr
        alpha = all(kind in _ALPHA for kind in page.extrasamples)
        if (
            colours
            and alpha
            and page.dtype == np.uint8
            and page.samplesperpixel <= 4
            and len(tiff.pages) == 1
        ):
            with Image.open(file) as picture:
                return _planes(picture)
        series = _main_series(file, tiff)
        page = series.keyframe
        try:
            data = series.asarray()
        except (ValueError, ImportError) as error:
            # It names imagecodecs, or a module of a later Python (Zstandard).
            if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                raise
            return _unpacked(file, series), ()
        axes = series.axes
        data = np.moveaxis(data, (axes.index("Y"), axes.index("X")), (-2, -1))
        samples = axes.replace("Y", "").replace("X", "")
        if samples == "S" and page.extrasamples:
            kept = len(data) - len(page.extrasamples)
            extra = [
                k
                for k, kind in enumerate(page.extrasamples, kept)
                if kind not in _ALPHA or not _is_opacity(data[k])
            ]
            data = data[[*range(kept), *extra]]
        data = data.reshape(-1, *data.shape[-2:])
        tag = page.tags.get(_ORIENTATION)
        if page.photometric == 0 and data.dtype.kind == "u":  # 0 is white
            data = np.iinfo(data.dtype).max - data
        planes = [_turned(plane, int(tag.value) if tag else 1) for plane in data]
    rgb = page.photometric == 2 and len(planes) == 3 and data.dtype == np.uint8
    return planes, COLOURS if rgb else ()


def _is_opacity(plane: NDArray[Any]) -> bool:
    """Whether what a file calls alpha is that: full or none in most pixels. Programs that save an
    array of four bands call the fourth so, too."""
    full = np.iinfo(plane.dtype).max if plane.dtype.kind in "ui" else 1
    return bool(np.mean((plane == 0) | (plane == full)) > 0.5)


def _main_series(file: Path, tiff: Any) -> Any:
    """The largest of a file's images: others are thumbnails, or are named in a warning."""
    areas = [one.keyframe.imagelength * one.keyframe.imagewidth for one in tiff.series]
    chosen = int(np.argmax(areas))
    if left := [str(i) for i, area in enumerate(areas) if i != chosen and area == areas[chosen]]:
        logger.warning(
            "%s: reads image %d and not %s, which are of another type",
            file,
            chosen,
            ", ".join(left),
        )
    return tiff.series[chosen]


def _unpacked(file: Path, series: Any) -> list[NDArray[Any]]:
    """Planes of a compression that Pillow knows and tifffile alone does not, such as LZW.

    Pillow swaps the bytes of whole numbers with a sign and of floats where the file's order is not
    the machine's, reads signed bytes as unsigned, and colours of 16 bits as of 8.
    """
    page = series.keyframe
    swapped = page.parent.byteorder != ("<" if sys.byteorder == "little" else ">")
    native = page.dtype == np.float32 and not swapped
    unsigned = page.dtype in (np.bool_, np.uint8, np.uint16)
    deep = page.photometric == 2 and page.bitspersample == 16 and page.planarconfig == 1
    if deep and unsigned and page.samplesperpixel == 3 and len(series.pages) == 1:
        return _deep_colours(file, sys.byteorder)
    if page.samplesperpixel > 1 or not (native or unsigned):
        raise InputError(
            f"is a TIFF for which a package lacks ({tifffile.COMPRESSION(page.compression).name}, "
            f"{page.samplesperpixel} x {page.dtype})",
            file=file,
            remedy="pip install 'astroseg[tiff]', or save it without compression",
        )
    planes: list[NDArray[Any]] = []
    with Image.open(file) as picture:
        for one in series.pages:
            picture.seek(one.index)
            planes += _planes(picture)[0]
    return planes


def _turned(plane: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A plane upright: 2, 3 and 4 mirror rows and columns, 5 to 8 swap them first."""
    if orientation >= 5:
        plane = plane.T
        orientation = {5: 1, 6: 2, 7: 3, 8: 4}.get(orientation, 1)
    rows = slice(None, None, -1 if orientation in (3, 4) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3) else 1)
    return np.ascontiguousarray(plane[rows, columns])
