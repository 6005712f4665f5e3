"""Which pixels are saturated, guessed from the image where no mask has them.

Four signs of a full pixel: it is as bright as all around it; it is at the image's highest level,
which far more pixels have than one a little lower; light there changes from pixel to pixel more
sharply than any scene seen through the PSF can; it has no value, in the middle of bright light.
Cosmic rays are sharp too, but stand on no star's light.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core import background
from astrolabel.core.config.prepare import SaturationConfig
from astrolabel.core.psf import FWHM_PER_SIGMA, sigma_px

DIFFERENCE = np.array([1.0, -2.0, 1.0])


def saturated_cores(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    valid: NDArray[np.bool_],
    stamp: NDArray[np.float32],
    config: SaturationConfig,
) -> NDArray[np.bool_]:
    """(H, W) bool: pixels that look saturated.

    Parameters
    ----------
    image : (H, W) counts, sky subtracted; anything where not `valid`.
    variance : (H, W) counts squared, with the sources' photon noise where that is known.
    valid : (H, W) bool.
    stamp : (P, P) PSF.
    """
    data = background.fill_invalid(image, valid)
    sigma = np.sqrt(np.where(valid, np.maximum(variance, 0), 0))
    sky = float(np.median(sigma[valid])) if valid.any() else 0.0
    if not (sky > 0 and (data > config.bright_sigma * sky).any()):
        return np.zeros(image.shape, bool)
    width = sigma_px(stamp)
    flat = (_flat_tops(data, sky, config) | _at_the_limit(data, sigma, sky, config)) & valid
    out = flat | _ragged_cores(data, sigma, valid, stamp, width, sky, config)
    return _closed(out | _holes(data, valid, config.bright_sigma * sky), width)


def _flat_tops(
    data: NDArray[np.float32], sky: float, config: SaturationConfig
) -> NDArray[np.bool_]:
    """Flat pixels and their neighbours."""
    highest, lowest = (
        f(data, 3, mode="nearest") for f in (ndimage.maximum_filter, ndimage.minimum_filter)
    )
    flat = (highest - lowest < config.flat * highest) & (data > config.bright_sigma * sky)
    return np.asarray(ndimage.binary_dilation(flat, np.ones((3, 3), bool)))


def _at_the_limit(
    data: NDArray[np.float32],
    sigma: NDArray[np.floating[Any]],
    sky: float,
    config: SaturationConfig,
) -> NDArray[np.bool_]:
    """Pixels at the limit of a detector or plate, whatever the noise on it.

    The top of a source falls off quadratically, so that as many pixels are in an interval just
    below the highest level as in the next one. Where a limit cuts the tops off, nearly all are in
    the first.
    """
    smooth = ndimage.median_filter(data, 3, mode="nearest")
    top = float(smooth.max())
    if top <= config.bright_sigma * sky:
        return np.zeros(data.shape, bool)
    noise = float(np.median(sigma[smooth > 0.8 * top]))
    width = max(config.limit_spread * top, config.limit_sigma * noise)
    full, below = smooth > top - width, smooth > top - 2 * width
    count = int(full.sum())
    enough = count >= config.limit_px and count > config.limit_ratio * (below.sum() - count)
    return full if enough else np.zeros(data.shape, bool)


def _ragged_cores(
    data: NDArray[np.float32],
    sigma: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    stamp: NDArray[np.float32],
    width: float,
    sky: float,
    config: SaturationConfig,
) -> NDArray[np.bool_]:
    """Pixels sharper than the PSF in the cores of stars."""
    blurred = ndimage.gaussian_filter(data, width)
    bright = blurred > config.bright_sigma * sky
    if not bright.any():
        return bright
    # Missing pixels are set to zero, and sharp for it.
    whole = ndimage.binary_erosion(valid, np.ones((3, 3)), border_value=1)
    scatter = float((DIFFERENCE**2).sum()) * ndimage.maximum_filter(sigma, 3)
    excess = np.abs(_second_difference(data)) - config.noise_sigma * scatter
    sharp = bright & whole & (excess > config.sharp * _sharpest(stamp, width) * blurred)
    parts, count = ndimage.label(ndimage.binary_dilation(sharp, np.ones((3, 3))), np.ones((3, 3)))
    numbers = np.arange(count + 1)
    enough = ndimage.sum_labels(sharp, parts, numbers) >= config.min_sharp_px
    # A star is bright for some seeing discs around; a cosmic ray is narrow.
    side = 2 * int(np.ceil(FWHM_PER_SIGMA * width)) + 1
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if enough[number]:
            around = tuple(slice(max(s.start - side, 0), s.stop + side) for s in box)
            wide = ndimage.median_filter(data[around], side, mode="nearest")
            enough[number] = wide.max() > config.bright_sigma / 2 * sky
    enough[0] = False
    return np.asarray(sharp & enough[parts])


def _second_difference(array: NDArray[Any]) -> NDArray[np.float64]:
    """Along rows and columns."""
    rows = ndimage.convolve1d(array.astype(np.float64), DIFFERENCE, 0, mode="nearest")
    return np.asarray(ndimage.convolve1d(rows, DIFFERENCE, 1, mode="nearest"))


def _sharpest(stamp: NDArray[np.float32], width: float) -> float:
    """The most that a second difference of a scene can be, in parts of the blurred scene.

    A scene is a sum of point sources without negative ones, so what no point source exceeds
    at any pixel no scene does.
    """
    most = 0.0
    half = int(np.ceil(4 * width))
    for shift in ((0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5)):  # of the source within its pixel
        star = ndimage.shift(np.pad(stamp.astype(np.float64), half), shift, order=3)
        blurred = ndimage.gaussian_filter(star, width)
        lit = blurred > 1e-3 * blurred.max()
        most = max(most, float((np.abs(_second_difference(star))[lit] / blurred[lit]).max()))
    return most


def _holes(data: NDArray[np.float32], valid: NDArray[np.bool_], bright: float) -> NDArray[np.bool_]:
    """Missing pixels that light of more than `bright` counts surrounds."""
    holes, count = ndimage.label(~valid, np.ones((3, 3)))
    out = np.zeros(count + 1, bool)
    for number, box in enumerate(ndimage.find_objects(holes), start=1):
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        hole = holes[around] == number
        edge = data[around][ndimage.binary_dilation(hole, np.ones((3, 3))) & valid[around]]
        out[number] = edge.size > 0 and bool(np.median(edge) > bright)
    return np.asarray(out[holes])


def _closed(saturated: NDArray[np.bool_], width: float) -> NDArray[np.bool_]:
    """With the pixels between full ones: what lies within one seeing disc of them."""
    if not saturated.any():
        return saturated
    reach = FWHM_PER_SIGMA * width / 2
    pad = int(np.ceil(reach)) + 1
    wide = np.pad(saturated, pad)
    near = ndimage.distance_transform_edt(~wide) <= reach
    inside = ndimage.binary_fill_holes(ndimage.distance_transform_edt(near) > reach)
    return np.asarray(inside[pad:-pad, pad:-pad] | saturated)
