"""What an evaluation gives: the numbers, and the pairs behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from astroseg.evaluation.metrics import bins
from astroseg.evaluation.metrics.ap_report import ApReport
from astroseg.evaluation.metrics.classification import ByThreshold, Classification
from astroseg.evaluation.metrics.deblending import Deblending
from astroseg.evaluation.metrics.detection import Detection
from astroseg.evaluation.metrics.matching import Candidates, Pairs
from astroseg.evaluation.metrics.objects import EvaluationSet
from astroseg.evaluation.metrics.reliability import Reliability
from astroseg.evaluation.metrics.targets import TargetScores


@dataclass(frozen=True)
class Metrics:
    """Everything `metrics.json` holds.

    Attributes
    ----------
    schema : version of this layout.
    info : program, library versions, configuration, files and what the files say of
        themselves (engine, checkpoint).
    counts : what there was, and what was left out, by a name that says why.
    box_ap, mask_ap : AP; mask_ap is None where a file has no masks.
    detection, classification, deblending, by_threshold, reliability : see their modules.
    targets : of the learned attributes by name, empty where the predictions have none.
    """

    schema: int
    info: dict[str, Any]
    counts: dict[str, int]
    box_ap: ApReport
    mask_ap: ApReport | None
    detection: Detection
    classification: Classification
    deblending: Deblending
    by_threshold: ByThreshold
    reliability: Reliability
    targets: dict[str, TargetScores] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A test set with its metrics and the pairs behind them, for the page's pictures.

    Attributes
    ----------
    data : truth and detections.
    pairs : those that matched.
    box_iou : candidates' IoU of boxes.
    mask_iou : of masks, None where there are none.
    attributes : what metrics are binned by.
    placed : where each detection falls, by attribute.
    metrics : the numbers.
    """

    data: EvaluationSet
    pairs: Pairs
    box_iou: Candidates
    mask_iou: Candidates | None
    attributes: tuple[bins.Attribute, ...]
    placed: dict[str, bins.Placed]
    metrics: Metrics
