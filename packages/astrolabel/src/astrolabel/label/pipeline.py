"""`make-coco`: plan the tiles, label each on a worker, merge; a stopped run can be resumed.

Every tile leaves one shard (see `shards`) with the hash of all that it came from. A later run
with the same hash takes it as it is, so a run that was stopped ends in the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astrolabel.catalog.catalog import Catalog
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError
from astrolabel.core.progress import Progress
from astrolabel.deblend import make_deblender
from astrolabel.io import coco
from astrolabel.io.files import CoaddFiles
from astrolabel.label import shards
from astrolabel.label.cost import tile_bytes
from astrolabel.label.merge import Result, merge
from astrolabel.label.plan import Task, plan
from astrolabel.label.work import ended, work
from astrolabel.label.workers import Workers, finished, terminable

__all__ = ["Result", "make_coco", "truth_recipe"]


def make_coco(
    coadds: Sequence[CoaddFiles],
    config: LabelConfig,
    out: Path,
    catalog: tuple[Catalog, Path] | None = None,
    jobs: int | Workers = 1,
    progress: bool = True,
) -> Result:
    """Label coadds into ``out/coco.json``, ``out/images``, ``out/cubes`` and ``out/residuals``.

    Parameters
    ----------
    coadds : what to label; see `astrolabel.io.find.find_coadds`.
    catalog : the objects that give the classes, and the file they are from.
    jobs : worker processes (-1 for all cores), or more on where tiles are labelled.

    Raises
    ------
    OutputError
        When `out` cannot be written, or another run is writing there.
    InputError
        When not one coadd could be read. A coadd or tile that fails beside others is
        recorded in the result and in the file, and harms nothing else.
    """
    make_deblender(config.deblend)  # an unknown name is an error before the work starts
    workers = Workers(jobs) if isinstance(jobs, int) else jobs
    with shards.opened(out), terminable():
        jobs = planners(coadds, config, workers)
        planned, problems = plan(coadds, config, out, catalog, jobs, progress)
        if not planned:
            raise InputError(problems[0] if problems else "no coadds to label")
        coco.write_json(out / "plan.json", _plan_entry(planned, config))
        tasks = [t for t in planned if shards.read_done(out, t.name, t.key) is None]
        _label(tasks, len(planned), workers, out, progress)
        return merge(planned, config, catalog, out, problems)


def planners(coadds: Sequence[CoaddFiles], config: LabelConfig, workers: Workers) -> int:
    """Coadds that are looked at at once: as many as the memory has room for, one at least.

    A section of a coadd takes no more than a tile of its size.
    """
    limit, side = int(workers.memory_gb * 1e9), config.prepare.section_px
    needs = [tile_bytes((min(h, side), min(w, side)), len(c.bands))
             for c in coadds for h, w in [c.shape]]  # fmt: skip
    if not limit or not needs:
        return workers.jobs
    return min(workers.count, max(limit // max(needs), 1))


def _label(tasks: list[Task], total: int, workers: Workers, out: Path, progress: bool) -> None:
    """Label tiles on workers, as many at once as the memory allows."""
    fitting, workers = _fitted(tasks, workers, out)
    with Progress(total, "tiles", "tile", done=total - len(fitting), shown=progress) as bar:
        by_name = {task.name: task for task in fitting}
        for name, count in finished(work, fitting, workers, out):
            if count is None:
                crashed = f"{shards.CRASH}: workers died of it, of too little memory most likely"
                shards.write(out, ended(by_name[name], crashed))
            bar.update(note=f"{name}: {'crash' if count is None else f'{count} labels'}")


def _fitted(tasks: list[Task], workers: Workers, out: Path) -> tuple[list[Task], Workers]:
    """The tiles that the memory has room for, and so many workers that all have room."""
    limit = int(workers.memory_gb * 1e9)
    if not limit:
        return tasks, workers
    fitting = [task for task in tasks if task.bytes <= limit]
    for task in tasks:
        if task.bytes > limit:
            why = f"needs {task.bytes / 1e9:.2f} GB; choose a smaller --tile-size"
            shards.write(out, ended(task, f"skipped:memory: {why}"))
    most = max((task.bytes for task in fitting), default=1)
    return fitting, replace(workers, jobs=min(workers.count, max(limit // most, 1)))


def _plan_entry(tasks: Sequence[Task], config: LabelConfig) -> dict[str, object]:
    """What ``make-coco --status`` reads."""
    tiles = [{"name": task.name, "key": task.key} for task in tasks]
    return {"config_hash": config.digest(), "tiles": tiles}


def truth_recipe(config: LabelConfig) -> LabelConfig:
    """A recipe for scenes with truth images: their classes, and every scene a sky of its own
    whatever its header says."""
    return replace(
        config,
        tile=replace(config.tile, overlaps="keep"),
        classify=replace(config.classify, scheme="truth"),
    )
