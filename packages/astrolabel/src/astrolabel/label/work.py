"""What a worker does with a tile: read its pixels, label them, write picture, cube and shard."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from astrolabel.core import psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.errors import AstrolabelError, OutputError
from astrolabel.core.files import atomic_path
from astrolabel.core.progress import say_when_compiling
from astrolabel.deblend import make_deblender
from astrolabel.io import pictures
from astrolabel.io.residual_image import write_residual
from astrolabel.label import doubts, shards
from astrolabel.label.overlaps import owned
from astrolabel.label.plan import Task
from astrolabel.label.records import TileLabels
from astrolabel.label.tile import label_tile
from astrolabel.label.tiles import without_data
from astrolabel.label.truth_images import label_truth
from astrolabel.prepare import read


def work(task: Task) -> int:
    """Label one tile and write its shard; the number of labels.

    Nothing that goes wrong in a tile stops the others: it is recorded in the shard.

    Raises
    ------
    OutputError
        When the tile's files cannot be written. That is no fault of the tile, and no state of
        it: on a disk that is full no tile can be done.
    """
    done = shards.read_done(task.out, task.name, task.key)
    if done is not None:
        return len(done["annotations"])  # by a worker that died before it could say so
    say_when_compiling()
    try:
        shard = _shard(task)
    except OutputError:
        raise
    except AstrolabelError as error:
        shard = ended(task, f"failed:{error}")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        shard = {**ended(task, f"failed:{reason}"), "traceback": traceback.format_exc()}
    shards.write(task.out, shard)
    return len(shard["annotations"])


def ended(task: Task, state: str) -> dict[str, Any]:
    """The shard of a tile without an image."""
    return {
        "key": task.key,
        "name": task.name,
        "state": state,
        "notes": [note.to_dict() for note in task.look.known.notes],
        "image": None,
        "annotations": [],
        "sources": [],
    }


def _shard(task: Task) -> dict[str, Any]:
    coadd = read.read(task.files, task.look.known, task.tile.outer, task.config.prepare)
    core = task.tile.core_in_outer
    fault = without_data(coadd, core, task.config.tile.max_no_data)
    if fault is not None:
        return ended(task, f"skipped:{fault}")
    labels = _labels(task, coadd)
    fault = _nothing_found(labels)
    if fault is not None:
        return {**ended(task, f"skipped:{fault}"), "sources": labels.sources}
    shown = coadd.cutout(core)
    image = _image_entry(task, shown, labels)
    sigma = np.array(labels.sky_sigma)
    pictures.write_png(
        task.out / image["file_name"], pictures.rgb(shown.image, sigma, task.look.gains)
    )
    _write_cube(task.out / image["astro"]["cube"], shown)
    if labels.residual is not None:
        write_residual(task.out / image["astro"]["residual"], labels.residual)
    shard = {
        **ended(task, "ok"),
        "image": image,
        "annotations": labels.annotations,
        "sources": labels.sources,
    }
    notes = [*coadd.notes, *labels.notes, *doubts.of_labels(shard, task.config.check)]
    return {**shard, "notes": [note.to_dict() for note in notes]}


def _nothing_found(labels: TileLabels) -> str | None:
    """Why a tile without labels is no image to learn from; None where it is one.

    An image without labels teaches that all in it is sky. So it is left out where what was
    detected in it has no label. Where nothing was detected it is sky, and the run says so.
    """
    if labels.annotations:
        return None
    inside = [s["state"] for s in labels.sources if s["state"] != "skipped:outside the tile"]
    if not inside:
        return None
    commonest = max(inside, key=inside.count)
    return f"none of its {len(inside)} sources has a label ({commonest})"


def _labels(task: Task, coadd: Coadd) -> TileLabels:
    truth = task.files.truth
    if truth is not None:
        return label_truth(coadd, task.tile, task.config, truth, task.files.shape)
    deblender = make_deblender(task.config.deblend)
    return label_tile(coadd, task.tile, task.config, deblender, task.catalog, _ownership(task))


def _ownership(task: Task) -> Any:
    """Which positions in the tile's outer pixels are its coadd's own (see `label_tile`)."""
    if not task.others:
        return None
    one, box = task.look.footprint, task.tile.outer
    return lambda y, x: owned(one, task.others, y + box.y0, x + box.x0)


def _image_entry(task: Task, shown: Coadd, labels: TileLabels) -> dict[str, Any]:
    scale = shown.pixel_scale_arcsec
    widths = [psf.fwhm_px(stamp) for stamp in shown.psfs]
    return {
        "file_name": f"images/{task.name}.png",
        "height": shown.shape[0],
        "width": shown.shape[1],
        "astro": {
            "cube": f"cubes/{task.name}.fits",
            "residual": None if labels.residual is None else f"residuals/{task.name}.png",
            "bands": list(shown.bands),
            "zeropoint": list(shown.zeropoints),
            "wcs": _wcs_cards(shown),
            "origin": list(shown.origin),
            "tract": shown.tract,
            "patch": shown.patch,
            "psf_fwhm_arcsec": [None if scale is None else round(w * scale, 4) for w in widths],
            "sky_sigma": list(labels.sky_sigma),
            "chi2_per_pixel": labels.chi2_per_pixel,
            "state": "ok",
        },
    }


def _wcs_cards(coadd: Coadd) -> dict[str, Any] | None:
    if coadd.wcs is None:
        return None
    header = coadd.wcs.to_header(relax=True)
    return {key: header[key] for key in header if key not in ("COMMENT", "HISTORY", "")}


def _write_cube(path: Path, shown: Coadd) -> None:
    """The tile's pixels: one float32 FITS cube, the bands in order along the first axis."""
    header = fits.Header() if shown.wcs is None else shown.wcs.to_header(relax=True)
    header["BANDS"] = (",".join(shown.bands), "planes of the cube in order")
    for k, (band, zeropoint) in enumerate(zip(shown.bands, shown.zeropoints, strict=True)):
        header[f"BAND{k}"] = (band, f"plane {k}")
        if np.isfinite(zeropoint):
            header[f"ZP{k}"] = (zeropoint, "AB magnitude of one count")
    header["ORIGINY"] = (shown.origin[0], "first row in the survey's frame")
    header["ORIGINX"] = (shown.origin[1], "first column in the survey's frame")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        fits.PrimaryHDU(shown.image, header).writeto(stream)
