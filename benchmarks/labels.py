"""Labels against truth on simulated scenes: this package's, the paper's recipe, plain sep.

    python benchmarks/labels.py [--seeds 1 2 3] [--size 1050] [--density 100 200]
                                [--pairs 0.5] [--sky realistic]

Completeness and purity count matches within 3 pixels, one to one; IoU is the median over
matched masks that no edge cuts. "sep" is plain sep segmentation of the same detection
image with the true noise and the same deblending contrast as the default recipe. Densities
are sources with a mask per square arcminute: 100 is a Deep field, where a third touch
another; at 200 nearly half of them do, as in UltraDeep ones. So they do at 100 when every
galaxy has a near neighbour (`--pairs 1`).
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from astrolabel.core import masks
from astrolabel.core.box import Box
from astrolabel.core.config import LabelConfig, preset, smooth
from astrolabel.detect.extract import sep_sources
from astrolabel.detect.image import detection_image
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.prepare.read import characterise, read
from astrolabel.report import metrics
from astrolabel.simulate import SimulateConfig, simulate

Recipes = Mapping[str, LabelConfig | None]
"""By the name of their row; None is plain sep."""

SKIES: Mapping[str, Callable[[SimulateConfig], SimulateConfig]] = {
    "smooth": smooth,
    "realistic": lambda config: config,
}
"""`smooth` has Sersic galaxies, white noise, no wings and a flat sky."""

COLUMNS = ("completeness", "completeness_blended", "purity", "iou_isolated", "iou_blended")


def sep_segments(coadd, contrast: float | None = None) -> metrics.Instances:
    """Plain sep: its segments as masks; `contrast` is its deblending contrast."""
    config = preset("default").detect
    if contrast is not None:
        config = dataclasses.replace(config, deblend_contrast=contrast)
    peaks, segments = sep_sources(detection_image(coadd, config), config)
    found = []
    for number, (y, x) in enumerate(peaks, start=1):
        box = Box.around(y, x, 150) & Box.of_shape(segments.shape)
        mask = masks.tighten(segments[box.slices] == number, box)
        assert mask is not None
        found.append(mask)
    height, width = segments.shape
    return metrics.Instances(
        peaks,
        [(m.pixels, m.box) for m in found],
        np.zeros(len(found), bool),
        np.array(
            [m.box.expanded(1) & Box(0, 0, height, width) == m.box.expanded(1) for m in found]
        ),
    )


def scene(folder: Path, config: SimulateConfig, recipes: Recipes) -> dict[str, metrics.Quality]:
    """Quality by recipe on one scene."""
    simulated = simulate(folder / "sky", config)
    frame = simulated.scene.wcs
    bodies = [s.body for s in simulated.scene.sources]
    injected = np.array([[b.y, b.x] for b in bodies])
    truth = metrics.instances(_at_zero(coco.read(simulated.files["truth"])), frame)
    (files,) = find_coadds(Inputs((folder / "sky",)))
    out = {}
    for name, recipe in recipes.items():
        if recipe is None:
            labels = sep_segments(read(files, characterise(files)))
        else:
            result = make_coco([files], recipe, folder / name, progress=False)
            labels = metrics.instances(_at_zero(coco.read(result.coco)), frame)
        out[name] = metrics.compare(labels, truth, injected)
    return out


def _at_zero(document):
    """Origins counted from the first image's."""
    y0, x0 = document["images"][0]["astro"]["origin"]
    for image in document["images"]:
        y, x = image["astro"]["origin"]
        image["astro"]["origin"] = [y - y0, x - x0]
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--size", type=int, default=1050)
    parser.add_argument("--density", type=float, nargs="+", default=[100.0, 200.0])
    parser.add_argument("--pairs", type=float, default=SimulateConfig.pair_fraction)
    parser.add_argument("--recipes", nargs="+", default=["default", "paper", "sep"])
    parser.add_argument("--sky", choices=("smooth", "realistic"), default="smooth")
    options = parser.parse_args()
    for density in options.density:
        setting = [
            SKIES[options.sky](
                SimulateConfig(
                    seed=seed,
                    size=options.size,
                    density_per_arcmin2=density,
                    pair_fraction=options.pairs,
                )
            )
            for seed in options.seeds
        ]
        print_table(setting, {n: None if n == "sep" else preset(n) for n in options.recipes})


def print_table(configs: list[SimulateConfig], recipes: Recipes) -> None:
    """The mean quality of each recipe over some scenes."""
    rows: dict[str, list[metrics.Quality]] = {name: [] for name in recipes}
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            for name, one in scene(Path(folder), config, recipes).items():
                rows[name].append(one)
    first, width = next(iter(rows.values())), max(8, *map(len, rows))
    print(
        f"{len(configs)} scenes of {configs[0].size}x{configs[0].size} pixels, "
        f"{configs[0].density_per_arcmin2:g} sources per square arcminute: "
        f"{sum(q.n_truth for q in first)} sources with a mask, "
        f"{sum(q.n_blended for q in first)} blended"
    )
    print(f"{'recipe':{width}s}  labels  " + "  ".join(COLUMNS))
    for name, found in rows.items():
        mean = {c: np.mean([dataclasses.asdict(q)[c] for q in found]) for c in COLUMNS}
        print(
            f"{name:{width}s}  {sum(q.n_labels for q in found):6d}  "
            + "  ".join(f"{mean[c]:{len(c)}.3f}" for c in COLUMNS),
            flush=True,
        )


if __name__ == "__main__":
    main()
