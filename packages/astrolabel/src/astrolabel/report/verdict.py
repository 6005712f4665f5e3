"""The answer in a dozen lines, and what a reader must know before trusting it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from astrolabel.core.config import CheckConfig
from astrolabel.core.notes import DOUBT
from astrolabel.io.positions import REMEDY
from astrolabel.label import doubts
from astrolabel.report import bins
from astrolabel.report.measured import Measured

DEPTH = 0.8
"""Completeness that defines a depth: the paper's star samples end near it (4.2)."""
CHI2_EXCESS_SIGMA = 5.0
"""A label's chi2 this many sigma of its own noise above 1 is a model that is wrong there:
with n pixels of noise chi2 scatters by sqrt(2/n)."""
OFFSET_ARCSEC = 0.1
"""A median offset from the catalog beyond this is astrometry or a wrong convention: half a
pixel of HSC is 0.084 arcsec."""
WRONG_MODELS = 0.05
"""Part of labels with a wrong model above which the page has a note."""
MISPLACED_IMAGES = 3
"""Images with wrong positions that the page names."""
LOST_PER_LABEL = 0.05
"""Groups of unexplained pixels per label above which the page has a note."""


@dataclass(frozen=True)
class Line:
    """One question and its answer.

    Attributes
    ----------
    name : in the file of numbers.
    question, measure : for people.
    value : NaN where it is unknown.
    text : the value as the page shows it, or what to give to have it.
    ideal : what it is for perfect labels.
    """

    name: str
    question: str
    measure: str
    value: float
    text: str
    ideal: str


def verdict(m: Measured) -> list[Line]:
    """The headline numbers; what needs a file that was not given says which."""
    return [*_of_the_run(m), *_of_residuals(m), *_of_catalog(m), *_of_truth(m)]


def _line(
    name: str, question: str, measure: str, value: float, ideal: str, *,
    form: str = "{:.1f} %", missing: str = "–",
) -> Line:  # fmt: skip
    shown = 100 * value if form.endswith("%") else value
    text = form.format(shown) if math.isfinite(value) else missing
    return Line(name, question, measure, value, text, ideal)


def _part(number: float, of: float) -> float:
    return number / of if of else math.nan


def _of_the_run(m: Measured) -> list[Line]:
    c = m.counts
    failed = sum(n for state, n in c.detections.items() if state.startswith("failed"))
    total = sum(c.detections.values())
    tiles = c.tiles_by_kind
    unknown = "not in the file"
    return [
        _line("tiles_ok", "Is every tile labelled?", "tiles that are ok",
              _part(tiles["ok"], sum(tiles.values())), "all but those without data",
              missing=unknown),
        _line("detections_failed", "Did the deblender fail?", "detections that failed",
              _part(failed, total), "0 %", form="{:.2f} %", missing=unknown),
    ]  # fmt: skip


def wrong_models(m: Measured) -> float:
    """Part of the labels whose chi2 noise alone does not explain; NaN without residuals."""
    chi2, area = m.residuals.chi2[m.labels.own], m.labels.area[m.labels.own]
    known = np.isfinite(chi2)
    beyond = (chi2 - 1) * np.sqrt(area / 2) > CHI2_EXCESS_SIGMA
    return _part(float((beyond & known).sum()), float(known.sum()))


def _of_residuals(m: Measured) -> list[Line]:
    left, missing = m.residuals, "needs residuals"
    chi2 = left.chi2[m.labels.own]
    chi2 = chi2[np.isfinite(chi2)]
    lost = _part(left.groups_outside, m.counts.labels) if left.tiles else math.nan
    return [
        _line("chi2_median", "Do the models explain the pixels?", "median χ² per pixel of a label",
              float(np.median(chi2)) if len(chi2) else math.nan, "1, or a little less",
              form="{:.2f}", missing=missing),
        _line("wrong_models", "", f"labels with χ² {CHI2_EXCESS_SIGMA:g} sigma above noise",
              wrong_models(m), "0 %", missing=missing),
        _line("groups_outside_per_label", "Is there flux without a label?",
              "groups of pixels above 5 sigma outside masks, per label", lost, "0",
              form="{:.3f}", missing=missing),
    ]  # fmt: skip


def _of_catalog(m: Measured) -> list[Line]:
    found = m.catalog
    missing = "needs --catalog" if found is None else "no object here"
    rate = depth = offset = math.nan
    if found is not None:
        rate = _part(found.n_pairs, found.n_catalog)
        offset = math.hypot(*found.offset_arcsec)
        if found.catalog_rate is not None:
            depth = bins.depth(found.catalog_rate, DEPTH)
    return [
        _line("catalog_rate", "Are catalog objects labelled?",
              "catalog objects that have a label", rate, "100 % down to the labels' depth",
              missing=missing),
        _line("catalog_depth", "", f"{100 * DEPTH:.0f} % of them down to magnitude", depth,
              "as deep as the images", form="{:.1f}",
              missing="nowhere" if found is not None and found.n_catalog else missing),
        _line("catalog_offset_arcsec", "Are positions right?", "median offset from the catalog",
              offset, "0", form="{:.3f} arcsec", missing=missing),
    ]  # fmt: skip


def _of_truth(m: Measured) -> list[Line]:
    missing = "needs --truth"
    q = None if m.truth is None else m.truth.quality
    fields = (
        ("completeness", "Is everything labelled?", "completeness", "{:.1f} %", "100 %"),
        ("completeness_blended", "", "completeness of blended sources", "{:.1f} %", "100 %"),
        ("purity", "Are the labels real?", "purity", "{:.1f} %", "100 %"),
        ("iou_isolated", "Are outlines right?", "median mask IoU, isolated", "{:.3f}", "1"),
        ("iou_blended", "", "median mask IoU, blended", "{:.3f}", "1"),
    )
    lines = [
        _line(name, question, f"{measure}, against the truth",
              math.nan if q is None else float(getattr(q, name)), ideal, form=form,
              missing=missing)
        for name, question, measure, form, ideal in fields
    ]  # fmt: skip
    bias = {} if m.truth is None else m.truth.flux_bias
    lines += [
        _line(f"flux_bias_{group}", "Are fluxes right?" if group == "isolated" else "",
              f"median flux excess of S/N > 20, {group}", bias.get(group, math.nan), "0 %",
              form="{:+.1f} %", missing=missing)
        for group in ("isolated", "blended")
    ]  # fmt: skip
    return lines


@dataclass(frozen=True)
class OfFiles:
    """What the run that made the labels said of its files, in plain words; doubts first."""

    doubts: tuple[str, ...]
    assumptions: tuple[str, ...]


def of_files(m: Measured) -> OfFiles:
    """The assumptions and doubts of the document, as the summary of `make-coco` prints them."""
    tiles = m.labels.info.get("tiles") or []
    texts: dict[bool, list[str]] = {True: [], False: []}
    for note, number in doubts.gathered(tiles):
        texts[note.severity == DOUBT].append(doubts.said(note, number, len(tiles)))
    return OfFiles(tuple(texts[True]), tuple(texts[False]))


def _misplaced(m: Measured) -> list[str]:
    """Labels whose sky position is not that of their pixels, in the first images."""
    out = [
        f"{m.labels.images[k]['file_name']}: {found}. {REMEDY}."
        for k, found in list(m.misplaced.items())[:MISPLACED_IMAGES]
    ]
    if len(m.misplaced) > MISPLACED_IMAGES:
        more = len(m.misplaced) - MISPLACED_IMAGES
        out.append(f"Positions are wrong in {more:,} more images; see `astrolabel validate`.")
    return out


def _untypical(m: Measured) -> list[str]:
    """Labels that are not like those of a sky, whatever made them."""
    out, own, check = [], m.labels.own, CheckConfig()
    chi2 = m.residuals.chi2[own]
    chi2 = chi2[np.isfinite(chi2)]
    middle = float(np.median(chi2)) if len(chi2) else 1.0
    if not check.chi2[0] <= middle <= check.chi2[1]:
        which = "too small, or the PSF is wrong" if middle > 1 else "too large"
        out.append(
            f"The median χ² of the labels is {middle:.2g}, far from 1: the noise is {which}."
        )
    if doubts.one_size(m.labels.area[own], check):
        out.append("Most labels are of one size: look whether they are noise or artifacts.")
    return out


def notes(m: Measured) -> list[str]:
    """What a reader must know, in plain text."""
    c, out = m.counts, []
    tiles = c.tiles_by_kind
    if tiles["failed"]:
        out.append(f"{tiles['failed']:,} tiles failed; see the table below, and rerun.")
    if c.labels == 0:
        out.append("There are no labels.")
    out += _misplaced(m) + _untypical(m)
    wrong = wrong_models(m)
    if wrong > WRONG_MODELS:
        out.append(
            f"{100 * wrong:.1f} % of the labels have a model that is wrong by more than noise. "
            "Look at the worst below. A few bright and saturated sources are harmless; many "
            "faint ones are not."
        )
    if m.residuals.tiles and m.residuals.groups_outside > LOST_PER_LABEL * max(c.labels, 1):
        out.append(
            f"{m.residuals.groups_outside:,} groups of pixels above 5 sigma lie outside every "
            "mask: sources without a label, or flux of a source that failed or was dropped."
        )
    if m.catalog is not None and m.catalog.n_pairs:
        offset = math.hypot(*m.catalog.offset_arcsec)
        if offset > OFFSET_ARCSEC:
            out.append(
                f"The labels lie {offset:.2f} arcsec from the catalog in the median: the two "
                "are not on one astrometric frame, or a pixel convention is mixed up."
            )
    if m.catalog is not None and not m.catalog.n_pairs:
        out.append("No label has a catalog object. Check that the catalog covers this sky.")
    if m.truth is not None and not m.truth.complete_list:
        out.append(
            "The truth's file does not list sources too faint for a mask, so labels on them "
            "count as false: purity is a lower limit. Simulate again for the whole list."
        )
    return out
