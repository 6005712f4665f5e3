"""When the labels of a tile are flagged or doubted."""

from __future__ import annotations

from dataclasses import dataclass

from astrolabel.core.config.tree import Count, Fraction, Positive


@dataclass(frozen=True)
class CheckConfig:
    """When the labels of a tile are flagged or doubted."""

    poor_fit_chi2: Positive = 2.0
    """Mean squared residual, in sigmas of the detection image, from which a fit is flagged
    `poor_fit`: what is left is then as large as the noise itself,"""
    poor_fit_significance: Positive = 5.0
    """... where a mask has pixels enough to measure it: the mean of N squared normal deviates
    scatters by sqrt(2/N) about 1, and one in a million exceeds it by so many times that."""
    chi2: tuple[Positive, Positive] = (0.7, 2.0)
    """Chi2 per pixel of a tile's fits outside of this is doubtful: noise too large or too small,
    or a wrong PSF. Wide on purpose: not calibrated on real coadds."""
    one_size: Fraction = 0.7
    """Part of a tile's labels within a fifth of one area, from which it is doubtful: noise and
    artifacts have one size, sources have many."""
    min_labels: Count = 20
    """Fewer labels say nothing of their sizes."""
