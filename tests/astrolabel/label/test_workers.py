"""Tiles on clusters: the same bytes as in one process, also when workers are killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from fits_files import SIGMA, scene, write_calexp

from astrolabel.core.config import LabelConfig, TileConfig
from astrolabel.core.errors import InputError
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.label.workers import Workers, each

SMALL = LabelConfig(tile=TileConfig(size=48, margin_px=12))


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A coadd of 96x96 pixels in one band: 2x2 tiles under SMALL."""
    folder = tmp_path_factory.mktemp("sky")
    image, _ = scene((96, 96), n=8)
    image = image + np.random.default_rng(1).normal(0, SIGMA, image.shape)
    write_calexp(folder, "i", image.astype("f4"))
    return folder


def run(sky, out, jobs):
    coadds = find_coadds(Inputs((sky,)))
    return make_coco(coadds, SMALL, out, jobs=jobs, progress=False).coco.read_bytes()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"backend": "spark"}, "unknown backend 'spark'; choose processes, dask"),
        ({"jobs": 0}, "--jobs 0"),
        ({"scheduler": "tcp://a:1"}, "--scheduler without --backend"),
    ],
)
def test_workers_that_cannot_be_are_refused(given, problem):
    with pytest.raises(InputError, match=problem):
        Workers(**given)


def kill_one(out, command):
    """Kill one worker process of this test once the first tile is being labelled or done."""

    def watch():
        end = time.monotonic() + 120
        while time.monotonic() < end:
            below = psutil.Process().children(recursive=True)
            workers = [p for p in below if any(command in word for word in _words(p))]
            if workers and list((out / "tiles").glob("*.json")):
                os.kill(workers[-1].pid, signal.SIGKILL)
                killed.append(workers[-1].pid)
                return
            time.sleep(0.02)

    killed: list[int] = []
    threading.Thread(target=watch, daemon=True).start()
    return killed


def _words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library, about the worker that is killed
def test_a_dask_cluster_gives_the_same_bytes_though_a_worker_is_killed(sky, tmp_path):
    pytest.importorskip("distributed")
    expected = run(sky, tmp_path / "one", 1)
    killed = kill_one(tmp_path / "dask", "spawn_main")
    assert run(sky, tmp_path / "dask", Workers(2, "dask")) == expected
    assert len(killed) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_running_dask_scheduler_is_used(sky, tmp_path):
    distributed = pytest.importorskip("distributed")
    expected = run(sky, tmp_path / "one", 1)
    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = Workers(1, "dask", cluster.scheduler_address)
        assert run(sky, tmp_path / "dask", workers) == expected
    import dask

    waits = dask.config.set({"distributed.comm.timeouts.connect": "1s"})  # half a minute, else
    with waits, pytest.raises(InputError, match="no Dask scheduler answers"):
        run(sky, tmp_path / "none", Workers(1, "dask", "tcp://127.0.0.1:9"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_bytes_though_a_worker_is_killed(sky, tmp_path):
    pytest.importorskip("ray")
    expected = run(sky, tmp_path / "one", 1)
    killed = kill_one(tmp_path / "ray", "ray::_outcome")
    assert run(sky, tmp_path / "ray", Workers(2, "ray")) == expected
    assert len(killed) == 1


def test_a_batch_systems_jobs_ask_for_the_memory(monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue")
    from astrolabel.label import workers

    asked = {}

    class Cluster:
        def __init__(self, **given):
            asked.update(given)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def scale(self, jobs):
            asked["jobs"] = jobs

    monkeypatch.setattr(jobqueue, "SLURMCluster", Cluster)
    with workers._cluster(Workers(8, "slurm", memory_gb=16)):
        pass
    assert asked == {"cores": 1, "processes": 1, "memory": "2GB", "jobs": 8}


@pytest.mark.slow
def test_what_workers_die_of_costs_no_other_item(tmp_path):
    def dies_of(item):  # in here, so that it travels by value
        mark = tmp_path / str(item)
        first = not mark.exists()
        mark.touch()
        if item == 1 or (item == 3 and first):
            os.kill(os.getpid(), signal.SIGKILL)
        return item * 10

    assert dict(each(dies_of, range(5), 2)) == {0: 0, 1: None, 2: 20, 3: 30, 4: 40}


DYING = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from astrolabel.label import shards
from astrolabel.label.workers import Workers, finished

def work(task):
    if task.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return 7

out = Path(sys.argv[1])
tasks = [SimpleNamespace(name=name) for name in "abc"]
with shards.opened(out):
    print(sorted(finished(work, tasks, Workers(1), out)))
"""


@pytest.mark.slow
def test_a_tile_that_killed_the_run_harms_no_other_tile_of_the_next(tmp_path):
    """One job labels in the process of the run."""
    script = tmp_path / "run.py"
    script.write_text(DYING)
    command = [sys.executable, str(script), str(tmp_path / "out")]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout == "[('a', 7), ('b', None), ('c', 7)]\n", again.stderr
    assert not list((tmp_path / "out" / "tiles").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_workers_without_anything_to_do_end_with_a_killed_run(tmp_path):
    """Joblib lets them wait for five minutes."""
    script = tmp_path / "run.py"
    script.write_text(
        "import time\nfrom astrolabel.label.workers import each\nlist(each(time.sleep, [500], 3))\n"
    )
    run = subprocess.Popen([sys.executable, str(script)])
    children: list[psutil.Process] = []
    until = time.monotonic() + 60
    while len(children) < 3 and time.monotonic() < until:
        time.sleep(0.1)
        found = psutil.Process(run.pid).children(recursive=True)
        children = [p for p in found if "LokyProcess" in " ".join(p.cmdline())]
    time.sleep(3)  # they have begun
    run.kill()
    run.wait()
    assert len(children) == 3
    _, alive = psutil.wait_procs(children, timeout=20)
    for process in alive:
        process.kill()
    assert not alive
