"""From a catalog's ellipse to a mask."""

from __future__ import annotations

from dataclasses import dataclass

from astrolabel.core.config.tree import Positive


@dataclass(frozen=True)
class ImportConfig:
    """From others' labels to masks."""

    ellipse_sigma: Positive = 3.0
    """Half axes of the mask in those of the catalog, where these are second moments (A_IMAGE of
    SExtractor, ``a`` of sep, semimajor_sigma of photutils): 3 is SExtractor's isophotal ellipse.
    A catalog's Kron radius is used in its place where there is one."""
    ellipse_scale: Positive = 1.0
    """The same where the half axes are named with ``--columns``: they are taken as they are."""
