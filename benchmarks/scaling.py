"""Weak scaling: each worker has the same coadd to label, so more workers should take no longer.

    python benchmarks/scaling.py --workers 1 2 --turns 3

One simulated coadd is there once for each worker, under the name of another patch. The whole
command is timed, with planning and merging, which are not shared out. Turns alternate, so that
what else the machine does falls on all alike; the fastest counts. Seconds of the processor tell
how much of a difference is waiting for a core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATCH = "9813-4,5"
"""Of what `astrolabel simulate` writes."""


def copies(sky: Path, folder: Path, number: int) -> Path:
    """The files of a sky as those of so many patches."""
    folder.mkdir()
    for k in range(number):
        for path in (*sky.glob("calexp-*"), *sky.glob("psf-*")):
            (folder / path.name.replace(PATCH, f"9813-{k},5")).symlink_to(path.resolve())
    return folder


def timed(sky: Path, out: Path, jobs: int, tile: int) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, of labelling a folder."""
    words = [sys.executable, "-m", "astrolabel", "make-coco", str(sky), "--quiet", "--overlaps",
             "keep", "--tile-size", str(tile), "--jobs", str(jobs), "--out", str(out)]  # fmt: skip
    began = time.monotonic()
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(run.pid, 0)
    if status:
        raise SystemExit(f"make-coco ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=1200, help="pixels of a coadd's side")
    parser.add_argument("--tile", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["simulate", str(folder / "sky"), "--size", str(options.size), "--seed", "3"]
        subprocess.run([sys.executable, "-m", "astrolabel", *words], check=True)
        skies = {n: copies(folder / "sky", folder / f"sky{n}", n) for n in options.workers}
        timed(skies[options.workers[0]], folder / "warm", 1, options.tile)  # compiles
        found: dict[int, list[tuple[float, float]]] = {n: [] for n in options.workers}
        for turn in range(options.turns):
            for n, sky in skies.items():
                out = folder / f"out{n}-{turn}"
                found[n].append(timed(sky, out, n, options.tile))
                clock, processor = found[n][-1]
                print(f"{n} workers: {clock:.1f} s, {processor:.1f} s of processor", flush=True)
    print(f"{'workers':>8}{'s by the clock':>16}{'s of processor':>16}{'efficiency':>12}")
    first = min(clock for clock, _ in found[options.workers[0]])
    for n, runs in found.items():
        clock, processor = min(runs)
        print(f"{n:8}{clock:16.1f}{processor:16.1f}{first / clock:12.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
