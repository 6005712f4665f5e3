"""The sky that the labels cover, as a MOC (IVOA's map of regions)."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from mocpy import MOC
from numpy.typing import NDArray

from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path
from astrolabel.io.coco import Document
from astrolabel.io.outline import POINTS_PER_SIDE, sky_outline

CELLS = 100
"""Cells of the MOC along the side of the smallest image, at least: its border is off by less than
a hundredth of it."""
DEEPEST = 25
"""Cells of 6 mas, below the pixels of any survey."""


def write_moc(path: Path, doc: Document) -> None:
    """Write the union of the images' outlines as a FITS MOC.

    Raises
    ------
    InputError
        When an image has no WCS.
    OutputError
        When the file cannot be written.
    """
    outlines = []
    for image in doc["images"]:
        found = sky_outline(image)
        if found is None:
            raise InputError(
                f"{image['file_name']} has no WCS: where it lies on the sky is unknown",
                remedy="label FITS files that have one",
            )
        outlines.append([values[:-1] for values in found])
    order = max((_order(*outline) for outline in outlines), default=0)
    whole = MOC.new_empty(max_depth=order)
    for ra, dec in outlines:
        whole = whole.union(MOC.from_polygon(ra * u.deg, dec * u.deg, max_depth=order))
    with atomic_path(path) as temporary:
        whole.save(temporary, format="fits", overwrite=True)


def _order(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> int:
    """HEALPix order whose cells are `CELLS` times smaller than an image's shorter side."""
    sides = SkyCoord(ra[::POINTS_PER_SIDE], dec[::POINTS_PER_SIDE], unit="deg")
    shorter = float(sides[:2].separation(sides[1:3]).rad.min())
    return int(np.clip(np.ceil(np.log2(np.sqrt(np.pi / 3) * CELLS / shorter)), 0, DEEPEST))
