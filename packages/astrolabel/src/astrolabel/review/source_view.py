"""One source by itself: the image around it, its model, the image without the others, the residual.

The models are those of the built-in deblender, fitted with the neighbours on the float cube.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.pictures import rgb, upright
from astrolabel.review.pictures import residual_picture, uri
from astrolabel.review.refit import Neighbourhood

BORDER = 0.4
"""Sky around a source's box that is shown, in sides of the box."""
LEAST_BORDER_PX = 6

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SourceView:
    """A source and the pixels around it.

    Attributes
    ----------
    box : of the pixels in the image of the label.
    image : (C, h, w) float32 counts, the sky's median subtracted.
    model : (C, h, w) float32 counts, of the source alone.
    others : (C, h, w) float32 counts, of all other sources.
    sigma : (C,) counts, noise of a pixel of the sky.
    attributes : of the fit, named as in the label file; empty where the model has no mask.
    state : of the fit; other than ``ok`` where the model has no mask.
    """

    box: Box
    image: Array
    model: Array
    others: Array
    sigma: NDArray[np.float64]
    attributes: Mapping[str, Any]
    state: str

    @property
    def residual(self) -> Array:
        """(h, w) sigma: the sum of the bands less all models, over its noise."""
        left = (self.image - self.model - self.others).sum(axis=0)
        return np.asarray(left / np.sqrt((self.sigma**2).sum()), np.float32)


def view_source(
    document: coco.Document,
    image: Mapping[str, Any],
    item: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    folder: Path,
) -> SourceView:
    """Fit a label with its neighbours, and take it apart from them.

    Raises
    ------
    InputError
        When the image has no float cube, or the fit finds no source.
    """
    near = Neighbourhood.read(document, image, item, annotations, folder)
    if item["id"] not in near.peaks:
        raise InputError("the label's light is outside of its image")
    own, *others = near.fit(list(near.peaks.values()), keep_models=True)
    source, attributes = own
    if source.model is None:
        raise InputError(f"the fit finds no source ({source.state.partition(':')[2]})")
    model, rest = np.zeros_like(near.coadd.image), np.zeros_like(near.coadd.image)
    for one, into in [(source, model), *((other, rest) for other, _ in others)]:
        if one.model is not None:
            box, light = one.model
            into[(slice(None), *box.slices)] += light
    sky = np.nanmedian(near.coadd.image - model - rest, axis=(1, 2), keepdims=True)
    x, y, width, height = (round(v) for v in item["bbox"])
    border = max(round(BORDER * max(width, height)), LEAST_BORDER_PX)
    box = Box(y, x, height, width).expanded(border) & near.box
    part = (slice(None), *box.slices_in(near.box))
    sigma = np.sqrt(np.nanmedian(near.coadd.variance, axis=(1, 2)).astype(float))
    parts = (near.coadd.image - sky)[part], model[part], rest[part]
    return SourceView(box, *parts, sigma, attributes, source.state)


def pictures_of(view: SourceView, image: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a view as pictures in ``data:`` addresses, in one stretch, north up."""
    gains = np.ones(len(view.sigma))
    parts = {
        "image": view.image,
        "its model": view.model,
        "without the others": view.image - view.others,
    }
    zero = np.zeros(len(view.sigma))
    drawn = {
        name: upright(rgb(part, view.sigma, gains, levels=zero), image)
        for name, part in parts.items()
    }
    drawn["residual"] = upright(residual_picture(view.residual, flip=False), image)
    return {name: uri(np.ascontiguousarray(pixels)) for name, pixels in drawn.items()}
