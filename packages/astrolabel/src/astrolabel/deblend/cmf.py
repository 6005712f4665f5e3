"""The built-in deblender: parametric models, and free shapes where these do not fit.

Every source is a point, a Sersic profile or a disc with a bulge, convolved with each band's
PSF and fitted together with its neighbours (`parametric`). These give the fluxes with their
errors and, for most sources, the model. What such a model does not fit (a spiral's arms, a
star's spikes, a PSF that is not quite right) gets a free shape: a non-negative spectrum
times a non-negative morphology that falls away from its peak, in a frame whose PSF is
narrower than any observed one (the model of scarlet, Melchior et al. 2018). There chi2 is
minimised by accelerated proximal steps on all free morphologies at once, with
least-squares spectra in between; the free shape is kept where it lowers chi2 by more than
the noise would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.deblend import initialize as starting
from astrolabel.deblend.base import Blend, BlendFit, SourceFit, independent
from astrolabel.deblend.components import NOBODY
from astrolabel.deblend.convolve import KernelCache, Kernels
from astrolabel.deblend.cores import has_core
from astrolabel.deblend.initialize import Start
from astrolabel.deblend.nonparametric import Model, freed, of_components
from astrolabel.deblend.parametric import Parametric
from astrolabel.deblend.scene import TRIM_SIGMA, Image

LEAST_GAIN = 1.0
"""A source that lowers chi2 by less is none: noise alone gains this with one flux."""


class CMFDeblender:
    """Built-in deblender; see the module's description.

    The object holds nothing but its configuration and a cache of transforms.
    """

    name = "cmf"

    def __init__(self, config: DeblendConfig) -> None:
        self.config = config
        self._cache = KernelCache(config.model_psf_sigma_px)

    def fit(self, blend: Blend) -> BlendFit:
        """Fit all sources of a blend together.

        Parameters
        ----------
        blend : as described in `Blend`. Pixels that are not finite in spite of that get
            no weight.

        Returns
        -------
        BlendFit
            One `SourceFit` per peak. States that are not ``ok``:
            ``failed:masked`` (no data on its core), ``failed:zero flux``,
            ``failed:no better than nothing`` (removing it hardly raises chi2, or the
            whole fit is no better than the zero model).
        """
        image, weights = _sanitised(blend)
        kernels = self._cache.get(blend.psfs)
        shown, shown_weights = _shown(blend, image, weights)
        measured = has_core(_known(shown_weights), blend.psfs, blend.peaks)
        if not measured.any():
            sources = tuple(_failed(p, image, "masked") for p in blend.peaks)
            return BlendFit(sources, _chi2_per_pixel(image, weights), 0, False)
        noise = blend.noise or independent(len(image))
        starts = _starts(shown, shown_weights, blend.psfs, blend.peaks[measured], kernels)
        fitted = Parametric(image, weights, kernels, starts, noise, self.config.max_iterations)
        fitted.fit()
        components = [fitted.of(n) for n in range(len(starts))]
        models, steps = freed(
            [of_components(c) for c in components],
            components,
            fitted.residual,
            weights,
            kernels,
            self.config,
        )
        found = iter(_sources(fitted, models, image, weights, self.config))
        sources = tuple(
            next(found) if ok else _failed(p, image, "masked")
            for ok, p in zip(measured, blend.peaks, strict=True)
        )
        unlisted = _unlisted(fitted)
        residual = image.copy() if unlisted is None else image - unlisted
        for source in sources:
            residual[(slice(None), *source.box.slices)] -= source.model
        return BlendFit(
            sources,
            _chi2_per_pixel(residual, weights),
            fitted.sweeps + steps,
            fitted.settled,
            unlisted,
        )


def _unlisted(fitted: Parametric) -> Image | None:
    own = fitted.of(NOBODY)
    if not own:
        return None
    out = np.zeros_like(fitted.image)
    for c in own:
        out[c.where] += c.model
    return out


def _starts(
    image: Image, weights: Image, psfs: Image, peaks: NDArray[np.float64], kernels: Kernels
) -> list[Start]:
    detection = starting.significance(image, weights)
    psf = starting.detection_psf(psfs, weights)
    known = _known(weights)
    return starting.first_guesses(detection, known, psf, peaks, kernels)


def _sources(
    fitted: Parametric, models: list[Model], image: Image, weights: Image, config: DeblendConfig
) -> list[SourceFit]:
    """Every source alone, with its fluxes, their errors, and its state."""
    photometry = fitted.photometry(len(models))
    residual = fitted.residual
    beaten = (weights * residual**2).sum(dtype=float) < (weights * image**2).sum(dtype=float)
    out = []
    for n, model in enumerate(models):
        own = fitted.of(n)
        peak, flux = np.array(own[0].peak), photometry.flux[n]
        box, light = _trimmed(model, weights)
        where = (slice(None), *box.slices)
        pull = weights[where] * light * (light + 2 * residual[where])
        rise = float(pull.sum(dtype=float))
        if not np.isfinite(rise) or not np.all(np.isfinite(flux)) or not model.light.sum() > 0:
            out.append(_failed(peak, image, "zero flux"))
        elif rise <= LEAST_GAIN or not beaten:
            out.append(_failed(peak, image, "no better than nothing"))
        else:
            single = len(own) == 1
            point = single and (own[0].point or own[0].point_gain < config.extended_gain)
            kind = "point" if point else "extended"
            out.append(SourceFit(box, light, flux, kind, flux_err=photometry.error[n]))
    return out


def _trimmed(model: Model, weights: Image) -> tuple[Box, Image]:
    """A source without the rows and columns that hold nothing."""
    highest = np.sqrt(weights.reshape(len(weights), -1).max(axis=1))[:, None, None]
    bright = (np.abs(model.light) * highest > TRIM_SIGMA).any(axis=0)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if rows.size == 0:
        rows, columns = np.array([model.box.height // 2]), np.array([model.box.width // 2])
    inner = Box.from_corners(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    light = np.ascontiguousarray(model.light[(slice(None), *inner.slices)])
    return inner.shifted(model.box.y0, model.box.x0), light


def _sanitised(blend: Blend) -> tuple[Image, Image]:
    good = np.isfinite(blend.image) & np.isfinite(blend.weights) & (blend.weights > 0)
    zero = np.float32(0)
    image = np.where(good, blend.image, zero).astype(np.float32)
    return image, np.where(good, blend.weights, zero).astype(np.float32)


def _shown(blend: Blend, image: Image, weights: Image) -> tuple[Image, Image]:
    """Image and weights with the saturated pixels as they are: they tell little of the
    light and much of where and how large a source is."""
    if blend.saturated is None:
        return image, weights
    full = blend.saturated & np.isfinite(blend.image)
    highest = weights.reshape(len(weights), -1).max(axis=1)[:, None, None]
    return np.where(full, blend.image, image), np.where(full, highest, weights)


def _known(weights: Image) -> NDArray[np.bool_]:
    """(H, W): measured in some band."""
    return np.asarray((weights > 0).any(axis=0), bool)


def _chi2_per_pixel(residual: Image, weights: Image) -> float:
    """Over the (band, pixel) values that have weight."""
    chi2 = float((weights * residual**2).sum(dtype=float))
    return chi2 / max(int(np.count_nonzero(weights)), 1)


def _failed(peak: NDArray[Any], image: Image, reason: str) -> SourceFit:
    """A source without light: its peak's pixel, all zero."""
    y, x = np.clip(np.rint(peak), 0, np.array(image.shape[1:]) - 1).astype(int)
    bands = image.shape[0]
    model = np.zeros((bands, 1, 1), np.float32)
    return SourceFit(Box(int(y), int(x), 1, 1), model, np.zeros(bands), "point", f"failed:{reason}")
