"""Deblenders, plain sep and photutils on the same simulated HSC-like scenes, in one table.

    python benchmarks/deblenders.py [--seeds 1 2] [--size 350] [--only parametric scarlet ...]

Every deblender that is installed fits the same groups of the same detections; sep and
photutils (segments of the same detection image, 5 sigma of the true noise) have their own
sources and no model. A found source is matched to the nearest true one with a 5 sigma mask
within 2.5 pixels, one to one. Each runs in a process of its own, whose memory beyond the
scenes is reported; times are processor seconds after a first pass that compiles.
Needs astrolabel[simulate], photutils and scikit-image.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from deblend_speed import as_coadd, iou
from numpy.typing import NDArray
from scipy import ndimage, spatial

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DeblendConfig, preset
from astrolabel.core.errors import InputError
from astrolabel.core.masks import Mask, threshold_mask, tighten
from astrolabel.deblend import Blend, available_deblenders, make_deblender
from astrolabel.deblend.grouping import Grouping, cut_blend, group_footprints
from astrolabel.deblend.sky import measure_sky
from astrolabel.detect.detect import detect
from astrolabel.detect.extract import sep_sources
from astrolabel.detect.image import DetectionImage, detection_image
from astrolabel.simulate import SimulateConfig
from astrolabel.simulate.draw import Scene, draw_scene

MATCH_PX = 2.5
"""A source stands for the nearest unclaimed true one within half a seeing disc."""
MIN_SNR = 20
"""Fluxes are compared for sources brighter than this under a perfect template."""
SEGMENTERS = ("sep", "photutils")


@dataclass(frozen=True, eq=False)
class Sky:
    """A simulated scene, its detections, and the groups that all deblenders fit."""

    scene: Scene
    coadd: Coadd
    detection: DetectionImage
    peaks: NDArray[np.float64]
    grouping: Grouping
    blends: tuple[tuple[int, Blend], ...]


@dataclass
class Row:
    """What one recipe made of all scenes.

    Attributes
    ----------
    chi2, chi2_fit, values : of the sources' models alone, and of the fits with the light that
        no source stands for; and the number of (band, pixel) values.
    iou, excess, blended, bright : per matched source: with the true mask, relative flux
        error in the sum of the bands, whether truly blended, and whether above `MIN_SNR`.
    """

    name: str
    sources: int = 0
    failed: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0
    megabytes: float = 0.0
    chi2: float = 0.0
    chi2_fit: float = 0.0
    values: int = 0
    iou: list[float] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)
    blended: list[bool] = field(default_factory=list)
    bright: list[bool] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Found:
    """A source of some recipe: place, mask (None: below threshold), flux of all bands."""

    peak: tuple[float, float]
    mask: Mask | None
    flux: float


def make_sky(seed: int, size: int) -> Sky:
    scene = draw_scene(SimulateConfig(size=size, seed=seed, density_per_arcmin2=100.0))
    coadd = as_coadd(scene)
    config = preset("default")
    detection = detection_image(coadd, config.detect)
    found = detect(coadd, detection, config.detect)
    # As the pipeline does it: the sky's own level is taken off first.
    valid = coadd.valid
    weights = np.where(valid, 1 / np.where(valid, coadd.variance, 1), 0).astype(np.float32)
    image = np.where(valid, coadd.image, 0).astype(np.float32)
    significance = (detection.image / detection.sky_sigma).astype(np.float32)
    grouping = group_footprints(found.footprint, significance, found.peaks, config.deblend)
    sky = measure_sky(image, weights, coadd.psfs, significance, config.deblend.sky)
    image -= sky.level[:, None, None]
    blends = tuple(
        (k, cut_blend(image, weights, coadd.psfs, found.peaks, grouping, k, sky.noise))
        for k, group in enumerate(grouping.groups)
        if group.state == "ok"
    )
    return Sky(scene, coadd, detection, found.peaks, grouping, blends)


def deblended(name: str, sky: Sky, row: Row) -> list[Found]:
    deblender = make_deblender(DeblendConfig(engine=name))
    begin = time.process_time()
    if name != "scarlet":  # has nothing to compile
        for _, blend in sky.blends:
            deblender.fit(blend)
    row.first_seconds += time.process_time() - begin
    begin = time.process_time()
    fits = [deblender.fit(blend) for _, blend in sky.blends]
    row.seconds += time.process_time() - begin
    level = np.full(sky.scene.shape, sky.scene.threshold, np.float32)
    out = []
    for (k, blend), fit in zip(sky.blends, fits, strict=True):
        used = int(np.count_nonzero(blend.weights))
        left = blend.image.copy()
        for source in fit.sources:
            left[(slice(None), *source.box.slices)] -= source.model
        row.chi2 += float((blend.weights * left**2).sum(dtype=float))
        row.chi2_fit += fit.chi2_per_pixel * used
        row.values += used
        group = sky.grouping.groups[k]
        for peak, source in zip(sky.peaks[group.peaks], fit.sources, strict=True):
            row.failed += source.state != "ok"
            box = source.box.shifted(group.box.y0, group.box.x0)
            at = (float(peak[0]), float(peak[1]))
            mask = threshold_mask(source.model.sum(axis=0), box, level, at)
            out.append(Found(at, mask, float(source.flux.sum())))
    return out


def segmented(name: str, sky: Sky, row: Row) -> list[Found]:
    begin = time.process_time()
    if name == "sep":
        peaks, segments = sep_sources(sky.detection, preset("default").detect)
    else:
        peaks, segments = photutils_sources(sky)
    row.seconds += time.process_time() - begin
    total = sky.coadd.image.sum(axis=0)
    out = []
    for number, (y, x) in enumerate(peaks, start=1):
        box = Box.around(y, x, 150) & Box.of_shape(segments.shape)
        pixels = segments[box.slices] == number
        flux = float(total[box.slices][pixels].sum())
        out.append(Found((float(y), float(x)), tighten(pixels, box), flux))
    return out


def photutils_sources(sky: Sky) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Peaks and segments, numbered alike from 1, with its default deblending."""
    from photutils.segmentation import deblend_sources, detect_sources

    image = sky.detection.image.astype(float)
    threshold = preset("default").detect.threshold_sigma * sky.detection.sky_sigma
    segments = detect_sources(image, np.broadcast_to(threshold, image.shape), 5)
    segments = deblend_sources(image, segments, 5, progress_bar=False)
    labels = np.asarray(segments.labels)
    peaks = np.array(ndimage.maximum_position(image, segments.data, labels), float)
    numbers = np.zeros(int(segments.data.max()) + 1, np.int32)
    numbers[labels] = np.arange(1, len(peaks) + 1)
    return peaks, numbers[segments.data]


def measure(sky: Sky, found: Sequence[Found], row: Row) -> None:
    """Add the matched sources of a scene to the row."""
    truth = sky.scene.labelled
    tree = spatial.cKDTree([(s.body.y, s.body.x) for s in truth])
    distance, nearest = tree.query([f.peak for f in found], distance_upper_bound=MATCH_PX)
    noise = sky.scene.sky_sigma[:, None, None] ** 2
    taken: set[int] = set()
    row.sources += len(found)
    for p in np.argsort(distance, kind="stable").tolist():
        i = int(nearest[p])
        if not np.isfinite(distance[p]) or i in taken:
            continue
        taken.add(i)
        true, mask = truth[i], found[p].mask
        same = 0.0 if mask is None else iou(mask.pixels, mask.box, true.mask, true.box)
        row.iou.append(same)
        row.excess.append(found[p].flux / float(true.body.flux.sum()) - 1)
        row.blended.append(true.n_blended > 1)
        row.bright.append(float(np.sqrt((true.stamp**2 / noise).sum())) > MIN_SNR)


def measured(name: str, skies: Sequence[Sky]) -> Row | str:
    """One recipe on all scenes, or why there is none; for a process of its own."""
    if name not in SEGMENTERS:
        try:
            make_deblender(DeblendConfig(engine=name))
        except InputError as error:
            return str(error)
    row = Row(name)
    recipe: Callable[[str, Sky, Row], list[Found]] = segmented if name in SEGMENTERS else deblended
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for sky in skies:
        measure(sky, recipe(name, sky, row), row)
    row.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return row


HEADER = (
    "| | sources | matched | failed | chi2/pixel | with nuisance sources | IoU isolated | "
    "IoU blended | flux isolated | flux blended | scatter | ms a source | x parametric | "
    "first pass, s | MB |"
)


def line(r: Row, cmf_seconds: float) -> str:
    """A row of the Markdown table; `cmf_seconds` a source for the ratio."""
    same, excess = np.array(r.iou), np.array(r.excess)
    blended, bright = np.array(r.blended, bool), np.array(r.bright, bool)
    alone, others = excess[bright & ~blended], excess[bright & blended]
    scatter = 1.4826 * np.median(np.abs(excess[bright] - np.median(excess[bright])))
    cells = (
        r.name,
        f"{r.sources}",
        f"{len(r.iou)}",
        f"{r.failed}",
        f"{r.chi2 / r.values:.3f}" if r.values else "-",
        f"{r.chi2_fit / r.values:.3f}" if r.values else "-",
        f"{np.median(same[~blended]):.3f}",
        f"{np.median(same[blended]):.3f}",
        f"{100 * np.median(alone):+.1f} %",
        f"{100 * np.median(others):+.1f} %",
        f"{100 * scatter:.1f} %",
        f"{1e3 * r.seconds / r.sources:.1f}",
        f"{r.seconds / r.sources / cmf_seconds:.2g}",
        f"{r.first_seconds:.0f}",
        f"{r.megabytes:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=350)
    names = (*available_deblenders(), *SEGMENTERS)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    skies = [make_sky(seed, options.size) for seed in options.seeds]
    truth = [s.n_blended > 1 for sky in skies for s in sky.scene.labelled]
    groups = sum(len(sky.blends) for sky in skies)
    print(
        f"{len(skies)} scenes of {options.size}x{options.size}: {len(truth)} sources with a mask, "
        f"{sum(truth)} blended; {sum(len(s.peaks) for s in skies)} detections in {groups} groups"
    )
    print(HEADER)
    print("|---" * HEADER.count(" |") + "|", flush=True)
    cmf_seconds = np.nan
    for name in options.only:
        # The child shares the scenes with this process, which imports no deblender's
        # library: JAX's threads would not survive the fork.
        with multiprocessing.get_context("fork").Pool(1) as pool:
            row = pool.apply(measured, (name, skies))
        if isinstance(row, str):
            print(f"{name} left out: {row}", file=sys.stderr)
            continue
        if name == "parametric":
            cmf_seconds = row.seconds / row.sources
        print(line(row, cmf_seconds), flush=True)
    for package in (
        "astrolabel",
        "numpy",
        "scarlet",
        "autograd",
        "scarlet2",
        "jax",
        "sep",
        "photutils",
    ):
        try:
            print(package, importlib.metadata.version(package), end="; ")
        except importlib.metadata.PackageNotFoundError:
            continue
    print()


if __name__ == "__main__":
    main()
