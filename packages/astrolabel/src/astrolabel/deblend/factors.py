"""The spectra and morphologies of one blend while they are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.deblend import morphology as loops
from astrolabel.deblend.scene import Image, Scene
from astrolabel.deblend.shapes import rendered
from astrolabel.deblend.spectra import gram, non_negative_least_squares

SHARE_FLOOR = 0.5
"""Light, in sigma of a pixel, that a source is credited with where it has none yet when
a correction is divided among the sources of a pixel; without it a zero would stay."""
SPARSITY_SIGMA = 0.2
"""Price of light, in sigma of the noise of a morphology's gradient. Where there is no
source, non-negativity keeps the positive half of the noise; this price balances it. Median
flux bias at S/N 50 of exponential and de Vaucouleurs galaxies of half an arcsecond, HSC
seeing: +3.3 and +0.1 % without, +1.7 and -1.6 % with 0.2, +0.2 and -3.4 % with 0.4."""
SYMMETRY = 0.05
"""Stiffness, relative to the data's, that draws a pixel in a blend to its mirror image in
the source's centre where the source is faint or contested. Without it wings take the
neighbours' light along their rays: on a simulated tile the median mask IoU of blended
sources is 0.765 without, 0.79 with 0.02 to 0.05; from 0.3 on faint masks suffer."""
BORDER_SIGMA = 0.1
"""A box grows while its border is brighter than this many sigma of a pixel."""


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
    centres : (N, 2) float64 positions about which they are symmetric, more or less.
    spectra : (N, C) float32, each summing to one; zero for a source without light.
    morphologies : views (h, w) of one flat array, counts summed over the bands.
    """

    def __init__(self, guesses: list[tuple[Box, Image, NDArray[np.float64]]], scene: Scene) -> None:
        """From (box, morphology in counts summed over the bands, centre) of each."""
        limit = np.array(scene.image.shape[1:]) - 1
        self.centres = np.array([centre for _, _, centre in guesses], np.float64)
        self.peaks = np.clip(np.rint(self.centres), 0, limit).astype(np.int64)
        bands = len(scene.image)
        self.spectra = np.full((len(guesses), bands), 1 / bands, np.float32)
        self._pack([box for box, _, _ in guesses], [m for _, m, _ in guesses])

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
        """(h, w) views, one per source."""
        return [
            self._now[lo:hi].reshape(b.shape)
            for lo, hi, b in zip(self._offsets[:-1], self._offsets[1:], self._boxes, strict=True)
        ]

    def assemble(self, flat: Image, scene: Scene) -> Image:
        """Sum of all sources in the model frame, on the scene's canvas."""
        loops.assemble(flat, self._offsets, self._box_rows, self.spectra, scene.canvas)
        return scene.canvas

    def set_steps(self, scene: Scene) -> None:
        """Step sizes of the morphologies, and the price of light."""
        share = np.maximum(self._now, 0)
        self._penalty = np.zeros(len(self._boxes), np.float32)
        for n, (y, x) in enumerate(self.peaks):
            squared = self.spectra[n].astype(float) ** 2 * scene.curvature[:, y, x]
            noise = np.sqrt(float((squared * scene.kernels.power).sum()))
            self._penalty[n] = SPARSITY_SIGMA * noise
            if squared.sum() > 0:
                share[self._offsets[n] : self._offsets[n + 1]] += SHARE_FLOOR / np.sqrt(
                    squared.sum()
                )
        total = self.assemble(share, scene)
        loops.step_sizes(
            share, self._offsets, self._box_rows, self.spectra, scene.curvature, total, self._steps
        )

    def step(self, scene: Scene) -> None:
        """One step of all morphologies."""
        gradient, _ = scene.gradient(self.assemble(self._ahead, scene))
        loops.proximal_step(
            self._now,
            self._ahead,
            self._momentum,
            self._steps,
            self._offsets,
            self._box_rows,
            self.peaks,
            self.centres,
            self.spectra,
            self._penalty,
            gradient,
            SYMMETRY,
        )

    def solve_spectra(self, scene: Scene) -> Solution:
        """Non-negative least-squares fluxes of all sources in all bands; rescales them."""
        sums = [float(m.sum(dtype=float)) for m in self.morphologies]
        units = [
            m / np.float32(s) if s > 0 else np.zeros_like(m)
            for m, s in zip(self.morphologies, sums, strict=True)
        ]
        boxes, templates = rendered(self._boxes, units, scene)
        rows = np.array([(b.y0, b.x0, b.height, b.width) for b in boxes], np.int64)
        starts = np.concatenate([[0], np.cumsum([t.size for t in templates])]).astype(np.int64)
        flat = np.concatenate([t.ravel() for t in templates])
        matrix, vector = gram(flat, starts, rows, scene.image, scene.weights)
        flux = np.empty((len(boxes), len(scene.image)))
        for c in range(len(scene.image)):
            begin = self.spectra[:, c].astype(float) * sums
            flux[:, c] = non_negative_least_squares(matrix[c], vector[c], begin)
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
            # A source without light keeps its shape: it may get some next time.
            scale = np.float32(total / old if old > 0 and total > 0 else 1)
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
            if squared <= 0:
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


def _placed(box: Box, values: Image, larger: Box) -> Image:
    out = np.zeros(larger.shape, np.float32)
    out[box.slices_in(larger)] = values
    return out
