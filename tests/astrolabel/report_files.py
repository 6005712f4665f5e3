"""A small labelled dataset on disk, made by hand: every number in it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fits_files import tan_wcs
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.io import coco
from astrolabel.io.residual_image import write_residual

SHAPE = (100, 120)
SCALE = 0.2  # arcsec
WCS = tan_wcs(SHAPE, SCALE)


def entry(number, y, x, side=5, **attributes):
    """A square mask centred on a pixel; attributes override."""
    ra, dec = WCS.all_pix2world(x, y, 0)
    values = {
        "ra": float(ra), "dec": float(dec), "mag_r": 20.0 + number, "mag_i": 19.5 + number,
        "snr": 100.0 / number, "n_blended": 1, "object_id": None, "flags": [],
    }  # fmt: skip
    values.update(attributes)
    category, crowd = values.pop("category_id", 1), values.pop("iscrowd", 0)
    radius = side // 2
    return {
        **coco.annotation(
            mask=np.ones((side, side), bool),
            box=Box(y - radius, x - radius, side, side),
            image_shape=SHAPE,
            category_id=category,
            attributes=values,
            iscrowd=crowd,
        ),
        "id": number,
        "image_id": 1,
    }


def dataset(folder: Path, entries, chi=None, info=None, name="coco.json", **astro) -> Path:
    """Write the document, its picture and its residual; the document's path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 80, (*SHAPE, 3), np.uint8)
    Image.fromarray(picture).save(folder / "images" / "a.png")
    header = WCS.to_header()
    if chi is not None:
        write_residual(folder / "residuals" / "a.png", chi)
        astro = {"residual": "residuals/a.png", **astro}
    astro = {"wcs": dict(header), "bands": ["r", "i"], "origin": [0, 0], **astro}
    document = {
        "info": info or {},
        "categories": [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}],
        "images": [
            {
                "id": 1, "file_name": "images/a.png", "height": SHAPE[0], "width": SHAPE[1],
                "astro": astro,
            }
        ],
        "annotations": entries,
    }  # fmt: skip
    coco.write_json(folder / name, document)
    return folder / name


def places(n=12):
    """(y, x) of masks well apart and off the edges."""
    cells = [(y, x) for y in range(12, 90, 18) for x in range(12, 110, 18)]
    return cells[:n]
