"""The shards of all tiles as one COCO file, a tile in memory at a time."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import astrolabel
from astrolabel.catalog.catalog import Catalog
from astrolabel.catalog.classify import categories
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.notes import DOUBT, Note
from astrolabel.deblend import libraries
from astrolabel.export.croissant import write_croissant
from astrolabel.io import coco
from astrolabel.io.parquet import write_parquet
from astrolabel.io.stream import Annotations
from astrolabel.io.validate import validate
from astrolabel.label import doubts, flags, shards
from astrolabel.label.plan import Task

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
    notes : what was assumed and what is doubtful, with the number of tiles it holds for.
    """

    coco: Path
    tiles: tuple[tuple[str, str], ...]
    sources: dict[str, int]
    problems: tuple[str, ...]
    notes: tuple[tuple[Note, int], ...] = ()

    def summary(self) -> str:
        """A few lines for people: tiles and sources by state."""
        tiles = Counter(state.partition(":")[0] for _, state in self.tiles)
        lines = [
            f"{self.coco}: {tiles['ok']} tiles labelled"
            + "".join(f", {tiles[s]} {s}" for s in ("skipped", "failed") if tiles[s])
        ]
        width = max((len(str(n)) for n in self.sources.values()), default=1)
        lines += [f"  {n:{width}d} {state}" for state, n in self.sources.items()]
        return "\n".join([*lines, *doubts.lines(self.notes, len(self.tiles))])


def merge(
    tasks: Sequence[Task],
    config: LabelConfig,
    catalog: tuple[Catalog, Path] | None,
    out: Path,
    problems: Sequence[str],
) -> Result:
    """Write ``coco.json`` of the tiles' shards, which must be those of these tasks.

    Raises
    ------
    OutputError
        For a shard that another run wrote or that was changed, and where the file cannot be
        written.
    """
    kinds = categories(config.classify.scheme)
    heads: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for task in tasks:
        shard = _shard(task)
        _check(shard, kinds, len(images), out)
        if shard["image"] is not None:
            images.append({**image_entry(shard), "id": len(images) + 1})
        counted = Counter(s["state"] for s in shard.pop("sources"))
        heads.append({**shard, "annotations": len(shard["annotations"]), "sources": counted})
    counts = dict(sorted(sum((h["sources"] for h in heads), Counter()).items()))
    info = _info(tasks, heads, config, catalog, counts)
    head = {"info": info, "licenses": [], "categories": kinds, "images": images}
    total = sum(h["annotations"] for h in heads)
    labels = Annotations(lambda: _annotations(tasks), total)
    coco.write_document(out / "coco.json", {**head, "annotations": labels})
    # A description needs the number of labels, not the labels.
    write_croissant(out / "coco.json", {**head, "annotations": range(total)})
    found = [*problems, *_problems(heads)]
    if config.prepare.strict:
        found += [str(n) for n, _ in doubts.gathered(heads) if n.severity == DOUBT]
    if total > PARQUET_BEYOND:
        try:
            write_parquet(out / "coco.parquet", {**head, "annotations": labels})
        except InputError as error:  # pyarrow is missing: the labels are whole without it
            found.append(f"no Parquet table beside coco.json: {error}")
    states = tuple((h["name"], h["state"]) for h in heads)
    return Result(out / "coco.json", states, counts, tuple(found), tuple(doubts.gathered(heads)))


def image_entry(shard: shards.Shard) -> dict[str, Any]:
    """The entry of an image, with the hashes of its files."""
    image, hashes = shard["image"], shard["files"]
    astro = image["astro"]
    named = {"picture": image["file_name"], "cube": astro["cube"], "residual": astro["residual"]}
    sha256 = {what: hashes[name] for what, name in named.items() if name is not None}
    return {**image, "astro": {**astro, "sha256": sha256}}


def _shard(task: Task) -> shards.Shard:
    shard = shards.read_whole(task.out, task.name, task.key)
    if shard is None:
        raise OutputError(
            "is not the shard that this run wrote, or a file of its tile was changed",
            file=shards.path_of(task.out, task.name),
            remedy="rerun the command to label the tile again",
        )
    return shard


def _annotations(tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """Every label, numbered as in the document."""
    number = image = 0
    for task in tasks:
        shard = _shard(task)
        image += shard["image"] is not None
        for item in shard["annotations"]:
            number += 1
            yield {**item, "id": number, "image_id": image}


def _check(shard: shards.Shard, kinds: list[dict[str, Any]], before: int, out: Path) -> None:
    """Validate the part of the document that a shard becomes."""
    document = coco.merge({}, kinds, [shard])
    if found := validate(document, out):
        raise OutputError(
            f"the merged file would be faulty: {found[0]}",
            file=shards.path_of(out, shard["name"]),
            remedy="remove the folder's tiles/ and run again; if it stays, report it",
        )


REMEDIES = {
    "no data": "leave the band out, or raise tile.max_no_data",
    "footprint larger": "raise deblend.max_pixels, or bin the pixels",
}
"""What to do about the commonest state of tiles, by words in it."""


def _problems(heads: Sequence[dict[str, Any]]) -> Iterator[str]:
    for head in heads:
        if head["state"].startswith("failed"):
            yield f"tile {head['name']}: {head['state'].removeprefix('failed:')}"
        elif head["image"] is not None and not head["annotations"]:
            yield f"tile {head['name']}: no source found"
    if heads and all(head["image"] is None for head in heads):
        state, number = Counter(head["state"] for head in heads).most_common(1)[0]
        remedy = next((f"; {text}" for fault, text in REMEDIES.items() if fault in state), "")
        yield f"no tile has labels; {number} of {len(heads)} ended as {state}{remedy}"


def _info(
    tasks: Sequence[Task],
    heads: Sequence[dict[str, Any]],
    config: LabelConfig,
    catalog: tuple[Catalog, Path] | None,
    counts: dict[str, int],
) -> dict[str, Any]:
    """Provenance. No date and no absolute path: equal input gives equal bytes."""
    # Scenes of one survey may all have files of the same names.
    inputs = {(name, digest) for task in tasks for name, digest in task.hashes.items()}
    by_coadd = {task.files.name: task for task in tasks}
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
        "coadds": [coadd_entry(task) for task in by_coadd.values()],
        "catalog": None if catalog is None else catalog[0].described(catalog[1].name),
        "flags": flags.described(),
        "tiles": [{"name": h["name"], "state": h["state"], "notes": h["notes"]} for h in heads],
        "notes": [{**note.to_dict(), "tiles": n} for note, n in doubts.gathered(heads)],
        "sources": counts,
    }


def coadd_entry(task: Task) -> dict[str, Any]:
    """How a coadd was read: what `reproduce` needs to read it again."""
    files, names = task.files, task.look.names
    return {
        "name": files.name,
        "bands": files.bands,
        "tract": files.tract,
        "patch": files.patch,
        "files": task.look.hashes,
        "layers": [_layer(layer, names) for layer in files.layers],
        "variance": {band: _layer(layer, names) for band, layer in files.variance.items()},
        "mask": {band: _layer(layer, names) for band, layer in files.mask.items()},
        "psf": {band: [names[path] for path in paths] for band, paths in files.psf.items()},
        "zeropoints": files.zeropoints,
        "truth": None if files.truth is None else names[files.truth],
        "overlaps": [other.name for other in task.others],
    }


def _layer(layer: Any, names: Any) -> dict[str, Any]:
    return {**asdict(layer), "path": names[layer.path]}
