"""Regions of the sky, or of a dataset's coadds, that a manifest's splits are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import force_setattr

from astrolabel.core.errors import InputError
from astrolabel.datasets.manifest_schema import Entry, convert, expand_patches

MAX_ORDER = 29
"""Deepest HEALPix order, which MOC 2.0 and 64-bit pixel numbers allow."""
Ra = Annotated[float, Meta(ge=0, lt=360)]
Dec = Annotated[float, Meta(ge=-90, le=90)]
Radius = Annotated[float, Meta(gt=0, le=90)]
CORNERS = "three or more different corners [[ra, dec], ...] in degrees"
Circle = Annotated[
    tuple[Ra, Dec, Radius], Meta(description="[ra, dec, radius] in degrees, the radius up to 90")
]
Polygon = Annotated[tuple[tuple[Ra, Dec], ...], Meta(min_length=3, description=CORNERS)]
Names = Annotated[
    tuple[str, ...], Meta(min_length=1, description="a list of names such as [train-*]")
]


@dataclass(frozen=True)
class Region:
    """One region; a split is the union of one or more.

    Attributes
    ----------
    kind : which of these `value` is.

        ``patches`` : patches by tract, ``{"9813": ("4,5", ...)}``.
        ``circle`` : (ra, dec, radius), degrees.
        ``polygon`` : ((ra, dec), ...), degrees, three corners or more, joined by great
        circles; the inside is the smaller part of the sky.
        ``healpix`` : (order, (pixel, ...)), nested numbering, equatorial.
        ``moc`` : a MOC's ASCII form, ``"6/100-103 7/1024"``: HEALPix pixels of several orders.
        ``coadds`` : patterns of coadds' names, ``("train-*",)``, for images without a sky.
    """

    kind: str
    value: Any


def read_splits(path: Path, given: Any) -> dict[str, tuple[Region, ...]]:
    """A manifest's `splits`: regions by name, one or a list of them each.

    Raises
    ------
    InputError
        For an unknown kind, values out of range, and a patch that two splits claim.
    """
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"splits is {given!r}",
            file=path,
            remedy="give regions by name: {train: {circle: [150.1, 2.2, 0.5]}}",
        )
    splits: dict[str, tuple[Region, ...]] = {}
    for name, regions in given.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise InputError(
                f"a split is called {name!r}",
                file=path,
                remedy="name it with letters, digits, _ . - (it names a file)",
            )
        listed = regions if isinstance(regions, list) and regions else [regions]
        splits[name] = tuple(
            convert(RegionKeys, one, path, f"splits.{name}").region() for one in listed
        )
    _no_patch_twice(path, splits)
    return splits


class Healpix(Entry, frozen=True):
    """Pixels in nested numbering."""

    order: Annotated[int, Meta(ge=0, le=MAX_ORDER)]
    pixels: list[int]

    def __post_init__(self) -> None:
        count = 12 * 4**self.order
        if not self.pixels or not all(0 <= pixel < count for pixel in self.pixels):
            raise ValueError(
                f"pixels out of range; give a list of nested pixel numbers from 0 to {count - 1}"
            )


class RegionKeys(Entry, frozen=True):
    """A region as it is written: one of these keys."""

    patches: Any = None
    circle: Circle | None = None
    polygon: Polygon | None = None
    healpix: Healpix | None = None
    moc: str | None = None
    coadds: Names | None = None

    def __post_init__(self) -> None:
        given = sum(getattr(self, kind) is not None for kind in self.__struct_fields__)
        if given != 1:
            kinds = ", ".join(self.__struct_fields__)
            raise ValueError(f"{given} keys; give one of {kinds}, or a list of regions")
        if self.patches is not None:
            force_setattr(self, "patches", expand_patches(self.patches))
        if self.polygon is not None and len(set(self.polygon)) != len(self.polygon):
            raise ValueError(f"polygon has a corner twice; give {CORNERS}")
        if self.moc is not None and not _is_moc(self.moc):
            raise ValueError(
                f'moc is {self.moc[:80]!r}; give a MOC in ASCII such as "6/100-103 7/1024,1030"'
            )

    def region(self) -> Region:
        """The region, whose value is the one that is not None."""
        every = ((kind, getattr(self, kind)) for kind in self.__struct_fields__)
        kind, value = next((kind, value) for kind, value in every if value is not None)
        if isinstance(value, Healpix):
            value = value.order, tuple(sorted(set(value.pixels)))
        return Region(kind, " ".join(value.split()) if kind == "moc" else value)


def _is_moc(text: str) -> bool:
    """Whether every ``order/cells`` of a MOC is within its order's range."""
    groups = re.findall(r"(\d+)/([^/]*?)(?=\s+\d+/|$)", text.strip())
    if not groups or "".join(f"{o}/{c}" for o, c in groups).replace(" ", "") != re.sub(
        r"\s", "", text
    ):
        return False
    for order, cells in groups:
        if int(order) > MAX_ORDER:
            return False
        for cell in re.split(r"[\s,]+", cells.strip(" ,")):
            found = re.fullmatch(r"(\d+)(?:-(\d+))?", cell)
            # An order without cells only says how fine the MOC is.
            if found is None and cell:
                return False
            if found and not int(found[1]) <= int(found[2] or found[1]) < 12 * 4 ** int(order):
                return False
    return True


def _no_patch_twice(path: Path, splits: Mapping[str, tuple[Region, ...]]) -> None:
    owner: dict[tuple[str, str], str] = {}
    for name, region in ((name, one) for name, regions in splits.items() for one in regions):
        by_tract = region.value.items() if region.kind == "patches" else ()
        for tract, patch in ((tract, patch) for tract, patches in by_tract for patch in patches):
            if (other := owner.setdefault((tract, patch), name)) != name:
                raise InputError(
                    f"splits {other} and {name} both have tract {tract} patch {patch}",
                    file=path,
                    remedy="give each patch to one split",
                )
