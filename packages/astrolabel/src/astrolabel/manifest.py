"""Dataset manifests: which coadds, catalog and recipe make a dataset (``data_manifests/``).

A manifest is a YAML file with the keys of `Manifest`; unknown keys are refused. Paths are
relative to ``root``, which is relative to the manifest unless the command line moves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from astrolabel.config import LabelConfig, preset
from astrolabel.errors import InputError
from astrolabel.readers.find import CALEXP, Inputs

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """One dataset.

    Attributes
    ----------
    schema : version of this format.
    name : of the dataset; the default output folder.
    description : for people: where it is from, what it is for.
    survey : ``hsc`` (coadds named by tract and patch) or ``fits`` (files named by band).
    bands : in order, blue to red.
    coadds : ``hsc``: patches by tract, ``{"9813": ["4,5", ...]}``; ``fits``: file by band.
    root : folder the files are in.
    catalog : file with the classes; none gives the one class ``source``.
    scheme : ``none``, ``hsc`` or ``hst``.
    preset : ``default`` or ``paper``.
    tile_size : pixels; the preset's where absent.
    """

    schema: int
    name: str
    survey: str
    bands: tuple[str, ...]
    coadds: Mapping[str, Any]
    description: str = ""
    root: str = "."
    catalog: str | None = None
    scheme: str = "none"
    preset: str = "default"
    tile_size: int | None = None
    path: Path = field(default=Path(), compare=False)


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises
    ------
    InputError
        Naming the file, the key and what it should be.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML ({str(error).splitlines()[0]})", file=path) from error
    if not isinstance(values, dict):
        raise InputError("not a mapping of keys to values", file=path)
    known = [f.name for f in fields(Manifest) if f.name != "path"]
    required = ("schema", "name", "survey", "bands", "coadds")
    for key in values:
        if key not in known:
            raise InputError(
                f"unknown key {key!r}", file=path, remedy=f"the keys are {', '.join(known)}"
            )
    for key in required:
        if key not in values:
            raise InputError(f"no {key!r}", file=path, remedy="add it")
    if values["schema"] != SCHEMA:
        raise InputError(f"schema {values['schema']!r}, but this version reads {SCHEMA}", file=path)
    _check_types(path, values)
    return Manifest(**{**values, "bands": tuple(values["bands"]), "path": path})


def _check_types(path: Path, values: Mapping[str, Any]) -> None:
    def refuse(key: str, wanted: str) -> None:
        raise InputError(f"{key} is {values[key]!r}", file=path, remedy=f"give {wanted}")

    for key in ("name", "description", "root", "preset"):
        if key in values and not isinstance(values[key], str):
            refuse(key, "a text")
    if values["survey"] not in ("hsc", "fits"):
        refuse("survey", "hsc or fits")
    if values.get("scheme", "none") not in ("none", "hsc", "hst"):
        refuse("scheme", "none, hsc or hst")
    if values.get("scheme", "none") != "none" and not values.get("catalog"):
        raise InputError(
            f"scheme {values['scheme']} without a catalog", file=path, remedy="add catalog: FILE"
        )
    if values.get("tile_size") is not None and not isinstance(values["tile_size"], int):
        refuse("tile_size", "a number of pixels")
    bands = values["bands"]
    if not isinstance(bands, list) or not bands or not all(isinstance(b, str) for b in bands):
        refuse("bands", "a list such as [g, r, i]")
    if not isinstance(values["coadds"], dict) or not values["coadds"]:
        refuse("coadds", "a mapping")
    for key, value in values["coadds"].items():
        if values["survey"] == "hsc" and not (
            isinstance(value, list) and all(isinstance(v, str) for v in value)
        ):
            raise InputError(
                f"the patches of tract {key} are {value!r}",
                file=path,
                remedy='give a list of texts such as ["4,5", "4,6"]',
            )
        if values["survey"] == "fits" and not isinstance(value, str):
            raise InputError(f"the file of band {key} is {value!r}", file=path)


@dataclass(frozen=True)
class Request:
    """A manifest made ready for `make-coco`: what to read and how to label it."""

    name: str
    inputs: Inputs
    config: LabelConfig
    catalog: Path | None


def request(manifest: Manifest, moved: Path | None = None) -> Request:
    """What a manifest asks for, with its paths made whole.

    Parameters
    ----------
    moved : folder of the files, where it is not the manifest's ``root``.

    Raises
    ------
    InputError
        For a coadd, band or catalog that is not there, all of them named.
    """
    root = moved if moved is not None else manifest.path.parent / manifest.root
    inputs = _hsc(manifest, root) if manifest.survey == "hsc" else _fits(manifest, root)
    base = preset(manifest.preset)
    tile = base.tile
    if manifest.tile_size is not None:
        tile = replace(tile, size=manifest.tile_size)
    config = replace(base, tile=tile, classify=replace(base.classify, scheme=manifest.scheme))
    catalog = None
    if manifest.scheme != "none" and manifest.catalog is not None:
        catalog = root / manifest.catalog
        if not catalog.exists():
            raise InputError(
                "the manifest's catalog is not there",
                file=catalog,
                remedy="fetch it, or say where the files are with --root",
            )
    return Request(manifest.name, inputs, config, catalog)


def _hsc(manifest: Manifest, root: Path) -> Inputs:
    there: dict[tuple[str, str, str], Path] = {}
    for file in sorted(root.rglob("calexp-*.fits*")) if root.is_dir() else ():
        match = CALEXP.match(file.name)
        if match is not None:
            there[match["filter"][0].lower(), match["tract"], match["patch"]] = file
    wanted = [
        (band, str(tract), patch)
        for tract, patches in manifest.coadds.items()
        for patch in patches
        for band in manifest.bands
    ]
    missing = [key for key in wanted if key not in there]
    if missing:
        names = ", ".join(f"calexp-HSC-{b.upper()}-{t}-{p}.fits" for b, t, p in missing[:3])
        raise InputError(
            f"{len(missing)} of the manifest's {len(wanted)} coadds are not there ({names}"
            + (", ...)" if len(missing) > 3 else ")"),
            file=root,
            remedy="fetch them, or say where they are with --root",
        )
    return Inputs(paths=tuple(there[key] for key in wanted), bands=manifest.bands)


def _fits(manifest: Manifest, root: Path) -> Inputs:
    missing = [b for b in manifest.bands if b not in manifest.coadds]
    if missing:
        raise InputError(f"no file for the band {missing[0]} in coadds", file=manifest.path)
    files = tuple(((b,), root / str(manifest.coadds[b])) for b in manifest.bands)
    return Inputs(band_files=files, bands=manifest.bands)
