"""Scores made probabilities: predict a validation set, fit, store the map in the checkpoint."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from astroseg.core.calibration import Calibration
from astroseg.core.config import Config, configured
from astroseg.core.config.tree import changed
from astroseg.core.errors import InputError
from astroseg.core.files import sha256
from astroseg.engines.base import Engine
from astroseg.evaluation.calibrate import fit_calibration
from astroseg.inference.predict import predict
from astroseg.weights.checkpoint import add_meta, read_header


def calibrate(
    checkpoint: str | Path,
    val: str | Path,
    out: str | Path | None = None,
    config: Config | None = None,
    *,
    engine: Engine | str | None = None,
    quiet: bool = False,
    **words: Any,
) -> Calibration:
    """Store in a checkpoint what its scores mean.

    Parameters
    ----------
    checkpoint : of `astroseg train`. It is replaced, its weights unchanged, unless `out` is given.
    val : COCO file of images that the model was not trained on, labelled.
    out : the checkpoint to write.
    config, words : settings of prediction, as they will be used: tiles, NMS, contrast.
    engine : instead of the one the configuration names.

    Raises
    ------
    InputError
        When a file cannot be used, `val` is the training set, or its detections are too few.
    OutputError
        When the checkpoint cannot be written.
    """
    if isinstance(engine, str):
        words["engine"], engine = engine, None
    config = configured("predict", config, **words)
    checkpoint, val = Path(checkpoint), Path(val)
    header = read_header(checkpoint)
    digest = sha256(val) if val.is_file() else ""
    if digest and header.meta.get("training_data_sha256") == digest:
        raise InputError(
            "is what the model was trained on; its scores are too high there",
            file=val,
            remedy="give a validation set",
        )
    raw = {
        "predict.calibrated": False,
        "predict.purity": None,
        "predict.score": config.predict.calibration_score,
        "predict.overlays": 0,
    }
    with TemporaryDirectory() as folder:
        found = predict(
            checkpoint, [str(val)], folder, changed(config, raw), engine=engine, quiet=quiet
        )
        made = fit_calibration(found.results, val, config)
    meta = {
        "calibration": made.to_json(),
        "calibration_data": val.name,
        "calibration_data_sha256": digest,
    }
    add_meta(checkpoint, out or checkpoint, meta)
    return made


def summary(made: Calibration) -> str:
    """The fit and the working points, as lines of text."""
    rows = [
        f"expected calibration error {made.error:.3f}, {made.error_before:.3f} before",
        *(
            f"{name}: temperature {temperature:.2f}, offset {offset:+.2f}, slopes where a better "
            f"one overlaps {slope:+.2f} and {likeness:+.2f} ({count} detections)"
            for name, temperature, offset, slope, likeness, count in zip(
                made.classes,
                made.temperature,
                made.offset,
                made.slope,
                made.likeness,
                made.detections,
                strict=True,
            )
        ),
        "purity  score  completeness",
        *(
            f"{point.purity:6.3f}  {point.score:5.3f}  {point.completeness:.3f}"
            for point in made.points
        ),
    ]
    return "\n".join(rows)
