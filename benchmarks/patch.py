"""A whole survey patch from FITS to COCO in one command: minutes, memory, and where they go.

    python benchmarks/patch.py --size 4200 --density 20 --jobs 2
    python benchmarks/patch.py --sky SKY --no-psf

Memory is that of all processes of the run together: what each holds alone, and its share of what
they hold in common (PSS), looked at every half second. Processor time is what the processes of
the run took. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

LOOK_S = 0.5


class Watch:
    """The processes of a run: their memory, and processor time by stage."""

    def __init__(self, root: int, out: Path) -> None:
        self.root, self.out = psutil.Process(root), out
        self.peak: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self._spent: dict[int, float] = {}

    def stage(self) -> str:
        """What the run is at, by the files that it has written."""
        if not (self.out / "plan.json").exists():
            return "planning"
        tiles = json.loads((self.out / "plan.json").read_text())["tiles"]
        done = sum((self.out / "tiles" / f"{tile['name']}.json").exists() for tile in tiles)
        return "labelling" if done < len(tiles) else "merging"

    def look(self) -> None:
        stage, held = self.stage(), 0
        for process in (self.root, *self.root.children(recursive=True)):
            try:
                held += process.memory_full_info().pss
                times = process.cpu_times()
            except psutil.Error:
                continue
            spent = times.user + times.system
            more = spent - self._spent.get(process.pid, 0.0)
            self.seconds[stage] = self.seconds.get(stage, 0.0) + more
            self._spent[process.pid] = spent
        self.peak[stage] = max(self.peak.get(stage, 0.0), held / 1e9)


def linked(sky: Path, folder: Path) -> Path:
    """The images of a simulated sky without its PSF stamps."""
    folder.mkdir()
    for path in sky.glob("calexp-*"):
        (folder / path.name).symlink_to(path.resolve())
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4200)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--density", type=float, default=20.0, help="sources a square arcminute")
    parser.add_argument("--sky", type=Path, help="a sky simulated before")
    parser.add_argument("--no-psf", action="store_true", help="PSFs are measured on the stars")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, sky = Path(name), options.sky
        command = [sys.executable, "-m", "astrolabel"]
        if sky is None:
            sky = folder / "sky"
            size = ["--size", str(options.size), "--seed", str(options.seed)]
            words = [*command, "simulate", str(sky), *size, "--density", str(options.density)]
            subprocess.run(words, check=True)
        sky = linked(sky, folder / "images") if options.no_psf else sky
        out = folder / "out"
        words = [*command, "make-coco", str(sky), "--bands", "g,r,i", "--quiet"]
        words += ["--jobs", str(options.jobs), "--out", str(out)]
        began = time.monotonic()
        run = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
        watch = Watch(run.pid, out)
        while run.poll() is None:
            try:
                watch.look()
            except psutil.NoSuchProcess:
                break
            time.sleep(LOOK_S)
        code = run.wait()
        minutes = (time.monotonic() - began) / 60
        labels = len(json.loads((out / "coco.json").read_text())["annotations"])
        written = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e9
    total = sum(watch.seconds.values())
    print(
        f"exit {code}, {labels} labels, {written:.2f} GB written, {minutes:.1f} min by the clock,"
    )
    print(f"{total / 60:.1f} min of processor time, {max(watch.peak.values()):.2f} GB at most")
    for stage, seconds in watch.seconds.items():
        print(f"  {stage:10} {100 * seconds / total:5.1f} % {watch.peak[stage]:6.2f} GB")
    return code


if __name__ == "__main__":
    sys.exit(main())
