"""Tiles laid side by side: the coadds that the images of a document are of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.wcs import WCS

Placed = tuple[Mapping[str, Any], tuple[int, int], tuple[int, int]]
"""An annotation, the (H, W) of its image, and the (y, x) of the image in the frame."""
TILE = re.compile(r"-r(\d+)c(\d+)$")
"""How the name of a tile ends: row and column in its coadd."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One coadd: its tiles and where they lie in it.

    Attributes
    ----------
    name : the coadd's.
    shape : (H, W) in pixels that holds all tiles.
    images : the tiles' entries in the document.
    offsets : (y, x) of each tile's first pixel in the frame.
    """

    name: str
    shape: tuple[int, int]
    images: tuple[Mapping[str, Any], ...]
    offsets: tuple[tuple[int, int], ...]

    @property
    def wcs(self) -> WCS | None:
        """Celestial WCS of the frame's pixels, from its first tile; None without one."""
        cards = (self.images[0].get("astro") or {}).get("wcs")
        if not cards:
            return None
        from astrolabel.core.celestial import wcs_of_cards

        dy, dx = self.offsets[0]
        wcs = wcs_of_cards(cards)
        wcs.wcs.crpix += (dx, dy)
        if wcs.sip is not None:
            wcs.sip.crpix[:] += (dx, dy)
        return wcs


def wcs_of(image: Mapping[str, Any]) -> WCS | None:
    """Celestial WCS of an image's own pixels; None without one."""
    return Frame("", (0, 0), (image,), ((0, 0),)).wcs


def frames_of(images: Sequence[Mapping[str, Any]]) -> dict[str, Frame]:
    """The coadds by name, in the document's order.

    Tiles of one coadd are known by their names (``9813-4,5-r0c1``) and origins. Any other image
    is a frame of its own.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for image in images:
        stem = PurePosixPath(image["file_name"]).stem
        known = (image.get("astro") or {}).get("origin") is not None
        name = TILE.sub("", stem) if known else str(PurePosixPath(image["file_name"]))
        groups.setdefault(name, []).append(image)
    return {name: _frame(name, group) for name, group in groups.items()}


def place_in_frames(
    frames: Mapping[str, Frame], annotations: Iterable[Mapping[str, Any]]
) -> dict[str, list[Placed]]:
    """The annotations of each frame, with their images' shapes and places in it."""
    places = {
        image["id"]: (frame.name, (int(image["height"]), int(image["width"])), offset)
        for frame in frames.values()
        for image, offset in zip(frame.images, frame.offsets, strict=True)
    }
    found: dict[str, list[Placed]] = {name: [] for name in frames}
    for item in annotations:
        name, shape, offset = places[item["image_id"]]
        found[name].append((item, shape, offset))
    return found


def _frame(name: str, images: Sequence[Mapping[str, Any]]) -> Frame:
    origins = [tuple((image.get("astro") or {}).get("origin") or (0, 0)) for image in images]
    y0, x0 = (min(o[axis] for o in origins) for axis in (0, 1))
    offsets = tuple((int(y - y0), int(x - x0)) for y, x in origins)
    placed = list(zip(images, offsets, strict=True))
    shape = (
        max(dy + int(image["height"]) for image, (dy, _) in placed),
        max(dx + int(image["width"]) for image, (_, dx) in placed),
    )
    return Frame(name, shape, tuple(images), offsets)
