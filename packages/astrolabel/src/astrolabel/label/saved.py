"""What a label file holds to fit its labels again: pixels, peaks and the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.celestial import to_pixels
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig, preset
from astrolabel.core.config.prepare import NoDataConfig
from astrolabel.core.config.tree import from_dict
from astrolabel.core.errors import InputError
from astrolabel.io.coco import Document
from astrolabel.io.frames import wcs_of
from astrolabel.io.layers import open_fits
from astrolabel.io.polygons import mask_of
from astrolabel.io.positions import sky_position

Item = Mapping[str, Any]
Peak = tuple[float, float]
"""(x, y) in pixels of the image, centres at whole numbers from 0."""


def box_of(item: Item) -> Box:
    """The box of an annotation, in pixels of its image."""
    x, y, width, height = (round(v) for v in item["bbox"])
    return Box(y, x, height, width)


def peak_of(item: Item, wcs: Any, coadd: Coadd, box: Box) -> Peak:
    """The place of the label's light: its RA and Dec, else the middle of its pixels' light."""
    position = sky_position(item)
    if wcs is not None and position is not None:
        x, y = to_pixels(wcs, *position)
        return float(x), float(y)
    pixels, where = mask_of(item["segmentation"], tuple(item["segmentation"]["size"]))
    inside = where & box
    pixels = pixels[inside.slices_in(where)]
    light = coadd.image.sum(axis=0)[inside.slices_in(box)]
    weight = np.where(pixels & np.isfinite(light), np.maximum(light, 0), 0).astype(float)
    weight = weight if weight.sum() > 0 else pixels.astype(float)
    rows, columns = np.indices(weight.shape)
    total = max(weight.sum(), 1e-30)
    return (
        inside.x0 + float((columns * weight).sum() / total),
        inside.y0 + float((rows * weight).sum() / total),
    )


def saved_coadd(image: Item, folder: Path, box: Box) -> Coadd:
    """The part of an image's float cube inside a box, with the noise of the sky as variance and a
    Moffat of the image's FWHM as PSF.

    Raises
    ------
    InputError
        When the image has no float cube, or it cannot be read.
    """
    astro = image.get("astro") or {}
    if not astro.get("cube"):
        raise InputError(
            f"{image['file_name']} has no float pixels to fit",
            remedy="label it with astrolabel make-coco",
        )
    path = folder / astro["cube"]
    with open_fits(path) as hdus:
        cut = hdus[0].section[:, box.y0 : box.y1, box.x0 : box.x1]
    pixels = np.ascontiguousarray(cut, dtype=np.float32)
    bands = tuple(astro.get("bands") or [f"band{k + 1}" for k in range(len(pixels))])
    valid = np.isfinite(pixels)
    sigma = astro.get("sky_sigma")
    if sigma is None or any(s is None for s in sigma):  # from the pixels themselves
        flat = [p[v] if v.any() else np.zeros(1) for p, v in zip(pixels, valid, strict=True)]
        sigma = [1.4826 * float(np.median(np.abs(p - np.median(p)))) or 1.0 for p in flat]
    # As `prepare` has it of the survey's files: a saved cube may be damaged.
    highest = NoDataConfig().high * np.asarray(sigma, np.float64)[:, None, None]
    valid &= np.abs(pixels) <= highest
    variance = np.square(np.asarray(sigma, np.float32))[:, None, None] * np.ones_like(pixels)
    wcs = wcs_of(image)
    scale = None if wcs is None else float(np.sqrt(wcs.proj_plane_pixel_area().to_value("arcsec2")))
    widths = astro.get("psf_fwhm_arcsec") or []
    known = [w / scale for w in widths if w] if scale else []
    widths_px = known if len(known) == len(bands) else [psf.DEFAULT_FWHM_PX] * len(bands)
    return Coadd(
        name=str(image["file_name"]),
        bands=bands,
        image=pixels,
        variance=variance,
        valid=valid,
        psfs=np.stack([psf.moffat(w) for w in widths_px]),
        zeropoints=tuple(astro.get("zeropoint") or [0.0] * len(bands)),
        wcs=None if wcs is None else wcs.slice(box.slices),
    )


def config_of(document: Document) -> LabelConfig:
    """The recipe in the document; the default where it has none that this version reads."""
    given = (document.get("info") or {}).get("config")
    try:
        return from_dict(LabelConfig, given) if given else preset("default")
    except InputError:
        return preset("default")
