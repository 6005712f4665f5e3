"""Which labels the report shows: random ones, and the worst by all that can go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs, to_pixels
from astrolabel.report.labels import Labels
from astrolabel.report.residuals import Residuals
from astrolabel.report.truth import AgainstTruth

ROW = 8
"""Examples of a kind."""
OF_A_FLAG = 4
"""Examples of a flag, of which there are many."""
SEED = 20230405
"""Of the random examples: the same labels give the same page."""

Mask = tuple[NDArray[np.bool_], Box]


@dataclass(frozen=True, eq=False)
class Stamp:
    """A cutout to draw.

    Attributes
    ----------
    image : index of the image.
    box : what it is centred on, in the image's pixels.
    row : the label in question, outlined in white; None for one that is not there.
    truth : mask of a true source, outlined in magenta, or None.
    caption : under the cutout.
    """

    image: int
    box: Box
    row: int | None
    truth: Mask | None
    caption: str


@dataclass(frozen=True, eq=False)
class Kind:
    """Examples of one kind: title, what they were chosen by, and the cutouts."""

    title: str
    chosen_by: str
    stamps: tuple[Stamp, ...]


def choose(
    labels: Labels, left: Residuals, truth: AgainstTruth | None, band: str | None
) -> list[Kind]:
    """Random labels, and the worst by all that can go wrong."""
    own = np.flatnonzero(labels.own)
    random = np.random.default_rng(SEED).permutation(own)[: 2 * ROW]
    saturated = labels.flags.get("saturated", np.zeros(len(labels), bool))
    excess = np.where(labels.own & ~saturated, (left.chi2 - 1) * np.sqrt(labels.area / 2), np.nan)
    blended = np.where(labels.own, labels.value("n_blended"), np.nan)
    area = np.where(labels.own, labels.area, np.nan)
    asked = [
        ("Random labels", "drawn by a fixed seed", random),
        (
            "Worst explained by their model",
            "largest excess of chi2 over its noise, saturated ones aside",
            _largest(excess),
        ),
        ("Largest masks", "area", _largest(area)),
        ("Most blended", "peaks in the footprint", _largest(blended)),
    ]
    asked += [
        (f"Flagged {name}", "largest mask", _largest(np.where(column, area, np.nan), OF_A_FLAG))
        for name, column in labels.flags.items()
    ]
    kinds = [
        Kind(title, by, tuple(_of_label(labels, left, int(row), band) for row in rows))
        for title, by, rows in asked
        if len(rows)
    ]
    return kinds + ([] if truth is None else _against_truth(labels, left, truth, band))


def _largest(values: NDArray[np.float64], n: int = ROW) -> NDArray[np.intp]:
    """Rows of the largest finite values, first the largest; the first of equals first."""
    known = np.flatnonzero(np.isfinite(values))
    return known[np.argsort(-values[known], kind="stable")][:n]


def _against_truth(
    labels: Labels, left: Residuals, found: AgainstTruth, band: str | None
) -> list[Kind]:
    truth, paired = found.truth, found.paired
    false = np.full(len(labels), np.nan)
    # What an edge cuts is not counted, and its centre is not where the source's is.
    counted = ~paired.real & labels.whole[found.rows]
    false[found.rows] = np.where(counted, labels.value("snr")[found.rows], np.nan)
    poor = _largest(-paired.iou)
    true_snr = truth.value("snr")[found.truth_rows]
    lost = ~paired.found & truth.whole[found.truth_rows]
    missed = _largest(np.where(lost, true_snr, np.nan))
    outlines = []
    for k in poor:
        i, j = paired.pairs[k]
        row = int(found.rows[j])
        of_label = _of_label(labels, left, row, band)
        mask = _truth_mask(labels, int(labels.image[row]), truth, int(found.truth_rows[i]))
        caption = f"IoU {paired.iou[k]:.2f}"
        outlines.append(Stamp(of_label.image, of_label.box, row, mask, caption))
    absent = []
    for k in missed:
        row = int(found.truth_rows[k])
        image = _image_with(labels, truth, row)
        mask = None if image is None else _truth_mask(labels, image, truth, row)
        if image is not None and mask is not None:
            absent.append(Stamp(image, mask[1], None, mask, f"S/N {true_snr[k]:.0f}"))
    kinds = [
        Kind(
            "False labels",
            "no true source near; highest S/N",
            tuple(_of_label(labels, left, int(r), band) for r in _largest(false)),
        ),
        Kind("Missed sources", "highest true S/N; their true masks in magenta", tuple(absent)),
        Kind("Worst outlines", "lowest IoU with the true mask, in magenta", tuple(outlines)),
    ]
    return [kind for kind in kinds if kind.stamps]


def _of_label(labels: Labels, left: Residuals, row: int, band: str | None) -> Stamp:
    x, y, width, height = (int(v) for v in labels.boxes[row])
    name = dict(labels.classes()).get(int(labels.category[row]), "")
    parts = [name]
    if band is not None and np.isfinite(labels.value(f"mag_{band}")[row]):
        parts.append(f"{band} {labels.value(f'mag_{band}')[row]:.1f}")
    if np.isfinite(left.chi2[row]):
        parts.append(f"χ² {left.chi2[row]:.{2 if left.chi2[row] < 10 else 0}f}")
    return Stamp(int(labels.image[row]), Box(y, x, height, width), row, None, ", ".join(parts))


def _image_with(labels: Labels, truth: Labels, row: int) -> int | None:
    """The first image of the labels that holds a true source."""
    ra, dec = truth.value("ra")[row], truth.value("dec")[row]
    for index, image in enumerate(labels.images):
        wcs = labels.wcs(index)
        if wcs is not None:
            x, y = to_pixels(wcs, ra, dec)
            if -0.5 < x < image["width"] - 0.5 and -0.5 < y < image["height"] - 0.5:
                return index
    return None


def _truth_mask(labels: Labels, image: int, truth: Labels, row: int) -> Mask | None:
    """A true mask on the pixels of an image of the labels."""
    frame, wcs = truth.wcs(int(truth.image[row])), labels.wcs(image)
    if frame is None or wcs is None:
        return None
    pixels, box = truth.mask(row)
    x, y = to_pixels(wcs, *to_icrs(frame, box.x0, box.y0))
    return pixels, Box(round(float(y)), round(float(x)), box.height, box.width)


def worst_tiles(left: Residuals, number: int) -> Sequence[int]:
    """Images whose masked pixels are explained worst, then the one in the middle."""
    known = [t for t in left.tiles if np.isfinite(t.chi2_inside)]
    ranked = [t.image for t in sorted(known, key=lambda t: (-t.chi2_inside, t.image))]
    middle = ranked[len(ranked) // 2 : len(ranked) // 2 + 1]
    chosen = ranked[:number]
    return [*chosen, *(m for m in middle if m not in chosen)]
