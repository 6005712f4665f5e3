"""Which catalog gives the classes, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifyConfig:
    """Which catalog gives the classes, and by which rule."""

    scheme: str = "none"
    """`hsc`: extendedness of a forced catalog; `hst`: mu_class of an ACS catalog; `lsst`:
    extendedness of an Object table; `columns`: any catalog; `truth`: the classes of a simulated
    scene's truth images; `none`: one class, `source`."""
    radius_arcsec: float = 1.0
    """Match radius (paper, 3.2 and 4.1)."""
    magnitude_band: str = "i"
    """Band in which the catalog's and the label's magnitudes are compared (paper, 3.2)."""
    class_bands: tuple[str, ...] = ()
    """Bands whose extendedness gives the class, by its mean where several are known; empty
    takes `magnitude_band` alone (paper, 3.2)."""
    columns: tuple[tuple[str, str], ...] = ()
    """What the catalog of the scheme `columns` holds (see `schemes.parse_columns`)."""
    max_magnitude_difference: float = 1.0
    """Candidates farther off in that band are no match (paper, 3.2)."""
    keep_unmatched: bool = False
    """Write sources without a class as ignore regions (`iscrowd: 1`) instead of leaving
    them out (the paper's rule)."""
