"""`make-coco`: plan the tiles, label each on a worker, merge; stop and go on at will.

Every tile leaves one shard, ``OUT/tiles/<tile>.json``, written whole or not at all after
its image and cube. A shard carries the hash of all that it came from; a later run with
the same hash takes it as it is, so a run that was stopped ends in the same file.
"""

from __future__ import annotations

import importlib.metadata
import json
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from astropy.io import fits

import astrolabel
from astrolabel.catalog.catalog import Catalog
from astrolabel.catalog.classify import categories
from astrolabel.core import psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import AstrolabelError, InputError, OutputError
from astrolabel.core.files import atomic_path
from astrolabel.core.progress import Progress, say_when_compiling
from astrolabel.deblend import libraries, make_deblender
from astrolabel.export.croissant import write_croissant
from astrolabel.io import coco, pictures
from astrolabel.io.files import CoaddFiles
from astrolabel.io.parquet import write_parquet
from astrolabel.io.residual_image import write_residual
from astrolabel.io.validate import validate
from astrolabel.label import flags
from astrolabel.label.overlaps import owned
from astrolabel.label.plan import Task, plan
from astrolabel.label.records import TileLabels
from astrolabel.label.tile import label_tile
from astrolabel.label.tiles import no_data_fraction
from astrolabel.label.truth_images import label_truth
from astrolabel.prepare import read

PARQUET_BEYOND = 1_000_000
"""Labels beyond which a Parquet table is written too: JSON of that size takes most tools
minutes and gigabytes to open."""
LIBRARIES = ("numpy", "scipy", "astropy", "sep", "numba", "pycocotools")


@dataclass(frozen=True)
class Result:
    """What a run ended in.

    Attributes
    ----------
    coco : the file written.
    tiles : (name, state) of every tile, in the file's order.
    sources : number of detections by state.
    problems : one line per coadd or tile that failed.
    """

    coco: Path
    tiles: tuple[tuple[str, str], ...]
    sources: dict[str, int]
    problems: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for people: tiles and sources by state."""
        tiles = Counter(state.partition(":")[0] for _, state in self.tiles)
        lines = [
            f"{self.coco}: {tiles['ok']} tiles labelled"
            + "".join(f", {tiles[s]} {s}" for s in ("skipped", "failed") if tiles[s])
        ]
        width = max((len(str(n)) for n in self.sources.values()), default=1)
        return "\n".join(lines + [f"  {n:{width}d} {state}" for state, n in self.sources.items()])


def make_coco(
    coadds: Sequence[CoaddFiles],
    config: LabelConfig,
    out: Path,
    catalog: tuple[Catalog, Path] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> Result:
    """Label coadds into ``out/coco.json``, ``out/images``, ``out/cubes`` and ``out/residuals``.

    Parameters
    ----------
    coadds : what to label; see `astrolabel.io.find.find_coadds`.
    catalog : the objects that give the classes, and the file they are from.
    jobs : worker processes (joblib; -1 for all cores). A joblib backend chosen with
        ``joblib.parallel_config`` (dask, ray) is used instead of processes.

    Raises
    ------
    OutputError
        When `out` cannot be written.
    InputError
        When not one coadd could be read. A coadd or tile that fails beside others is
        recorded in the result and in the file, and harms nothing else.
    """
    make_deblender(config.deblend)  # an unknown name is an error before the work starts
    _prepare(out)
    planned, problems = plan(coadds, config, out, catalog, jobs, progress)
    if not planned:
        raise InputError(problems[0] if problems else "no coadds to label")
    tasks = [t for t in planned if not _is_done(t)]
    finished = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
        joblib.delayed(_work)(t) for t in tasks
    )
    done = len(planned) - len(tasks)
    with Progress(len(planned), "tiles", "tile", done=done, shown=progress) as bar:
        for name, n_labels in finished:
            bar.update(note=f"{name}: {n_labels} labels")
    return _merge(planned, config, catalog, out, problems)


def truth_recipe(config: LabelConfig) -> LabelConfig:
    """A recipe for scenes with truth images: their classes, and every scene a sky of its own
    whatever its header says."""
    return replace(
        config,
        tile=replace(config.tile, overlaps="keep"),
        classify=replace(config.classify, scheme="truth"),
    )


def _prepare(out: Path) -> None:
    try:
        for name in ("", "tiles", "images", "cubes", "residuals"):
            (out / name).mkdir(parents=True, exist_ok=True)
        with atomic_path(out / "tiles" / ".writable") as probe:
            probe.write_bytes(b"")
        (out / "tiles" / ".writable").unlink()
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            file=out,
            remedy="choose another place with --out",
        ) from error


def _is_done(task: Task) -> bool:
    """Whether the tile's shard is there, from the same input, with what it points to."""
    shard = _read_shard(task)
    if shard is None or shard["key"] != task.key or shard["state"].startswith("failed"):
        return False
    if shard["image"] is None:
        return True
    image = shard["image"]
    files = [image["file_name"], image["astro"]["cube"]]
    if task.files.truth is None:
        files.append(image["astro"].get("residual"))
    return all(name is not None and (task.out / name).exists() for name in files)


def _read_shard(task: Task) -> dict[str, Any] | None:
    path = _shard_path(task)
    try:
        shard = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return shard if isinstance(shard, dict) and "key" in shard else None


def _shard_path(task: Task) -> Path:
    return task.out / "tiles" / f"{task.name}.json"


def _work(task: Task) -> tuple[str, int]:
    """Label one tile and write its shard; (name, number of labels).

    Nothing that goes wrong in a tile may stop the others: it is recorded in the shard.
    """
    say_when_compiling()
    try:
        shard = _shard(task)
    except AstrolabelError as error:
        shard = _failed(task, str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        shard = {**_failed(task, reason), "traceback": traceback.format_exc()}
    coco.write_json(_shard_path(task), shard)
    return task.name, len(shard["annotations"])


def _failed(task: Task, reason: str) -> dict[str, Any]:
    state = f"failed:{reason}"
    return {**_shard_head(task, state), "image": None, "annotations": [], "sources": []}


def _shard_head(task: Task, state: str) -> dict[str, Any]:
    return {
        "key": task.key,
        "name": task.name,
        "state": state,
        "notes": dict(task.look.known.notes),
    }


def _shard(task: Task) -> dict[str, Any]:
    coadd = read.read(task.files, task.look.known, task.tile.outer)
    core = task.tile.core_in_outer
    missing = no_data_fraction(coadd, core)
    if missing > task.config.tile.max_no_data:
        state = f"skipped:{100 * missing:.0f} % of the pixels have no data"
        return {**_shard_head(task, state), "image": None, "annotations": [], "sources": []}
    labels = _labels(task, coadd)
    shown = coadd.cutout(core)
    image = _image_entry(task, shown, labels)
    sigma = np.array(labels.sky_sigma)
    pictures.write_png(
        task.out / image["file_name"], pictures.rgb(shown.image, sigma, task.look.gains)
    )
    _write_cube(task.out / image["astro"]["cube"], shown)
    if labels.residual is not None:
        write_residual(task.out / image["astro"]["residual"], labels.residual)
    return {
        **_shard_head(task, "ok"),
        "notes": dict(coadd.notes),
        "image": image,
        "annotations": labels.annotations,
        "sources": labels.sources,
    }


def _labels(task: Task, coadd: Coadd) -> TileLabels:
    truth = task.files.truth
    if truth is not None:
        return label_truth(coadd, task.tile, task.config, truth, task.files.shape)
    deblender = make_deblender(task.config.deblend)
    return label_tile(coadd, task.tile, task.config, deblender, task.catalog, _ownership(task))


def _ownership(task: Task) -> Any:
    """Which positions in the tile's outer pixels are its coadd's own (see `label_tile`)."""
    if not task.others:
        return None
    one, box = task.look.footprint, task.tile.outer
    return lambda y, x: owned(one, task.others, y + box.y0, x + box.x0)


def _image_entry(task: Task, shown: Coadd, labels: TileLabels) -> dict[str, Any]:
    scale = shown.pixel_scale_arcsec
    widths = [psf.fwhm_px(stamp) for stamp in shown.psfs]
    return {
        "file_name": f"images/{task.name}.png",
        "height": shown.shape[0],
        "width": shown.shape[1],
        "astro": {
            "cube": f"cubes/{task.name}.fits",
            "residual": None if labels.residual is None else f"residuals/{task.name}.png",
            "bands": list(shown.bands),
            "zeropoint": list(shown.zeropoints),
            "wcs": _wcs_cards(shown),
            "origin": list(shown.origin),
            "tract": shown.tract,
            "patch": shown.patch,
            "psf_fwhm_arcsec": [None if scale is None else round(w * scale, 4) for w in widths],
            "sky_sigma": list(labels.sky_sigma),
            "chi2_per_pixel": labels.chi2_per_pixel,
            "state": "ok",
        },
    }


def _wcs_cards(coadd: Coadd) -> dict[str, Any] | None:
    if coadd.wcs is None:
        return None
    header = coadd.wcs.to_header(relax=True)
    return {key: header[key] for key in header if key not in ("COMMENT", "HISTORY", "")}


def _write_cube(path: Path, shown: Coadd) -> None:
    """The tile's pixels: one float32 FITS cube, the bands in order along the first axis."""
    header = fits.Header() if shown.wcs is None else shown.wcs.to_header(relax=True)
    header["BANDS"] = (",".join(shown.bands), "planes of the cube in order")
    for k, (band, zeropoint) in enumerate(zip(shown.bands, shown.zeropoints, strict=True)):
        header[f"BAND{k}"] = (band, f"plane {k}")
        if np.isfinite(zeropoint):
            header[f"ZP{k}"] = (zeropoint, "AB magnitude of one count")
    header["ORIGINY"] = (shown.origin[0], "first row in the survey's frame")
    header["ORIGINX"] = (shown.origin[1], "first column in the survey's frame")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        fits.PrimaryHDU(shown.image, header).writeto(stream)


def _merge(
    tasks: Sequence[Task],
    config: LabelConfig,
    catalog: tuple[Catalog, Path] | None,
    out: Path,
    problems: list[str],
) -> Result:
    shards = []
    for task in tasks:
        shard = _read_shard(task)
        if shard is None:
            raise OutputError("the tile's shard has gone", file=_shard_path(task))
        shards.append(shard)
    states = tuple((shard["name"], shard["state"]) for shard in shards)
    problems = problems + [
        f"tile {name}: {state.removeprefix('failed:')}"
        for name, state in states
        if state.startswith("failed")
    ]
    counts: dict[str, int] = {}
    for state in (s["state"] for shard in shards for s in shard["sources"]):
        counts[state] = counts.get(state, 0) + 1
    counts = dict(sorted(counts.items()))
    info = _info(tasks, shards, config, catalog, counts)
    document = coco.merge(info, categories(config.classify.scheme), shards)
    found = validate(document, out)
    if found:
        raise OutputError(
            f"the merged file would be faulty: {found[0]}",
            file=out / "coco.json",
            remedy="remove the folder's tiles/ and run again; if it stays, report it",
        )
    coco.write(out / "coco.json", document)
    write_croissant(out / "coco.json", document)
    if len(document["annotations"]) > PARQUET_BEYOND:
        try:
            write_parquet(out / "coco.parquet", document)
        except InputError as error:  # pyarrow is missing: the labels are whole without it
            problems.append(f"no Parquet table beside coco.json: {error}")
    return Result(out / "coco.json", states, counts, tuple(problems))


def _info(
    tasks: Sequence[Task],
    shards: Sequence[dict[str, Any]],
    config: LabelConfig,
    catalog: tuple[Catalog, Path] | None,
    counts: dict[str, int],
) -> dict[str, Any]:
    """Provenance. No date and no absolute path: equal input gives equal bytes."""
    # Scenes of one survey may all have files of the same names.
    inputs = {(name, digest) for task in tasks for name, digest in task.hashes.items()}
    return {
        "description": "Instance labels of survey coadds",
        "version": astrolabel.__version__,
        "program": f"astrolabel {astrolabel.__version__}",
        "config": config.to_dict(),
        "config_hash": config.digest(),
        "libraries": {
            name: importlib.metadata.version(name)
            for name in (*LIBRARIES, *libraries(config.deblend.engine))
        },
        "inputs": [{"file": n, "sha256": digest} for n, digest in sorted(inputs)],
        "catalog": None if catalog is None else catalog[0].described(catalog[1].name),
        "flags": flags.described(),
        "tiles": [{"name": s["name"], "state": s["state"], "notes": s["notes"]} for s in shards],
        "sources": counts,
    }
