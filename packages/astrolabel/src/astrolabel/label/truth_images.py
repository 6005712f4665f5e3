"""Labels from truth images: one noiseless picture of every object of a simulated scene.

The format of Burke et al. (2019, MNRAS 490, 3952), which the DeepDISC paper's Appendix A
uses. Beside the bands of a scene lies ``masks.fits`` with one HDU per object: its light in
the first band without sky, and CLASS_ID 1 for a star, 2 for a galaxy. Masks are made by the
rule of both publications' code (`truth_mask`). What that code then does wrong is not done
here: outlines through pixel centres, boxes of one outline of several, areas of boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.catalog.catalog import GALAXY, STAR
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import CheckConfig, LabelConfig, TruthConfig
from astrolabel.core.errors import InputError
from astrolabel.core.masks import Mask, tighten
from astrolabel.io import coco
from astrolabel.io.layers import open_fits
from astrolabel.label import flags
from astrolabel.label.records import TileLabels, sky_sigma
from astrolabel.label.tiles import Tile

CATEGORY_OF = {1: STAR, 2: GALAXY}
"""Our category by the files' CLASS_ID."""


@dataclass(frozen=True, eq=False)
class TruthObject:
    """One object of a scene.

    Attributes
    ----------
    number : its HDU, from 0.
    category_id : ours.
    mask : in the scene's pixels; None where the rule leaves none.
    peak, centre : (y, x) of the brightest pixel, and of the light inside the mask; NaN for
        an object without light.
    light : counts inside the mask.
    """

    number: int
    category_id: int
    mask: Mask | None
    peak: tuple[float, float]
    centre: tuple[float, float]
    light: float


def truth_mask(light: NDArray[np.float32], fraction: float, config: TruthConfig) -> Mask | None:
    """Where an object is: above a fraction of its peak, the outline smoothed.

    Parameters
    ----------
    light : (H, W) counts, the object alone, without sky.
    fraction : of the peak.

    Returns
    -------
    Mask or None for an object without light, or too small to outlive the smoothing. Its
    parts need not touch.
    """
    peak = light.max(initial=0)
    if not peak > 0:
        return None
    above = (light > fraction * peak).astype(np.float32)
    soft = ndimage.gaussian_filter(
        above, config.smooth_px, mode="mirror", radius=config.smooth_radius_px
    )
    # A half is in, also where single precision has it a little less.
    return tighten(soft > 0.5 - 1e-6, Box.of_shape(light.shape))


def read_objects(path: Path, shape: tuple[int, int], config: TruthConfig) -> Iterator[TruthObject]:
    """The objects of a scene in the file's order, one picture in memory at a time.

    Parameters
    ----------
    shape : (H, W) of the scene's images.

    Raises
    ------
    InputError
        For a picture of another shape or without a known CLASS_ID: labels of a part of the
        objects would call the others sky.
    """
    fractions = {STAR: config.star_fraction, GALAXY: config.galaxy_fraction}
    found = 0
    with open_fits(path) as hdus:
        for number, hdu in enumerate(hdus):
            if not hdu.is_image or len(hdu.shape) != 2:
                continue
            found += 1
            kind = hdu.header.get("CLASS_ID")
            if kind not in CATEGORY_OF:
                raise InputError(
                    f"HDU {number} has CLASS_ID {kind}" if kind is not None
                    else f"HDU {number} has no CLASS_ID",
                    file=path,
                    remedy="give 1 for a star, 2 for a galaxy",
                )  # fmt: skip
            if hdu.shape != shape:
                raise InputError(
                    f"HDU {number} has {hdu.shape[0]}x{hdu.shape[1]} pixels, the scene's images "
                    f"have {shape[0]}x{shape[1]}",
                    file=path,
                )
            light = np.nan_to_num(np.asarray(hdu.data, np.float32), nan=0.0)
            yield _object(number, CATEGORY_OF[kind], light, fractions[CATEGORY_OF[kind]], config)
    if not found:
        raise InputError("no picture of an object in this file", file=path)


def _object(
    number: int, category: int, light: NDArray[np.float32], fraction: float, config: TruthConfig
) -> TruthObject:
    mask = truth_mask(light, fraction, config)
    nowhere = (float("nan"), float("nan"))
    if not light.max(initial=0) > 0:
        return TruthObject(number, category, None, nowhere, nowhere, 0.0)
    y, x = np.unravel_index(int(light.argmax()), light.shape)
    peak = (float(y), float(x))
    if mask is None:
        return TruthObject(number, category, None, peak, peak, 0.0)
    centre, total = mask.light_inside(light, Box.of_shape(light.shape))
    return TruthObject(number, category, mask, peak, centre, total)


def label_truth(
    coadd: Coadd, tile: Tile, config: LabelConfig, path: Path, shape: tuple[int, int]
) -> TileLabels:
    """The labels of one tile of a scene from its truth images.

    Parameters
    ----------
    coadd : the pixels of ``tile.outer``.
    path : the truth images.
    shape : (H, W) of the whole scene.

    Returns
    -------
    TileLabels
        An annotation for every object with a mask in ``tile.core``; every object is listed
        with its state. There is no residual: nothing was fitted.
    """
    objects = list(read_objects(path, shape, config.truth))
    together = _together(objects, shape)
    sky = sky_sigma(coadd)
    core, outer = tile.core_in_outer, tile.outer
    annotations, listed = [], []
    for k, one in enumerate(objects):
        state = "ok"
        clipped = None if one.mask is None else one.mask.clipped(tile.core)
        if one.mask is None:
            lost = np.isfinite(one.peak[0])
            state = f"skipped:{'no pixel left by the masks rule' if lost else 'no light'}"
        elif clipped is None:
            state = "skipped:outside the tile"
        elif clipped.area < config.mask.min_area:
            state = f"skipped:mask below {config.mask.min_area} pixels"
        else:
            annotations.append(
                coco.annotation(
                    mask=clipped.pixels,
                    box=clipped.box,
                    image_shape=tile.core.shape,
                    category_id=one.category_id,
                    attributes=_attributes(
                        coadd, one, core, outer, int(together[k]), sky[0], config.check
                    ),
                )
            )
        y, x = one.peak[0] - tile.core.y0, one.peak[1] - tile.core.x0
        listed.append({"y": y, "x": x, "state": state})
    return TileLabels(annotations, listed, sky, float("nan"), None)


def _together(objects: list[TruthObject], shape: tuple[int, int]) -> NDArray[np.int64]:
    """(N,) objects whose masks make one connected region with each one's, itself included."""
    union = np.zeros(shape, bool)
    for one in objects:
        if one.mask is not None:
            union[one.mask.box.slices] |= one.mask.pixels
    regions, _ = ndimage.label(union, structure=np.ones((3, 3)))
    own = np.array(
        [
            0 if o.mask is None else int(regions[o.mask.box.slices][o.mask.pixels][0])
            for o in objects
        ],
        np.int64,
    )
    return np.bincount(own)[own]


def _attributes(
    coadd: Coadd,
    one: TruthObject,
    core: Box,
    outer: Box,
    n_blended: int,
    sigma: float,
    check: CheckConfig,
) -> dict[str, Any]:
    """As `label` gives them, but for the fluxes: truth images have no zero point."""
    assert one.mask is not None
    ra, dec = coadd.world(one.centre[0] - outer.y0, one.centre[1] - outer.x0)
    here = one.mask.clipped(outer)
    assert here is not None
    peak = (one.peak[0] - outer.y0, one.peak[1] - outer.x0)
    nothing_fitted = np.zeros(coadd.shape, np.float32)
    names = flags.of_pixels(coadd, here, peak, core, nothing_fitted, check)
    bits = flags.encode(names | {"blended"} if n_blended > 1 else names)
    noise = sigma * np.sqrt(one.mask.area)
    return {
        "ra": round(float(ra[0]), 7),
        "dec": round(float(dec[0]), 7),
        "snr": round(one.light / noise, 2) if noise > 0 else float("nan"),
        "truth_counts": float(f"{one.light:.6g}"),
        "object_id": str(one.number),
        "class_source": "truth",
        "n_blended": n_blended,
        "flags": flags.decode(bits),
        "flag_bits": bits,
    }
