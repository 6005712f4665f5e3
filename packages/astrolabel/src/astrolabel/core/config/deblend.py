"""How sources are grouped into blends and fitted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StartConfig:
    """First guess of every source's size."""

    core_fraction: float = 0.15
    """The radius that gives the size is where the light falls to this fraction of the peak, as far
    as noise allows: low enough to see the disc around a bulge, high enough to be free of
    neighbours."""
    core_sigma: float = 1.0
    """... but not below this many sigma of a pixel."""
    surroundings: float = 0.1
    """Of two sources at one place the one with less light around it lies on the other: within this
    part of the radius of a disc of as many pixels as"""
    seen_sigma: float = 3.0
    """... are above this many sigma, and no less than a seeing."""
    faint_sigma: float = 0.3
    """Light below this many sigma of a pixel says nothing about a source's shape."""
    min_radius_px: int = 12
    """Smallest half side of a model's box: three seeing radii of HSC, within which a star has
    97 % of its light."""
    max_radius_px: int = 300
    """Largest half side to start with: half of the largest cutout."""


@dataclass(frozen=True)
class ModelConfig:
    """Point and Sersic models of all sources of a blend, fitted together."""

    max_offset_px: float = 1.5
    """Farthest a centre moves from its peak; detection is never wrong by more."""
    radius_prior: tuple[float, float] = (0.9, 0.7)
    """Median half-light radius in sigmas of the PSF, and scatter of its natural logarithm: 0.29
    arcsec and 0.3 dex for faint galaxies in HSC's seeing. What is measured at more than a few
    tens of sigma hardly feels it."""
    stretch_prior: float = 0.6
    """Scatter of ln(axis ratio) along either direction: discs at random inclinations."""
    index_prior: tuple[float, float] = (1.2, 0.5)
    """Median Sersic index, and scatter of its natural logarithm: most galaxies are discs."""
    passes: int = 2
    """Passes over the components one by one, which bring all near where they belong."""
    single_passes: int = 5
    """Passes at most over a source on its own; one or two do for most."""
    joint_steps: int = 3
    """Steps of all components of a blend at once after that, for what they exchange. On two
    simulated tiles the median error of blended fluxes was 9.6 % with five passes more and no
    such step, and is 9.0 %, in less time."""
    first_damping: float = 0.01
    """Of the joint steps, in units of the curvature: the first is seldom too long."""
    settled: float = 0.3
    """A component whose step lowers chi2 by less than this stands still; the joint step of all
    at the end takes its fluxes the rest of the way."""
    unsettled: float = 9.0
    """A fit whose last steps still lowered chi2 by this much, three sigma of a parameter, has
    not converged."""
    point_gain: float = 2.0
    """A galaxy that lowers chi2 by less than this against a point is a point. Low, for most
    sources are galaxies, and a galaxy taken for a point loses the light of its wings."""
    try_point: float = 0.9
    """Galaxies whose radius is below this many sigmas of the PSF are compared with a point."""
    border_sigma: float = 0.1
    """A box grows when its border is brighter than this many sigma of a pixel,"""
    growth: float = 1.6
    """... by this factor,"""
    max_radius_px: int = 300
    """... to this half side, half of the largest cutout. No half-light radius is more."""
    unbounded_sigma: float = 5.0
    """What begins as a point and is this bright at the border of its box in the end is a part of
    what it lies on: a mask at this threshold would be the box."""
    misfit_sigma: float = 4.0
    """A galaxy whose chi2 is above expectation by this many sigma is tried as bulge and disc,"""
    misfit_pixels: int = 60
    """... where it stands above the noise in at least this many pixels of all bands,"""
    core_gain: float = 16.0
    """... or where a point in its middle would lower chi2 by this. Of 316 galaxies of a simulated
    tile that chi2 does not single out five are such, and three of them get a bulge."""
    two_gain: float = 30.0
    """Bulge and disc are kept when they lower chi2 by this: three sigma for each of the three
    shape parameters that one profile lacks."""
    disc_index: tuple[float, float] = (1.0, 0.1)
    """Sersic index of a disc, and scatter of its natural logarithm."""
    bulge_index: tuple[float, float] = (3.0, 0.4)
    """The same of a bulge."""
    concentric_px: float = 0.3
    """Bulge and disc lie within about this of one another."""


@dataclass(frozen=True)
class PhotometryConfig:
    """Errors of fluxes, and light that no source stands for."""

    neighbour_error: float = 0.25
    """Variance that the neighbours' light under a source adds to its flux, in units of that light
    times the noise: what no model separates grows with both. In simulated scenes the pulls of
    blended sources are 0.95 to 1.04 wide with it (1.00 to 1.09 with 0.2); of those whose
    neighbours are all found, 0.66 to 0.80: it stands for the neighbours that are not found."""
    model_error: float = 0.005
    """Part of a galaxy's flux that its model gets wrong, as its wings are extrapolated."""
    nuisance_sigma: float = 4.0
    """Residual light of a point this significant gets a nuisance source, so that it goes into
    no neighbour's flux,"""
    nuisance_contrast: float = 0.15
    """... when its middle is brighter than this fraction of the models' light there: fainter is
    the structure of a galaxy or an error of the PSF,"""
    nuisance_apart_fwhm: float = 0.5
    """... and no component is nearer than this many FWHM of the PSF."""


@dataclass(frozen=True)
class SkyConfig:
    """Level and excess noise of the sky between the sources."""

    smoothing_px: float = 1.5
    """Width of the Gaussian behind which sky and sources are separated: wings are smooth."""
    empty_sigma: float = 2.0
    """Sky is below this many sigma of a pixel in that image."""
    growth_px: int = 3
    """What is above grows by this, about the PSF's FWHM: the wings of what is seen."""
    core_sigma: float = 3.0
    """The bands' common noise is that of fluxes within this many sigma."""
    min_fraction: float = 0.02
    """With less of the tile free, its sky is taken as it is."""
    coarse_sigma: float = 0.1
    """Where values come in steps of more than this many sigma, as photons and integers do, the
    level is a mean: a median would be one of them, half a step off at the most."""
    step_percentile: float = 99.9
    """Brighter values than this percentile are left out of that mean: faint sources'. Of photons,
    of which 0.1 a pixel have the longest tail, that is 0.01 sigma."""


@dataclass(frozen=True)
class HaloConfig:
    """Halo and diffraction spikes of saturated stars, measured before anything is fitted."""

    reach_fwhm: int = 30
    """Radius, in seeing FWHM, to which they are measured and taken out of the image: that of
    `DetectConfig.star_reach_fwhm`. 0 leaves them to the star's neighbours (the paper's)."""
    smoothing_px: float = 1.0
    """Width of the Gaussian that takes off a pixel's noise first."""
    off_centre_px: int = 6
    """How far the middle of the saturated region may be from the star."""
    near_fwhm: float = 3.0
    """Only light this near to the saturated region, in seeing FWHM, locates the star's centre."""
    unlike: float = 10.0
    """Weight of what two sides of a centre differ by against what they have in common."""
    bright_sigma: float = 20.0
    """The PSF is scaled to what is brighter than this many sigma of a pixel,"""
    spike_sigma: float = 3.0
    """Light above the profile by this many sigma, on both sides, is a spike's."""
    psf_error: float = 0.1
    """Part of the PSF's light that is no halo: wings of stamps are known to ten per cent."""
    one_sided_error: float = 1.0
    """... and as much more where the star has no other side, at an edge."""
    kept_sigma: float = 0.5
    """The halo ends where it is below this many sigma of a pixel."""


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
    1 the groups around bright galaxies hold all the sky beside their wings."""
    grouping_smoothing_px: float = 1.5
    """Width of the Gaussian for that: it takes four fifths of the noise off wings."""
    peak_radius_px: int = 3
    """A peak outside every footprint gets a disc of this radius, about the seeing's."""
    padding_px: int = 8
    """Sky around a footprint that is fitted with it, about three HSC seeing radii,"""
    padding_fraction: float = 0.3
    """... or this part of the footprint's longer side where that is more."""
    min_core: float = 0.5
    """A source needs data on this fraction of the pixels within its PSF's core."""
    max_iterations: int = 60
    """Most passes over the models of one fit."""
    tolerance: float = 1e-3
    """scarlet2 has converged when its loss changes by less than this fraction."""
    model_psf_sigma_px: float = 0.75
    """Width of the Gaussian PSF of the frame in which scarlet and scarlet2 model sources: about
    the narrowest that pixels sample (scarlet's models use 0.7 to 0.9), well below any
    ground-based seeing. Where an observed PSF is as narrow, a narrower one is taken."""
    share_excess: float = 3.0
    """A source whose chi2 exceeds the number of its pixels by this many sigma, or whose residual is
    as significantly alike a seeing FWHM apart, gets its share of what the models leave, in its
    mask and its model: arms and knots are in no Sersic profile. 0 leaves all models as fitted."""
    share_sigma: float = 0.7
    """Width of the Gaussian that this rest is smoothed with, in sigmas of the PSF: it takes off
    two thirds of a pixel's noise."""
    least_gain: float = 1.0
    """A source that lowers chi2 by less is none: noise alone gains this with one flux."""
    trim_sigma: float = 0.05
    """Rows and columns of a rendered source fainter than this many sigma of a pixel in every
    band are cut off: a hundredth of the mask threshold."""
    extended_gain: float = 12.0
    """A source is called extended when a point in its place would have a chi2 higher by this
    much: 3.5 sigma for one flux added."""
    start: StartConfig = field(default_factory=StartConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    photometry: PhotometryConfig = field(default_factory=PhotometryConfig)
    sky: SkyConfig = field(default_factory=SkyConfig)
    halo: HaloConfig = field(default_factory=HaloConfig)
