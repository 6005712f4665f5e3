"""What is simulated: survey, size, galaxies, noise and defects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from astrolabel.core.config.surveys import SURVEYS, BandSpec, SurveySpec
from astrolabel.core.errors import InputError

MIN_SIZE = 64
"""Smaller images hold hardly a source and no sky to measure noise on."""
MAX_SIZE = 10_000
"""Four HSC patches; stamps and planes of more would not fit an ordinary machine."""
MIN_BRIGHT_CELL_PX = 100
"""Side of the square that a bright object has for itself: smaller ones would be one blend."""
MAX_DENSITY = 1000.0
"""Masks per square arcminute: at ten times the density of a deep field they cover the sky."""


MIN_RANGE_MAG = 6.0
"""Magnitudes from the brightest to the faintest source of a survey of any depth."""
GALAXY_SUBSETS = ("all", "train", "test")
RANGES = {
    "seeing_arcsec": (0.05, 5.0),
    "depth_mag": (15.0, 32.0),
    "pixel_scale_arcsec": (0.01, 2.0),
}
"""What can be asked for: from a space telescope's to a small telescope's."""


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

    galaxies: str = ""
    """Folder of a GalSim RealGalaxyCatalog (such as the COSMOS sample): every galaxy is then
    drawn with the looks of one of these. Empty: galaxies of Sersic profiles and structure."""
    galaxy_subset: str = "all"
    """Rows of that catalog to draw from: ``train`` the even ones, ``test`` the odd ones,
    ``all``: so that what is trained and what is measured share no galaxy."""
    seeing_arcsec: float | None = None
    """FWHM of the PSF in the reddest band, arcsec; the other bands keep their ratio to it. None
    takes the survey's."""
    depth_mag: float | None = None
    """5 sigma point-source depth in the reddest band, AB magnitudes; the other bands keep their
    difference. None takes the survey's."""
    pixel_scale_arcsec: float | None = None
    """Side of a pixel, arcsec; None takes the survey's."""

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
        if self.galaxy_subset not in GALAXY_SUBSETS:
            raise InputError(
                f"unknown galaxy subset {self.galaxy_subset!r}",
                remedy=f"choose {', '.join(GALAXY_SUBSETS)}",
            )
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(
                    f"{name.replace('_', ' ')} {value:g}", remedy=f"choose {low:g} to {high:g}"
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
        """The survey, with the seeing, depth and pixels asked for."""
        spec = SURVEYS[self.survey]
        seeing = (
            1.0 if self.seeing_arcsec is None else self.seeing_arcsec / _reddest(spec).fwhm_arcsec
        )
        deeper = 0.0 if self.depth_mag is None else self.depth_mag - _reddest(spec).depth_mag
        bands = tuple(
            replace(
                b,
                depth_mag=b.depth_mag + deeper,
                fwhm_arcsec=b.fwhm_arcsec * seeing,
                # As many more photons as the noise asks for, in as many exposures more.
                electrons_per_count=b.electrons_per_count * 10 ** (0.8 * deeper),
            )
            for b in spec.bands
        )
        return replace(
            spec,
            bands=bands,
            faint_mag=spec.faint_mag + deeper,
            bright_mag=min(spec.bright_mag, spec.faint_mag + deeper - MIN_RANGE_MAG),
            pixel_scale_arcsec=self.pixel_scale_arcsec or spec.pixel_scale_arcsec,
        )

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
        return asdict(self)


def _reddest(spec: SurveySpec) -> BandSpec:
    return spec.bands[-1]
