"""Small skies whose sources have a redshift that only their colour tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from train_helpers import SIGMA

from astroseg.core.rle import decode_tight, encode_at

SIZE = 64


def coloured_sky(seed: int, sources: int = 8) -> tuple[Any, list[tuple[Any, Any, float]]]:
    """(3, 64, 64) float32, and each source's bitmap, corner and redshift from 0 to 1."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, SIGMA, (3, SIZE, SIZE))
    yy, xx = np.mgrid[:SIZE, :SIZE]
    # Two to a side of a grid, so that none hides another.
    places = rng.permutation(16)[:sources]
    found = []
    for place in places:
        y, x = (np.array(divmod(int(place), 4)) + 0.5) * SIZE / 4 + rng.uniform(-2, 2, 2)
        redshift, width = float(rng.uniform()), rng.uniform(1.5, 2.5)
        light = rng.uniform(40, 100) * np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / width**2)
        image += light * np.array([1.4 - redshift, 1.0, 0.4 + redshift])[:, None, None]
        bitmap, corner = decode_tight(encode_at(light > 6, (0, 0), (SIZE, SIZE)))
        found.append((bitmap, corner, redshift))
    return image.astype(np.float32), found


def write_coloured_set(folder: Path, images: int, *, seed: int = 0, unknown: float = 0.0) -> Path:
    """A COCO file with FITS cubes; a fraction `unknown` of the sources has no redshift."""
    (folder / "cubes").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed + 1)
    entries, annotations = [], []
    for number in range(1, images + 1):
        image, found = coloured_sky(1000 * seed + number)
        fits.PrimaryHDU(image).writeto(folder / f"cubes/{number}.fits")
        entries.append(
            {
                "id": number,
                "file_name": f"{number}.png",
                "height": SIZE,
                "width": SIZE,
                "astro": {"cube": f"cubes/{number}.fits", "bands": ["g", "r", "i"]},
            }
        )
        for bitmap, corner, redshift in found:
            lost = [-99.0, None, "nan"][len(annotations) % 3]
            value = lost if rng.random() < unknown else redshift
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": encode_at(bitmap, corner, (SIZE, SIZE)),
                    "bbox": [corner[1], corner[0], bitmap.shape[1], bitmap.shape[0]],
                    "area": int(bitmap.sum()),
                    "iscrowd": 0,
                    "attributes": {"redshift": value, "mag_i": 20 + 5 * redshift},
                }
            )
    categories = [{"id": 1, "name": "galaxy"}]
    document = {"images": entries, "annotations": annotations, "categories": categories}
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path
