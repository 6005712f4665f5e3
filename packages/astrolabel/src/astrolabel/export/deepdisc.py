"""The files around a list of Detectron2 records: arrays to train on, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path, write_bytes
from astrolabel.io import coco, pictures
from astrolabel.io.detectron2_records import array_name, to_records
from astrolabel.io.layer_pixels import read_image
from astrolabel.io.layers import find_layers, open_fits, read_wcs

PICTURES = (".png", ".jpg", ".jpeg")


def write_deepdisc(path: Path, doc: Mapping[str, Any], folder: Path) -> Path:
    """Write the records of a document, and a (C, H, W) float32 array of each cube beside.

    Paths in the records are relative to the folder of the list.

    Parameters
    ----------
    folder : where the document's images and cubes lie.

    Raises
    ------
    InputError
        For a cube that is not there; nothing is written then.
    OutputError
        When a file cannot be written.
    """
    cubes = [i for i in doc["images"] if (i.get("astro") or {}).get("cube")]
    for image in cubes:
        if not (folder / image["astro"]["cube"]).is_file():
            raise InputError(
                "there is no such cube",
                file=folder / image["astro"]["cube"],
                remedy="keep the cubes beside the label file",
            )
    for image in cubes:
        with open_fits(folder / image["astro"]["cube"]) as hdus:
            array = np.ascontiguousarray(hdus[0].data, np.float32)
        target = path.parent / array_name(image)
        with atomic_path(target) as temporary, temporary.open("wb") as stream:
            np.save(stream, array)
    records = to_records(doc)
    for record in records:
        own = record["astrolabel"]
        moved = coco.rebased(
            {"file_name": record["file_name"], "astro": own["astro"]}, folder, path.parent
        )
        record["file_name"], own["astro"] = moved["file_name"], moved["astro"]
    write_bytes(path, coco.list_json(records).encode("ascii"))
    return path


def with_pictures(doc: Mapping[str, Any], folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """A document of records with a picture and a cube of each image, written to `out`.

    An image is a FITS file per band, a FITS or ``.npy`` cube (bands first), the common
    start of files ``<start>_<band>.fits``, or a picture, which is copied.

    Parameters
    ----------
    folders : in which the names of the records are looked for, whole and then without
        their own folders.

    Raises
    ------
    InputError
        For an image that is not there, or of another size than its record says.
    """
    if any((image.get("astro") or {}).get("cube") for image in doc["images"]):
        raise InputError(
            "--images is for other programs' records; these have pictures and cubes already",
            remedy="leave it out",
        )
    found = [_found(image, folders) for image in doc["images"]]
    stems = [files[0].name.split(".")[0] for files, _ in found]
    names = [
        stem if stems.count(stem) == 1 else f"{image['id']}-{stem}"
        for stem, image in zip(stems, doc["images"], strict=True)
    ]
    images = []
    for image, (files, bands), name in zip(doc["images"], found, names, strict=True):
        if files[0].suffix.lower() in PICTURES:
            target = f"images/{name}{files[0].suffix.lower()}"
            pictures.copy_picture(files[0], out / target, remedy="make it again")
            images.append({**image, "file_name": target})
            continue
        pixels, wcs = _pixels(files)
        if pixels.shape[1:] != (image["height"], image["width"]):
            raise InputError(
                f"{pixels.shape[1]}x{pixels.shape[2]} pixels, but its record says "
                f"{image['height']}x{image['width']}",
                file=files[0],
            )
        bands = bands if len(bands) == len(pixels) else [str(k) for k in range(len(pixels))]
        header = fits.Header() if wcs is None else wcs.to_header(relax=True)
        cards = {key: header[key] for key in header if key not in ("COMMENT", "HISTORY", "")}
        header["BANDS"] = (",".join(bands), "planes of the cube in order")
        with atomic_path(out / f"cubes/{name}.fits") as temporary, temporary.open("wb") as stream:
            fits.PrimaryHDU(pixels, header).writeto(stream)
        pictures.write_png(out / f"images/{name}.png", pictures.rgb(pixels))
        astro = {"cube": f"cubes/{name}.fits", "bands": bands, "wcs": cards or None}
        images.append({**image, "file_name": f"images/{name}.png", "astro": astro})
    return {**doc, "images": images}


def _found(image: Mapping[str, Any], folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """(files, bands) of an image."""
    astro = image.get("astro") or {}
    names = astro.get("files") or [image["file_name"]]
    bands = list(astro.get("bands") or ())
    for places in ([f / n for n in names] for f in folders):
        if all(p.is_file() for p in places):
            return places, bands
    for folder in folders:
        flat = [folder / Path(n).name for n in names]
        if all(p.is_file() for p in flat):
            return flat, bands
        if len(names) == 1:
            for start in (folder / names[0], flat[0]):
                parts = sorted(start.parent.glob(f"{start.name}_*.fits*"))
                if parts:
                    order = "ugrizy"
                    ends = {p: p.name[len(start.name) + 1 :].split(".")[0] for p in parts}
                    parts.sort(key=lambda p: (order.find(ends[p]) % 7, ends[p]))
                    return parts, [ends[p] for p in parts]
    raise InputError(
        f"image {image['id']} of the records is not there ({names[0]})",
        file=folders[0],
        remedy="say with --images in which folder its files lie",
    )


def _pixels(files: Sequence[Path]) -> tuple[NDArray[np.float32], WCS | None]:
    """((C, H, W), WCS of the first)."""
    if files[0].suffix == ".npy":
        try:
            # Never a pickle: that may run any program.
            cube = np.load(files[0], allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"not a readable array ({error})", file=files[0]) from error
        if cube.ndim != 3:
            raise InputError(f"an array of shape {cube.shape}, not (bands, H, W)", file=files[0])
        return np.ascontiguousarray(cube, np.float32), None
    layers = [layer for file in files for layer in find_layers(file)]
    for layer in layers:
        if layer.shape != layers[0].shape:
            raise InputError(f"its pixels are not those of {layers[0].path.name}", file=layer.path)
    cube = np.stack([read_image(layer, Box.of_shape(layer.shape)) for layer in layers])
    return cube, read_wcs(layers[0])
