"""Label one tile: detect -> deblend -> mask -> classify. No files are touched here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.catalog import Catalog
from astrolabel.catalog.classify import Classes, classify
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DeblendConfig, LabelConfig, MaskConfig
from astrolabel.core.masks import threshold_mask
from astrolabel.core.notes import Note, doubt
from astrolabel.deblend import Deblender
from astrolabel.deblend.base import Blend, SourceFit
from astrolabel.deblend.grouping import Grouping, brightest_first, cut_blend, group_footprints
from astrolabel.deblend.sky import level_of, measure_sky
from astrolabel.deblend.star_halo import Halo, take_halos
from astrolabel.detect.detect import Detections, detect
from astrolabel.detect.image import DetectionImage, detection_image
from astrolabel.io import coco
from astrolabel.label import flags
from astrolabel.label.attributes import attributes
from astrolabel.label.records import Source, TileLabels, magnitudes, sky_sigma
from astrolabel.label.tiles import Tile

SKY_AGAIN = (16, 8, 4, 2)
"""The sky is measured again when one in so many groups, the brightest, is fitted and
subtracted. Their wings are half of the light between the sources, and no part of the sky
under the fainter ones. Its noise, which costs more, only at the first of these times."""


def label_tile(
    coadd: Coadd,
    tile: Tile,
    config: LabelConfig,
    deblender: Deblender,
    catalog: Catalog | None,
    owned: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]] | None = None,
) -> TileLabels:
    """Label the sources of one tile.

    Parameters
    ----------
    coadd : the pixels of ``tile.outer``.
    catalog : objects around the tile, or None for the scheme ``none``.
    owned : which positions (y, x), in the pixels of ``tile.outer``, are not another
        coadd's; all by default. What is another's becomes an ignore region.

    Returns
    -------
    TileLabels
        An annotation for every source with a class and a mask in ``tile.core``; every
        detection is listed with its state.
    """
    core = tile.core_in_outer
    detection = detection_image(coadd, config.detect)
    found = detect(coadd, detection, config.detect)
    sources, chi2, left = deblend(coadd, detection, core, config, deblender, found)
    classes = _classes(coadd, sources, config, catalog)
    ra, dec = coadd.world([s.centre[0] for s in sources], [s.centre[1] for s in sources])
    elsewhere = _elsewhere(sources, core, owned)
    # Saturated pixels had no weight in the fit: what it leaves there is no fault of it.
    fitted = detection.valid & ~coadd.plane("SAT").any(axis=0)
    residual = np.where(fitted, left / detection.sigma, np.nan).astype(np.float32)
    annotations, listed = [], []
    for k, source in enumerate(sources):
        state = source.state
        clipped = source.mask.clipped(core) if source.mask is not None else None
        if clipped is None:
            state = "skipped:outside the tile" if state == "ok" else state
        elif clipped.area < config.mask.min_area:
            state = f"skipped:mask below {config.mask.min_area} pixels"
            clipped = clipped if config.mask.keep_small else None
        else:
            state = "skipped:labelled in another coadd" if elsewhere[k] else classes.state[k]
        small = state.startswith("skipped:mask below")
        keep = config.classify.keep_unmatched or elsewhere[k] or small
        if clipped is not None and (state == "ok" or keep):
            annotations.append(
                coco.annotation(
                    mask=clipped.pixels,
                    box=clipped.box,
                    image_shape=core.shape,
                    # An ignore region needs a category too: COCO has none for "unknown".
                    category_id=max(int(classes.category_id[k]), 1),
                    iscrowd=0 if state == "ok" else 1,
                    attributes=attributes(
                        coadd, source, (ra[k], dec[k]), core, classes, k, config, residual
                    )
                    | ({} if state == "ok" else {"ignored": state.removeprefix("skipped:")}),
                )
            )
        listed.append(
            {"y": round(source.y - core.y0, 2), "x": round(source.x - core.x0, 2), "state": state}
        )
    return TileLabels(
        annotations, listed, sky_sigma(coadd), chi2, residual[core.slices].copy(), _notes(found)
    )


def _notes(found: Detections) -> tuple[Note, ...]:
    if found.nebulosity is None:
        return ()
    text = "nebulosity taken out of some tiles: only sources on it are labelled"
    return (doubt("labels", f"{text} (detect.nebulosity never keeps it)"),)


def _elsewhere(
    sources: list[Source],
    core: Box,
    owned: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]] | None,
) -> NDArray[np.bool_]:
    """(N,) whether a source in the core is another coadd's.

    A peak beyond the core is a neighbouring tile's, of this coadd or of another: its light in
    here is labelled all the same.
    """
    if owned is None or not sources:
        return np.zeros(len(sources), bool)
    inside = np.array([core.contains(s.y, s.x) for s in sources])
    return inside & ~owned(np.array([s.y for s in sources]), np.array([s.x for s in sources]))


def deblend(
    coadd: Coadd,
    detection: DetectionImage,
    core: Box,
    config: LabelConfig,
    deblender: Deblender,
    found: Detections | None = None,
    keep_models: bool = False,
) -> tuple[list[Source], float, NDArray[np.float32]]:
    """Detect, fit group by group, and mask.

    Parameters
    ----------
    found : the sources, where they are known; else they are detected.
    keep_models : whether the sources hold their models, which take some memory.

    Returns the sources, chi2 per pixel of all fits, and what the models leave of the
    detection image: (H, W) counts. Groups whose footprint does not reach `core` are left
    out: they are another tile's.
    """
    found = detect(coadd, detection, config.detect) if found is None else found
    if found.nebulosity is not None:
        coadd = found.nebulosity.out_of(coadd)
        detection = detection_image(coadd, config.detect)
    significance = (detection.image / detection.sky_sigma).astype(np.float32)
    grouping = group_footprints(found.footprint, significance, found.peaks, config.deblend)
    pixels = _Pixels(coadd, detection, significance, config.deblend)
    halos = pixels.take_halos(coadd, found.peaks)
    found_in: list[list[Source]] = [[] for _ in grouping.groups]
    chi2, count = 0.0, 0
    order = [
        k
        for k in brightest_first(grouping, found.peaks, significance)
        if (grouping.groups[k].box & core).area
    ]
    again = [max(len(order) // n, 1) for n in SKY_AGAIN]
    for done, index in enumerate(order):
        if done in again:
            pixels.measure_sky_again(coadd.psfs, core, noise_too=done == again[0])
        group = grouping.groups[index]
        if group.state != "ok":
            found_in[index] = [
                Source(float(y), float(x), int(n), group.state)
                for (y, x), n in zip(
                    found.peaks[group.peaks], grouping.n_blended[group.peaks], strict=True
                )
            ]
            continue
        blend = pixels.blend(coadd, found.peaks, grouping, index)
        fit = deblender.fit(blend)
        n = int((blend.weights > 0).sum())
        chi2, count = chi2 + fit.chi2_per_pixel * n, count + n
        n_blended = grouping.n_blended[group.peaks].tolist()
        for k, together, one in zip(group.peaks, n_blended, fit.sources, strict=True):
            peak, halo = found.peaks[k], halos.get(int(k))
            source = _source(
                peak, together, one, fit.converged, group.box, detection, config.mask, halo
            )
            if keep_models and one.state == "ok":
                source = replace(source, model=_whole(one, group.box, halo))
            found_in[index].append(source)
            if one.state == "ok":
                pixels.subtract(one, group.box, halo)
    sources = [source for group_sources in found_in for source in group_sources]
    return sources, chi2 / count if count else float("nan"), pixels.left


class _Pixels:
    """A tile while its groups are fitted, the brightest first.

    Attributes
    ----------
    image : (C, H, W) float32 counts less the sky and all sources fitted so far: what reaches
        into the groups that are still to be fitted is not theirs.
    weights : (C, H, W) float32, 1/variance, zero where not valid.
    saturated : (H, W) bool.
    significance : (H, W) float32, the detection image in sigma of empty sky.
    sky : as last measured.
    left : (H, W) float32 counts, the detection image less the sources.
    """

    def __init__(
        self,
        coadd: Coadd,
        detection: DetectionImage,
        significance: NDArray[np.float32],
        config: DeblendConfig,
    ) -> None:
        self._config = config
        self.image, self.weights = coadd.weighted(coadd.valid)
        self.saturated = np.asarray(coadd.plane("SAT").any(axis=0), bool)
        self.significance = significance
        self.left = detection.image.astype(np.float32)
        self._band_weights = detection.band_weights
        self._steps = coadd.steps
        self.sky = measure_sky(
            self.image, self.weights, coadd.psfs, significance, config.sky, self._steps
        )
        self.image -= self.sky.level[:, None, None]

    def take_halos(self, coadd: Coadd, peaks: NDArray[np.float64]) -> dict[int, Halo]:
        """The halos and spikes of saturated stars, by the star's peak; out of `image`."""
        return take_halos(
            self.image, self.weights, self.saturated, coadd.psfs_at, peaks, self._config.halo
        )

    def measure_sky_again(self, psfs: NDArray[np.float32], core: Box, noise_too: bool) -> None:
        """Subtract what is now known to be sky inside `core`; its noise costs more."""
        image, weights = (a[(slice(None), *core.slices)] for a in (self.image, self.weights))
        if noise_too:
            self.sky = measure_sky(
                image, weights, psfs, self.significance[core.slices], self._config.sky, self._steps
            )
            level = self.sky.level
        else:
            level = level_of(image, weights, self.sky.empty, self._config.sky, self._steps)
        self.image -= level[:, None, None]

    def blend(
        self, coadd: Coadd, peaks: NDArray[np.float64], grouping: Grouping, index: int
    ) -> Blend:
        """The cutout of one group, with the PSFs of its middle."""
        box = grouping.groups[index].box
        psfs = coadd.psfs_at(box.y0 + box.height / 2, box.x0 + box.width / 2)
        return cut_blend(
            self.image, self.weights, psfs, peaks, grouping, index, self.sky.noise, self.saturated
        )

    def subtract(self, fit: SourceFit, cutout: Box, halo: Halo | None) -> None:
        """Take a source out of `image` and `left`; its halo is out of `image` already."""
        box = fit.box.shifted(cutout.y0, cutout.x0)
        self.image[(slice(None), *box.slices)] -= fit.model
        self.left[box.slices] -= np.tensordot(self._band_weights, fit.model, 1)
        if halo is not None:
            self.left[halo.box.slices] -= np.tensordot(self._band_weights, halo.light, 1)


def _source(
    peak: NDArray[np.float64],
    n_blended: int,
    fit: SourceFit,
    converged: bool,
    cutout: Box,
    detection: DetectionImage,
    config: MaskConfig,
    halo: Halo | None = None,
) -> Source:
    y, x = float(peak[0]), float(peak[1])
    if fit.state != "ok":
        return Source(y, x, n_blended, fit.state)
    box, model, flux = fit.box.shifted(cutout.y0, cutout.x0), fit.model, fit.flux
    if halo is not None:
        box, model, full = halo.joined(box, model)
        flux = flux + halo.light.sum(axis=(1, 2), dtype=float)
    light = np.tensordot(detection.band_weights, model, 1).astype(np.float32)
    if halo is not None:  # what is full is the star's, whatever is known of its light
        least = np.float32(1.01 * config.threshold_sigma) * detection.sky_sigma[box.slices]
        light[full] = np.maximum(light, least)[full]
    # In units of the threshold: the light, which is a small box, not the noise of the tile.
    mask = threshold_mask(
        light / np.float32(config.threshold_sigma), box, detection.sky_sigma, (y, x)
    )
    if (mask is None or mask.area < config.min_area) and config.faint < 1:
        fainter = light / np.float32(config.faint * config.threshold_sigma)
        mask = threshold_mask(fainter, box, detection.sky_sigma, (y, x))
    if mask is None:
        return Source(y, x, n_blended, "skipped:its flux is below the mask's threshold")
    centre, total = mask.light_inside(light, box)
    noise = np.sqrt((detection.sigma[mask.box.slices][mask.pixels] ** 2).sum())
    frame = Box.of_shape(detection.image.shape)
    return Source(
        y,
        x,
        n_blended,
        "ok",
        mask,
        centre,
        flux,
        fit.flux_err,
        float(total / noise) if noise > 0 else float("nan"),
        fit.kind,
        flags.of_fit(mask, n_blended, flux, converged, box, frame),
        tuple(
            replace(p, centre=(p.centre[0] + cutout.y0, p.centre[1] + cutout.x0))
            for p in fit.profiles
        ),
    )


def _whole(fit: SourceFit, cutout: Box, halo: Halo | None) -> tuple[Box, NDArray[np.float32]]:
    """A source's model, with its halo, in the pixels that the cutout lies in."""
    box = fit.box.shifted(cutout.y0, cutout.x0)
    return (box, fit.model) if halo is None else halo.joined(box, fit.model)[:2]


def _classes(
    coadd: Coadd, sources: list[Source], config: LabelConfig, catalog: Catalog | None
) -> Classes:
    """The class of every source; those without a mask take no part in the match."""
    ok = np.flatnonzero([s.state == "ok" for s in sources])
    chosen = [sources[k] for k in ok]
    ra, dec = coadd.world([s.centre[0] for s in chosen], [s.centre[1] for s in chosen])
    band = config.classify.magnitude_band
    magnitude = None
    if band in coadd.bands:
        flux = np.array([s.flux for s in chosen]).reshape(-1, len(coadd.bands))
        magnitude = magnitudes(flux, coadd.zeropoints)[:, coadd.bands.index(band)]
    found = classify(ra, dec, magnitude, catalog, config.classify)
    place = {int(k): i for i, k in enumerate(ok)}
    rows = [place.get(k, -1) for k in range(len(sources))]
    return Classes(
        category_id=np.array([found.category_id[i] if i >= 0 else 0 for i in rows], np.int64),
        catalog_index=np.array([found.catalog_index[i] if i >= 0 else -1 for i in rows], np.int64),
        object_id=np.array([str(found.object_id[i]) if i >= 0 else "" for i in rows], np.str_),
        separation_arcsec=np.array(
            [found.separation_arcsec[i] if i >= 0 else np.nan for i in rows], float
        ),
        state=tuple(
            found.state[i] if i >= 0 else s.state for i, s in zip(rows, sources, strict=True)
        ),
    )
