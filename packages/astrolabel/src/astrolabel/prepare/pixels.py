"""The pixels of one band as its files hold them: image, noise, mask, and which are valid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.io import layer_pixels
from astrolabel.io.files import CoaddFiles

BAD_PLANES = ("NO_DATA", "BAD", "UNMASKEDNAN", "COSMIC_RAY", "TRAIL")
"""Mask planes whose pixels are not measurements. Saturated and interpolated pixels stay:
without them every bright star would lose its middle and with it its label. So do those of CR:
in a coadd they say that a cosmic ray was interpolated in one of many exposures. In a real
UltraDeep cutout these are the pixels of INTRP, 2 to 6 % of each band and an eighth of gri,
with the variance and the scatter of their neighbours."""
WORDS = {
    "variance": "the variance plane",
    "rms": "the error plane",
    "inverse": "the inverse variance",
    "weight": "the weight map, as an inverse variance,",
}


@dataclass(frozen=True, eq=False)
class Plane:
    """One band in one box.

    Attributes
    ----------
    image : (h, w) float32 linear fluxes; anything where not valid.
    variance : (h, w) float32, or None where the files give no noise.
    mask : bits and their names, or None without a mask.
    valid : (h, w) bool.
    noise_word : what the noise is from, for people.
    relative_weight : whether the noise is of a weight without a unit.
    """

    image: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    mask: tuple[NDArray[np.int32], dict[str, int]] | None
    valid: NDArray[np.bool_]
    noise_word: str = ""
    relative_weight: bool = False

    def without(self, wrong: NDArray[np.bool_]) -> Plane:
        return replace(self, valid=self.valid & ~wrong)


def read_plane(files: CoaddFiles, index: int, box: Box, scale: float = 1.0) -> Plane:
    """The pixels of one band inside a box, times `scale`."""
    band, layer = files.bands[index], files.layers[index]
    noise_layer = files.variance.get(band, layer)
    image = layer_pixels.read_image(layer, box, scale)
    variance = layer_pixels.read_variance(noise_layer, box, scale)
    valid = np.isfinite(image)
    mask = layer_pixels.read_mask(files.mask.get(band, layer), box)
    if mask is not None:
        bits, planes = mask
        for name in BAD_PLANES:
            if name in planes:
                valid &= (bits & (1 << planes[name])) == 0
    if variance is not None:
        valid &= np.isfinite(variance) & (variance > 0)
    weight = noise_layer.noise == "weight"
    return Plane(image, variance, mask, valid, WORDS[noise_layer.noise], weight)
