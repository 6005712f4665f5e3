"""The built-in deblender: constrained matrix factorisation of one blend.

Each source is a non-negative spectrum times a non-negative morphology that falls away
from its peak, in a frame whose PSF is narrower than any observed one; each band is the
sum of the sources convolved with that band's difference kernel (the model of scarlet,
Melchior et al. 2018). Here chi2 is minimised by accelerated proximal steps on all
morphologies at once, with least-squares spectra in between. All sources are summed
before they are convolved, so that a step costs the same few transforms however many
there are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.box import Box
from astrolabel.config import DeblendConfig
from astrolabel.deblend import start as starting
from astrolabel.deblend.base import Blend, BlendFit, SourceFit
from astrolabel.deblend.convolve import KernelCache, fwhm_sigma
from astrolabel.deblend.factors import Factors, Solution
from astrolabel.deblend.scene import Image, Scene

STEPS_BETWEEN_SPECTRA = 5
"""Morphology steps between two least-squares solutions of the spectra: fewer pay more
for the rendering of the templates than they gain, more follow outdated colours."""
CENTRING_STEPS = 2
"""Newton steps of the points' positions before shapes are measured: an offset of a tenth
of a pixel in a bright star looks like a disc."""
EDGE_MARGIN_PX = 6
"""A source whose peak is nearer to the cutout's edge than a model PSF's box is modelled
beyond the edge too, where there is no data: the light inside needs it."""
MIN_CORE = 0.5
"""A source needs data on this fraction of the pixels within its PSF's core."""


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
            ``failed:no better than nothing`` (removing it does not raise chi2, or the
            whole fit is no better than the zero model).
        """
        image, weights = _sanitised(blend)
        kernels = self._cache.get(blend.psfs)
        measured = _has_core(weights, blend.psfs, blend.peaks)
        if not measured.any():
            sources = tuple(_failed(p, image, "masked") for p in blend.peaks)
            return BlendFit(sources, _zero_chi2(image, weights), 0, False)
        margin = _margin(blend.peaks, image.shape)
        around = ((0, 0), (margin, margin), (margin, margin))
        scene = Scene(np.pad(image, around), np.pad(weights, around), kernels)
        factors = _initial(scene, blend.psfs, blend.peaks[measured] + margin)
        solution, iterations, converged = _iterate(factors, scene, self.config)
        alive = (_inside(s, margin, image.shape) for s in _finished(factors, scene, solution))
        sources = tuple(
            next(alive) if ok else _failed(p, image, "masked")
            for ok, p in zip(measured, blend.peaks, strict=True)
        )
        return BlendFit(sources, scene.chi2_per_pixel(solution.chi2), iterations, converged)


def _sanitised(blend: Blend) -> tuple[Image, Image]:
    good = np.isfinite(blend.image) & np.isfinite(blend.weights) & (blend.weights > 0)
    zero = np.float32(0)
    image = np.where(good, blend.image, zero).astype(np.float32)
    return image, np.where(good, blend.weights, zero).astype(np.float32)


def _known(weights: Image) -> NDArray[np.bool_]:
    """(H, W): measured in some band."""
    return np.asarray((weights > 0).any(axis=0), bool)


def _zero_chi2(image: Image, weights: Image) -> float:
    return float((weights * image**2).sum(dtype=float)) / max(int(np.count_nonzero(weights)), 1)


def _has_core(weights: Image, psfs: Image, peaks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) bool: whether enough pixels within the PSF's HWHM have data in some band."""
    known = _known(weights)
    radius = 1.18 * fwhm_sigma(psfs.mean(axis=0))
    y, x = np.mgrid[: known.shape[0], : known.shape[1]]
    out = np.zeros(len(peaks), bool)
    for n, (py, px) in enumerate(peaks):
        core = Box.around(py, px, int(np.ceil(radius))) & Box.of_shape(known.shape)
        s = core.slices
        near = np.hypot(y[s] - py, x[s] - px) <= max(radius, 1.0)
        out[n] = near.any() and known[s][near].mean() >= MIN_CORE
    return out


def _margin(peaks: NDArray[np.float64], shape: tuple[int, ...]) -> int:
    """Pixels without data to add around the cutout; none unless a peak is near its edge."""
    distance = np.minimum(peaks, np.array(shape[-2:]) - 1 - peaks).min()
    return EDGE_MARGIN_PX if distance < EDGE_MARGIN_PX else 0


def _inside(source: SourceFit, margin: int, shape: tuple[int, ...]) -> SourceFit:
    """A source of the widened cutout, in the frame of the cutout and cut to it."""
    if margin == 0:
        return source
    frame = Box.of_shape(shape).shifted(margin, margin)
    box = source.box & frame
    if box.area == 0:
        y, x = np.clip([source.box.y0, source.box.x0], margin, np.array(frame.shape) + margin - 1)
        box, model = Box(int(y), int(x), 1, 1), np.zeros((shape[0], 1, 1), np.float32)
    else:
        model = np.ascontiguousarray(source.model[(slice(None), *box.slices_in(source.box))])
    return replace(source, box=box.shifted(-margin, -margin), model=model)


def _initial(scene: Scene, psfs: Image, peaks: NDArray[np.float64]) -> Factors:
    detection = starting.significance(scene.image, scene.weights)
    psf = starting.detection_psf(psfs, scene.weights)
    known = _known(scene.weights)
    kernels = scene.kernels
    guesses = [starting.first_guess(detection, known, psf, y, x, kernels) for y, x in peaks]
    return Factors(guesses, peaks, scene)


def _iterate(factors: Factors, scene: Scene, config: DeblendConfig) -> tuple[Solution, int, bool]:
    """Alternate morphology steps and spectra until chi2 stands still."""
    solution = factors.solve_spectra(scene)
    factors.set_steps(scene)
    for _ in range(CENTRING_STEPS):
        factors.centre(scene)
    solution = factors.solve_spectra(scene)
    if factors.reshape(scene, solution, config.extended_gain):
        solution = factors.solve_spectra(scene)
    iterations, converged = 0, False
    while iterations < config.max_iterations and not converged:
        factors.set_steps(scene)
        for _ in range(min(STEPS_BETWEEN_SPECTRA, config.max_iterations - iterations)):
            factors.step(scene)
            iterations += 1
        before = solution.chi2
        changed = factors.grow(scene)
        solution = factors.solve_spectra(scene)
        changed |= factors.reshape(scene, solution, config.extended_gain, points_only=True)
        gain = before - solution.chi2
        converged = not changed and gain < config.tolerance * before
    if changed:
        solution = factors.solve_spectra(scene)
    return solution, iterations, converged


def _failed(peak: NDArray[Any], image: Image, reason: str) -> SourceFit:
    """A source without light: its peak's pixel, all zero."""
    y, x = np.clip(np.rint(peak), 0, np.array(image.shape[1:]) - 1).astype(int)
    bands = image.shape[0]
    model = np.zeros((bands, 1, 1), np.float32)
    return SourceFit(Box(int(y), int(x), 1, 1), model, np.zeros(bands), "point", f"failed:{reason}")


def _finished(factors: Factors, scene: Scene, solution: Solution) -> list[SourceFit]:
    """Every source alone, with its state."""
    residual = scene.image - solution.model
    beaten = solution.chi2 < scene.chi2(np.zeros_like(scene.image))
    out = []
    for n, (box, template) in enumerate(zip(solution.boxes, solution.templates, strict=True)):
        flux = solution.flux[n]
        kind = "point" if factors.points[n] else "extended"
        model = template * flux[:, None, None].astype(np.float32)
        s = (slice(None), *box.slices)
        rise = float((scene.weights[s] * model * (model + 2 * residual[s])).sum(dtype=float))
        if not np.isfinite(rise) or not np.all(np.isfinite(flux)) or flux.sum() <= 0:
            out.append(_failed(factors.peaks[n], scene.image, "zero flux"))
        elif rise <= 0 or not beaten:
            out.append(_failed(factors.peaks[n], scene.image, "no better than nothing"))
        else:
            box, model = scene.trimmed(box, model)
            out.append(SourceFit(box, model, flux, kind))
    return out
