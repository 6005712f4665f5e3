"""What is simulated: survey, galaxies, noise, PSF, background and defects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import Meta

from astrolabel.core.config.surveys import SURVEYS, BandSpec, SurveySpec
from astrolabel.core.config.tree import Count, Fraction, NonNegative, Positive, PositiveInt, check
from astrolabel.core.errors import InputError

MIN_SIZE = 64
"""Smaller images hold hardly a source and no sky to measure noise on."""
MAX_SIZE = 10_000
"""Four HSC patches; stamps and planes of more would not fit an ordinary machine."""
MIN_BRIGHT_CELL_PX = 100
"""Side of the square that a bright object has for itself: smaller ones would be one blend."""
MAX_DENSITY = 50_000.0
"""Masks per square arcminute: a tenth of the pixels of a space telescope of 0.1 arcsec seeing."""
MIN_RANGE_MAG = 6.0
"""Magnitudes from the brightest to the faintest source of a survey of any depth."""


@dataclass(frozen=True)
class MorphologyConfig:
    """Substructure of the parametric galaxies."""

    structured_fraction: Fraction = 1.0
    """Part of the disc galaxies with arms, knots, dust and lopsidedness, at every size and
    magnitude. 0 draws smooth Sersic profiles alone."""
    lopsided_min: Fraction = 0.05
    """Least amplitude of the first azimuthal harmonic at two scale lengths of the disc,"""
    lopsided_max: Fraction = 0.2
    """... and largest; irregular galaxies have up to 2.5 times this. Nearby discs have 0.11 in
    the mean, one in five more than 0.19 (Zaritsky & Rix 1997)."""
    irregular_fraction: Fraction = 0.15
    """Part of the structured galaxies without arms or bulge."""


@dataclass(frozen=True)
class NoiseConfig:
    """Noise of the sky."""

    kind: Literal["lanczos", "white", "gaussian", "blocks"] = "lanczos"
    """`lanczos`: correlated as in a coadd of warped exposures; `white`: pixels are independent;
    `gaussian`: smoothed by a Gaussian; `blocks`: constant in square blocks of pixels."""
    lanczos_order: Annotated[int, Meta(ge=2, le=5)] = 2
    """Order of the warping kernel. 2 gives a correlation of 0.15 between neighbours, 3 gives
    0.11. Measured: 0.12 to 0.20 on an LSST DC2 coadd, 0.11 to 0.13 on DECaLS coadds."""
    gaussian_px: Positive = 1.5
    """Sigma of the smoothing of `gaussian`, pixels."""
    block_px: PositiveInt = 4
    """Side of the blocks of `blocks`, pixels."""
    variance_factor: Positive = 1.0
    """The VARIANCE plane is this many times the variance that was drawn."""


@dataclass(frozen=True)
class PsfConfig:
    """What the PSF has beyond the survey's Moffat core, and what its files say of it."""

    wing_fraction: Fraction = 0.03
    """Part of a source's light in wide wings. A saturated star of a real DECaLS coadd has 0.05;
    HSC's optics have less."""
    wing_arcsec: Positive = 2.1
    """Core radius of the wings, arcsec,"""
    wing_beta: Annotated[float, Meta(gt=1)] = 1.7
    """... and exponent of their Moffat profile. Together they give the profile of that star from
    30 to 60 pixels."""
    claimed_fwhm_ratio: Positive = 1.0
    """The PSF files claim this many times the true width."""


@dataclass(frozen=True)
class BackgroundConfig:
    """Smooth light that is no source, in units of the sky noise of a pixel in each band."""

    level_sigma: float = 0.0
    """Constant that sky subtraction left."""
    gradient_sigma: float = 0.0
    """Rise of the sky across the image, along its diagonal."""
    residual_sigma: NonNegative = 0.03
    """Scatter of what sky subtraction leaves at the scale below. A few hundredths of the noise
    of a pixel is what surveys subtract to: 29.5 mag per square arcsec in i of HSC's Deep layer."""
    residual_px: Positive = 128.0
    """Scale of that, pixels: half a mesh cell of the surveys' sky subtraction."""
    nebulosity_sigma: NonNegative = 0.0
    """Peak of a cloud of filaments, such as a reflection nebula or cirrus. 0: none."""
    nebulosity_px: Positive = 60.0
    """Largest scale of its filaments, pixels."""


@dataclass(frozen=True)
class DefectsConfig:
    """What a coadd should not have: none by default, since coadding rejects them."""

    trails: Count = 0
    """Satellite trails across the image."""
    trail_sigma: NonNegative = 10.0
    """Brightness of a trail's middle, in sky sigma of a pixel."""
    cosmic_rays_per_mpx: NonNegative = 0.0
    """Cosmic rays and hot pixels in a million pixels of each band, each in one band alone."""
    cosmic_ray_sigma: Positive = 40.0
    """Typical brightness of such a pixel, in sky sigma."""
    star_clusters: Count = 0
    """Globular clusters in the image,"""
    cluster_stars: PositiveInt = 150
    """... of so many stars each,"""
    cluster_arcsec: Positive = 8.0
    """... half of them within this radius."""
    border_px: Count = 0
    """Width of a border without data on all sides."""
    border_fill: Literal["nan", "zero", "sentinel"] = "nan"
    """What such pixels hold: NaN and the NO_DATA bit; or 0, or -999, without any mark."""


@dataclass(frozen=True)
class SimulateConfig:
    """What is simulated; equal configurations give equal bytes."""

    survey: Literal["hsc-deep", "decam"] = "hsc-deep"
    """``hsc-deep``: g,r,i coadds in HSC's MaskedImage layout; ``decam``: g,r,z images
    alone, like the cutouts of the DECam Legacy Survey."""
    size: int | None = None
    """Side of the square image in pixels; none takes the survey's (1050 or 512)."""
    seed: Count = 1
    """Of every random number."""
    density_per_arcmin2: float | None = None
    """Sources with a truth mask per square arcminute; none takes the survey's (100 or 30)."""
    pair_fraction: Fraction = 0.5
    """Part of the galaxies that have a neighbour within three seeing discs: pairs, mergers and
    chance. At 100 sources per square arcminute a third of them are blended with the default,
    nearly half with 1."""
    star_fraction: Fraction | None = None
    """Part of what is drawn that is a star, the rest galaxies with their companions; none takes
    the survey's. 1 draws a field of stars alone, as at low galactic latitude."""
    no_data_fraction: Annotated[float, Meta(ge=0, lt=0.5)] = 0.0
    """Part of the image, a triangle in its upper right corner, that holds no data."""
    bright: Count = 0
    """So many large structured galaxies (arms, knots, bars, dust) and as many bright stars
    (spikes, halo, bleed trails) are added to the scene, which is otherwise the same."""
    min_area: PositiveInt = 5
    """Smallest truth mask in pixels, as the paper's detector has it; sources below count as
    without a mask."""
    keep_small: bool = False
    """Keep those as ignore regions (``iscrowd`` 1), where their light is at half of its peak or
    more and the peak above a sigma: a detection there is then neither right nor false."""
    galaxies: str = ""
    """Folder of a GalSim RealGalaxyCatalog (such as the COSMOS sample): every galaxy is then
    drawn with the looks of one of these. Empty: galaxies of Sersic profiles and substructure."""
    galaxy_subset: Literal["all", "train", "test"] = "all"
    """Rows of that catalog to draw from: ``train`` the even ones, ``test`` the odd ones,
    ``all``: so that what is trained and what is measured share no galaxy."""
    bands: tuple[str, ...] = ()
    """Bands of the survey to draw; all by default."""
    seeing_arcsec: Annotated[float, Meta(ge=0.03, le=10)] | None = None
    """FWHM of the PSF in the reddest band, arcsec; the other bands keep their ratio to it. None
    takes the survey's."""
    depth_mag: Annotated[float, Meta(ge=15, le=32)] | None = None
    """5 sigma point-source depth in the reddest band, AB magnitudes; the other bands keep their
    difference. None takes the survey's."""
    faint_mag: Annotated[float, Meta(ge=15, le=35)] | None = None
    """Faintest i magnitude drawn; none takes the survey's, more than a magnitude below what has
    a mask."""
    pixel_scale_arcsec: Annotated[float, Meta(ge=0.01, le=2)] | None = None
    """Side of a pixel, arcsec; none takes the survey's."""
    morphology: MorphologyConfig = field(default_factory=MorphologyConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    psf: PsfConfig = field(default_factory=PsfConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    defects: DefectsConfig = field(default_factory=DefectsConfig)

    def __post_init__(self) -> None:
        check(self)
        known = [b.name for b in SURVEYS[self.survey].bands]
        for band in self.bands:
            if band not in known:
                raise InputError(f"no band {band!r}", remedy=f"choose of {', '.join(known)}")
        if self.size is not None and not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InputError(
                f"a size of {self.size} pixels", remedy=f"choose {MIN_SIZE} to {MAX_SIZE}"
            )
        density = self.density_per_arcmin2
        if density is not None and not 0 < density <= MAX_DENSITY:
            raise InputError(
                f"a density of {density} sources per square arcminute",
                remedy=f"choose more than 0 and at most {MAX_DENSITY:.0f}",
            )
        room = (self.side // MIN_BRIGHT_CELL_PX) ** 2 // 2
        if self.bright > room:
            raise InputError(
                f"{self.bright} bright galaxies and as many stars",
                remedy=f"choose 0 to {room} in an image of {self.side} pixels, or a larger image",
            )

    @cached_property
    def spec(self) -> SurveySpec:
        """The survey, with the bands, seeing, depth and pixels asked for."""
        spec = SURVEYS[self.survey]
        red = spec.bands[-1]
        seeing = 1.0 if self.seeing_arcsec is None else self.seeing_arcsec / red.fwhm_arcsec
        deeper = 0.0 if self.depth_mag is None else self.depth_mag - red.depth_mag
        faint = self.faint_mag or spec.faint_mag + deeper
        bands = [_observed(b, seeing, deeper) for b in spec.bands]
        return replace(
            spec,
            bands=tuple(b for b in bands if not self.bands or b.name in self.bands),
            faint_mag=faint,
            bright_mag=min(spec.bright_mag, faint - MIN_RANGE_MAG),
            pixel_scale_arcsec=self.pixel_scale_arcsec or spec.pixel_scale_arcsec,
            star_fraction=spec.star_fraction if self.star_fraction is None else self.star_fraction,
        )

    @property
    def side(self) -> int:
        """Side of the image in pixels."""
        return SURVEYS[self.survey].size if self.size is None else self.size

    @property
    def n_masked(self) -> int:
        """Number of sources with a truth mask that the image is to hold, one at least."""
        density = self.density_per_arcmin2
        if density is None:
            density = self.spec.density_per_arcmin2
        arcmin = self.side * self.spec.pixel_scale_arcsec / 60
        usable = arcmin**2 * (1 - self.no_data_fraction)
        return max(1, round(density * usable))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _observed(band: BandSpec, seeing: float, deeper: float) -> BandSpec:
    """A band at another seeing and depth."""
    return replace(
        band,
        depth_mag=band.depth_mag + deeper,
        fwhm_arcsec=band.fwhm_arcsec * seeing,
        # Half the noise is from four times the photons.
        electrons_per_count=band.electrons_per_count * 10 ** (0.8 * deeper),
    )


@dataclass(frozen=True)
class RandomizeConfig:
    """Ranges that the settings of a training sky's scenes are drawn from."""

    fwhm_px: tuple[float, float] = (1.6, 9.0)
    """Seeing in pixels: from undersampled space telescopes to poor nights."""
    pixel_scale_arcsec: tuple[float, float] = (0.1, 0.5)
    """Side of a pixel, arcsec; how large galaxies are in pixels follows from it."""
    depth_mag: tuple[float, float] = (22.0, 27.5)
    """5 sigma depth in the reddest band, AB magnitudes: from single exposures to deep fields."""
    faint_margin_mag: float = 0.5
    """Faintest i magnitude drawn, beyond that at which a point source has no mask; fainter ones
    cost time, and confuse little."""
    coverage: tuple[float, float] = (0.03, 0.3)
    """Sources in the image times the area of three seeing discs, over the image's area."""
    sources: tuple[float, float] = (8.0, 100.0)
    """Fewest and most sources with a mask in a scene."""
    all_bands_fraction: Fraction = 0.7
    """Scenes with all three bands of their survey; the others have one or two."""
    star_field_chance: Fraction = 0.15
    """Chance of a scene in which half of what is drawn, or more, is stars. Where all scenes have
    galaxies, a network takes the stars of a field without any for galaxies."""
    defect_chance: Fraction = 0.08
    """Chance of each kind of defect in a scene: trail, cosmic rays, nebulosity, border, corner
    without data; half of it for a star cluster."""
    bright_chance: Fraction = 0.16
    """Chance of a large structured galaxy and a bright star in a scene."""
    variance_scatter: NonNegative = 0.2
    """Scatter of the log of the variance that a file claims over the true one."""
    psf_scatter: NonNegative = 0.08
    """The same of the PSF's width."""
    wing_fraction: Fraction = 0.06
    """Most light in the PSF's wings."""
    level_sigma: NonNegative = 0.3
    """Scatter of the sky's level and of its gradient, in sky sigma of a pixel."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def smooth(config: SimulateConfig) -> SimulateConfig:
    """The scene without its realistic part: white noise, smooth galaxies, no wings, a flat sky."""
    return replace(
        config,
        morphology=replace(config.morphology, structured_fraction=0.0),
        noise=replace(config.noise, kind="white"),
        psf=replace(config.psf, wing_fraction=0.0),
        background=BackgroundConfig(residual_sigma=0.0),
    )
