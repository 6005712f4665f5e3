"""What crosses the engine seam: plain arrays and RLE, of no framework.

Boxes are XYXY in pixel edges: a mask of the columns x0..x1 and rows y0..y1 has the box
``[x0, y0, x1 + 1, y1 + 1]``. Labels count the classes from 0 in the order of the
dataset's categories. Masks are COCO's compressed RLE dictionaries,
``{"size": [H, W], "counts": str}``, of the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rle = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its truth, ready for a model (contrast and augmentation applied).

    Attributes
    ----------
    image : (C, H, W) float32, C the model's channels.
    boxes : (N, 4) float32 XYXY.
    labels : (N,) int64 from 0.
    masks : N RLEs of (H, W), or `astroseg.core.crops.Crops`, which is such a sequence.
    image_id : of the COCO file.
    ignored : (H, W) bool, regions without truth; None where there are none.
    targets : (N, T) float32, attributes to learn, NaN where unknown; None where there are none.
    weights : (N,) float32 of the objects in the losses; None where all weigh 1.
    """

    image: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: Sequence[Rle]
    image_id: int = 0
    ignored: NDArray[np.bool_] | None = None
    targets: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.boxes.shape != (n, 4) or len(self.masks) != n:
            raise ValueError(
                f"{n} labels, boxes of shape {self.boxes.shape}, {len(self.masks)} masks"
            )


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model finds in one image, best score first.

    Attributes
    ----------
    boxes : (N, 4) float32 XYXY, inside the image.
    scores : (N,) float32 in 0..1.
    labels : (N,) int64 from 0.
    masks : N RLEs of the image's (H, W).
    probabilities : (N, K) float32 of every class, None where the engine does not give them.
        What a row lacks to 1 is the probability of no object.
    limited : whether more detections were found than the limit allowed to keep.
    raw_scores : (N,) the network's own scores, where `scores` are calibrated probabilities
        (`astroseg.core.calibration`, float64); None else.
    mixtures : (N, T, 3, K) float32: weights, means and deviations of the K Gaussians of each
        target of the model, in the target's unit; None for models without targets.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]
    masks: tuple[Rle, ...]
    probabilities: NDArray[np.float32] | None = None
    limited: bool = False
    raw_scores: NDArray[np.floating[Any]] | None = None
    mixtures: NDArray[np.float32] | None = None

    def take(self, index: NDArray[np.intp]) -> Prediction:
        """The detections of those indices, in that order."""
        optional = ("probabilities", "raw_scores", "mixtures")
        known = {name: rows for name in optional if (rows := getattr(self, name)) is not None}
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            masks=tuple(self.masks[int(i)] for i in index),
            **{name: rows[index] for name, rows in known.items()},
        )
