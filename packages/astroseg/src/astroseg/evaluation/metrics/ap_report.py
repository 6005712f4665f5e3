"""AP of a test set as it is reported: by class, size and attribute, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation.metrics import ap, bins, bootstrap
from astroseg.evaluation.metrics.matching import Candidates
from astroseg.evaluation.metrics.objects import EvaluationSet


@dataclass(frozen=True)
class ApScores:
    """AP over IoU 0.50 to 0.95, at 0.50 and at 0.75, each with its interval.

    Attributes
    ----------
    truths : objects to find.
    """

    ap: bootstrap.Interval
    ap50: bootstrap.Interval
    ap75: bootstrap.Interval
    truths: int


@dataclass(frozen=True)
class ApReport:
    """AP of one kind of IoU.

    Attributes
    ----------
    mean : over the classes that occur, as COCO averages.
    classes : by class name.
    any_class : classes aside: is it an object, and is it outlined.
    sizes : by COCO size, then "mean" or class name: [AP, AP50, AP75].
    bins : by attribute, then class name ("any" for classes aside): AP and AP50 per bin.
    max_detections : most detections of one image; all were counted.
    """

    mean: ApScores
    classes: dict[str, ApScores]
    any_class: ApScores
    sizes: dict[str, dict[str, list[float]]]
    bins: dict[str, dict[str, dict[str, list[float]]]]
    max_detections: int


def ap_report(
    data: EvaluationSet,
    kind: ap.Kind,
    candidates: Candidates,
    attributes: tuple[bins.Attribute, ...],
    placed: dict[str, bins.Placed],
    weights: NDArray[np.float32],
) -> ApReport:
    """AP tables, their intervals and their bins."""
    truth, detections = data.truth, data.detections
    n, n_images = len(data.classes), len(data.images)
    table = ap.coco_ap(data.images, n, truth, detections, kind, candidates)
    matches = ap.match_all(truth, detections, candidates, by_class=True)
    free = ap.match_all(truth, detections, candidates, by_class=False)
    every_t, every_d = np.ones(len(truth), bool), np.ones(len(detections), bool)
    samples = np.stack(
        [
            ap.average_precision(
                matches, truth, detections, weights,
                truths=truth.label == k, found=detections.label == k,
            )
            for k in range(n)
        ]
    )  # fmt: skip
    values = np.stack([table.ap[:, 0], table.ap50[:, 0], table.ap75[:, 0]], axis=1)
    one = np.ones((1, len(data.images)))
    any_value = ap.average_precision(free, truth, detections, one, truths=every_t, found=every_d)
    any_samples = ap.average_precision(
        free, truth, detections, weights, truths=every_t, found=every_d
    )
    per_class = np.bincount(truth.label[~truth.ignored], minlength=n)
    return ApReport(
        mean=_scores(_nanmean(values), _nanmean(samples), int(per_class.sum()), n_images),
        classes={
            name: _scores(values[k], samples[k], int(per_class[k]), n_images)
            for k, name in enumerate(data.classes)
        },
        any_class=_scores(_three(any_value[0]), any_samples, int(per_class.sum()), n_images),
        sizes={
            size: _size_row(data.classes, table, column) for column, size in enumerate(ap.SIZES)
        },
        bins={
            item.name: _ap_bins(data, matches, free, item, placed[item.name]) for item in attributes
        },
        max_detections=table.max_detections,
    )


def _ap_bins(
    data: EvaluationSet,
    matches: ap.Matches,
    free: ap.Matches,
    attribute: bins.Attribute,
    placed: bins.Placed,
) -> dict[str, dict[str, list[float]]]:
    """AP and AP50 in the bins of an attribute, by class and classes aside ("any")."""
    truth, detections = data.truth, data.detections
    t_bin = attribute.bin(truth.attributes[attribute.name])
    d_bin = attribute.bin(placed.values)
    one = np.ones((1, len(data.images)))
    out: dict[str, dict[str, list[float]]] = {}
    for k, name in enumerate((*data.classes, "any")):
        is_any = k == len(data.classes)
        mine_t = np.ones(len(truth), bool) if is_any else truth.label == k
        mine_d = np.ones(len(detections), bool) if is_any else detections.label == k
        rows = [
            ap.average_precision(
                free if is_any else matches, truth, detections, one,
                truths=mine_t & (t_bin == b), found=mine_d & (d_bin == b),
            )[0]
            for b in range(attribute.n_bins)
        ]  # fmt: skip
        out[name] = {
            "ap": [float(row.mean()) for row in rows],
            "ap50": [float(row[0]) for row in rows],
        }
    return out


def _three(by_threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP, AP50 and AP75 of (..., T) precisions."""
    return np.stack(
        [by_threshold.mean(axis=-1), by_threshold[..., 0], by_threshold[..., 5]], axis=-1
    )


def _nanmean(by_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is there, NaN where nothing is."""
    there = np.isfinite(by_class)
    count = there.sum(axis=0)
    total = np.where(there, by_class, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _scores(
    value: NDArray[np.float64], samples: NDArray[np.float64], truths: int, n_images: int
) -> ApScores:
    """Intervals of (3,) AP, AP50, AP75 from (R, T) resamples."""
    three = _three(samples)
    ap_, ap50, ap75 = (
        bootstrap.interval(float(v), three[:, k], n_images) for k, v in enumerate(value)
    )
    return ApScores(ap_, ap50, ap75, truths)


def _size_row(classes: tuple[str, ...], table: ap.ApTable, size: int) -> dict[str, list[float]]:
    rows = np.stack([table.ap[:, size], table.ap50[:, size], table.ap75[:, size]], axis=1)
    out = {"mean": _nanmean(rows).tolist()}
    out.update({name: rows[k].tolist() for k, name in enumerate(classes)})
    return out
