"""From what is on the sky to noiseless stamps, truth masks and images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import gamma

from astrolabel.box import Box
from astrolabel.errors import InputError
from astrolabel.simulate import planes
from astrolabel.simulate.population import Body, draw_system, sersic_b
from astrolabel.simulate.survey import SimulateConfig, SurveySpec

MASK_SIGMA = 5.0
"""A truth mask is where the noiseless band sum exceeds this many sky sigma of the sum."""
STAMP_EDGE_SIGMA = 0.1
"""Stamps reach to where a band falls below this many sky sigma a pixel: the step at
their edges drowns in the noise."""
MAX_STAMP_RADIUS_PX = 400
"""67 arcsec at HSC's scale: only a star far beyond saturation would reach farther."""
SPIKE_FLUX = 0.006
"""Part of a saturated star's light in its diffraction spikes, about what the four vanes
of Subaru's spider take."""
SPIKE_WIDTH_PX = 1.2
"""Gaussian width across a spike, a third of the seeing."""
SPIKE_ANGLE_RAD = 0.78
"""Angle of the first of the four spikes from +x."""
EIGHT_CONNECTED = np.ones((3, 3), bool)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Source:
    """A drawn source.

    Attributes
    ----------
    object_id : unique, beyond 2^53: a float would not hold it.
    body : what it is.
    box : where the stamp lies; inside the image, so a source at the edge is cut.
    stamp : (C, h, w) float32 counts without noise, convolved with each band's PSF.
    mask : (h, w) bool, where the sum of the bands is above the threshold; perhaps empty.
    blendedness : 1 - sum(own^2) / sum(own * all) over the stamp, in band sums: 0 alone,
        towards 1 under brighter neighbours (after Bosch et al. 2018, eq. 26).
    n_blended : sources of its connected group of masks, itself included; 0 without a mask.
    group : number of that group from 1; 0 without a mask.
    saturated : whether a pixel of its own core is saturated.
    """

    object_id: int
    body: Body
    box: Box
    stamp: NDArray[np.float32]
    mask: NDArray[np.bool_]
    blendedness: float = 0.0
    n_blended: int = 0
    group: int = 0
    saturated: bool = False

    @property
    def has_mask(self) -> bool:
        return bool(self.mask.any())


@dataclass(frozen=True, eq=False)
class Scene:
    """A simulated patch, with the truth.

    Attributes
    ----------
    config, spec : what was asked, and the survey.
    image : (C, H, W) float32 counts, as observed: noise, saturation, NaN without data.
    variance : (C, H, W) float32 counts squared of the noise drawn; infinite without data.
    model : (C, H, W) float32 counts: the sum of the sources without noise.
    mask : (C, H, W) int32, bits by `planes.BITS`.
    psfs : (C, P, P) float32 stamps, each summing to one.
    sky_sigma : (C,) float64 counts of noise a pixel of empty sky.
    sources : every source with light in the image, with a mask or not.
    wcs : TAN, of the image's pixels.
    """

    config: SimulateConfig
    spec: SurveySpec
    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    model: NDArray[np.float32]
    mask: NDArray[np.int32]
    psfs: NDArray[np.float32]
    sky_sigma: NDArray[np.float64]
    sources: tuple[Source, ...]
    wcs: WCS

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    @property
    def labelled(self) -> tuple[Source, ...]:
        """The sources that have a mask."""
        return tuple(s for s in self.sources if s.has_mask)

    @property
    def threshold(self) -> float:
        """Counts of the band sum above which a pixel belongs to a source."""
        return MASK_SIGMA * float(np.sqrt((self.sky_sigma**2).sum()))


def draw_scene(config: SimulateConfig, progress: Progress | None = None) -> Scene:
    """A scene, all of it decided by `config`.

    Systems (stars; galaxies with their companions) are drawn until as many sources have
    a mask as the density asks for; the fainter ones drawn with them stay in the image.

    Parameters
    ----------
    progress : called with the number of masked sources drawn and wanted.

    Raises
    ------
    InputError
        When GalSim is not installed.
    """
    spec, side = config.spec, config.side
    artist = Artist(spec)
    # Streams of their own: the noise does not change when the drawing takes a number more.
    sky, noise = (np.random.default_rng([config.seed, n]) for n in (1, 2))
    frame = Box(0, 0, side, side)
    no_data = planes.missing_corner(side, config.no_data_fraction)
    sources: list[Source] = []
    found = 0
    while found < config.n_masked:
        for body in draw_system(sky, spec, side):
            source = _source(artist, body, frame, no_data, len(sources))
            if source is None:
                continue
            sources.append(source)
            found += source.has_mask
        if progress is not None:
            progress(min(found, config.n_masked), config.n_masked)
    model = np.zeros((len(spec.bands), side, side), np.float32)
    for source in sources:
        model[(slice(None), *source.box.slices)] += source.stamp
    sources = _blends(sources, model)
    return _observe(config, artist, model, sources, no_data, noise)


def _source(
    artist: Artist, body: Body, frame: Box, no_data: NDArray[np.bool_], number: int
) -> Source | None:
    """The body as drawn; None when no light of it falls into the image."""
    whole = Box.around(body.y, body.x, artist.radius(body))
    box = whole & frame
    if not box.area:
        return None
    stamp = artist.draw(body, whole)[(slice(None), *box.slices_in(whole))].copy()
    mask = (stamp.sum(0) > artist.threshold) & ~no_data[box.slices]
    return Source(planes.FIRST_OBJECT_ID + number, body, box, stamp, mask)


def _blends(sources: list[Source], model: NDArray[np.float32]) -> list[Source]:
    """The sources with blendedness and group filled in."""
    everything = model.sum(0, dtype=np.float64)
    union = np.zeros(model.shape[1:], bool)
    for source in sources:
        union[source.box.slices] |= source.mask
    labels, _ = ndimage.label(union, EIGHT_CONNECTED)
    groups = [int(labels[s.box.slices][s.mask][0]) if s.has_mask else 0 for s in sources]
    members = np.bincount(groups)
    members[0] = 0
    out = []
    for source, group in zip(sources, groups, strict=True):
        own = source.stamp.sum(0, dtype=np.float64)
        cross = float((own * everything[source.box.slices]).sum())
        blendedness = 1 - float((own**2).sum()) / cross if cross > 0 else 0.0
        out.append(
            replace(
                source,
                blendedness=min(max(blendedness, 0.0), 1.0),
                n_blended=int(members[group]),
                group=group,
            )
        )
    return out


def _observe(
    config: SimulateConfig,
    artist: Artist,
    model: NDArray[np.float32],
    sources: list[Source],
    no_data: NDArray[np.bool_],
    noise: Generator,
) -> Scene:
    """Noise, saturation and missing data on the noiseless model."""
    spec = config.spec
    gain = np.array([b.electrons_per_count for b in spec.bands])[:, None, None]
    variance = (artist.sky_sigma[:, None, None] ** 2 + model / gain).astype(np.float32)
    # Enough photons everywhere (the sky's) for Poisson noise to be Gaussian. The sky is
    # subtracted: its mean is zero. Pixels are independent, unlike a warped coadd's.
    image = model + np.sqrt(variance) * noise.standard_normal(model.shape, np.float32)
    limit = np.array([b.saturation_counts for b in spec.bands], np.float32)[:, None, None]
    saturated = model > limit
    image = np.where(saturated, np.minimum(image, limit), image)
    mask = planes.make_mask(model, artist.sky_sigma, saturated, no_data)
    for source in sources:
        if source.body.is_star and source.body.i_mag < planes.BRIGHT_STAR_DEPTH + spec.bright_mag:
            planes.mark_bright_star(mask, source.body, spec)
    image[:, no_data] = np.nan
    variance[:, no_data] = np.inf
    marked = [replace(s, saturated=bool((artist.peak(s) > limit[:, 0, 0]).any())) for s in sources]
    return Scene(
        config=config,
        spec=spec,
        image=image.astype(np.float32),
        variance=variance,
        model=model,
        mask=mask,
        psfs=artist.psf_stamps(),
        sky_sigma=artist.sky_sigma,
        sources=tuple(marked),
        wcs=make_wcs(spec, config.side),
    )


def make_wcs(spec: SurveySpec, side: int) -> WCS:
    """TAN about the tract's centre, or about the image's where there is no tract."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = list(spec.centre_deg)
    scale = spec.pixel_scale_arcsec / 3600
    wcs.wcs.cd = [[-scale, 0.0], [0.0, scale]]
    if spec.tract_centre is None:
        wcs.wcs.crpix = [(side + 1) / 2, (side + 1) / 2]
    else:
        (cy, cx), (y0, x0) = spec.tract_centre, spec.origin
        wcs.wcs.crpix = [cx - x0 + 1, cy - y0 + 1]  # FITS counts from 1
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def _galsim() -> Any:
    try:
        import galsim
    except ImportError as error:
        raise InputError(
            "GalSim, which draws the scenes, is not installed",
            remedy='pip install "astrolabel[simulate]"',
        ) from error
    return galsim


class Artist:
    """Draws bodies in a survey's bands; holds the PSFs and the noise they imply.

    Attributes
    ----------
    sky_sigma : (C,) float64 counts: the noise at which a point source of the depth's
        magnitude, measured with the PSF, has 5 sigma.
    threshold : counts of the band sum above which a pixel is in a source's mask.
    """

    def __init__(self, spec: SurveySpec) -> None:
        self.spec = spec
        self._galsim = _galsim()
        self._psfs = [
            self._galsim.Moffat(beta=spec.moffat_beta, fwhm=b.fwhm_arcsec).shear(
                g1=b.shear[0], g2=b.shear[1]
            )
            for b in spec.bands
        ]
        stamps = self.psf_stamps().astype(np.float64)
        # The flux error of a fit with the PSF P is sigma / sqrt(sum P^2).
        flux_at_depth = np.array([spec.counts(b.depth_mag) for b in spec.bands])
        self.sky_sigma = flux_at_depth / 5 * np.sqrt((stamps**2).sum((1, 2)))
        self.threshold = MASK_SIGMA * float(np.sqrt((self.sky_sigma**2).sum()))
        self._peaks = stamps.max((1, 2))

    def psf_stamps(self) -> NDArray[np.float32]:
        """(C, P, P), each summing to one."""
        size = self.spec.psf_stamp_px
        stamps = np.stack([self._render(psf, (size, size), (0.0, 0.0)) for psf in self._psfs])
        stamps /= stamps.sum((1, 2), keepdims=True)
        return stamps.astype(np.float32)

    def peak(self, source: Source) -> NDArray[np.float32]:
        """(C,) counts of the source's own brightest pixel."""
        peaks: NDArray[np.float32] = source.stamp.max((1, 2))
        return peaks

    def radius(self, body: Body) -> int:
        """Half a stamp's side in pixels: where every band is below the edge's brightness."""
        scale = self.spec.pixel_scale_arcsec
        reach = 0.0
        for n, band in enumerate(self.spec.bands):
            edge = STAMP_EDGE_SIGMA * self.sky_sigma[n]
            fwhm = band.fwhm_arcsec / scale
            reach = max(reach, 1.5 * fwhm)
            reach = max(reach, _moffat_reach(body.flux[n], fwhm, self.spec.moffat_beta, edge))
            for c in body.components:
                major = c.radius_arcsec / np.sqrt(c.axis_ratio) / scale
                # The PSF spreads the profile: by the width of its core, in quadrature.
                spread = float(np.hypot(_sersic_reach(c.flux[n], c.index, major, edge), fwhm))
                reach = max(reach, spread)
        if self._has_spikes(body):
            reach *= 1.6  # the spikes reach beyond the disc of the wings
        return min(int(np.ceil(reach)), MAX_STAMP_RADIUS_PX)

    def draw(self, body: Body, box: Box) -> NDArray[np.float32]:
        """(C, h, w) counts of a body in a box about its centre."""
        middle = (box.y0 + (box.height - 1) / 2, box.x0 + (box.width - 1) / 2)
        offset = (body.y - middle[0], body.x - middle[1])
        out = np.empty((len(self._psfs), *box.shape), np.float32)
        shape = self._shapes(body)
        for n, psf in enumerate(self._psfs):
            if body.is_star:
                out[n] = self._render(psf, box.shape, offset) * body.flux[n]
                continue
            profile = self._galsim.Sum(
                [s.withFlux(c.flux[n]) for s, c in zip(shape, body.components, strict=True)]
            )
            out[n] = self._render(self._galsim.Convolve(profile, psf), box.shape, offset)
        if self._has_spikes(body):
            spikes = _spikes(box, body.y, body.x)
            out *= 1 - SPIKE_FLUX
            out += SPIKE_FLUX * body.flux[:, None, None].astype(np.float32) * spikes
        # What the FFT leaves below zero at the edges is no light.
        np.maximum(out, 0, out=out)
        return out

    def _shapes(self, body: Body) -> list[Any]:
        shapes = []
        for c in body.components:
            if c.index == 1.0:
                shape = self._galsim.Exponential(half_light_radius=c.radius_arcsec)
            else:
                shape = self._galsim.Sersic(n=c.index, half_light_radius=c.radius_arcsec)
            angle = c.angle_rad * self._galsim.radians
            shapes.append(shape.shear(q=c.axis_ratio, beta=angle))
        return shapes

    def _render(
        self, profile: Any, shape: tuple[int, int], offset: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Counts at pixel centres: the PSF is the effective one, pixel included."""
        image = profile.drawImage(
            nx=shape[1],
            ny=shape[0],
            scale=self.spec.pixel_scale_arcsec,
            offset=(offset[1], offset[0]),
            method="no_pixel",
            dtype=np.float64,
        )
        values: NDArray[np.float64] = image.array
        return values

    def _has_spikes(self, body: Body) -> bool:
        if not body.is_star:
            return False
        limits = np.array([b.saturation_counts for b in self.spec.bands])
        return bool((body.flux * self._peaks > limits).any())


def _moffat_reach(flux: float, fwhm: float, beta: float, edge: float) -> float:
    """Radius in pixels at which a Moffat falls to `edge` counts a pixel."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    ratio = flux * (beta - 1) / (np.pi * alpha**2) / edge
    return float(alpha * np.sqrt(max(ratio ** (1 / beta) - 1, 0.0)))


def _sersic_reach(flux: float, index: float, radius: float, edge: float) -> float:
    """Radius in pixels at which a Sersic profile falls to `edge` counts a pixel."""
    if flux <= 0:
        return 0.0
    b = sersic_b(index)
    centre = flux * b ** (2 * index) / (2 * np.pi * index * gamma(2 * index) * radius**2)
    return float(radius * (max(np.log(centre / edge), 0.0) / b) ** index)


def _spikes(box: Box, y: float, x: float) -> NDArray[np.float32]:
    """Four diffraction spikes that fall as 1/r^2, summing to one."""
    rows, columns = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
    out = np.zeros(box.shape)
    for angle in (SPIKE_ANGLE_RAD, SPIKE_ANGLE_RAD + np.pi / 2):
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
        # Flat inside 4 px, where the saturated core hides them anyway.
        out += np.exp(-0.5 * (across / SPIKE_WIDTH_PX) ** 2) / np.maximum(np.abs(along), 4) ** 2
    return (out / out.sum()).astype(np.float32)
