"""Labels against the truth of a simulated sky: completeness, purity, outlines, fluxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.celestial import to_icrs, to_pixels
from astrolabel.core.errors import InputError
from astrolabel.report import bins
from astrolabel.report.bins import Bins, Curve
from astrolabel.report.labels import Labels
from astrolabel.report.metrics import Instances, Paired, Quality, pair, summarise

GRID_PX = 0.05
"""Tile and truth must lie on the same pixels to this much, or masks cannot be compared."""
BLENDEDNESS = Bins("blendedness", "blendedness of the truth", (0.0, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0))
"""1 - own^2 / (own * all) of a source's light: 0 alone, 1 drowned."""


@dataclass(frozen=True, eq=False)
class AgainstTruth:
    """Labels and true sources matched one to one.

    Attributes
    ----------
    quality : the numbers in one line.
    complete_list : whether the truth lists the sources too faint for a mask; a label
        on one of those counts as false otherwise.
    completeness, iou : by quantity of the truth (see `bins`), then by ``all``,
        ``isolated`` and ``blended``.
    purity : by quantity of the label, then ``all``.
    magnitude : label minus truth against the truth's magnitude, by ``isolated`` and
        ``blended``; empty without magnitudes.
    flux_bias : median of label over true flux less one, by the same, of S/N above 20.
    offset_px : median distance of a label from its source.
    confusion : (true class, given class) to number, of matched sources.
    bins : what the curves' quantities are cut into, by name.
    rows : of the labels that took part; `paired` and `truth` are in their order.
    """

    quality: Quality
    complete_list: bool
    completeness: Mapping[str, Mapping[str, Curve]]
    iou: Mapping[str, Mapping[str, Curve]]
    purity: Mapping[str, Mapping[str, Curve]]
    magnitude: Mapping[str, Curve]
    flux_bias: Mapping[str, float]
    offset_px: float
    confusion: Mapping[tuple[str, str], int]
    bins: Mapping[str, Bins]
    rows: NDArray[np.int64]
    truth_rows: NDArray[np.int64]
    paired: Paired
    truth: Labels


MIN_SNR_OF_FLUX = 20.0
"""Fainter sources' fluxes scatter too much for a bias of per cents to be seen."""


def compare_with_truth(labels: Labels, truth: Labels, band: str | None) -> AgainstTruth:
    """Match the labels with the true sources of every image of the truth.

    Parameters
    ----------
    truth : labels of the truth, with sky positions; a document of `astrolabel simulate`
        also lists the sources without a mask under ``info.without_mask``.
    band : whose magnitudes are compared.

    Raises
    ------
    InputError
        When the two are not of the same sky or not on the same pixels.
    """
    frames = [_on_frame(labels, truth, index) for index in range(len(truth.images))]
    rows = np.concatenate([f.rows for f in frames])
    truth_rows = np.concatenate([f.truth_rows for f in frames])
    if not len(rows) or not len(truth_rows):
        raise InputError(
            "no label lies on the truth's images",
            file=truth.path,
            remedy="give the truth.json of the sky that was labelled",
        )
    mine, theirs = (_joined([getattr(f, which) for f in frames]) for which in ("mine", "theirs"))
    _check_places(labels, rows, mine)
    _check_places(truth, truth_rows, theirs)
    faint = np.concatenate([f.faint for f in frames])
    complete = "without_mask" in truth.info
    injected = np.concatenate([theirs.centres, faint]) if complete else None
    paired = pair(mine, theirs, injected)
    i, j = paired.pairs.T
    iou, fainter = (np.full(len(truth_rows), np.nan) for _ in range(2))
    iou[i] = paired.iou
    given, true = labels.value(f"mag_{band}")[rows[j]], truth.value(f"mag_{band}")[truth_rows[i]]
    fainter[i] = np.where(theirs.whole[i] & mine.whole[j], given - true, np.nan)
    cuts = _bins(labels, rows, truth, truth_rows, band)
    whole = np.where(theirs.whole, 1.0, np.nan)  # what an edge cuts is not counted
    values = {name: truth.value(name)[truth_rows] * whole for name in cuts}
    isolation = {"isolated": ~theirs.blended, "blended": theirs.blended}
    groups = {"all": np.ones(len(truth_rows), bool), **isolation}

    def curves(make: Callable[[Bins, NDArray[np.float64]], Curve]) -> dict[str, dict[str, Curve]]:
        return {
            name: {g: make(cut, np.where(w, values[name], np.nan)) for g, w in groups.items()}
            for name, cut in cuts.items()
        }

    ratio = 10 ** (-0.4 * fainter) - 1
    bright = truth.value("snr")[truth_rows] > MIN_SNR_OF_FLUX
    return AgainstTruth(
        quality=summarise(paired, mine, theirs),
        complete_list=complete,
        completeness=curves(lambda cut, of: bins.fraction(cut, of, paired.found)),
        iou=curves(lambda cut, of: bins.quartiles(cut, of, iou)),
        purity=_purity(labels, rows, mine, paired, cuts),
        magnitude=curves(lambda cut, of: bins.quartiles(cut, of, fainter)).get(f"mag_{band}", {}),
        flux_bias={g: bins.median(ratio[w & bright]) for g, w in isolation.items()},
        offset_px=bins.median(np.hypot(*(mine.centres[j] - theirs.centres[i]).T)),
        confusion=_confusion(labels, truth, rows[j], truth_rows[i]),
        bins=cuts,
        rows=rows,
        truth_rows=truth_rows,
        paired=paired,
        truth=truth,
    )


def _bins(
    labels: Labels,
    rows: NDArray[np.int64],
    truth: Labels,
    truth_rows: NDArray[np.int64],
    band: str | None,
) -> dict[str, Bins]:
    """Over the values of both: purity goes by the labels', the rest by the truth's."""

    def both(name: str) -> NDArray[np.float64]:
        return np.concatenate([truth.value(name)[truth_rows], labels.value(name)[rows]])

    made = [
        bins.magnitudes(f"mag_{band}", f"{band} magnitude", both(f"mag_{band}")),
        bins.logarithmic("snr", "S/N in the mask", both("snr")),
        bins.blends(truth.value("n_blended")[truth_rows]),
        BLENDEDNESS if "blendedness" in truth.values else None,
    ]
    return {b.name: b for b in made if b is not None}


def _purity(
    labels: Labels, rows: NDArray[np.int64], mine: Instances, paired: Paired, cuts: dict[str, Bins]
) -> dict[str, dict[str, Curve]]:
    return {
        n: {
            "all": bins.fraction(
                b, np.where(mine.whole, labels.value(n)[rows], np.nan), paired.real
            )
        }
        for n, b in cuts.items()
        if n in labels.values
    }


def _confusion(
    labels: Labels, truth: Labels, rows: NDArray[np.int64], truth_rows: NDArray[np.int64]
) -> dict[tuple[str, str], int]:
    """By class names; empty where the two documents do not share them all."""
    mine, theirs = dict(labels.classes()), dict(truth.classes())
    if set(mine.values()) != set(theirs.values()):
        return {}
    pairs = [
        (theirs[int(a)], mine[int(b)])
        for a, b in zip(truth.category[truth_rows], labels.category[rows], strict=True)
    ]
    return {
        (a, b): sum(p == (a, b) for p in pairs) for a in theirs.values() for b in theirs.values()
    }


@dataclass(frozen=True, eq=False)
class _Frame:
    """Labels and truth on the pixels of one image of the truth."""

    rows: NDArray[np.int64]
    truth_rows: NDArray[np.int64]
    mine: Instances
    theirs: Instances
    faint: NDArray[np.float64]


def _check_places(of: Labels, rows: NDArray[np.int64], instances: Instances) -> None:
    lost = rows[~np.isfinite(instances.centres).all(axis=1)]
    if len(lost):
        raise InputError(
            f"annotation {of.ids[lost[0]]} has no position (attributes ra, dec) on the truth's "
            "images",
            file=of.path,
            remedy="leave out the truth",
        )


def _without_mask(truth: Labels) -> NDArray[np.float64]:
    """(2, N) ra and dec of the sources too faint for a mask."""
    faint = truth.info.get("without_mask") or {"ra": [], "dec": []}
    try:
        sky = np.array([faint["ra"], faint["dec"]], float)
    except (KeyError, TypeError, ValueError):
        sky = np.array(np.nan)
    if sky.ndim != 2 or not np.isfinite(sky).all():
        raise InputError(
            "info.without_mask holds no lists of ra and dec",
            file=truth.path,
            remedy="simulate it again",
        )
    return sky


_APART = 10_000_000
"""Rows between the images of one truth, so that none meets another in a match."""


def _on_frame(labels: Labels, truth: Labels, index: int) -> _Frame:
    frame = truth.wcs(index)
    if frame is None:
        raise InputError("the truth has no WCS", file=truth.path, remedy="simulate it again")
    rows, shifts = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    for tile in range(len(labels.images)):
        shift = _shift(labels, tile, truth, index, frame)
        if shift is not None:
            own = labels.by_image[tile]
            own = own[labels.own[own]]
            rows.append(own)
            shifts.append(np.tile(np.array(shift), (len(own), 1)))
    mine, theirs = np.concatenate(rows), truth.by_image[index]
    theirs = theirs[truth.own[theirs]]
    centres = _pixels(frame, *_without_mask(truth))
    entry = truth.images[index]
    here = ((centres > -0.5) & (centres < np.array([entry["height"], entry["width"]]))).all(axis=1)
    down = index * _APART
    return _Frame(
        mine,
        theirs,
        _instances(labels, mine, np.concatenate(shifts), frame, down),
        _instances(truth, theirs, np.zeros((len(theirs), 2), np.int64), frame, down),
        centres[here] + np.array([down, 0]),
    )


def _shift(
    labels: Labels, tile: int, truth: Labels, index: int, frame: WCS
) -> tuple[int, int] | None:
    """(y, x) of a tile's first pixel on a truth's image; None where they do not overlap."""
    wcs = labels.wcs(tile)
    if wcs is None:
        raise InputError(
            "the labels' images have no WCS", file=labels.path, remedy="leave out the truth"
        )
    entry, whole = labels.images[tile], truth.images[index]
    last = np.array([entry["height"] - 1, entry["width"] - 1])
    world = to_icrs(wcs, [0, last[1]], [0, last[0]])
    if SkyCoord(*world, unit="deg").separation(_middle(frame, whole)).deg.min() > FAR_DEG:
        return None
    first, other = _pixels(frame, *world)
    shift = np.rint(first)
    size = np.array([whole["height"], whole["width"]])
    if (shift >= size).any() or (shift + last < 0).any():
        return None
    if max(np.abs(first - shift).max(), np.abs(other - first - last).max()) > GRID_PX:
        raise InputError(
            f"{entry['file_name']} of the labels does not lie on the truth's pixels",
            file=truth.path,
            remedy="give the truth.json of the sky that was labelled",
        )
    return int(shift[0]), int(shift[1])


FAR_DEG = 5.0
"""Farther apart than any two images that overlap; a projection fails far from its centre."""


def _middle(frame: WCS, entry: Mapping[str, Any]) -> SkyCoord:
    middle = to_icrs(frame, entry["width"] / 2, entry["height"] / 2)
    return SkyCoord(float(middle[0]), float(middle[1]), unit="deg")


def _pixels(frame: WCS, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) of y, x."""
    if not len(ra):
        return np.zeros((0, 2))
    x, y = to_pixels(frame, ra, dec)
    return np.stack([y, x], axis=1)


def _instances(
    of: Labels, rows: NDArray[np.int64], shift: NDArray[np.int64], frame: WCS, down: int
) -> Instances:
    """Labels on a frame: their masks moved by whole pixels, and `down` rows below."""
    centres = _pixels(frame, of.value("ra")[rows], of.value("dec")[rows])
    masks = []
    for row, (dy, dx) in zip(rows.tolist(), shift.tolist(), strict=True):
        pixels, box = of.mask(row)
        masks.append((pixels, box.shifted(dy + down, dx)))
    return Instances(
        centres + np.array([down, 0]), masks, of.value("n_blended")[rows] > 1, of.whole[rows]
    )


def _joined(parts: Sequence[Instances]) -> Instances:
    return Instances(
        np.concatenate([p.centres for p in parts]),
        [m for p in parts for m in p.masks],
        np.concatenate([p.blended for p in parts]),
        np.concatenate([p.whole for p in parts]),
    )
