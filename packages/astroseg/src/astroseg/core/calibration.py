"""The map from a model's scores to probabilities, and the scores that give a purity.

A detection is right where a truth, one-to-one, has a mask IoU of 0.5 and more with it; of which
class it is has probabilities of its own. The map is that of a logistic regression, one for each
class, on the score's logit (Platt 1999, Guo et al. 2017) and on how much the mask overlaps one of a
higher score: the largest part of it that is covered, and the largest IoU. What overlaps a better
one is mostly the same source again, or a piece of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.overlaps import overlap_with_better
from astroseg.core.samples import Prediction

SCORE_DIGITS = 6
"""After the point, that files of predictions keep of a network's score."""

SCORE_END = 10.0**-SCORE_DIGITS
"""Scores nearer to 0 or 1 count as this near."""

ROUNDING = 1e-9
"""Of probabilities, as files keep them."""


@dataclass(frozen=True)
class WorkingPoint:
    """A limit of the calibrated score, and what it gave on the validation set.

    Attributes
    ----------
    purity : fraction of the detections at or above the limit that are right.
    score : the limit.
    completeness : fraction of the truths that these detections find.
    """

    purity: float
    score: float
    completeness: float


@dataclass(frozen=True)
class Calibration:
    """Probability that a detection is right:
    1 / (1 + exp(-(logit(score) / temperature + offset + slope * covered + likeness * iou))).

    Attributes
    ----------
    classes : names.
    temperature, offset : of each class; the temperature is positive.
    slope, likeness : of each class, none of them positive; () for 0.
    detections : of each class that the fit used. Classes with few share one fit.
    error, error_before : expected calibration error with the map and without it.
    points : working points, purity rising.
    """

    classes: tuple[str, ...]
    temperature: tuple[float, ...]
    offset: tuple[float, ...]
    detections: tuple[int, ...] = ()
    error: float = math.nan
    error_before: float = math.nan
    points: tuple[WorkingPoint, ...] = ()
    slope: tuple[float, ...] = ()
    likeness: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        columns = self.temperature, self.offset, *self.slopes
        if any(len(column) != len(self.classes) for column in columns):
            raise ValueError(f"{len(self.classes)} classes, {columns}")
        if not np.isfinite(columns).all() or min(self.temperature, default=1) <= 0:
            raise ValueError(f"temperatures {self.temperature}, offsets {self.offset}")
        if max(max(column, default=0) for column in self.slopes) > 0:
            raise ValueError(f"slopes {self.slopes}")

    @property
    def slopes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """`slope` and `likeness` of each class, also where none are given."""
        none = (0.0,) * len(self.classes)
        return self.slope or none, self.likeness or none

    def probability(
        self, score: NDArray[Any], label: NDArray[np.int64], overlap: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N,) probabilities of raw scores, labels from 0 and overlaps (N, 2), as
        `overlap_with_better` gives them."""
        steep, offset = 1 / np.array(self.temperature), np.array(self.offset)
        lower = (np.array(self.slopes).T[label] * overlap).sum(axis=1)
        return sigmoid(logit(score) * steep[label] + offset[label] + lower)

    def raw(self, probability: float) -> float:
        """The least raw score of any class that can have this probability: nothing covers it."""
        if probability <= 0:
            return 0.0
        place = logit(np.array([probability]))
        raw = sigmoid((place - np.array(self.offset)) * np.array(self.temperature))
        # Below by more than rounding: what lies between is dropped by its probability.
        return max(0.0, float(raw.min(initial=1.0)) - SCORE_END)

    def score_of(self, purity: float) -> float:
        """The lowest stored limit of a purity of at least that much.

        Raises
        ------
        InputError
            When no stored limit is as pure.
        """
        good = [point for point in self.points if point.purity >= purity - 1e-9]
        if not good:
            best = max((point.purity for point in self.points), default=0.0)
            raise InputError(
                f"no score gave a purity of {purity:g} on the calibration's validation set; the "
                f"highest stored one is {best:.3f}",
                remedy="ask for less, or give --score",
            )
        return min(point.score for point in good)

    def of(self, classes: Sequence[str]) -> Calibration:
        """The same with the classes in another order."""
        order = [self.classes.index(name) for name in classes]
        return replace(
            self,
            classes=tuple(classes),
            temperature=tuple(self.temperature[i] for i in order),
            offset=tuple(self.offset[i] for i in order),
            detections=tuple(self.detections[i] for i in order) if self.detections else (),
            slope=tuple(self.slope[i] for i in order) if self.slope else (),
            likeness=tuple(self.likeness[i] for i in order) if self.likeness else (),
        )

    def apply(self, found: Prediction, least: float) -> Prediction:
        """Detections with probabilities as scores, best first; those below `least` left out."""
        # Of the digits that files keep: the fit and its limits were made from a file.
        raw = np.round(found.scores.astype(np.float64), SCORE_DIGITS)
        overlap = overlap_with_better(found.masks, found.boxes, raw)
        score = self.probability(raw, found.labels, overlap)
        order = np.argsort(-score, kind="stable")
        order = order[score[order] >= least - ROUNDING]
        kept = found.take(order)
        return replace(kept, scores=score[order], raw_scores=kept.scores)

    def to_json(self) -> str:
        """As checkpoints hold it."""
        known = {k: v for k, v in asdict(self).items() if v == v}  # no NaN
        return json.dumps(known, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """As `to_json` wrote it; ValueError for anything else."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error


def logit(score: NDArray[Any]) -> NDArray[np.float64]:
    """log(s / (1 - s)) of scores, away from 0 and 1."""
    clipped = np.clip(np.asarray(score, np.float64), SCORE_END, 1 - SCORE_END)
    return np.log(clipped / (1 - clipped))


def sigmoid(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0, -value))
