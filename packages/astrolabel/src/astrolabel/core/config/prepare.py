"""What is assumed of survey files, and how far what they claim may be from their pixels."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SkyConfig:
    """The level of the source-free sky."""

    subtract: str = "auto"
    """`auto`: where the files give no noise, and where the level stands off zero by more than
    `tolerance_sigma`; `always`; `never`."""
    box_px: int = 64
    """Side of a cell of the mesh on which level and noise are measured: about three times the
    largest common source."""
    tolerance_sigma: float = 0.25
    """A sky whose median, or half the spread of whose cells (5 to 95 %), is beyond this many
    sigma of a pixel is not subtracted yet. The sky of simulated UltraDeep scenes, which is
    zero, is measured to 0.04."""
    source_sigma: float = 3.0
    """What stands this many sigma above the smoothed sky is a source and no part of it,"""
    source_smoothing_px: tuple[float, ...] = (1.0, 4.0)
    """... under each of these Gaussians: the first finds stars, the second wings."""
    source_growth_px: int = 5
    """Sources are grown by this: twice a common seeing radius."""
    large_growth: float = 0.5
    """Sources of more than a tenth of a cell are grown by this part of their own radius as
    well, so that their wings do not bend the mesh."""
    min_sky: float = 0.5
    """Where less of a coadd is free of sources, one plane through the darker cells is its level:
    a mesh would follow the outskirts of a galaxy that fills the frame."""
    scarce_sky: float = 0.25
    """Where less of a coadd is free of sources, fainter light counts as sky: in simulated
    UltraDeep scenes all pixels are some source's outskirts."""
    least_sky: float = 0.05
    """Where even then less of a coadd is free of sources, the level measured before sources
    were left out is kept, and said to be doubtful."""
    min_free: float = 0.1
    """Least part of a cell that is free of sources, where its own level counts."""
    outlier_sigma: float = 1.0
    """A cell that is this many sigma of a pixel off the median of its neighbours takes that."""
    smooth_part: float = 0.8
    """Where more than this part of the cells lies within `outlier_sigma` of one polynomial, that
    is the first guess of the level: gradients and vignetting do, a galaxy does not."""
    trend_degrees: tuple[int, ...] = (2, 4)
    """Degrees of the polynomials that are tried, with twice as many cells as terms. Of a vignette
    of 50 sigma that goes with cos^4 the first leaves 5 sigma in the corners of 400x400 pixels, the
    second 0.1."""
    too_dark: float = 3.0
    """Sky that is this many sigma of a pixel below the level: no source makes that, the level is
    wrong."""
    block_px: int = 20
    """Side of blocks whose scatter about a plane is compared with that of the sky:"""
    uneven_sky: float = 2.5
    """... where the sky's is this many times theirs, it is no noise. Of noise smoothed by 3 px it
    is 1.6 times, of real files 1.2 at most but for M51, which fills its frame, with 2.8."""
    cut_off: float = 0.02
    """Values were cut off where this part of the pixels has the lowest one,"""
    cut_over: float = 3.0
    """... so many times as many as have any other. Integers have as many of the next."""
    both_ways: float = 0.15
    """Part of the curvature of such a polynomial that may be of the other sign: a vignette is a
    dome out to the corners, a galaxy that fills the frame runs out."""
    noise_outlier: float = 0.5
    """A cell whose noise differs from its neighbours' by this part of the coadd's takes theirs.
    That of a cell with few free pixels, 400, scatters by 6 %."""
    large_source: float = 0.1
    """Part of a cell's area from which a source is large (see `large_growth`)."""
    scarce_tolerance: float = 10.0
    """Times `tolerance_sigma` where less than half of `min_sky` is free: that may be a galaxy's
    outskirts, whose light must not be subtracted."""
    dark_weight: float = 0.02
    """Weight of the cells above the plane through the darker ones, those below having the rest:
    an expectile. What stands above is taken for a large source."""
    rounds: int = 3
    """Times that sources and sky are separated, each with the level that the last one gave."""


@dataclass(frozen=True)
class NoiseConfig:
    """The noise that files give, compared with the scatter of the source-free sky."""

    plausible_mag: tuple[float, float] = (8.0, 45.0)
    """A zero point of the files is not used where it makes the sky's noise in a pixel brighter or
    fainter than this: from all-sky cameras to ten magnitudes below the deepest fields."""
    trust: str = "auto"
    """`auto`: given noise beyond the tolerance is rescaled, or replaced where it does not follow
    the scatter; `files`: taken as given; `pixels`: always measured."""
    tolerance: float = 0.15
    """Noise may be off by this part of itself, in sigma: a variance that is off by two is off by
    0.41. The scatter of simulated UltraDeep scenes is that of their variance to 0.01."""
    uneven: float = 2.0
    """Noise whose ratio to the scatter differs by this factor among cells of the mesh (10 to
    90 %) does not follow it, and is replaced by the scatter."""
    correlation_radius_px: int = 6
    """Farthest that correlation of the noise is measured."""
    correlation_least: float = 0.25
    """Correlation is heeded where it raises the noise at the scale of the PSF by this part of
    what white noise has there. In simulated UltraDeep scenes undetected sources do not."""
    correlation_floor: float = 0.02
    """Correlations below this are those of chance."""
    false_rate: float = 2.9e-7
    """Chance that noise exceeds five sigma: of counts, whose tail is longer than a Gaussian's,
    a fifth of the excess with this chance is taken for sigma."""
    min_sky_px: int = 500
    """With fewer pixels of empty sky, its scatter is not known to better than a tenth. Its
    correlation needs ten times as many."""
    correlation_side_px: int = 1024
    """Side of the middle part of a coadd that its correlation is measured on."""
    correlation_clip_sigma: float = 4.0
    """Sky pixels beyond this are left out of it: they are some source's."""
    photon_sigma: tuple[float, float] = (4.0, 100.0)
    """Photon noise is measured where sources are so bright, in sigma of the sky: below, the
    sky's is all there is; above, on saturated cores, structure is sharper than a PSF."""
    min_photon_px: int = 200
    """With fewer pixels of such light the slope is known to no better than a fifth."""
    photon_smoothing_px: float = 1.0
    """Sigma of the Gaussian under which light makes photon noise: noise must not weigh itself."""
    few_smoothing_px: float = 2.0
    """The same for counts of few photons, whose noise is as large as they: with 1 px, stars on
    0.3 counts a pixel are 5 % too faint, with 2 px 2 %."""
    photon_least_sigma: float = 2.0
    """Light below this many sigma of the sky adds no photon noise: it may be the sky's noise."""


@dataclass(frozen=True)
class NoDataConfig:
    """Values that are no measurements, found in the pixels."""

    repeated_chance: float = 1e-3
    """A block of pixels of one value is no data where chance makes one in a thousand images."""
    most_share: float = 0.95
    """A value of counts that is more common than this is the sky's and no fill."""
    max_block_px: int = 64
    """Side of the largest block that is looked for, in images of few different values."""
    smooth_part: float = 1e-3
    """Pixels whose second differences are this part of the image's median have no noise;"""
    smooth_side_px: int = 9
    """... blocks of this side of them are no data: chance makes no such block."""
    low_sigma: float = 50.0
    """Pixels this far below the sky, or not a number, are no measurements of it."""
    high: float = 1e15
    """Values beyond this times the sky's scatter are none of light."""
    star_sigma: float = 50.0
    """One value over many pixels is a saturated star's, and no fill, where it is this many sigma
    above the sky."""
    values: int = 8
    """So many of the commonest values are looked at."""
    sample_px: int = 200_000
    """Pixels that rough sky and scatter are taken from: the scatter is known to 0.3 % then."""


@dataclass(frozen=True)
class SaturationConfig:
    """Which pixels are saturated, from the image where no mask has them."""

    bright_sigma: float = 50.0
    """A full pixel is brighter than this, in sigma of the sky: detectors hold some 10^5
    electrons, and a star that fills a pixel stands hundreds of times above any survey's sky
    noise."""
    flat: float = 1e-3
    """A pixel and its eight neighbours within this part of each other are flat: no source seen
    through the atmosphere is."""
    limit_spread: float = 0.03
    """The highest level of an image is a limit where the pixels within this part of it,"""
    limit_sigma: float = 3.0
    """... or within this many sigma of a pixel's noise there if that is more,"""
    limit_ratio: float = 3.0
    """... are this many times those in the next interval below. Tops of sources have as many in
    both."""
    limit_px: int = 20
    """Fewer pixels at the highest level are no sign of a limit: chance makes such a ratio."""
    sharp: float = 1.5
    """Over the most that a scene under the PSF could show, a second difference is sharp. In real
    DECaLS pixels saturated cores reach 3 to 50 and all other stars and galaxies stay below 1,
    but for single pixels, at 1.9."""
    noise_sigma: float = 5.0
    """A second difference counts as far as it is above this many sigma of its noise."""
    min_sharp_px: int = 10
    """Sharp pixels that make a core: one wild pixel on a star, a cosmic ray's, makes nine."""


@dataclass(frozen=True)
class ArtifactConfig:
    """Cosmic rays, hot pixels and trails."""

    cosmic_rays: str = "auto"
    """`auto`: looked for in tiles where the survey's mask marks none; `always`; `never`."""
    sharp_sigma: float = 6.0
    """A pixel is a cosmic ray's where it exceeds what the PSF allows beside its neighbours by
    this many sigma, and"""
    sharp_margin: float = 0.5
    """... by this fraction of that limit, for a PSF is not known better. Chosen on simulated
    stars and hits; not measured on real stars."""
    guess_factor: float = 1.5
    """A PSF that is not measured may be narrower by this: guesses of the seeing, 0.7 arcsec, are
    wrong by as much at the best and the usual sites."""
    growth_px: int = 1
    """A cosmic ray's pixels are grown by this, where they stand above the sky's noise,"""
    growth_sigma: float = 3.0
    """... by this many sigma over the median around them."""
    ray_rounds: int = 4
    """Rounds of the search: a cosmic ray of several pixels is found from its edge inwards."""
    trails: str = "auto"
    """`auto`: looked for; `never`."""
    trail_sigma: float = 3.0
    """A trail stands this many sigma above the sky smoothed over `trail_bin_px`."""
    trail_bin_px: int = 4
    """Pixels that are averaged for it, along both axes."""
    trail_length: float = 0.4
    """Least length, in sides of the coadd,"""
    trail_length_px: float = 600.0
    """... or in pixels where that is less: a trail as long is one in a coadd of any size."""
    trail_thin: float = 8.0
    """Least length over width, of which the faint edges of a trail out of focus are a part."""
    trail_even: float = 0.4
    """Brightness along it (10 over 90 %) is at least this: a disc seen edge-on, or a spike,
    fades."""
    trail_pieces: int = 20
    """Pieces of it that brightness is compared among, each its median: a star on one of them
    makes no difference."""
    trail_gap: float = 5.0
    """A bin of its line that is not bright weighs as much as so many that are."""
    trail_tries: int = 50
    """So many lines, those with the most bright bins, are looked at for each trail,"""
    most_trails: int = 10
    """... and so many trails are looked for in a band."""
    trail_edge_sigma: float = 0.3
    """It is masked to where its mean profile falls below this many sigma of a pixel."""


@dataclass(frozen=True)
class StarConfig:
    """Stars that the PSF is measured on."""

    min_stars: int = 3
    """Fewer do not define a PSF."""
    max_stars: int = 50
    """As many of the brightest are fitted."""
    scatter: float = 0.15
    """Widths of stars agree within this part of their median. Knots and compact galaxies do
    not."""
    ring: float = 0.04
    """A star's surroundings are fainter than this part of its peak: a knot's are not."""
    sharpest: float = 0.5
    """A pixel with more than this part of the light of the 3x3 around it is a cosmic ray or
    hot."""
    misfit: float = 0.1
    """Root mean square of what a Moffat leaves, in parts of the peak, up to which it fits."""
    trust: str = "auto"
    """`auto`: a given PSF that is not that of the stars is rescaled; `files`: taken as given."""
    mismatch: float = 0.2
    """A given PSF whose width differs by this part from the stars' is not theirs."""
    border_share: float = 0.1
    """A given stamp whose border has a level that makes more than this part of its flux holds a
    sky, or ends too near: Moffats of 4 pixels have 0.006 in 41, 0.03 in 25."""
    sure_stars: int = 10
    """So many stars of one width rescale it; fewer, which may be galaxies, are a doubt."""
    compact_snr: float = 15.0
    """Nothing is narrower than a PSF. Round, isolated sources of this signal-to-noise ratio, whose
    widths then scatter by some 7 %, rescale one that is wider: `min_stars` of them,"""
    narrow_part: float = 0.15
    """... and this part of those that are not wider than it,"""
    narrowest: float = 0.6
    """... which are no narrower than this part of it: cosmic rays are."""
    search_px: int = 2048
    """Given PSFs are compared with the stars of so much of a coadd's middle."""
    threshold_sigma: float = 10.0
    """Stars are looked for among sources with five pixels above this many sigma of the sky, and"""
    min_snr: float = 40.0
    """... of this signal-to-noise ratio: their half-light radii then scatter by some 3 %,
    less than the ridge is wide."""
    min_axis_ratio: float = 0.8
    """Of a star's moments: less is a galaxy or a pair. Not measured on real stars."""
    brightest: float = 0.95
    """Stars above this quantile of the peaks may be saturated, and are left out."""
    ridge_width: float = 0.1
    """Stars' half-light radii lie in a window as wide as this part of them,"""
    ridge_full: float = 0.4
    """... the first, from the smallest on, that holds this part of what the fullest does: a lone
    smaller source is a cosmic ray."""
    ridges: int = 3
    """So many ridges are tried, from the smallest radii on, until a PSF fits one of its sources."""
    fit_snr: float = 20.0
    """Least signal-to-noise ratio of a star in a band where it is fitted."""
    most_beta: float = 20.0
    """Largest beta of a Moffat: a Gaussian's width is then off by 3 % where photons are few (with
    8, by 9 %)."""
    spacing_px: int = 512
    """A PSF that varies is taken to be the same over parts of this side at most."""
    fit_noise_sigma: float = 3.0
    """Noise of a pixel that the fit may leave besides `misfit`: of the sky and of photons."""
    least_fwhm_px: float = 0.55
    """A fit that is narrower is of a single hot pixel: the pixels do not resolve it."""
    hot_fwhm_px: float = 1.4
    """Fits that are narrower may be of hot pixels in fours; none of those is wider. They are where
    their light falls on the pixels alike, for stars are anywhere between pixels:"""
    one_phase: float = 0.9
    """... the unit vectors of their places between pixels have a mean of this length, by y and by
    x. Three random ones have in 7 of 1000."""
    galaxy_fwhm: float = 1.5
    """Stars too few to define a PSF are galaxies where they are this many times as wide as is usual
    for the survey."""
    ground_arcsec: float = 0.7
    """FWHM that is guessed where nothing is known but the size of the pixels: HSC's seeing;"""
    space_arcsec: float = 0.13
    """... HST's diffraction in the near infrared"""
    fine_px_arcsec: float = 0.12
    """... for pixels finer than this;"""
    sampled_px: float = 2.0
    """... and this many pixels at least, as most instruments are made."""


@dataclass(frozen=True)
class LinearConfig:
    """Signs that pixels are no linear flux."""

    min_snr: float = 30.0
    """Least signal-to-noise ratio of sources whose widths are compared,"""
    min_stars: int = 7
    """... and so many of them;"""
    share: float = 0.5
    """... at most this part of `stars.max_stars`, to save time;"""
    chance: float = 3e-3
    """... their widths rise with their brightness (Spearman) with no more chance than this,"""
    scatter: float = 0.03
    """... are this near to one rising curve: stars are within 0.01, galaxies of SDSS and DECaLS at
    0.07 to 0.16;"""
    growth: float = 1.1
    """... and rise by this much, the faintest fifth and the brightest one left out: of linear stars
    by 1.03 at most, of square roots by 1.1 to 1.2, of asinh and logarithms by 1.2 to 1.9."""
    bright_px: int = 200
    """The noise of so many of the brightest pixels is compared with the sky's, and"""
    quiet: float = 0.4
    """... is this part of its variance or less. Of linear files it is 0.6 (with an error of 0.15)
    or more, of asinh 0.02 to 0.3."""


@dataclass(frozen=True)
class PrepareConfig:
    """From survey files to pixels that detection can work on."""

    sky: SkyConfig = field(default_factory=SkyConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    no_data: NoDataConfig = field(default_factory=NoDataConfig)
    saturation: SaturationConfig = field(default_factory=SaturationConfig)
    artifacts: ArtifactConfig = field(default_factory=ArtifactConfig)
    stars: StarConfig = field(default_factory=StarConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    section_px: int = 2048
    """A coadd with a longer side is looked at in sections of about this at most, one at a time:
    memory does not grow with the coadd. What the sections show is put together."""
    strict: bool = False
    """Whether a doubt about a coadd refuses it."""
