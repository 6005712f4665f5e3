"""Fluxes and their errors against the truth of simulated HSC-like gri scenes.

    python benchmarks/fluxes.py [--seeds 1 2] [--size 1000] [--density 100] [--snr 20]

Detections are matched one to one with the sources that have a true 5 sigma mask, within
2.5 pixels; those that an edge cuts or that are saturated are left out. "isolated": no
other true mask touches. For each kind and band: the median of (measured - true) / true,
and the median and robust width (half of the central 68 %) of the pulls (measured - true)
/ error. True is the simulator's total flux, wings and all. "all found" are the blended ones
under which sources that no one detected have less than 3 % of their light. Needs
astrolabel[simulate].
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig, preset
from astrolabel.deblend import make_deblender
from astrolabel.detect.image import detection_image
from astrolabel.label.tile import deblend
from astrolabel.report.metrics import match
from astrolabel.simulate import SimulateConfig
from astrolabel.simulate.draw import Scene, draw_scene
from astrolabel.simulate.planes import BITS

MATCH_PX = 2.5
"""Half a seeing disc."""
FOUND_PX = 3.0
"""A source is detected when any detection is its nearest within this."""
MISSED = 0.03
"""Light of undetected sources under a source, above which its flux is not its own."""


def as_coadd(scene: Scene) -> Coadd:
    """The simulated patch as the reader would give it."""
    good = np.isfinite(scene.image) & np.isfinite(scene.variance) & (scene.variance > 0)
    good &= (scene.mask & (1 << BITS["NO_DATA"])) == 0
    bands = tuple(b.name for b in scene.spec.bands)
    return Coadd(
        name="simulated",
        bands=bands,
        image=scene.image,
        variance=scene.variance,
        valid=good,
        psfs=scene.psfs,
        zeropoints=(scene.spec.zeropoint,) * len(bands),
        planes=BITS,
        mask=scene.mask,
    )


def measure(scene: Scene, config: LabelConfig) -> dict[str, NDArray[np.float64]]:
    """A row per matched source: truth, flux, error, signal to noise and blending."""
    coadd = as_coadd(scene)
    detection = detection_image(coadd, config.detect)
    frame = Box.of_shape(scene.shape)
    begin = time.process_time()
    sources, chi2, _ = deblend(coadd, detection, frame, config, make_deblender(config.deblend))
    seconds = time.process_time() - begin
    print(
        f"{len(sources)} detections, chi2/pixel {chi2:.3f}, detect and deblend "
        f"{1e3 * seconds / len(sources):.2f} ms a source (processor time)"
    )
    found = [s for s in sources if s.state == "ok"]
    truth = [s for s in scene.labelled if not s.saturated]
    truth = [s for s in truth if s.mask.any() and frame.expanded(-8).contains(s.body.y, s.body.x)]
    pairs = match(
        np.array([(s.body.y, s.body.x) for s in truth]),
        np.array([(s.y, s.x) for s in found]),
        MATCH_PX,
    )
    noise = scene.sky_sigma[:, None, None] ** 2
    nobody = undetected(scene, np.array([(s.y, s.x) for s in sources]))
    rows = []
    for i, j in pairs:
        true, mine = truth[i], found[j]
        rows.append(
            {
                "true": true.body.flux,
                "flux": mine.flux,
                "error": getattr(mine, "flux_err", np.full(len(mine.flux), np.nan)),
                "snr": float(np.sqrt((true.stamp**2 / noise).sum())),
                "blended": true.n_blended > 1,
                "blendedness": true.blendedness,
                "missed": share_of(true, nobody, noise),
                "star": true.body.is_star,
                "point": mine.kind == "point",
                "y": true.body.y,
                "x": true.body.x,
            }
        )
    return {k: np.array([r[k] for r in rows], float) for k in rows[0]}


def undetected(scene: Scene, peaks: NDArray[np.float64]) -> NDArray[np.float32]:
    """(C, H, W) counts of the sources that no detection is matched with."""
    places = np.array([(s.body.y, s.body.x) for s in scene.sources])
    seen = {i for i, _ in match(places, peaks, FOUND_PX)}
    out = np.zeros_like(scene.model)
    for i, source in enumerate(scene.sources):
        if i not in seen:
            out[(slice(None), *source.box.slices)] += source.stamp
    return out


def share_of(source, others: NDArray[np.float32], noise: NDArray[np.float64]) -> float:
    """Light of others in the measure of a source's own flux, mean of the bands."""
    here = others[(slice(None), *source.box.slices)]
    own = (source.stamp**2 / noise).sum(axis=(1, 2))
    return float(((source.stamp * here / noise).sum(axis=(1, 2)) / own).mean())


def spread(values: NDArray[np.float64]) -> float:
    """Half the width of the central 68 %: one sigma of a Gaussian."""
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2


def report(rows: dict[str, NDArray[np.float64]], bands: tuple[str, ...], snr: float) -> None:
    kinds = {
        "isolated": rows["blended"] == 0,
        "blended": rows["blended"] == 1,
        "all found": (rows["blended"] == 1) & (rows["missed"] < MISSED),
    }
    print(f"{'':10s} {'S/N':>12s} {'n':>5s} {'band':>4s} {'bias':>8s} {'pull':>6s} {'width':>6s}")
    ranges = ((snr, np.inf), (snr, 50), (50, 200), (200, np.inf))
    for name, chosen in kinds.items():
        for low, high in ranges:
            w = chosen & (rows["snr"] > low) & (rows["snr"] <= high)
            if not w.any():
                continue
            total = rows["flux"][w].sum(1) / rows["true"][w].sum(1) - 1
            head = f"{name:10s} {low:5.0f} - {high:<4.0f} {w.sum():5d}"
            print(f"{head}  sum {100 * np.median(total):+7.2f}%")
            for c, band in enumerate(bands):
                off = rows["flux"][w, c] - rows["true"][w, c]
                pull = off / rows["error"][w, c]
                print(
                    f"{head} {band:>4s} {100 * np.median(off / rows['true'][w, c]):+7.2f}% "
                    f"{np.median(pull):+6.2f} {spread(pull):6.2f}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=1000, help="side of a scene, pixels")
    parser.add_argument("--density", type=float, default=100.0, help="sources per arcmin2")
    parser.add_argument("--snr", type=float, default=20.0, help="lowest signal to noise counted")
    args = parser.parse_args()
    config = preset("default")
    measure(draw_scene(SimulateConfig(size=128, seed=1)), config)  # compiles
    tables = []
    for seed in args.seeds:
        scene = draw_scene(
            SimulateConfig(size=args.size, seed=seed, density_per_arcmin2=args.density)
        )
        tables.append(measure(scene, config))
    rows = {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}
    report(rows, scene.spec.band_names, args.snr)


if __name__ == "__main__":
    main()
