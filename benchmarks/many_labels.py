"""Seconds and memory of merging, validating and splitting a run of millions of labels.

    python benchmarks/many_labels.py --labels 1000000

One small simulated tile is labelled, and its labels stand in for those of all tiles: each has so
many, in other places of a sky of its own, in a shard as a worker leaves it. Each step is a process
of its own, as in a user's hands.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astrolabel.core.config import LabelConfig
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label import shards
from astrolabel.label.merge import merge
from astrolabel.label.plan import Task, plan
from astrolabel.label.work import work
from astrolabel.simulate import SimulateConfig, simulate

PER_TILE = 900
"""Labels of a tile of 1050x1050 pixels at the depth of HSC-Deep."""
STEP_DEG = 0.05
FILES = {"images": "png", "cubes": "fits", "residuals": "png"}


def first_task(folder: Path) -> Task:
    coadds = find_coadds(Inputs((folder / "sky",), bands=("g", "r", "i")))
    tasks, _ = plan(coadds, LabelConfig(), folder / "out", None, 1, False)
    return tasks[0]


def tasks_of(first: Task, tiles: int) -> list[Task]:
    return [replace(first, name=f"tile{k}", key=f"{first.key}{k}") for k in range(tiles)]


def moved(cards: dict[str, Any], number: int) -> dict[str, Any]:
    """A WCS of another part of the sky."""
    return {**cards, "CRVAL1": 10 + STEP_DEG * (number % 300),
            "CRVAL2": -20 + STEP_DEG * (number // 300)}  # fmt: skip


def write_shards(folder: Path, labels: int) -> None:
    """Shards of so many labels, and the files that they name as links to one tile's."""
    simulate(folder / "sky", SimulateConfig(seed=1, size=128))
    out, draw = folder / "out", np.random.default_rng(1)
    with shards.opened(out):
        first = first_task(folder)
        work(first)
        one = shards.read_whole(out, first.name, first.key)
        assert one is not None
        items = [a for a in one["annotations"] if not a["iscrowd"]]
        for k, task in enumerate(tasks_of(first, -(-labels // PER_TILE))):
            for name, suffix in FILES.items():
                (out / name / f"{task.name}.{suffix}").hardlink_to(
                    out / name / f"{first.name}.{suffix}"
                )
            cards = moved(one["image"]["astro"]["wcs"], k)
            astro = {**one["image"]["astro"], "wcs": cards, "cube": f"cubes/{task.name}.fits",
                     "residual": f"residuals/{task.name}.png"}  # fmt: skip
            image = {**one["image"], "file_name": f"images/{task.name}.png", "astro": astro}
            count = min(PER_TILE, labels - k * PER_TILE)
            x, y = draw.uniform(0, 127, (2, count)).round(2)
            sky = np.array(WCS(fits.Header(cards)).all_pix2world(x, y, 0)).T.round(7)
            new = [
                {**(a := items[n % len(items)]), "attributes": {
                    **a["attributes"], "x": x[n], "y": y[n], "ra": sky[n][0], "dec": sky[n][1],
                    "object_id": f"{k}-{n}"}}
                for n in range(count)
            ]  # fmt: skip
            shards.write(out, {**one, "name": task.name, "key": task.key, "image": image,
                               "annotations": new})  # fmt: skip


def merged(folder: Path, labels: int) -> None:
    first = first_task(folder)
    result = merge(tasks_of(first, -(-labels // PER_TILE)), LabelConfig(), None, folder / "out", [])
    print(*result.problems)


def steps(folder: Path, labels: int) -> Iterator[tuple[str, list[str]]]:
    """A name and the command of each."""
    own = [sys.executable, __file__, "--labels", str(labels), "--folder", str(folder), "--step"]
    program = [sys.executable, "-m", "astrolabel"]
    coco = str(folder / "out" / "coco.json")
    yield "shards", [*own, "shards"]
    yield "merge", [*own, "merge"]
    yield "validate", [*program, "validate", coco]
    yield "split", [*program, "split", coco, "--fractions", "train=0.8", "test=0.2",
                    "--out", str(folder / "parts")]  # fmt: skip
    table = folder / "out" / "coco.parquet"
    if labels > 1_000_000:
        yield "validate table", [*program, "validate", str(table)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=("shards", "merge"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        {"shards": write_shards, "merge": merged}[options.step](options.folder, options.labels)
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        print(f"{'step':16}{'s of processor':>16}{'s by the clock':>16}{'GB':>8}")
        for step, words in steps(Path(name), options.labels):
            began = time.monotonic()
            run = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(run.pid, 0)
            seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6
            clock = time.monotonic() - began
            wrong += status != 0
            print(f"{step:16}{seconds:16.0f}{clock:16.0f}{peak:8.2f}", status or "")
        size = sum(p.stat().st_size for p in (Path(name) / "out").glob("coco.*")) / 1e9
        print(f"{options.labels} labels, {size:.2f} GB")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
