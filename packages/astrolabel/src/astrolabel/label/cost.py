"""What a tile costs: memory of the worker that labels it."""

from __future__ import annotations

BASE_BYTES = 340_000_000
"""A worker before its first tile: Python, numpy, numba with compiled kernels, astropy.
Measured by `benchmarks/costs.py`, as is the next."""
PIXEL_BYTES = 60
"""For each pixel of a tile with its margin, in each band, at the largest: image, variance,
weights, mask and models. Measured on dense simulated tiles of one to five bands."""
PIXEL_BYTES_ONCE = 60
"""For each pixel, whatever the number of bands: the detection image and what is made of it."""


def tile_bytes(shape: tuple[int, int], bands: int) -> int:
    """Memory in bytes that a worker holds at most while it labels a tile.

    Parameters
    ----------
    shape : (H, W) of the tile with its margin.
    """
    return BASE_BYTES + shape[0] * shape[1] * (PIXEL_BYTES_ONCE + PIXEL_BYTES * bands)
