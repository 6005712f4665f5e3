"""`Coadd`: the pixels of one patch (or part of it) in all bands, in one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs
from astrolabel.core.errors import InputError
from astrolabel.core.notes import Note
from astrolabel.core.psf import StampGrid, stamps_at


@dataclass(frozen=True, eq=False)
class Coadd:
    """Aligned images of one piece of sky in C bands.

    Attributes
    ----------
    name : what messages and files call it, e.g. ``9813-4,5``.
    bands : C names in the order of the first axis of every array.
    image : (C, H, W) float32, native byte order, counts of flux per pixel. Pixels
        without data may hold anything, also NaN: `valid` says which to use.
    variance : (C, H, W) float32, counts squared; zero, negative, NaN or infinite
        where there is no information.
    valid : (C, H, W) bool: finite image, positive finite variance, and none of the
        planes that mean "no measurement" set.
    planes : bits of the mask by plane name, the same for all bands.
    mask : (C, H, W) int32 of those bits; zeros where the survey gave no mask.
    psfs : (C, P, P) float32, P odd, each summing to one, centred on its middle pixel; where
        the PSF varies, that of the middle of what was read.
    psf_grids : C grids of stamps by position in this array's pixels, None for a band whose
        PSF is the same everywhere; empty where that is so for all.
    noise_correlation : (C, 2R+1, 2R+1) correlation of each band's noise by offset in pixels,
        1 in the middle; None where it is white.
    steps : (C,) counts in which each band's values come, as they do of photons and integers; 0
        for a band that is continuous; empty where all are.
    zeropoints : C AB magnitudes of one count.
    wcs : celestial WCS of this array's pixels, or None.
    origin : (y, x) of this array's first pixel in the frame the survey counts in
        (HSC: the tract), so that pieces of one patch can be laid side by side.
    tract, patch : the survey's own names, or empty.
    notes : what was assumed of the files, and what is doubtful.
    """

    name: str
    bands: tuple[str, ...]
    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    valid: NDArray[np.bool_]
    psfs: NDArray[np.float32]
    zeropoints: tuple[float, ...]
    planes: Mapping[str, int] = field(default_factory=dict)
    mask: NDArray[np.int32] | None = None
    wcs: WCS | None = None
    origin: tuple[int, int] = (0, 0)
    tract: str = ""
    patch: str = ""
    notes: tuple[Note, ...] = ()
    psf_grids: tuple[StampGrid | None, ...] = ()
    noise_correlation: NDArray[np.float32] | None = None
    steps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.ndim != 3 or shape[0] != len(self.bands):
            raise InputError(
                f"image of shape {shape} does not hold the {len(self.bands)} bands "
                f"{','.join(self.bands)}",
                file=self.name,
            )
        for what, array in (("variance", self.variance), ("valid", self.valid)):
            if array.shape != shape:
                raise InputError(
                    f"{what} plane of shape {array.shape} on an image of {shape}", file=self.name
                )
        if self.psfs.ndim != 3 or self.psfs.shape[0] != shape[0] or self.psfs.shape[1] % 2 == 0:
            raise InputError(
                f"PSF stamps of shape {self.psfs.shape}: one odd-sized stamp per band is needed",
                file=self.name,
            )

    def psfs_at(self, y: float, x: float) -> NDArray[np.float32]:
        """(C, P, P) PSFs at a place: the nearest stamps, `psfs` where there is no grid."""
        return stamps_at(self.psfs, self.psf_grids, y, x)

    def weighted(
        self, usable: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(C, H, W) image and 1/variance, both zero where not `usable`."""
        weights = np.where(usable, 1 / np.where(usable, self.variance, 1), 0)
        return np.where(usable, self.image, 0).astype(np.float32), weights.astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[1], self.image.shape[2]

    def plane(self, name: str, box: Box | None = None) -> NDArray[np.bool_]:
        """(C, h, w) bool: where a mask plane is set; all False where it is unknown.

        Parameters
        ----------
        box : the part that is wanted, inside this array; all of it by default.
        """
        part = (slice(None), *(Box.of_shape(self.image.shape) if box is None else box).slices)
        if self.mask is None or name not in self.planes:
            return np.zeros(self.image[part].shape, bool)
        return (self.mask[part] & (1 << self.planes[name])) != 0

    @property
    def pixel_scale_arcsec(self) -> float | None:
        """Side of a pixel in arcseconds; None without a WCS."""
        if self.wcs is None:
            return None
        return float(np.sqrt(self.wcs.proj_plane_pixel_area().to_value("arcsec2")))

    def cutout(self, box: Box) -> Coadd:
        """The part of the coadd inside `box` (given in this array's pixels)."""
        box = box & Box.of_shape(self.image.shape)
        s = (slice(None), *box.slices)
        return replace(
            self,
            image=self.image[s],
            variance=self.variance[s],
            valid=self.valid[s],
            mask=None if self.mask is None else self.mask[s],
            wcs=None if self.wcs is None else self.wcs.slice(box.slices),
            origin=(self.origin[0] + box.y0, self.origin[1] + box.x0),
            psf_grids=tuple(g and g.shifted(-box.y0, -box.x0) for g in self.psf_grids),
        )

    def world(self, y: Any, x: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(ra, dec) in ICRS degrees of pixel positions; NaN without a WCS."""
        y, x = np.atleast_1d(np.asarray(y, float)), np.atleast_1d(np.asarray(x, float))
        if self.wcs is None:
            return np.full(y.shape, np.nan), np.full(y.shape, np.nan)
        return to_icrs(self.wcs, x, y)
