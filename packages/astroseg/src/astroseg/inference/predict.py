"""A checkpoint and images in; COCO results, a sky catalog and pictures out."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from astroseg.core.config import (
    Config,
    DataConfig,
    config_hash,
    configured,
    to_dict,
)
from astroseg.core.device import choose_device
from astroseg.core.errors import InputError
from astroseg.core.files import read_json, remove_abandoned, sha256, write_json, write_rows
from astroseg.core.progress import Progress
from astroseg.core.samples import Prediction
from astroseg.core.version import __version__
from astroseg.data.dataset import Dataset, ImageRecord, configured_dataset
from astroseg.data.inputs import expand, image_records
from astroseg.data.look import band_names, read_record
from astroseg.engines.base import Engine
from astroseg.inference.coadd import Frame
from astroseg.inference.devices import Helpers, Share
from astroseg.inference.job import Job, choose_engine, make_job, trained
from astroseg.inference.overlay import reduction, write_overlay
from astroseg.inference.results import results
from astroseg.inference.segmentation import segmentation_maps, write_segmentation
from astroseg.inference.sky import check_format, image_catalog, write_catalog
from astroseg.weights.builtin import checkpoint_file
from astroseg.weights.checkpoint import read_header

RESULTS_NAME = "predictions.json"
INFO_NAME = "predictions.info.json"
CATALOG_NAME = "catalog"
OVERLAYS_NAME = "overlays"
SEGMENTATION_NAME = "segmentation"
PARTS_NAME = "parts"
NAME_BYTES = 150
"""Of an image's name in those of its pictures and maps, and of the unfinished files beside."""


@dataclass(frozen=True)
class PredictResult:
    """What was written.

    Attributes
    ----------
    results, catalog : the files.
    images, detections : how many.
    notes : what the user should know of single images, a line each.
    """

    results: Path
    catalog: Path
    images: int
    detections: int
    notes: tuple[str, ...] = ()


def predict(
    checkpoint: str | Path,
    inputs: Sequence[str],
    out: str | Path,
    config: Config | None = None,
    *,
    engine: Engine | str | None = None,
    quiet: bool = False,
    **words: Any,
) -> PredictResult:
    """Apply a model to images.

    A run that was interrupted goes on where it stopped: finished images are kept under
    ``parts`` until all are done, and used again if checkpoint, settings and image are
    the same.

    Parameters
    ----------
    checkpoint : safetensors file of a trained model, or the name of a built-in one (``sky``).
    inputs : one COCO file (``.json``), or images; per-band files of one image are joined
        by commas.
    out : folder for ``predictions.json`` (a COCO results list), ``predictions.info.json``
        (images, categories and provenance), the catalog, the segmentation maps and the overlays.
    engine : instead of the one the configuration names.

    Raises
    ------
    InputError
        When checkpoint or images cannot be used, or do not fit each other.
    OutputError
        When `out` cannot be written.
    """
    if isinstance(engine, str):
        words["engine"], engine = engine, None
    config = configured("predict", config, **words)
    checkpoint, out = checkpoint_file(checkpoint), Path(out)
    suffix = check_format(config.predict.catalog)
    devices = config.predict.device.split(",")
    for device in reversed(devices):  # the first is this process's
        choose_device(device)
    job, records = _ready(checkpoint, inputs, config, engine, devices[0])
    remove_abandoned(out, (RESULTS_NAME, INFO_NAME, f"{CATALOG_NAME}{suffix}"))
    if len(devices) > 1:
        with Helpers(devices, _help, (checkpoint, inputs, config, engine, out)) as share:
            _contribute(job, records, out, share, quiet)
    total = 0
    with Progress(sum(len(job.tiles(record)) for record in records), "tile", quiet) as progress:
        for number, record in enumerate(records):
            total += len(_finished(job, record, number, out, progress)["annotations"])
            progress.note(f"{total} detections")
        result = _merge(job, records, checkpoint, out, suffix)
        for note in result.notes:
            progress.say(note)
    return result


def _ready(
    checkpoint: Path,
    inputs: Sequence[str],
    config: Config,
    engine: Engine | None,
    device: str,
) -> tuple[Job, tuple[ImageRecord, ...]]:
    """The model on its device, and the images."""
    header = read_header(checkpoint)
    if header.spec is None:
        raise InputError(
            "does not say what model, bands and contrast it is for",
            file=checkpoint,
            remedy="give a checkpoint written by astroseg train",
        )
    engine = engine or choose_engine(config, header.engine, header.spec)
    classes = header.spec.classes
    own = trained(header, header.spec, checkpoint).category_ids or range(1, len(classes) + 1)
    records, ids = _inputs(inputs, config.data, classes, tuple(own))
    return make_job(checkpoint, header, header.spec, engine, config, ids, device), records


def _help(
    checkpoint: Path,
    inputs: Sequence[str],
    config: Config,
    engine: Engine | None,
    out: Path,
    device: str,
    share: Share,
) -> None:
    """A process that does its share of another one's prediction."""
    job, records = _ready(checkpoint, inputs, config, engine, device)
    _contribute(job, records, out, share, quiet=True)


def _contribute(
    job: Job, records: Sequence[ImageRecord], out: Path, share: Share, quiet: bool
) -> None:
    """Do a share of the tiles of large images, and of the images of one tile."""
    tiles = [len(job.tiles(record)) for record in records]
    whole = share.take([number for number, count in enumerate(tiles) if count == 1])
    mine = [number for number, count in enumerate(tiles) if count > 1 or number in whole]
    total = len(whole) + sum(len(share.take(range(n))) for n in tiles if n > 1)
    with Progress(total, "tile", quiet) as progress:
        for number in mine:
            _finished(job, records[number], number, out, progress, share)


def _inputs(
    inputs: Sequence[str], data: DataConfig, classes: Sequence[str], ids: tuple[int, ...]
) -> tuple[tuple[ImageRecord, ...], tuple[int, ...]]:
    """The images, and the category ids of the model's classes."""
    if not inputs:
        raise InputError("no images are given", remedy="give a COCO file or image files")
    if len(inputs) == 1 and inputs[0].lower().endswith(".json"):
        dataset = configured_dataset(inputs[0], data, labelled=False)
        return dataset.images, _matching_ids(dataset, classes, ids)
    return image_records(expand(inputs)), ids


def _matching_ids(
    dataset: Dataset, classes: Sequence[str], own: tuple[int, ...]
) -> tuple[int, ...]:
    """The dataset's ids of the model's classes, of which it may have more; the model's own if it
    names none."""
    if not dataset.classes:
        return own
    if lacking := [name for name in classes if name not in dataset.classes]:
        raise InputError(
            f"has the classes {', '.join(dataset.classes)}, but not the model's "
            f"{', '.join(lacking)}",
            file=dataset.path,
            remedy="use a model trained on these classes, or a file without categories",
        )
    by_name = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    return tuple(by_name[name] for name in classes)


def _finished(
    job: Job,
    record: ImageRecord,
    number: int,
    out: Path,
    progress: Progress,
    share: Share = Share(),  # noqa: B008  frozen
) -> dict[str, Any]:
    """The part of one image: as it lies in the folder of parts, or made now.

    Of an image of several tiles that other processes predict too, its share of the tiles is
    made, and nothing returned.
    """
    overlay = job.config.predict.overlays < 0 or number < job.config.predict.overlays
    path = out / PARTS_NAME / f"{record.id}.json"
    key = hashlib.sha256(f"{job.key} {_stamp(record)}".encode()).hexdigest()
    stem = f"{record.id:06d}_{_shortened(Path(record.name).stem)}"
    picture = out / OVERLAYS_NAME / f"{stem}.png"
    pixel_map = out / SEGMENTATION_NAME / f"{stem}.fits"
    tiles = job.tiles(record)
    wanted = [picture] * overlay + [pixel_map] * job.config.predict.segmentation
    if path.exists() and all(file.exists() for file in wanted):
        part = read_json(path)
        if part.get("key") == key and path.with_suffix(".fits").exists():
            progress.advance(len(tiles))
            return dict(part)
    frame = job.frame(record, read_record(record))
    folder = path.with_suffix("")
    kept = (lambda tile: folder / f"{tile}.json") if len(tiles) > 1 else None
    more = {"kept": kept, "key": key, "done": progress.advance}
    if kept is not None and share.of > 1:
        job.contribute(frame, tiles, share=share, **more)
        return {}
    prediction = job.detect(frame, tiles, **more)
    table = frame_catalog(frame, prediction, job.spec.classes, job.spec.targets)
    write_catalog(path.with_suffix(".fits"), [table])
    if job.config.predict.segmentation:
        write_segmentation(pixel_map, segmentation_maps(prediction.masks, frame.shape), frame.wcs)
    if overlay:
        _write_overlay(job, frame, prediction, picture)
    notes = []
    if prediction.limited:
        notes.append(
            f"{record.name}: the limit of detections was reached, and sources are left out; "
            "raise it with --detections"
        )
    rows = results(record.id, prediction, job.category_ids, job.spec.targets)
    part = {"key": key, "annotations": rows, "notes": notes, "limited": prediction.limited}
    write_json(path, part)
    shutil.rmtree(folder, ignore_errors=True)
    return part


def _shortened(name: str) -> str:
    """The start of a name that other names are made of: file systems take 255 bytes."""
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def frame_catalog(
    frame: Frame, prediction: Prediction, classes: Sequence[str], targets: Sequence[str] = ()
) -> Table:
    """The sky catalog of an image."""
    record, order = frame.record, frame.look.order
    names = band_names(record, frame.pixels)
    if len(set(names)) < len(names):  # headers that call all bands alike: columns by place
        names = ()
    bands = list(frame.data.bands) or [
        names[i] if names else str(place) for place, i in enumerate(order)
    ]
    zeros = [record.zeropoint[i] for i in order if i < len(record.zeropoint)]
    return image_catalog(
        record, prediction, frame.flux, bands, zeros, classes, targets, wcs=frame.wcs
    )


def _write_overlay(job: Job, frame: Frame, prediction: Prediction, path: Path) -> None:
    step, score = reduction(frame.shape), job.config.predict.overlay_score
    write_overlay(
        path,
        thinned(frame, step),
        prediction,
        step=step,
        pictures=job.data.contrast == "none",
        upwards=frame.record.upwards,
        score=job.spec.score_threshold if score is None else score,
    )


def thinned(frame: Frame, step: int) -> NDArray[np.float32]:
    """(C, h, w) of every `step`-th row and column."""
    height, width = frame.shape
    strips = [frame.flux(y, 0, y + 1, width)[:, :, ::step] for y in range(0, height, step)]
    return np.concatenate(strips, axis=1)


def _stamp(record: ImageRecord) -> str:
    """What changes when an image's files do."""
    stats = [file.stat() for file in record.files if file.exists()]
    return f"{record} {[(s.st_size, s.st_mtime_ns) for s in stats]}"


def _merge(
    job: Job, records: Sequence[ImageRecord], checkpoint: Path, out: Path, suffix: str
) -> PredictResult:
    """The final files from the parts, which are then removed."""
    parts = out / PARTS_NAME
    found: list[dict[str, Any]] = []

    def rows() -> Iterator[dict[str, Any]]:
        """Of one image after the other: a survey's fill more than memory."""
        for record in records:
            part = read_json(parts / f"{record.id}.json")
            found.append({**part, "annotations": len(part["annotations"])})
            yield from part["annotations"]

    write_rows(out / RESULTS_NAME, rows())
    notes = tuple(note for part in found for note in part["notes"])
    tables = [Table.read(parts / f"{r.id}.fits") for r in records]
    catalog = out / f"{CATALOG_NAME}{suffix}"
    write_catalog(catalog, tables)
    classes = zip(job.category_ids, job.spec.classes, strict=True)
    info = {
        "info": {
            "program": f"astroseg {__version__}",
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": sha256(checkpoint),
            "model": job.spec.name,
            "engine": job.engine.name,
            "versions": dict(job.engine.versions()),
            "config": to_dict(job.config),
            "config_hash": config_hash(job.config),
            "contrast": job.data.contrast,
            "bands": list(job.data.bands),
            "targets": list(job.spec.targets),
            "trained": dict(job.header.meta),
            "calibration": None
            if job.calibration is None
            else json.loads(job.calibration.to_json()),
            "least score": job.least,
            "limit reached in": [
                r.name for r, part in zip(records, found, strict=True) if part["limited"]
            ],
            "notes": list(notes),
        },
        "images": [_image_entry(record) for record in records],
        "categories": [{"id": i, "name": name} for i, name in classes],
    }
    write_json(out / INFO_NAME, info, indent=1)
    total = sum(part["annotations"] for part in found)
    shutil.rmtree(parts)
    return PredictResult(out / RESULTS_NAME, catalog, len(records), total, notes)


def _image_entry(record: ImageRecord) -> dict[str, Any]:
    plain = (str, int, float, bool)
    wcs = {k: v for k, v in (record.wcs or {}).items() if isinstance(v, plain)}
    zeros = [z if math.isfinite(z) else None for z in record.zeropoint]
    return {
        "id": record.id,
        "file_name": record.name,
        "height": record.height,
        "width": record.width,
        "astro": {"bands": list(record.bands), "zeropoint": zeros, "wcs": wcs or None},
    }
