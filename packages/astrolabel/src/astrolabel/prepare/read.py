"""Readers: find the coadds a user points at, and read any part of one as a `Coadd`.

A `CoaddFiles` says where the pixels of one coadd are; it is cheap to make and to send to
a worker, which then reads only its own tile (and margin) from disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.io import layers as fits_layers
from astrolabel.io.files import CoaddFiles
from astrolabel.io.layers import Layers
from astrolabel.io.stamps import read_psf, read_psf_grid, read_stamps
from astrolabel.prepare import noise
from astrolabel.prepare.psf import from_stars
from astrolabel.prepare.saturation import saturated_cores

BAD_PLANES = ("NO_DATA", "BAD", "UNMASKEDNAN")
"""Mask planes whose pixels are not measurements. Saturated and interpolated pixels stay:
without them every bright star would lose its middle and with it its label. So do those of CR:
in a coadd they say that a cosmic ray was interpolated in one of many exposures. In a real
UltraDeep cutout these are the pixels of INTRP, 2 to 6 % of each band and an eighth of gri,
with the variance and the scatter of their neighbours."""


@dataclass(frozen=True, eq=False)
class Characteristics:
    """What is known of a coadd as a whole and needed for each of its tiles.

    Attributes
    ----------
    psfs : (C, P, P) float32 stamps; where the PSF varies, that of the coadd's middle.
    psf_grids : as in `Coadd`, positions in the coadd's pixels.
    notes : how the stamps, and what else the files do not hold, come about.
    """

    psfs: NDArray[np.float32]
    notes: Mapping[str, str]
    psf_grids: tuple[psf.StampGrid | None, ...] = ()


def characterise(files: CoaddFiles) -> Characteristics:
    """PSFs of a coadd: read, else fitted to its stars, else a Moffat of the seeing."""
    stamps: dict[str, NDArray[np.float32]] = {}
    notes: dict[str, str] = {}
    grids: dict[str, psf.StampGrid] = {}
    rows, columns = files.shape
    for band, paths in files.psf.items():
        further = " and others" if len(paths) > 1 else ""
        read_from = f"read from {paths[0].name}{further}"
        if len(paths) > 1:
            grid = read_stamps(paths, fits_layers.read_wcs(files.layers[0]), files.shape)
        elif (cube := read_psf_grid(paths[0], band)) is not None:
            grid = cube
        else:
            stamps[band] = read_psf(paths[0], band, files.bands)
            notes[f"psf_{band}"] = read_from
            continue
        grids[band], stamps[band] = grid, grid.at((rows - 1) / 2, (columns - 1) / 2)
        notes[f"psf_{band}"] = f"{len(grid.stamps)} by position, {read_from}"
    missing = [b for b in files.bands if b not in stamps]
    if missing:
        frame = Box.of_shape(files.shape)
        pixels = [
            _band_arrays(files, b, files.layers[files.bands.index(b)], frame) for b in missing
        ]
        fitted = from_stars(np.stack([p[0] for p in pixels]), np.stack([p[2] for p in pixels]))
        widths = [psf.fwhm_px(found[0]) for found in fitted if found is not None]
        for band, found in zip(missing, fitted, strict=True):
            if found is None:
                width, why = _seeing(files, band, widths)
                found = psf.moffat(width), f"Moffat of FWHM {width:.2f} px, {why}"
            stamps[band], notes[f"psf_{band}"] = found
    largest = max(s.shape[-1] for s in (*stamps.values(), *(g.stamps for g in grids.values())))
    blank = np.zeros((largest, largest), np.float32)  # pads the others to its size
    both = psf.common_size([*(stamps[b] for b in files.bands), blank])
    at = [grids[b].padded(largest) if b in grids else None for b in files.bands]
    return Characteristics(both[:-1], notes, tuple(at) if grids else ())


def _seeing(files: CoaddFiles, band: str, others: Sequence[float]) -> tuple[float, str]:
    """(FWHM in pixels, where it is from) of a band without stars to measure it on."""
    layer = files.layers[files.bands.index(band)]
    seeing, wcs = fits_layers.read_seeing_arcsec(layer), fits_layers.read_wcs(layer)
    if seeing is not None and wcs is not None:
        scale = float(np.sqrt(wcs.proj_plane_pixel_area().to_value("arcsec2")))
        return seeing / scale, f"the header's seeing of {seeing:.2f}\""
    if others:
        return float(np.mean(others)), "too few stars: the mean of the other bands"
    return psf.DEFAULT_FWHM_PX, "no stars and no seeing in the header: a guess"


def read(files: CoaddFiles, known: Characteristics, box: Box | None = None) -> Coadd:
    """The part of a coadd inside `box` (all of it by default).

    What the files do not hold is made from the pixels read: the variance is the rms of
    the source-free sky, whose level is then also subtracted. `Coadd.notes` says so.
    """
    frame = Box.of_shape(files.shape)
    box = frame if box is None else box & frame
    notes = dict(known.notes)
    images, variances, valids = [], [], []
    masks: list[tuple[NDArray[np.int32], dict[str, int]]] = []
    for band, layer, stamp in zip(files.bands, files.layers, known.psfs, strict=True):
        image, variance, valid = _band_arrays(files, band, layer, box)
        if variance is None:
            image, variance, made = _made_variance(image, valid, stamp)
            valid = valid & (variance > 0)
            notes[f"variance_{band}"] = made
        mask = fits_layers.read_mask(files.mask.get(band, layer), box)
        if mask is None or "SAT" not in mask[1]:
            full = saturated_cores(image, variance, valid, stamp)
            told = "its mask" if mask is not None else "not finite"
            mask = _with_saturated(mask, full)
            notes[f"mask_{band}"] = (
                f"{told}: no data; flat tops, ragged cores and holes in stars: saturated"
            )
        masks.append(mask)
        images.append(image)
        variances.append(variance)
        valids.append(valid)
    bits, planes = _one_mask(masks, box.shape)
    zeropoints = []
    for band, layer in zip(files.bands, files.layers, strict=True):
        zeropoint = files.zeropoints.get(band, fits_layers.read_zeropoint(layer))
        if zeropoint is None:
            notes[f"zeropoint_{band}"] = "unknown: no magnitudes"
        zeropoints.append(np.nan if zeropoint is None else zeropoint)
    wcs = fits_layers.read_wcs(files.layers[0])
    if wcs is None:
        notes["wcs"] = "none: no sky positions"
    origin = fits_layers.read_origin(files.layers[0]) or (0, 0)
    return Coadd(
        name=files.name,
        bands=files.bands,
        image=np.stack(images),
        variance=np.stack(variances),
        valid=np.stack(valids),
        psfs=known.psfs,
        psf_grids=tuple(g and g.shifted(-box.y0, -box.x0) for g in known.psf_grids),
        zeropoints=tuple(zeropoints),
        planes=planes,
        mask=bits,
        wcs=None if wcs is None else wcs.slice(box.slices),
        origin=(origin[0] + box.y0, origin[1] + box.x0),
        tract=files.tract,
        patch=files.patch,
        notes=notes,
    )


def _band_arrays(
    files: CoaddFiles, band: str, layer: Layers, box: Box
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.bool_]]:
    """(image, variance or None, valid) of one band."""
    image = fits_layers.read_image(layer, box)
    variance = fits_layers.read_variance(files.variance.get(band, layer), box)
    valid = np.isfinite(image)
    found = fits_layers.read_mask(files.mask.get(band, layer), box)
    if found is not None:
        bits, planes = found
        for plane in BAD_PLANES:
            if plane in planes:
                valid &= (bits & (1 << planes[plane])) == 0
    if variance is not None:
        valid &= np.isfinite(variance) & (variance > 0)
    return image, variance, valid


def _made_variance(
    image: NDArray[np.float32], valid: NDArray[np.bool_], stamp: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    """(image without its sky, variance, how it was made) of a band whose files have none."""
    sky = noise.source_free_sky(image, valid)
    image = image - sky.level
    electrons = noise.electrons_per_count(image, sky.rms, valid, stamp)
    photons = "" if electrons is None else f", and photon noise of {electrons:.3g} e- a count"
    made = f"rms of the source-free sky, squared{photons}; its level subtracted"
    return image, noise.with_photons(image, sky.rms, electrons), made


def _with_saturated(
    mask: tuple[NDArray[np.int32], dict[str, int]] | None, full: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], dict[str, int]]:
    """A mask with a plane `SAT` more."""
    if mask is None:
        return full.astype(np.int32), {"SAT": 0}
    bits, planes = mask
    bit = next(b for b in range(32) if b not in planes.values())
    value = np.int32(1) << np.int32(bit)
    return np.where(full, bits | value, bits & ~value), {**planes, "SAT": bit}  # unnamed before


def _one_mask(
    masks: list[tuple[NDArray[np.int32], dict[str, int]]], shape: tuple[int, int]
) -> tuple[NDArray[np.int32], dict[str, int]]:
    """The bands' masks on one set of bits: files number the same plane differently."""
    planes: dict[str, int] = {}
    for _, own in masks:
        for plane in sorted(own, key=own.__getitem__):
            planes.setdefault(plane, len(planes))
    out = np.zeros((len(masks), *shape), np.int32)
    for k, (bits, own) in enumerate(masks):
        for plane, bit in own.items():
            out[k] |= ((bits >> bit) & 1) << planes[plane]
    return out, planes
