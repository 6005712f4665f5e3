"""Quality flags: one registry of bit, name and meaning, and the rules that set them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import CheckConfig
from astrolabel.core.masks import Mask


@dataclass(frozen=True)
class Flag:
    """One flag: its bit in ``flag_bits``, its name in ``flags``, what it means."""

    bit: int
    name: str
    meaning: str


REGISTRY = (
    Flag(0, "edge", "the mask touches the tile's edge: the source may go on beyond it"),
    Flag(1, "peak_outside", "the source's peak lies in a neighbouring tile, which labels it too"),
    Flag(2, "saturated", "the mask holds saturated pixels in at least one band"),
    Flag(3, "no_data", "the mask holds pixels without data in at least one band"),
    Flag(
        4,
        "saturated_core",
        "the peak, or a pixel beside it, is saturated in at least one band: the magnitudes are "
        "limits",
    ),
    Flag(
        5,
        "interpolated",
        "the mask holds pixels that the survey filled in from their neighbours, in at least "
        "one band",
    ),
    Flag(
        6,
        "bright_star",
        "the mask lies in the survey's mask around a bright star (BRIGHT_OBJECT), where "
        "halo, spikes and ghosts pass for sources",
    ),
    Flag(7, "blended", "other peaks share its footprint: mask and fluxes are a deblender's"),
    Flag(
        8,
        "poor_fit",
        "the models leave more in the mask's pixels than noise: structure, a missed neighbour "
        "or a wrong PSF",
    ),
    Flag(
        9,
        "not_converged",
        "the fit of its blend was stopped by the limit of iterations",
    ),
    Flag(
        10,
        "truncated",
        "the mask reaches the border of the source's model, which may have cut it off",
    ),
    Flag(11, "no_flux", "the model has no flux in at least one band, where it has no magnitude"),
    Flag(12, "cosmic_ray", "the mask holds or touches pixels of a cosmic ray or a hot pixel"),
    Flag(13, "trail", "the mask holds or touches the trail of a satellite or aircraft"),
)
"""Every flag there is. A bit is never given to another flag: files outlive versions."""

_BITS = {flag.name: flag.bit for flag in REGISTRY}


def encode(names: Iterable[str]) -> int:
    """The integer with the bits of these flags set.

    Raises
    ------
    KeyError
        For a name that is not in the registry.
    """
    return sum(1 << _BITS[name] for name in set(names))


def decode(bits: int) -> list[str]:
    """The names of the bits that are set, in the registry's order; unknown bits have none."""
    return [flag.name for flag in REGISTRY if bits & (1 << flag.bit)]


def described() -> dict[str, dict[str, Any]]:
    """The registry as ``info.flags`` holds it: bit and meaning by name."""
    return {flag.name: {"bit": flag.bit, "meaning": flag.meaning} for flag in REGISTRY}


def of_pixels(
    coadd: Coadd,
    mask: Mask,
    peak: tuple[float, float],
    core: Box,
    residual: NDArray[np.float32],
    config: CheckConfig,
) -> frozenset[str]:
    """Flags that follow from where the mask lies and what its pixels are.

    Parameters
    ----------
    mask, peak : in the pixels of `coadd`; the peak is (y, x).
    core : the tile's own pixels, without its margin.
    residual : (H, W) sigma: the detection image less all models, over its noise; NaN where
        there are no data.
    """
    box, pixels = mask.box, mask.pixels
    near_peak = Box.around(*peak, 1) & Box.of_shape(coadd.image.shape)

    def holds(plane: str) -> bool:
        return bool((coadd.plane(plane, box) & pixels).any())

    def touches(plane: str) -> bool:
        wide = box.expanded(1) & Box.of_shape(coadd.image.shape)
        inside = np.zeros(wide.shape, bool)
        inside[box.slices_in(wide)] = pixels
        near = ndimage.binary_dilation(inside, np.ones((3, 3)))
        return bool((coadd.plane(plane, wide) & near).any())

    at_edge = box.y0 <= core.y0 or box.x0 <= core.x0 or box.y1 >= core.y1 or box.x1 >= core.x1
    is_set = {
        "edge": at_edge,
        "peak_outside": not core.contains(*peak),
        "saturated": holds("SAT"),
        "saturated_core": bool(coadd.plane("SAT", near_peak).any()),
        "no_data": bool((~coadd.valid[(slice(None), *box.slices)] & pixels).any()),
        "interpolated": holds("INTRP"),
        "cosmic_ray": touches("COSMIC_RAY"),
        "trail": touches("TRAIL"),
        "bright_star": holds("BRIGHT_OBJECT"),
        "poor_fit": _is_poor(residual[box.slices][pixels], config),
    }
    return frozenset(name for name, value in is_set.items() if value)


def of_fit(
    mask: Mask,
    n_blended: int,
    flux: NDArray[np.float64],
    converged: bool,
    model: Box,
    frame: Box,
) -> frozenset[str]:
    """Flags that follow from the fit of a source's blend.

    Parameters
    ----------
    n_blended : peaks in its connected footprint, itself included.
    flux : (C,) counts.
    model : where the source's model lies; frame : all pixels there are. A border of the
        model that is the frame's own cuts off nothing that could have been fitted.
    """
    box = mask.box
    cut = (
        box.y0 <= model.y0 > frame.y0,
        box.x0 <= model.x0 > frame.x0,
        box.y1 >= model.y1 < frame.y1,
        box.x1 >= model.x1 < frame.x1,
    )
    is_set = {
        "blended": n_blended > 1,
        "not_converged": not converged,
        "truncated": any(cut),
        "no_flux": bool(np.any(~(flux > 0))),
    }
    return frozenset(name for name, value in is_set.items() if value)


def _is_poor(residual: NDArray[np.float32], config: CheckConfig) -> bool:
    values = residual[np.isfinite(residual)].astype(np.float64)
    if values.size == 0:
        return False
    chance = 1 + config.poor_fit_significance * np.sqrt(2 / values.size)
    return bool((values**2).mean() > max(config.poor_fit_chi2, chance))
