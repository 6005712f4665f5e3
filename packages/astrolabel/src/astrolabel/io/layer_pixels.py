"""A part of the image, the variance or the mask of one FITS file of one band."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io.layers import Layers, open_fits, read_cards
from astrolabel.io.surveys import Survey


def read_plane(path: Path, hdu: int, index: int | None, box: Box) -> NDArray[Any]:
    """One part of one HDU as it is on disk, in native byte order; (h, w)."""
    with open_fits(path) as hdus:
        return _part(hdus[hdu], index, box)


def _part(hdu: Any, index: int | None, box: Box) -> NDArray[Any]:
    where = box.slices if index is None else (index, *box.slices)
    return np.array(hdu.section[where])


def read_image(layers: Layers, box: Box, scale: float = 1.0) -> NDArray[np.float32]:
    """(h, w) linear fluxes, times `scale`; float64 beyond float32 becomes infinite."""
    data = read_plane(layers.path, layers.image, layers.index, box)
    if data.dtype.kind not in "fiu":
        raise InputError(f"image of type {data.dtype}", file=layers.path)
    return _single(_linear(layers, data, offset=True), scale)


def read_variance(layers: Layers, box: Box, scale: float = 1.0) -> NDArray[np.float32] | None:
    """The variance in counts squared, times `scale` squared; NaN where a file's inverse
    variance, weight or rms is not positive."""
    if layers.variance is None:
        return None
    data = read_plane(layers.path, layers.variance, layers.index, box)
    if data.dtype.kind not in "fiu":
        raise InputError(f"{layers.noise} of type {data.dtype}", file=layers.path)
    data = _linear(layers, data, offset=False)
    if layers.noise == "variance":
        return _single(data, scale**2)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        positive = np.where(data > 0, data.astype(np.float64), np.nan)
        return _single(positive**2 if layers.noise == "rms" else 1 / positive, scale**2)


def _linear(layers: Layers, data: NDArray[Any], offset: bool) -> NDArray[Any]:
    """Pixels that are an inverse hyperbolic sine of the flux as the flux (Pan-STARRS;
    outerspace.stsci.edu, "PS1 Stack images")."""
    if layers.row is None or not layers.row.asinh:
        return data
    cards = read_cards(layers)
    soft, zero = cards.number("BSOFTEN"), cards.number("BOFFSET")
    if soft is None or zero is None:
        return data
    with np.errstate(over="ignore"):
        flux = 2 * soft * np.sinh(data.astype(np.float64) * 0.4 * np.log(10))
    return flux + zero if offset or layers.noise == "variance" else flux


def _single(data: NDArray[Any], scale: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = data if scale == 1 else data.astype(np.float64) * scale
        return np.ascontiguousarray(scaled, dtype=np.float32)


def read_mask(layers: Layers, box: Box) -> tuple[NDArray[np.int32], dict[str, int]] | None:
    """The mask and its plane bits by name, from this file's own MP_ cards.

    A mask without MP_ cards has the planes that the user names, else those of its survey,
    else one, BAD: whatever is not zero.
    """
    if layers.mask is None:
        return None
    with open_fits(layers.path) as hdus:
        data, header = _part(hdus[layers.mask], layers.index, box), hdus[layers.mask].header
        planes = _bits(header, layers)
    row = layers.row
    if not planes and row is not None and (row.bits or row.codes):
        return _by_meaning(data, row)
    if not planes:
        return (data != 0).astype(np.int32), {"BAD": 0}
    return np.ascontiguousarray(data).astype(np.int64).astype(np.int32), planes


def _bits(header: fits.Header, layers: Layers) -> dict[str, int]:
    """The bits of a mask's planes by name, of its header or as the user names them."""
    named = {re.sub("^MP_", "", key): int(header[key]) for key in header if key.startswith("MP_")}
    return named or dict(layers.planes)


def is_nameless(layers: Layers) -> bool:
    """Whether a file has a mask of which nothing says what its bits mean."""
    row = layers.row
    if layers.mask is None or (row is not None and (row.bits or row.codes)):
        return False
    with open_fits(layers.path) as hdus:
        return not _bits(hdus[layers.mask].header, layers)


def _by_meaning(data: NDArray[Any], row: Survey) -> tuple[NDArray[np.int32], dict[str, int]]:
    """A mask on bits of our own, from a survey's bits or codes."""
    values = np.ascontiguousarray(data).astype(np.int64)
    names = list(dict.fromkeys([*row.bits, *row.codes.values()]))
    out = np.zeros(values.shape, np.int32)
    for k, name in enumerate(names):
        is_set = (values & row.bits.get(name, 0)) != 0
        is_set |= np.isin(values, [code for code, plane in row.codes.items() if plane == name])
        out |= is_set.astype(np.int32) << k
    return out, {name: k for k, name in enumerate(names)}
