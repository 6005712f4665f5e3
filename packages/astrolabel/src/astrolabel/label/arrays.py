"""Arrays, NDData and CCDData as the files that the pipeline reads.

What is missing (noise, PSF, saturation, zero point) is then found by the code that finds it
for files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData, VarianceUncertainty
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.errors import InputError
from astrolabel.io.find import Inputs

AB_ZEROPOINT_JY = 8.9
"""AB magnitude of one jansky."""


def files_of_arrays(
    images: Sequence[Any],
    folder: Path,
    name: str,
    bands: Sequence[str],
    variance: Any = None,
    mask: Any = None,
    psf: Any = None,
    wcs: Any = None,
    zeropoints: Any = None,
) -> Inputs:
    """Write arrays as FITS files of one coadd; what `find_coadds` takes.

    Parameters
    ----------
    images : one (C, H, W) array, or C arrays, `NDData` or `CCDData` of (H, W).
    folder : where the files go; it exists.
    name : of the coadd.
    bands : C names; ``band1`` and so on where empty.
    variance : counts squared, shaped as the images, or C of them; where absent, that of
        `NDData`, else it is estimated.
    mask : True for bad pixels, likewise.
    psf : (P, P) or (C, P, P) stamps; where absent, that of `NDData`, else they are estimated.
    wcs : celestial WCS, or a FITS header with one; where absent, that of `NDData`.
    zeropoints : AB magnitude of one count: a number, one a band, or by band; where absent,
        that of the unit of `NDData` if it is a flux density.

    Raises
    ------
    InputError
        For shapes that do not belong together.
    """
    planes = _planes(images)
    shape = _shape(planes[0])
    names = _names(bands, len(planes))
    header = _header(wcs if wcs is not None else getattr(planes[0], "wcs", None))
    given = {
        "variance": _per_band(variance, "variance", len(planes), shape),
        "mask": _per_band(mask, "mask", len(planes), shape),
        "psf": _per_band(psf, "psf", len(planes), None),
    }
    points = _zeropoints(zeropoints, names)
    band_files: list[tuple[tuple[str, ...], Path]] = []
    further: dict[str, dict[str, Path]] = {what: {} for what in given}
    for k, (band, plane) in enumerate(zip(names, planes, strict=True)):
        own = _parts(plane)
        if own["image"].shape != shape:
            raise InputError(
                f"band {band} has the shape {own['image'].shape}, the first {shape}",
                remedy="give bands resampled to one frame",
            )
        if band not in points and own.get("zeropoint") is not None:
            points[band] = own["zeropoint"]
        file = folder / f"{name}.fits" if k == 0 else folder / f"{name}_{band}.fits"
        fits.writeto(file, own["image"], header)
        band_files.append(((band,), file))
        for what, values in given.items():
            array = own.get(what) if values is None else values[k]
            if array is not None:
                file = folder / f"{name}_{band}_{what}.fits"
                fits.writeto(file, _as(array, np.uint8 if what == "mask" else np.float32, what))
                further[what][band] = file
    return Inputs(
        band_files=tuple(band_files),
        zeropoints=points,
        variance=further["variance"],
        mask=further["mask"],
        psf=further["psf"],
    )


def _names(bands: Sequence[str], count: int) -> tuple[str, ...]:
    """Of `count` planes."""
    names = tuple(bands) if bands else tuple(f"band{k + 1}" for k in range(count))
    if len(names) != count:
        raise InputError(f"{count} images, but {len(names)} bands", remedy="name each band")
    return names


def _planes(images: Sequence[Any]) -> list[Any]:
    """The bands one by one; a single cube is taken apart."""
    planes = list(images)
    first = planes[0] if isinstance(planes[0], NDData) else np.asanyarray(planes[0])
    shape = _shape(first)
    if len(planes) == 1 and len(shape) == 3:
        if isinstance(first, NDData):
            return [_plane_of(first, k) for k in range(shape[0])]
        return [np.asanyarray(plane) for plane in first]
    if len(shape) != 2:
        raise InputError(
            f"an image of shape {shape}", remedy="give (H, W) arrays, or one (C, H, W) cube"
        )
    return [plane if isinstance(plane, NDData) else np.asanyarray(plane) for plane in planes]


def _shape(plane: Any) -> tuple[int, ...]:
    return np.shape(plane.data if isinstance(plane, NDData) else plane)


def _plane_of(cube: NDData, k: int) -> NDData:
    """One band of an `NDData` cube, without its uncertainty's parent."""
    noise, psf = cube.uncertainty, cube.psf
    return NDData(
        cube.data[k],
        uncertainty=None if noise is None else type(noise)(noise.array[k], unit=noise.unit),
        mask=None if cube.mask is None else np.broadcast_to(cube.mask, cube.data.shape)[k],
        wcs=None if cube.wcs is None else getattr(cube.wcs, "celestial", cube.wcs),
        unit=cube.unit,
        psf=psf[k] if psf is not None and np.ndim(psf) == 3 else psf,
    )


def _parts(plane: Any) -> dict[str, Any]:
    """Image, variance, mask, PSF and zero point of one band, as far as it has them."""
    if not isinstance(plane, NDData):
        unit = getattr(plane, "unit", None)
        image = plane.value if isinstance(plane, u.Quantity) else plane
        return {"image": _as(image, np.float32, "image"), "zeropoint": _zeropoint(unit)}
    noise = plane.uncertainty
    variance = None if noise is None else noise.represent_as(VarianceUncertainty).array
    psf = plane.psf
    return {
        "image": _as(plane.data, np.float32, "image"),
        "variance": variance,
        "mask": plane.mask if np.ndim(plane.mask) == 2 else None,
        "psf": psf if psf is not None and np.ndim(psf) == 2 else None,
        "zeropoint": _zeropoint(plane.unit),
    }


def _as(array: Any, kind: Any, what: str) -> NDArray[Any]:
    """A plain array of numbers; masked pixels become NaN."""
    try:
        if isinstance(array, np.ma.MaskedArray):
            array = np.ma.filled(array.astype(float), np.nan)
        return np.asarray(array, kind)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: {error}", remedy="give an array of numbers") from error


def _zeropoint(unit: Any) -> float | None:
    """AB magnitude of one count in a unit of flux density; None for other units."""
    if unit is None or not unit.is_equivalent(u.Jy):
        return None
    return float(AB_ZEROPOINT_JY - 2.5 * np.log10(unit.to(u.Jy)))


def _per_band(values: Any, what: str, n: int, shape: tuple[int, ...] | None) -> Any:
    """One array a band; a single (H, W) array holds for all."""
    if values is None:
        return None
    try:
        array = np.asarray(values)
    except ValueError:  # stamps of several sizes
        array = None
    if array is not None and array.ndim == 2:
        values = [array] * n
    if len(values) != n or (shape is not None and any(np.shape(v) != shape for v in values)):
        raise InputError(
            f"{what} of shape {np.shape(values)} for {n} bands"
            + ("" if shape is None else f" of {shape}"),
            remedy="give one array, or one a band",
        )
    return values


def _zeropoints(given: Any, bands: Sequence[str]) -> dict[str, float]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(band): float(value) for band, value in given.items()}
    if np.ndim(given) == 0:
        return {band: float(given) for band in bands}
    if len(given) != len(bands):
        raise InputError(f"{len(given)} zero points for {len(bands)} bands", remedy="give one each")
    return {band: float(value) for band, value in zip(bands, given, strict=True)}


def _header(wcs: Any) -> fits.Header | None:
    """The cards of a celestial WCS; None for none."""
    if wcs is None:
        return None
    if isinstance(wcs, Mapping | fits.Header):
        wcs = WCS(fits.Header(wcs))
    celestial = getattr(wcs, "celestial", None)
    if celestial is None or not celestial.has_celestial:
        raise InputError("wcs: not a celestial WCS", remedy="give an astropy.wcs.WCS, or none")
    return celestial.to_header(relax=True)
