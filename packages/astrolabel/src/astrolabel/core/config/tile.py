"""How a coadd is cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TileConfig:
    """How a coadd is cut into the images of the dataset."""

    size: int = 1050
    """Longest side of a tile in pixels; 4x4 tiles of an HSC patch of 4200 (paper, 3.2).
    Tiles of one coadd differ by at most one pixel and never exceed this."""
    margin_px: int = 64
    """Pixels around a tile that are deblended with it and then cut off, so that a source
    on the edge is seen whole. 64 px = 11 arcsec at HSC's scale, more than the radius of
    all but the few largest galaxies of a patch."""
    max_no_data: float = 0.5
    """A tile is left out of all bands when more than this fraction of its pixels carry
    no data in any one band. Tiles at a coadd's ragged border are worth labelling while half of
    them is sky; the preset `paper` has 0.3 (section 3.1)."""
    balance_px: int = 1024
    """Side of the middle part of a coadd that the colors of its pictures are balanced on: some
    hundred galaxies at any survey's depth."""
    overlaps: str = "resolve"
    """`resolve`: where coadds of one run overlap, a source belongs to the one with the
    nearest centre. `keep`: each coadd is labelled whole, and what lies in an overlap is
    labelled more than once (the paper's, whose patches overlap by 200 pixels)."""
