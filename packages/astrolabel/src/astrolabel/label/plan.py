"""Plan a run: look at the coadds, settle who owns their overlaps, cut them into tiles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import astrolabel
from astrolabel.catalog.catalog import Catalog
from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import AstrolabelError, InputError
from astrolabel.core.files import file_hash
from astrolabel.core.progress import steps
from astrolabel.io.files import CoaddFiles, check
from astrolabel.io.layers import read_origin, read_wcs
from astrolabel.io.pictures import white_balance
from astrolabel.label.overlaps import Footprint, describe, neighbours, primary_box
from astrolabel.label.tiles import Tile, split
from astrolabel.prepare import read
from astrolabel.prepare.read import Characteristics

BALANCE_PX = 1024
"""Side of the middle part of a coadd that its pictures' colours are balanced on."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is found out about a coadd before its tiles are planned.

    Attributes
    ----------
    gains : balance the colours of the pictures, the same for all tiles of a coadd.
    hashes : sha256 of its files by name.
    """

    known: Characteristics
    gains: tuple[float, ...]
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
    looked_at = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_look)(files) for files in coadds
    )
    bar = steps(looked_at, len(coadds), "coadds", "coadd", shown=progress)
    readable: list[tuple[CoaddFiles, Look]] = []
    for files, found in zip(coadds, bar, strict=True):
        if isinstance(found, AstrolabelError):
            problems.append(str(found))
        elif catalog is not None and found.footprint.wcs is None:
            problems.append(f"{files.name}: no WCS, so its sources cannot be matched to a catalog")
        else:
            readable.append((files, found))
    others = neighbours([found.footprint for _, found in readable])
    of_catalog = {} if catalog is None else {catalog[1].name: file_hash(catalog[1])}
    tasks: list[Task] = []
    for files, found in readable:
        near = others[files.name] if config.tile.overlaps == "resolve" else ()
        tasks += _tasks(files, found, near, config, out, catalog, of_catalog)
    return tasks, problems


def _tasks(
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
        yield Task(name, key, hashes, files, found, tile, config, near, out, others)


def _look(files: CoaddFiles) -> Look | AstrolabelError:
    """Check a coadd and find what its tiles need; the error where that fails."""
    try:
        check(files)
        hashes = _hashes(files.paths)
        known = read.characterise(files)
        height, width = files.shape
        middle = Box.around(height // 2, width // 2, BALANCE_PX // 2)
        gains = white_balance(read.read(files, known, middle).image)
        first = files.layers[0]
        origin = read_origin(first)
        # Without an origin all patches of a tract would lie on one another: the sky tells.
        tract = files.tract if origin is not None else ""
        place = Footprint(files.name, files.shape, tract, origin or (0, 0), read_wcs(first))
        return Look(known, tuple(float(g) for g in gains), hashes, place)
    except AstrolabelError as error:
        return error
    except Exception as error:  # one bad coadd must not end the run
        return InputError(f"cannot be read ({type(error).__name__}: {error})", file=files.name)


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    """sha256 by name; with the folders that tell them apart for files of the same name."""
    alike: dict[str, list[Path]] = {}
    for path in paths:
        alike.setdefault(path.name, []).append(path.absolute())
    found = {}
    for name, same in alike.items():
        top = os.path.commonpath([path.parent for path in same])
        for path in same:
            found[name if len(same) == 1 else path.relative_to(top).as_posix()] = file_hash(path)
    return found


def _around(catalog: Catalog, wcs: Any, tile: Tile, radius_arcsec: float) -> Catalog:
    """The part of a catalog that a tile's sources can match."""
    box = tile.outer
    y = np.array([box.y0, box.y0, box.y1, box.y1]) - 0.5
    x = np.array([box.x0, box.x1, box.x0, box.x1]) - 0.5
    ra, dec = to_icrs(wcs, x, y)
    return catalog.take(catalog.rows_around(ra, dec, 2 * radius_arcsec))
