"""Which peaks of the detection image are sources."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

SOURCE_TABLE = Path(__file__).with_name("source_probability.json")
"""Trees that give the probability of a source from the features of a candidate; written by
benchmarks/train_source_probability.py."""


@functools.cache
def source_table_hash() -> str:
    """First 16 hex digits of the SHA-256 of the table that comes with the package."""
    return hashlib.sha256(SOURCE_TABLE.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class FitConfig:
    """Models of all sources of a tile as sums of Gaussians, for the residual search."""

    first_passes: int = 4
    """Times every source is fitted at first. On a simulated tile chi2 per pixel is 1.08, 1.06
    and 1.05 after 2 to 4."""
    next_passes: int = 2
    """Times that sources are fitted again when others were added beside them."""
    max_offset_px: float = 1.5
    """Farthest a source moves from its peak: detection is never wrong by more."""
    min_variance_px2: float = 0.1
    """Smallest variance of an ellipse: a third of a pixel is a point."""
    min_axis_ratio: float = 0.2
    """Of an ellipse: the thickness of a disc seen edge on. What is thinner is two sources."""
    faintest_sigma: float = 0.2
    """A source is rendered to where a pixel's light is below this many sigma of the noise."""
    min_radius_px: int = 8
    """Least radius of a source's box: two seeing discs;"""
    max_radius_px: int = 100
    """... and the largest: what takes milliseconds."""
    start_width_px: int = 40
    """Widest half width at half maximum that a source is given at the start."""
    damping: float = 0.05
    """Of the shape's steps, as a part of their curvature."""
    least_gain: float = 0.1
    """Fall of chi2 for which one more of a source's Gaussians gets light."""


@dataclass(frozen=True)
class ResidualConfig:
    """Iterative detection: candidates in the image minus the models of the sources."""

    rounds: int = 2
    """Times that the residual, and then each model, is searched; 0 leaves it out. On simulated
    UltraDeep scenes one search at the end found 0.842 of the blended sources, two 0.850."""
    threshold_sigma: float = 5.0
    """Root of the summed squares over the bands of the residual's significance, filtered with
    the PSF."""
    contrast: float = 0.03
    """A peak of the residual is at least this part of all light there: the models of simulated
    galaxies and stars are right to two or three per cent."""
    separation_fwhm: float = 0.55
    """A peak of the residual that is nearer to a source than this is that source's own shape."""
    spacing_fwhm: float = 1.5
    """Of peaks nearer to each other than this only the highest is added in one round."""
    reach_fwhm: float = 1.5
    """Farther from where a mask could be, a source too faint for one gives its light to no
    mask, and is not looked for."""
    reach_threshold: float = 0.8
    """A mask could be where the detection image has this part of the detection threshold."""
    pair_gain: float = 20.0
    """Fall of chi2 by which a point source beside one of the models is a candidate. On simulated
    half-blended scenes 30 finds 0.6 % fewer sources, and makes 0.4 % fewer false labels."""
    pair_fwhm: tuple[float, float] = (0.8, 2.0)
    """It lies at this distance; nearer, an ellipse that does not fit and a pair look alike."""
    pair_snr: float = 20.0
    """Least signal to noise of a source that is searched, in all bands together."""
    pair_contrast: float = 0.01
    """It has this part of the source's light."""
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True)
class DetectConfig:
    """Where the sources are."""

    threshold_sigma: float = 5.0
    """Detection threshold in sigma of the detection image's noise (paper, 3.2)."""
    combine: str = "auto"
    """`sum`: the detection image is the plain sum of the bands (paper, 3.2); `weighted`:
    each band is first divided by its sky sigma, which goes deeper where one band is much
    noisier than the others (DECaLS z); `auto`: the plain sum, but where that has less than
    `least_of_best` of the signal-to-noise ratio that sources as bright in all bands can have, the
    sum with that ratio (weights of one over the variance). Masks are cut on the same image."""
    least_of_best: float = 0.5
    """With one of three bands 10 times shallower the plain sum has 0.21 of the best ratio, and
    finds a quarter of the sources. Of gri in simulated UltraDeep scenes it has 0.86, of real gri
    and grizy 0.92 and 0.52, of DECaLS grz 0.54, whose sources are brighter in z."""
    noise: str = "variance"
    """`variance`: the VARIANCE plane, or its estimate; `sep`: the rms of sep's background,
    which a high source density inflates (the paper's recipe)."""
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
    source_probability: float = 0.5
    """Least probability that a candidate is a source of its own and not substructure of a
    galaxy, an artifact of a bright star or noise. Lower finds more blended sources, higher
    makes fewer false labels. The main candidate of a
    connected object always stays (see `main_probability`). 0 keeps every candidate (the
    paper's)."""
    chance_least: float = 0.01
    """Candidates on a galaxy are substructure where there are more than the field's density puts
    there with this chance. Their odds are multiplied by the number expected over that there;"""
    chance_light: float = 0.05
    """... if they are less than this part of its light. Of simulated star clusters they are more
    than nine tenths, of galaxies in dense fields a tenth."""
    chance_on_parent: tuple[float, float] = (1e-4, 0.1)
    """The same two numbers for candidates on the galaxy's pixels, whose shape no disc has. On
    galaxies in three dense fields true sources have chances of 2e-4 and more. On a spiral that
    touches another galaxy 53 of 81 candidates were false, 0.08 of the light, of a chance of 7e-13;
    as many as were expected are left."""
    chance_reach: float = 2.5
    """How far around the galaxy that is, in radii of its area;"""
    chance_most_frame: float = 0.5
    """... which is this part of the frame at most, or there is no field to compare with."""
    chance_least_fwhm: float = 8.0
    """The galaxy is as large as a square of this side, in seeing FWHM."""
    nebulosity: str = "auto"
    """`auto`: where several wide objects without a middle cover much of a tile, the light that is
    long is nebulosity: it is taken out, and only the sources on it are labelled; `always`:
    however many they are and however much of it they cover; `never`."""
    nebulosity_length_fwhm: float = 8.0
    """Light is long where it goes on for this many seeing FWHM in some direction. Of larger
    galaxies in a nebulous tile a part is taken out;"""
    nebulosity_sigma: float = 1.5
    """... and bright where it is above this, in noises of a pixel of the sky. Of undamaged deep
    fields 0 to 6 percent of a frame are in wide objects above it, of nebulosity of 3 sigma a band
    10 to 30."""
    nebulosity_least_fwhm: float = 12.0
    """A wide object is as large as a square of this side, in seeing FWHM."""
    nebulosity_least_frame: float = 0.1
    """Those without a middle cover this part of the tile."""
    nebulosity_falls: float = -0.66
    """An object has a middle where its light falls off around it: the rank correlation of long
    light and elliptical radius is below this. Of real galaxies it is -0.6 to -1, of simulated
    clouds -0.1 to -0.9;"""
    nebulosity_uneven: float = 0.35
    """... or where opposite pixels differ by less than this part of their light."""
    nebulosity_beside: float = -0.9
    """Beside such ones, an object has a middle where that correlation is below this."""
    nebulosity_solid: float = 0.7
    """A single one may be an irregular galaxy that fills the frame, where it is more than this
    part of the least convex region that holds it: 0.84 of a spiral of Abell 2744, 0.3 to 0.6 of
    simulated clouds."""
    nebulosity_long: float = 0.9
    """Of an object's pixels half have more than this part of their light long: of simulated clouds
    0.94 and more, of dense fields of stars 0.8 and less, until every seeing disk has a star."""
    nebulosity_source_sigma: float = 4.0
    """What stands out of the long light by this, in noises of the smoothed sky,"""
    nebulosity_source_part: float = 0.1
    """and by this part of the long light there, is short, with a margin of"""
    nebulosity_margin_fwhm: float = 0.7
    """seeing FWHM around it;"""
    nebulosity_narrow: float = 0.3
    """... and so is a seeing FWHM around light of which this part is as narrow as a point
    source,"""
    nebulosity_narrow_sigma: float = 5.0
    """above this noise. The values are of simulated nebulosity of 3 sigma."""
    nebulosity_rough: float = 1.6
    """Clouds are rough where a quarter of their pixels have more than this times the variance,
    about the long light, of the noise or of their smoothest twentieth: 2.1 and more on clouds of
    15 to 60 sigma with structure at all scales, 1.2 and less on smooth filaments of 10 sigma,
    where sources are as in any field. On rough ones"""
    nebulosity_fwhm: float = 2.0
    """what is left between the sources, under a Gaussian of this FWHM in seeing FWHM, is
    nebulosity, and what that does not follow counts as noise."""
    nebulosity_rounds: int = 3
    """How often the light under sources is looked at again."""
    source_table: str = field(default_factory=source_table_hash)
    """Hash of the table that the probability is computed with."""
    join_saturated: bool = True
    """Peaks on one connected saturated region, or around it, are one source at the region's
    middle: its broken top is no blend, and what is nearer cannot be separated from it."""
    saturated_reach_fwhm: float = 2.0
    """How far around a saturated region that is, in seeing FWHM."""
    saturated_join_fwhm: float = 0.5
    """Saturated cores that are farther apart than twice this are stars of their own; nearer ones
    are pieces of one broken core."""
    saturated_core_px: tuple[float, float] = (1.4, 3.0)
    """Half-width of the smallest core, a pixel and the four beside it, for less is a broken edge;
    and of pixels that are a core's whatever their shape, for trails are narrower."""
    star_reach_fwhm: int = 30
    """Farthest, in seeing FWHM, that artifacts of a saturated star are looked for: 23 arcsec at
    HSC's scale, the extent of the brightest stars that are simulated."""
    star_sky_sigma: float = 0.8
    """They end where the star's profile falls to this many sigma of a pixel of empty sky.
    Spikes stay above the threshold where the profile is at 1 to 2."""
    star_dark_percentile: float = 10.0
    """Percentile of a circle around the star that is the star's: neighbours are on the rest."""
    log_widths_fwhm: tuple[float, ...] = (0.43, 0.28, 0.24)
    """Sigmas of the Gaussians in units of the bands' mean seeing FWHM, coarse to fine. The
    first is a star's own, with the best signal to noise; the finer ones add peaks that it
    merges (on simulated Deep scenes, blended sources found: 0.66 with the first alone,
    0.74 with all)."""
    log_separation_fwhm: float = 0.55
    """A finer peak nearer than this to a coarser one is the same source."""
    log_contrast: float = 0.05
    """The point source that a peak's Laplacian stands for is at least this fraction of the
    light there; below it is the photon noise of one bright object."""
    log_ridge: float = 0.3
    """A peak at which the light bends along its flattest direction by less than this fraction of
    what it bends across lies on a ridge, where noise makes peaks: a disc seen edge-on. It must
    bend along it by more than the noise. 0 asks nothing."""
    parent_fwhm: float = 2.0
    """Width, in units of the seeing's, of the Gaussian behind which substructure is none: what is
    connected in that image is one parent, the host of its candidates."""
    parent_contrast: float = 0.05
    """sep's deblending contrast in that image. At 0.01 the arms of the largest simulated
    spirals are cut off."""
    parent_clip_sigma: float = 200.0
    """Light above this many sigma of empty sky counts as so much there: of a saturated star's a
    galaxy beside it would be too small a part to be separated."""
    residual: ResidualConfig = field(default_factory=ResidualConfig)
