"""Time and memory of `astrolabel report` on a dataset of many tiles.

    python benchmarks/report_memory.py [--tiles 1000] [--size 1050]

One simulated tile is labelled, and its files stand in (as links) for all the others: the
report reads a thousand residuals and their masks without a thousand tiles to simulate.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from astrolabel import coco
from astrolabel.config import LabelConfig
from astrolabel.pipeline import make_coco
from astrolabel.readers.find import Inputs, find_coadds
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1050)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder / "sky", SimulateConfig(seed=1, size=options.size))
        result = make_coco(
            find_coadds(Inputs((folder / "sky",))), LabelConfig(), folder / "labels", progress=False
        )
        document = repeated(coco.read(result.coco), folder / "labels", options.tiles)
        path = folder / "labels" / "all.json"
        coco.write(path, document)
        n, size = len(document["annotations"]), path.stat().st_size
        del document
        words = [sys.executable, "-m", "astrolabel", "report", str(path), "--quiet"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        page = (folder / "labels" / "report.html").stat().st_size
        found = json.loads((folder / "labels" / "report.json").read_text())
        assert len(found["residuals"]["tiles"]) == options.tiles
    print(f"{options.tiles} tiles of {options.size}x{options.size}, {n} annotations, "
          f"{size / 1e6:.0f} MB of JSON")  # fmt: skip
    print(f"{seconds:.0f} s of processor time, {used.ru_maxrss / 1024:.0f} MiB at most, "
          f"a page of {page / 1e6:.1f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
