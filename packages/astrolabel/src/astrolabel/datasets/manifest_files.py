"""The files a manifest names: which, where they are, whether they are the right ones.

What each file is, is recorded when it first comes (`manifest.lock`), and every later use is
held to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from astrolabel.core.errors import AstrolabelError, InputError
from astrolabel.core.files import below, file_hash, regular_size
from astrolabel.datasets.lock import Lock, check_content, read_lock
from astrolabel.datasets.manifest import CatalogEntry, Manifest
from astrolabel.datasets.manifest_coadds import FURTHER
from astrolabel.io.files import CoaddFiles
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.truth import natural

HSC_COADD = "calexp-HSC-{BAND}-{tract}-{patch}.fits"
HSC_PSF = f"psf-{HSC_COADD}"
"""Names of HSC's coadds, and of the PSF stamps that the reader looks for beside them."""

MAX_QUERY_BYTES = 2**20
"""Longest SQL that is sent; those shipped have four thousand bytes."""


@dataclass(frozen=True)
class Wanted:
    """One file of a manifest.

    Attributes
    ----------
    file : its name below the root, where it goes when fetched; its key in the lock file.
    kind : ``coadd``, ``psf``, one of `manifest.coadds.FURTHER` or ``catalog``.
    coadd : name of the coadd it belongs to, "" for a catalog.
    band, tract, patch : what it is of.
    catalog : the manifest's entry, for a catalog.
    """

    file: str
    kind: str
    coadd: str = ""
    band: str = ""
    tract: str = ""
    patch: str = ""
    catalog: CatalogEntry | None = None

    def fill(self, pattern: str) -> str:
        """A pattern with this file's band, tract and patch."""
        return pattern.format(
            band=self.band, BAND=self.band.upper(), tract=self.tract, patch=self.patch
        )


def wanted_files(manifest: Manifest, folder: Path) -> tuple[Wanted, ...]:
    """Every file a manifest names: coadds, then what else is of them, then catalogs.

    Coadds whose pattern has a ``*`` are those that are in `folder`; where they are given by
    patches, the ``*`` stands for whatever the one file of the patch has there.
    """
    coadds = manifest.coadds
    pattern = HSC_COADD if manifest.survey == "hsc" else coadds.pattern
    psfs = _psf_pattern(manifest)
    if coadds.patches:
        places = [
            ("", f"{tract}-{patch}", tract, patch)
            for tract, patches in coadds.patches.items()
            for patch in patches
        ]
    elif "*" in pattern:
        places = [
            (star, "-".join(re.findall(r"[\w.]+", star)) or manifest.name, "", "")
            for star in _stars(manifest, folder)
        ]
    else:
        places = [("", manifest.name, "", "")]
    bases = [
        Wanted(star, "coadd", name, band, tract, patch)
        for star, name, tract, patch in places
        for band in manifest.bands
    ]

    def named(base: Wanted, name: str) -> str:
        return _only_match(folder, base.fill(_unstar(name, base)))

    found = [
        replace(b, file=coadds.files[b.band] if coadds.files else named(b, pattern)) for b in bases
    ]
    if psfs:
        found += [replace(b, file=named(b, psfs), kind="psf") for b in bases]
    for kind, name in coadds.further.items():
        own = [b for b in bases if kind != "truth" or b.band == manifest.bands[0]]
        found += [replace(b, file=named(b, name), kind=kind) for b in own]
    found += [Wanted(c.file, "catalog", catalog=c) for c in manifest.catalogs]
    for wanted in found:  # as filled in: a band or a patch must not lead elsewhere
        below(folder, wanted.file, file=manifest.path, links=True)
        if any(part.startswith(".") for part in PurePosixPath(wanted.file).parts):
            # The root may be a home, and shells and editors run what is called so.
            raise InputError(
                f"the file name {wanted.file!r} is a hidden one",
                file=manifest.path,
                remedy="give names that do not begin with a dot",
            )
    return tuple(found)


def _psf_pattern(manifest: Manifest) -> str:
    """Pattern of the PSF stamps; "" for none. HSC's are wanted where they can be fetched:
    the reader finds any that are there."""
    source = manifest.source
    if manifest.survey != "hsc":
        return manifest.coadds.psfs
    return HSC_PSF if source is not None and source.psfs else ""


def _only_match(folder: Path, name: str) -> str:
    """The file below the folder that a name with stars means; itself where none is there.

    Raises
    ------
    InputError
        When it could be several.
    """
    if "*" not in name or not folder.is_dir():
        return name
    there = sorted(p for p in folder.glob(name) if not p.name.startswith("."))
    if len(there) > 1:
        raise InputError(
            f"{name} could be this file or {there[1].name}",
            file=there[0],
            remedy="leave one of them, or write out more of the pattern",
        )
    return there[0].relative_to(folder).as_posix() if there else name


def _unstar(pattern: str, base: Wanted) -> str:
    """A pattern whose stars are replaced by what they stand for, kept in `base.file`."""
    for text in base.file.split("\0") if base.file else ():
        pattern = pattern.replace("*", text, 1)
    return pattern


def _stars(manifest: Manifest, folder: Path) -> list[str]:
    """What the pattern's stars stand for, joined by NUL: one text a coadd, in natural order."""
    pattern, first = manifest.coadds.pattern, manifest.bands[0]
    named = Wanted("", "coadd", band=first).fill(pattern)
    as_regex = "([^/]*)".join(re.escape(part) for part in named.split("*"))
    found = set()
    for file in folder.glob(named) if folder.is_dir() else ():
        if file.name.startswith("."):
            continue
        match = re.fullmatch(as_regex, file.relative_to(folder).as_posix())
        if match is not None:
            found.add("\0".join(match.groups()))
    return sorted(found, key=natural)


def located(manifest: Manifest, folder: Path) -> dict[str, Path]:
    """Where the wanted files are, by name; those that are not there are left out.

    HSC's coadds are found anywhere below the folder (its own tree is fine), compressed or
    not, and their PSF stamps beside them.

    Raises
    ------
    InputError
        When a coadd is there twice.
    """
    there: dict[str, Path] = {}
    if manifest.survey == "hsc":
        for file in sorted(folder.rglob("*calexp-HSC-*.fits*")) if folder.is_dir() else ():
            name = re.sub(r"\.(fz|gz)$", "", file.name)
            if not name.endswith(".fits") or file.name.startswith("."):
                continue
            # HSC-I2 is i, as the reader has it: the second filter of that band.
            name = re.sub(r"(calexp-HSC-[A-Z])\d-", r"\1-", name)
            if name in there:
                raise InputError(
                    f"a second file of one coadd, besides {there[name]}",
                    file=file,
                    remedy="leave one of them",
                )
            there[name] = file
    for wanted in wanted_files(manifest, folder):
        if wanted.file not in there and (folder / wanted.file).is_file():
            there[wanted.file] = folder / wanted.file
    return there


@dataclass(frozen=True)
class State:
    """What a wanted file is: ``ok``, ``new`` (there, not recorded yet), ``missing`` or ``wrong``.

    `why` says what is wrong; `path` is where the file is.
    """

    wanted: Wanted
    state: str
    why: str = ""
    path: Path | None = None


def file_entry(path: Path, wanted: Wanted, manifest: Manifest) -> dict[str, Any]:
    """What the lock file records of a file that is there."""
    entry: dict[str, Any] = {"sha256": file_hash(path), "bytes": path.stat().st_size}
    if wanted.catalog is not None and wanted.catalog.query:
        entry["query_sha256"] = query_hash(manifest, wanted.catalog)
    return entry


def query_hash(manifest: Manifest, catalog: CatalogEntry) -> str:
    """sha256 of a catalog's SQL."""
    return hashlib.sha256(query_text(manifest, catalog).encode()).hexdigest()


def query_text(manifest: Manifest, catalog: CatalogEntry) -> str:
    """A catalog's SQL, a file below the manifest's folder."""
    path = below(manifest.path.parent, catalog.query, file=manifest.path)
    if regular_size(path) > MAX_QUERY_BYTES:
        raise InputError(f"longer than {MAX_QUERY_BYTES} bytes", file=path, remedy="give the SQL")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError("not a text", file=path, remedy="give the SQL") from error


def state_of(manifest: Manifest, lock: Lock, wanted: Wanted, path: Path | None) -> State:
    """Hold one file to its content's form and, where it has been recorded, its hash."""
    if path is None:
        return State(wanted, "missing")
    recorded = lock.entries.get(wanted.file)
    try:
        if recorded is None:
            check_content(path)
            return State(wanted, "new", path=path)
        entry = file_entry(path, wanted, manifest)
        if entry["sha256"] != recorded["sha256"]:
            check_content(path)  # a web page or a stump says more than "another file"
            raise InputError(
                f"is not the file that came first (sha256 {entry['sha256'][:12]}..., "
                f"recorded {recorded['sha256'][:12]}...)",
                file=path,
                remedy="delete it to fetch it again; if it changed on purpose, delete its entry "
                f"in {lock.path.name}",
            )
        if entry.get("query_sha256") != recorded.get("query_sha256"):
            raise InputError(
                f"was made by another query than {wanted.catalog.query if wanted.catalog else ''}",
                file=path,
                remedy=f"delete it and its entry in {lock.path.name} to run the query again",
            )
    except (AstrolabelError, OSError) as error:
        return State(wanted, "wrong", str(error), path)
    return State(wanted, "ok", path=path)


def survey_states(manifest: Manifest, folder: Path, *, progress: bool = False) -> tuple[State, ...]:
    """The state of every wanted file, in order."""
    lock, there = read_lock(manifest.path), located(manifest, folder)
    everything = wanted_files(manifest, folder)
    if not any(wanted.kind == "coadd" for wanted in everything):
        everything = (Wanted(manifest.coadds.pattern, "coadd"), *everything)
    return tuple(state_of(manifest, lock, wanted, there.get(wanted.file)) for wanted in everything)


def verify(manifest: Manifest, folder: Path) -> None:
    """Hold every recorded file that is there to its hash.

    Raises
    ------
    InputError
        For the first that is another.
    """
    lock, there = read_lock(manifest.path), located(manifest, folder)
    for wanted in wanted_files(manifest, folder) if lock.entries else ():
        if wanted.file in lock.entries and wanted.file in there:
            state = state_of(manifest, lock, wanted, there[wanted.file])
            if state.state == "wrong":
                raise InputError(state.why)


def table(states: Sequence[State]) -> str:
    """The states for people: a line for each kind and band, then what is amiss."""
    rows: list[tuple[str, ...]] = [("", "wanted", "ok", "new", "missing", "wrong")]
    for kind, band in dict.fromkeys((s.wanted.kind, s.wanted.band) for s in states):
        own = [s.state for s in states if (s.wanted.kind, s.wanted.band) == (kind, band)]
        counts = [str(own.count(state)) for state in rows[0][2:]]
        rows.append((f"{kind} {band}".strip(), str(len(own)), *counts))
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:{width}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows]
    amiss = [s for s in states if s.state == "wrong"]
    amiss += [s for s in states if s.state == "missing"]
    shown = [s.why or f"missing: {s.wanted.file}" for s in amiss[:20]]
    if len(amiss) > 20:
        shown.append(f"and {len(amiss) - 20} more")
    return "\n".join(lines + shown)


def coadds_of(
    manifest: Manifest, folder: Path, problems: list[InputError]
) -> tuple[CoaddFiles, ...]:
    """The coadds of a manifest, ready for `make-coco`.

    Parameters
    ----------
    problems : takes what is wrong with one coadd of several, which is then left out.

    Raises
    ------
    InputError
        For files that are not there, some of them named.
    """
    there = located(manifest, folder)
    wanted = [w for w in wanted_files(manifest, folder) if w.kind != "catalog"]
    # HSC's stamps may be left out: the PSF is then fitted to stars.
    needed = [w for w in wanted if w.kind == "coadd" or manifest.survey != "hsc"]
    _refuse_missing(needed, there, folder)
    if manifest.survey == "hsc":
        paths = tuple(there[w.file] for w in wanted if w.kind == "coadd")
        return find_coadds(Inputs(paths=paths, bands=manifest.bands), problems)
    found = []
    for name in dict.fromkeys(w.coadd for w in wanted):
        own = [w for w in wanted if w.coadd == name]
        of_kind = {
            kind: {w.band: there[w.file] for w in own if w.kind == kind}
            for kind in ("coadd", "psf", *FURTHER)
        }
        inputs = Inputs(
            band_files=tuple(((band,), file) for band, file in of_kind["coadd"].items()),
            psf=of_kind["psf"],
            variance=of_kind["variance"],
            rms=of_kind["rms"],
            mask=of_kind["mask"],
            planes=manifest.coadds.planes,
            bands=manifest.bands,
        )
        try:
            (coadd,) = find_coadds(inputs)
        except InputError as error:
            problems.append(error)
            continue
        truth = next(iter(of_kind["truth"].values()), None)
        tract, patch = own[0].tract, own[0].patch
        found.append(replace(coadd, name=name, tract=tract, patch=patch, truth=truth))
    return tuple(found)


def _refuse_missing(wanted: Sequence[Wanted], there: Mapping[str, Path], folder: Path) -> None:
    missing = [w.file for w in wanted if w.file not in there]
    if missing or not wanted:
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of the manifest's {len(wanted)} coadds and PSFs are not there "
            f"({named})"
            if wanted
            else "no file there has a name of the manifest's pattern",
            file=folder,
            remedy="fetch them, or say where they are with --root",
        )


def catalog_of(manifest: Manifest, folder: Path) -> Path | None:
    """File of the catalog that gives the classes; None for the one class ``source``."""
    entry = manifest.classes
    if entry is None:
        return None
    path = folder / entry.file
    if not path.exists():
        raise InputError(
            "the manifest's catalog is not there",
            file=path,
            remedy="fetch it, or say where the files are with --root",
        )
    return path
