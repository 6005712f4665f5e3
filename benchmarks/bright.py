"""Labels per bright object: are structured galaxies and saturated stars shredded?

    python benchmarks/bright.py [--seeds 1 2 3] [--size 1050] [--bright 6] [--survey hsc-deep]

Simulated scenes with so many large galaxies (arms, knots, bars, dust) and as many saturated
stars (spikes, aureole, bleed trails) each. A label counts for an object when its centre or
most of its mask lies in the object's true mask and it is at no other source that was drawn.
"IoU" is the median over objects of the best label's mask IoU with the object; "beside" the
part found (within 3 px, one to one) of the true sources that are within 100 px of one.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from labels import _at_zero
from scipy.spatial import cKDTree

from astrolabel.core.config import preset
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.report import metrics
from astrolabel.simulate import SURVEYS, SimulateConfig, Simulated, simulate

BESIDE_PX = 100


@dataclass(frozen=True)
class Bright:
    """Labels and best IoU of every bright object of one kind, and which of the sources beside
    these are found."""

    counts: np.ndarray
    iou: np.ndarray
    beside: np.ndarray


def scene(folder: Path, config: SimulateConfig, names: list[str]) -> dict[str, dict[str, Bright]]:
    """By recipe and kind of object."""
    simulated = simulate(folder / "sky", config)
    frame = simulated.scene.wcs
    truth = metrics.instances(_at_zero(coco.read(simulated.files["truth"])), frame)
    injected = np.array([[s.body.y, s.body.x] for s in simulated.scene.sources])
    bodies = [s.body for s in simulated.scene.labelled]
    kinds = {
        "galaxies": np.flatnonzero([b.bright and not b.is_star for b in bodies]),
        "stars": np.flatnonzero([b.artifacts is not None for b in bodies]),
    }
    (files,) = find_coadds(inputs_of(simulated))
    out = {}
    for name in names:
        result = make_coco([files], preset(name), folder / name, progress=False)
        labels = metrics.instances(_at_zero(coco.read(result.coco)), frame)
        out[name] = {
            kind: Bright(
                metrics.labels_per_object(labels, truth, chosen, injected),
                np.array([_best_iou(labels, truth.masks[k]) for k in chosen]),
                _found_beside(labels, truth, chosen),
            )
            for kind, chosen in kinds.items()
        }
    return out


def inputs_of(simulated: Simulated) -> Inputs:
    spec, files = simulated.scene.spec, simulated.files
    if spec.tract:
        return Inputs((files["truth"].parent,))
    return Inputs(
        band_files=tuple(((name,), files[name]) for name in spec.band_names),
        psf={name: files[f"psf_{name}"] for name in spec.band_names},
    )


def _best_iou(labels: metrics.Instances, mask) -> float:
    return max((metrics.iou(mask, other) for other in labels.masks), default=0.0)


def _found_beside(labels: metrics.Instances, truth: metrics.Instances, chosen) -> np.ndarray:
    """bool: which true sources within 100 px of some of them have a label."""
    apart = cKDTree(truth.centres[chosen]).query(truth.centres)[0]
    near = truth.whole & (apart < BESIDE_PX)
    near[chosen] = False
    return metrics.pair(labels, truth).found[near]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--size", type=int)
    parser.add_argument("--bright", type=int, default=6, help="galaxies, and as many stars")
    parser.add_argument("--density", type=float)
    parser.add_argument("--survey", choices=tuple(SURVEYS), default="hsc-deep")
    parser.add_argument("--recipes", nargs="+", default=["default", "paper"])
    options = parser.parse_args()
    rows: dict[tuple[str, str], list[Bright]] = {}
    for seed in options.seeds:
        config = SimulateConfig(
            survey=options.survey,
            seed=seed,
            size=options.size,
            density_per_arcmin2=options.density,
            bright=options.bright,
        )
        with tempfile.TemporaryDirectory() as folder:
            for name, kinds in scene(Path(folder), config, options.recipes).items():
                for kind, one in kinds.items():
                    rows.setdefault((name, kind), []).append(one)
    print("recipe    kind      objects  labels each  worst  none  at most 2  IoU    beside")
    for (name, kind), found in rows.items():
        counts = np.concatenate([one.counts for one in found])
        iou = np.concatenate([one.iou for one in found])
        beside = np.concatenate([one.beside for one in found])
        print(
            f"{name:8s}  {kind:8s}  {len(counts):7d}  {counts.mean():11.2f}  {counts.max():5d}  "
            f"{(counts == 0).sum():4d}  {(counts <= 2).mean():9.3f}  {np.median(iou):.3f}  "
            f"{beside.mean():.3f}"
        )


if __name__ == "__main__":
    main()
