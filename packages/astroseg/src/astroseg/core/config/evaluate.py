"""How predictions are compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from astroseg.core.config.tree import Count, Fraction, Positive, PositiveInt

PairIou = Annotated[float, msgspec.Meta(ge=0.5, lt=1)]


@dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation."""

    score_threshold: Fraction = 0.5
    """Detections below count in AP only; 0.5 as in the paper (4.3)."""
    iou_threshold: PairIou = 0.5
    """Box IoU above which a detection and a truth may pair; 0.5 as in the paper (4.2). Not
    less, or a detection may pair with a neighbour it hardly covers."""
    band: str = "i"
    """Of the magnitudes to bin by; the paper's i. Another one there is where absent."""
    magnitude_step: Positive = 0.5
    """Width of the magnitude bins: a dozen bins over a survey's range."""
    redshift_outlier: Positive = 0.15
    """Error of a redshift, over 1 + z, beyond which it is an outlier: the usual limit of
    photometric redshifts."""
    outlier_scatter: Positive = 5.0
    """The same for other learned attributes, in units of their scatter: one Gaussian error in
    two million lies beyond."""
    resamples: PositiveInt = 1000
    """Bootstrap draws over images; 1000 leaves the ends of a 95 % interval uncertain by some
    5 % of its width."""
    seed: int = 1
    """Of the bootstrap, so that a run repeated gives the same file."""
    tiles: Count = 4
    """Example tiles on the page, worst first."""
    report: bool = True
    """Whether to write the page."""
