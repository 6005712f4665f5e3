"""Label one tile again from what its COCO file says of it, and compare to the byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astrolabel
from astrolabel.catalog.catalog import Catalog, catalog_for
from astrolabel.core.config import LabelConfig
from astrolabel.core.config.tree import from_dict
from astrolabel.core.errors import InputError
from astrolabel.core.files import file_hash
from astrolabel.io import coco
from astrolabel.io.files import CoaddFiles
from astrolabel.io.layers import Layers
from astrolabel.label import shards
from astrolabel.label.merge import image_entry
from astrolabel.label.plan import look, place, tasks_of
from astrolabel.label.work import work

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Reproduced:
    """How a tile came out the second time.

    Attributes
    ----------
    tile : its name.
    labels : how many it has now.
    differences : one line for each thing that is not as it was; empty where all is.
    """

    tile: str
    labels: int
    differences: tuple[str, ...]

    def text(self) -> str:
        """A line, then one for each difference."""
        what = "differs" if self.differences else "is the same to the byte"
        return "\n".join([f"{self.tile}: {self.labels} labels; {what}", *self.differences])


def reproduce(path: Path, tile: str, folders: Sequence[Path]) -> Reproduced:
    """Label a tile of a COCO file again.

    Parameters
    ----------
    path : of the COCO file.
    tile : name of the tile, as in ``info.tiles``.
    folders : where the survey files lie; they are found by name and hash.

    Raises
    ------
    InputError
        When the file has no such provenance, or an input file is not there or another.
    """
    doc = coco.read(path)
    info = doc.get("info")
    if not isinstance(info, dict) or not isinstance(info.get("coadds"), list):
        raise InputError(
            "has no provenance (info.coadds)", file=path, remedy="give a file of make-coco"
        )
    config = from_dict(LabelConfig, info.get("config") or {}, file=path)
    try:
        entries = {entry["name"]: entry for entry in info["coadds"]}
        own = next(e for name, e in entries.items() if tile.rpartition("-r")[0] == name)
        others = [entries[name] for name in own["overlaps"]]
        catalog_name = (info.get("catalog") or {}).get("file")
        hashes = {item["file"]: item["sha256"] for item in info["inputs"]}
    except StopIteration:
        raise InputError(
            f"has no tile {tile!r}", file=path, remedy="the names are in info.tiles"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"has a damaged provenance ({error!r})", file=path) from error
    lookup = _Lookup(folders)
    files = coadd_files(own, lookup)
    neighbours = tuple(place(coadd_files(entry, lookup)) for entry in others)
    found = look(files, config)
    if isinstance(found, str):
        raise InputError(found)
    catalog: tuple[Catalog, Path] | None = None
    of_catalog: dict[str, str] = {}
    if catalog_name is not None:
        place_of = lookup.find(catalog_name, hashes[catalog_name])
        catalog = catalog_for(place_of, config.classify), place_of
        of_catalog = {catalog_name: hashes[catalog_name]}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        tasks = tasks_of(files, found, neighbours, config, out, catalog, of_catalog)
        task = next((t for t in tasks if t.name == tile), None)
        if task is None:
            raise InputError(f"has no tile {tile!r}", file=path, remedy="see info.tiles")
        with shards.opened(out):
            labels = work(task)
            shard = shards.read_whole(out, task.name, task.key)
        assert shard is not None
        differences = tuple(_differences(doc, shard, path.parent))
    return Reproduced(tile, labels, differences)


def coadd_files(entry: Entry, lookup: _Lookup) -> CoaddFiles:
    """The coadd of an entry of ``info.coadds``, its files where `lookup` finds them."""

    def path_of(name: str) -> Path:
        return lookup.find(name, entry["files"][name])

    def layer(given: Entry) -> Layers:
        own = {
            "path": path_of(given["path"]),
            "shape": tuple(given["shape"]),
            "planes": tuple((name, bit) for name, bit in given["planes"]),
        }
        return Layers(**{**given, **own})

    try:
        return CoaddFiles(
            name=entry["name"],
            bands=tuple(entry["bands"]),
            layers=tuple(layer(one) for one in entry["layers"]),
            tract=entry["tract"],
            patch=entry["patch"],
            psf={band: tuple(map(path_of, names)) for band, names in entry["psf"].items()},
            variance={band: layer(one) for band, one in entry["variance"].items()},
            mask={band: layer(one) for band, one in entry["mask"].items()},
            zeropoints=dict(entry["zeropoints"]),
            truth=None if entry["truth"] is None else path_of(entry["truth"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"the provenance of a coadd is damaged ({error!r})") from error


class _Lookup:
    """Files below some folders by name and hash."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders

    def find(self, name: str, sha256: str) -> Path:
        wanted = Path(name).name
        there = [p for f in self.folders for p in sorted(f.rglob("*")) if p.name == wanted]
        for path in there:
            if path.is_file() and file_hash(path) == sha256:
                return path
        raise InputError(
            f"{wanted} is another file than the one that the labels were made of"
            if there
            else f"the file {wanted}, which the labels were made of, is not there",
            remedy="name its folder with --inputs",
        )


def _differences(doc: coco.Document, shard: shards.Shard, folder: Path) -> list[str]:
    """What is not as the document has it."""
    info = doc["info"]
    found = []
    if info.get("version") != astrolabel.__version__:
        found.append(f"made by version {info.get('version')}, not {astrolabel.__version__}")
    before: Entry = next((t for t in info.get("tiles") or () if t["name"] == shard["name"]), {})
    if before.get("state") != shard["state"]:
        found.append(f"its state was {before.get('state')}, now {shard['state']}")
    if shard["image"] is None:
        return found
    image = image_entry(shard)
    mine = next((i for i in doc["images"] if Path(i["file_name"]).stem == shard["name"]), None)
    if mine is None:
        return [*found, "the document has no image of this name"]
    for key, value in _plain(image).items():
        if key != "astro" and mine.get(key) != value:
            found.append(f"image: {key} was {mine.get(key)!r}, now {value!r}")
    old, new = mine.get("astro") or {}, _plain(image)["astro"]
    found += [f"image: astro.{key} differs" for key in sorted(new) if old.get(key) != new[key]]
    for what, name in (("picture", image["file_name"]), ("cube", image["astro"]["cube"])):
        path = folder / name
        if path.is_file() and file_hash(path) != new["sha256"][what]:
            found.append(f"the {what} {path} was changed")
    labels = [a for a in doc["annotations"] if a["image_id"] == mine["id"]]
    if len(labels) != len(shard["annotations"]):
        found.append(f"it had {len(labels)} labels, now {len(shard['annotations'])}")
    for was, now in zip(labels, shard["annotations"], strict=False):
        bare = {k: v for k, v in was.items() if k not in ("id", "image_id")}
        if bare != now:
            keys = sorted(k for k in {*bare, *now} if bare.get(k) != now.get(k))
            found.append(f"annotation {was['id']}: {', '.join(keys)} differ")
    return found


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(coco.to_json(value))
    return plain
