"""Free shapes for the sources that no parametric model fits.

A non-negative spectrum times a non-negative morphology that falls away from its peak, in a
frame whose PSF is narrower than any observed one; the bands are convolved with difference
kernels (the model of scarlet, Melchior et al. 2018). chi2 is minimised by accelerated
proximal steps on all free morphologies of a blend at once, with least-squares spectra in
between. They begin as the parametric models that they replace. Where there are no data
they take the value of their point-symmetric counterpart; where that is not known either
they go on as they began, as under the saturated core of a star.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.deblend.components import Component
from astrolabel.deblend.convolve import Kernels
from astrolabel.deblend.factors import Factors, Solution
from astrolabel.deblend.scene import Image, Scene
from astrolabel.deblend.shapes import drawn

STEPS_BETWEEN_SPECTRA = 5
"""Morphology steps between two least-squares solutions of the spectra: fewer pay more
for the rendering of the templates than they gain, more follow outdated colours."""
EDGE_MARGIN_PX = 6
"""A source whose peak is nearer to the cutout's edge than a model PSF's box is modelled
beyond the edge too, where there is no data: the light inside needs it."""
FREE_SIGMA = 3.0
"""A source gets a free shape when chi2 where it is seen exceeds expectation by this many
sigma, and keeps it when it lowers chi2 by as much."""


@dataclass(frozen=True, eq=False)
class Model:
    """One source's light: `light` (C, h, w) float32 counts in `box` of the cutout."""

    box: Box
    light: Image

    @property
    def where(self) -> tuple[slice, slice, slice]:
        return (slice(None), *self.box.slices)


def of_components(components: list[Component]) -> Model:
    """The light of all components of one source."""
    box = components[0].box
    for c in components[1:]:
        box |= c.box
    light = np.zeros((len(components[0].flux), *box.shape), np.float32)
    for c in components:
        light[(slice(None), *c.box.slices_in(box))] += c.model
    return Model(box, light)


def freed(
    models: list[Model],
    components: list[list[Component]],
    residual: Image,
    weights: Image,
    kernels: Kernels,
    config: DeblendConfig,
) -> tuple[list[Model], int]:
    """The models, those that do not fit replaced by free shapes where that pays.

    Parameters
    ----------
    models, components : of each source.
    residual : (C, H, W) float32, the image less all models; changed with them.

    Returns
    -------
    The models, and the number of steps.
    """
    free = [n for n, m in enumerate(models) if excess(m, residual, weights) > FREE_SIGMA]
    if not free:
        return models, 0
    own = residual.copy()
    for n in free:
        own[models[n].where] += models[n].light
    owners = [n for n in free for _ in components[n]]
    parts = [c for n in free for c in components[n]]
    margin = _margin(np.array([c.shape[:2] for c in parts]), residual.shape)
    around = ((0, 0), (margin, margin), (margin, margin))
    scene = Scene(np.pad(own, around), np.pad(weights, around), kernels)
    factors = Factors([_guess(c, margin, scene) for c in parts], scene)
    solution, steps = _iterate(factors, scene, config)
    out = list(models)
    for n in free:
        chosen = [k for k, owner in enumerate(owners) if owner == n]
        new = _rendered(solution, chosen, margin, residual.shape)
        if _pays(models[n], new, residual, weights):
            residual[models[n].where] += models[n].light
            residual[new.where] -= new.light
            out[n] = new
    return out, steps


def excess(model: Model, residual: Image, weights: Image) -> float:
    """By how many sigma chi2 exceeds the number of pixels where a source is seen."""
    w = weights[model.where]
    seen = w * model.light**2 > 1
    count = int(np.count_nonzero(seen))
    chi2 = float((w * residual[model.where] ** 2)[seen].sum(dtype=float))
    return (chi2 - count) / np.sqrt(2 * count) if count else 0.0


def _pays(old: Model, new: Model, residual: Image, weights: Image) -> bool:
    """Whether a model in place of another lowers chi2 by more than its freedom would."""
    box = old.box | new.box
    change = np.zeros((len(residual), *box.shape), np.float32)
    change[(slice(None), *old.box.slices_in(box))] += old.light
    change[(slice(None), *new.box.slices_in(box))] -= new.light
    s = (slice(None), *box.slices)
    gain = -float((weights[s] * change * (change + 2 * residual[s])).sum(dtype=float))
    seen = int(np.count_nonzero(weights[new.where] * new.light**2 > 1))
    return gain > FREE_SIGMA * np.sqrt(2 * max(seen, 1))


def _margin(centres: NDArray[np.float64], shape: tuple[int, ...]) -> int:
    """Pixels without data to add around the cutout; none unless a centre is near its edge."""
    distance = np.minimum(centres, np.array(shape[-2:]) - 1 - centres).min()
    return EDGE_MARGIN_PX if distance < EDGE_MARGIN_PX else 0


def _guess(c: Component, margin: int, scene: Scene) -> tuple[Box, Image, NDArray[np.float64]]:
    """A component in the model frame of the widened cutout: where `Factors` begins."""
    frame = Box.of_shape(scene.image.shape)
    box = Box.around(*c.peak, c.radius).shifted(margin, margin) & frame
    centre = c.shape[:2] + margin
    light = drawn(box, centre, c.shape, c.point, scene.kernels.sigma)
    return box, light * np.float32(max(c.flux.sum(), 1e-6)), centre


def _rendered(solution: Solution, chosen: list[int], margin: int, shape: tuple[int, ...]) -> Model:
    """The sum of some factors, cut to the cutout."""
    frame = Box.of_shape(shape).shifted(margin, margin)
    boxes = [solution.boxes[k] & frame for k in chosen]
    box = boxes[0]
    for other in boxes[1:]:
        box |= other
    light = np.zeros((shape[0], *box.shape), np.float32)
    for k, part in zip(chosen, boxes, strict=True):
        flux = solution.flux[k][:, None, None].astype(np.float32)
        cut = solution.templates[k][(slice(None), *part.slices_in(solution.boxes[k]))]
        light[(slice(None), *part.slices_in(box))] += flux * cut
    return Model(box.shifted(-margin, -margin), light)


def _iterate(factors: Factors, scene: Scene, config: DeblendConfig) -> tuple[Solution, int]:
    """Alternate morphology steps and spectra until chi2 stands still."""
    solution = factors.solve_spectra(scene)
    steps, converged = 0, False
    while steps < config.max_iterations and not converged:
        factors.set_steps(scene)
        for _ in range(min(STEPS_BETWEEN_SPECTRA, config.max_iterations - steps)):
            factors.step(scene)
            steps += 1
        before = solution.chi2
        grown = factors.grow(scene)
        solution = factors.solve_spectra(scene)
        converged = not grown and before - solution.chi2 < config.tolerance * before
    return solution, steps
