"""Time and memory of `astrolabel report` on a dataset of many tiles.

    python benchmarks/report_memory.py [--tiles 1000] [--size 1050]

One simulated tile is labelled, and its files stand in (as links) for all the others: the
report reads a thousand residuals and their masks without a thousand tiles to simulate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from astrolabel.core.config import LabelConfig
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.simulate import SimulateConfig, simulate

FILES = {"images": "png", "cubes": "fits", "residuals": "png"}


def repeated(document, folder: Path, tiles: int):
    """A document that has its one tile so many times."""
    (image,), labels = document["images"], document["annotations"]
    images, annotations = [], []
    for k in range(tiles):
        for name, suffix in FILES.items():
            first = Path(image["file_name"]).with_suffix(f".{suffix}").name
            (folder / name / f"{k}.{suffix}").symlink_to(first)
        astro = {**image["astro"], "cube": f"cubes/{k}.fits", "residual": f"residuals/{k}.png"}
        images.append({**image, "id": k + 1, "file_name": f"images/{k}.png", "astro": astro})
        start = len(annotations) + 1
        annotations += [{**a, "id": start + n, "image_id": k + 1} for n, a in enumerate(labels)]
    return {**document, "images": images, "annotations": annotations}


def prepare(folder: Path, tiles: int, size: int) -> None:
    """Write the dataset of many tiles into `folder`."""
    simulate(folder / "sky", SimulateConfig(seed=1, size=size))
    (files,) = find_coadds(Inputs((folder / "sky",)))
    result = make_coco([files], LabelConfig(), folder / "labels", progress=False)
    document = repeated(coco.read(result.coco), folder / "labels", tiles)
    coco.write_json(folder / "labels" / "all.json", document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1050)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a child's peak memory starts at its parent's.
        making = multiprocessing.get_context("spawn").Process(
            target=prepare, args=(folder, options.tiles, options.size)
        )
        making.start()
        making.join()
        path = folder / "labels" / "all.json"
        words = [sys.executable, "-m", "astrolabel", "report", str(path), "--quiet"]
        command = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(command.pid, 0)
        assert status == 0
        page = (folder / "labels" / "report.html").stat().st_size
        found = json.loads((folder / "labels" / "report.json").read_text())
        assert len(found["residuals"]["tiles"]) == options.tiles
        counts = found["counts"]
        n = counts["labels"] + counts["ignored"] + counts["elsewhere"]
        print(
            f"{options.tiles} tiles of {options.size}x{options.size}, {n} annotations, "
            f"{path.stat().st_size / 1e6:.0f} MB of JSON"
        )
    print(
        f"{used.ru_utime + used.ru_stime:.0f} s of processor time, "
        f"{used.ru_maxrss / 1024:.0f} MiB at most, a page of {page / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
