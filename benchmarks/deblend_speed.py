"""Speed and quality of the deblend stage on a simulated HSC-like gri tile.

    python benchmarks/deblend_speed.py [--size 1000] [--seed 1] [--density 100]

Prints milliseconds a source (compiled, one core), sources per second and peak memory of
the process; the median mask IoU of isolated and blended sources against truth, for the
deblender and for sep's segments on the same detections; and the flux bias of sources
that are truly alone. Needs astrolabel[simulate].
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DeblendConfig, DetectConfig
from astrolabel.core.masks import threshold_mask
from astrolabel.deblend import SourceFit, make_deblender
from astrolabel.deblend.grouping import Grouping, cut_blend, group_footprints
from astrolabel.detect.detect import Detections, detect
from astrolabel.detect.image import detection_image
from astrolabel.simulate import SimulateConfig
from astrolabel.simulate.draw import Scene, draw_scene
from astrolabel.simulate.planes import BITS

MATCH_PX = 2.5
"""A detection stands for the nearest unclaimed true source within half a seeing disc."""
ALONE = 0.01
"""A source is alone when others, detected or not, add less than this fraction of its light
within three seeing radii around its mask."""


@dataclass(frozen=True, eq=False)
class Run:
    """What the deblend stage made of a tile."""

    grouping: Grouping
    sources: dict[int, tuple[Box, SourceFit]]
    skipped: int
    iterations: float
    seconds: float
    cpu_seconds: float


def as_coadd(scene: Scene) -> Coadd:
    """The simulated patch as the reader would give it."""
    good = np.isfinite(scene.image) & np.isfinite(scene.variance) & (scene.variance > 0)
    good &= (scene.mask & (1 << BITS["NO_DATA"])) == 0
    bands = tuple(b.name for b in scene.spec.bands)
    zeropoints = (scene.spec.zeropoint,) * len(bands)
    image, variance = scene.image, scene.variance
    return Coadd("simulated", bands, image, variance, good, scene.psfs, zeropoints)


def deblend(coadd: Coadd, found: Detections, significance: NDArray[np.float32]) -> Run:
    """The whole stage, timed: grouping, cutting, fitting."""
    config = DeblendConfig()
    deblender = make_deblender(config)
    begin, cpu = time.perf_counter(), time.process_time()
    weights = np.where(coadd.valid, 1 / np.where(coadd.valid, coadd.variance, 1), 0)
    grouping = group_footprints(found.footprint, significance, found.peaks, config)
    sources, skipped, iterations = {}, 0, []
    for k, group in enumerate(grouping.groups):
        if group.state != "ok":
            skipped += len(group.peaks)
            continue
        blend = cut_blend(coadd.image, weights, coadd.psfs, found.peaks, grouping, k)
        fit = deblender.fit(blend)
        iterations.append(fit.n_iterations)
        for peak, source in zip(group.peaks.tolist(), fit.sources, strict=True):
            sources[peak] = (source.box.shifted(group.box.y0, group.box.x0), source)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return Run(grouping, sources, skipped, float(np.mean(iterations)), seconds, cpu)


def iou(a: NDArray[np.bool_], a_box: Box, b: NDArray[np.bool_], b_box: Box) -> float:
    """Intersection over union of two masks in boxes of one frame."""
    common = a_box & b_box
    both = 0
    if common.area:
        both = np.count_nonzero(a[common.slices_in(a_box)] & b[common.slices_in(b_box)])
    return both / max(np.count_nonzero(a) + np.count_nonzero(b) - both, 1)


def score(scene: Scene, found: Detections, run: Run) -> dict[str, NDArray[np.float64]]:
    """A value per matched source, by name."""
    truth = scene.labelled
    level = np.full(scene.shape, scene.threshold, np.float32)
    total = scene.model.sum(axis=0)
    tree = cKDTree([(s.body.y, s.body.x) for s in truth])
    distance, nearest = tree.query(found.peaks, distance_upper_bound=MATCH_PX)
    taken: set[int] = set()
    rows = []
    for p in np.argsort(distance, kind="stable").tolist():
        i = int(nearest[p])
        if not np.isfinite(distance[p]) or i in taken or p not in run.sources:
            continue
        taken.add(i)
        true, (box, fit) = truth[i], run.sources[p]
        light = true.stamp.sum(axis=0)
        mask = threshold_mask(fit.model.sum(axis=0), box, level, tuple(found.peaks[p]))
        overlap = 0.0 if mask is None else iou(mask.pixels, mask.box, true.mask, true.box)
        label = found.segments[tuple(np.rint(found.peaks[p]).astype(int))]
        part = (found.segments[true.box.slices] == label) & (label > 0)
        around = ndimage.binary_dilation(true.mask, iterations=8)
        others = (total[true.box.slices] - light)[around].sum() / max(light[around].sum(), 1e-9)
        noise = scene.sky_sigma[:, None, None] ** 2
        rows.append(
            {
                "blended": true.n_blended > 1,
                "iou": overlap,
                "sep": iou(part, true.box, true.mask, true.box),
                "bias": fit.flux.sum() / true.body.flux.sum() - 1,
                "snr": float(np.sqrt((true.stamp**2 / noise).sum())),
                "alone": others < ALONE,
                "point": fit.kind == "point",
                "star": not true.body.components,
                "ok": fit.state == "ok",
                "peak": p,
                "truth": i,
            }
        )
    return {k: np.array([r[k] for r in rows], float) for k in rows[0]}


def report(scene: Scene, found: Detections, run: Run) -> dict[str, NDArray[np.float64]]:
    """Print what the module's description promises."""
    n = len(found.peaks)
    states = [s.state for _, s in run.sources.values() if s.state != "ok"]
    largest = max(len(g.peaks) for g in run.grouping.groups)
    print(f"{n} detections in {len(run.grouping.groups)} groups, the largest of {largest}")
    print(
        f"deblend: {run.seconds:.2f} s, {1e3 * run.seconds / n:.2f} ms a source, "
        f"{n / run.seconds:.0f} sources/s, {run.iterations:.0f} steps a group; "
        f"processor time {1e3 * run.cpu_seconds / n:.2f} ms a source"
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process, simulation included: {memory:.0f} MB")
    print(f"skipped {run.skipped}, failed {len(states)} {sorted(set(states))}")
    t = score(scene, found, run)
    truth = np.array([s.n_blended > 1 for s in scene.labelled])
    for name, w, there in (
        ("isolated", t["blended"] == 0, (~truth).sum()),
        ("blended", t["blended"] == 1, truth.sum()),
    ):
        print(
            f"{name}: {w.sum()} of {there} found; median mask IoU {np.median(t['iou'][w]):.3f}, "
            f"sep's segments {np.median(t['sep'][w]):.3f}"
        )
    for low, high in ((20, 50), (50, 200), (200, np.inf)):
        w = (t["alone"] == 1) & (t["snr"] > low) & (t["snr"] <= high)
        if w.any():
            print(
                f"alone, S/N {low} to {high}: {w.sum()}, median flux bias "
                f"{100 * np.median(t['bias'][w]):+.2f} %"
            )
    w = (t["alone"] == 1) & (t["snr"] > 20)
    print(f"alone, S/N > 20: {w.sum()}, median flux bias {100 * np.median(t['bias'][w]):+.2f} %")
    return t


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="side of the tile, pixels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--density", type=float, default=100.0, help="sources per arcmin2")
    args = parser.parse_args()
    for size in (200, args.size):  # the small one compiles
        scene = draw_scene(
            SimulateConfig(size=size, seed=args.seed, density_per_arcmin2=args.density)
        )
        coadd = as_coadd(scene)
        detection = detection_image(coadd, DetectConfig())
        found = detect(coadd, detection, DetectConfig())
        run = deblend(coadd, found, detection.image / detection.sky_sigma)
    report(scene, found, run)


if __name__ == "__main__":
    main()
