"""Shapes in the model frame, and rendered in the bands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.deblend import profiles
from astrolabel.deblend.convolve import render_alone
from astrolabel.deblend.scene import Image, Scene


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


def drawn(
    box: Box, centre: NDArray[np.float64], shape: NDArray[np.float64], point: bool, sigma: float
) -> Image:
    """A parametric model of unit flux in the model frame, sampled at the pixels of `box`.

    Parameters
    ----------
    centre : (y, x) in the frame of the box.
    shape : (6,) parameters of `profiles`; of a point only the centre counts.
    sigma : of the model frame's PSF.
    """
    psf = sigma**2 * np.eye(2)
    if point:
        return draw(box, centre, psf)
    (yy, xy, xx), _ = profiles.covariance(shape)
    amplitudes, _ = profiles.mixture(float(shape[profiles.LOG_INDEX]))
    out = np.zeros(box.shape, np.float32)
    for amplitude, width in zip(amplitudes, profiles.WIDTHS, strict=True):
        if amplitude > 0:
            intrinsic = width**2 * np.array([[yy, xy], [xy, xx]])
            out += np.float32(amplitude) * draw(box, centre, intrinsic + psf)
    return out


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
