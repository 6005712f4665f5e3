"""What a detection's score is, and from which on it is kept."""

from __future__ import annotations

from pathlib import Path

from astroseg.core.calibration import Calibration
from astroseg.core.config import PredictConfig
from astroseg.core.errors import InputError
from astroseg.models.spec import ModelSpec
from astroseg.weights.checkpoint import Header


def stored_calibration(
    checkpoint: Path, header: Header, spec: ModelSpec, how: PredictConfig
) -> Calibration | None:
    """The checkpoint's calibration; None where it has none or none is wanted."""
    if not how.calibrated or "calibration" not in header.meta:
        return None
    try:
        return Calibration.from_json(header.meta["calibration"]).of(spec.classes)
    except ValueError as error:
        raise InputError(
            f"has a broken calibration ({error})",
            file=checkpoint,
            remedy="run astroseg calibrate again, or predict with --calibrated false",
        ) from error


def least_score(
    checkpoint: Path, spec: ModelSpec, how: PredictConfig, calibration: Calibration | None
) -> float:
    """Limit of the scores as they are written."""
    if how.purity is None:
        return spec.score_threshold if how.score is None else how.score
    if how.score is not None:
        raise InputError("both a score and a purity are given", remedy="give --score or --purity")
    if calibration is None:
        raise InputError(
            "is not calibrated, so no score is known to give a purity",
            file=checkpoint,
            remedy="run astroseg calibrate first, or give --score",
        )
    return calibration.score_of(how.purity)
