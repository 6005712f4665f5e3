"""Every number the labels depend on: unit, default and the reason for it.

The dataclasses are frozen and hold plain values only, so that a configuration can be
written into the COCO file, read back and hashed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from astrolabel.core.errors import InputError


@dataclass(frozen=True)
class TileConfig:
    """How a coadd is cut into the images of the dataset."""

    size: int = 1050
    """Longest side of a tile in pixels; 4x4 tiles of an HSC patch of 4200 (paper, 3.2).
    Tiles of one coadd differ by at most one pixel and never exceed this."""
    halo: int = 64
    """Pixels around a tile that are deblended with it and then cut off, so that a source
    on the edge is seen whole. 64 px = 11 arcsec at HSC's scale, more than the radius of
    all but the few largest galaxies of a patch."""
    max_no_data: float = 0.3
    """A tile is left out of all bands when more than this fraction of its pixels carry
    no data in any one band (paper, 3.1)."""
    overlaps: str = "resolve"
    """`resolve`: where coadds of one run overlap, a source belongs to the one with the
    nearest centre; `keep`: each coadd is labelled whole, and what lies in an overlap is
    labelled more than once (the paper's, whose patches overlap by 200 pixels)."""


@dataclass(frozen=True)
class HiddenConfig:
    """The second look, at what stiff models of the sources leave over."""

    rounds: int = 2
    """Times the rest, and then each model, is searched; 0 leaves it out. On simulated UltraDeep
    scenes models searched once, at the end, gave 0.842 of the blended sources, this 0.850."""
    threshold_sigma: float = 5.0
    """Root of the summed squares over the bands of the rest's significance, filtered with
    the PSF."""
    contrast: float = 0.03
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
    log_contrast: float = 0.15
    """The point source that a peak's Laplacian stands for must be at least this fraction of
    the light there. Below it are the knots and the photon noise of one bright object."""
    log_ridge: float = 0.3
    """A peak at which the light bends along its flattest direction by less than this fraction of
    what it bends across lies on a ridge, where noise makes peaks: a disc seen edge-on. It must
    bend along it by more than the noise; a source on a ridge that does not is left to the
    second look, which knows the disc. On simulated half-blended scenes false labels fell by a
    third, and a bright disc seen edge-on from some ten labels to one or two. 0 asks nothing."""
    hidden: HiddenConfig = field(default_factory=HiddenConfig)
    glare: GlareConfig = field(default_factory=GlareConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)


@dataclass(frozen=True)
class DeblendConfig:
    """How footprints are grouped into blends and fitted."""

    engine: str = "cmf"
    """Name in the registry of deblenders."""
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
    """Passes over the parametric models of one fit, and steps of its free shapes."""
    tolerance: float = 1e-3
    """Free shapes have converged when chi2 changes by less than this fraction."""
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


@dataclass(frozen=True)
class MaskConfig:
    """From a deblended source to its mask."""

    threshold_sigma: float = 5.0
    """Mask threshold in sigma of the detection image's sky noise (paper, 3.2)."""
    faint: float = 0.8
    """A source that is nowhere above the threshold is masked at this part of it: the noise
    of a fitted peak is a tenth of the threshold and more in a blend, which would cost a sixth
    of the sources whose true peak is just above. Of simulated sources 0.9 loses one in a
    hundred. 1 leaves them without a mask (the paper's)."""
    min_area: int = 1
    """Smallest mask in pixels that is written as a label."""


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


@dataclass(frozen=True)
class TruthConfig:
    """From the noiseless picture of a simulated object to its mask. The numbers are those of
    the loader that came with Burke et al. (2019), and of DeepDISC's for the same scenes."""

    star_fraction: float = 0.005
    """A star's mask goes down to this fraction of its brightest pixel."""
    galaxy_fraction: float = 0.08
    """A galaxy's: lower, photon noise of its own would tear the outline."""
    smooth_px: float = 2.0
    """Sigma of the Gaussian that the mask is smoothed with; what is then at least a half is
    kept. Specks and frayed edges vanish, and so does an object of less than some 12 pixels."""
    smooth_radius_px: int = 4
    """Where that Gaussian is cut off."""


@dataclass(frozen=True)
class LabelConfig:
    """Everything `make-coco` needs beyond the input files."""

    preset: str = "default"
    tile: TileConfig = field(default_factory=TileConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    deblend: DeblendConfig = field(default_factory=DeblendConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    truth: TruthConfig = field(default_factory=TruthConfig)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Hash of all values, 16 hex digits; equal configurations give equal hashes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def preset(name: str) -> LabelConfig:
    """The named recipe.

    ``default`` is the best known; ``paper`` is the recipe of section 3.2 to the letter:
    sep alone, with its own background's rms and its default deblending, tiles on their own.
    """
    if name == "default":
        return LabelConfig()
    if name == "paper":
        return LabelConfig(
            preset="paper",
            tile=TileConfig(halo=0, overlaps="keep"),
            detect=DetectConfig(
                noise="sep",
                deblend_contrast=0.005,
                peaks="sep",
                join_saturated=False,
                hidden=HiddenConfig(rounds=0),
                glare=GlareConfig(most_fwhm=0),
                structure=StructureConfig(min_area_fwhm2=0),
            ),
            deblend=DeblendConfig(halo_fwhm=0),
            mask=MaskConfig(faint=1.0),
        )
    raise InputError(f"unknown preset {name!r}", remedy="choose default or paper")
