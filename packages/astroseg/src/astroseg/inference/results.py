"""Predictions as COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astroseg.core.calibration import SCORE_DIGITS
from astroseg.core.samples import Prediction
from astroseg.core.targets import by_name, columns


def results(
    image_id: int,
    prediction: Prediction,
    category_ids: Sequence[int],
    targets: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """COCO results of an image: box XYWH in pixel edges, mask as RLE.

    Beyond COCO's: ``probabilities`` of all classes in the order of the categories, where the
    engine gives them; ``raw_score`` where ``score`` is a calibrated probability; of the
    attributes that the model learned ``attributes``, ``{redshift, redshift_std, ...}``, and
    ``mixtures``, ``{redshift: {weights, means, stds}}``.
    """
    rows = []
    probabilities, raw = prediction.probabilities, prediction.raw_scores
    # A steep map brings scores together that six digits hold apart.
    digits = SCORE_DIGITS if raw is None else 9
    for box, score, label, mask in zip(
        prediction.boxes, prediction.scores, prediction.labels, prediction.masks, strict=True
    ):
        x0, y0, x1, y1 = (round(float(value), 3) for value in box)
        rows.append(
            {
                "image_id": image_id,
                "category_id": category_ids[int(label)],
                "bbox": [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)],
                "score": round(float(score), digits),
                "segmentation": {"size": list(mask["size"]), "counts": mask["counts"]},
            }
        )
    if raw is not None:
        for row, value in zip(rows, raw, strict=True):
            row["raw_score"] = round(float(value), SCORE_DIGITS)
    if probabilities is not None:
        for row, values in zip(rows, probabilities, strict=True):
            row["probabilities"] = [round(float(value), 6) for value in values]
    if prediction.mixtures is not None and targets:
        numbers = columns(prediction.mixtures, targets)
        mixtures = by_name(prediction.mixtures, targets)
        for i, row in enumerate(rows):
            row["attributes"] = {name: _short(column[i]) for name, column in numbers.items()}
            row["mixtures"] = {
                name: {part: list(map(_short, v[i])) for part, v in mixture._asdict().items()}
                for name, mixture in mixtures.items()
            }
    return rows


def _short(value: float) -> float:
    """Six digits, whatever the unit."""
    return float(f"{value:.6g}")
