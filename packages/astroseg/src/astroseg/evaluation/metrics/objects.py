"""Truth and detections of a whole test set as columns, sorted by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from astroseg.core.samples import Rle


@dataclass(frozen=True)
class Image:
    """One image of the test set.

    Attributes
    ----------
    id : in the truth file.
    file_name : as written there.
    height, width : in pixels.
    astro : the survey's own entry (cube, bands, zero point), empty where there is none.
    """

    id: int
    file_name: str
    height: int
    width: int
    astro: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Objects:
    """Truths or detections, one per row, in the order of the images, then of the file.

    Attributes
    ----------
    image : (N,) int64, index of the image, never falling.
    label : (N,) int64, class from 0.
    boxes : (N, 4) float64 XYWH in pixels, as in the file: AP must agree with
        pycocotools to the last digit, which going to XYXY and back would spoil.
    area : (N,) float64 in pixels: of a truth what its file says, of a detection its box's.
    masks : N compressed RLEs, or None when the file has none.
    mask_area : (N,) float64 in pixels; the boxes' where there are no masks.
    tight : (N, 4) float64 XYWH around the masks; the boxes where there are no masks.
    score : (N,) float64, 1 for truths.
    ignored : (N,) bool, ignore regions: no object to find and no place for false detections.
    attributes : (N,) float64 each, NaN where an object lacks it.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    masks: Sequence[Rle] | None
    mask_area: NDArray[np.float64]
    tight: NDArray[np.float64]
    score: NDArray[np.float64]
    ignored: NDArray[np.bool_]
    attributes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.image)
        columns = (self.label, self.area, self.mask_area, self.score, self.ignored)
        lengths = [len(column) for column in (*columns, *self.attributes.values())]
        if any(length != n for length in lengths) or (
            self.masks is not None and len(self.masks) != n
        ):
            raise ValueError(f"columns of {lengths} rows for {n} objects")
        if self.boxes.shape != (n, 4) or self.tight.shape != (n, 4):
            raise ValueError(f"boxes of shape {self.boxes.shape} for {n} objects")
        if n and (np.diff(self.image) < 0).any():
            raise ValueError("objects are not sorted by image")

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Truth and predictions, checked against each other.

    Attributes
    ----------
    images : in the order of their ids.
    classes : names, in the order of the truth's category ids.
    truth, detections : their objects.
    truth_info, prediction_info : the files' own ``info``.
    folder : of the truth file; the images' names are relative to it.
    without_predictions : ids of images the predictions file does not list.
    repairs : what was repaired in the files and left out of them, one line a reason.
    targets : learned attributes that the predictions hold, with quantiles.
    """

    images: tuple[Image, ...]
    classes: tuple[str, ...]
    truth: Objects
    detections: Objects
    truth_info: Mapping[str, Any]
    prediction_info: Mapping[str, Any]
    folder: Path
    without_predictions: tuple[int, ...] = ()
    repairs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether both sides have masks, so that mask metrics make sense."""
        return self.truth.masks is not None and self.detections.masks is not None


def mask_areas(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """(N,) pixels of each compressed RLE.

    255 at a time: pycocotools 2.0.11 puts their number into a uint8, which raises on more
    under numpy 2.
    """
    parts = [rle.area(list(masks[k : k + 255])) for k in range(0, len(masks), 255)]
    return np.concatenate([np.zeros(0), *parts])
