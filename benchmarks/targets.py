"""How well are attributes learned, beside what the mask measures and beside a constant?

    python benchmarks/targets.py [--train 1024] [--test 600] [--crop 128] [--steps 300]

HSC-Deep-like skies in g, r, i with their true labels. `tiny` learns the i magnitude and the
half-light radius from one sky and is evaluated on another. The measured magnitude is that of the
flux in the predicted mask, the catalog's `mag_i`; the constant is the training set's median.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

import astroseg
from astroseg.evaluation.metrics.matching import box_candidates, pair
from astroseg.evaluation.metrics.read import read
from astroseg.evaluation.metrics.targets import SIGMA_OF_MAD, target_pairs

TARGETS = ("mag_i", "half_light_radius_arcsec")


def simulated(folder: Path, size: int, seed: int) -> Path:
    """Truth of a sky of that side in px."""
    words = [sys.executable, "-m", "astrolabel", "simulate", str(folder)]
    subprocess.run(
        [*words, "--size", str(size), "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL
    )
    return folder / "truth.json"


def spread(error: NDArray[np.float64]) -> str:
    """Bias and scatter as the evaluation has them."""
    bias = np.median(error)
    return f"bias {bias:+.3f}, scatter {SIGMA_OF_MAD * np.median(np.abs(error - bias)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("train", 1024), ("test", 600), ("crop", 128), ("steps", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Train, predict, and print the errors."""
    train = simulated(folder / "train", options.train, 21)
    test = simulated(folder / "test", options.test, 22)
    begun = time.process_time()
    words: dict[str, Any] = {"steps": options.steps, "crop": float(options.crop), "batch": 4}
    run = astroseg.train(
        train, folder / "run", targets=TARGETS, workers=0, device="cpu", quiet=True, **words
    )
    print(f"{options.steps} steps, {time.process_time() - begun:.0f} CPU s")
    found = astroseg.predict(
        run.checkpoint, [str(test)], folder / "found", device="cpu", overlays=0, quiet=True
    )
    metrics = astroseg.evaluate(test, found.results)
    print(f"completeness {metrics.detection.completeness.value:.3f}, purity "
          f"{metrics.detection.purity.value:.3f}")  # fmt: skip
    data = read(test, found.results)
    pairs = pair(data.truth, data.detections, box_candidates(data.truth, data.detections), 0.5, 0.5)
    labelled = json.loads(train.read_text())["annotations"]
    for target in TARGETS:
        one, scores = target_pairs(data, pairs, target), metrics.targets[target]
        constant = np.median([row["attributes"][target] for row in labelled])
        print(f"{target}: {scores.pairs} pairs")
        print(f"  learned   {spread(one.found - one.truth)}, outliers {scores.outliers.value:.3f}, "
              f"coverage of 68 % {scores.coverage.value:.3f}")  # fmt: skip
        print(f"  constant  {spread(constant - one.truth)}")
    # Rows of the catalog and of the results are the same detections.
    measured = np.asarray(Table.read(found.catalog)["mag_i"])[pairs.detection]
    true = data.truth.attributes["mag_i"][pairs.truth]
    known = np.isfinite(measured) & np.isfinite(true)
    print(f"mag_i in the mask: {known.sum()} pairs\n  measured  {spread((measured - true)[known])}")


if __name__ == "__main__":
    main()
