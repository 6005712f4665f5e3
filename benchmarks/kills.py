"""Kill a run's parent or a worker at random instants, resume it, and compare every byte.

    python benchmarks/kills.py --instants 20 --seed 1 --backends processes dask

A simulated sky of 16 tiles is labelled once in one process: the truth. Then, for each backend and
for parent and worker, as many runs with two workers are killed with SIGKILL, each at a random
part of the run's own length, and the same command is run again until it ends. Tried, killed before
the end, and runs that ended in other bytes are printed; the exit code is 1 where there are any.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

WORKERS = ("LokyProcess", "spawn_main")
"""Words in the command line of a worker: of joblib, and of Dask."""
LIMIT_S = 1800
LOCK = ".astrolabel.lock"


def command(sky: Path, out: Path, jobs: int, backend: str) -> list[str]:
    words = [sys.executable, "-W", "ignore", "-m", "astrolabel", "make-coco", str(sky), "--quiet"]
    words += ["--tile-size", "48", "--margin", "12", "--bands", "i", "--out", str(out)]
    return [*words, "--jobs", str(jobs), "--backend", backend]


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of a run's files by name, but for the lock."""
    found = (p for p in out.rglob("*") if p.is_file() and p.name != LOCK)
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in found}


def workers_of(parent: int) -> list[int]:
    try:
        below = psutil.Process(parent).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for process in below:
        try:
            if any(word in part for part in process.cmdline() for word in WORKERS):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(words, stdout=stream, stderr=stream)


def killed(words: list[str], whom: str, after_s: float, log: Path) -> bool:
    """Start a run and kill it, or a worker of it, so many seconds after its first worker is
    there; whether there was something to kill. Where a worker was killed the run goes on to its
    own end."""
    run = started(words, log)
    end = time.monotonic() + LIMIT_S
    while run.poll() is None and not workers_of(run.pid) and time.monotonic() < end:
        time.sleep(0.01)
    until = time.monotonic() + after_s
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    if run.poll() is not None:
        return False
    if whom == "parent":
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        return True
    workers = workers_of(run.pid)
    for pid in workers[:1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            workers = []
    run.wait(LIMIT_S)
    return bool(workers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", nargs="+", default=["processes", "dask"])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    draw, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, sky = folder / "log", folder / "sky"
        simulate = ["simulate", str(sky), "--size", "192", "--seed", "3"]
        subprocess.run([sys.executable, "-m", "astrolabel", *simulate], check=True)
        started(command(sky, folder / "whole", 1, "processes"), log).wait()
        truth = contents(folder / "whole")
        assert sum(file.startswith("tiles/") for file in truth) == 16
        print(
            f"{'backend':12}{'killed':8}{'tried':>7}{'in time':>9}{'other bytes':>13}", flush=True
        )
        for backend in options.backends:
            began = time.monotonic()
            started(command(sky, folder / f"timed-{backend}", 2, backend), log).wait()
            length = time.monotonic() - began
            for whom in ("parent", "worker"):
                hit = other = 0
                for number in range(options.instants):
                    out = folder / f"{backend}-{whom}-{number}"
                    words = command(sky, out, 2, backend)
                    hit += killed(words, whom, draw.uniform(0, length), log)
                    for _ in range(5):  # workers of a killed parent end within seconds
                        if started(words, log).wait(LIMIT_S) == 0:
                            break
                        time.sleep(2)
                    other += contents(out) != truth
                wrong += other
                row = f"{backend:12}{whom:8}{options.instants:7}{hit:9}{other:13}"
                print(row, flush=True)
        if wrong:
            print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
