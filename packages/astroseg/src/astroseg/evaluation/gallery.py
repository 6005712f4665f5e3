"""Which tiles and objects the evaluation's page shows: the worst first, and a typical one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astroseg.evaluation import pictures, plots
from astroseg.evaluation.metrics.bootstrap import per_image
from astroseg.evaluation.metrics.matching import iou_of_pairs
from astroseg.evaluation.metrics.objects import Objects
from astroseg.evaluation.metrics.results import Evaluated

STAMPS = 8
"""Objects of each kind: one row of a page."""

_TRUTH, _FOUND = "#ffffff", "#ff5cff"


def tile_scores(result: Evaluated) -> NDArray[np.float64]:
    """(I,) F-score of detection of each tile, 2 pairs / (truths + detections); 1 for empty."""
    n, data, pairs = len(result.data.images), result.data, result.pairs
    matched = per_image(data.truth.image[pairs.truth], n)[:, 0]
    wrong = (
        per_image(data.truth.image[pairs.missed], n)[:, 0]
        + per_image(data.detections.image[pairs.spurious], n)[:, 0]
    )
    total = 2 * matched + wrong
    return np.where(total > 0, 2 * matched / np.where(total > 0, total, 1), 1.0)


def tile_rows(result: Evaluated, tiles: int) -> list[tuple[str, str]]:
    """Title and picture of the worst tiles, truth on the left and predictions on the right."""
    scores = tile_scores(result)
    worst = np.argsort(scores, kind="stable")[:tiles]
    return [(_tile_title(result, k, scores[k]), _pair_of_panels(result, k)) for k in worst.tolist()]


def typical_tile(result: Evaluated) -> tuple[str, str]:
    """Title and picture of the detections of the tile of median score."""
    scores = tile_scores(result)
    k = int(np.argsort(scores, kind="stable")[len(scores) // 2])
    data, image = result.data, result.data.images[k]
    window = pictures.densest(image, _centres(data.detections, data.detections.image == k))
    made = plots.figure(7.2, 7.2 * (window.y1 - window.y0) / (window.x1 - window.x0))
    axes = made.add_subplot()
    pictures.show(axes, image, pictures.picture(image, data.folder), window)
    pictures.draw_detections(axes, data, result.pairs, k, window)
    return _tile_title(result, k, scores[k]), plots.encode(made, photo=True)


def _tile_title(result: Evaluated, k: int, score: float) -> str:
    data, pairs = result.data, result.pairs
    image = data.images[k]
    return (
        f"{image.file_name or image.id}: {(data.truth.image[pairs.truth] == k).sum()} found, "
        f"{(data.truth.image[pairs.missed] == k).sum()} missed, "
        f"{(data.detections.image[pairs.spurious] == k).sum()} without a truth (F {score:.2f})"
    )


def _pair_of_panels(result: Evaluated, k: int) -> str:
    data, pairs, image = result.data, result.pairs, result.data.images[k]
    wrong = np.concatenate(
        [
            _centres(data.truth, pairs.missed & (data.truth.image == k)),
            _centres(data.detections, pairs.spurious & (data.detections.image == k)),
        ]
    )
    window = pictures.densest(image, wrong)
    made = plots.figure(10.4, 5.2 * (window.y1 - window.y0) / (window.x1 - window.x0) + 0.25)
    left, right = made.subplots(1, 2)
    rgb = pictures.picture(image, data.folder)
    cut = "" if window == pictures.whole(image) else (
        f", x {window.x0}–{window.x1}, y {window.y0}–{window.y1}"
    )  # fmt: skip
    for axes, draw, title in (
        (left, pictures.draw_truth, f"truth{cut}"),
        (right, pictures.draw_detections, "predictions"),
    ):
        pictures.show(axes, image, rgb, window)
        draw(axes, data, pairs, k, window)
        axes.set_title(title, loc="left", fontsize=10)
    return plots.encode(made, photo=True)


def _centres(objects: Objects, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M, 2) x and y of the boxes' centres."""
    return objects.boxes[rows, :2] + objects.boxes[rows, 2:] / 2


@dataclass(frozen=True)
class WorstObjects:
    """Errors of one kind, worst first.

    Attributes
    ----------
    title : the kind.
    stamps : a row of cutouts, as a data URI.
    places : (file name of the image, x, y) of each: the middle of its box in pixels from 0.
    """

    title: str
    stamps: str
    places: tuple[tuple[str, float, float], ...]


def worst_objects(result: Evaluated) -> list[WorstObjects]:
    """A row of stamps for each kind of error that occurs, worst first."""
    data, pairs = result.data, result.pairs
    score = data.detections.score
    missed = np.flatnonzero(pairs.missed)
    missed = missed[np.argsort(-_brightness(result)[missed], kind="stable")]
    false = np.flatnonzero(pairs.spurious)
    false = false[np.argsort(-score[false], kind="stable")]
    confused = np.flatnonzero(
        data.truth.label[pairs.truth] != data.detections.label[pairs.detection]
    )
    confused = confused[np.argsort(-score[pairs.detection[confused]], kind="stable")]
    kinds = [
        ("Brightest missed", data.truth, missed, [_truth_caption(result, k) for k in missed[:8]]),
        (
            "Most confident of what is no object",
            data.detections,
            false,
            [f"{data.classes[data.detections.label[k]]} {score[k]:.2f}" for k in false[:8]],
        ),
        (
            "Most confident in the wrong class",
            data.detections,
            pairs.detection[confused],
            [_confusion_caption(result, int(k)) for k in confused[:8]],
        ),
    ]
    candidates = result.mask_iou or result.box_iou
    iou = iou_of_pairs(candidates, pairs.truth, pairs.detection)
    poor = np.argsort(iou, kind="stable")
    kinds.append(
        ("Worst outlines of what was found", data.truth, pairs.truth[poor],
         [f"IoU {iou[k]:.2f}" for k in poor[:8]])
    )  # fmt: skip
    return [
        WorstObjects(
            title,
            _stamps(result, objects, rows[:STAMPS], captions),
            tuple(_place(result, objects, int(row)) for row in rows[:STAMPS]),
        )
        for title, objects, rows, captions in kinds
        if len(rows)
    ]


def _place(result: Evaluated, objects: Objects, row: int) -> tuple[str, float, float]:
    image = result.data.images[objects.image[row]]
    x, y, width, height = objects.boxes[row].tolist()
    return image.file_name or str(image.id), x + (width - 1) / 2, y + (height - 1) / 2


def _brightness(result: Evaluated) -> NDArray[np.float64]:
    """(N,) of truths: -magnitude where known, else their area's logarithm, fainter than all."""
    truth = result.data.truth
    size = np.log10(np.maximum(truth.mask_area, 1)) - 1e3
    magnitude = next((item.name for item in result.attributes if item.name[:4] == "mag_"), None)
    if magnitude is None:
        return size
    values = truth.attributes[magnitude]
    return np.where(np.isfinite(values), -values, size)


def _truth_caption(result: Evaluated, row: int) -> str:
    name = result.data.classes[result.data.truth.label[row]]
    for item in result.attributes:
        value = result.data.truth.attributes[item.name][row]
        if item.name.startswith("mag_") and np.isfinite(value):
            return f"{name} {item.name[4:]}={value:.1f}"
    return name


def _confusion_caption(result: Evaluated, k: int) -> str:
    data, pairs = result.data, result.pairs
    true = data.classes[data.truth.label[pairs.truth[k]]]
    given = data.classes[data.detections.label[pairs.detection[k]]]
    return f"{true} → {given} {data.detections.score[pairs.detection[k]]:.2f}"


def _stamps(
    result: Evaluated, objects: Objects, rows: NDArray[np.int64], captions: list[str]
) -> str:
    """A row of cutouts, all truths and detections outlined, the one in question thicker."""
    data = result.data
    made = plots.figure(1.42 * STAMPS, 1.62, fitted=False)
    room = {"left": 0.003, "right": 0.997, "bottom": 0.01, "top": 0.87, "wspace": 0.06}
    panels = made.subplots(1, STAMPS, gridspec_kw=room)
    rgb: dict[int, NDArray[np.uint8] | None] = {}
    solid: pictures.LineStyle = "-"
    dashed: pictures.LineStyle = (0, (2, 1.5))
    for axes, row, caption in zip(panels, rows.tolist(), captions, strict=False):
        image = int(objects.image[row])
        if image not in rgb:
            rgb[image] = pictures.picture(data.images[image], data.folder)
        window = pictures.around(data.images[image], objects.boxes[row], least=36)
        pictures.show(axes, data.images[image], rgb[image], window)
        # Thick and below the others: what it is compared with stays visible on it.
        mine = _TRUTH if objects is data.truth else _FOUND
        pictures.outline(axes, objects, [row], [mine], width=2.4)
        for group, shown, colour, style in (
            (data.truth, ~data.truth.ignored, _TRUTH, solid),
            (data.detections, ~result.pairs.below, _FOUND, dashed),
        ):
            near = np.flatnonzero(shown & (group.image == image) & window.holds(group.boxes))
            pictures.outline(axes, group, near, [colour] * len(near), width=0.9, style=style)
        axes.set_title(caption, fontsize=7.5)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    return plots.encode(made, photo=True)


def example_iou(result: Evaluated) -> str | None:
    """Fig. 5 for a pair of about median IoU, among the larger ones; None without pairs."""
    data, pairs = result.data, result.pairs
    if not len(pairs.truth):
        return None
    iou = iou_of_pairs(result.box_iou, pairs.truth, pairs.detection)
    # The larger half: boxes of a few pixels make a poor example.
    area = data.truth.boxes[pairs.truth, 2] * data.truth.boxes[pairs.truth, 3]
    large = np.flatnonzero(area >= np.median(area))
    k = int(large[np.argmin(np.abs(iou[large] - np.median(iou)))])
    truth, found = data.truth.boxes[pairs.truth[k]], data.detections.boxes[pairs.detection[k]]
    index = int(data.truth.image[pairs.truth[k]])
    image = data.images[index]
    made = plots.figure(3.6, 3.8)
    axes = made.add_subplot()
    window = pictures.around(image, truth, least=24)
    pictures.show(axes, image, pictures.picture(image, data.folder), window)
    plots.draw_iou_example(axes, truth, found, float(iou[k]))
    return plots.encode(made, photo=True)
