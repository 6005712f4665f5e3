"""From what the user names on the command line to `CoaddFiles`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from astrolabel.errors import InputError
from astrolabel.readers import CoaddFiles
from astrolabel.readers.layers import Layers, find_extra, find_layers

CALEXP = re.compile(
    r"^calexp-HSC-(?P<filter>[A-Z0-9]+)-(?P<tract>\d+)-(?P<patch>\d+,\d+)\.fits(\.fz|\.gz)?$"
)
"""HSC's coadds in the flat form of its archive and in the deepCoadd-results tree."""

T = TypeVar("T")

HSC_ORDER = "ugrizy"


@dataclass(frozen=True)
class Inputs:
    """What the user gave.

    Attributes
    ----------
    paths : HSC coadds, directories of them, or one FITS cube.
    bands : the bands to use, in order; empty takes what is there.
    band_files : (names, file) pairs: several names for the planes of a cube.
    variance, mask, psf : one further file for a band, or for all under the name ``*``.
    zeropoints : AB magnitude of one count by band, or for all under ``*``.
    """

    paths: tuple[Path, ...] = ()
    bands: tuple[str, ...] = ()
    band_files: tuple[tuple[tuple[str, ...], Path], ...] = ()
    variance: Mapping[str, Path] = field(default_factory=dict)
    mask: Mapping[str, Path] = field(default_factory=dict)
    psf: Mapping[str, Path] = field(default_factory=dict)
    zeropoints: Mapping[str, float] = field(default_factory=dict)


def find_coadds(inputs: Inputs, problems: list[InputError] | None = None) -> tuple[CoaddFiles, ...]:
    """Every coadd the user's words name, ordered by name.

    Parameters
    ----------
    problems : takes what is wrong with one HSC coadd of several (a missing band, a file
        that is not FITS), which is then left out. Without it such a coadd is raised.

    Raises
    ------
    InputError
        For nothing found, a missing band, a file that is not there or not FITS.
    """
    if inputs.band_files:
        if inputs.paths:
            raise InputError(
                "both INPUT and --band are given",
                remedy="name the files of one coadd with --band, or HSC directories as INPUT",
            )
        return (_from_bands(inputs, _named_layers(inputs.band_files), ""),)
    if not inputs.paths:
        raise InputError("no input", remedy="give a directory of HSC coadds, or --band g=FILE")
    calexps: list[Path] = []
    others: list[Path] = []
    for path in inputs.paths:
        if not path.exists():
            raise InputError("no such file or directory", file=path)
        found = sorted(path.rglob("calexp-*.fits*")) if path.is_dir() else [path]
        for file in found:
            (calexps if CALEXP.match(file.name) else others).append(file)
        if path.is_dir() and not any(CALEXP.match(file.name) for file in found):
            raise InputError(
                "no HSC coadds (calexp-HSC-I-9813-4,5.fits) in this directory",
                file=path,
                remedy="for another survey name the files with --band g=FILE",
            )
    coadds = _hsc(calexps, inputs, problems)
    for path in others:
        planes = find_layers(path)
        if len(planes) != len(inputs.bands):
            raise InputError(
                f"{len(planes)} plane(s), but --bands names {len(inputs.bands)}",
                file=path,
                remedy="name every plane with --bands, or give --band g=FILE",
            )
        named = dict(zip(inputs.bands, planes, strict=True))
        coadds.append(_from_bands(inputs, named, path.name.split(".fits")[0]))
    names = [c.name for c in coadds]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two inputs are both called {name}", remedy="rename one of them")
    return tuple(sorted(coadds, key=lambda c: c.name))


def _hsc(
    files: Sequence[Path], inputs: Inputs, problems: list[InputError] | None
) -> list[CoaddFiles]:
    """One coadd per tract and patch; what is wrong with one is no fault of the others."""
    groups: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for file in files:
        match = CALEXP.match(file.name)
        assert match is not None
        band = match["filter"][0].lower()  # HSC-I2 is i: the second filter of that band
        group = groups.setdefault((match["tract"], match["patch"]), {})
        group.setdefault(band, []).append(file)
    coadds = []
    for (tract, patch), by_band in sorted(groups.items()):
        try:
            coadds.append(_hsc_coadd(tract, patch, by_band, inputs))
        except InputError as error:
            if problems is None:
                raise
            problems.append(error)
    return coadds


def _hsc_coadd(
    tract: str, patch: str, by_band: Mapping[str, Sequence[Path]], inputs: Inputs
) -> CoaddFiles:
    there = sorted(by_band, key=HSC_ORDER.find)
    bands = inputs.bands or tuple(there)
    for band in bands:
        if band not in by_band:
            raise InputError(
                f"tract {tract} patch {patch} has no {band} band (found {','.join(there)})",
                file=by_band[there[0]][0].parent,
                remedy="fetch it, or choose others with --bands",
            )
        if len({file.resolve() for file in by_band[band]}) > 1:
            raise InputError(
                f"a second {band}-band file of one patch, besides {by_band[band][0]}",
                file=by_band[band][1],
                remedy="give one file per band and patch",
            )
    chosen = {b: by_band[b][0] for b in bands}
    stamps = {b: p for b in bands if (p := _stamp_beside(chosen[b])) is not None}
    return CoaddFiles(
        name=f"{tract}-{patch}",
        bands=bands,
        layers=tuple(_only(find_layers(chosen[b]), chosen[b]) for b in bands),
        tract=tract,
        patch=patch,
        psf={**stamps, **_per_band(inputs.psf, bands)},
        zeropoints=_per_band(inputs.zeropoints, bands),
    )


def _stamp_beside(calexp: Path) -> Path | None:
    """The PSF stamp of a coadd under the name HSC's PSF picker gives it, if it is there."""
    stem = calexp.name.split(".fits")[0]
    beside = sorted(
        p
        for p in calexp.parent.glob("psf*.fits*")
        if stem in p.name or stem.removeprefix("calexp-") in p.name
    )
    return beside[0] if beside else None


def _named_layers(
    band_files: Sequence[tuple[tuple[str, ...], Path]],
) -> dict[str, Layers]:
    named: dict[str, Layers] = {}
    for names, path in band_files:
        planes = find_layers(path)
        if len(planes) != len(names):
            raise InputError(
                f"{len(planes)} plane(s) for the {len(names)} band(s) {','.join(names)}",
                file=path,
                remedy="name each plane of a cube: --band g,r,i=FILE",
            )
        for band, layer in zip(names, planes, strict=True):
            if band in named:
                raise InputError(f"band {band} is given twice", file=path)
            named[band] = layer
    return named


def _from_bands(inputs: Inputs, named: Mapping[str, Layers], name: str) -> CoaddFiles:
    bands = inputs.bands or tuple(named)
    missing = [b for b in bands if b not in named]
    if missing:
        raise InputError(
            f"no file for the band(s) {','.join(missing)} that --bands asks for",
            remedy=f"add --band {missing[0]}=FILE",
        )
    layers = tuple(named[b] for b in bands)
    return CoaddFiles(
        name=name or layers[0].path.name.split(".fits")[0],
        bands=bands,
        layers=layers,
        psf=_per_band(inputs.psf, bands),
        variance=_extra(inputs.variance, bands, "variance"),
        mask=_extra(inputs.mask, bands, "mask"),
        zeropoints=_per_band(inputs.zeropoints, bands),
    )


def _extra(files: Mapping[str, Path], bands: Sequence[str], role: str) -> dict[str, Layers]:
    return {b: find_extra(p, role) for b, p in _per_band(files, bands).items()}


def _per_band(given: Mapping[str, T], bands: Sequence[str]) -> dict[str, T]:
    """Values by band; the one under ``*`` holds for all bands without their own."""
    unknown = [b for b in given if b != "*" and b not in bands]
    if unknown:
        raise InputError(
            f"an option names the band {unknown[0]}, which is not used",
            remedy=f"the bands are {','.join(bands)}",
        )
    return {b: given.get(b, given.get("*")) for b in bands if b in given or "*" in given}  # type: ignore[misc]


def _only(layers: tuple[Layers, ...], path: Path) -> Layers:
    if len(layers) != 1:
        raise InputError(f"a cube of {len(layers)} planes where one band is wanted", file=path)
    return layers[0]
