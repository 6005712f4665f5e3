"""A model with the settings it is applied with: the same for all images of a prediction."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch

from astroseg.core.calibration import Calibration
from astroseg.core.config import BRANCHES, Config, DataConfig, leaves, to_dict
from astroseg.core.config.tree import from_dict
from astroseg.core.device import choose_device
from astroseg.core.errors import InputError
from astroseg.core.files import sha256
from astroseg.core.samples import Prediction
from astroseg.core.version import __version__
from astroseg.data.dataset import ImageRecord
from astroseg.data.images import Pixels
from astroseg.data.look import band_names, look_at, warn_of_sky
from astroseg.data.units import Units, gains, with_zeropoint
from astroseg.engines import get_engine
from astroseg.engines.base import Engine
from astroseg.engines.detectron2.file import read_config
from astroseg.inference.coadd import (
    Frame,
    norm_sample,
    predict_image,
    predict_tiles,
    side_of_tiles,
    tiles_of,
)
from astroseg.inference.scores import least_score, stored_calibration
from astroseg.inference.tiling import Tile
from astroseg.models.spec import ModelSpec
from astroseg.weights.checkpoint import Header

logger = logging.getLogger(__name__)

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


class _Config(msgspec.Struct):
    data: dict[str, Any] = {}


class Trained(msgspec.Struct):
    """What a checkpoint's header says of the images it was trained on.

    Attributes
    ----------
    category_ids : of the classes, as the labels had them.
    image_side : of the largest image, in pixels; 0 where it is not known.
    """

    category_ids: list[int] = []
    image_side: Annotated[int, msgspec.Meta(ge=0, le=2**20)] = 0
    config: _Config = msgspec.field(default_factory=_Config)
    bands: list[str] = []


def trained(header: Header, spec: ModelSpec, checkpoint: Path) -> Trained:
    """Read what prediction needs of a header.

    Raises
    ------
    InputError : it is not what `train` writes.
    """
    try:
        known = {k: json.loads(v) for k, v in header.meta.items() if k in Trained.__annotations__}
        found = msgspec.convert(known, Trained)
        if found.category_ids and len(found.category_ids) != len(spec.classes):
            raise ValueError(f"{len(found.category_ids)} category_ids, {len(spec.classes)} classes")
    except (ValueError, TypeError, RecursionError, msgspec.ValidationError) as error:
        raise InputError(
            f"has a header without what prediction needs ({error})",
            file=checkpoint,
            remedy="give a checkpoint written by astroseg train",
        ) from error
    return found


BUILDING = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What a network's description that is none may end in."""


@dataclass(frozen=True, eq=False)
class Job:
    """What is the same for all images."""

    engine: Engine
    model: torch.nn.Module
    spec: ModelSpec
    header: Header
    trained: Trained
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
        warn_of_sky([record], [look])
        if data.bands and len(pixels.planes) > 1 and not band_names(record, pixels):
            # No file is named: of many such images it is said once.
            logger.warning(
                "bands that neither header nor dataset names are taken as %s in the order given",
                ", ".join(data.bands),
            )
        return Frame(record, pixels, look, data)

    def detect(self, frame: Frame, tiles: Sequence[Tile], **more: Any) -> Prediction:
        """What the model finds, with probabilities as scores where the checkpoint was calibrated.

        `more` is as of `predict_tiles`.
        """
        found = self._apply(predict_image, frame, tiles, **more)
        return found if self.calibration is None else self.calibration.apply(found, self.least)

    def contribute(self, frame: Frame, tiles: Sequence[Tile], **more: Any) -> None:
        """Predict a share of the tiles, and keep their detections on disk.

        `more` is as of `predict_tiles`.
        """
        self._apply(predict_tiles, frame, tiles, **more)

    def _apply(self, predicted: Any, frame: Frame, tiles: Sequence[Tile], **more: Any) -> Any:
        how, side = self.config.predict, self.trained.image_side
        if how.norm_windows and (len(tiles) > 1 or max(frame.shape) > side_of_tiles(how, side)):
            more["sample"] = partial(norm_sample, frame, how, side)
        least = self.spec.least_side
        return predicted(self.engine, self.model, frame, how, tiles, least_side=least, **more)

    def tiles(self, record: ImageRecord) -> tuple[Tile, ...]:
        """Of an image."""
        side = self.trained.image_side
        shape = record.height, record.width
        return tiles_of(shape, self.config.predict, side, max(self.spec.strides))


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
    device: str,
) -> Job:
    """The model on a device, with what its checkpoint says of its images."""
    try:
        model = engine.build(spec)
    except BUILDING as error:
        raise InputError(
            f"describes a model that cannot be built ({error})".partition("\n")[0],
            file=checkpoint,
            remedy="give a checkpoint written by astroseg train",
        ) from error
    engine.load(model, checkpoint)
    model.to(choose_device(device)).eval()
    how, meta = config.predict, header.meta
    of = trained(header, spec, checkpoint)
    calibration = stored_calibration(checkpoint, header, spec, how)
    least = least_score(checkpoint, spec, how, calibration)
    raw = least if calibration is None else calibration.raw(least)
    engine.set_thresholds(model, score=raw, nms=how.nms, detections=how.detections or None)
    try:
        known = {k: v for k, v in of.config.data.items() if k in OF_THE_CHECKPOINT}
        values = {**known, "contrast": meta["contrast"], "bands": of.bands}
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
    return Job(engine, model, spec, header, of, data, config, ids, key, calibration, least, units)
