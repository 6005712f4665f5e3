"""Regions of the sky, or of a dataset's coadds, that a manifest's splits are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.datasets.manifest_schema import Keys, expand_patches, is_number

KINDS = ("patches", "circle", "polygon", "healpix", "moc", "coadds")

MAX_ORDER = 29
"""Deepest HEALPix order, which MOC 2.0 and 64-bit pixel numbers allow."""


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
        splits[name] = tuple(_region(path, f"splits.{name}", one) for one in listed)
    _no_patch_twice(path, splits)
    return splits


def _region(path: Path, where: str, given: Any) -> Region:
    keys = Keys(path, where, given, KINDS)
    if len(keys.values) != 1:
        raise InputError(
            f"{where} has {len(keys.values)} keys",
            file=path,
            remedy=f"give one of {', '.join(KINDS)}, or a list of regions",
        )
    (kind,) = keys.values
    value = keys.values[kind]
    if kind == "patches":
        return Region(kind, expand_patches(path, f"{where}.patches", value))
    if kind == "coadds":
        return Region(kind, keys.texts(kind, "a list of names such as [train-*]"))
    if kind == "circle":
        if not _numbers(value, 3) or not _on_sky(value) or not 0 < value[2] <= 90:
            keys.refuse(kind, "[ra, dec, radius] in degrees, the radius up to 90")
        return Region(kind, tuple(float(v) for v in value))
    if kind == "polygon":
        corners = value if isinstance(value, list) else []
        good = len(corners) >= 3 and all(_numbers(c, 2) and _on_sky(c) for c in corners)
        if not good or len({tuple(c) for c in corners}) != len(corners):
            keys.refuse(kind, "three or more different corners [[ra, dec], ...] in degrees")
        return Region(kind, tuple((float(ra), float(dec)) for ra, dec in corners))
    if kind == "healpix":
        return Region(kind, _healpix(path, f"{where}.healpix", value))
    if not isinstance(value, str) or not _is_moc(value):
        keys.refuse("moc", 'a MOC in ASCII such as "6/100-103 7/1024,1030"')
    return Region(kind, " ".join(value.split()))


def _healpix(path: Path, where: str, given: Any) -> tuple[int, tuple[int, ...]]:
    keys = Keys(path, where, given, ("order", "pixels"))
    order = keys.whole("order", 0, MAX_ORDER)
    if order is None:
        keys.refuse("order", f"the HEALPix order, 0 to {MAX_ORDER}")
    pixels, count = keys.values.get("pixels"), 12 * 4**order
    whole = isinstance(pixels, list) and all(isinstance(p, int) and is_number(p) for p in pixels)
    if not whole or not pixels or not all(0 <= p < count for p in pixels):
        keys.refuse("pixels", f"a list of nested pixel numbers from 0 to {count - 1}")
    return order, tuple(sorted(set(pixels)))


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


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(is_number(v) for v in value)


def _on_sky(value: list[float]) -> bool:
    return 0 <= value[0] < 360 and -90 <= value[1] <= 90


def _no_patch_twice(path: Path, splits: Mapping[str, tuple[Region, ...]]) -> None:
    owner: dict[tuple[str, str], str] = {}
    for name, regions in splits.items():
        for region in regions:
            if region.kind != "patches":
                continue
            for tract, patches in region.value.items():
                for patch in patches:
                    other = owner.setdefault((tract, patch), name)
                    if other != name:
                        raise InputError(
                            f"splits {other} and {name} both have tract {tract} patch {patch}",
                            file=path,
                            remedy="give each patch to one split",
                        )
