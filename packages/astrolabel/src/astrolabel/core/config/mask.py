"""From a deblended source to its mask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MaskConfig:
    """From a deblended source to its mask."""

    threshold_sigma: float = 5.0
    """Mask threshold in sigma of the detection image's sky noise (paper, 3.2)."""
    faint: float = 0.8
    """A source that is above the threshold in fewer pixels than a label has is masked at this part
    of it. The noise of a fitted peak is a tenth of the threshold and more in a blend, which would
    cost a sixth of the sources whose true peak is just above, and half of those whose true mask is
    just large enough. Of simulated sources 0.9 loses one in a hundred. 1 leaves them without a
    mask (the paper's)."""
    min_area: int = 5
    """Smallest mask in pixels that is written as a label: what the detector asks of a footprint
    (paper, 3.2). Of smaller ones a network finds next to none (0 % of one pixel, 10 % of two to
    four, 93 % of fifty and more), and they are hardly visible."""
    keep_small: bool = False
    """Keep smaller masks as ignore regions (``iscrowd`` 1): evaluation then counts no detection
    there as false."""
