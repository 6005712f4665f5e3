"""Point-spread functions: given as stamps, or made from stars or the seeing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.errors import InputError

STAMP_PX = 43
"""Side of the stamps made here, as HSC's PSF picker gives them: 3.6 arcsec of radius."""
MOFFAT_BETA = 3.0
"""Wing exponent where there is nothing to measure it on; between 2.5 (poor seeing) and
4.765 (Kolmogorov)."""
FWHM_PER_SIGMA = 2.3548
"""Of a Gaussian: 2 sqrt(2 ln 2)."""
DEFAULT_FWHM_PX = 4.2
"""0.7 arcsec at HSC's 0.168 arcsec/pixel; used, and said, where the seeing is not known."""


@dataclass(frozen=True, eq=False)
class StampGrid:
    """Stamps of one band at several places.

    Attributes
    ----------
    positions : (K, 2) float64 of (y, x) in pixels, K >= 1.
    stamps : (K, P, P) float32, P odd, each summing to one.
    """

    positions: NDArray[np.float64]
    stamps: NDArray[np.float32]

    def at(self, y: float, x: float) -> NDArray[np.float32]:
        """The nearest stamp, (P, P).

        A coadd's PSF steps where its exposures end. Between two stamps it is not known
        where, and their mean is neither.
        """
        distance = np.hypot(*(self.positions - (y, x)).T)
        return np.asarray(self.stamps[int(distance.argmin())], np.float32)

    def shifted(self, dy: float, dx: float) -> StampGrid:
        return StampGrid(self.positions + np.array([dy, dx]), self.stamps)

    def padded(self, size: int) -> StampGrid:
        """Stamps padded with zeros to `size` pixels a side."""
        pad = (size - self.stamps.shape[-1]) // 2
        return StampGrid(self.positions, np.pad(self.stamps, ((0, 0), (pad, pad), (pad, pad))))


def stamps_at(
    psfs: NDArray[np.float32], grids: Sequence[StampGrid | None], y: float, x: float
) -> NDArray[np.float32]:
    """(C, P, P) stamps at a place: those of the grids, `psfs` of bands without one."""
    if not any(grid is not None for grid in grids):
        return psfs
    pairs = zip(grids, psfs, strict=True)
    return np.stack([stamp if grid is None else grid.at(y, x) for grid, stamp in pairs])


def normalise(stamp: NDArray[np.generic], file: str | Path) -> NDArray[np.float32]:
    """A stamp made ready: (P, P) float32, P odd, finite, summing to one, centred.

    The brightest pixel goes to the middle; even-sized stamps are padded by one. Stamps
    that are not square are cut to the largest odd square around it.
    """
    data = np.asarray(stamp, dtype=np.float64)
    if data.ndim != 2 or min(data.shape) < 3:
        raise InputError(f"PSF stamp of shape {data.shape}", file=file, remedy="give a 2-D stamp")
    if not np.isfinite(data).all() or data.sum() <= 0:
        raise InputError("PSF stamp is not finite or has no flux", file=file)
    y, x = np.unravel_index(int(data.argmax()), data.shape)
    radius = min(y, x, data.shape[0] - 1 - y, data.shape[1] - 1 - x)
    wanted = (min(data.shape) - 1) // 2
    if radius < max(wanted - 2, 1):
        raise InputError(
            f"PSF stamp peaks at {(int(y), int(x))}, far from the middle of {data.shape}",
            file=file,
            remedy="give stamps centred on the star",
        )
    data = data[y - radius : y + radius + 1, x - radius : x + radius + 1]
    return (data / data.sum()).astype(np.float32)


def rescaled(stamp: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """A (P, P) stamp `factor` times as wide, summing to one; zero beyond what the stamp shows."""
    middle = (np.array(stamp.shape) - 1) / 2
    out = ndimage.affine_transform(
        np.asarray(stamp, np.float64), np.eye(2) / factor, middle - middle / factor
    )
    return (out / out.sum()).astype(np.float32)


def common_size(stamps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(C, P, P): stamps of different sizes padded with zeros to the largest."""
    size = max(s.shape[0] for s in stamps)
    return np.stack([np.pad(s, (size - s.shape[0]) // 2) for s in stamps])


def moffat(
    fwhm_px: float, beta: float = MOFFAT_BETA, size: int = STAMP_PX, q: float = 1, theta: float = 0
) -> NDArray[np.float32]:
    """Elliptical Moffat, (size, size), summing to one.

    Parameters
    ----------
    fwhm_px : geometric mean of the two axes' full widths.
    q : axis ratio; theta : position angle of the major axis from +x, radians.
    """
    # Sampled at pixel centres: measured widths are those of the pixel-convolved PSF.
    c = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(c, c, indexing="ij")
    u, v = x * np.cos(theta) + y * np.sin(theta), -x * np.sin(theta) + y * np.cos(theta)
    alpha = fwhm_px / (2 * np.sqrt(2 ** (1 / beta) - 1))
    r2 = (u**2 * q + v**2 / q) / alpha**2
    stamp = (1 + r2) ** -beta
    return (stamp / stamp.sum()).astype(np.float32)


def sigma_px(stamp: NDArray[np.floating]) -> float:
    """Sigma of the Gaussian of a stamp's FWHM. Unlike its second moment it does not see wings."""
    return fwhm_px(stamp) / FWHM_PER_SIGMA


def fwhm_px(stamp: NDArray[np.floating]) -> float:
    """Full width at half maximum of a stamp: of the circle whose area is that of the
    pixels above half maximum, counted on a finely interpolated stamp."""
    data = np.asarray(stamp, np.float64)
    return _fwhm_px(data.tobytes(), data.shape)


@functools.lru_cache(maxsize=256)  # blends of a tile share their stamps, and one takes 3 ms
def _fwhm_px(data: bytes, shape: tuple[int, ...]) -> float:
    stamp = np.frombuffer(data).reshape(shape)
    middle = shape[0] // 2
    half = min(middle, 12)
    core = stamp[middle - half : middle + half + 1, middle - half : middle + half + 1]
    fine = ndimage.zoom(core, 8, order=3, mode="nearest", grid_mode=True)
    return float(2 * np.sqrt((fine > fine.max() / 2).sum() / np.pi) / 8)
