"""Plan a run: look at the coadds, settle who owns their overlaps, cut them into tiles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import astrolabel
from astrolabel.catalog.catalog import Catalog
from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError
from astrolabel.core.files import file_hash
from astrolabel.core.progress import steps
from astrolabel.io.files import CoaddFiles, check
from astrolabel.io.integrity import check_sums
from astrolabel.io.layers import read_origin, read_wcs
from astrolabel.io.pictures import white_balance
from astrolabel.label.cost import tile_bytes
from astrolabel.label.overlaps import Footprint, describe, neighbours, primary_box
from astrolabel.label.tiles import Tile, split
from astrolabel.label.workers import each
from astrolabel.prepare import read
from astrolabel.prepare.read import Characteristics


@dataclass(frozen=True, eq=False)
class Look:
    """What is found out about a coadd before its tiles are planned.

    Attributes
    ----------
    gains : balance the colours of the pictures, the same for all tiles of a coadd.
    names : what each of its files is called in the provenance.
    hashes : sha256 of its files by that name.
    """

    known: Characteristics
    gains: tuple[float, ...]
    names: Mapping[Path, str]
    hashes: Mapping[str, str]
    footprint: Footprint


@dataclass(frozen=True, eq=False)
class Task:
    """All that a worker needs for one tile; small, and picklable.

    Attributes
    ----------
    key : hash of everything the tile's labels depend on.
    hashes : sha256 of the files among that, by name.
    catalog : the objects around the tile.
    others : the coadds that overlap the tile's.
    bytes : memory that a worker needs for it (see `cost`).
    """

    name: str
    key: str
    hashes: Mapping[str, str]
    files: CoaddFiles
    look: Look
    tile: Tile
    config: LabelConfig
    catalog: Catalog | None
    out: Path
    others: tuple[Footprint, ...]
    bytes: int = 0


def plan(
    coadds: Sequence[CoaddFiles],
    config: LabelConfig,
    out: Path,
    catalog: tuple[Catalog, Path] | None,
    jobs: int,
    progress: bool,
) -> tuple[list[Task], list[str]]:
    """The tiles of all coadds that can be read, and a line for each that cannot."""
    problems: list[str] = []
    looking = each(partial(look, config=config), coadds, jobs)
    looks = dict(steps(looking, len(coadds), "coadds", "coadd", shown=progress))
    readable: list[tuple[CoaddFiles, Look]] = []
    for number, files in enumerate(coadds):
        found = looks[number]
        if found is None:
            found = (
                f"{files.layers[0].path}: two workers died of it, of too little memory most likely"
            )
        if isinstance(found, str):
            problems.append(found)
        elif catalog is not None and found.footprint.wcs is None:
            problems.append(f"{files.name}: no WCS, so its sources cannot be matched to a catalog")
        else:
            readable.append((files, found))
    others = neighbours([found.footprint for _, found in readable])
    of_catalog = {} if catalog is None else {catalog[1].name: file_hash(catalog[1])}
    tasks: list[Task] = []
    for files, found in readable:
        near = others[files.name] if config.tile.overlaps == "resolve" else ()
        own = list(tasks_of(files, found, near, config, out, catalog, of_catalog))
        if not own:
            where = ", ".join(o.name for o in near[:3])
            problems.append(
                f"{files.name}: not labelled, its sky is that of {where}; "
                "label it alone, or all with tile.overlaps keep"
            )
        tasks += own
    return tasks, problems


def tasks_of(
    files: CoaddFiles,
    found: Look,
    others: tuple[Footprint, ...],
    config: LabelConfig,
    out: Path,
    catalog: tuple[Catalog, Path] | None,
    of_catalog: Mapping[str, str],
) -> Iterator[Task]:
    """The tiles of one coadd."""
    wcs, hashes = found.footprint.wcs, {**found.hashes, **of_catalog}
    for tile in split(files.shape, config.tile, primary_box(found.footprint, others)):
        near = None
        if catalog is not None and wcs is not None:
            near = _around(catalog[0], wcs, tile, config.classify.radius_arcsec)
        basis = {
            "program": astrolabel.__version__,
            "config": config.to_dict(),
            "files": hashes,
            "bands": files.bands,
            "zeropoints": dict(files.zeropoints),
            "read_as": [repr(replace(part, path=Path(part.path.name))) for part in files.parts],
            "tile": repr(tile),
            "others": describe(others),
        }
        key = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()
        name = f"{files.name}-r{tile.row}c{tile.column}"
        need = tile_bytes(tile.outer.shape, len(files.bands))
        yield Task(name, key, hashes, files, found, tile, config, near, out, others, need)


def look(files: CoaddFiles, config: LabelConfig) -> Look | str:
    """Check a coadd and find what its tiles need; one line on what is wrong where that fails.

    Whatever a file does to its readers, it must not end the run of the others.
    """
    try:
        for path in files.paths:
            if ".fits" in path.name.lower():
                check_sums(path)
        check(files)
        names = _names(files.paths)
        hashes = {name: file_hash(path) for path, name in names.items()}
        known = read.characterise(files, config.prepare)
        height, width = files.shape
        middle = Box.around(height // 2, width // 2, config.tile.balance_px // 2)
        gains = white_balance(read.read(files, known, middle, config.prepare).image)
        return Look(known, tuple(float(g) for g in gains), names, hashes, place(files))
    except InputError as error:
        return str(error)
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{files.layers[0].path}: cannot be labelled ({why}); report it with the file"


def place(files: CoaddFiles) -> Footprint:
    """Where a coadd lies, from its headers."""
    first = files.layers[0]
    origin = read_origin(first)
    # Without an origin all patches of a tract would lie on one another: they are placed by WCS.
    tract = files.tract if origin is not None else ""
    return Footprint(files.name, files.shape, tract, origin or (0, 0), read_wcs(first))


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Names of files, with their folders where names are the same."""
    alike: dict[str, list[Path]] = {}
    for path in paths:
        alike.setdefault(path.name, []).append(path)
    found = {}
    for name, same in alike.items():
        top = os.path.commonpath([path.absolute().parent for path in same])
        for path in same:
            own = path.absolute().relative_to(top).as_posix()
            found[path] = name if len(same) == 1 else own
    return found


def _around(catalog: Catalog, wcs: Any, tile: Tile, radius_arcsec: float) -> Catalog:
    """The part of a catalog that a tile's sources can match."""
    box = tile.outer
    y = np.array([box.y0, box.y0, box.y1, box.y1]) - 0.5
    x = np.array([box.x0, box.x1, box.x0, box.x1]) - 0.5
    ra, dec = to_icrs(wcs, x, y)
    return catalog.take(catalog.rows_around(ra, dec, 2 * radius_arcsec))
