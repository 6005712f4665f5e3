"""Plain features of candidate peaks, from which the probability of a source is computed.

A candidate's host is the parent (a connected object of the smoothed image) that it lies on. The
features compare the candidate with the noise, with the light around it, with the host's smooth
elliptical profile and the host's own scatter about that, with what is at its mirror image, and
with what the fitted models say. All lengths are in seeing FWHM, all fluxes are ratios or in sigma,
so that one table serves images of any pixel scale, seeing and depth. A feature that a candidate
does not have (a colour in a single band, a host where there is none) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.detect.profile import Profile

Array = NDArray[Any]
Vector = NDArray[np.float64]

NAMES = (
    "contrast",
    "log_significance",
    "sharpness",
    "ridge",
    "peak_snr",
    "ring_1",
    "ring_2",
    "ring_4",
    "dark_2",
    "texture",
    "colour_around",
    "log_flux_ratio",
    "log_flux_part",
    "distance_fwhm",
    "distance_radii",
    "log_beams",
    "concentration",
    "count",
    "density",
    "scatter",
    "excess_scatter",
    "excess_light",
    "excess_mirror",
    "mirror",
    "colour_host",
    "nearest_brighter_fwhm",
    "nearest_brighter_ratio",
    "neighbours_4",
    "log_gain",
    "model_part",
    "model_width",
    "model_ratio",
    "misfit",
    "model_error",
    "star_distance",
    "star_contrast",
    "star_mirror",
)
"""In the order of the columns; see `features`."""

SHARP, FINE = 0.43, 0.28
"""Sigmas of Laplacians of Gaussians, seeing FWHM: a point's own, and a finer one."""
ANGLES = 48
"""Directions in which a ring is looked at."""
HOST_PART = 0.1
"""The main candidate has the most light within this part of its parent's radius."""
IMPULSE_FWHM = 6
"""Half side of the image of a point that a filter's response is read off."""


@dataclass(frozen=True, eq=False)
class Fits:
    """What the models of the candidates say, in their order.

    Attributes
    ----------
    gain : (N,) rise of chi2 without the candidate's model, the others as they are.
    part : (N,) part of all models' light at the candidate that is its own.
    width_fwhm : (N,) FWHM of its model before the PSF, in seeing FWHM.
    flux : (N,) counts of its model in all bands.
    host_flux : (N,) counts of the brightest model whose box holds it.
    residual, weights : (C, H, W) image less all models; 1/variance.
    """

    gain: Vector
    part: Vector
    width_fwhm: Vector
    flux: Vector
    host_flux: Vector
    residual: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Field:
    """A tile in which candidates are looked at.

    Attributes
    ----------
    light, variance : (H, W) counts of the bands together, and counts squared.
    bands : (C, H, W) counts, each band.
    parents : (H, W) int32 number of the object of the smoothed image, 0 for none.
    fwhm_px : of the seeing, mean of the bands.
    stars, reaches : (M, 2) and (M,) middles of saturated stars, and the radii in pixels to which
        they are brighter than the sky.
    fits : of the candidates, or None.
    """

    light: Array
    variance: Array
    bands: Array
    parents: NDArray[np.int32]
    fwhm_px: float
    stars: Vector
    reaches: Vector
    fits: Fits | None = None


def point_flux(light: Array, width_px: float, fwhm_px: float) -> Vector:
    """(H, W) flux of the point source whose Laplacian of a Gaussian stands at each pixel."""
    unit = _sharpened(_star(fwhm_px), width_px).max()
    return np.asarray(_sharpened(light, width_px) / unit, np.float64)


def _sharpened(image: Array, width_px: float) -> Array:
    return -ndimage.gaussian_laplace(np.asarray(image, np.float64), width_px, mode="nearest")


def _star(fwhm_px: float) -> Vector:
    """A point source of one count."""
    half = int(np.ceil(IMPULSE_FWHM * fwhm_px))
    return np.asarray(
        ndimage.gaussian_filter(np.pad([[1.0]], half), fwhm_px / FWHM_PER_SIGMA), np.float64
    )


def ring_levels(
    image: Array, centres: Vector, radii: Vector, percentile: float | tuple[float, ...] = 50.0
) -> Vector:
    """(N,) or (Q, N) percentiles of `image` on circles around (N, 2) or (2,) centres.

    Beyond its edges the image goes on with its outermost pixels.
    """
    angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    on = np.stack([np.sin(angles), np.cos(angles)], axis=-1) * radii[:, None, None]
    return np.asarray(np.percentile(_values(image, on + np.atleast_2d(centres)[:, None]),
                                    percentile, axis=1), np.float64)  # fmt: skip


def _values(image: Array, points: Vector) -> Array:
    """`image` at (..., 2) points, the nearest pixel of it."""
    pixels = np.clip(np.rint(points).astype(int), 0, np.array(image.shape[-2:]) - 1)
    return np.asarray(image[..., pixels[..., 0], pixels[..., 1]])


def _ratio(a: Array, b: Array) -> Vector:
    """a / b, NaN where b is not positive."""
    return np.asarray(np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0), float)


def _log(a: Array) -> Vector:
    return np.asarray(np.log10(np.maximum(a, 1e-4)), float)


@dataclass(frozen=True, eq=False)
class Look:
    """A field as its candidates are looked at: images made once.

    Attributes
    ----------
    field : the tile.
    smooth : (H, W) counts, the light smoothed to most of the seeing.
    sharp : (H, W) counts, flux of the point source that each pixel stands for.
    region : (H, W) the parent that each pixel is on or within two seeing FWHM of, 0 for none.
    owner : (N,) parent of each candidate, 0 for none.
    host : (N,) main candidate of that parent, -1 for none.
    """

    field: Field
    smooth: Array
    sharp: Array
    region: NDArray[np.int32]
    owner: NDArray[np.int64]
    host: NDArray[np.int64]

    @classmethod
    def at(cls, field: Field, peaks: Vector) -> Look:
        """The look of a field for (N, 2) candidates (y, x)."""
        fwhm = field.fwhm_px
        region = _regions(field)
        owner = _values(region, peaks).astype(np.int64)
        return cls(field, _smooth(field.light, fwhm), point_flux(field.light, SHARP * fwhm, fwhm),
                   region, owner, _hosts(field, peaks, owner))  # fmt: skip

    @property
    def main(self) -> NDArray[np.bool_]:
        """(N,) bool: which candidates are the main ones of a parent."""
        out = np.zeros(len(self.host), bool)
        out[self.host[self.host >= 0]] = True
        return out


def features(look: Look, peaks: Vector) -> Vector:
    """(N, F) features of (N, 2) candidates (y, x), columns as in `NAMES`."""
    field = look.field
    out = dict(_local(look, peaks))
    out |= _of_hosts(look, peaks, out)
    out |= _of_neighbours(peaks, out["own"], field.fwhm_px)
    out |= _of_fits(field, peaks)
    out |= _of_stars(look, peaks, out["own"])
    return np.stack([out[name] for name in NAMES], axis=1)


def _smooth(light: Array, fwhm_px: float) -> Array:
    return ndimage.gaussian_filter(np.asarray(light, np.float64), 0.7 * fwhm_px / FWHM_PER_SIGMA)


def _near(image: Array, peaks: Vector) -> Vector:
    """(N,) highest of the nine pixels around each peak."""
    return np.asarray(_values(ndimage.maximum_filter(image, 3), peaks), np.float64)


def _local(look: Look, peaks: Vector) -> dict[str, Vector]:
    """Against the noise and the light around."""
    field, smooth = look.field, look.smooth
    fwhm, light = field.fwhm_px, field.light
    sigma = 0.7 * fwhm / FWHM_PER_SIGMA
    spread = ndimage.gaussian_filter(field.variance.astype(float), sigma)
    noise = np.sqrt(np.maximum(spread, 1e-30) / (4 * np.pi * sigma**2))
    fine, own = _near(point_flux(light, FINE * fwhm, fwhm), peaks), _near(look.sharp, peaks)
    star = _star(fwhm)
    unit = _sharpened(star, SHARP * fwhm).max()
    point = np.pad([[1.0]], star.shape[0] // 2)
    power = (_sharpened(point, SHARP * fwhm) ** 2).sum() / unit**2
    own_noise = np.sqrt(power * _values(spread, peaks))
    height = float(_smooth(star, fwhm).max())
    at = _near(smooth, peaks)
    rings = {n: _rings(smooth, peaks, n * fwhm) for n in (1, 2, 4)}
    around = np.sqrt(ring_levels(look.sharp**2, peaks, np.full(len(peaks), 3 * fwhm), 80.0))
    colours = np.stack([_values(ndimage.gaussian_filter(b, 0.4 * fwhm), peaks)
                        for b in field.bands])  # fmt: skip
    ground = np.stack([_rings(b, peaks, 1.5 * fwhm)[1] for b in field.bands])
    yy, yx, xx = (
        _values(-ndimage.gaussian_filter(light, SHARP * fwhm, order=o, mode="nearest"), peaks)
        for o in ((2, 0), (1, 1), (0, 2))
    )
    along = (yy + xx - np.hypot(yy - xx, 2 * yx)) / 2
    return {
        "own": own,
        "smooth": at,
        "noise": _values(noise, peaks),
        "contrast": _ratio(own * height, at),
        "log_significance": _log(own / own_noise),
        "sharpness": _ratio(fine, own),
        "ridge": _ratio(along, yy + xx - along),
        "peak_snr": _log(at / _values(noise, peaks)),
        **{f"ring_{n}": _ratio(rings[n][1], at) for n in rings},
        "dark_2": _ratio(rings[2][0], at),
        "texture": _ratio(around, own),
        "colour_around": _colour(colours - ground, ground),
        "colours": colours.T - ground.T,
    }


def _rings(image: Array, peaks: Vector, radius: float) -> Vector:
    """(2, N): a tenth from below, and the median, of circles of this radius."""
    return ring_levels(image, peaks, np.full(len(peaks), radius), (10.0, 50.0))


def _colour(a: Array, b: Array) -> Vector:
    """(N,) distance of two (C, N) spectra of unit sum; NaN in a single band."""
    if len(a) < 2:
        return np.full(a.shape[1], np.nan)
    a, b = (s / np.maximum(np.abs(s).sum(axis=0), 1e-30) for s in (a, b))
    return np.asarray(np.linalg.norm(a - b, axis=0), np.float64)


def _regions(field: Field) -> NDArray[np.int32]:
    """(H, W) nearest parent within two seeing FWHM, 0 for none."""
    distance, at = ndimage.distance_transform_edt(field.parents == 0, return_indices=True)
    near = distance <= 2 * field.fwhm_px
    return np.where(near, field.parents[tuple(at)], 0).astype(np.int32)


def _hosts(field: Field, peaks: Vector, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the main candidate of each one's parent, -1 without a parent.

    It is the one with the most light within a tenth of the parent's radius, no less than a seeing:
    in a spiral's bulge, not on its brightest knot, nor a star in front of it.
    """
    out = np.full(len(peaks), -1)
    broad = _values(ndimage.gaussian_filter(field.light, field.fwhm_px), peaks)
    width = HOST_PART * np.sqrt(np.bincount(field.parents.ravel()) / np.pi)
    boxes = ndimage.find_objects(field.parents)
    for number in np.unique(owner[owner > 0]):
        members, around = np.flatnonzero(owner == number), broad
        if width[number] > field.fwhm_px:
            box = boxes[number - 1]
            own = np.where(field.parents[box] == number, field.light[box], 0.0)
            light = ndimage.gaussian_filter(own, width[number])
            around = _values(light, peaks - [b.start for b in box])
        out[members] = members[np.argmax(around[members])]
    return out


def _of_hosts(look: Look, peaks: Vector, local: dict[str, Vector]) -> dict[str, Vector]:
    """Against the host: its flux, its profile, its scatter, its colour, its other side."""
    names = ("log_flux_ratio", "log_flux_part", "distance_fwhm",
             "distance_radii", "log_beams", "concentration", "count", "density", "scatter",
             "excess_scatter", "excess_light", "excess_mirror", "mirror",
             "colour_host")  # fmt: skip
    out = {name: np.full(len(peaks), np.nan) for name in names}
    field, hosts, owner = look.field, look.host, look.owner
    near = ndimage.maximum_filter(look.smooth, 3), ndimage.maximum_filter(look.sharp, 3)
    boxes = ndimage.find_objects(field.parents)
    for host in np.unique(hosts[hosts >= 0]):
        members = np.flatnonzero(hosts == host)
        number = int(owner[host])
        box = boxes[number - 1]
        y, x = np.nonzero(field.parents[box] == number)
        pixels = y + box[0].start, x + box[1].start
        profile = Profile.of(
            field.light, field.variance, look.smooth, pixels, field.fwhm_px, peaks[host]
        )
        one = _against(profile, field.fwhm_px, near, peaks, members, int(host), local)
        for name, values in one.items():
            out[name][members] = values
    return out


def _against(
    profile: Profile,
    fwhm: float,
    near: tuple[Array, Array],
    peaks: Vector,
    members: NDArray[np.int64],
    host: int,
    local: dict[str, Vector],
) -> dict[str, Any]:
    """Features of a host's candidates; `near` are `smooth` and `sharp` of the look, the highest of
    nine pixels."""
    smooth, sharp = near
    own, at, noise = (local[k][members] for k in ("own", "smooth", "noise"))
    points, centre = peaks[members], profile.centre
    distance = np.hypot(*(points - centre).T)
    level = profile.at(points)
    mirrored = 2 * centre - points
    mirror_level = profile.at(mirrored)
    excess = at - level
    mirror_excess = _values(smooth, mirrored) - mirror_level
    spectra = local["colours"][members].T
    main = np.repeat(local["colours"][host][:, None], len(members), axis=1)
    beams = profile.area / fwhm**2
    lit = own > 0.02 * max(float(own.max()), 1e-30)
    return {
        "log_flux_ratio": _log(own / max(local["own"][host], 1e-30)),
        "log_flux_part": _log(own / profile.total),
        "distance_fwhm": distance / fwhm,
        "distance_radii": distance / np.sqrt(profile.area / np.pi),
        "log_beams": np.log10(beams),
        "concentration": profile.concentration,
        "count": lit.sum(),
        "density": len(members) / beams,
        "scatter": profile.scatter,
        "excess_scatter": excess / np.hypot(noise, max(profile.scatter, 0.03) * level),
        "excess_light": excess / np.maximum(level, noise),
        "excess_mirror": np.clip(_ratio(mirror_excess, np.maximum(excess, noise)), -3, 3),
        "mirror": np.clip(_ratio(_values(sharp, mirrored), own), -3, 3),
        "colour_host": _colour(spectra, main),
    }


def _of_neighbours(peaks: Vector, own: Vector, fwhm_px: float) -> dict[str, Vector]:
    """The nearest candidate of more flux, and how many are near."""
    tree = cKDTree(peaks)
    count = min(8, len(peaks))
    far, index = tree.query(peaks, k=count)
    far, index = far.reshape(len(peaks), count), index.reshape(len(peaks), count)
    brighter = own[index] > own[:, None]
    first = brighter.argmax(axis=1)
    rows = np.arange(len(peaks))
    has = brighter.any(axis=1)
    near = np.where(has, far[rows, first], np.inf) / fwhm_px
    ratio = np.where(has, own / np.maximum(own[index[rows, first]], 1e-30), 1.0)
    around = np.array([len(p) - 1 for p in tree.query_ball_point(peaks, 4 * fwhm_px)], float)
    return {
        "nearest_brighter_fwhm": np.minimum(near, 20.0),
        "nearest_brighter_ratio": ratio,
        "neighbours_4": around,
    }


def _of_fits(field: Field, peaks: Vector) -> dict[str, Vector]:
    names = ("log_gain", "model_part", "model_width", "model_ratio", "misfit", "model_error")
    fits = field.fits
    if fits is None:
        return {name: np.full(len(peaks), np.nan) for name in names}
    fwhm = field.fwhm_px
    chi2 = (fits.weights * fits.residual**2).mean(axis=0)
    misfit = _values(ndimage.gaussian_filter(chi2, fwhm), peaks)
    power = ndimage.gaussian_filter((fits.residual.sum(axis=0)) ** 2, 1.5 * fwhm)
    power -= ndimage.gaussian_filter(1 / np.maximum(fits.weights, 1e-30), (0, 1.5 * fwhm,
                                     1.5 * fwhm)).clip(0, 1e30).sum(axis=0)  # fmt: skip
    light = ndimage.gaussian_filter(np.maximum(field.bands, 0).sum(axis=0), 1.5 * fwhm)
    return {
        "log_gain": _log(fits.gain),
        "model_part": fits.part,
        "model_width": fits.width_fwhm,
        "model_ratio": _log(_ratio(fits.flux, fits.host_flux)),
        "misfit": misfit,
        "model_error": _ratio(np.sqrt(np.maximum(_values(power, peaks), 0)), _values(light, peaks)),
    }


def _of_stars(look: Look, peaks: Vector, own: Vector) -> dict[str, Vector]:
    """Against the saturated star that reaches farthest over the candidate; NaN without one.

    A star's halo, spikes and trails are about as bright on its other side; a neighbour is not.
    """
    field, n = look.field, len(peaks)
    out = {k: np.full(n, np.nan) for k in ("star_distance", "star_contrast", "star_mirror")}
    if n == 0 or len(field.stars) == 0:
        return out
    window = 2 * round(0.9 * field.fwhm_px) + 1
    sharp = ndimage.maximum_filter(look.sharp, window)
    mean = ndimage.uniform_filter(np.asarray(field.light, float), 3)
    far = np.hypot(*(peaks[:, None] - field.stars[None]).transpose(2, 0, 1))
    part = far / np.maximum(field.reaches, 1.0)
    nearest = part.argmin(axis=1)
    star = field.stars[nearest]
    mirrored = 2 * star - peaks
    limit = np.array(field.light.shape) - 1
    inside = ((mirrored >= 0) & (mirrored <= limit)).all(axis=1)
    both = np.minimum(_values(mean, peaks), _values(mean, mirrored))
    point = 1 / (2 * np.pi * (field.fwhm_px / FWHM_PER_SIGMA) ** 2)
    own_far = np.arange(n)
    reached = part[own_far, nearest] <= 1.0
    out["star_distance"] = np.where(reached, part[own_far, nearest], np.nan)
    out["star_contrast"] = np.where(
        reached & inside, np.clip(_ratio(own * point, np.maximum(both, 1e-30)), -1, 10), np.nan
    )
    out["star_mirror"] = np.where(
        reached & inside, np.clip(_ratio(_values(sharp, mirrored), own), -1, 10), np.nan
    )
    return out
