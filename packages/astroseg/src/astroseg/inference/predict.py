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
import torch
from astropy.table import Table
from numpy.typing import NDArray

from astroseg.core.calibration import Calibration
from astroseg.core.config import (
    BRANCHES,
    Config,
    DataConfig,
    config_hash,
    configured,
    leaves,
    to_dict,
)
from astroseg.core.config.tree import from_dict
from astroseg.core.device import choose_device
from astroseg.core.errors import InputError
from astroseg.core.files import read_json, remove_abandoned, sha256, write_json, write_rows
from astroseg.core.progress import Progress
from astroseg.core.samples import Prediction
from astroseg.core.version import __version__
from astroseg.data.dataset import Dataset, ImageRecord, configured_dataset
from astroseg.data.images import Pixels
from astroseg.data.inputs import expand, image_record
from astroseg.data.look import band_names, look_at, read_record
from astroseg.data.units import Units, gains, with_zeropoint
from astroseg.engines import get_engine
from astroseg.engines.base import Engine
from astroseg.engines.detectron2.file import read_config
from astroseg.inference.coadd import Frame, predict_image, tiles_of
from astroseg.inference.overlay import reduction, write_overlay
from astroseg.inference.results import results
from astroseg.inference.scores import least_score, stored_calibration
from astroseg.inference.segmentation import segmentation_maps, write_segmentation
from astroseg.inference.sky import check_format, image_catalog, write_catalog
from astroseg.inference.tiling import Tile
from astroseg.models.spec import ModelSpec
from astroseg.weights.builtin import checkpoint_file
from astroseg.weights.checkpoint import Header, read_header

RESULTS_NAME = "predictions.json"
INFO_NAME = "predictions.info.json"
CATALOG_NAME = "catalog"
OVERLAYS_NAME = "overlays"
SEGMENTATION_NAME = "segmentation"
NO_MATTER = (
    "model.file",
    "predict.device",
    "predict.overlays",
    "predict.overlay_score",
    "predict.calibration_score",
    "predict.segmentation",
)
"""Options that the detections do not depend on: a run goes on whatever they are."""
OF_THE_CHECKPOINT = ("stretch", "q", "zscale_amplitude", "clip_sigma", "noise", "sky_cell")
"""Settings of the data that a model is applied with as it was trained."""
PARTS_NAME = "parts"


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


@dataclass(frozen=True, eq=False)
class Job:
    """What is the same for all images."""

    engine: Engine
    model: torch.nn.Module
    spec: ModelSpec
    header: Header
    data: DataConfig
    config: Config
    category_ids: tuple[int, ...]
    key: str
    calibration: Calibration | None
    least: float
    units: Units

    def frame(self, record: ImageRecord, pixels: Pixels) -> Frame:
        """An image as the model reads it, in the units of the training."""
        record = with_zeropoint(record, pixels, self.config.predict.zeropoint)
        data = self.data
        look = look_at(
            record,
            pixels,
            data.bands,
            self.spec.channels,
            data,
            lambda order: gains(record, pixels, order, self.units, data, self.config.predict),
        )
        return Frame(record, pixels, look, data)

    def detect(self, frame: Frame, tiles: Sequence[Tile], **more: Any) -> Prediction:
        """What the model finds, with probabilities as scores where the checkpoint was calibrated.

        `more` is as of `predict_image`.
        """
        found = predict_image(
            self.engine,
            self.model,
            frame,
            self.config.predict,
            tiles,
            least_side=self.spec.least_side,
            **more,
        )
        return found if self.calibration is None else self.calibration.apply(found, self.least)

    def tiles(self, record: ImageRecord) -> tuple[Tile, ...]:
        """Of an image."""
        trained_on = int(self.header.meta.get("image_side", "0"))
        return tiles_of((record.height, record.width), self.config.predict, trained_on)


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
    header = read_header(checkpoint)
    if header.spec is None:
        raise InputError(
            "does not say what model, bands and contrast it is for",
            file=checkpoint,
            remedy="give a checkpoint written by astroseg train",
        )
    engine = engine or choose_engine(config, header.engine, header.spec)
    records, ids = _inputs(inputs, config.data, header)
    remove_abandoned(out, (RESULTS_NAME, INFO_NAME, f"{CATALOG_NAME}{suffix}"))
    job = make_job(checkpoint, header, header.spec, engine, config, ids)
    total = 0
    with Progress(sum(len(job.tiles(record)) for record in records), "tile", quiet) as progress:
        for number, record in enumerate(records):
            overlay = config.predict.overlays < 0 or number < config.predict.overlays
            total += len(_finished(job, record, out, overlay, progress)["annotations"])
            progress.note(f"{total} detections")
        result = _merge(job, records, checkpoint, out, suffix)
        for note in result.notes:
            progress.say(note)
    return result


def choose_engine(config: Config, trained_with: str, spec: ModelSpec) -> Engine:
    """The engine asked for; else the one that trained the model, or any that works."""
    wanted = config.model.engine
    if config.model.file and not spec.config_program:
        raise InputError(
            f"the model {spec.name} needs no configuration file",
            file=config.model.file,
            remedy="leave --config out",
        )
    if config.model.file:
        file = read_config(config.model.file, spec.config_program)
        return get_engine("detectron2" if wanted == "auto" else wanted, file)
    if wanted != "auto" or not trained_with:
        return get_engine(wanted)
    try:
        return get_engine(trained_with)
    except InputError:  # it is not installed here; others read the same checkpoints
        return get_engine("auto")


def make_job(
    checkpoint: Path,
    header: Header,
    spec: ModelSpec,
    engine: Engine,
    config: Config,
    ids: tuple[int, ...],
) -> Job:
    model = engine.build(spec)
    engine.load(model, checkpoint)
    model.to(choose_device(config.predict.device)).eval()
    how, meta = config.predict, header.meta
    calibration = stored_calibration(checkpoint, header, spec, how)
    least = least_score(checkpoint, spec, how, calibration)
    raw = least if calibration is None else calibration.raw(least)
    engine.set_thresholds(model, score=raw, nms=how.nms, detections=how.detections or None)
    try:
        trained = json.loads(meta.get("config", "{}")).get("data", {})
        bands = json.loads(meta.get("bands", "[]"))
        known = {k: v for k, v in trained.items() if k in OF_THE_CHECKPOINT}
        values = {**known, "contrast": meta["contrast"], "bands": bands}
        data = from_dict(DataConfig, values, config.data)
        units = Units.from_json(meta.get("units", "{}"))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"has a header without what prediction needs ({error!r})",
            file=checkpoint,
            remedy="give a checkpoint written by astroseg train",
        ) from error
    fixed = {
        "checkpoint": sha256(checkpoint),
        "program": __version__,
        "data": to_dict(data),
        "config": {
            k: v for k, v in leaves(config, *BRANCHES["predict"]).items() if k not in NO_MATTER
        },
        "category_ids": ids,
    }
    key = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
    return Job(engine, model, spec, header, data, config, ids, key, calibration, least, units)


def _inputs(
    inputs: Sequence[str], data: DataConfig, header: Header
) -> tuple[tuple[ImageRecord, ...], tuple[int, ...]]:
    """The images, and the category ids of the model's classes."""
    assert header.spec is not None
    stored = header.meta.get("category_ids")
    ids = tuple(json.loads(stored)) if stored else tuple(range(1, len(header.spec.classes) + 1))
    if not inputs:
        raise InputError("no images are given", remedy="give a COCO file or image files")
    if len(inputs) == 1 and inputs[0].lower().endswith(".json"):
        dataset = configured_dataset(inputs[0], data, labelled=False)
        return dataset.images, _matching_ids(dataset, header.spec.classes, ids)
    return tuple(image_record(text, i) for i, text in enumerate(expand(inputs), start=1)), ids


def _matching_ids(
    dataset: Dataset, classes: Sequence[str], own: tuple[int, ...]
) -> tuple[int, ...]:
    """The dataset's ids of the model's classes; the model's own if it names none."""
    if not dataset.classes:
        return own
    if set(dataset.classes) != set(classes):
        raise InputError(
            f"has the classes {', '.join(dataset.classes)}, but the model knows "
            f"{', '.join(classes)}",
            file=dataset.path,
            remedy="use a model trained on these classes, or a file without categories",
        )
    by_name = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    return tuple(by_name[name] for name in classes)


def _finished(
    job: Job, record: ImageRecord, out: Path, overlay: bool, progress: Progress
) -> dict[str, Any]:
    """The part of one image: as it lies in the folder of parts, or made now."""
    path = out / PARTS_NAME / f"{record.id}.json"
    key = hashlib.sha256(f"{job.key} {_stamp(record)}".encode()).hexdigest()
    stem = f"{record.id:06d}_{Path(record.name).stem}"
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
    prediction = job.detect(
        frame,
        tiles,
        kept=(lambda number: folder / f"{number}.json") if len(tiles) > 1 else None,
        key=key,
        done=progress.advance,
    )
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


def frame_catalog(
    frame: Frame, prediction: Prediction, classes: Sequence[str], targets: Sequence[str] = ()
) -> Table:
    """The sky catalog of an image."""
    record, order = frame.record, frame.look.order
    names = band_names(record, frame.pixels)
    bands = list(frame.data.bands) or [
        names[i] if names else str(place) for place, i in enumerate(order)
    ]
    zeros = [record.zeropoint[i] for i in order if i < len(record.zeropoint)]
    return image_catalog(
        record, prediction, frame.flux, bands, zeros, classes, targets, wcs=frame.wcs
    )


def _write_overlay(job: Job, frame: Frame, prediction: Prediction, path: Path) -> None:
    step = reduction(frame.shape)
    write_overlay(
        path,
        thinned(frame, step),
        prediction,
        step=step,
        pictures=job.data.contrast == "none",
        upwards=frame.record.upwards,
        score=job.config.predict.overlay_score,
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
