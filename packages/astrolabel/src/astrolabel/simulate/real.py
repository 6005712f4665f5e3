"""Real galaxies as what is drawn: stamps of a catalog, or cut from any image.

A picture of a galaxy as a telescope saw it is drawn as if it were the galaxy itself. What the
telescope's own PSF took from it stays lost, and the survey's PSF comes on top. So the truth is
exact at any seeing, and galaxies are a little smoother than they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import sep
from astropy.io import fits
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.errors import InputError
from astrolabel.simulate.profiles import Grid

KERNEL = np.array([1, 4, 6, 4, 1]) / 16
"""B3 spline of the starlet transform."""
SIGNIFICANCE = 3.5
"""Starlet coefficients below this many sigma of their scale are noise."""
SEGMENT_SIGMA = 1.5
"""Isophote, in sigma of a pixel, that bounds a galaxy and its neighbours in their picture."""
ISOPHOTE = 0.01
"""A galaxy ends at this part of its peak's surface brightness where its noise is lower."""
MAX_EXCESS = 1.2
"""Early types differ from themselves turned by half a turn by some per cent."""
BRIDGE = 0.6
"""What hangs on a galaxy and is narrower than this part of it is a neighbour."""
RIM_PX = 1.5
"""Width over which a picture ends."""
CANDIDATES = 12
"""So many catalog galaxies are drawn at random; of these the one most like in magnitude is used."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Picture:
    """A galaxy without noise, sky and neighbours.

    Attributes
    ----------
    name : where it is from.
    light : (C, h, w) float32, not negative; each plane sums to one. One plane where one band
        was observed.
    centre : (y, x) of the brightest pixel at the scale of a third of the galaxy.
    half_light_px : radius about the centre that holds half the light.
    concentration : 5 log10 of the radii of 80 % and 20 % of the light: 2.5 to 3 for discs and
        irregular galaxies, 4 and more for early types.
    reach_px : distance of the farthest light from the centre.
    """

    name: str
    light: NDArray[np.float32]
    centre: tuple[float, float]
    half_light_px: float
    concentration: float
    reach_px: float


@dataclass(frozen=True, eq=False)
class Appearance:
    """How a picture is put on the sky.

    Attributes
    ----------
    picture : what.
    radius_arcsec : half-light radius it is stretched to, before the survey's PSF.
    angle_rad : it is turned by, from +x to +y; mirrored before that.
    blue_knots : exponent of the contrast of a one-band picture in the bluest band, beyond the
        reddest: knots of young stars are bluer than what they lie in.
    """

    picture: Picture
    radius_arcsec: float
    angle_rad: float = 0.0
    mirrored: bool = False
    blue_knots: float = 0.3


def make_picture(
    name: str,
    image: NDArray[np.floating[Any]],
    centre: tuple[float, float] | None = None,
    deblend_contrast: float = 0.02,
    smooth: bool = False,
) -> Picture:
    """Cut a galaxy from an image: noise, sky, neighbours and what is cut off go.

    Parameters
    ----------
    image : (h, w) or (C, h, w), any unit linear in flux, blue band first. The sky should be
        seen around the galaxy. NaN pixels are filled like what a neighbour covers.
    centre : (y, x) of a pixel of the galaxy; the image's middle by default.
    deblend_contrast : what touches the galaxy and has less than this part of its light stays
        in the picture as its substructure; with 1 everything does.
    smooth : for early types, which have no knots: what is brighter by `MAX_EXCESS` than the
        galaxy's other side is a neighbour, too.

    Raises
    ------
    InputError
        When nothing is there.
    """
    cube = np.asarray(image, np.float64).reshape((-1, *image.shape[-2:]))
    if centre is None:
        centre = ((cube.shape[1] - 1) / 2, (cube.shape[2] - 1) / 2)
    missing = ~np.isfinite(cube).all(0)
    cube = np.where(missing, np.nanmedian(cube, axis=(1, 2))[:, None, None], cube)
    border = _border(cube.shape[1:])
    cube = cube - np.median(cube[:, border], axis=1)[:, None, None]
    clean = np.maximum([denoise(plane) for plane in cube], 0)
    own, others = _segments(cube.sum(0), centre, deblend_contrast)
    others |= missing
    if not own.any():
        raise InputError(f"no galaxy at {centre}", file=name)
    middle = _peak(clean.sum(0) * own, np.sqrt(own.sum() / np.pi) / 3)
    # The galaxy's other side stands in for what a neighbour covers.
    covered = _turned(others.astype(np.float64), middle) > 0.5
    other_side = np.stack([_turned(plane, middle) for plane in clean])
    light = np.where(others, np.where(covered, 0, other_side), clean)
    if smooth:
        other_side = np.stack([_turned(plane, middle) for plane in light])
        light = np.minimum(light, MAX_EXCESS * other_side)
    # A soft rim: a step where the isophote ends would be seen.
    light *= ndimage.gaussian_filter(own.astype(np.float64), RIM_PX, mode="constant")
    return measured_picture(name, light, middle)


def measured_picture(name: str, light: Array, middle: tuple[float, float]) -> Picture:
    """Picture of light without noise, sky and neighbours.

    Parameters
    ----------
    light : (C, h, w), any unit linear in flux, not negative.
    middle : (y, x) of the galaxy's centre, px.

    Raises
    ------
    InputError
        When it has no light in a band.
    """
    total = light.sum((1, 2), keepdims=True)
    if not (total > 0).all():
        raise InputError("a band in which the galaxy has no light", file=name)
    light = light / total
    rows, columns = np.indices(light.shape[1:])
    distance = np.hypot(rows - middle[0], columns - middle[1]).ravel()
    order = np.argsort(distance)
    growth = np.cumsum(light.mean(0).ravel()[order])
    r20, r50, r80 = (float(distance[order][np.searchsorted(growth, p)]) for p in (0.2, 0.5, 0.8))
    return Picture(
        name=name,
        light=light.astype(np.float32),
        centre=middle,
        half_light_px=max(r50, 0.5),
        concentration=5 * float(np.log10(max(r80, 0.5) / max(r20, 0.25))),
        reach_px=float(distance[light.max(0).ravel() > 0].max()) + 1,
    )


def denoise(image: Array) -> Array:
    """Keep the starlet coefficients that stand out of the noise of their scale.

    The noise of a scale is measured on the sky in it: that of drizzled pixels is correlated.
    """
    smooth, planes = image, []
    for step in range(max(int(np.log2(min(image.shape))) - 3, 2)):
        kernel = np.zeros(4 * 2**step + 1)
        kernel[:: 2**step] = KERNEL
        next_ = ndimage.convolve1d(ndimage.convolve1d(smooth, kernel, 0), kernel, 1)
        planes.append(smooth - next_)
        smooth = next_
    border, out = _border(image.shape), smooth
    for plane in planes:
        sigma = 1.4826 * np.median(np.abs(plane[border]))
        out = out + np.where(np.abs(plane) > SIGNIFICANCE * sigma, plane, 0)
    return np.asarray(out)


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """An eighth of the image along each edge."""
    border = np.ones(shape, bool)
    width = max(min(shape) // 8, 2)
    border[width:-width, width:-width] = False
    return border


def _segments(
    image: Array, centre: tuple[float, float], contrast: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The segment at `centre`, and those of all others."""
    smooth = ndimage.gaussian_filter(image, 1.0)
    sky = smooth[_border(image.shape)]
    sigma = 1.4826 * float(np.median(np.abs(sky - np.median(sky))))
    _, labels = sep.extract(
        np.ascontiguousarray(smooth),
        SEGMENT_SIGMA,
        err=sigma,
        minarea=5,
        filter_kernel=None,
        deblend_cont=contrast,
        segmentation_map=True,
    )
    rows, columns = np.nonzero(labels)
    if not len(rows):
        return labels > 0, labels > 0
    nearest = int(np.argmin((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2))
    own = labels == labels[rows[nearest], columns[nearest]]
    others = (labels > 0) & ~own
    own &= smooth > ISOPHOTE * smooth[own].max()
    own = _compact(ndimage.binary_fill_holes(own))
    return own, others | (ndimage.binary_dilation(others, iterations=2) & ~own)


def _compact(own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A segment without what is narrower than its own narrowest breadth through the middle."""
    radius = int(BRIDGE * ndimage.distance_transform_edt(own).max())
    if radius < 2:
        return own
    core = ndimage.distance_transform_edt(own) > radius
    opened = ndimage.distance_transform_edt(~core) <= radius
    labels, count = ndimage.label(opened)
    if count == 0:
        return own
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    # The opening rounds corners off, which are the galaxy's own.
    grown = ndimage.binary_dilation(largest, iterations=max(radius // 3, 1)) & own
    parts, _ = ndimage.label(grown)
    return parts == parts[largest].max()


def _peak(light: Array, sigma: float) -> tuple[float, float]:
    """(y, x) of the brightest pixel at a scale."""
    smooth = ndimage.gaussian_filter(light, sigma)
    y, x = np.unravel_index(int(smooth.argmax()), light.shape)
    return float(y), float(x)


def _turned(plane: Array, middle: tuple[float, float]) -> Array:
    """Turned by half a turn about a pixel; 0 where that is outside."""
    shift = 2 * np.array(middle)
    return np.asarray(ndimage.affine_transform(plane, -np.eye(2), shift, order=0, mode="constant"))


def paint(appearance: Appearance, n_bands: int, grid: Grid, pixel_scale_arcsec: float) -> Array:
    """A picture of unit flux on a stamp before the PSF.

    Returns
    -------
    (C, H, W) float64, surface brightness per pixel at the fine pixels.
    """
    picture, fine = appearance.picture, grid.oversampling
    stretch = fine * appearance.radius_arcsec / pixel_scale_arcsec / picture.half_light_px
    cos, sin = np.cos(appearance.angle_rad), np.sin(appearance.angle_rad)
    # From the stamp's (y, x) back to the picture's.
    back = np.array([[cos, -sin], [sin, cos]]) / stretch
    if appearance.mirrored:
        back[1] = -back[1]
    offset = np.array(picture.centre) - back @ (fine * np.array(grid.centre))
    order = 1 if stretch < 1 else 3
    out = np.empty((n_bands, *grid.fine_shape))
    for n, plane in enumerate(_in_bands(appearance, n_bands)):
        if stretch < 1:  # the mean over a fine pixel, not one of the pixels in it
            plane = ndimage.gaussian_filter(plane, 0.4 / stretch)
        out[n] = ndimage.affine_transform(
            plane, back, offset, grid.fine_shape, order=order, mode="constant"
        )
    np.maximum(out, 0, out=out)
    total = out.sum((1, 2), keepdims=True)
    return np.asarray(out * fine**2 / np.where(total > 0, total, 1))


def _in_bands(appearance: Appearance, n_bands: int) -> Array:
    """(n_bands, h, w): the picture's planes, put in place by wavelength."""
    light = appearance.picture.light.astype(np.float64)
    if len(light) == 1:
        # Knots, by their contrast with the galaxy at a third of its size.
        smooth = ndimage.gaussian_filter(light[0], appearance.picture.half_light_px / 3)
        contrast = np.clip(light[0] / np.maximum(smooth, 1e-3 * smooth.max()), 0.1, 10)
        powers = np.linspace(appearance.blue_knots, 0, n_bands)
        return np.stack([light[0] * contrast**p for p in powers])
    places = np.linspace(0, len(light) - 1, n_bands)
    low = np.minimum(places.astype(int), len(light) - 2)
    part = (places - low)[:, None, None]
    return np.asarray((1 - part) * light[low] + part * light[low + 1])


@dataclass(frozen=True, eq=False)
class Gallery:
    """The galaxies of a catalog, read when they are drawn.

    Attributes
    ----------
    folder : of the catalog's files.
    rows : of the catalog, those that may be drawn.
    row_numbers : (N,) their numbers in the catalog.
    """

    folder: Path
    rows: fits.FITS_rec
    row_numbers: NDArray[np.int64]
    _read: dict[int, Picture | None] = field(default_factory=dict)
    _open: dict[Path, fits.HDUList] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, number: int) -> Picture | None:
        """None for a stamp in which no galaxy can be seen.

        Raises
        ------
        InputError
            When the stamp cannot be read.
        """
        if number not in self._read:
            row = self.rows[number]
            file = self.folder / str(row["GAL_FILENAME"]).strip()
            try:
                image = self._stamps(file)[int(row["GAL_HDU"])].data.copy()
            except (OSError, IndexError, AttributeError) as error:
                raise InputError(f"no stamp in HDU {row['GAL_HDU']}", file=file) from error
            name = f"{self.folder.name}[{self.row_numbers[number]}]"
            try:
                # The catalog's makers have masked the neighbours.
                self._read[number] = make_picture(name, image, deblend_contrast=1.0)
            except InputError:
                self._read[number] = None
        return self._read[number]

    def _stamps(self, file: Path) -> fits.HDUList:
        """An open file of stamps: its many headers are read once."""
        if file not in self._open:
            self._open[file] = fits.open(file)
            finalize(self, self._open[file].close)
        return self._open[file]

    def draw(self, rng: Generator, mag: float, early: bool) -> Picture:
        """One of like magnitude; of an early type, the most concentrated of three."""
        numbers = rng.integers(len(self), size=CANDIDATES)
        apart = np.abs(np.asarray(self.rows["MAG"], np.float64)[numbers] - mag)
        seen: list[Picture] = []
        for number in numbers[np.argsort(apart, kind="stable")]:
            picture = self.picture(int(number))
            if picture is not None:
                seen.append(picture)
            if len(seen) == (3 if early else 1):
                break
        if not seen:
            raise InputError("no galaxy can be seen in the catalog's stamps", file=self.folder)
        return max(seen, key=lambda p: p.concentration)


@lru_cache(4)
def read_catalog(folder: Path, subset: str = "all") -> Gallery:
    """The galaxies of a GalSim RealGalaxyCatalog.

    Parameters
    ----------
    folder : holds one catalog (``real_galaxy_catalog_*.fits``) and the stamps it names.
    subset : ``train`` has the galaxies in even rows of the catalog, ``test`` those in odd
        ones, ``all`` both.

    Raises
    ------
    InputError
        For a folder without a catalog, or with several.
    """
    found = []
    for file in sorted(folder.glob("*.fits")):
        rows = _catalog_rows(file)
        if rows is not None:
            found.append(rows)
    if len(found) != 1:
        raise InputError(
            f"{len(found)} GalSim galaxy catalogs" if found else "no GalSim galaxy catalog",
            file=folder,
            remedy="give a folder with one real_galaxy_catalog_*.fits and the stamps it names",
        )
    numbers = np.arange(len(found[0]))
    numbers = {"all": numbers, "train": numbers[::2], "test": numbers[1::2]}[subset]
    return Gallery(folder, found[0][numbers], numbers)


def _catalog_rows(path: Path) -> fits.FITS_rec | None:
    """The table of a galaxy catalog; None for another file."""
    try:
        with fits.open(path, memmap=False) as hdus:
            table = hdus[1] if len(hdus) > 1 else None
            if not isinstance(table, fits.BinTableHDU):
                return None
            if {"GAL_FILENAME", "GAL_HDU", "MAG"} <= set(table.columns.names):
                return table.data
    except OSError:
        pass
    return None
