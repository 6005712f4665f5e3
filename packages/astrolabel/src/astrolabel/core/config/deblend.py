"""How sources are grouped into blends and fitted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeblendConfig:
    """How footprints are grouped into blends and fitted."""

    engine: str = "parametric"
    """Name of the deblender: `parametric` (once called `cmf`), `scarlet` or `scarlet2`."""
    max_peaks: int = 40
    """Peaks a blend may hold; a larger group is cut at its weakest bridges. The fit's
    time grows with peaks times pixels."""
    max_pixels: int = 600 * 600
    """Area of a blend's cutout; what is larger is cut, and a single source that is larger is
    skipped. 600 pixels are 100 arcsec at HSC's scale; the largest simulated spirals need 450."""
    grouping_sigma: float = 2.0
    """Footprints are joined where the lightly smoothed surface brightness between them is
    above this many sigma of a pixel. Wings below it go unmodelled into the neighbour's
    cutout: on a simulated tile the median flux excess of unblended sources of S/N 50 to 200
    was 6.4 % with 5, 4.2 % with 2 and 3.8 % with 1, in groups of 1.3, 1.6 and 1.9 peaks. With
    1 the groups around bright galaxies hold all the sky that their wings should be told from."""
    padding_px: int = 8
    """Sky around a footprint that is fitted with it, about three HSC seeing radii."""
    max_iterations: int = 60
    """Most passes over the models of one fit."""
    tolerance: float = 1e-3
    """scarlet2 has converged when its loss changes by less than this fraction."""
    share_excess: float = 3.0
    """A source whose chi2 exceeds the number of its pixels by this many sigma gets its share of
    what the models leave, in its mask and its model: arms and knots are in no Sersic profile.
    0 leaves every model as it was fitted."""
    share_sigma: float = 0.7
    """Width of the Gaussian that this rest is smoothed with, in sigmas of the PSF: it takes off
    two thirds of a pixel's noise."""
    model_psf_sigma_px: float = 0.75
    """Width of the Gaussian PSF of the frame the sources are modelled in: about the
    narrowest that pixels sample (scarlet's models use 0.7 to 0.9), well below any
    ground-based seeing. Where an observed PSF is as narrow, a narrower one is taken."""
    halo_fwhm: int = 30
    """Radius, in seeing FWHM, to which a saturated star's aureole and spikes are measured and
    taken out of the image before anything is fitted: that of `GlareConfig.most_fwhm`. 0 leaves
    them to its neighbours (the paper's)."""
    extended_gain: float = 12.0
    """A source is called extended when a point in its place would have a chi2 higher by this
    much: 3.5 sigma for one flux added."""
