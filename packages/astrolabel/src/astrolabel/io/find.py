"""From what the user names on the command line to `CoaddFiles`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from astrolabel.core.errors import InputError
from astrolabel.io.files import CoaddFiles
from astrolabel.io.layers import Layers, count_chips, find_extra, find_layers, read_cards
from astrolabel.io.names import coadd_name
from astrolabel.io.stamps import stamps_beside, stamps_of

T = TypeVar("T")
Stamps = dict[str, tuple[Path, ...]]

ORDER = "ugrizy"
NO_FILTER = ("clear", "none", "null", "open", "unknown")
"""Words in these that name no band."""
FILTER_CARDS = ("FILTER", "FILTER2", "FILTER1", "BAND", "FILTNAM1", "FPA.FILTER")


def by_wavelength(bands: Iterable[str]) -> tuple[str, ...]:
    """Bands from blue to red; those that are not broad bands come last, by name."""
    return tuple(sorted(bands, key=lambda b: (ORDER.find(b) % (len(ORDER) + 1), b)))


@dataclass(frozen=True)
class Inputs:
    """What the user gave.

    Attributes
    ----------
    paths : HSC or LSST coadds, directories of them, or one FITS cube.
    bands : the bands to use, in order; empty takes what is there.
    band_files : (names, file) pairs: several names for the planes of a cube.
    variance, rms, mask, psf : one further file for a band, or for all under the name ``*``;
        for ``psf`` also a folder of stamps by position.
    planes : bit by plane name, for masks whose headers do not hold them.
    zeropoints : AB magnitude of one count by band, or for all under ``*``.
    survey : key of a row of the registry of surveys; recognised by headers and names where empty.
    """

    paths: tuple[Path, ...] = ()
    bands: tuple[str, ...] = ()
    band_files: tuple[tuple[tuple[str, ...], Path], ...] = ()
    variance: Mapping[str, Path] = field(default_factory=dict)
    rms: Mapping[str, Path] = field(default_factory=dict)
    mask: Mapping[str, Path] = field(default_factory=dict)
    psf: Mapping[str, Path] = field(default_factory=dict)
    planes: Mapping[str, int] = field(default_factory=dict)
    zeropoints: Mapping[str, float] = field(default_factory=dict)
    survey: str = ""


def find_coadds(
    inputs: Inputs, problems: list[InputError] | None = None, *, unnamed: bool = False
) -> tuple[CoaddFiles, ...]:
    """Every coadd the user's words name, ordered by name.

    Parameters
    ----------
    unnamed : a file whose bands are not named is taken with those of its header, else ``1``,
        ``2``, ...: good enough to look at it. To be labelled only a single image is: of several
        it is not known whether they are bands of one coadd, of a cube not which is the redder.
    problems : takes what is wrong with one named coadd of several (a missing band, a file
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
                remedy="name the files of one coadd with --band, or folders as INPUT",
            )
        return _from_band_files(inputs)
    if not inputs.paths:
        raise InputError("no input", remedy="give a folder of coadds, or --band g=FILE")
    named: list[Path] = []
    others: list[Path] = []
    for path in inputs.paths:
        if not path.exists():
            raise InputError("no such file or directory", file=path)
        if path.is_dir():
            found = sorted(f for f in path.rglob("*.fits*") if coadd_name(f) is not None)
            if not found:
                raise InputError(
                    "no HSC or LSST coadds (calexp-HSC-I-9813-4,5.fits, "
                    "deep_coadd_5063_14_i_....fits) in this folder",
                    file=path,
                    remedy="for another survey name the files with --band g=FILE",
                )
            named += found
        else:
            (others if coadd_name(path) is None else named).append(path)
    coadds = _by_name(named, inputs, problems)
    for path in others:
        try:
            coadds += _of_file(path, inputs, unnamed)
        except InputError as error:
            if problems is None or len(inputs.paths) == 1:
                raise
            problems.append(error)
    names = [c.name for c in coadds]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two inputs are both called {name}", remedy="rename one of them")
    return tuple(sorted(coadds, key=lambda c: c.name))


def _of_file(path: Path, inputs: Inputs, unnamed: bool) -> list[CoaddFiles]:
    """The coadds of a file whose name is of no known survey: one for each of its images."""
    number, stem = count_chips(path, inputs.survey), path.name.split(".fits")[0]
    coadds = []
    for chip in range(max(number, 1)):
        planes = find_layers(path, inputs.survey, chip)
        bands = inputs.bands
        alone = len(planes) == 1 and len(inputs.paths) == 1 and not bands
        if (unnamed or alone) and len(planes) != len(bands):
            bands = _bands_of(planes)
        if len(planes) != len(bands):
            raise InputError(
                f"{len(planes)} plane(s), but --bands names {len(bands)}",
                file=path,
                remedy="name every plane with --bands, or give --band g=FILE",
            )
        by_band = dict(zip(bands, planes, strict=True))
        name = stem if number <= 1 else f"{stem}-image{chip + 1}"
        coadds.append(_from_bands(replace(inputs, bands=bands), by_band, name, chip))
    return coadds


def _bands_of(planes: Sequence[Layers]) -> tuple[str, ...]:
    """The filter that the header of a single image names; numbers for planes of a cube."""
    if len(planes) == 1:
        cards = read_cards(planes[0])
        words = (cards.text(key).lower().split() for key in FILTER_CARDS)
        named = (w[0] for w in words if w and not any(none in w[0] for none in NO_FILTER))
        return (next(named, "1"),)
    return tuple(str(k + 1) for k in range(len(planes)))


def _by_name(
    files: Sequence[Path], inputs: Inputs, problems: list[InputError] | None
) -> list[CoaddFiles]:
    """One coadd per tract and patch; what is wrong with one is no fault of the others."""
    groups: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for file in files:
        if name := coadd_name(file):
            band, tract, patch = name
            groups.setdefault((tract, patch), {}).setdefault(band, []).append(file)
    coadds = []
    for (tract, patch), by_band in sorted(groups.items()):
        try:
            coadds.append(_one_patch(tract, patch, by_band, inputs))
        except InputError as error:
            if problems is None:
                raise
            problems.append(error)
    return coadds


def _one_patch(
    tract: str, patch: str, by_band: Mapping[str, Sequence[Path]], inputs: Inputs
) -> CoaddFiles:
    there = by_wavelength(by_band)
    bands = inputs.bands or there
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
    beside = {b: p for b in bands if (p := stamps_beside(chosen[b]))}
    return CoaddFiles(
        name=f"{tract}-{patch}",
        bands=bands,
        layers=tuple(_only(find_layers(chosen[b]), chosen[b]) for b in bands),
        tract=tract,
        patch=patch,
        psf={**beside, **_stamps(inputs, bands, (tract, patch))},
        zeropoints=_per_band(inputs.zeropoints, bands),
    )


def _stamps(inputs: Inputs, bands: Sequence[str], patch: tuple[str, str]) -> Stamps:
    """The stamp files that were named: one of a band, or those of its folder."""
    return {
        band: stamps_of(path, band, patch, band in inputs.psf) if path.is_dir() else (path,)
        for band, path in _per_band(inputs.psf, bands).items()
    }


def _from_band_files(inputs: Inputs) -> tuple[CoaddFiles, ...]:
    """One coadd, or one for each image (chip, SCI extension) of the files."""
    chips = {path: count_chips(path, inputs.survey) for _, path in inputs.band_files}
    number = max(chips.values())
    if number <= 1:
        named = _named_layers(inputs.band_files, inputs.survey, 0)
        return (_from_bands(inputs, named, ""),)
    other = next((path for path, n in chips.items() if n != number), None)
    if other is not None:
        raise InputError(
            f"{chips[other]} image(s), but another band's file has {number}",
            file=other,
            remedy="give files with the same images",
        )
    out = []
    for chip in range(number):
        named = _named_layers(inputs.band_files, inputs.survey, chip)
        name = next(iter(named.values())).path.name.split(".fits")[0]
        out.append(_from_bands(inputs, named, f"{name}-image{chip + 1}", chip))
    return tuple(out)


def _named_layers(
    band_files: Sequence[tuple[tuple[str, ...], Path]], survey: str, chip: int
) -> dict[str, Layers]:
    named: dict[str, Layers] = {}
    for names, path in band_files:
        planes = find_layers(path, survey, chip)
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


def _from_bands(
    inputs: Inputs, named: Mapping[str, Layers], name: str, chip: int = 0
) -> CoaddFiles:
    bands = inputs.bands or tuple(named)
    missing = [b for b in bands if b not in named]
    if missing:
        raise InputError(
            f"no file for the band(s) {','.join(missing)} that --bands asks for",
            remedy=f"add --band {missing[0]}=FILE",
        )
    layers = tuple(replace(named[b], planes=tuple(inputs.planes.items())) for b in bands)
    return CoaddFiles(
        name=name or layers[0].path.name.split(".fits")[0],
        bands=bands,
        layers=layers,
        psf=_stamps(inputs, bands, ("", "")),
        variance=_noise(inputs, bands, chip),
        mask=_extra(inputs.mask, bands, "mask", inputs.planes, chip),
        zeropoints=_per_band(inputs.zeropoints, bands),
    )


def _noise(inputs: Inputs, bands: Sequence[str], chip: int) -> dict[str, Layers]:
    variance = _extra(inputs.variance, bands, "variance", chip=chip)
    rms = _extra(inputs.rms, bands, "rms", chip=chip)
    for band in variance.keys() & rms.keys():
        raise InputError(f"band {band} has both a variance and an rms", remedy="give one of them")
    return variance | rms


def _extra(
    files: Mapping[str, Path],
    bands: Sequence[str],
    role: str,
    planes: Mapping[str, int] = {},
    chip: int = 0,
) -> dict[str, Layers]:
    return {
        b: replace(find_extra(p, role, chip), planes=tuple(planes.items()))
        for b, p in _per_band(files, bands).items()
    }


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
