"""What a tile's models leave over, kept as a small picture: one grey level per pixel.

The residual is that of the detection image, (image - sum of the models) / sigma, since
masks are cut on that image. A level is a quarter of a sigma, which adds 0.5 % to the
variance of pure noise and takes a twentieth of the room of a cube of three bands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path, regular_size

STEP_SIGMA = 0.25
"""One grey level; `ZERO` is no residual, so levels 1 to 255 are -31.75 to 31.75 sigma, and
what is beyond is kept as those: a failure, however large."""
ZERO = 128
NO_DATA = 0


def write_residual(path: str | Path, chi: NDArray[np.float32]) -> None:
    """Write an (H, W) residual in sigma as an 8-bit PNG, whole or not at all.

    NaN, where there are no data, becomes level `NO_DATA`.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    known = np.isfinite(chi)
    levels = np.rint(np.where(known, chi, 0) / STEP_SIGMA) + ZERO
    levels = np.where(known, np.clip(levels, NO_DATA + 1, 255), NO_DATA).astype(np.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(levels).save(temporary, format="PNG")


def read_residual(path: str | Path) -> NDArray[np.float32]:
    """(H, W) residual in sigma, as `write_residual` kept it; NaN where there are no data.

    Raises
    ------
    InputError
        When the file cannot be read or is no grey picture of 8 bits.
    """
    try:
        regular_size(Path(path))
        with Image.open(path) as file:
            mode, levels = file.mode, np.asarray(file)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"the residual cannot be opened ({error})", file=path, remedy="label again"
        ) from error
    if mode != "L":
        raise InputError(
            f"a picture of mode {mode} is no residual", file=path, remedy="label again"
        )
    chi = (levels.astype(np.float32) - ZERO) * np.float32(STEP_SIGMA)
    chi[levels == NO_DATA] = np.nan
    return chi
