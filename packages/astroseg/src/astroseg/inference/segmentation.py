"""Detections as a segmentation map: an integer image that SExtractor's users know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from astroseg.core.files import atomic_path
from astroseg.core.rle import decode_tight
from astroseg.core.samples import Rle

Maps = tuple[NDArray[np.int32], NDArray[np.int32]]


def segmentation_maps(masks: Sequence[Rle], shape: tuple[int, int]) -> Maps:
    """(H, W) number, from 1, of each pixel's mask, and the second one where masks overlap.

    0 is the sky. Of overlapping masks the smallest comes first: a companion on a galaxy stays
    whole, and the galaxy is the second.
    """
    first, second = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    decoded = [decode_tight(mask) for mask in masks]
    areas = np.array([np.count_nonzero(bitmap) for bitmap, _ in decoded])
    for row in np.argsort(-areas, kind="stable").tolist():
        bitmap, (y, x) = decoded[row]
        at = np.s_[y : y + bitmap.shape[0], x : x + bitmap.shape[1]]
        second[at] = np.where(bitmap, first[at], second[at])
        first[at] = np.where(bitmap, row + 1, first[at])
    return first, second


def write_segmentation(path: Path, maps: Maps, wcs: WCS | None) -> None:
    """Write the maps as FITS: the first as primary image, the second as extension OVERLAP.

    Raises
    ------
    OutputError : the file cannot be written.
    """
    header = fits.Header() if wcs is None else wcs.to_header(relax=True)
    header["BUNIT"] = ("", "number of the catalog's row")
    hdus = fits.HDUList(
        [fits.PrimaryHDU(maps[0], header), fits.CompImageHDU(maps[1], name="OVERLAP")]
    )
    with atomic_path(path) as temporary:
        hdus.writeto(temporary, overwrite=True)
