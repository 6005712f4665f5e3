"""Which catalog gives the classes, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from astrolabel.core.config.tree import PositiveInt


@dataclass(frozen=True)
class FusionConfig:
    """One class from two catalogs (Dawid and Skene 1979); `relabel` alone uses it."""

    trust: tuple[float, float] = (0.98, 0.9)
    """How often the first and the second catalog are right, as assumed before the data: space
    against ground, whose stars and galaxies look alike from magnitude 24 on."""
    prior_strength: tuple[float, float] = (1000.0, 20.0)
    """How many objects that assumption is worth in every magnitude bin. The first is held to
    it; the second's is measured against the first as soon as there are some dozens."""
    bin_objects: PositiveInt = 200
    """Objects with both classes in a magnitude bin: enough to see one error in ten."""
    rounds: PositiveInt = 200
    """Most rounds of the fit, which ends when nothing changes by a millionth."""


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
    fusion: FusionConfig = field(default_factory=FusionConfig)
