"""A scene for the review's server: two stars in one label."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.core.psf import DEFAULT_FWHM_PX, moffat
from astrolabel.io import coco

SHAPE = (96, 96)
A, B = (48, 40), (48, 52)
"""(y, x) of two stars that one label holds."""


ONE = (Box(42, 34, 13, 25), Box(10, 10, 5, 5))
"""One label that holds both stars, and one of nothing."""
SHRED = (Box(42, 34, 13, 7), Box(42, 41, 13, 5), Box(44, 48, 9, 9))
"""The first star in two halves; the second."""


def scene(folder, boxes=ONE):
    """Labels of two stars, 12 px apart on noise; the file."""
    rng = np.random.default_rng(2)
    light = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    stamp = moffat(DEFAULT_FWHM_PX)  # as fits take it to be where nothing says
    for (y, x), flux in ((A, 4000.0), (B, 2000.0)):
        box = Box.around(y, x, 21)
        inside = box & Box.of_shape(SHAPE)
        light[(slice(None), *inside.slices)] += flux * stamp[inside.slices_in(box)]
    (folder / "cubes").mkdir(parents=True)
    fits.PrimaryHDU(light).writeto(folder / "cubes" / "a.fits")
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(folder / "a.png")
    items = [
        coco.annotation(
            mask=np.ones(b.shape, bool), box=b, image_shape=SHAPE, category_id=1, attributes={}
        )
        for b in boxes
    ]
    astro = {
        "cube": "cubes/a.fits", "bands": ["g", "r"], "origin": [0, 0], "sky_sigma": [1.0, 1.0],
        "zeropoint": [27.0, 27.0],
    }  # fmt: skip
    image = {"file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1], "astro": astro}
    names = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    coco.write_json(
        folder / "coco.json", coco.merge({}, names, [{"image": image, "annotations": items}])
    )
    return folder / "coco.json"
