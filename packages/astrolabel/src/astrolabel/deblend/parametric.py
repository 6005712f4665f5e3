"""Point and Sersic models of all sources of a blend, fitted together.

Every component is a few shape parameters and a flux in each band. Components are improved
one after the other by damped Gauss-Newton steps, the light of the others subtracted, with
non-negative fluxes of all of them solved together in between. At the end one joint step of
everything gives the fluxes and their covariance, which so includes what neighbours and
uncertain shapes add to it.
"""

from __future__ import annotations

import numpy as np

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.core.numerics import non_negative
from astrolabel.deblend.base import Noise
from astrolabel.deblend.bulges import core_gain
from astrolabel.deblend.components import (
    LONGEST_STEP,
    NUISANCE,
    Component,
    Vector,
    fit_fluxes,
    in_range,
    joint_equations,
    limited,
    newton_step,
    rendered,
)
from astrolabel.deblend.convolve import Image, Kernels
from astrolabel.deblend.initialize import Start
from astrolabel.deblend.photometry import Photometry, Weights, nuisance_places, photometry
from astrolabel.deblend.profiles import LOG_INDEX, LOG_RADIUS, N_SHAPE, STRETCH_1, STRETCH_2
from astrolabel.deblend.spectra import gram


class Parametric:
    """The components of one blend while they are fitted.

    Attributes
    ----------
    components : one a source at first.
    residual : (C, H, W) float32: the image less all models.
    passes : passes over the components so far.
    settled : whether the last pass gained next to nothing.
    """

    def __init__(
        self,
        image: Image,
        weights: Image,
        kernels: Kernels,
        starts: list[Start],
        noise: Noise,
        settings: DeblendConfig,
    ) -> None:
        self._settings, self._config = settings, settings.model
        config, self._max_passes = settings.model, settings.max_iterations
        self.image, self.kernels = image, kernels
        self.weights = _with_excess(weights, noise.excess)
        of_points = _with_excess(weights, noise.excess_of_points)
        self._all_weights = Weights(weights, self.weights, of_points, noise.common)
        self._frame = Box.of_shape(image.shape)
        self._sigma = float(kernels.psf_sigma.mean())
        middle = [
            np.log(config.radius_prior[0] * self._sigma),
            0.0,
            0.0,
            np.log(config.index_prior[0]),
        ]
        self._prior = np.array([0.0, 0.0, *middle])
        widths = np.array(
            [
                config.radius_prior[1],
                config.stretch_prior,
                config.stretch_prior,
                config.index_prior[1],
            ]
        )
        self._precision = np.concatenate([[0.0, 0.0], widths**-2])
        self.components = [self._begin(n, s) for n, s in enumerate(starts)]
        self._wide = {n for n, s in enumerate(starts) if s.sigma > 0}
        self.residual = image.copy()
        self.solve_fluxes()
        self.passes, self.settled = 0, False

    def of(self, owner: int) -> list[Component]:
        """The components of one source."""
        return [c for c in self.components if c.owner == owner]

    def _begin(self, owner: int, start: Start) -> Component:
        shape = self._prior.copy()
        if start.sigma > 0:
            # A Gaussian's half-light radius is 1.18 sigma. A core that runs on into a neighbour or
            # over an edge is no galaxy's.
            shape[LOG_RADIUS] = np.log(min(1.18 * start.sigma, 0.5 * start.radius))
        shape[:2] = start.centre
        peak = (round(start.centre[0]), round(start.centre[1]))
        return self._made(owner, peak, start.radius, shape, False)

    def _made(
        self, owner: int, peak: tuple[int, int], radius: int, shape: Vector, point: bool
    ) -> Component:
        shape = shape.copy()
        shape[2:] = in_range(shape[2:], self._config)
        box, images = rendered(self.kernels, self._frame, peak, radius, shape, point)
        zero = np.zeros(len(self.image))
        prior = self._prior, self._precision
        return Component(peak, radius, shape, point, zero, box, images, owner, *prior, zero)

    def _drawn(self, c: Component) -> Image:
        """A component's template and derivatives as its shape is now."""
        return rendered(self.kernels, self._frame, c.peak, c.radius, c.shape, c.point)[1]

    def _of_wide(self) -> list[Component]:
        """The components of the sources that began with a size."""
        return [c for c in self.components if c.owner in self._wide]

    def fit(self) -> None:
        """Iterate over the components until they stand still; decide which are points, which
        have two components, and where nuisance sources are."""
        if len(self._wide) < len(self.components):  # what is on them must not take their light
            self._pass(self._config.passes, self._of_wide())
            self._grow()
        self._pass(self._config.passes)
        self._choose_points()
        self._grow()
        if len(self.components) == 1:
            self._pass(self._config.single_passes)
        else:
            self._settle(self._config.joint_steps)
        self._choose_points()
        self._add_nuisance_sources()
        tried = [c for c in self._of_wide() if not c.point and self._may_be_two(c)]
        if sum([self._try_two(c) for c in tried]) and len({c.owner for c in self.components}) > 1:
            self._settle(self._config.joint_steps)

    def _settle(self, times: int) -> None:
        """Steps of all components at once."""
        self.settled = self._joint_steps(self.components, times) < self._config.unsettled
        self.passes += times

    def _grow(self) -> None:
        """Larger boxes for components that are bright at their border."""
        grown = []
        for c in self.components:
            if c.point:
                continue
            if self._border(c, c.model) < self._config.border_sigma:
                continue
            c.radius = min(int(self._config.growth * c.radius), self._config.max_radius_px)
            c.box = Box.around(*c.peak, c.radius) & self._frame
            c.images = self._drawn(c)
            grown.append(c)
        if grown:
            self.solve_fluxes()
            self._pass(1, grown)
            if any(c.radius < self._config.max_radius_px for c in grown):
                self._grow()

    def _border(self, c: Component, light: Image) -> float:
        """How bright `light` is at the border of a component's box, in sigma of a pixel."""
        whole = Box.around(*c.peak, c.radius)
        return border(light * np.sqrt(self.weights[c.where]), c.box, whole)

    def is_part(self, owner: int, light: Image) -> bool:
        """Whether a source that began as a point fills its box with its `light`: it has no end, but
        is a part of what it lies on."""
        if owner in self._wide:
            return False
        (one,) = self.of(owner)  # only what began with a size is tried as two
        return not one.point and self._border(one, light) > self._config.unbounded_sigma

    def _choose_points(self) -> None:
        """Make points of what is as narrow as the PSF."""
        for c in self.components:
            if not c.point and c.shape[LOG_RADIUS] < np.log(self._config.try_point * self._sigma):
                self._try_point(c)

    def _pass(self, times: int, chosen: list[Component] | None = None) -> None:
        """Improve components (all by default) in turn until each stands still."""
        active = list(self.components if chosen is None else chosen)
        for _ in range(min(times, self._max_passes - self.passes)):
            gains = [self._improve(c) for c in active]
            self.passes += 1
            if len(self.components) > 1:
                self.solve_fluxes()
            self.settled = max(gains, default=0.0) < self._config.unsettled
            active = [
                c for c, gain in zip(active, gains, strict=True) if gain >= self._config.settled
            ]
            if not active:
                break

    def _own(self, c: Component) -> tuple[Image, Image]:
        """(data less the others, weights) in a component's box."""
        return self.residual[c.where] + c.model, np.ascontiguousarray(self.weights[c.where])

    def _improve(self, c: Component) -> float:
        """One damped step of one component; by how much it lowers the cost."""
        data, weights = self._own(c)
        before = fit_fluxes(c, data, weights)
        old = (c.shape, c.flux, c.images)
        c.shape = limited(c, c.shape + newton_step(c, data - c.model, weights), self._config)
        c.images = self._drawn(c)
        gain = before - fit_fluxes(c, data, weights)
        if gain < 0 or not np.isfinite(gain):
            c.shape, c.flux, c.images = old
            c.damping = max(8 * c.damping, 1.0)
            gain = 2 * self._config.settled if c.damping < 100 else 0.0
        else:
            c.damping /= 8
        self.residual[c.where] = data - c.model
        return gain

    def _try_point(self, c: Component) -> bool:
        """Make a component a point where that costs next to nothing."""
        data, weights = self._own(c)
        galaxy = fit_fluxes(c, data, weights)
        point = self._made(c.owner, c.peak, c.radius, c.shape, True)
        for k in range(2):
            if k > 0:
                point.images = self._drawn(point)
            fit_fluxes(point, data, weights)
            step = newton_step(point, data - point.model, weights)
            point.shape = limited(point, point.shape + step, self._config)
        point.images = self._drawn(point)
        c.point_gain = fit_fluxes(point, data, weights) - galaxy
        if c.point_gain > self._config.point_gain:
            return False
        c.doubt = c.flux - point.flux
        c.point, c.shape, c.flux, c.images = True, point.shape, point.flux, point.images
        self.residual[c.where] = data - c.model
        return True

    def photometry(self, sources: int) -> Photometry:
        """Fluxes and errors of the sources."""
        return photometry(
            self.components, self.residual, self._all_weights, sources, self._settings.photometry
        )

    def solve_fluxes(self) -> None:
        """Non-negative fluxes of all components together; the residual follows."""
        rows = np.array([(c.box.y0, c.box.x0, *c.box.shape) for c in self.components], np.int64)
        templates = [c.template.ravel() for c in self.components]
        starts = np.concatenate([[0], np.cumsum([t.size for t in templates])]).astype(np.int64)
        matrix, vector = gram(np.concatenate(templates), starts, rows, self.image, self.weights)
        begin = np.array([c.flux for c in self.components]).T.copy()
        best = [non_negative(*of, 0.0) for of in zip(matrix, vector, begin, strict=True)]
        for c, flux in zip(self.components, np.array(best).T.copy(), strict=True):
            c.flux = flux
        self._subtract()

    def _add_nuisance_sources(self) -> None:
        """Add nuisance sources, points, on the residual of the models."""
        places = nuisance_places(
            self.components,
            self.image,
            self.residual,
            self.weights,
            self.kernels,
            self._settings.photometry,
        )
        for y, x in places:
            shape = self._prior.copy()
            shape[:2] = y, x
            self.components.append(
                self._made(NUISANCE, (y, x), self._settings.start.min_radius_px, shape, True)
            )
        if places:
            self.solve_fluxes()
            near = [c for c in self.components if any(c.box.contains(y, x) for y, x in places)]
            self._pass(2, near)

    def _may_be_two(self, c: Component) -> bool:
        """Whether a component looks like a bulge and a disc."""
        seen = self.weights[c.where] * c.model**2 > 1
        if np.count_nonzero(seen) < self._config.misfit_pixels:
            return False
        if self._misfit(c) > self._config.misfit_sigma:
            return True
        return (
            core_gain(c, self.residual, self.weights, self.kernels, self._frame)
            > self._config.core_gain
        )

    def _misfit(self, c: Component) -> float:
        """By how many sigma chi2 exceeds the number of pixels where the component is seen."""
        weights, model = self._all_weights.pixels[c.where], c.model
        seen = weights * model**2 > 1
        chi2 = float((weights * self.residual[c.where] ** 2)[seen].sum(dtype=float))
        count = int(np.count_nonzero(seen))
        return (chi2 - count) / np.sqrt(2 * count) if count >= self._config.misfit_pixels else 0.0

    def _try_two(self, c: Component) -> bool:
        """Replace a component by a disc and a bulge with a spectrum each, if that pays."""
        before = self._total_cost()
        kept, at = list(self.components), self.components.index(c)
        saved = [(k.shape, k.flux, k.images) for k in kept]
        disc, bulge = c.shape.copy(), c.shape.copy()
        disc[LOG_RADIUS] += np.log(1.2)
        bulge[LOG_RADIUS] += np.log(0.4)
        disc[LOG_INDEX], bulge[LOG_INDEX] = (
            np.log(self._config.disc_index[0]),
            np.log(self._config.bulge_index[0]),
        )
        bulge[STRETCH_1 : STRETCH_2 + 1] *= 0.3
        two = [self._made(c.owner, c.peak, c.radius, p, False) for p in (disc, bulge)]
        for part, shape, index in zip(
            two, (disc, bulge), (self._config.disc_index, self._config.bulge_index), strict=True
        ):
            part.prior, part.precision = self._prior.copy(), self._precision.copy()
            part.prior[:2], part.precision[:2] = c.shape[:2], self._config.concentric_px**-2
            part.prior[LOG_RADIUS] = shape[LOG_RADIUS]
            part.prior[LOG_INDEX], part.precision[LOG_INDEX] = np.log(index[0]), index[1] ** -2
        self.components[at : at + 1] = two
        self.solve_fluxes()
        self._pass(2, two)
        self._joint_steps(two)
        if before - self._total_cost() > self._config.two_gain:
            return True
        self.components = kept
        for k, (shape, flux, images) in zip(kept, saved, strict=True):
            k.shape, k.flux, k.images = shape, flux, images
        self.solve_fluxes()
        return False

    def _total_cost(self) -> float:
        chi2 = float((self.weights * self.residual**2).sum(dtype=float))
        return chi2 + sum(
            float((c.precision * (c.shape - c.prior) ** 2).sum())
            for c in self.components
            if not c.point
        )

    def _joint_steps(self, chosen: list[Component], times: int = 5) -> float:
        """Damped Gauss-Newton steps of some components at once, for those that one by one
        would take many; what the last of them gained."""
        bands, damping = len(self.image), self._config.first_damping
        cost, gain = self._total_cost(), 0.0
        for _ in range(times):
            matrix, vector, at = joint_equations(chosen, self.residual, self.weights)
            scale = np.sqrt(np.maximum(np.diag(matrix), 1e-30))
            scaled = matrix / scale[:, None] / scale + (1e-7 + damping) * np.eye(len(scale))
            delta = np.linalg.solve(scaled, vector / scale) / scale
            old = [(c.shape, c.images) for c in chosen]
            fluxes = [c.flux for c in self.components]
            for n, c in enumerate(chosen):
                step = np.zeros(N_SHAPE)
                step[: len(c.images) - 1] = delta[at[n] + bands : at[n + 1]]
                step /= max(float(np.max(np.abs(step) / LONGEST_STEP)), 1.0)
                c.shape = limited(c, c.shape + step, self._config)
                c.images = self._drawn(c)
            self.solve_fluxes()
            gain = cost - self._total_cost()
            if gain > 0:
                cost, damping = cost - gain, damping / 10
            else:
                for c, (shape, images) in zip(chosen, old, strict=True):
                    c.shape, c.images = shape, images
                for c, flux in zip(self.components, fluxes, strict=True):
                    c.flux = flux
                self._subtract()
                damping = max(10 * damping, 0.01)
            if 0 <= gain < self._config.settled:
                break
        return max(gain, 0.0)

    def _subtract(self) -> None:
        """The residual of the components as they are."""
        self.residual = self.image.copy()
        for c in self.components:
            self.residual[c.where] -= c.model


def border(light: Image, box: Box, whole: Box) -> float:
    """The brightest pixel of (C, h, w) in `box` at the border of the `whole`, which it is a part
    of; zero where that is beyond."""
    edges = [
        (box.y0 == whole.y0, light[:, 0]),
        (box.y1 == whole.y1, light[:, -1]),
        (box.x0 == whole.x0, light[:, :, 0]),
        (box.x1 == whole.x1, light[:, :, -1]),
    ]
    return max((float(np.abs(e).max()) for own, e in edges if own), default=0.0)


def _with_excess(weights: Image, excess: Image) -> Image:
    """Weights of the noise that fluxes have, which is what counts against the priors.

    What the sky has beyond the variances lies under every source alike. The photons' noise is
    in the variances, and a bright source has more of that.
    """
    deepest = weights.max(axis=(1, 2), keepdims=True)
    more = (excess[:, None, None] ** 2 - 1) / np.where(deepest > 0, deepest, 1)
    out: Image = (weights / (1 + more * weights)).astype(np.float32)
    return out
