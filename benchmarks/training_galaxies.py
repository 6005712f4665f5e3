"""Cutouts of real galaxies, and how they look in another seeing: for training_scenes.py.

Galaxies of the benchmarks are not among them: of the COSMOS stamps only those of even index, of the
Hubble Deep Field only the right half, of the NGC 6976 group the two that are not NGC 6978.
"""

from __future__ import annotations

import bz2
import io
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

Array = NDArray[np.float64]


def templates(folder: Path) -> list[tuple[str, Array]]:
    """(kind, (C, h, w)) cutouts of real galaxies, C 1 or 3, neighbours masked, no sky."""
    out = [("hdf", t) for t in _hubble_deep_field()]
    out += [("sdss", t) for t in _sdss(folder)]
    out += [("cosmos", t) for t in _cosmos(folder / "cosmos")]
    return out


def giants(folder: Path) -> list[Array]:
    """(1, h, w) cutouts of large nearby spirals, many seeing discs across: M51 without the stars
    in front of it, and one of Abell 2744."""
    m51 = np.asarray(fits.getdata(folder / "m51.fits"), float)
    m51 -= np.percentile(m51, 2)
    y, x = np.indices(m51.shape)
    for cy, cx in M51_STARS:
        far = np.hypot(y - cy, x - cx)
        m51[far < 8] = np.median(m51[(far > 8) & (far < 12)])
    spiral = np.asarray(fits.getdata(folder / "hst_a2744_spiral_f105w.fits.gz"), float)
    out = _cutouts((spiral - np.median(spiral[:20]))[None], 1, 3.0, 0.3)
    m51 = np.maximum(ndimage.median_filter(m51, 3), 0)  # without hot and dead pixels
    edge = np.minimum(np.minimum(y, 511 - y), np.minimum(x, 511 - x))
    return [(m51 * np.minimum(edge / 30, 1))[None], *out]


M51_STARS = (
    (188, 347), (66, 378), (273, 403), (409, 441), (130, 223), (61, 464), (225, 58), (231, 346),
    (445, 507), (415, 118), (505, 207), (32, 319), (438, 216), (186, 414), (325, 338), (250, 35),
)  # fmt: skip
"""(y, x) of what is as sharp as a star and 3 times as bright as the light around it."""


def _hubble_deep_field(count: int = 36) -> list[Array]:
    from skimage.data import hubble_deep_field

    colours = np.moveaxis((hubble_deep_field()[:, 500:] / 255.0) ** 2.2, -1, 0)
    colours -= np.median(colours, axis=(1, 2), keepdims=True)
    found = _cutouts(colours, count, 4.0, 0.004)
    return [t for k, t in enumerate(found) if k not in NO_GALAXIES]


NO_GALAXIES = (1, 12, 15, 29, 31)
"""Of the largest objects of the Hubble Deep Field: a star, and what neighbours cut in two."""


def _sdss(folder: Path) -> list[Array]:
    planes = []
    for band in "gri":
        data = bz2.decompress((folder / f"sdss_ngc6976_{band}.fits.bz2").read_bytes())
        planes.append(np.asarray(fits.getdata(io.BytesIO(data)), float))
    bands = np.stack(planes)
    bands -= np.median(bands, axis=(1, 2), keepdims=True)
    return [_without_stars(t, 14, 12.0) for t in _cutouts(bands, 3, 8.0, 0.3)[::2]]


def _without_stars(bands: Array, size_px: int, middle_px: float) -> Array:
    """Foreground stars filled from around them, but not the galaxy's middle."""
    total = bands.sum(axis=0)
    ground = np.stack([ndimage.median_filter(b, size_px) for b in bands])
    y, x = np.indices(total.shape) - np.array(np.unravel_index(
        int(ndimage.gaussian_filter(total, 4).argmax()), total.shape))[:, None, None]  # fmt: skip
    stars = (total > 2.0 * ground.sum(axis=0)) & (np.hypot(y, x) > middle_px)
    return np.where(ndimage.binary_dilation(stars, iterations=2), ground, bands)


def _cosmos(folder: Path) -> list[Array]:
    import galsim

    catalog = galsim.RealGalaxyCatalog(
        "real_galaxy_catalog_26_extension_example.fits", dir=str(folder)
    )
    out = []
    for index in range(0, catalog.nobjects, 2):
        stamp = catalog.getGalImage(index).array.astype(float)
        out += _cutouts(stamp[None], 1, 3.0, 0.3)
    return out


def _cutouts(bands: Array, count: int, sigma: float, contrast: float) -> list[Array]:
    """The `count` largest objects of an image, everything else masked."""
    import sep

    total = np.ascontiguousarray(bands.sum(axis=0))
    rms = 1.4826 * np.median(np.abs(total - np.median(total)))
    _, segments = sep.extract(total, sigma, err=rms, minarea=20, deblend_cont=contrast,
                              segmentation_map=True)  # fmt: skip
    area = np.bincount(segments.ravel())
    area[0] = 0
    out = []
    for number in np.argsort(-area, kind="stable")[:count]:
        if area[number] < 40:
            continue
        box = ndimage.find_objects(segments)[number - 1]
        if min(b.start for b in box) < 2:
            continue
        if any(b.stop > n - 2 for b, n in zip(box, total.shape, strict=True)):
            continue
        grown = tuple(slice(max(b.start - 6, 0), b.stop + 6) for b in box)
        own = ndimage.binary_dilation(segments[grown] == number, iterations=3)
        own &= (segments[grown] == number) | (segments[grown] == 0)
        soft = ndimage.gaussian_filter(own.astype(float), 1.0) * own
        out.append(np.maximum(bands[(slice(None), *grown)], 0) * soft)
    return out


def drawn(
    rng: np.random.Generator, template: Array, psfs: Array, radius_px: float, colours: Array
) -> Array:
    """(C, h, w) a galaxy of unit flux in the band sum, turned and scaled to a half-light radius.

    A template of one band gets colours, and its fine structure is bluer than the rest.
    """
    bands = len(psfs)
    light = np.rot90(template, int(rng.integers(4)), axes=(1, 2))
    if rng.integers(2):
        light = light[:, ::-1]
    zoom = min(radius_px / max(_half_light_radius(light.sum(axis=0)), 0.5), 3.0)
    if zoom < 1:
        light = ndimage.gaussian_filter(light, (0, 0.45 / zoom, 0.45 / zoom))
    light = np.maximum(ndimage.zoom(light, (1, zoom, zoom), order=1), 0)
    if len(light) == 1:
        fine = light[0] - ndimage.gaussian_filter(light[0], max(1.5, 0.3 * radius_px))
        bluer = rng.uniform(-0.1, 0.6)
        tilt = np.linspace(bluer, -bluer, bands) if bands > 1 else np.zeros(1)
        light = np.stack([np.maximum(light[0] + t * fine, 0) for t in tilt])
    else:
        light = light[np.linspace(2, 0, bands).round().astype(int)]  # R, G, B to blue first
    size = np.array(light.shape[1:]) + psfs.shape[-1]
    out = np.zeros((bands, *size))
    half = psfs.shape[-1] // 2
    for c in range(bands):
        padded = np.zeros(size)
        padded[half : half + light.shape[1], half : half + light.shape[2]] = light[c]
        one = np.maximum(fftconvolve(padded, psfs[c], mode="same"), 0)
        out[c] = one * colours[c] / max(one.sum(), 1e-30)
    return out / out.sum()


def _half_light_radius(image: Array) -> float:
    """Radius of the circle of as many pixels as the brightest that hold half of the light."""
    order = np.sort(image.ravel())[::-1]
    total = np.cumsum(order)
    return float(np.sqrt(np.searchsorted(total, total[-1] / 2) / np.pi))
