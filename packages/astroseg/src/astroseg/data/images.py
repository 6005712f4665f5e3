"""Pixels of FITS cubes, per-band FITS files, npy/npz arrays and ordinary pictures.

A picture is kept as one 2-D plane per band, mapped from disk where the format allows it,
so that a crop of a large cube costs the crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from astroseg.core.errors import InputError

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz", ".fz")
ARRAY_SUFFIXES = (".npy", ".npz")
PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")

_NOT_PIXELS = frozenset({"MASK", "VARIANCE", "VAR", "WEIGHT", "IVAR", "ERR", "DQ", "PSF"})
"""EXTNAME or EXTTYPE of extensions that lie beside the image of a coadd."""

_BITPIX = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True, eq=False)
class Pixels:
    """One image, band by band.

    Attributes
    ----------
    planes : C arrays (H, W) of one shape and any real dtype, perhaps mapped from disk.
    bands : C names, or () when the files do not say.
    header : FITS cards of the first file, if it is FITS.
    nbytes : of memory held; mapped planes hold none.
    """

    planes: tuple[NDArray[Any], ...]
    bands: tuple[str, ...] = ()
    header: Mapping[str, Any] = field(default_factory=dict)
    nbytes: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.planes[0].shape
        return int(height), int(width)

    def crop(
        self, y0: int, x0: int, height: int, width: int, order: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """(C, height, width) float32 of a window inside the image, bands in `order`."""
        chosen = self.planes if order is None else [self.planes[i] for i in order]
        result = np.empty((len(chosen), height, width), np.float32)
        for out, plane in zip(result, chosen, strict=True):
            out[...] = plane[y0 : y0 + height, x0 : x0 + width]
        return result

    def whole(self, order: Sequence[int] | None = None) -> NDArray[np.float32]:
        """(C, H, W) float32 of the whole image."""
        return self.crop(0, 0, *self.shape, order)


def read_pixels(files: Sequence[Path], shape: tuple[int, int] | None = None) -> Pixels:
    """Open an image.

    Parameters
    ----------
    files : one cube or picture, or one 2-D file per band.
    shape : (H, W) it should have, when known: tells (C, H, W) from (H, W, C) arrays.

    Raises
    ------
    InputError
        When a file is missing, broken, of an unknown format, or not of that shape.
    """
    parts = [_read_one(Path(file), shape) for file in files]
    if len(parts) == 1:
        pixels = parts[0]
    else:
        for file, part in zip(files, parts, strict=True):
            if len(part.planes) != 1:
                raise InputError(
                    f"holds {len(part.planes)} bands, but is one of {len(files)} files of one "
                    "image",
                    file=file,
                    remedy="give one 2-D file per band or one cube",
                )
            if part.shape != parts[0].shape:
                raise InputError(
                    f"is {_size(part.shape)} pixels, but {Path(files[0]).name} of the same "
                    f"image is {_size(parts[0].shape)}",
                    file=file,
                    remedy="resample the bands to one grid",
                )
        pixels = Pixels(
            tuple(part.planes[0] for part in parts),
            tuple(name for part in parts for name in part.bands)
            if all(len(part.bands) == 1 for part in parts)
            else (),
            parts[0].header,
            sum(part.nbytes for part in parts),
        )
    if shape is not None and pixels.shape != tuple(shape):
        raise InputError(
            f"is {_size(pixels.shape)} pixels (height x width), but the dataset says "
            f"{_size(shape)}",
            file=files[0],
            remedy="point the dataset at the image it was made from",
        )
    return pixels


def is_eight_bit_picture(file: Path) -> bool:
    """Whether a file name is of an ordinary 8-bit picture rather than of fluxes."""
    return file.suffix.lower() in (".png", ".jpg", ".jpeg")


def rows_upwards(files: Sequence[Path], wcs: object) -> bool:
    """Whether people are shown an image with its first row at the bottom, as DS9 shows the
    sky: all but PNG and JPEG pictures that no WCS places there."""
    return bool(wcs) or not all(is_eight_bit_picture(file) for file in files)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _read_one(file: Path, shape: tuple[int, int] | None) -> Pixels:
    name = file.name.lower()
    if not file.is_file():
        raise InputError(
            "there is no such image", file=file, remedy="give its folder with --images DIR"
        )
    try:
        if name.endswith(FITS_SUFFIXES):
            return _read_fits(file)
        if name.endswith(ARRAY_SUFFIXES):
            return _read_array(file, shape)
        if name.endswith(PICTURE_SUFFIXES):
            return _read_picture(file)
    except (OSError, EOFError, UnidentifiedImageError, ValueError, fits.VerifyError) as error:
        raise InputError(
            f"cannot be read as an image ({error})", file=file, remedy="make or copy it again"
        ) from error
    known = ", ".join(FITS_SUFFIXES[:1] + ARRAY_SUFFIXES + PICTURE_SUFFIXES)
    raise InputError("is no image format that is known", file=file, remedy=f"give one of {known}")


def _read_fits(file: Path) -> Pixels:
    """The first image of a FITS file: 2-D, or 3-D with the bands first."""
    with fits.open(file, memmap=False, lazy_load_hdus=True) as hdus:
        for hdu in hdus:
            header = hdu.header
            kind = str(header.get("EXTTYPE", header.get("EXTNAME", ""))).strip().upper()
            if not getattr(hdu, "is_image", False) or kind in _NOT_PIXELS:
                continue
            if header.get("NAXIS", 0) not in (2, 3):
                continue
            mapped = _map_fits(file, hdu)
            data = mapped if mapped is not None else np.asarray(hdu.data)
            cards = {
                key: value
                for key, value in header.items()
                if key and key not in ("COMMENT", "HISTORY")
            }
            cube = data[None] if data.ndim == 2 else data
            nbytes = 0 if mapped is not None else data.nbytes
            return Pixels(tuple(cube), _fits_bands(cards, len(cube)), cards, nbytes)
    raise InputError(
        "has no image of two or three dimensions", file=file, remedy="give an image FITS file"
    )


def _map_fits(file: Path, hdu: Any) -> NDArray[Any] | None:
    """The pixels mapped from disk, or None where they are scaled or compressed."""
    header = hdu.header
    plain = (
        file.name.lower().endswith((".fits", ".fit", ".fts"))
        and not isinstance(hdu, fits.CompImageHDU)
        and header.get("BSCALE", 1) == 1
        and header.get("BZERO", 0) == 0
        and "BLANK" not in header
    )
    if not plain:
        return None
    shape = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
    offset = hdu.fileinfo()["datLoc"]
    return np.memmap(file, dtype=_BITPIX[header["BITPIX"]], mode="r", offset=offset, shape=shape)


def _fits_bands(cards: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the bands as headers give them: BANDS "g,r,i", BAND1.., or FILTER of one."""
    text = cards.get("BANDS")
    if isinstance(text, str) and len(names := text.replace(",", " ").split()) == count:
        return tuple(names)
    numbered = [cards.get(f"BAND{i}") for i in range(1, count + 1)]
    if all(isinstance(name, str) for name in numbered):
        return tuple(str(name).strip() for name in numbered)
    if count == 1 and isinstance(cards.get("FILTER"), str):
        return (str(cards["FILTER"]).strip(),)
    return ()


def _read_array(file: Path, shape: tuple[int, int] | None) -> Pixels:
    """An npy array, mapped; of an npz, its `image` or only array."""
    # allow_pickle stays off: an array of objects would run code when it is read.
    loaded = np.load(file, mmap_mode="r" if file.suffix.lower() == ".npy" else None)
    bands: tuple[str, ...] = ()
    if isinstance(loaded, np.lib.npyio.NpzFile):
        with loaded:
            names = [n for n in ("image", "images", "cube", "data") if n in loaded.files]
            if not names and len(loaded.files) != 1:
                raise InputError(
                    f"holds the arrays {', '.join(loaded.files)}",
                    file=file,
                    remedy="name the one with the pixels `image`",
                )
            data = loaded[names[0] if names else loaded.files[0]]
            if "bands" in loaded.files:
                bands = tuple(str(name) for name in np.atleast_1d(loaded["bands"]))
        nbytes = data.nbytes
    else:
        data, nbytes = loaded, 0
    if data.ndim == 2:
        data = data[None]
    if data.ndim != 3 or data.dtype.kind not in "fiub":
        raise InputError(
            f"holds an array of shape {data.shape} and type {data.dtype}",
            file=file,
            remedy="give numbers in the shape (bands, height, width)",
        )
    if _bands_last(data.shape, shape):
        data = np.moveaxis(data, 2, 0)
    return Pixels(tuple(data), bands if len(bands) == len(data) else (), {}, nbytes)


def _bands_last(found: tuple[int, ...], shape: tuple[int, int] | None) -> bool:
    """Whether an array is (H, W, C): by the size it should have, else by the short axis."""
    if shape is not None and found[1:] == tuple(shape):
        return False
    if shape is not None and found[:2] == tuple(shape):
        return True
    return found[2] < found[0]


def _read_picture(file: Path) -> Pixels:
    """PNG, JPEG or TIFF; the pages of a TIFF are bands; an alpha channel is left out."""
    with Image.open(file) as picture:
        pages = getattr(picture, "n_frames", 1)
        planes: list[NDArray[Any]] = []
        names: tuple[str, ...] = ()
        for page in range(pages):
            picture.seek(page)
            mode = picture.mode
            if mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "PA", "1"):
                image, mode = picture.convert("RGB" if mode != "1" else "L"), "RGB"
            else:
                image = picture
            data = np.array(image)
            if data.ndim == 2:
                planes.append(data)
            else:
                colours = 1 if mode == "LA" else 3
                names = ("red", "green", "blue") if pages == 1 and colours == 3 else ()
                planes.extend(np.ascontiguousarray(data[..., i]) for i in range(colours))
    return Pixels(tuple(planes), names, {}, sum(plane.nbytes for plane in planes))
