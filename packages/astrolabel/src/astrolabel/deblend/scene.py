"""One blend's data, and the way from the model frame to it and back."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from astrolabel.deblend.convolve import Kernels, fft_length
from astrolabel.deblend.morphology import weighted_residual

TRIM_SIGMA = 0.05
"""Rows and columns of a rendered source fainter than this many sigma of a pixel in every
band are cut off: a hundredth of the mask threshold."""

HIDDEN = 0.3
"""Where less than this part of a pixel's light, seen through the PSF, falls on data in any
band, the data say next to nothing of it: half is at the border of what has none."""

Image = NDArray[np.float32]


class Scene:
    """Image, weights and convolution of one blend.

    Attributes
    ----------
    image, weights : (C, H, W) float32.
    reach : radius in pixels to which the kernels matter for light this bright.
    fft_shape : transforms' shape: the cutout and one reach, which keeps what wraps
        around out of the cutout.
    curvature : (C, H, W) float32 ``|K|^T W``, the row sums of ``K^T W K`` for K >= 0; zero
        in pixels of the model frame that are hidden (see `HIDDEN`).
    noise : (C,) float64 typical sigma of a pixel.
    """

    def __init__(self, image: Image, weights: Image, kernels: Kernels) -> None:
        self.image = image
        self.weights = weights
        self.kernels = kernels
        highest = weights.reshape(len(weights), -1).max(axis=1)
        self.noise = 1 / np.sqrt(np.where(highest > 0, highest, np.inf).astype(float))
        self.noise[highest <= 0] = np.inf
        bright = np.maximum(image, 0).sum(axis=(1, 2)) / self.noise
        self.reach = kernels.reach(float(bright.max()))
        height, width = image.shape[1:]
        self.fft_shape = (
            fft_length(max(height, self.reach + 1) + self.reach),
            fft_length(max(width, self.reach + 1) + self.reach),
        )
        self._transfer = kernels.transform(self.fft_shape, self.reach)
        self._conjugate = np.conj(self._transfer)
        self.canvas = np.zeros((len(image), *self.fft_shape), np.float32)
        self._residual = np.zeros_like(self.canvas)
        absolute = np.conj(kernels.transform(self.fft_shape, self.reach, absolute=True))
        self.canvas[:, :height, :width] = weights
        self.curvature = np.ascontiguousarray(
            self._convolve(self.canvas, absolute)[:, :height, :width]
        )
        # Where no weight lies within reach the FFT leaves rounding errors of either sign.
        floor = 1e-4 * highest[:, None, None]
        np.maximum(self.curvature, floor, out=self.curvature)
        self.curvature[:, self._hidden(absolute)] = 0

    def _hidden(self, absolute: NDArray[np.complex64]) -> NDArray[np.bool_]:
        """(H, W): where the data say next to nothing of the model."""
        height, width = self.image.shape[1:]
        known = self.weights > 0
        if known.all():
            return np.zeros((height, width), bool)
        self.canvas[:, :height, :width] = known
        part = self._convolve(self.canvas, absolute)[:, :height, :width]
        hidden = part < HIDDEN * absolute[:, :1, :1].real
        return np.asarray(hidden.all(axis=0), bool)

    def _convolve(self, scene: Image, transfer: NDArray[np.complex64]) -> Image:
        spectrum = scipy.fft.rfft2(scene)
        spectrum *= transfer
        out: Image = scipy.fft.irfft2(spectrum, s=self.fft_shape, overwrite_x=True)
        return out

    def forward(self, scene: Image) -> Image:
        """(C, F, G) model frame to observed bands; what lies beyond (H, W) is padding."""
        return self._convolve(scene, self._transfer)

    def backward(self, residual: Image) -> Image:
        """The transpose of `forward`."""
        return self._convolve(residual, self._conjugate)

    def gradient(self, scene: Image) -> tuple[Image, float]:
        """Gradient of chi2/2 with respect to the model frame (C, F, G), and chi2."""
        model = self.forward(scene)
        chi2 = weighted_residual(model, self.image, self.weights, self._residual)
        return self.backward(self._residual), chi2

    def chi2(self, model: Image) -> float:
        """chi2 of a model (C, H, W) of the observed bands."""
        return float((self.weights * (self.image - model) ** 2).sum(dtype=float))
