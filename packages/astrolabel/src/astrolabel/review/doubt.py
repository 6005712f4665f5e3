"""How doubtful each label is, and why: the order in which a person should look at them.

Five faults are looked for. Each has a number from 0 to 1, and the largest counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.review.disagreement import Compared
from astrolabel.review.light import Light

REASONS = ("", "no light", "part of a source", "two sources", "class", "disagreement")
LEAST_SIGMA, SURE_SIGMA = 3.0, 1.0
"""Median brightness of a mask's pixels from which there is light, and below which there is none:
masks are cut at several sigma."""
SURE_GAIN = 0.4
"""Gain of IoU by which labels that lie in one prediction, or the other way round, surely belong
together."""
SURE_SECOND = 20.0
"""Sigma by which a second peak stands out where it surely is another source."""
SURE_CLASS = 3.0
"""Log likelihood ratio of the classes, given the label's width, that is beyond doubt where a
prediction has another class too; without a prediction it takes `ALONE_CLASS` more."""
ALONE_CLASS = 10.0
ALONE = 0.5
"""Weight of a cut border, or a width, that no prediction confirms."""
OTHER = 0.6
"""Weight of any other disagreement with predictions or the truth: it is mostly their fault."""
MEMBERS = 40
"""Labels of a class and of like flux that their usual width is taken from."""

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Doubt:
    """Of N labels: `score` 0 to 1, and `reason`, the index in `REASONS` of what it is for."""

    score: Values
    reason: NDArray[np.int64]


def doubts(light: Light, classes: NDArray[np.int64], compared: Sequence[Compared] = ()) -> Doubt:
    """The doubt of each label.

    Parameters
    ----------
    light : of the labels.
    classes : (N,) index of the class; -1 of ignore regions.
    compared : the labels against predictions and truth, where there are such.
    """
    number = len(classes)
    zero = np.zeros(number)
    none = np.clip((LEAST_SIGMA - light.median) / (LEAST_SIGMA - SURE_SIGMA), 0, 1)
    second = np.clip(light.second / SURE_SECOND, 0, 1)
    border = np.where(np.isnan(light.border), 1, light.border)
    ratio = class_ratio(light, classes)
    part, wide, differs = ALONE * np.nan_to_num(light.border), zero, zero.astype(bool)
    if compared:
        part = np.max([np.clip(c.parts / SURE_GAIN, 0, 1) * border for c in compared], axis=0)
        wide = np.max([np.clip(c.members / SURE_GAIN, 0, 1) for c in compared], axis=0)
        differs = np.any([c.differs for c in compared], axis=0)
    confirmed = np.clip(ratio / SURE_CLASS, 0, 1)
    alone = ALONE * np.clip((ratio - SURE_CLASS) / ALONE_CLASS, 0, 1)
    other = OTHER * np.max([zero, *(c.score for c in compared)], axis=0)
    found = np.nan_to_num(
        [none, part, np.fmax(second, wide), np.where(differs, confirmed, alone), other]
    )
    found[:, classes < 0] = 0
    score = found.max(axis=0)
    return Doubt(score, np.where(score > 0, found.argmax(axis=0) + 1, 0))


def class_ratio(light: Light, classes: NDArray[np.int64]) -> Values:
    """(N,) log likelihood ratio of the best other class to a label's own, by its width at its flux.

    The usual width of each class, and its scatter, are those of the labels themselves; zero
    where a class has less than `MEMBERS`.
    """
    known = (light.flux > 0) & (light.width > 0)
    flux = np.log(np.where(known, light.flux, 1))
    width = np.log(np.where(known, light.width, 1))
    usual = {}
    for one in np.unique(classes[(classes >= 0) & known]):
        members = np.flatnonzero(known & (classes == one))
        if len(members) >= MEMBERS:
            middle, scatter = _usual(flux[members], width[members], flux)
            z = np.minimum(np.abs(width - middle) / scatter, 10)
            usual[int(one)] = -0.5 * z**2 - np.log(scatter)
    ratio = np.zeros(len(classes))
    for one, own in usual.items():
        others = [likelihood for k, likelihood in usual.items() if k != one]
        if others:
            mine = known & (classes == one)
            ratio[mine] = (np.max(others, axis=0) - own)[mine]
    return ratio


def _usual(flux: Values, width: Values, at: Values) -> tuple[Values, Values]:
    """Median and scatter of the log of the width by the log of the flux, at fluxes."""
    order = np.argsort(flux)
    parts = np.array_split(order, max(len(order) // MEMBERS, 1))
    x = [float(np.median(flux[p])) for p in parts]
    middle = [float(np.median(width[p])) for p in parts]
    scatter = [
        max(1.4826 * float(np.median(np.abs(width[p] - m))), 0.02)
        for p, m in zip(parts, middle, strict=True)
    ]
    return np.interp(at, x, middle), np.interp(at, x, scatter)
