"""Which peaks of the detection image are sources."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HiddenConfig:
    """The second look, at what stiff models of the sources leave over."""

    rounds: int = 2
    """Times the rest, and then each model, is searched; 0 leaves it out. On simulated UltraDeep
    scenes models searched once, at the end, gave 0.842 of the blended sources, this 0.850."""
    threshold_sigma: float = 5.0
    """Root of the summed squares over the bands of the rest's significance, filtered with
    the PSF."""
    contrast: float = 0.01
    """A peak of the rest must be this fraction of all light there: the models of simulated
    galaxies and stars are right to two or three per cent."""
    separation_fwhm: float = 0.55
    """A peak of the rest that is nearer to a source than this is that source's own shape."""
    spacing_fwhm: float = 1.5
    """Of peaks nearer to each other than this only the highest is added in one round."""
    pair_gain: float = 20.0
    """Fall of chi2, by which a point source beside one of the models is added. On simulated
    half-blended scenes 30 finds 0.6 % fewer sources, and makes 0.4 % fewer false labels."""
    pair_fwhm: tuple[float, float] = (0.8, 2.0)
    """It lies at this distance; nearer, an ellipse that does not fit and a pair look alike."""
    pair_snr: float = 20.0
    """Least signal to noise of a source that is searched, in all bands together."""
    pair_contrast: float = 0.01
    """It has this part of the source's light."""


@dataclass(frozen=True)
class GlareConfig:
    """Which peaks around a saturated star are its aureole, spikes or bleed trail.

    Only with `DetectConfig.join_saturated`, by which such a star has a peak of its own.
    """

    most_fwhm: int = 30
    """Farthest, in seeing FWHM, that glare is looked for: 23 arcsec at HSC's scale, the
    extent of the brightest stars that are simulated. 0 leaves every peak a source (the
    paper's)."""
    sky_sigma: float = 0.8
    """It ends where the star's profile falls to this many sigma of a pixel of empty sky.
    Spikes stay above the threshold where the profile is at 1 to 2."""
    contrast: float = 0.3
    """A source's peak is at least this part of the light that the star has there: the lesser
    of the light here and at the mirror image. Aureoles have less, spikes up to 0.7. With 0.2,
    one in ten simulated stars has a label more, and none of their neighbours one."""
    window_fwhm: float = 0.9
    """So far from the mirror image the like of a peak is looked for: middles of saturated
    regions are known to a few pixels."""
    alike: tuple[float, float] = (0.33, 4.0)
    """What has this many times the peak's flux there is alike: the ratios of simulated stars'
    spikes and trails to each other are 0.4 to 3; their neighbours have below 0.35, for want
    of anything on the other side, or something else that is much brighter."""


@dataclass(frozen=True)
class StructureConfig:
    """Which peaks are the structure of one large object, and no sources."""

    min_area_fwhm2: float = 80.0
    """Pixels above the threshold, in squared seeing FWHM, from which an object is large:
    1400 at HSC's scale, a galaxy of about i = 19.5. 0 leaves every peak a source (the
    paper's)."""
    max_core: float = 0.25
    """An object is large only when less than this part of its light is within a seeing FWHM
    of its middle: simulated spirals have 0.03 to 0.14, in DECam's scenes up to 0.23. A crowd of
    ordinary galaxies that counts as one parent is led by a compact one and has 0.1 to 0.6."""
    min_part_fwhm2: float = 30.0
    """The same for what sep cuts off from a large object and lies beside it,"""
    max_part_core: float = 0.32
    """... less than half as large, with up to this part of its light in its middle."""
    min_flux: float = 0.02
    """A peak in a large object is a source of its own when it is this part of its light.
    Knots of simulated spirals are below 0.6 % nineteen times in twenty."""
    counted_sigma: float = 4.0
    """Only peaks beside a pixel of so many sigma count, most of which get a mask of 5: what else
    the second look finds on empty sky is no part of a crowd that is seen."""
    crowding: float = 2.2
    """A crowd that makes one parent is so many times denser than its tile: 1.5 to 2.7 in
    simulated UltraDeep scenes."""
    field_peaks_fwhm2: float = 0.05
    """Peaks in a squared seeing FWHM of a dense deep field, 200 sources above threshold per
    square arcminute; with half as many, and in DECam's scenes, it is 0.03."""
    field_area_fwhm2: float = 400.0
    """So much of such a field counts with the tile's own, so that a small tile of a few peaks
    does not tell alone: 20 peaks of it."""
    core_sigma: float = 36.0
    """Small peaks are structure when they are more than such neighbours would be, by this many
    sigma of their number times the part of the light in the object's middle. Simulated spirals
    of UltraDeep and DECam scenes have 38 to 1000 (57 of 59), crowds and smooth galaxies with
    companions up to 34, if only what has the object's light on its other side too is counted."""
    ground_fwhm: float = 3.0
    """A peak stands beside the object, not on it, where the median of the light so many seeing
    FWHM around it"""
    ground_part: float = 0.12
    """... is below this part of the object's own (median) brightness: 1.2 sigma of empty sky in
    DECam's scenes, 2.7 in UltraDeep ones. With more the knots at the ends of simulated arms are
    sources, with less true neighbours are lost,"""
    ground_contrast: float = 0.5
    """... and the point source that it stands for is this part of the light there."""
    reach_fwhm: float = 6.0
    """This far around a large object its outskirts still make peaks: in a shallow survey half
    of a simulated spiral's discs is below the threshold. With 2 a third of those in DECam's
    scenes have knots of their arms left over; farther out most peaks are other sources."""
    smoothing_fwhm: float = 2.0
    """Width of the image in which large objects are told apart, in units of the seeing's."""
    clip_sigma: float = 200.0
    """Light above this many sigma of empty sky counts as so much there: of a saturated star's a
    galaxy beside it would be too small a part to be told apart."""
    contrast: float = 0.05
    """sep's deblending contrast in that image. At 0.01 the arms of the largest simulated
    spirals are cut off, and their knots are no small part of what remains."""


@dataclass(frozen=True)
class DetectConfig:
    """Where the sources are."""

    threshold_sigma: float = 5.0
    """Detection threshold in sigma of the detection image's noise (paper, 3.2)."""
    combine: str = "sum"
    """`sum`: the detection image is the plain sum of the bands (paper, 3.2); `weighted`:
    each band is first divided by its sky sigma, which goes deeper where one band is much
    noisier than the others (DECaLS z). Masks are cut on the same image."""
    noise: str = "variance"
    """`variance`: the VARIANCE plane, or its estimate; `sep`: the rms of sep's background,
    which crowding inflates (the paper's recipe)."""
    min_area: int = 5
    """Connected pixels above threshold that make a footprint; sep's default."""
    deblend_levels: int = 32
    """Levels of sep's multi-threshold deblending; sep's default."""
    deblend_contrast: float = 1e-4
    """Fraction of the parent's flux that makes a branch its own source. sep's default
    0.005 (the paper's) loses a source 5.75 mag fainter than its blend partner; 1e-4 keeps
    down to 10 mag."""
    peaks: str = "log"
    """`sep`: sep's sources; `log`: local maxima of Laplacians of Gaussians, which find the
    shoulders that multi-thresholding cannot separate, and sep's source in every footprint
    that has none (large and diffuse ones)."""
    join_saturated: bool = True
    """Peaks on one connected saturated region, or within two seeing FWHM of it, are one
    source at the region's middle: its broken top is no blend, and what is nearer cannot be
    told from it."""
    log_widths_fwhm: tuple[float, ...] = (0.43, 0.28, 0.24)
    """Sigmas of the Gaussians in units of the bands' mean seeing FWHM, coarse to fine. The
    first is a star's own, with the best signal to noise; the finer ones add peaks that it
    merges (on simulated Deep scenes, blended sources found: 0.66 with the first alone,
    0.74 with all)."""
    log_separation_fwhm: float = 0.55
    """A finer peak nearer than this to a coarser one is the same source."""
    log_contrast: float = 0.05
    """The point source that a peak's Laplacian stands for must be at least this fraction of
    the light there. Below it are the knots and the photon noise of one bright object."""
    log_ridge: float = 0.1
    """A peak at which the light bends along its flattest direction by less than this fraction of
    what it bends across lies on a ridge, where noise makes peaks: a disc seen edge-on. It must
    bend along it by more than the noise; a source on a ridge that does not is left to the
    second look, which knows the disc. On simulated half-blended scenes false labels fell by a
    third, and a bright disc seen edge-on from some ten labels to one or two. 0 asks nothing."""
    source_probability: float = 0.5
    """Least probability that a candidate is a source of its own."""
    hidden: HiddenConfig = field(default_factory=HiddenConfig)
    glare: GlareConfig = field(default_factory=GlareConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
