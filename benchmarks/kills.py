"""Kill a run's parent or a worker at random instants, resume it, and compare every byte.

    python benchmarks/kills.py --instants 20 --seed 1 --backends processes dask scheduler

A simulated sky of 16 tiles is labelled once in one process: the truth. Then, for each backend and
for parent and worker, runs with two workers are killed with SIGKILL, each at a random instant
between its first worker and its end, and the same command is run again until it ends. A run that
ended before its instant is another try, until as many were killed as asked for. Tries, killed, and
runs that ended in other bytes are printed; the exit code is 1 where there are any. `dask` is a
cluster that the run starts and that dies with it; `scheduler` is one that goes on when the run is
killed, given by its address.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

WORKERS = ("LokyProcess", "spawn_main")
"""Words in the command line of a worker: of joblib, and of Dask."""
LIMIT_S = 1800
TRIES = 5
"""Runs after a kill until one ends: workers of a killed parent end within seconds."""
MOST = 3
"""Tries for each kill."""
LOCK = ".astrolabel.lock"


@dataclass(frozen=True)
class Place:
    """Where tiles are labelled.

    Attributes
    ----------
    name : word for the table.
    words : options of `make-coco`.
    above : the process below which the workers are; 0 for the run itself.
    """

    name: str
    words: tuple[str, ...]
    above: int = 0


@contextmanager
def place(name: str) -> Iterator[Place]:
    if name != "scheduler":
        yield Place(name, ("--jobs", "2", "--backend", name))
        return
    from distributed import LocalCluster

    with LocalCluster(2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster:
        words = ("--backend", "dask", "--scheduler", cluster.scheduler_address)
        yield Place(name, words, os.getpid())


def command(sky: Path, out: Path, where: tuple[str, ...]) -> list[str]:
    words = [sys.executable, "-W", "ignore", "-m", "astrolabel", "make-coco", str(sky), "--quiet"]
    words += ["--tile-size", "48", "--margin", "12", "--bands", "i", "--out", str(out)]
    return [*words, *where]


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


def at_work(out: Path) -> bool:
    """Whether tiles of a run are planned: its workers begin."""
    return (out / "plan.json").exists()


def killed(
    run: subprocess.Popen[bytes],
    out: Path,
    above: int,
    whom: str,
    after_s: float,
    draw: random.Random,
) -> bool:
    """Kill a run, or a worker of it, so many seconds after it began with its tiles; whether there
    was something to kill. Where a worker was killed the run goes on to its own end."""
    while run.poll() is None and not (at_work(out) and workers_of(above or run.pid)):
        time.sleep(0.01)
    until = time.monotonic() + after_s
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    if run.poll() is not None:
        return False
    if whom == "parent":
        run.kill()
        run.wait()
        return True
    workers = workers_of(above or run.pid)
    if workers:
        try:
            os.kill(draw.choice(workers), signal.SIGKILL)
        except ProcessLookupError:
            workers = []
    run.wait(LIMIT_S)
    return bool(workers)


def length_s(words: list[str], out: Path, above: int, log: Path) -> float:
    """Seconds between the first worker of a run and its end."""
    run = started(words, log)
    while run.poll() is None and not (at_work(out) and workers_of(above or run.pid)):
        time.sleep(0.01)
    began = time.monotonic()
    if run.wait(LIMIT_S):
        raise RuntimeError(log.read_text(errors="replace")[-3000:])
    return time.monotonic() - began


def ended(words: list[str], log: Path) -> None:
    """Run a command until it ends well; after `TRIES` it is what it is."""
    for _ in range(TRIES):
        if started(words, log).wait(LIMIT_S) == 0:
            return
        time.sleep(2)


def rows(
    where: Place, sky: Path, folder: Path, options: argparse.Namespace, draw: random.Random
) -> Iterator[tuple[str, int, int, int]]:
    """(whom, tries, killed, other bytes) of a backend."""
    log, truth = folder / "log", contents(folder / "whole")
    for turn in ("cold", "warm"):  # workers of a cluster that goes on have imported by then
        timed = folder / f"{turn}-{where.name}"
        length = length_s(command(sky, timed, where.words), timed, where.above, log)
    for whom in options.whom:
        hit = other = number = 0
        while hit < options.instants and number < MOST * options.instants:
            out = folder / f"{where.name}-{whom}-{number}"
            words, after_s = command(sky, out, where.words), draw.uniform(0, length)
            hit += killed(started(words, log), out, where.above, whom, after_s, draw)
            ended(words, log)
            other += contents(out) != truth
            number += 1
        yield whom, number, hit, other


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    backends = ("processes", "dask", "scheduler")
    parser.add_argument("--backends", nargs="+", choices=backends, default=list(backends))
    parser.add_argument(
        "--whom", nargs="+", choices=("parent", "worker"), default=["parent", "worker"]
    )
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    draw, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, sky = folder / "log", folder / "sky"
        simulate = ["simulate", str(sky), "--size", "192", "--seed", "5"]
        subprocess.run([sys.executable, "-m", "astrolabel", *simulate], check=True)
        ended(command(sky, folder / "whole", ("--jobs", "1")), log)
        assert sum(file.startswith("tiles/") for file in contents(folder / "whole")) == 16
        head = f"{'backend':12}{'killed':8}{'tries':>7}{'killed':>9}{'other bytes':>13}"
        print(head, flush=True)
        for backend in options.backends:
            with place(backend) as where:
                for whom, tries, hit, other in rows(where, sky, folder, options, draw):
                    wrong += other
                    row = f"{backend:12}{whom:8}{tries:7}{hit:9}{other:13}"
                    print(row, flush=True)
        if wrong:
            print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
