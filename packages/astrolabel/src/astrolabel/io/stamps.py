"""PSF stamps: which files hold those of a band, and where on a coadd each of them is true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core import psf
from astrolabel.core.celestial import to_pixels
from astrolabel.core.errors import InputError
from astrolabel.io import layers as fits_layers
from astrolabel.io.names import coadd_name, stamp_name

PLACE = ("RA", "DEC")
"""Cards, in degrees, of the place of a stamp whose name does not hold it."""


def stamps_of(folder: Path, band: str, patch: tuple[str, str], named: bool) -> tuple[Path, ...]:
    """The files of a folder, subfolders and all, that hold one band's stamps of a coadd.

    Parameters
    ----------
    patch : tract and patch of the coadd; stamps of another one are left out. Empty strings
        where it has none: any stamp may then be its.
    named : whether the folder was named for this band alone. Only then may there be files
        without a band in their names.

    Raises
    ------
    InputError
        When there are none.
    """
    found = []
    for file in sorted(folder.rglob("*.fits*")):
        stamp = stamp_name(file)
        if stamp is None:
            mine = named and coadd_name(file) is None
        else:
            mine = stamp.band == band and patch in (("", ""), (stamp.tract, stamp.patch))
        if mine:
            found.append(file)
    if not found:
        where = f" of tract {patch[0]} patch {patch[1]}" if any(patch) else ""
        raise InputError(
            f"no PSF stamp of band {band}{where} in this folder",
            file=folder,
            remedy="names as HSC's PSF picker gives them hold band and patch; for others "
            f"name the folder's band: --psf {band}=FOLDER",
        )
    return tuple(found)


def stamps_beside(coadd: Path) -> tuple[Path, ...]:
    """The PSF stamps beside an HSC coadd: the one called ``psf`` and then as the coadd, else
    all that the PSF picker gave for it."""
    name, stem = coadd_name(coadd), coadd.name.split(".fits")[0].removeprefix("calexp-")
    whole, by_place = [], []
    for file in sorted(coadd.parent.glob("*psf*.fits*")):
        stamp = stamp_name(file)
        if stamp is None and file.name.startswith("psf") and stem in file.name:
            whole.append(file)
        elif stamp is not None and (stamp.band, stamp.tract, stamp.patch) == name:
            by_place.append(file)
    return tuple(whole[:1] or by_place)


def read_stamps(paths: Sequence[Path], wcs: Any, shape: tuple[int, int]) -> psf.StampGrid:
    """Stamps by position: one file for each place, given by its name or its header.

    Parameters
    ----------
    paths : 2-D stamps of one band.
    wcs, shape : of the coadd; stamps of places outside of it are left out.

    Raises
    ------
    InputError
        For a stamp without a place, a coadd without a WCS, or no stamp on the coadd.
    """
    if wcs is None:
        raise InputError(
            "PSF stamps by sky position, and the coadd has no WCS",
            file=paths[0],
            remedy="give a cube with a table POSITIONS, whose x and y are pixels",
        )
    ra, dec = np.array([_place(path) for path in paths]).T
    x, y = to_pixels(wcs, ra, dec)
    # NaN: on the other side of the sky.
    inside = (y > -0.5) & (y < shape[0] - 0.5) & (x > -0.5) & (x < shape[1] - 0.5)
    if not inside.any():
        raise InputError(
            f"this and {len(paths) - 1} other PSF stamps lie beside the coadd, none on it",
            file=paths[0],
            remedy="give stamps of places on the coadd",
        )
    chosen = [path for path, on_it in zip(paths, inside, strict=True) if on_it]
    stamps = [psf.normalise(_only_image(path), path) for path in chosen]
    return psf.StampGrid(np.stack([y, x], axis=1)[inside], psf.common_size(stamps))


def _place(path: Path) -> tuple[float, float]:
    """(ra, dec) in degrees."""
    stamp = stamp_name(path)
    if stamp is not None:
        return stamp.ra, stamp.dec
    with fits_layers.open_fits(path) as hdus:
        for hdu in hdus:
            try:
                return float(hdu.header[PLACE[0]]), float(hdu.header[PLACE[1]])
            except (KeyError, TypeError, ValueError):
                continue
    raise InputError(
        "neither its name nor cards RA and DEC hold the place of this PSF stamp",
        file=path,
        remedy="name it as HSC's PSF picker does, or write the cards, in degrees",
    )


def _only_image(path: Path) -> NDArray[Any]:
    with fits_layers.open_fits(path) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2]
        if len(images) != 1:
            raise InputError(
                f"{len(images)} images where one PSF stamp is wanted",
                file=path,
                remedy="give one 2-D image in each file of the folder",
            )
        return np.array(images[0].data)


POSITIONS = "POSITIONS"
"""EXTNAME of the table of a PSF file with the places of its stamps."""


def read_psf_grid(path: Path, band: str) -> psf.StampGrid | None:
    """Stamps by position; None where the file has no table `POSITIONS`.

    The stamps are a cube (K, P, P): the HDU of the band's name, or the only image. The table
    has K rows; its columns x and y are pixels of the coadd, from 0.
    """
    with fits_layers.open_fits(path) as hdus:
        tables = [h for h in hdus if str(h.header.get("EXTNAME", "")).strip() == POSITIONS]
        if not tables:
            return None
        cubes = [h for h in hdus if h.is_image and len(h.shape) == 3]
        named = [h for h in cubes if str(h.header.get("EXTNAME", "")).strip().lower() == band]
        if not named and len(cubes) != 1:
            raise InputError(
                f"no cube of PSF stamps for band {band}",
                file=path,
                remedy="give one 3-D image, or one HDU named after each band",
            )
        data = np.array((named or cubes)[0].data)
        table = tables[0].data
        if not {"x", "y"} <= {name.lower() for name in table.names} or len(table) != len(data):
            raise InputError(
                f"{POSITIONS} does not hold x and y of {len(data)} stamps",
                file=path,
                remedy="give the columns x and y with a row for each stamp",
            )
        positions = np.stack([table["y"], table["x"]], axis=1).astype(np.float64)
    if len(data) == 0 or not np.isfinite(positions).all():
        raise InputError(f"{POSITIONS} has no or no finite positions", file=path)
    return psf.StampGrid(positions, psf.common_size([psf.normalise(s, path) for s in data]))


def read_psf(path: Path, band: str, bands: Sequence[str]) -> NDArray[np.float32]:
    """The stamp of one band: the HDU of that name, the plane of a cube, or the only image."""
    with fits_layers.open_fits(path) as hdus:
        images = [h for h in hdus if h.is_image and len(h.shape) in (2, 3)]
        named = [h for h in images if str(h.header.get("EXTNAME", "")).strip().lower() == band]
        if named:
            data = np.array(named[0].data)
        elif len(images) == 1 and len(images[0].shape) == 3 and images[0].shape[0] == len(bands):
            data = np.array(images[0].data[list(bands).index(band)])
        elif len(images) == 1 and len(images[0].shape) == 2:
            data = np.array(images[0].data)
        else:
            raise InputError(
                f"no PSF stamp for band {band}",
                file=path,
                remedy=f"give one 2-D image, one HDU named after each band, or a cube of "
                f"{len(bands)} planes",
            )
    return psf.normalise(data, path)
