"""Where the bands of one coadd are on disk, and whether they lie on the same pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from astrolabel.core.celestial import to_icrs, to_pixels
from astrolabel.core.errors import InputError
from astrolabel.io import layers as fits_layers
from astrolabel.io import zeropoints
from astrolabel.io.layers import Layers

ASINH = ("BSOFTEN", "BOFFSET")
"""Cards of pixels that are an inverse hyperbolic sine of the flux."""


@dataclass(frozen=True)
class CoaddFiles:
    """Where the bands of one coadd are.

    Attributes
    ----------
    name : unique in a run; names the coadd's tiles.
    bands : in the order in which they were asked for.
    layers : one per band.
    variance, mask : further files per band, for surveys that keep these apart.
    psf : stamp files per band, one or one for each place; bands without are estimated.
    zeropoints : AB magnitude of one count where the user gave it.
    truth : pictures of the objects of a simulated scene, where its labels are made of these.
    """

    name: str
    bands: tuple[str, ...]
    layers: tuple[Layers, ...]
    tract: str = ""
    patch: str = ""
    psf: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    variance: Mapping[str, Layers] = field(default_factory=dict)
    mask: Mapping[str, Layers] = field(default_factory=dict)
    zeropoints: Mapping[str, float] = field(default_factory=dict)
    truth: Path | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.layers[0].shape

    @property
    def parts(self) -> tuple[Layers, ...]:
        """The bands, then what is in files of its own, in a fixed order."""
        further = [more[b] for more in (self.variance, self.mask) for b in self.bands if b in more]
        return (*self.layers, *further)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that is read, once, in a fixed order."""
        found = [part.path for part in self.parts]
        found += [stamp for b in self.bands for stamp in self.psf.get(b, ())]
        found += [self.truth] if self.truth is not None else []
        return tuple(dict.fromkeys(found))


def check(files: CoaddFiles) -> None:
    """Whether all bands lie on the same pixels of the sky, and are linear in flux.

    Raises
    ------
    InputError
        For bands of different shape, whose WCS put the corners more than a tenth of a
        pixel apart, or whose pixels are magnitudes, logarithms or roots.
    """
    first = files.layers[0]
    for layer in files.layers:
        cards = fits_layers.read_cards(layer)
        lacking = [key for key in ASINH if cards.number(key) is None]
        if lacking and (cards.has(ASINH[0]) or cards.has(ASINH[1])):
            raise InputError(
                f"pixels are asinh of the flux ({', '.join(ASINH)}), and {lacking[0]} is no number",
                file=layer.path,
                remedy="mend the card, or convert the pixels to fluxes and remove both",
            )
        if unit := zeropoints.not_linear(cards):
            raise InputError(
                f"pixels are {unit} (card BUNIT), which is not linear in flux",
                file=layer.path,
                remedy="convert them to fluxes; correct the card if it is wrong",
            )
    if 0 in first.shape:
        raise InputError("an image without pixels", file=first.path, remedy="fetch it again")
    for layer in (*files.layers, *files.variance.values(), *files.mask.values()):
        if layer.shape != first.shape:
            raise InputError(
                f"{_by(layer.shape)} pixels, but {first.path.name} has {_by(first.shape)}",
                file=layer.path,
                remedy="give bands resampled to one frame",
            )
    reference = fits_layers.read_wcs(first)
    height, width = first.shape
    x, y = np.array([0, width - 1, 0, width - 1]), np.array([0, 0, height - 1, height - 1])
    for layer in files.layers[1:]:
        wcs = fits_layers.read_wcs(layer)
        if (wcs is None) != (reference is None):
            raise InputError(
                f"only one of this file and {first.path.name} has a WCS", file=layer.path
            )
        if wcs is None or reference is None:
            continue
        back = to_pixels(reference, *to_icrs(wcs, x, y))
        apart = float(np.nanmax(np.hypot(back[0] - x, back[1] - y)))
        if not apart < 0.1:
            raise InputError(
                f"its WCS is up to {apart:.3g} pixels off that of {first.path.name}",
                file=layer.path,
                remedy="give bands resampled to one frame",
            )


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"
