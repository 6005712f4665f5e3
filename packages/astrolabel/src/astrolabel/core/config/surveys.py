"""The two surveys that can be simulated: pixels, depth, seeing and sky."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BandSpec:
    """One band of a survey.

    Attributes
    ----------
    name : ``g``; `filter` : what the survey's files call it, ``HSC-G``.
    depth_mag : AB magnitude of a point source that is measured at 5 sigma in white noise.
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
