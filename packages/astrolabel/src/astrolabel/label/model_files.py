"""Models and float residuals as FITS: of each image, and of each label by itself.

The sources are fitted anew, all of an image together, at the places of the labels. Sources
without a label are in the residual, and the PSF is a Moffat of the image's FWHM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.files import atomic_path
from astrolabel.io.coco import Document
from astrolabel.io.names import flat_name
from astrolabel.io.polygons import mask_of
from astrolabel.label.records import Source
from astrolabel.label.refit import refit
from astrolabel.label.saved import box_of, config_of, peak_of, saved_coadd

BORDER_PX = 8
"""Sky around a label's box that its stamp has."""

Array = NDArray[np.float32]


def write_models(folder: Path, doc: Document, beside: Path) -> list[Path]:
    """Write ``<image>.fits`` and ``<image>/<id>.fits`` of every label with a model.

    The first holds float32 cubes (bands, H, W) in counts, ``RESIDUAL`` and ``MODEL`` (the sum of
    all sources). The second holds ``IMAGE``, ``MODEL`` (the source alone), ``RESIDUAL`` and
    ``MASK`` (uint8, (h, w)) of the label's box and `BORDER_PX` around it. All have the WCS.

    Parameters
    ----------
    beside : folder that the document's cubes are named from.

    Returns
    -------
    list of Path : the files of the images.

    Raises
    ------
    InputError
        When an image has no float cube.
    OutputError
        When a file cannot be written.
    """
    config, written = config_of(doc), []
    for image in doc["images"]:
        frame = Box(0, 0, image["height"], image["width"])
        coadd = saved_coadd(image, beside, frame)
        labels = [
            a for a in doc["annotations"]
            if a["image_id"] == image["id"] and not a.get("iscrowd", 0)
        ]  # fmt: skip
        spots = [(a, peak_of(a, coadd.wcs, coadd, frame)) for a in labels]
        spots = [(a, (x, y)) for a, (x, y) in spots if frame.contains(y, x)]
        peaks = np.array([(y, x) for _, (x, y) in spots], float).reshape(-1, 2)
        fitted = [source for source, _ in refit(coadd, peaks, config, keep_models=True)]
        model = np.zeros_like(coadd.image)
        for source in fitted:
            if source.model is not None:
                model[(slice(None), *source.model[0].slices)] += source.model[1]
        residual = coadd.image - model
        path = folder / Path(flat_name(image["file_name"])).with_suffix(".fits")
        head = _header(coadd.wcs, coadd, image)
        planes = (("RESIDUAL", residual), ("MODEL", model))
        _write(path, [fits.ImageHDU(data, head, name) for name, data in planes])
        written.append(path)
        for (item, _), source in zip(spots, fitted, strict=True):
            if source.model is not None:
                _write_stamp(path.with_suffix("") / f"{item['id']}.fits", item, source, coadd,
                             residual, image)  # fmt: skip
    return written


def _write_stamp(
    path: Path,
    item: Mapping[str, Any],
    source: Source,
    coadd: Coadd,
    residual: Array,
    image: Mapping[str, Any],
) -> None:
    assert source.model is not None
    shape = coadd.shape
    box = box_of(item).expanded(BORDER_PX) & Box.of_shape(shape)
    part = (slice(None), *box.slices)
    where, light = source.model
    model = np.zeros((len(coadd.bands), *box.shape), np.float32)
    inside = where & box
    if inside.area:
        model[(slice(None), *inside.slices_in(box))] = light[
            (slice(None), *inside.slices_in(where))
        ]
    mask = np.zeros(box.shape, np.uint8)
    pixels, own = mask_of(item["segmentation"], shape)
    mask[own.slices_in(box)] = pixels
    wcs = None if coadd.wcs is None else coadd.wcs.slice(box.slices)
    head = _header(wcs, coadd, image)
    head["LABEL"] = (item["id"], "id of the annotation")
    head["X0"], head["Y0"] = (box.x0, "first column in the image"), (box.y0, "first row")
    planes = {"IMAGE": coadd.image[part], "MODEL": model, "RESIDUAL": residual[part], "MASK": mask}
    _write(path, [fits.ImageHDU(data, head, name) for name, data in planes.items()])


def _header(wcs: WCS | None, coadd: Coadd, image: Mapping[str, Any]) -> fits.Header:
    header = fits.Header() if wcs is None else wcs.to_header(relax=True)
    header["BANDS"] = (",".join(coadd.bands), "planes of the cube in order")
    for n, zero in enumerate(coadd.zeropoints, 1):
        if zero is not None and np.isfinite(zero):
            header[f"MAGZP{n}"] = (zero, "AB magnitude of one count")
    header["PICTURE"] = Path(image["file_name"]).name
    return header


def _write(path: Path, hdus: list[fits.ImageHDU]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream)
