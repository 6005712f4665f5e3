"""A source's shape as a sum of Gaussians: the start of its free morphology."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.box import Box
from astrolabel.deblend.convolve import render_alone
from astrolabel.deblend.scene import Image, Scene
from astrolabel.deblend.spectra import non_negative_least_squares

WIDTHS = (0.4, 0.8, 1.6, 3.2)
"""Widths of the Gaussians beside the point, in units of the ellipse measured on the core.
Steps of two: a galaxy's core and wings each find a Gaussian near their own width."""


@dataclass(frozen=True, eq=False)
class Shape:
    """The best non-negative sum of a point and Gaussians.

    Attributes
    ----------
    box : of the morphology in the cutout.
    morphology : (h, w) float32 counts summed over the bands.
    outer, model : the same rendered, (C, H', W') float32 counts.
    gain : by how much chi2 is below that of the best point alone; with the `point_flux`
        that point would have.
    """

    box: Box
    morphology: Image
    outer: Box
    model: Image
    gain: float
    point_flux: float


def draw(box: Box, centre: NDArray[np.float64], covariance: NDArray[np.float64]) -> Image:
    """An elliptical Gaussian of unit integral, sampled at the pixels of `box`.

    Parameters
    ----------
    centre : (y, x) in the frame of the box.
    covariance : (2, 2) in pixels squared, axes y, x.
    """
    inverse = np.linalg.inv(covariance)
    norm = np.sqrt(np.linalg.det(inverse)) / (2 * np.pi)
    dy = np.arange(box.y0, box.y1)[:, None] - centre[0]
    dx = np.arange(box.x0, box.x1)[None, :] - centre[1]
    q = inverse[0, 0] * dy * dy + 2 * inverse[0, 1] * dy * dx + inverse[1, 1] * dx * dx
    return np.asarray(norm * np.exp(-0.5 * q), np.float32)


def rendered(
    boxes: list[Box], morphologies: list[Image], scene: Scene
) -> tuple[list[Box], list[Image]]:
    """Each morphology alone in all bands, on its reach inside the cutout."""
    frame = Box.of_shape(scene.image.shape)
    images = render_alone(scene.kernels, morphologies, scene.reach)
    grown = [box.expanded(scene.reach) for box in boxes]
    inside = [box & frame for box in grown]
    cut = [
        np.ascontiguousarray(image[(slice(None), *i.slices_in(g))])
        for image, i, g in zip(images, inside, grown, strict=True)
    ]
    return inside, cut


def best_shape(
    scene: Scene,
    residual: Image,
    box: Box,
    centre: NDArray[np.float64],
    covariance: NDArray[np.float64],
    colour: Image,
) -> Shape:
    """Fit a point and Gaussians to a source, the others' light being subtracted.

    Parameters
    ----------
    residual : (C, H, W) float32, the image less the other sources.
    covariance : (2, 2) intrinsic, of the Gaussian of width one.
    colour : (C,) float32 spectrum, summing to one.
    """
    psf = scene.kernels.sigma**2 * np.eye(2)
    widths = [0.0, *WIDTHS]
    parts = [draw(box, centre, w * w * covariance + psf) for w in widths]
    outers, images = rendered([box] * len(parts), parts, scene)
    outer = outers[0]
    s: Any = (slice(None), *outer.slices)
    root = np.sqrt(scene.weights[s])
    design = np.stack([(root * colour[:, None, None] * t).ravel() for t in images])
    matrix = (design @ design.T).astype(float)
    vector = (design @ (root * residual[s]).ravel()).astype(float)
    flux = non_negative_least_squares(matrix, vector, np.zeros(len(parts)))
    alone = max(vector[0] / matrix[0, 0], 0.0) if matrix[0, 0] > 0 else 0.0
    gain = float(2 * vector @ flux - flux @ matrix @ flux)
    gain -= 2 * vector[0] * alone - matrix[0, 0] * alone**2
    weights = flux.astype(np.float32)
    model = colour[:, None, None] * np.tensordot(weights, np.stack(images), 1)
    return Shape(box, np.tensordot(weights, np.stack(parts), 1), outer, model, gain, alone)
