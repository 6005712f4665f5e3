"""The outline of an image on the sky."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.celestial import to_icrs, wcs_of_cards

POINTS_PER_SIDE = 8
"""Of an image's outline. A side of a degree bends by less than an arcsecond between them."""

Points = NDArray[np.float64]


def sky_outline(image: Mapping[str, Any]) -> tuple[Points, Points] | None:
    """(N + 1,) RA and Dec in degrees: along the edges of an image, then its centre.

    Parameters
    ----------
    image : an entry of ``images[]``; None without ``astro.wcs``.
    """
    cards = (image.get("astro") or {}).get("wcs")
    if not cards:
        return None
    wcs = wcs_of_cards(cards)
    height, width = image["height"], image["width"]
    step = np.arange(POINTS_PER_SIDE) / POINTS_PER_SIDE
    zero, one = np.zeros_like(step), np.ones_like(step)
    x = np.concatenate([step, one, 1 - step, zero]) * width - 0.5
    y = np.concatenate([zero, step, one, 1 - step]) * height - 0.5
    ra, dec = to_icrs(wcs, np.append(x, width / 2 - 0.5), np.append(y, height / 2 - 0.5))
    return ra, dec
