"""Short words of the common settings, for the command line and for Python."""

from __future__ import annotations

from collections.abc import Mapping

_DATA = {
    "images": "data.images",
    "classes": "data.classes",
    "nan": "data.nan",
    "strict": "data.strict",
    "iscrowd": "data.iscrowd",
}
_MODEL = {"engine": "model.engine", "model-config": "model.file"}

WORDS: Mapping[str, Mapping[str, str]] = {
    "train": {
        **_DATA,
        **_MODEL,
        "model": "model.name",
        "weights": "model.weights",
        "weights-sha256": "model.weights_sha256",
        "keep-limits": "model.keep_limits",
        "contrast": "data.contrast",
        "stretch": "data.stretch",
        "bands": "data.bands",
        "schedule": "schedule.name",
        "epochs": "schedule.epochs",
        "steps": "schedule.steps",
        "batch": "schedule.batch",
        "batch-size": "schedule.batch",
        "lr": "schedule.lr",
        "crop": "schedule.crop",
        "accumulate": "schedule.accumulate",
        "device": "train.device",
        "amp": "train.amp",
        "workers": "train.workers",
        "cache-mb": "train.cache_mb",
        "patience": "train.patience",
        "least-pixels": "data.least_pixels",
        "reviewed-weight": "data.reviewed_weight",
        "class-weights": "model.class_weights",
        "focal-gamma": "model.focal_gamma",
        "targets": "model.targets",
        "seed": "train.seed",
        "save-every": "train.save_every",
        "validate-every": "train.validate_every",
        "validation-images": "train.validation_images",
        "log-every": "train.log_every",
        "log-to": "train.log_to",
    },
    "predict": {
        **_DATA,
        **_MODEL,
        "score": "predict.score",
        "purity": "predict.purity",
        "calibrated": "predict.calibrated",
        "calibration-score": "predict.calibration_score",
        "nms": "predict.nms",
        "detections": "predict.detections",
        "zeropoint": "predict.zeropoint",
        "scale-tolerance": "predict.scale_tolerance",
        "device": "predict.device",
        "tile-size": "predict.tile_size",
        "overlap": "predict.overlap",
        "whole-up-to": "predict.whole_up_to",
        "seam-iou": "predict.seam_iou",
        "source-iou": "predict.source_iou",
        "batch": "predict.batch",
        "format": "predict.catalog",
        "catalog": "predict.catalog",
        "overlays": "predict.overlays",
        "overlay-score": "predict.overlay_score",
    },
    "evaluate": {
        **_DATA,
        "score": "evaluate.score_threshold",
        "score-threshold": "evaluate.score_threshold",
        "iou-threshold": "evaluate.iou_threshold",
        "band": "evaluate.band",
        "magnitude-step": "evaluate.magnitude_step",
        "resamples": "evaluate.resamples",
        "seed": "evaluate.seed",
        "tiles": "evaluate.tiles",
        "report": "evaluate.report",
    },
}
"""Setting of each short word, by command."""

BRANCHES: Mapping[str, tuple[str, ...]] = {
    "train": ("data", "model", "schedule", "train"),
    "predict": ("data", "model", "predict"),
    "calibrate": ("data", "model", "predict"),
    "evaluate": ("data", "evaluate"),
}
"""Branches of the tree that each command reads."""
