"""Pixels of FITS cubes, per-band FITS files, npy/npz arrays and ordinary pictures.

A picture is kept as one 2-D plane per band, mapped from disk where the format allows it,
so that a crop of a large cube costs the crop.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.data import fits_images, pictures
from astroseg.data.astrometry import check_one_grid
from astroseg.data.identifiers import is_file

ARRAY_SUFFIXES = (".npy", ".npz")

MAPPED_AT_ONCE = 1 << 28
"""Bytes of mapped files that stay in memory after they were read."""

READ_AHEAD = 1 << 16
"""Bytes that the system maps around each row that is read."""

_EXTENSION = re.compile(r"(?P<file>.+)\[(?P<extension>[^\[\]]+)\]")


@dataclass(frozen=True, eq=False)
class Pixels:
    """One image, band by band.

    Attributes
    ----------
    planes : C arrays (H, W) of one shape and any real dtype, perhaps mapped from disk.
    bands : C names, or () when the files do not say.
    header : FITS cards of the first file that has a WCS, else of the first that is FITS.
    nbytes : of memory held; mapped planes hold none.
    zeropoint : AB magnitude of one unit of flux per band, NaN where the files do not say.
    """

    planes: tuple[NDArray[Any], ...]
    bands: tuple[str, ...] = ()
    header: Mapping[str, Any] = field(default_factory=dict)
    nbytes: int = 0
    zeropoint: tuple[float, ...] = ()
    _read: list[int] = field(default_factory=lambda: [0], repr=False)

    @property
    def eight_bit(self) -> bool:
        """Whether the values are those of an ordinary picture rather than fluxes."""
        return all(plane.dtype == np.uint8 for plane in self.planes)

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
        self._read[0] += len(chosen) * height * (4 * width + READ_AHEAD)
        if self._read[0] > MAPPED_AT_ONCE:
            self._release()
        return result

    def _release(self) -> None:
        """Give back the memory that mapped files take; what is needed again is read again."""
        self._read[0] = 0
        held = {id(m): m for plane in self.planes if (m := getattr(plane, "_mmap", None))}
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in held.values():
                mapped.madvise(mmap.MADV_DONTNEED)

    def whole(self, order: Sequence[int] | None = None) -> NDArray[np.float32]:
        """(C, H, W) float32 of the whole image."""
        return self.crop(0, 0, *self.shape, order)


def read_pixels(files: Sequence[Path], shape: tuple[int, int] | None = None) -> Pixels:
    """Open an image.

    Parameters
    ----------
    files : one cube or picture, or one 2-D file per band.
    shape : (H, W) it should have, when known: distinguishes (C, H, W) from (H, W, C) arrays.

    Raises
    ------
    InputError
        When a file is missing, broken, of an unknown format, or not of that shape; when bands
        lie apart on the sky.
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
        check_one_grid([part.header for part in parts], parts[0].shape, list(map(Path, files)))
        pixels = Pixels(
            tuple(part.planes[0] for part in parts),
            tuple(name for part in parts for name in part.bands)
            if all(len(part.bands) == 1 for part in parts)
            else (),
            next((part.header for part in parts if "CTYPE1" in part.header), parts[0].header),
            sum(part.nbytes for part in parts),
            tuple(zero for part in parts for zero in part.zeropoint or (math.nan,)),
        )
    if 0 in pixels.shape:
        raise InputError("has no pixels", file=files[0], remedy="make or copy it again")
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
    extension = ""
    if not is_file(file) and (match := _EXTENSION.fullmatch(str(file))):
        file, extension = Path(match["file"]), match["extension"]
    name = file.name.lower()
    if not is_file(file):
        raise InputError(
            "there is no such image", file=file, remedy="give its folder with --images DIR"
        )
    try:
        if name.endswith(fits_images.SUFFIXES):
            image = fits_images.read_fits(file, extension, shape)
            return Pixels(image.planes, image.bands, image.cards, image.nbytes, image.zeropoint)
        if name.endswith(ARRAY_SUFFIXES):
            return _read_array(file, shape)
        if name.endswith(pictures.SUFFIXES):
            planes, colours = pictures.read_picture(file)
            return Pixels(tuple(planes), colours, {}, sum(plane.nbytes for plane in planes))
    except InputError:
        raise
    except Exception as error:  # readers of images raise any kind on files that are damaged
        what = str(error) or type(error).__name__
        raise InputError(
            f"cannot be read as an image ({what})", file=file, remedy="make or copy it again"
        ) from error
    known = ", ".join(fits_images.SUFFIXES[:1] + ARRAY_SUFFIXES + pictures.SUFFIXES)
    raise InputError("is no image format that is known", file=file, remedy=f"give one of {known}")


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
    if fits_images.bands_last(data.shape, shape):
        data = np.moveaxis(data, 2, 0)
    return Pixels(tuple(data), bands if len(bands) == len(data) else (), {}, nbytes)
