"""Seconds a tile by stage, sources per second and peak memory of `make-coco`.

    python benchmarks/speed.py [--size 1000] [--seed 1] [--density 85]
    python benchmarks/speed.py --first-run

One simulated gri tile, one core, compiled code already loaded (a smaller tile is labelled
first). Stages are the pipeline's own functions; seconds are of processor time, which other
work on the machine disturbs least. Needs astrolabel[simulate].

`--first-run` labels a picture of 200x200 pixels twice, each time in a new process: with an empty
cache of compiled code, then with what the first run left there.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from astrolabel.core.config import preset
from astrolabel.deblend import make_deblender
from astrolabel.detect.detect import detect
from astrolabel.detect.image import detection_image
from astrolabel.io import coco, pictures
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label import tile as label
from astrolabel.label.pipeline import make_coco
from astrolabel.label.tiles import split
from astrolabel.prepare import read
from astrolabel.simulate import SimulateConfig, simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--density", type=float, default=85.0, help="per square arcminute")
    parser.add_argument("--first-run", action="store_true", help="on an empty cache, and the next")
    options = parser.parse_args()
    if options.first_run:
        first_run(options.seed)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = SimulateConfig(seed=options.seed, size=200)
        simulate(folder / "small", small)
        make_coco(find_coadds(Inputs((folder / "small",))), preset("default"), folder / "warm",
                  progress=False)  # fmt: skip
        config = SimulateConfig(
            seed=options.seed, size=options.size, density_per_arcmin2=options.density
        )
        simulate(folder / "sky", config)
        before = peak_mib()
        measure(folder)
        print(f"peak memory {peak_mib():.0f} MiB ({before:.0f} MiB before the tile was read)")


def measure(folder: Path) -> None:
    """Run the stages one by one and print their times."""
    config = preset("default")
    (files,) = find_coadds(Inputs((folder / "sky",)))
    (tile,) = split(files.shape, config.tile)
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        result = work(*arguments)
        seconds[stage] = seconds.get(stage, 0.0) + time.process_time() - start
        return result

    known = timed("PSFs and checks", read.characterise, files)
    coadd = timed("read", read.read, files, known)
    found = timed("detect", detection_image, coadd, config.detect)
    detections = timed("detect", detect, coadd, found, config.detect)
    deblender = make_deblender(config.deblend)
    sources, chi2, _ = timed(
        "detect, deblend, mask",
        label.deblend,
        coadd,
        found,
        tile.core_in_outer,
        config,
        deblender,
    )
    seconds["deblend and mask"] = seconds.pop("detect, deblend, mask") - seconds["detect"]
    labels = timed("whole tile", label.label_tile, coadd, tile, config, deblender, None)
    picture = timed("write", pictures.rgb, coadd.image)
    timed("write", pictures.write_png, folder / "tile.png", picture)
    timed("write", coco.write_json, folder / "tile.json", {"annotations": labels.annotations})
    n = len(detections.peaks)
    print(
        f"{files.shape[0]}x{files.shape[1]} pixels, {len(coadd.bands)} bands, {n} detections, "
        f"{len(labels.annotations)} labels, chi2 per pixel {chi2:.2f}"
    )
    for stage in ("PSFs and checks", "read", "detect", "deblend and mask", "write"):
        print(
            f"  {stage:18s} {seconds[stage]:7.2f} s  {1000 * seconds[stage] / n:7.2f} ms a source"
        )
    print(f"  {n / seconds['deblend and mask']:.0f} sources per second deblended")
    assert len(sources) == n


def first_run(seed: int) -> None:
    """Print what `make-coco` takes with an empty cache of compiled code, and after that."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder / "sky", SimulateConfig(seed=seed, size=200))
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
        for run in ("first run", "next run"):
            out = folder / run.replace(" ", "-")
            words = ["make-coco", str(folder / "sky"), "--out", str(out)]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-m", "astrolabel", *words],
                check=True, env=environment, capture_output=True,
            )  # fmt: skip
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            kept = len(list((folder / "cache").rglob("*.nbc")))
            print(f"{run:10s} {seconds:6.1f} s, {kept} compiled functions in the cache")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
