"""Time and memory of reading a large label file for training, and of its loader workers.

    python benchmarks/label_memory.py [--annotations 840000] [--images 1000] [--workers 2]

The file is made here: elliptical masks of 5 to 40 px with the attributes that astrolabel writes,
no two rows alike.
It is read in a process of its own. Memory is the process's resident size less what it was before
reading, with everything imported; a worker's is what it alone holds after it has decoded the
labels of images in random order.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from astroseg.core.rle import encode_at
from astroseg.data.augment import decode
from astroseg.data.dataset import Dataset, read_dataset

SIDE = 1050
"""px of an image: a tile of the paper."""

READ_BY_A_WORKER = 100
"""Images."""


def write_labels(path: Path, annotations: int, images: int) -> None:
    """A COCO file, written annotation by annotation."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-20:21, -20:21]
    entries = [
        {"id": k, "file_name": f"{k}.png", "height": SIDE, "width": SIDE}
        for k in range(1, images + 1)
    ]
    with path.open("w", encoding="utf-8") as file:
        file.write('{"images":' + json.dumps(entries))
        file.write(',"categories":[{"id":1,"name":"galaxy"},{"id":2,"name":"star"}]')
        file.write(',"annotations":[')
        for k in range(annotations):
            place = tuple(rng.integers(0, SIDE - 41, 2).tolist())
            (a, b), turn = rng.uniform(1.5, 20, 2), rng.uniform(0, np.pi)
            along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
            mask = encode_at((along / a) ** 2 + (across / b) ** 2 <= 1, place, (SIDE, SIDE))
            values = rng.normal(size=len(NAMES)).round(5).tolist()
            row = {
                "id": k + 1,
                "image_id": k * images // annotations + 1,
                "category_id": 1 + k % 2,
                "iscrowd": 0,
                "area": 100,
                "bbox": [*map(float, place), 41.0, 41.0],
                "segmentation": mask,
                "attributes": dict(zip(NAMES, values, strict=True)),
            }
            file.write((",\n" if k else "") + json.dumps(row, separators=(",", ":")))
        file.write("]}")


NAMES = (
    "ra", "dec", "x", "y", "mag_g", "mag_r", "mag_i", "flux_g", "flux_r", "flux_i", "snr", "chi2",
    "n_blended", "half_light_radius", "axis_ratio", "angle",
)  # fmt: skip


def resident(field: str) -> float:
    """MB of a field of /proc/self/status: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6


def private() -> float:
    """MB that this process alone holds."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(s.split()[1]) for s in lines if s.startswith("Private")) * 1024 / 1e6


def work(dataset: Dataset, seed: int, answer: Connection) -> None:
    """A worker: labels of images in random order."""
    before = private()
    for index in np.random.default_rng(seed).integers(0, len(dataset), READ_BY_A_WORKER):
        decode(dataset.truth[int(index)])
    answer.send(private() - before)


def measure(path: Path, workers: int) -> None:
    """Read the file, and start workers on it."""
    before, began = resident("VmRSS"), time.process_time()
    dataset = read_dataset(path)
    seconds = time.process_time() - began
    print(
        f"{dataset.objects} objects in {len(dataset)} images: {seconds:.1f} s of processor time, "
        f"{resident('VmHWM') - before:.0f} MB at most, {resident('VmRSS') - before:.0f} MB held "
        f"({before:.0f} MB before)",
        flush=True,
    )
    fork = multiprocessing.get_context("fork")
    for seed in range(workers):
        here, there = fork.Pipe(duplex=False)
        one = fork.Process(target=work, args=(dataset, seed, there))
        one.start()
        print(f"worker {seed + 1}: {here.recv():.0f} MB of its own", flush=True)
        one.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--annotations", type=int, default=840_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "labels.json"
        print(f"writing {given.annotations} annotations, some minutes for a million", flush=True)
        write_labels(path, given.annotations, given.images)
        print(f"{path.stat().st_size / 1e6:.0f} MB of JSON", flush=True)
        reading = multiprocessing.get_context("spawn").Process(
            target=measure, args=(path, given.workers)
        )
        reading.start()
        reading.join()
        assert reading.exitcode == 0


if __name__ == "__main__":
    main()
