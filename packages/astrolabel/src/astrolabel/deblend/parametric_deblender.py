"""The built-in deblender: points, Sersic profiles, and discs with bulges, fitted together.

Every source is convolved with each band's PSF and fitted together with its neighbours
(`parametric`). That gives the fluxes with their errors and, for most sources, the model. A source
that no such model fits (a spiral's arms, a star's spikes, a PSF that is not quite right) keeps
its share of the light that the models leave: of every pixel the part that its model has of all
models there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.deblend.base import Blend, BlendFit, SourceFit, independent
from astrolabel.deblend.components import NUISANCE, Component
from astrolabel.deblend.convolve import Image, KernelCache
from astrolabel.deblend.cores import has_core
from astrolabel.deblend.initialize import first_guesses
from astrolabel.deblend.parametric import Parametric
from astrolabel.deblend.shape import profile_of


@dataclass(frozen=True, eq=False)
class Model:
    """One source's light: `light` (C, h, w) float32 counts in `box` of the cutout."""

    box: Box
    light: Image

    @property
    def where(self) -> tuple[slice, slice, slice]:
        return (slice(None), *self.box.slices)


class ParametricDeblender:
    """Built-in deblender; see the module's description.

    The object holds nothing but its configuration and a cache of transforms.
    """

    name = "parametric"

    def __init__(self, config: DeblendConfig) -> None:
        self.config = config
        self._cache = KernelCache()

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
            whole fit is no better than the zero model), ``failed:part of another`` (its
            light has no end where it lies on a larger source).
        """
        image, weights = _sanitised(blend)
        kernels = self._cache.get(blend.psfs)
        shown, shown_weights = _shown(blend, image, weights)
        measured = has_core(_known(shown_weights), blend.psfs, blend.peaks, self.config.min_core)
        if not measured.any():
            sources = tuple(_failed(p, image, "masked") for p in blend.peaks)
            return BlendFit(sources, _chi2_per_pixel(image, weights), 0, False)
        noise = blend.noise or independent(len(image))
        starts = first_guesses(
            shown, shown_weights, blend.psfs, blend.peaks[measured], kernels, self.config.start
        )
        fitted = Parametric(image, weights, kernels, starts, noise, self.config)
        fitted.fit()
        components = [fitted.of(n) for n in range(len(starts))]
        models = [of_components(c) for c in components]
        models = with_shares(models, fitted, self.config)
        found = iter(_sources(fitted, models, image, weights, self.config))
        sources = tuple(
            next(found) if ok else _failed(p, image, "masked")
            for ok, p in zip(measured, blend.peaks, strict=True)
        )
        nuisance = _nuisance_light(fitted)
        residual = image.copy() if nuisance is None else image - nuisance
        for source in sources:
            residual[(slice(None), *source.box.slices)] -= source.model
        return BlendFit(
            sources,
            _chi2_per_pixel(residual, weights),
            fitted.passes,
            fitted.settled,
            nuisance,
        )


def of_components(components: list[Component]) -> Model:
    """The light of all components of one source."""
    box = components[0].box
    for c in components[1:]:
        box |= c.box
    light = np.zeros((len(components[0].flux), *box.shape), np.float32)
    for c in components:
        light[(slice(None), *c.box.slices_in(box))] += c.model
    return Model(box, light)


def with_shares(models: list[Model], fitted: Parametric, config: DeblendConfig) -> list[Model]:
    """The models; galaxies that do not fit have their share of what all models leave.

    The share is of the residual smoothed by `config.share_sigma` of the PSF's width: what is
    left is the structure of a source, and the noise of a pixel is not.
    """
    if not config.share_excess:
        return models
    unfit = [
        not all(c.point for c in fitted.of(n))
        and any(test(m, fitted) > config.share_excess for test in (_excess, _structure))
        for n, m in enumerate(models)
    ]
    if not any(unfit):
        return models
    total = np.maximum(fitted.image - fitted.residual, 0)
    known = fitted.weights > 0
    seen = known.astype(np.float32)
    sigma = config.share_sigma * float(fitted.kernels.psf_sigma.mean())
    wide = (0, sigma, sigma)
    left = ndimage.gaussian_filter(fitted.residual * seen, wide)
    left /= np.maximum(ndimage.gaussian_filter(seen, wide), np.float32(0.1))
    out = []
    for n, model in enumerate(models):
        if not unfit[n]:
            out.append(model)
            continue
        share = np.clip(model.light / np.maximum(total[model.where], np.float32(1e-30)), 0, 1)
        rest = _mirrored(left, known, model.box, fitted.of(n)[0].shape[:2])
        out.append(Model(model.box, np.maximum(model.light + share * rest, 0)))
    return out


def _mirrored(
    left: Image, known: NDArray[np.bool_], box: Box, centre: NDArray[np.float64]
) -> Image:
    """(C, h, w) the rest in a box; where there are no data, that of the mirror image in the
    centre, and zero where that has none either."""
    y, x = np.indices(box.shape)
    mirror = [np.rint(2 * c - a - o).astype(int)
              for c, a, o in zip(centre, (y, x), (box.y0, box.x0), strict=True)]  # fmt: skip
    inside = np.ones(box.shape, bool)
    for m, size in zip(mirror, left.shape[1:], strict=True):
        inside &= (m >= 0) & (m < size)
        np.clip(m, 0, size - 1, out=m)
    there = (slice(None), *mirror)
    other = np.where(known[there] & inside, left[there], 0)
    where = (slice(None), *box.slices)
    out: Image = np.where(known[where], left[where], other).astype(np.float32)
    return out


def _excess(model: Model, fitted: Parametric) -> float:
    """By how many sigma chi2 exceeds the number of pixels where a source is seen."""
    w = fitted.weights[model.where]
    seen = w * model.light**2 > 1
    count = int(np.count_nonzero(seen))
    chi2 = float((w * fitted.residual[model.where] ** 2)[seen].sum(dtype=float))
    return (chi2 - count) / np.sqrt(2 * count) if count else 0.0


def _structure(model: Model, fitted: Parametric) -> float:
    """How significant it is, in sigma, that what a source leaves is alike a seeing FWHM apart.

    Noise is not, whatever its level, and though that of warped pixels is correlated with its next
    neighbours; arms and knots are, for the PSF has made them as wide. So it sees structure also
    where the noise is less than its estimate, as on a galaxy that fills the frame.
    """
    w = fitted.weights[model.where]
    left = np.sqrt(w) * fitted.residual[model.where] * (w * model.light**2 > 1)
    lag = max(2, round(FWHM_PER_SIGMA * float(fitted.kernels.psf_sigma.mean())))
    alike = scatter = 0.0
    for axis in (1, 2):
        ends = [np.moveaxis(left, axis, 1)[:, part] for part in (slice(lag, None), slice(-lag))]
        product = ends[0] * ends[1]
        alike += float(product.sum(dtype=float))
        scatter += float((product**2).sum(dtype=float))
    return alike / np.sqrt(scatter) if scatter else 0.0


def _nuisance_light(fitted: Parametric) -> Image | None:
    own = fitted.of(NUISANCE)
    if not own:
        return None
    out = np.zeros_like(fitted.image)
    for c in own:
        out[c.where] += c.model
    return out


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
        box, light = _trimmed(model, weights, config.trim_sigma)
        where = (slice(None), *box.slices)
        pull = weights[where] * light * (light + 2 * residual[where])
        rise = float(pull.sum(dtype=float))
        if not np.isfinite(rise) or not np.all(np.isfinite(flux)) or not model.light.sum() > 0:
            out.append(_failed(peak, image, "zero flux"))
        elif rise <= config.least_gain or not beaten:
            out.append(_failed(peak, image, "no better than nothing"))
        elif fitted.is_part(n, model.light):
            out.append(_failed(peak, image, "part of another"))
        else:
            single = len(own) == 1
            point = single and (own[0].point or own[0].point_gain < config.extended_gain)
            kind = "point" if point else "extended"
            shape = tuple(profile_of(c) for c in own)
            out.append(SourceFit(box, light, flux, kind, "ok", photometry.error[n], shape))
    return out


def _trimmed(model: Model, weights: Image, trim_sigma: float) -> tuple[Box, Image]:
    """A source without the rows and columns that hold nothing."""
    highest = np.sqrt(weights.reshape(len(weights), -1).max(axis=1))[:, None, None]
    bright = (np.abs(model.light) * highest > trim_sigma).any(axis=0)
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
    """Image and weights with the saturated pixels as they are: they hold little of the
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
