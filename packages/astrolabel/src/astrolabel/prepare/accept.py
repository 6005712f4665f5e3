"""Which sky is subtracted from a band, and which noise holds: its files' or its pixels'."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.notes import Note, doubt
from astrolabel.prepare.evidence import Evidence
from astrolabel.prepare.mesh import Mesh
from astrolabel.prepare.pixels import Plane
from astrolabel.prepare.trails import Trail


@dataclass(frozen=True, eq=False)
class Band:
    """What is known of one band.

    Attributes
    ----------
    level : sky to subtract, counts; None for none.
    rms : noise of the sky, counts, where it is measured; None where the files' is used.
    noise_scale : times the given variance.
    electrons : counts over counts squared of photon noise, where noise is measured.
    step, photon : as in `Evidence`.
    trails : of satellites and aircraft.
    """

    level: Mesh | None = None
    rms: Mesh | None = None
    noise_scale: float = 1.0
    electrons: float | None = None
    step: float = 0.0
    photon: float = 0.0
    trails: tuple[Trail, ...] = ()


def accept(band: str, found: Evidence, config: PrepareConfig) -> tuple[Band, list[Note]]:
    """What holds of a band's sky and noise."""
    notes: list[Note] = []
    level, rms = found.typical
    given = found.check is not None
    subtract = _stands_off(found, config) if config.sky.subtract == "auto" else False
    if config.sky.subtract == "always" or (config.sky.subtract == "auto" and not given):
        subtract = True
    if found.free / max(found.valid, 1) < config.sky.least_sky:
        notes.append(doubt("sky", "hardly any pixel is free of sources: level and noise are "
                           "those of the darkest parts", band))  # fmt: skip
    if rms > config.sky.uneven_sky * found.tail * found.within > 0:
        text = (
            f"its scatter is {rms / found.tail / found.within:.2g} times that of small parts of it"
        )
        notes.append(
            doubt("sky", f"{text}: a source fills the frame, or the level is not known", band)
        )
    if found.cut > 0:
        text = (
            f"{100 * found.cut:.2g} % of the pixels have the lowest value: what is fainter was cut"
        )
        notes.append(doubt("sky", f"{text} off, and level, noise and fluxes are wrong", band))
    if subtract and found.darkest > config.sky.too_dark * rms > 0:
        text = f"parts are {found.darkest / rms:.2g} sigma darker than the level that is subtracted"
        notes.append(doubt("sky", f"{text}: it is not known there", band))
    if subtract and given:
        uneven = found.spread
        how = f", uneven by {uneven / rms:.2g} sigma" if rms > 0 and uneven > 0.2 * rms else ""
        of = f"{level / rms:.3g} sigma" if rms > 0 else f"{level:.3g} counts"
        notes.append(doubt("sky", f"level of {of}{how} subtracted", band))
    one = Band(found.level if subtract else None, found.rms, step=found.step, photon=found.photon)
    if given:
        more, scale = _given_noise(band, found, config)
        notes += more
        if scale is not None:
            one = replace(one, rms=None, noise_scale=scale)
    if one.rms is not None:
        tail = "" if found.tail == 1 else (
            f", times {found.tail:.2g} for the long tail of few counts"
        )  # fmt: skip
        notes.append(Note("noise", f"rms of the source-free sky{tail}; its level subtracted", band))
        if not np.median(found.rms.values) > 0:
            notes.append(doubt("noise", "the sky has no scatter at all", band))
    return one, notes


def relative(plane: Plane, found: Evidence, one: Band, box: Box) -> NDArray[np.float32]:
    """(h, w) image less its sky, over its noise; 0 where not valid.

    Parameters
    ----------
    box : of the plane, in the pixels of the meshes of `found`.
    """
    if one.rms is not None or plane.variance is None:
        sigma = found.rms.at(box)
    else:
        scaled = plane.variance * np.float32(one.noise_scale)
        sigma = np.sqrt(np.where(plane.valid, scaled, 1))
    flat = plane.image - found.level.at(box)
    sigma = np.maximum(sigma, np.finfo(np.float32).tiny)
    out = np.zeros(flat.shape, np.float32)
    return np.divide(flat, sigma, out=out, where=plane.valid)


def _stands_off(found: Evidence, config: PrepareConfig) -> bool:
    """Whether the sky is not zero."""
    level, rms = found.typical
    worst = max(abs(level), found.spread / 2)
    tolerance = config.sky.tolerance_sigma
    # What little is left may be a galaxy's outskirts.
    if found.free / found.pixels < config.sky.min_sky / 2:
        tolerance *= config.sky.scarce_tolerance
    return bool(worst > tolerance * rms)


def _given_noise(
    band: str, found: Evidence, config: PrepareConfig
) -> tuple[list[Note], float | None]:
    """The noise of the files against the scatter of the sky: notes, and the factor of the
    variance; None where it is not to be used."""
    check = found.check
    assert check is not None
    if config.noise.trust == "files" or not np.isfinite(check.ratio) or check.ratio <= 0:
        return [], 1.0
    what = found.noise_word
    if check.uneven > config.noise.uneven:
        text = f"{what} does not follow the scatter of the sky (by a factor {check.uneven:.2g} "
        return [doubt("noise", text + "from part to part): not used", band)], None
    off = check.ratio * found.tail
    if 1 / (1 + config.noise.tolerance) <= off <= 1 + config.noise.tolerance:
        return [], 1.0
    text = f"{what} is {1 / off:.3g} times the scatter of the sky: rescaled"
    make = Note if found.relative_weight else doubt
    return [make("noise", text, band)], off**2
