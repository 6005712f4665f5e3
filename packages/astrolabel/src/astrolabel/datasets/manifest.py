"""Dataset manifests: which coadds, catalogs and recipe make a dataset (``data_manifests/``).

A manifest is a YAML file with the keys of `Manifest`; docs/manifests.md explains them all.
Paths are relative to ``root``, which is relative to the manifest unless the command line
moves it. This module reads and checks manifests; `manifest.files` finds the files they
name, `archive` fetches them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from astrolabel.catalog.columns import SCHEMES, scheme_columns
from astrolabel.core.config import LabelConfig, preset
from astrolabel.core.config.tree import from_dict
from astrolabel.core.errors import InputError
from astrolabel.core.files import below
from astrolabel.core.yaml import read_yaml
from astrolabel.datasets.manifest_coadds import Coadds, check_pattern, read_coadds
from astrolabel.datasets.manifest_schema import Keys
from astrolabel.datasets.regions import Region, read_splits

SCHEMA = 2
"""Version of the format."""

SURVEYS = ("hsc", "fits")
HSC_SERVER = "https://hsc-release.mtk.nao.ac.jp"

KEYS = (
    "schema", "name", "description", "survey", "bands", "root", "coadds", "catalogs", "scheme",
    "preset", "tile_size", "cuts", "config", "source", "splits",
)  # fmt: skip
CUTS = (
    "max_no_data", "match_radius_arcsec", "max_magnitude_difference", "magnitude_band", "overlaps",
    "class_bands",
)  # fmt: skip


@dataclass(frozen=True)
class CatalogEntry:
    """One catalog: where it lies below the root, what it is, where it comes from.

    Attributes
    ----------
    file : below the root.
    scheme : ``hsc``, ``hst``, ``lsst`` or ``columns``: its columns, and the rule that makes
        classes of them.
    query : file with the SQL that makes it, relative to the manifest; "" for none.
    url : address it is downloaded from; "" for none.
    columns : of the scheme ``columns``, names and columns (see `schemes.parse_columns`).
    """

    file: str
    scheme: str
    query: str = ""
    url: str = ""
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Source:
    """Where missing files come from.

    Attributes
    ----------
    archive : ``hsc``: the HSC public data release's file tree, PSF picker and catalog
        database; ``url``: any web server, files by pattern.
    server : address that all others are below.
    rerun : ``hsc``: name in the file tree and the PSF picker, ``pdr3_dud`` or ``pdr3_wide``.
    release : ``hsc``: catalog database, such as ``pdr3-citus-columnar``.
    coadds, psfs : ``url``: patterns below the server; "" fetches none.
    fetch_psfs : ``hsc``: whether the PSF picker's stamps are fetched too.
    """

    archive: str
    server: str
    rerun: str = ""
    release: str = ""
    coadds: str = ""
    psfs: str = ""
    fetch_psfs: bool = False


@dataclass(frozen=True)
class Manifest:
    """One dataset.

    Attributes
    ----------
    name : of the dataset; the default output folder.
    survey : ``hsc`` (coadds named by tract and patch) or ``fits`` (files by pattern).
    bands : in order, blue to red.
    coadds : which coadds.
    description : for people: where it is from, what it is for.
    root : folder the files are in.
    catalogs : every catalog; those of the class scheme give the classes.
    scheme : ``none`` or that of one of the catalogs.
    preset : ``default`` or ``paper``.
    tile_size : pixels; the preset's where absent.
    max_no_data, match_radius_arcsec, max_magnitude_difference, magnitude_band : the quality
        cuts (see `config`); the preset's where absent.
    overlaps : ``resolve`` or ``keep`` (see `config`); the preset's where absent.
    class_bands : bands whose extendedness gives the class; `magnitude_band` where absent.
    settings : any settings of `LabelConfig`, nested as it is; they win over the keys above.
    source : where missing files come from, if anywhere.
    splits : regions by split name.
    path : the manifest's file.
    """

    name: str
    survey: str
    bands: tuple[str, ...]
    coadds: Coadds
    description: str = ""
    root: str = "."
    catalogs: tuple[CatalogEntry, ...] = ()
    scheme: str = "none"
    preset: str = "default"
    tile_size: int | None = None
    max_no_data: float | None = None
    match_radius_arcsec: float | None = None
    max_magnitude_difference: float | None = None
    magnitude_band: str | None = None
    overlaps: str | None = None
    class_bands: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None
    splits: Mapping[str, tuple[Region, ...]] = field(default_factory=dict)
    path: Path = field(default=Path(), compare=False)

    @property
    def classes(self) -> CatalogEntry | None:
        """The catalog that gives the classes; None for the one class ``source``."""
        return next((c for c in self.catalogs if c.scheme == self.scheme), None)

    def folder(self, moved: Path | None = None) -> Path:
        """Where the files are: `moved`, or `root` below the manifest's folder.

        Raises
        ------
        InputError
            For a `root` that leads out of that folder: only the user may name another place.
        """
        if moved is not None or self.root in ("", "."):
            return self.path.parent if moved is None else moved
        try:
            return below(self.path.parent, self.root, file=self.path, links=True)
        except InputError as error:
            raise InputError(
                f"the root {self.root!r} is not below the manifest's folder",
                file=self.path,
                remedy="say where the files are with --root",
            ) from error

    def config(self) -> LabelConfig:
        """The recipe: the preset with the manifest's own numbers."""
        base = preset(self.preset)

        def changed(part: Any, **values: Any) -> Any:
            return replace(part, **{k: v for k, v in values.items() if v is not None})

        config = replace(
            base,
            tile=changed(
                base.tile,
                size=self.tile_size,
                max_no_data=self.max_no_data,
                overlaps=self.overlaps,
            ),
            classify=changed(
                base.classify,
                scheme=self.scheme,
                radius_arcsec=self.match_radius_arcsec,
                max_magnitude_difference=self.max_magnitude_difference,
                magnitude_band=self.magnitude_band,
                class_bands=self.class_bands or None,
                columns=(self.classes.columns or None) if self.classes else None,
            ),
        )
        return from_dict(LabelConfig, self.settings, config, self.path)


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises
    ------
    InputError
        Naming the file, the key and what it should be.
    """
    values = read_yaml(path, "see `astrolabel docs manifests`")
    schema = values.get("schema")
    keys = Keys(path, "", values, KEYS)
    for key in ("schema", "name", "survey", "bands", "coadds"):
        if key not in values:
            raise InputError(f"no {key!r}", file=path, remedy="add it")
    if schema != SCHEMA or isinstance(schema, bool):
        raise InputError(
            f"schema {schema!r}, but this version reads {SCHEMA}",
            file=path,
            remedy="use the version of astrolabel that it was written for",
        )
    name = keys.text("name")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        keys.refuse("name", "letters, digits, _ . - (it names a folder)")
    survey = keys.choice("survey", SURVEYS)
    wanted = "a list of different names such as [g, r, i]"
    bands = keys.texts("bands", wanted)
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+.-]{0,31}", band) for band in bands):
        keys.refuse("bands", f"{wanted}, of letters, digits, _ + . -")
    coadds = read_coadds(path, survey, bands, values["coadds"])
    manifest = Manifest(
        name=name,
        survey=survey,
        bands=bands,
        coadds=coadds,
        description=keys.text("description", ""),
        root=keys.text("root", "."),
        catalogs=_catalogs(path, values.get("catalogs", [])),
        scheme=keys.choice("scheme", SCHEMES, "none"),
        preset=keys.choice("preset", ("default", "paper"), "default"),
        tile_size=keys.whole("tile_size", 16, 65536),
        **_cuts(path, values.get("cuts", {})),
        settings=values.get("config") or {},
        source=_source(path, survey, coadds, values["source"]) if keys.has("source") else None,
        splits=read_splits(path, values["splits"]) if keys.has("splits") else {},
        path=path,
    )
    _check_whole(manifest)
    manifest.config()  # a faulty setting is an error now
    return manifest


def _cuts(path: Path, given: Any) -> dict[str, Any]:
    """The quality cuts that are given, by attribute of `Manifest`."""
    keys = Keys(path, "cuts", given, CUTS)
    found: dict[str, Any] = {
        "max_no_data": keys.number("max_no_data", 0, 1),
        "match_radius_arcsec": keys.number("match_radius_arcsec", 1e-3, 60),
        "max_magnitude_difference": keys.number("max_magnitude_difference", 1e-3, 100),
    }
    if keys.has("magnitude_band"):
        found["magnitude_band"] = keys.text("magnitude_band")
    if keys.has("overlaps"):
        found["overlaps"] = keys.choice("overlaps", ("resolve", "keep"))
    if keys.has("class_bands"):
        found["class_bands"] = keys.texts("class_bands", "a list of bands")
    return found


def _catalogs(path: Path, given: Any) -> tuple[CatalogEntry, ...]:
    if not isinstance(given, list):
        raise InputError(
            f"catalogs is {given!r}", file=path, remedy="give a list: [{file: a.fits, scheme: hsc}]"
        )
    found = []
    for n, one in enumerate(given):
        keys = Keys(path, f"catalogs[{n}]", one, ("file", "scheme", "columns", "query", "url"))
        entry = CatalogEntry(
            keys.file("file"),
            keys.choice("scheme", SCHEMES[1:]),
            keys.text("query", ""),
            keys.url("url", ""),
            _columns(keys),
        )
        try:
            scheme_columns(entry.scheme, dict(entry.columns))
        except InputError as error:
            raise InputError(f"catalogs[{n}]: {error}", file=path) from error
        if entry.query and entry.url:
            raise InputError(
                f"catalogs[{n}] has a query and an url", file=path, remedy="give one of them"
            )
        found.append(entry)
    for entry in found:
        for what in ("file", "scheme"):
            if sum(getattr(c, what) == getattr(entry, what) for c in found) > 1:
                raise InputError(
                    f"two catalogs have the {what} {getattr(entry, what)}",
                    file=path,
                    remedy="leave one of them",
                )
    return tuple(found)


def _columns(keys: Keys) -> tuple[tuple[str, str], ...]:
    """The words of the scheme ``columns``, sorted; numbers as text."""
    given = keys.values.get("columns", {})
    plain = isinstance(given, dict) and all(
        isinstance(k, str) and isinstance(v, (str, int, float)) for k, v in given.items()
    )
    if not plain:
        keys.refuse("columns", "columns by name: {id: ID, ra: RA, dec: DEC, class: TYPE, ...}")
    return tuple(sorted((k, str(v)) for k, v in given.items()))


def _source(path: Path, survey: str, coadds: Coadds, given: Any) -> Source:
    kind = Keys(path, "source", given, ("archive", "server", "rerun", "release", "coadds", "psfs"))
    archive = kind.choice("archive", ("hsc", "url"))
    if archive == "hsc":
        keys = Keys(path, "source", given, ("archive", "server", "rerun", "release", "psfs"))
        if survey != "hsc":
            keys.refuse("archive", f"url for coadds of survey {survey}")
        return Source(
            archive,
            keys.url("server", HSC_SERVER).rstrip("/"),
            rerun=keys.text("rerun", wanted="pdr3_dud or pdr3_wide"),
            release=keys.text("release", "pdr3-citus-columnar"),
            fetch_psfs=keys.truth("psfs", True),
        )
    keys = Keys(path, "source", given, ("archive", "server", "coadds", "psfs"))
    found = Source(
        archive,
        keys.url("server").rstrip("/"),
        coadds=keys.text("coadds", ""),
        psfs=keys.text("psfs", ""),
    )
    starred = "*" in coadds.pattern
    for key, text in (("coadds", found.coadds), ("psfs", found.psfs)):
        if text and starred:
            keys.refuse(key, "no name: coadds found by * cannot be fetched")
        if text and not coadds.files:
            check_pattern(keys, key, text, bool(coadds.patches), several=True)
    if found.psfs and survey != "hsc" and not coadds.psfs:
        raise InputError(
            "source.psfs without coadds.psfs", file=path, remedy="say what the PSFs are called"
        )
    return found


def _check_whole(manifest: Manifest) -> None:
    """What must fit together."""
    path = manifest.path
    if "truth" in manifest.coadds.further and manifest.scheme != "none":
        raise InputError(
            "coadds.truth gives the classes, and so does a scheme",
            file=path,
            remedy="leave out one of them",
        )
    if manifest.coadds.further and manifest.source is not None:
        raise InputError(
            f"coadds.{next(iter(manifest.coadds.further))} cannot be fetched",
            file=path,
            remedy="leave out the source and put the files below the root",
        )
    if manifest.scheme != "none" and manifest.classes is None:
        raise InputError(
            f"scheme {manifest.scheme} without a catalog of that scheme",
            file=path,
            remedy=f"add catalogs: [{{file: FILE, scheme: {manifest.scheme}}}]",
        )
    for entry in manifest.catalogs:
        if entry.query and (manifest.source is None or manifest.source.archive != "hsc"):
            raise InputError(
                f"the query of {entry.file} has no database to go to",
                file=path,
                remedy="add source: {archive: hsc, ...}",
            )
        # The text goes to the server: no other file of the user may be named.
        if entry.query and not below(path.parent, entry.query, file=path).is_file():
            raise InputError(
                f"the query {entry.query} is not there", file=path, remedy="put the SQL there"
            )
    for name, regions in manifest.splits.items():
        for region in regions:
            if region.kind != "patches":
                continue
            for tract, patches in region.value.items():
                strange = [p for p in patches if p not in manifest.coadds.patches.get(tract, ())]
                if strange:
                    raise InputError(
                        f"split {name} has tract {tract} patch {strange[0]}, which is not among "
                        "the coadds",
                        file=path,
                        remedy="add it to coadds.patches or take it out of the split",
                    )
