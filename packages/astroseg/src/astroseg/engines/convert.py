"""Checkpoints of Detectron2 and DeepDISC made usable by `astroseg predict`.

Such files hold weights alone. What else prediction needs (the model, its classes, bands and
contrast) the user gives here, once, and it is written into the new file's header.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from astroseg.core.config.convert import ConvertConfig
from astroseg.core.errors import InputError, OutputError
from astroseg.core.files import sha256
from astroseg.core.version import __version__
from astroseg.data.units import Units
from astroseg.engines import get_engine
from astroseg.engines.base import Engine
from astroseg.engines.detectron2.file import digest, read_config
from astroseg.engines.detectron2.override import config_spec, with_pixels
from astroseg.models.spec import ModelSpec, model_spec
from astroseg.weights.checkpoint import LoadReport, read_header


def convert(file: str | Path, out: str | Path, config: ConvertConfig) -> LoadReport:
    """Write a checkpoint for `astroseg predict` from the weights of another program.

    Parameters
    ----------
    file : Detectron2's or DeepDISC's ``.pth`` or ``.pkl``, or safetensors of their names.
    out : the checkpoint to write, ``.safetensors``.

    Returns
    -------
    LoadReport : where every tensor went.

    Raises
    ------
    InputError : the weights do not fit the model, or something about it is not given.
    OutputError : `out` exists or cannot be written.
    """
    file, out = Path(file), Path(out)
    config.check()
    if out.exists():
        raise OutputError("exists already", file=out, remedy="give another --out")
    header = read_header(file)
    if header.spec is not None:
        raise InputError(
            "is a checkpoint of astroseg already", file=file, remedy="use it with predict"
        )
    engine, spec = _model(config, dict(header.fields))
    model = engine.build(spec)
    report = engine.load(model, file, allow_missing=config.skip)
    if report.missing:
        raise InputError(
            f"lacks {', '.join(report.missing[:3])} and {max(0, len(report.missing) - 3)} more",
            file=file,
            remedy="give a whole detector's weights; a backbone alone finds nothing",
        )
    meta = {
        "program": f"astroseg {__version__}",
        "contrast": config.contrast,
        "config": json.dumps({"data": {"stretch": config.stretch, "q": config.q}}),
        "units": _units(config).to_json(),
        "bands": json.dumps(list(config.bands)),
        "category_ids": json.dumps(list(range(1, len(config.classes) + 1))),
        "converted_from": file.name,
        "converted_from_sha256": sha256(file),
    }
    if spec.config_program:
        meta |= {
            "config_file": Path(config.config).name,
            "config_sha256": digest(spec.config_program),
        }
    engine.save(model, out, meta)
    return report


def _units(config: ConvertConfig) -> Units:
    """What the user says of the images that the weights were trained on."""
    scale, zeros = config.pixel_scale, config.zeropoint
    each = zeros * (len(config.bands) if len(zeros) == 1 else 1)
    return Units((scale, scale) if scale > 0 else (), each)


def _model(config: ConvertConfig, fields: dict[str, Any]) -> tuple[Engine, ModelSpec]:
    """The engine, and the spec of the model as its weights want it."""
    channels, classes = len(config.bands), config.classes
    pixels: dict[str, Any] = {
        name: getattr(config, name) for name in ("pixel_mean", "pixel_std") if getattr(config, name)
    }
    if config.red_first:
        pixels["reverse_channels"] = False
    if not config.config:
        values = fields | pixels
        return get_engine(), model_spec(config.model, channels=channels, classes=classes, **values)
    made = read_config(config.config)
    spec = config_spec(
        made.text,
        Path(config.config).stem,
        channels=channels,
        classes=classes,
        program=made.program,
    )
    return get_engine("detectron2", made), with_pixels(spec, pixels)
