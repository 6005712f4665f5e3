"""What a manifest says of its coadds: patches, patterns of file names, files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from astrolabel.datasets.manifest_schema import Entry, FileName, expand_patches

PLACEHOLDERS = ("band", "BAND", "tract", "patch")
FURTHER = ("variance", "rms", "mask", "truth")
"""What a pattern under `coadds` may name beside the coadds and their PSFs."""


class Coadds(Entry, frozen=True):
    """Which coadds.

    Attributes
    ----------
    patches : by tract; empty where the pattern or `files` say it all.
    pattern : file of one band, with {band}, {tract}, {patch} and ``*``: without patches for
        what distinguishes coadds, with them for what cannot be known; empty for HSC's names.
    psfs : pattern of the PSF stamps' files; empty for none (HSC's are found beside the
        coadds).
    files : file by band, for a single coadd.
    variance, rms, mask : patterns of further files; empty for none.
    truth : pattern of one file of truth images for all bands, which then give the labels.
    planes : bit by plane name, for masks whose headers do not hold them.
    """

    patches: Any = msgspec.field(default_factory=dict)
    pattern: FileName = ""
    psfs: FileName = ""
    files: dict[str, FileName] = msgspec.field(default_factory=dict)
    variance: FileName = ""
    rms: FileName = ""
    mask: FileName = ""
    truth: FileName = ""
    planes: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=30)]],
        Meta(description="bits from 0 to 30 by name, such as {NO_DATA: 0, SAT: 2}"),
    ] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.patches:
            force_setattr(self, "patches", expand_patches(self.patches))
        if self.files and (self.patches or self.pattern):
            raise ValueError("files and patches or a pattern; give one or the other")

    @property
    def further(self) -> Mapping[str, str]:
        """Patterns by what they are of, without the empty ones."""
        return {kind: text for kind in FURTHER if (text := getattr(self, kind))}


def check_coadds(coadds: Coadds, survey: str, bands: tuple[str, ...]) -> None:
    """Whether what is said of the coadds fits the survey and the bands.

    Raises
    ------
    ValueError
        With "problem; remedy".
    """
    if survey == "hsc" and (not coadds.patches or coadds != Coadds(patches=coadds.patches)):
        raise ValueError(
            "coadds of survey hsc are found by tract and patch; "
            "give coadds.patches alone, or survey: fits with a pattern"
        )
    if survey == "fits" and not (coadds.pattern or coadds.files):
        raise ValueError(
            "coadds of survey fits need their files' names; "
            'give coadds.pattern: "{tract}-{patch}-{band}.fits", or coadds.files'
        )
    if coadds.files:
        for band in bands:
            if not coadds.files.get(band):
                raise ValueError(f"no 'coadds.files.{band}'; give the name of a file")
        if strange := [band for band in coadds.files if band not in bands]:
            raise ValueError(f"unknown key 'coadds.files.{strange[0]}'; give files of the bands")
        return
    for key in ("pattern", "psfs", *FURTHER):
        if text := getattr(coadds, key):
            several = len(bands) > 1 and key != "truth"
            check_pattern(f"coadds.{key}", text, bool(coadds.patches), several)
            if text.count("*") > coadds.pattern.count("*"):
                raise ValueError(
                    f"coadds.{key} is {text!r}; give a name with no more * than the pattern"
                )


def check_pattern(key: str, text: str, patches: bool, several: bool) -> None:
    """Braces that are known, and all that is needed to distinguish the files.

    Raises
    ------
    ValueError
        With "problem; remedy".
    """
    used = set(re.findall(r"\{([^{}]*)\}", text))
    rest = re.sub(r"\{[^{}]*\}", "", text)
    wanted = ""
    if not used <= set(PLACEHOLDERS) or "{" in rest or "}" in rest:
        wanted = "a name with no braces but {band}, {BAND}, {tract}, {patch}"
    elif several and not used & {"band", "BAND"}:
        wanted = "a name with {band} in it, since there are several bands"
    elif patches and "patch" not in used:
        wanted = "a name with {tract} and {patch} in it"
    elif not patches and used & {"tract", "patch"}:
        wanted = "coadds.patches as well, since the name has {tract} or {patch} in it"
    if wanted:
        raise ValueError(f"{key} is {text!r}; give {wanted}")
