"""What a manifest says of its coadds: patches, patterns of file names, files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.datasets.manifest_schema import Keys, expand_patches

PLACEHOLDERS = ("band", "BAND", "tract", "patch")
FURTHER = ("variance", "rms", "mask", "truth")
"""What a pattern under `coadds` may name beside the coadds and their PSFs."""


@dataclass(frozen=True)
class Coadds:
    """Which coadds.

    Attributes
    ----------
    patches : by tract; empty where the pattern or `files` say it all.
    pattern : file of one band, with {band}, {tract}, {patch} and ``*``: without patches for
        what tells coadds apart, with them for what cannot be known; empty for HSC's names.
    psfs : pattern of the PSF stamps' files; empty for none (HSC's are found beside the
        coadds).
    files : file by band, for a single coadd.
    further : patterns by what they are of: ``variance``, ``rms``, ``mask``, and ``truth``, one
        file of truth images for all bands, which then give the labels.
    planes : bit by plane name of masks whose headers do not tell.
    """

    patches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pattern: str = ""
    psfs: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    further: Mapping[str, str] = field(default_factory=dict)
    planes: Mapping[str, int] = field(default_factory=dict)


def read_coadds(path: Path, survey: str, bands: tuple[str, ...], given: Any) -> Coadds:
    """Read and check the value of `coadds`.

    Raises
    ------
    InputError
        Naming the manifest, the key and what it should be.
    """
    known = ("patches", "pattern", "psfs", "files", *FURTHER, "planes")
    keys = Keys(path, "coadds", given, known)
    patches = {}
    if keys.has("patches"):
        patches = expand_patches(path, "coadds.patches", keys.values["patches"])
    pattern, psfs = keys.file("pattern", ""), keys.file("psfs", "")
    further = {key: keys.file(key) for key in FURTHER if keys.has(key)}
    planes = keys.values.get("planes", {})
    if not isinstance(planes, dict) or not all(
        isinstance(name, str) and type(bit) is int and 0 <= bit <= 30
        for name, bit in planes.items()
    ):
        keys.refuse("planes", "bits from 0 to 30 by name, such as {NO_DATA: 0, SAT: 2}")
    files = {}
    if keys.has("files"):
        one = Keys(path, "coadds.files", keys.values["files"], bands)
        files = {band: one.file(band) for band in bands}
    if files and (patches or pattern):
        raise InputError(
            "coadds has files and patches or a pattern", file=path, remedy="give one or the other"
        )
    if survey == "hsc" and (not patches or pattern or psfs or further or planes):
        raise InputError(
            "coadds of survey hsc are found by tract and patch",
            file=path,
            remedy="give coadds.patches alone, or survey: fits with a pattern",
        )
    if survey == "fits" and not (pattern or files):
        raise InputError(
            "coadds of survey fits need their files' names",
            file=path,
            remedy='give coadds.pattern: "{tract}-{patch}-{band}.fits", or coadds.files',
        )
    for key, text in (("pattern", pattern), ("psfs", psfs), *further.items()):
        if text and not (key != "pattern" and files):
            several = len(bands) > 1 and key != "truth"
            check_pattern(keys, key, text, bool(patches), several=several)
            if text.count("*") > pattern.count("*"):
                keys.refuse(key, "a name with no more * than the pattern")
    return Coadds(patches, pattern, psfs, files, further, planes)


def check_pattern(keys: Keys, key: str, text: str, patches: bool, several: bool) -> None:
    """Braces that are known, and all that is needed to tell the files apart."""
    used = set(re.findall(r"\{([^{}]*)\}", text))
    if not used <= set(PLACEHOLDERS) or re.sub(r"\{[^{}]*\}", "", text).strip("{}") != re.sub(
        r"\{[^{}]*\}", "", text
    ):
        keys.refuse(key, "a name with no braces but {band}, {BAND}, {tract}, {patch}")
    if several and not used & {"band", "BAND"}:
        keys.refuse(key, "a name with {band} in it, since there are several bands")
    if patches != bool(used & {"tract", "patch"}) or (patches and "patch" not in used):
        keys.refuse(
            key,
            "a name with {tract} and {patch} in it"
            if patches
            else "coadds.patches as well, since the name has {tract} or {patch} in it",
        )
