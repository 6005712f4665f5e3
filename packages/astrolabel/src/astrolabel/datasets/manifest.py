"""Dataset manifests: which coadds, catalogs and recipe make a dataset (``data_manifests/``).

A manifest is a YAML file with the keys of `Manifest`; docs/manifests.md explains them all.
Paths are relative to ``root``, which is relative to the manifest unless the command line
moves it. This module reads and checks manifests; `manifest.files` finds the files they
name, `archive` fetches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from astrolabel.catalog.columns import scheme_columns
from astrolabel.core.config import LabelConfig, preset
from astrolabel.core.config.tree import from_dict
from astrolabel.core.errors import InputError
from astrolabel.core.files import below
from astrolabel.core.yaml import read_yaml
from astrolabel.datasets.manifest_coadds import Coadds, check_coadds, check_pattern
from astrolabel.datasets.manifest_schema import Entry, FileName, Url, convert
from astrolabel.datasets.regions import Region, read_splits

SCHEMA = 2
"""Version of the format."""

HSC_SERVER = "https://hsc-release.mtk.nao.ac.jp"
Required = Annotated[FileName, Meta(min_length=1)]


class CatalogEntry(Entry, frozen=True):
    """One catalog: where it lies below the root, what it is, where it comes from.

    Attributes
    ----------
    file : below the root.
    scheme : its columns, and the rule that makes classes of them.
    query : file with the SQL that makes it, relative to the manifest; "" for none.
    url : address it is downloaded from; "" for none.
    columns : of the scheme ``columns``, columns by name (see `schemes.parse_columns`).
    """

    file: Required
    scheme: Literal["hsc", "hst", "lsst", "columns"]
    query: str = ""
    url: Url = ""
    columns: Annotated[
        dict[str, str | int | float],
        Meta(description="columns by name: {id: ID, ra: RA, dec: DEC, class: TYPE, ...}"),
    ] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {key: str(value) for key, value in sorted(self.columns.items())}
        force_setattr(self, "columns", columns)
        if self.query and self.url:
            raise ValueError("a query and an url; give one of them")
        try:
            scheme_columns(self.scheme, columns)
        except InputError as error:
            raise ValueError(f"{error.problem}; {error.remedy}") from error


class HscSource(Entry, frozen=True, tag="hsc", tag_field="archive"):
    """The HSC public data release: its file tree, PSF picker and catalog database.

    Attributes
    ----------
    rerun : name in the file tree and the PSF picker.
    server : address that all others are below.
    release : catalog database.
    psfs : whether the PSF picker's stamps are fetched too.
    """

    rerun: Annotated[str, Meta(min_length=1, description="pdr3_dud or pdr3_wide")]
    server: Url = HSC_SERVER
    release: str = "pdr3-citus-columnar"
    psfs: bool = True

    def __post_init__(self) -> None:
        force_setattr(self, "server", self.server.rstrip("/"))


class UrlSource(Entry, frozen=True, tag="url", tag_field="archive"):
    """Any web server, files by pattern.

    Attributes
    ----------
    server : address that all others are below.
    coadds, psfs : patterns below the server; "" fetches none.
    """

    server: Annotated[Url, Meta(min_length=1)]
    coadds: str = ""
    psfs: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "server", self.server.rstrip("/"))


class Cuts(Entry, frozen=True):
    """The quality cuts (see `config`); the preset's where absent.

    Attributes
    ----------
    class_bands : bands whose extendedness gives the class; `magnitude_band` where absent.
    """

    max_no_data: Annotated[float, Meta(ge=0, le=1)] | None = None
    match_radius_arcsec: Annotated[float, Meta(ge=1e-3, le=60)] | None = None
    max_magnitude_difference: Annotated[float, Meta(ge=1e-3, le=100)] | None = None
    magnitude_band: str | None = None
    overlaps: Literal["resolve", "keep"] | None = None
    class_bands: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None


BANDS = "a list of different names such as [g, r, i], of letters, digits, _ + . -"


class ManifestKeys(Entry, frozen=True):
    """One dataset, as its file says.

    Attributes
    ----------
    schema : version of the format.
    name : of the dataset; the default output folder.
    survey : ``hsc`` (coadds named by tract and patch) or ``fits`` (files by pattern).
    bands : in order, blue to red.
    coadds : which coadds.
    description : for people: where it is from, what it is for.
    root : folder the files are in.
    catalogs : every catalog; those of the class scheme give the classes.
    scheme : ``none`` or that of one of the catalogs.
    preset : the recipe that `cuts` and `settings` change.
    tile_size : pixels; the preset's where absent.
    cuts : the quality cuts.
    settings : the key ``config``: any settings of `LabelConfig`, nested as it is; they win
        over the keys above.
    source : where missing files come from, if anywhere.
    splits : regions by split name.
    """

    schema: Literal[2]
    name: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            description="letters, digits, _ . - (it names a folder)",
        ),
    ]
    survey: Literal["hsc", "fits"]
    bands: Annotated[
        tuple[Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_+.-]{0,31}$")], ...],
        Meta(min_length=1, description=BANDS),
    ]
    coadds: Coadds
    description: str = ""
    root: str = "."
    catalogs: Annotated[
        tuple[CatalogEntry, ...], Meta(description="a list: [{file: a.fits, scheme: hsc}]")
    ] = ()
    scheme: Literal["none", "hsc", "hst", "lsst", "columns"] = "none"
    preset: Literal["default", "paper"] = "default"
    tile_size: Annotated[int, Meta(ge=16, le=65536)] | None = None
    cuts: Cuts = Cuts()
    settings: dict[str, Any] = msgspec.field(name="config", default_factory=dict)
    source: HscSource | UrlSource | None = None
    splits: Any = None

    def __post_init__(self) -> None:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands is {list(self.bands)}; give {BANDS}")
        check_coadds(self.coadds, self.survey, self.bands)
        for what in ("file", "scheme"):
            values = [getattr(entry, what) for entry in self.catalogs]
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"two catalogs have the {what} {value}; leave one of them")
        _check_source(self)
        if self.scheme == "none":
            return
        if self.coadds.truth:
            raise ValueError(
                "coadds.truth gives the classes, and so does a scheme; leave out one of them"
            )
        if self.scheme not in (entry.scheme for entry in self.catalogs):
            raise ValueError(
                f"scheme {self.scheme} without a catalog of that scheme; "
                f"add catalogs: [{{file: FILE, scheme: {self.scheme}}}]"
            )


class Manifest(ManifestKeys, frozen=True):
    """One dataset; `path` is the manifest's file, `splits` are regions by name."""

    splits: Mapping[str, tuple[Region, ...]] = msgspec.field(default_factory=dict)
    path: Path = Path()

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
        base, cuts = preset(self.preset), self.cuts

        def changed(part: Any, **values: Any) -> Any:
            return replace(part, **{k: v for k, v in values.items() if v is not None})

        config = replace(
            base,
            tile=changed(
                base.tile,
                size=self.tile_size,
                max_no_data=cuts.max_no_data,
                overlaps=cuts.overlaps,
            ),
            classify=changed(
                base.classify,
                scheme=self.scheme,
                radius_arcsec=cuts.match_radius_arcsec,
                max_magnitude_difference=cuts.max_magnitude_difference,
                magnitude_band=cuts.magnitude_band,
                class_bands=cuts.class_bands,
                columns=tuple(self.classes.columns.items()) or None if self.classes else None,
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
    schema = values.get("schema", SCHEMA)
    if schema != SCHEMA or isinstance(schema, bool):
        raise InputError(
            f"schema {schema!r}, but this version reads {SCHEMA}",
            file=path,
            remedy="use the version of astrolabel that it was written for",
        )
    keys = convert(ManifestKeys, values, path)
    given = {name: getattr(keys, name) for name in keys.__struct_fields__}
    splits = {} if keys.splits is None else read_splits(path, keys.splits)
    manifest = Manifest(**{**given, "splits": splits}, path=path)
    for entry in manifest.catalogs:
        # The text goes to the server: no other file of the user may be named.
        if entry.query and not below(path.parent, entry.query, file=path).is_file():
            raise InputError(
                f"the query {entry.query} is not there", file=path, remedy="put the SQL there"
            )
    for name, regions in splits.items():
        for region in regions:
            for tract, patches in region.value.items() if region.kind == "patches" else ():
                if strange := set(patches) - set(manifest.coadds.patches.get(tract, ())):
                    raise InputError(
                        f"split {name} has tract {tract} patch {min(strange)}, which is not among "
                        "the coadds",
                        file=path,
                        remedy="add it to coadds.patches or take it out of the split",
                    )
    manifest.config()  # a faulty setting is an error now
    return manifest


def _check_source(manifest: ManifestKeys) -> None:
    """Whether the source fits the coadds and catalogs; raises ValueError."""
    source, coadds = manifest.source, manifest.coadds
    if not isinstance(source, HscSource):
        for entry in manifest.catalogs:
            if entry.query:
                raise ValueError(
                    f"the query of {entry.file} has no database to go to; "
                    "add source: {archive: hsc, ...}"
                )
    if source is not None and coadds.further:
        raise ValueError(
            f"coadds.{next(iter(coadds.further))} cannot be fetched; "
            "leave out the source and put the files below the root"
        )
    if isinstance(source, HscSource) and manifest.survey != "hsc":
        raise ValueError(
            f"source.archive is 'hsc'; give url for coadds of survey {manifest.survey}"
        )
    if not isinstance(source, UrlSource):
        return
    for key in ("coadds", "psfs"):
        if text := getattr(source, key):
            if "*" in coadds.pattern:
                raise ValueError(
                    f"source.{key} is {text!r}; give no name: coadds found by * cannot be fetched"
                )
            if not coadds.files:
                check_pattern(f"source.{key}", text, bool(coadds.patches), several=True)
    if source.psfs and manifest.survey != "hsc" and not coadds.psfs:
        raise ValueError("source.psfs without coadds.psfs; say what the PSFs are called")
