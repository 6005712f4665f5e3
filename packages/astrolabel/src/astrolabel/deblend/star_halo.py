"""A saturated star's light beyond its PSF: halo, diffraction spikes, remains of bleed trails.

No profile is assumed, only what all of these have in common: they are there on both sides of
the star, and fall outward. What a star has of that beyond its PSF is measured once, before
anything is fitted, and taken out of the image: its neighbours keep theirs, and its
mask gets what is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.config import HaloConfig
from astrolabel.core.psf import fwhm_px
from astrolabel.deblend.convolve import convolved, with_wings


@dataclass(frozen=True, eq=False)
class Halo:
    """Of one star.

    Attributes
    ----------
    box : where `light` lies in the image.
    light : (C, h, w) float32 counts beyond the star's PSF; zero on saturated pixels.
    full : (h, w) bool: the saturated pixels that are the star's.
    """

    box: Box
    light: NDArray[np.float32]
    full: NDArray[np.bool_]

    def joined(
        self, box: Box, model: NDArray[np.float32]
    ) -> tuple[Box, NDArray[np.float32], NDArray[np.bool_]]:
        """Box, light (C, h, w) and saturated pixels (h, w) of the star and its halo together.

        Parameters
        ----------
        box, model : of the star under its PSF, (C, h, w).
        """
        whole = self.box | box
        light = np.zeros((len(model), *whole.shape), np.float32)
        light[(slice(None), *box.slices_in(whole))] += model
        light[(slice(None), *self.box.slices_in(whole))] += self.light
        full = np.zeros(whole.shape, bool)
        full[self.box.slices_in(whole)] = self.full
        return whole, light, full


def take_halos(
    image: NDArray[np.float32],
    weights: NDArray[np.float32],
    saturated: NDArray[np.bool_],
    psfs_at: Callable[[float, float], NDArray[np.float32]],
    peaks: NDArray[np.float64],
    config: HaloConfig,
) -> dict[int, Halo]:
    """The halos of the saturated stars among (N, 2) peaks, by their index; taken out of `image`.

    The star with most saturated pixels first: its halo may be the ground of another's.
    `psfs_at` gives the (C, P, P) PSFs at (y, x); see `measure_halo` for the others.
    """
    if not config.reach_fwhm or not saturated.any() or len(peaks) == 0:
        return {}
    regions = ndimage.label(saturated, np.ones((3, 3)))[0]
    number = regions[tuple(peaks.astype(int).T)]
    area = np.bincount(regions.ravel())[number]
    sigma = typical_sigma(weights)
    out: dict[int, Halo] = {}
    for k in np.argsort(-area, kind="stable"):
        if number[k] > 0:
            psfs = psfs_at(*peaks[k])
            halo = measure_halo(image, weights, sigma, saturated, psfs, peaks[k], config)
            image[(slice(None), *halo.box.slices)] -= halo.light
            out[int(k)] = halo
    return out


def measure_halo(
    image: NDArray[np.float32],
    weights: NDArray[np.float32],
    sigma: NDArray[np.float64],
    saturated: NDArray[np.bool_],
    psfs: NDArray[np.float32],
    peak: NDArray[np.float64],
    config: HaloConfig,
) -> Halo:
    """The halo of the saturated star at a peak.

    Parameters
    ----------
    image, weights : (C, H, W) float32 counts, sky subtracted, and 1/variance; zero where not
        valid.
    sigma : (C,) counts, of a pixel of sky; see `typical_sigma`.
    saturated : (H, W) bool, in any band.
    psfs : (C, P, P) float32, under the star.
    peak : (y, x) in pixels, on saturated ones.
    """
    seeing = float(np.mean([fwhm_px(stamp) for stamp in psfs]))
    radius = round(config.reach_fwhm * seeing)
    around = Box.around(int(peak[0]), int(peak[1]), radius + config.off_centre_px)
    box = around & Box.of_shape(image.shape)
    part = (slice(None), *box.slices)
    full = saturated[box.slices].copy()
    known = (weights[part] > 0) & ~full
    data = np.where(known, image[part], 0)
    guess = np.asarray(peak) - (box.y0, box.x0)
    regions = ndimage.label(full, np.ones((3, 3)))[0]
    full &= regions == regions[tuple(guess.astype(int))]
    near = ndimage.distance_transform_edt(~full) < config.near_fwhm * seeing
    centre = _centre(data, known & near, sigma, guess, full, config)
    one_sided = _one_sided((known & near).any(axis=0), centre)
    error = config.psf_error + config.one_sided_error * one_sided
    light = np.zeros_like(data)
    for c, band in enumerate(data):
        if np.isfinite(sigma[c]):
            own = _symmetric_light(band, known[c], centre, sigma[c], radius, config)
            wings = _scaled_psf(own, psfs[c], centre, known[c], sigma[c], radius, config)
            beyond = np.minimum(own - wings, 2 * (own - (1 + error) * wings))
            light[c] = np.where(known[c], np.maximum(beyond, 0), 0)
    return Halo(box, light.astype(np.float32), full)


def typical_sigma(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """(C,) sigma of a pixel of sky; infinite in a band without data."""
    known = [w[w > 0] for w in weights]
    return np.array([float(1 / np.sqrt(np.median(w))) if w.size else np.inf for w in known])


def _centre(
    data: NDArray[np.float32],
    known: NDArray[np.bool_],
    sigma: NDArray[np.float64],
    guess: NDArray[np.float64],
    full: NDArray[np.bool_],
    config: HaloConfig,
) -> NDArray[np.float64]:
    """(y, x) about which the image is most like itself turned by half a circle.

    On the saturated pixels of the star (h, w), `full`, lest a neighbour take it away.

    The maximum of the light on both sides less `unlike` times what these differ by: at an edge
    most light would be on both sides of a place farther in. Of the image's root, lest bright
    pixels decide alone.
    """
    flat = np.sqrt(np.maximum(data / np.maximum(sigma, 1e-30)[:, None, None], 0)).sum(axis=0)
    everywhere = known[np.isfinite(sigma)].all(axis=0)
    flat = np.where(everywhere, flat, 0)
    flat = np.where(everywhere, _smoothed(flat, np.asarray(everywhere), config), 0)
    there = everywhere.astype(float)
    alike = convolved(flat, flat)
    both = alike - config.unlike * (convolved(flat**2, there) - alike)
    middle = np.rint(2 * guess).astype(int)
    low = np.maximum(middle - 2 * config.off_centre_px, 0)
    high = np.minimum(middle + 2 * config.off_centre_px + 1, both.shape)
    window = both[low[0] : high[0], low[1] : high[1]]
    if min(window.shape, default=0) < 3 or alike.max() <= 0:
        return guess
    halves = [np.arange(*ends) // 2 for ends in zip(low, high, strict=True)]
    possible = np.where(full[np.ix_(*halves)], window, -np.inf)
    at = np.array(np.unravel_index(int(possible.argmax()), window.shape))
    at = np.clip(at, 1, np.array(window.shape) - 2)
    return (at + low + _summit(window[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2])) / 2


def _summit(patch: NDArray[np.float64]) -> NDArray[np.float64]:
    """(y, x) of the maximum of a (3, 3) patch from its middle, by parabolas."""
    out = np.zeros(2)
    for axis, line in enumerate((patch[:, 1], patch[1])):
        bend = 2 * line[1] - line[0] - line[2]
        out[axis] = np.clip((line[2] - line[0]) / (2 * bend), -0.5, 0.5) if bend > 0 else 0.0
    return out


def _one_sided(known: NDArray[np.bool_], centre: NDArray[np.float64]) -> float:
    """Part of the known pixels (h, w) that have no other opposite."""
    places = np.argwhere(known)
    across = np.rint(2 * centre - places).astype(int)
    inside = ((across >= 0) & (across < known.shape)).all(axis=1)
    return 1 - float(known[tuple(across[inside].T)].sum()) / max(len(places), 1)


def _symmetric_light(
    band: NDArray[np.float32],
    known: NDArray[np.bool_],
    centre: NDArray[np.float64],
    sigma: float,
    radius: int,
    config: HaloConfig,
) -> NDArray[np.float64]:
    """(h, w) light that is on both sides of the centre and falls outward, in counts."""
    smooth = _smoothed(band, known, config)
    seen = np.isfinite(smooth)
    smooth = np.where(seen, smooth, 0)
    turns = 2 * int(np.ceil(np.pi * radius / 2))  # rays a pixel or two apart at the rim
    angles = 2 * np.pi * np.arange(turns) / turns
    radii = np.arange(radius + 1.0)
    y = centre[0] + np.outer(np.sin(angles), radii)
    x = centre[1] + np.outer(np.cos(angles), radii)
    rays = ndimage.map_coordinates(smooth, [y, x], order=1, mode="constant", cval=0.0)
    part = ndimage.map_coordinates(seen.astype(float), [y, x], order=1, mode="constant", cval=0.0)
    rays = np.where(part > 0.5, rays / np.maximum(part, 0.5), np.inf)  # infinite: not known
    opposite = np.roll(rays, turns // 2, axis=0)
    both = np.minimum(rays, opposite)
    falling = np.minimum.accumulate(both, axis=1)
    profile = _profile(falling, config.kept_sigma * sigma)
    noise = 0.28 * sigma
    falling = np.where(np.isfinite(falling), falling, profile)
    # What is seen on one side alone may be a neighbour.
    spike = (
        (falling - profile > config.spike_sigma * noise) & np.isfinite(rays) & np.isfinite(opposite)
    )
    falling = np.where(spike, falling, profile)
    rows, columns = np.indices(band.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    angle = np.arctan2(rows - centre[0], columns - centre[1]) * turns / (2 * np.pi)
    looped = np.concatenate([falling, falling[:1]])
    out = ndimage.map_coordinates(
        looped, [angle % turns, np.minimum(distance, radius)], order=1, mode="nearest"
    )
    return np.where(distance <= radius, np.maximum(out, 0), 0)


def _profile(rays: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """(R,) median over the rays, falling outward, down to the `least` counts."""
    finite = np.isfinite(rays)
    enough = finite.sum(axis=0) >= len(rays) // 8
    median = np.full(rays.shape[1], np.inf)
    median[enough] = [
        np.median(r[f]) for r, f in zip(rays.T[enough], finite.T[enough], strict=True)
    ]
    out = np.minimum.accumulate(median)
    out = np.where(np.isfinite(out), out, np.min(out))
    out = np.where(np.isfinite(out), out, 0)
    return np.where(out > least, out, 0)


def _scaled_psf(
    own: NDArray[np.float64],
    psf: NDArray[np.float32],
    centre: NDArray[np.float64],
    known: NDArray[np.bool_],
    sigma: float,
    radius: int,
    config: HaloConfig,
) -> NDArray[np.float64]:
    """(h, w) the most of a PSF that the star's light has everywhere."""
    wide = with_wings(psf[None])[0].astype(np.float64)
    half = wide.shape[0] // 2
    rows, columns = np.indices(own.shape)
    at = [rows - centre[0] + half, columns - centre[1] + half]
    star = ndimage.map_coordinates(wide, at, order=3, mode="constant", cval=0.0)
    usable = known & (own > config.bright_sigma * sigma) & (star > 0)
    if not usable.any():
        return np.zeros_like(own)
    rings = np.rint(np.hypot(rows - centre[0], columns - centre[1])[usable]).astype(int)
    star *= np.median(own[usable] / star[usable])
    seen = _symmetric_light(star, known, centre, sigma, radius, config)  # as the star's was
    ratio = own[usable] / np.maximum(seen[usable], config.kept_sigma * sigma)
    scale = min(float(np.median(ratio[rings == r])) for r in np.unique(rings))
    return scale * seen


def _smoothed(
    array: NDArray[Any], known: NDArray[np.bool_], config: HaloConfig
) -> NDArray[np.float64]:
    """(h, w) mean of the known pixels around; infinite where there are none to speak of."""
    share = ndimage.gaussian_filter(known.astype(np.float64), config.smoothing_px)
    smooth = ndimage.gaussian_filter(np.where(known, array, 0.0), config.smoothing_px)
    return np.where(share > 0.1, smooth / np.maximum(share, 0.1), np.inf)
