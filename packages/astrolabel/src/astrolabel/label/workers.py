"""Tiles on workers: processes of this machine, or a cluster by Dask or Ray.

A task is small (a tile's name and where its pixels lie) and a result is a number: workers
read pixels and write shards themselves, so nothing large travels and nothing is gathered.
A worker that dies costs its tile a second try; a tile that two workers died of is ``crash``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import joblib

from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.imports import lasting_imports
from astrolabel.label import shards

T = TypeVar("T")
R = TypeVar("R")

BACKENDS = ("processes", "dask", "ray", "slurm", "pbs", "htcondor")
CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "htcondor": "HTCondorCluster"}
MAX_DEATHS = 2
"""Workers that may die of a tile before it is given up: one death may be another tile's fault,
or the machine's."""
WINDOW = 4
"""Tasks on their way for each worker of a cluster: enough that none waits for the next."""
PARENT_CHECK_S = 1.0


class Work(Protocol):
    """What is done with a task, in a worker; see `Task`."""

    def __call__(self, task: Any) -> int: ...


@dataclass(frozen=True)
class Workers:
    """Where tiles are labelled.

    Attributes
    ----------
    jobs : worker processes (-1 for all cores), or jobs of a batch system; 1 works in this
        process.
    backend : one of `BACKENDS`. ``processes`` leaves the choice to a backend that was set
        with ``joblib.parallel_config``.
    scheduler : address of a running Dask scheduler or Ray cluster; "" starts workers here.
    memory_gb : of all workers together; 0 sets no limit.
    """

    jobs: int = 1
    backend: str = "processes"
    scheduler: str = ""
    memory_gb: float = 0.0

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError(
                f"unknown backend {self.backend!r}", remedy=f"choose {', '.join(BACKENDS)}"
            )
        if self.jobs == 0 or self.jobs < -1:
            raise InputError(f"--jobs {self.jobs}", remedy="give 1 or more, or -1 for all cores")
        if self.scheduler and self.backend == "processes":
            raise InputError(
                "--scheduler without --backend", remedy="add --backend dask or --backend ray"
            )

    @property
    def count(self) -> int:
        """Workers at once on this machine."""
        return joblib.cpu_count() if self.jobs == -1 else self.jobs


def finished(
    work: Work, tasks: Sequence[Any], workers: Workers, out: Path
) -> Iterator[tuple[str, int | None]]:
    """(tile's name, number of labels) as tiles end; None for one that two workers died of.

    Parameters
    ----------
    work : called with each task in a worker.
    tasks : with a `name` each.
    out : the folder of the shards, where marks of running tiles lie.
    """
    if not tasks:
        return  # no cluster is started for a run that ended before
    engine = {"processes": _processes, "ray": _ray}.get(workers.backend, _dask)
    ending = engine(work, tasks, workers, out)
    try:
        yield from ending
    finally:  # an interrupt while we wait: workers end now, not at the next collection
        ending.close()


def _processes(
    work: Work, tasks: Sequence[Any], workers: Workers, out: Path
) -> Generator[tuple[str, int | None]]:
    left, idle = {t.name: t for t in tasks}, 0
    deaths = Counter(name for name in left if shards.was_deadly(out, name))
    while left:
        # Whatever a worker died of goes on alone, so that only its own worker can die of it.
        batch = [t for t in left.values() if not deaths[t.name]] or list(left.values())[:1]
        jobs = max(workers.jobs, 2) if deaths[batch[0].name] else workers.jobs
        before = len(left)
        results = _parallel(jobs)(joblib.delayed(_guarded)(work, task, out) for task in batch)
        try:
            for name, count in results:
                del left[name]
                yield name, count
        except BrokenProcessPool as error:
            suspects = [t.name for t in batch if shards.was_running(out, t.name)]
            idle = 0 if suspects or len(left) < before else idle + 1
            if idle >= MAX_DEATHS:
                raise OutputError(
                    "workers die before they begin a tile", remedy="give fewer --jobs"
                ) from error
            for name in suspects:
                deaths[name] += 1
                if deaths[name] >= MAX_DEATHS:
                    del left[name]
                    yield name, None
        finally:
            results.close()


def each(call: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[tuple[int, R | None]]:
    """(number, result) of a call for each item on processes of this machine, as they end.

    After a worker died an item goes on alone; None for one that `MAX_DEATHS` died of alone.
    """
    left, alone, deaths = dict(enumerate(items)), False, Counter[int]()
    while left:
        batch = list(left.items())[: 1 if alone else None]
        results = _parallel(max(jobs, 2) if alone else jobs)(
            joblib.delayed(_numbered)(call, number, item) for number, item in batch
        )
        try:
            for number, result in results:
                del left[number]
                yield number, result
        except BrokenProcessPool:
            number = batch[0][0]
            deaths[number] += alone
            if deaths[number] >= MAX_DEATHS:
                del left[number]
                yield number, None
            alone = True
        else:
            alone = False
        finally:
            results.close()


def _parallel(jobs: int) -> joblib.Parallel:
    """Processes that end with this one, also those that wait for something to do."""
    return joblib.Parallel(
        n_jobs=jobs,
        return_as="generator_unordered",
        initializer=_begin,
        initargs=(os.getpid(),),
    )


def _numbered(call: Callable[[T], R], number: int, item: T) -> tuple[int, R]:
    return number, call(item)


def _guarded(work: Work, task: Any, out: Path) -> tuple[str, int]:
    """Work on a task, marked as running."""
    with shards.running(out, task.name):
        return task.name, work(task)


def _begin(parent: int) -> None:
    """Begin a worker, which ends within a second of its parent, also where that was killed."""
    # Not where joblib is set to another backend.
    if not multiprocessing.current_process().name.startswith("LokyProcess"):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    with lasting_imports():
        importlib.import_module("astrolabel.label.work")  # all that tasks need


def _outcome(work: Work, task: Any) -> int | OutputError:
    """Work on a task; an error that ends the run is a value, which a cluster does not dress up as
    one of its own."""
    try:
        return work(task)
    except OutputError as error:
        return error


def _count(outcome: int | OutputError) -> int:
    if isinstance(outcome, OutputError):
        raise outcome
    return int(outcome)


def _dask(
    work: Work, tasks: Sequence[Any], workers: Workers, out: Path
) -> Generator[tuple[str, int | None]]:
    dask, distributed = _module("dask", "dask"), _module("distributed", "dask")
    # The second worker that dies of a tile is the last; none holds a tile it does not work on.
    settings = {
        "distributed.scheduler.allowed-failures": MAX_DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,
    }
    # Tiles of two runs on one scheduler may have the same names.
    run = uuid.uuid4().hex
    with (
        dask.config.set(settings),
        _cluster(workers) as address,
        _client(distributed.Client, address) as client,
    ):
        waiting = iter(tasks)
        names: dict[Any, str] = {}

        def submit(number: int) -> list[Any]:
            found = []
            for _, task in zip(range(number), waiting, strict=False):
                future = client.submit(
                    _outcome, work, task, key=f"tile-{task.name}-{run}", pure=False
                )
                names[future] = task.name
                found.append(future)
            return found

        count = max(len(client.scheduler_info()["workers"]), workers.count)
        ending = distributed.as_completed(submit(WINDOW * count))
        for future in ending:
            name = names.pop(future)
            if future.status == "error" and isinstance(
                future.exception(), distributed.KilledWorker
            ):
                yield name, None
            else:
                yield name, _count(future.result())
            for more in submit(1):
                ending.add(more)


@contextmanager
def _client(kind: Any, address: Any) -> Iterator[Any]:
    try:
        client = kind(address)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error})",
            remedy="start one with `dask scheduler`, or leave out --scheduler",
        ) from error
    with client:
        yield client


@contextmanager
def _cluster(workers: Workers) -> Iterator[Any]:
    """A scheduler's address, or a cluster started for this run."""
    if workers.scheduler:
        yield workers.scheduler
    elif workers.backend in CLUSTERS:
        dask_jobqueue = _module("dask_jobqueue", workers.backend)
        # Queue, time and the like come from the user's own ~/.config/dask/jobqueue.yaml.
        memory = f"{workers.memory_gb / workers.count:.3g}GB" if workers.memory_gb else "4GB"
        kind = getattr(dask_jobqueue, CLUSTERS[workers.backend])
        with kind(cores=1, processes=1, memory=memory) as cluster:
            cluster.scale(workers.count)
            yield cluster
    else:
        # The memory of a process is measured, not limited: see `cost`.
        with _module("distributed", "dask").LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
        ) as cluster:
            yield cluster


def _ray(
    work: Work, tasks: Sequence[Any], workers: Workers, out: Path
) -> Generator[tuple[str, int | None]]:
    ray = _module("ray", "ray")
    started = not ray.is_initialized()
    if started:
        words = {"address": workers.scheduler} if workers.scheduler else {"num_cpus": workers.count}
        ray.init(**words, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        remote = ray.remote(max_retries=MAX_DEATHS - 1)(_outcome)
        waiting = iter(tasks)
        limit = WINDOW * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        names = {
            remote.remote(work, t): t.name for _, t in zip(range(limit), waiting, strict=False)
        }
        while names:
            done, _ = ray.wait(list(names))
            name = names.pop(done[0])
            try:
                count = _count(ray.get(done[0]))
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                yield name, None
            else:
                yield name, count
            for task in waiting:
                names[remote.remote(work, task)] = task.name
                break
    finally:
        if started:
            ray.shutdown()


def _module(name: str, backend: str) -> Any:
    """An optional library, which brings no types."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"--backend {backend} needs {name.replace('_', '-')}",
            remedy="pip install 'astrolabel[dask]', or 'astrolabel[ray]', or leave out --backend",
        ) from error


class Terminated(SystemExit):
    """SIGTERM came: what is being done ends, and the same command goes on from there."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block as an interrupt does, so that workers end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
