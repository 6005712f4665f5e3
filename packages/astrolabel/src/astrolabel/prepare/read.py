"""Read any part of a coadd as a `Coadd`, with what its files lack measured on its pixels.

A `CoaddFiles` says where the pixels of one coadd are; it is cheap to make and to send to
a worker, which then reads only its own tile (and margin) from disk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config.prepare import NoiseConfig, PrepareConfig
from astrolabel.core.notes import Note
from astrolabel.io import layers as fits_layers
from astrolabel.io.files import CoaddFiles
from astrolabel.prepare import blank, noise
from astrolabel.prepare.accept import Band
from astrolabel.prepare.characterise import Characteristics, characterise
from astrolabel.prepare.cosmic_rays import cosmic_rays, narrowest
from astrolabel.prepare.pixels import BAD_PLANES, Plane, read_plane
from astrolabel.prepare.saturation import saturated_cores

__all__ = ["BAD_PLANES", "Characteristics", "characterise", "read"]

Mask = tuple[NDArray[np.int32], dict[str, int]]


def read(
    files: CoaddFiles,
    known: Characteristics,
    box: Box | None = None,
    config: PrepareConfig | None = None,
) -> Coadd:
    """The part of a coadd inside `box` (all of it by default), ready for detection.

    What the files do not hold is made from the pixels, as in `known`.
    """
    config = PrepareConfig() if config is None else config
    frame = Box.of_shape(files.shape)
    box = frame if box is None else box & frame
    notes = list(known.notes)
    psfs = known.psfs_in(box)
    planes, masks = [], []
    for index, (band, one) in enumerate(zip(files.bands, known.bands, strict=True)):
        plane = read_plane(files, index, box, known.scale)
        plane = plane.without(blank.no_data(plane.image, plane.valid, config.no_data)[0])
        plane = _with_noise(plane, one, box, config.noise)
        plane, texts = _with_artifacts(
            plane, one, psfs[index], known.measured_psf[index], box, config
        )
        notes += [Note("mask", text, band) for text in texts]
        planes.append(plane)
        masks.append(plane.mask or (np.zeros(box.shape, np.int32), {}))
    bits, names = _one_mask(masks, box.shape)
    wcs = fits_layers.read_wcs(files.layers[0])
    origin = fits_layers.read_origin(files.layers[0]) or (0, 0)
    variances = [p.variance for p in planes if p.variance is not None]
    return Coadd(
        name=files.name,
        bands=files.bands,
        image=np.stack([p.image for p in planes]),
        variance=np.stack(variances),
        valid=np.stack([p.valid for p in planes]),
        psfs=psfs,
        psf_grids=tuple(g and g.shifted(-box.y0, -box.x0) for g in known.psf_grids),
        noise_correlation=known.noise_correlation,
        steps=tuple(one.step for one in known.bands),
        zeropoints=known.zeropoints,
        planes=names,
        mask=bits,
        wcs=None if wcs is None else wcs.slice(box.slices),
        origin=(origin[0] + box.y0, origin[1] + box.x0),
        tract=files.tract,
        patch=files.patch,
        notes=tuple(notes),
    )


def _with_noise(plane: Plane, one: Band, box: Box, config: NoiseConfig) -> Plane:
    """A band less its sky, with the noise that holds."""
    image, variance = plane.image, plane.variance
    if one.level is not None:
        image = image - one.level.at(box)
    if one.rms is not None:
        rms = np.maximum(one.rms.at(box), np.float32(0))
        light = np.where(plane.valid, image, 0)
        variance = noise.with_photons(light, rms, one.electrons, config, few=one.photon > 0)
    elif variance is not None and one.noise_scale != 1:
        variance = variance * np.float32(one.noise_scale)
    assert variance is not None
    valid = plane.valid & np.isfinite(variance) & (variance > 0)
    return Plane(image, variance, plane.mask, valid)


def _with_artifacts(
    plane: Plane,
    one: Band,
    stamp: NDArray[np.float32],
    measured: bool,
    box: Box,
    config: PrepareConfig,
) -> tuple[Plane, list[str]]:
    """A band with planes of what is saturated, hit by cosmic rays, or a trail; and clauses."""
    mask, texts = plane.mask, []
    assert plane.variance is not None
    if mask is None or "SAT" not in mask[1]:
        full = saturated_cores(plane.image, plane.variance, plane.valid, stamp, config.saturation)
        source = "its mask" if mask is not None else "not finite"
        mask = _with_plane(mask, "SAT", full)
        texts.append(f"{source}: no data; flat tops, ragged cores and holes in stars: saturated")
    wrong = np.zeros(box.shape, bool)
    if _look_for_rays(plane, config):
        saturated = (mask[0] & (1 << mask[1]["SAT"])) != 0
        good = plane.valid & ~_grown(saturated, 2)
        # Of the sky alone where noise is measured: rays would pass for photon noise.
        variance = plane.variance if one.rms is None else one.rms.at(box) ** 2
        sigma = np.sqrt(np.where(plane.valid, variance, 0)).astype(np.float32)
        least = narrowest(stamp, measured, config.artifacts)
        hit = cosmic_rays(plane.image, sigma, good, least, config.artifacts)
        if hit.any():
            texts.append(f"{int(hit.sum())} pixels of cosmic rays: no data")
        mask = _with_plane(mask, "COSMIC_RAY", hit)
        wrong |= hit
    for trail in one.trails:
        on_it = trail.mask(box)
        mask = _with_plane(mask, "TRAIL", on_it)
        wrong |= on_it
    return Plane(plane.image, plane.variance, mask, plane.valid & ~wrong), texts


def _look_for_rays(plane: Plane, config: PrepareConfig) -> bool:
    """Whether cosmic rays are looked for: where the survey's own mask marks none."""
    if config.artifacts.cosmic_rays == "auto":
        if plane.mask is None:
            return True
        bits, names = plane.mask
        return not any((bits & (1 << names[n])).any() for n in ("CR", "COSMIC_RAY") if n in names)
    return config.artifacts.cosmic_rays == "always"


def _grown(where: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(where, iterations=pixels)) if where.any() else where


def _with_plane(mask: Mask | None, name: str, where: NDArray[np.bool_]) -> Mask:
    """A mask with one plane more, or with more pixels in it."""
    if mask is None:
        return where.astype(np.int32), {name: 0}
    bits, planes = mask
    if name in planes:
        return np.where(where, bits | np.int32(1 << planes[name]), bits), planes
    bit = next(b for b in range(32) if b not in planes.values())
    value = np.int32(1) << np.int32(bit)
    return np.where(where, bits | value, bits & ~value), {**planes, name: bit}  # unnamed before


def _one_mask(masks: list[Mask], shape: tuple[int, int]) -> Mask:
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
