"""From what is on the sky to noiseless stamps, truth masks and images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config.simulate import SimulateConfig
from astrolabel.core.config.surveys import SurveySpec
from astrolabel.simulate import defects, planes
from astrolabel.simulate.artist import MASK_SIGMA, Artist
from astrolabel.simulate.noise import draw_noise
from astrolabel.simulate.population import Body, Sky, draw_bright, draw_cluster, draw_system

EIGHT_CONNECTED = np.ones((3, 3), bool)
"""Masks that touch at a corner are one group, as sep has it."""
SKY_STREAM, NOISE_STREAM, BRIGHT_STREAM, CORE_STREAM, DEFECT_STREAM = 1, 2, 5, 6, 7
"""Streams of random numbers of their own: the noise does not change when the drawing
takes a number more. The catalogs have 3 and 4."""
RAGGED_CORE = 0.25
"""Scatter of the log of saturated pixels around a bright star, where a coadd has averaged
and mended what few exposures left: half to twice the typical in a real DR7 cutout."""

MOST_DRAWN = 12
"""Sources drawn for each wanted with a mask: a scene too shallow for its density has fewer."""

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


def draw_scene(
    config: SimulateConfig, progress: Progress | None = None, extra: Iterable[Body] = ()
) -> Scene:
    """A scene, all of it decided by `config`.

    Systems (stars; galaxies with their companions) are drawn until as many sources have
    a mask as the density asks for; the fainter ones drawn with them stay in the image.

    Parameters
    ----------
    progress : called with the number of masked sources drawn and wanted.
    extra : bodies that are added to the scene.

    Raises
    ------
    InputError
        When the catalog of galaxies cannot be read.
    """
    artist, side = Artist(config), config.side
    sky, rng = Sky.of(config), np.random.default_rng([config.seed, SKY_STREAM])
    frame = Box(0, 0, side, side)
    no_data = _no_data(config)
    sources: list[Source] = []
    found = 0
    while found < config.n_masked and len(sources) < MOST_DRAWN * config.n_masked + 100:
        for body in draw_system(rng, sky):
            source = _source(artist, body, frame, no_data, len(sources))
            if source is None:
                continue
            sources.append(source)
            found += source.has_mask
        if progress is not None:
            progress(min(found, config.n_masked), config.n_masked)
    bright = np.random.default_rng([config.seed, BRIGHT_STREAM])
    added = draw_bright(bright, config)
    for _ in range(config.defects.star_clusters):
        added += draw_cluster(bright, config)
    for body in (*added, *extra):
        source = _source(artist, body, frame, no_data, len(sources))
        if source is not None:
            sources.append(source)
    return _assemble(config, artist, sources, no_data)


def as_coadd(scene: Scene) -> Coadd:
    """The scene as the reader would give its files."""
    valid = np.isfinite(scene.image) & np.isfinite(scene.variance) & (scene.variance > 0)
    spec = scene.spec
    return Coadd(
        name="simulated",
        bands=spec.band_names,
        image=scene.image,
        variance=scene.variance,
        valid=valid,
        psfs=scene.psfs,
        zeropoints=(spec.zeropoint,) * len(spec.bands),
        planes=planes.BITS,
        mask=scene.mask,
        wcs=scene.wcs,
        origin=spec.origin,
        tract=spec.tract,
        patch=spec.patch,
    )


def draw_bodies(config: SimulateConfig, bodies: Iterable[Body]) -> Scene:
    """A scene of the sources given instead of drawn ones; the density plays no part."""
    artist = Artist(config)
    frame = Box(0, 0, config.side, config.side)
    no_data = _no_data(config)
    sources: list[Source] = []
    for body in bodies:
        source = _source(artist, body, frame, no_data, len(sources))
        if source is not None:
            sources.append(source)
    return _assemble(config, artist, sources, no_data)


def _assemble(
    config: SimulateConfig, artist: Artist, sources: list[Source], no_data: NDArray[np.bool_]
) -> Scene:
    """The sources added up and observed."""
    spec, side = config.spec, config.side
    model = np.zeros((len(spec.bands), side, side), np.float32)
    for source in sources:
        model[(slice(None), *source.box.slices)] += source.stamp
    sources = _blends(sources, model)
    return _observe(config, artist, model, sources, no_data)


def _no_data(config: SimulateConfig) -> NDArray[np.bool_]:
    return _corner(config) | defects.border(config.defects, config.side)


def _corner(config: SimulateConfig) -> NDArray[np.bool_]:
    return planes.missing_corner(config.side, config.no_data_fraction)


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
    if mask.sum() < artist.config.min_area:
        mask[:] = False
    return Source(planes.FIRST_OBJECT_ID + number, body, box, stamp, mask)


def _blends(sources: list[Source], model: NDArray[np.float32]) -> list[Source]:
    """The sources with blendedness and group filled in."""
    everything = model.sum(0, dtype=np.float64)
    union = np.zeros(model.shape[1:], bool)
    for source in sources:
        union[source.box.slices] |= source.mask
    labels, _ = ndimage.label(union, EIGHT_CONNECTED)
    groups = [int(labels[s.box.slices][s.mask][0]) if s.has_mask else 0 for s in sources]
    members = np.bincount(groups, minlength=1)
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
) -> Scene:
    """Noise, background, defects, saturation and missing data on the noiseless model."""
    spec = config.spec
    noise = np.random.default_rng([config.seed, NOISE_STREAM])
    gain = np.array([b.electrons_per_count for b in spec.bands])[:, None, None]
    variance = (artist.sky_sigma[:, None, None] ** 2 + model / gain).astype(np.float32)
    # Enough photons everywhere (the sky's) for Poisson noise to be Gaussian.
    image = model + np.sqrt(variance) * draw_noise(config.noise, noise, model.shape)
    other = np.random.default_rng([config.seed, DEFECT_STREAM])
    image += defects.added_light(config, other, artist.sky_sigma)
    limit = np.array([b.saturation_counts for b in spec.bands], np.float32)[:, None, None]
    saturated = model > limit
    image = np.where(saturated, np.minimum(image, limit), image)
    if any(source.body.artifacts is not None for source in sources):
        core = np.random.default_rng([config.seed, CORE_STREAM])
        ragged = np.exp(RAGGED_CORE * core.standard_normal(model.shape, np.float32))
        image = np.where(saturated, image * ragged, image)
    marked = no_data if config.defects.border_fill == "nan" else _corner(config)
    mask = planes.make_mask(model, artist.sky_sigma, saturated, marked)
    for source in sources:
        if source.body.is_star and source.body.i_mag < planes.BRIGHT_STAR_DEPTH + spec.bright_mag:
            planes.mark_bright_star(mask, source.body, spec)
    variance *= np.float32(config.noise.variance_factor)
    fill = {"nan": np.nan, "zero": 0.0, "sentinel": defects.SENTINEL}[config.defects.border_fill]
    image[:, no_data] = fill
    image[:, marked] = np.nan
    variance[:, marked] = np.inf
    found = [
        replace(s, saturated=bool((s.stamp.max((1, 2)) > limit[:, 0, 0]).any())) for s in sources
    ]
    return Scene(
        config=config,
        spec=spec,
        image=image.astype(np.float32),
        variance=variance,
        model=model,
        mask=mask,
        psfs=artist.psf_stamps(config.psf.claimed_fwhm_ratio).astype(np.float32),
        sky_sigma=artist.sky_sigma,
        sources=tuple(found),
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
