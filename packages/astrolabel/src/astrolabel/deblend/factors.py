"""The spectra and morphologies of one blend while they are fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.box import Box
from astrolabel.deblend import morphology as loops
from astrolabel.deblend.convolve import gaussian, render_alone
from astrolabel.deblend.scene import Image, Scene
from astrolabel.deblend.start import Start

SHARE_FLOOR = 0.5
"""Light, in sigma of a pixel, that a source is credited with where it has none yet when
a correction is divided among the sources of a pixel; without it a zero would stay."""
MAX_OFFSET_PX = 1.5
"""Farthest a point source moves from its peak; detection is never wrong by more."""
BORDER_SIGMA = 0.1
"""A box grows while its border is brighter than this many sigma of a pixel."""
WIDE_SIGMA = 0.7
"""Width, in PSF sigmas, of the disc whose addition tests whether a point is extended."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Spectra that fit best to given morphologies.

    Attributes
    ----------
    boxes, templates : of each source of unit flux, rendered alone, inside the cutout;
        templates are (C, h, w) float32.
    flux : (N, C) float64 >= 0 counts.
    model : (C, H, W) float32, the sum of all.
    chi2 : of that model.
    """

    boxes: list[Box]
    templates: list[Image]
    flux: NDArray[np.float64]
    model: Image
    chi2: float


class Factors:
    """Spectra and morphologies of N sources, laid out for the compiled loops.

    Attributes
    ----------
    peaks : (N, 2) int64 pixels from which the morphologies fall.
    centres : (N, 2) float64 positions of the point sources.
    points : (N,) bool.
    spectra : (N, C) float32, each summing to one; zero for a source without light.
    morphologies : views (h, w) of one flat array, counts summed over the bands.
    """

    def __init__(self, guesses: list[Start], peaks: NDArray[np.float64], scene: Scene) -> None:
        limit = np.array(scene.image.shape[1:]) - 1
        self.peaks = np.clip(np.rint(peaks), 0, limit).astype(np.int64)
        self.centres = peaks.astype(np.float64).copy()
        self.points = np.array([g.point for g in guesses])
        self.spectra = np.full((len(peaks), len(scene.image)), 1 / len(scene.image), np.float32)
        self._pack([g.box for g in guesses], [g.morphology for g in guesses])

    def _pack(self, boxes: list[Box], morphologies: list[Image]) -> None:
        self._boxes = list(boxes)
        self._box_rows = np.array([(b.y0, b.x0, b.height, b.width) for b in boxes], np.int64)
        self._offsets = np.concatenate([[0], np.cumsum([b.area for b in boxes])]).astype(np.int64)
        self._now = np.concatenate([m.ravel() for m in morphologies]).astype(np.float32)
        self._ahead = self._now.copy()
        self._steps = np.zeros_like(self._now)
        self._momentum = np.ones(len(boxes))

    @property
    def morphologies(self) -> list[Image]:
        return [
            self._now[lo:hi].reshape(b.shape)
            for lo, hi, b in zip(self._offsets[:-1], self._offsets[1:], self._boxes, strict=True)
        ]

    def assemble(self, flat: Image, scene: Scene) -> Image:
        loops.assemble(flat, self._offsets, self._box_rows, self.spectra, scene.canvas)
        return scene.canvas

    def set_steps(self, scene: Scene) -> None:
        """Step sizes of the morphologies and stiffness of the points' positions."""
        share = np.maximum(self._now, 0)
        self._stiffness = np.zeros(len(self._boxes))
        for n, (y, x) in enumerate(self.peaks):
            squared = self.spectra[n].astype(float) ** 2 * scene.curvature[:, y, x]
            self._stiffness[n] = float((squared * scene.kernels.slope).sum())
            if squared.sum() > 0:
                share[self._offsets[n] : self._offsets[n + 1]] += SHARE_FLOOR / np.sqrt(
                    squared.sum()
                )
        total = self.assemble(share, scene)
        loops.step_sizes(
            share, self._offsets, self._box_rows, self.spectra, scene.curvature, total, self._steps
        )

    def step(self, scene: Scene) -> float:
        """One step of all morphologies and positions; chi2 before it."""
        gradient, chi2 = scene.gradient(self.assemble(self._ahead, scene))
        layout = (self._offsets, self._box_rows, self.peaks)
        loops.move_points(
            self._now,
            self._ahead,
            *layout,
            self.centres,
            self._stiffness,
            self.spectra,
            self.points,
            gradient,
            scene.kernels.sigma,
            MAX_OFFSET_PX,
        )
        loops.proximal_step(
            self._now,
            self._ahead,
            self._momentum,
            self._steps,
            *layout,
            self.spectra,
            ~self.points,
            gradient,
        )
        return chi2

    def solve_spectra(self, scene: Scene) -> Solution:
        """Non-negative least-squares fluxes of all sources in all bands; rescales them."""
        sums = [float(m.sum(dtype=float)) for m in self.morphologies]
        units = [
            m / np.float32(s) if s > 0 else np.zeros_like(m)
            for m, s in zip(self.morphologies, sums, strict=True)
        ]
        boxes, templates = _rendered(self._boxes, units, scene)
        rows = np.array([(b.y0, b.x0, b.height, b.width) for b in boxes], np.int64)
        starts = np.concatenate([[0], np.cumsum([t.size for t in templates])]).astype(np.int64)
        flat = np.concatenate([t.ravel() for t in templates])
        matrix, vector = loops.gram(flat, starts, rows, scene.image, scene.weights)
        flux = np.empty((len(boxes), len(scene.image)))
        for c in range(len(scene.image)):
            begin = self.spectra[:, c].astype(float) * sums
            flux[:, c] = loops.non_negative_least_squares(matrix[c], vector[c], begin)
        model = np.zeros_like(scene.image)
        for n, (box, template) in enumerate(zip(boxes, templates, strict=True)):
            model[(slice(None), *box.slices)] += template * flux[n, :, None, None].astype(
                np.float32
            )
        self._set_fluxes(flux, sums)
        return Solution(boxes, templates, flux, model, scene.chi2(model))

    def _set_fluxes(self, flux: NDArray[np.float64], sums: list[float]) -> None:
        totals = flux.sum(axis=1)
        for n, (total, old) in enumerate(zip(totals, sums, strict=True)):
            self.spectra[n] = flux[n] / total if total > 0 else 0
            scale = np.float32(total / old if old > 0 else 0)
            self._now[self._offsets[n] : self._offsets[n + 1]] *= scale
            self._ahead[self._offsets[n] : self._offsets[n + 1]] *= scale

    def grow(self, scene: Scene) -> bool:
        """Enlarge the boxes whose border has light; whether any was."""
        frame = Box.of_shape(scene.image.shape)
        boxes, grown = list(self._boxes), self.morphologies
        changed = False
        for n, (box, m) in enumerate(zip(boxes, grown, strict=True)):
            y, x = self.peaks[n]
            squared = float((self.spectra[n].astype(float) ** 2 * scene.curvature[:, y, x]).sum())
            if self.points[n] or squared <= 0:
                continue
            border = max(m[0].mean(), m[-1].mean(), m[:, 0].mean(), m[:, -1].mean())
            if border * np.sqrt(squared) > BORDER_SIGMA:
                larger = box.expanded(3 + max(box.shape) // 8) & frame
                if larger != box:
                    boxes[n], grown[n] = larger, _placed(box, m, larger)
                    changed = True
        if changed:
            self._pack(boxes, [m.copy() for m in grown])
        return changed

    def extend_points(self, scene: Scene, solution: Solution, gain: float) -> bool:
        """Make extended those points to which a disc adds at least `gain` of chi2."""
        members = np.flatnonzero(self.points & (self.spectra.sum(axis=1) > 0))
        if members.size == 0:
            return False
        width = WIDE_SIGMA * float(scene.kernels.psf_sigma.mean())
        radius = int(np.ceil(3 * width)) + 2
        frame = Box.of_shape(scene.image.shape)
        boxes = [
            Box.around(self.centres[n, 0], self.centres[n, 1], radius) & frame for n in members
        ]
        wide = np.hypot(width, scene.kernels.sigma)
        discs = [
            gaussian(b.shape, self.centres[n][0] - b.y0, self.centres[n][1] - b.x0, float(wide))
            for n, b in zip(members, boxes, strict=True)
        ]
        rendered = _rendered(boxes, discs, scene)
        all_boxes, all_morphologies = list(self._boxes), self.morphologies
        changed = False
        for k, n in enumerate(members):
            part = _disc_flux(scene, solution, int(n), rendered[0][k], rendered[1][k], gain)
            if part <= 0:
                continue
            merged = boxes[k] | self._boxes[n]
            all_morphologies[n] = _placed(self._boxes[n], all_morphologies[n], merged) + (
                np.float32(part) * _placed(boxes[k], discs[k], merged)
            )
            all_boxes[n], changed, self.points[n] = merged, True, False
            self.peaks[n] = np.clip(np.rint(self.centres[n]), 0, np.array(frame.shape) - 1)
        if changed:
            self._pack(all_boxes, [m.copy() for m in all_morphologies])
        return changed


def _placed(box: Box, values: Image, larger: Box) -> Image:
    out = np.zeros(larger.shape, np.float32)
    out[box.slices_in(larger)] = values
    return out


def _rendered(
    boxes: list[Box], morphologies: list[Image], scene: Scene
) -> tuple[list[Box], list[Image]]:
    """Each morphology alone in all bands, on its reach inside the cutout."""
    frame = Box.of_shape(scene.image.shape)
    reach = scene.reach
    images = render_alone(scene.kernels, morphologies, reach)
    inside = [box.expanded(reach) & frame for box in boxes]
    cut = [
        np.ascontiguousarray(image[(slice(None), *i.slices_in(b.expanded(reach)))])
        for image, i, b in zip(images, inside, boxes, strict=True)
    ]
    return inside, cut


def _disc_flux(
    scene: Scene, solution: Solution, n: int, box: Box, disc: Image, gain: float
) -> float:
    """Flux, summed over bands, of a disc added to point n; zero if chi2 gains too little.

    The point's own flux is free in the comparison, its colours are not.
    """
    flux = solution.flux[n]
    colour = (flux / flux.sum()).astype(np.float32)[:, None, None]
    common = box & solution.boxes[n]
    s: Any = (slice(None), *common.slices)
    w = scene.weights[s]
    p = colour * solution.templates[n][(slice(None), *common.slices_in(solution.boxes[n]))]
    q = colour * disc[(slice(None), *common.slices_in(box))]
    r = scene.image[s] - solution.model[s]
    pp, pq, qq, pr, qr = (
        float((w * a * b).sum(dtype=float)) for a, b in ((p, p), (p, q), (q, q), (p, r), (q, r))
    )
    rest = qq - pq * pq / pp if pp > 0 else 0.0
    # Below a thousandth the disc cannot be told from the point.
    if rest <= 1e-3 * qq:
        return 0.0
    pull = qr - pq * pr / pp
    return pull / rest if pull > 0 and pull * pull / rest >= gain else 0.0
