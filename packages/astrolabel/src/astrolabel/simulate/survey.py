"""The two surveys that can be simulated, and what the user chooses of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from astrolabel.core.errors import InputError

MIN_SIZE = 64
"""Smaller images hold hardly a source and no sky to measure noise on."""
MAX_SIZE = 10_000
"""Four HSC patches; stamps and planes of more would not fit an ordinary machine."""
MIN_BRIGHT_CELL_PX = 100
"""Side of the square that a bright object has for itself: smaller ones would be one blend."""
MAX_DENSITY = 1000.0
"""Masks per square arcminute: at ten times the density of a deep field they cover the sky."""


@dataclass(frozen=True)
class BandSpec:
    """One band of a survey.

    Attributes
    ----------
    name : ``g``; `filter` : what the survey's files call it, ``HSC-G``.
    depth_mag : AB magnitude of a point source that is measured at 5 sigma.
    fwhm_arcsec : of the effective PSF: atmosphere, optics and pixel together.
    shear : (g1, g2), what guiding and optics leave of an ellipticity.
    electrons_per_count : of the coadd; source light adds flux over this to the variance.
    saturation_counts : brightest value a pixel can take.
    """

    name: str
    filter: str
    depth_mag: float
    fwhm_arcsec: float
    shear: tuple[float, float]
    electrons_per_count: float
    saturation_counts: float


@dataclass(frozen=True)
class SurveySpec:
    """A survey: its pixels, its depth and the sky it sees.

    Attributes
    ----------
    name : as on the command line.
    bands : in the order of every array's first axis, blue first.
    pixel_scale_arcsec : side of a pixel.
    zeropoint : AB magnitude of one count.
    moffat_beta : wing exponent of the PSF.
    psf_stamp_px : odd side of the stamps.
    size : default side of the image in pixels.
    density_per_arcmin2 : default number of sources with a truth mask.
    bright_mag, faint_mag : range of i magnitudes that is drawn. The faint end is more
        than a magnitude below the masks' limit: what confuses is there too.
    star_fraction : of the systems drawn; gives 10 to 15 % of the sources with a mask.
    centre_deg : (ra, dec) where the projection touches the sky.
    tract, patch, origin : the survey's cells; origin is (y, x) in the tract of the
        image's first pixel, tract_centre the projection's pixel, from 0.
    lupton_stretch : of the 8-bit picture, counts.
    bleed_axis : along which full pixels spill: 0 columns, 1 rows of the image.
    """

    name: str
    bands: tuple[BandSpec, ...]
    pixel_scale_arcsec: float
    zeropoint: float
    moffat_beta: float
    psf_stamp_px: int
    size: int
    density_per_arcmin2: float
    bright_mag: float
    faint_mag: float
    star_fraction: float
    centre_deg: tuple[float, float]
    tract: str
    patch: str
    origin: tuple[int, int]
    tract_centre: tuple[float, float] | None
    lupton_stretch: float
    bleed_axis: int

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    def counts(self, mag: float) -> float:
        """Flux in counts of an AB magnitude."""
        return float(10 ** (-0.4 * (mag - self.zeropoint)))


HSC_DEEP = SurveySpec(
    name="hsc-deep",
    # Depth and seeing: the paper's table 1. Gains: the slope of variance on flux in real
    # UltraDeep COSMOS coadds (3 to 4e-5 counts), scaled to this depth. Saturation: stars
    # of about i = 18.3 in the Deep layer.
    bands=(
        BandSpec("g", "HSC-G", 27.4, 0.83, (0.010, 0.006), 13_000, 130.0),
        BandSpec("r", "HSC-R", 27.1, 0.77, (-0.008, 0.010), 11_000, 140.0),
        BandSpec("i", "HSC-I", 26.9, 0.66, (0.012, -0.008), 15_000, 170.0),
    ),
    pixel_scale_arcsec=0.168,
    zeropoint=27.0,
    moffat_beta=3.0,  # between poor optics (2.5) and Kolmogorov turbulence (4.765)
    psf_stamp_px=43,  # as HSC's PSF picker gives them
    size=1050,  # a sixteenth of a patch
    # Close to what the paper's figure 2 has, and to the counts of COSMOS down to i = 25.5.
    density_per_arcmin2=100.0,
    bright_mag=16.5,
    faint_mag=27.0,
    star_fraction=0.12,
    # Tract 9813 and its patch 4,5 of the COSMOS field: 36000 pixels a side around the
    # projection's centre, patches of 4000 with 100 of overlap.
    centre_deg=(150.247933884, 2.23140495868),
    tract="9813",
    patch="4,5",
    origin=(5 * 4000 - 100, 4 * 4000 - 100),
    tract_centre=(17999.0, 17999.0),
    lupton_stretch=0.5,  # paper, 3.3
    bleed_axis=0,
)

DECAM = SurveySpec(
    name="decam",
    # Depths give the sky noise of real DR7 coadds (0.0030, 0.0052 and 0.0128 nanomaggies a
    # pixel); the seeing is the survey's median. Gains: those at which that noise is the photons'
    # of the sky, of 22.04, 20.91 and 18.46 AB magnitudes per square arcsecond (what the survey's
    # observers count with; zero points of 26.61, 26.82 and 26.48 for an electron a second make
    # 260, 210 and 430 s of it). The slope of variance on flux in a real DR7 cutout gives 13,000
    # in g and 7,700 in r, and none that can be measured in z.
    bands=(
        BandSpec("g", "g", 24.7, 1.30, (0.012, 0.004), 12_000, 25.0),
        BandSpec("r", "r", 24.2, 1.18, (-0.010, 0.008), 11_000, 25.0),
        BandSpec("z", "z", 23.3, 1.10, (0.006, -0.010), 17_000, 30.0),
    ),
    pixel_scale_arcsec=0.262,
    zeropoint=22.5,
    moffat_beta=3.5,
    psf_stamp_px=43,
    size=512,
    density_per_arcmin2=30.0,  # 150 objects in 512 x 512, as the paper's appendix A
    bright_mag=15.5,
    faint_mag=24.3,
    star_fraction=0.07,
    centre_deg=(197.860331, -1.413151),
    tract="",
    patch="",
    origin=(0, 0),
    tract_centre=None,
    lupton_stretch=0.05,  # the faintest sky noise stays dark in nanomaggies
    bleed_axis=1,  # the columns of DECam's detectors run east to west
)

SURVEYS = {spec.name: spec for spec in (HSC_DEEP, DECAM)}


@dataclass(frozen=True)
class SimulateConfig:
    """What is simulated; equal configurations give equal bytes."""

    survey: str = "hsc-deep"
    """``hsc-deep``: g,r,i coadds in HSC's MaskedImage layout; ``decam``: g,r,z images
    alone, like the cutouts of the DECam Legacy Survey."""
    size: int | None = None
    """Side of the square image in pixels; None takes the survey's (1050 or 512)."""
    seed: int = 1
    """Of every random number."""
    density_per_arcmin2: float | None = None
    """Sources with a truth mask per square arcminute; None takes the survey's (100 or 30)."""
    pair_fraction: float = 0.5
    """Part of the galaxies that have a neighbour within three seeing discs: pairs, mergers and
    chance. At 100 sources per square arcminute a third of them are blended with the default,
    nearly half with 1."""
    no_data_fraction: float = 0.0
    """Part of the image, a triangle in its upper right corner, that holds no data."""
    bright: int = 0
    """So many large structured galaxies (arms, knots, bars, dust) and as many bright stars
    (spikes, aureole, bleed trails) are added to the scene, which is otherwise the same."""

    def __post_init__(self) -> None:
        if self.survey not in SURVEYS:
            raise InputError(
                f"unknown survey {self.survey!r}", remedy=f"choose {' or '.join(SURVEYS)}"
            )
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
        if not 0 <= self.pair_fraction <= 1:
            raise InputError(
                f"a pair fraction of {self.pair_fraction}", remedy="choose from 0 to 1"
            )
        if self.seed < 0:
            raise InputError(f"a seed of {self.seed}", remedy="choose 0 or more")
        if not 0 <= self.no_data_fraction < 0.5:
            raise InputError(
                f"a no-data fraction of {self.no_data_fraction}",
                remedy="choose from 0 to less than 0.5, a corner's triangle",
            )
        room = (self.side // MIN_BRIGHT_CELL_PX) ** 2 // 2
        if not 0 <= self.bright <= room:
            raise InputError(
                f"{self.bright} bright galaxies and as many stars",
                remedy=f"choose 0 to {room} in an image of {self.side} pixels, or a larger image",
            )

    @property
    def spec(self) -> SurveySpec:
        return SURVEYS[self.survey]

    @property
    def side(self) -> int:
        """Side of the image in pixels."""
        return self.spec.size if self.size is None else self.size

    @property
    def n_masked(self) -> int:
        """Number of sources with a truth mask that the image is to hold, one at least."""
        density = self.density_per_arcmin2
        if density is None:
            density = self.spec.density_per_arcmin2
        arcmin = self.side * self.spec.pixel_scale_arcsec / 60
        usable = arcmin**2 * (1 - self.no_data_fraction)
        return max(1, int(np.rint(density * usable)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `bright` and `pair_fraction` only where they are not the default: files
        from before these fields have neither."""
        late = {"bright": SimulateConfig.bright, "pair_fraction": SimulateConfig.pair_fraction}
        return {k: v for k, v in asdict(self).items() if k not in late or v != late[k]}
