"""What needs the PSF or a whole coadd to be found in its sections: photon noise, and the widths
of trails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.prepare import linear, noise
from astrolabel.prepare.accept import Band, relative
from astrolabel.prepare.cosmic_rays import cosmic_rays, narrowest
from astrolabel.prepare.evidence import Evidence
from astrolabel.prepare.look import Pixels
from astrolabel.prepare.noise import Scatter
from astrolabel.prepare.pixels import Plane
from astrolabel.prepare.sections import Section
from astrolabel.prepare.stamps import Stamps
from astrolabel.prepare.trails import Profile, Trail, half_width, profile


def with_artifacts(
    parts: Sequence[Section],
    read: Callable[[Section], Pixels],
    bands: Sequence[Band],
    shown: Sequence[Evidence],
    trails: Sequence[tuple[Trail, ...]],
    stamps: Stamps,
    config: PrepareConfig,
) -> tuple[list[Band], list[float]]:
    """The bands with their photon noise, and the trails across them; and by band, how much less
    noisy bright pixels are (see `linear.quieter`).

    Parameters
    ----------
    parts, read : the sections of the coadd, and what gives the pixels of one.
    shown : of each band.
    trails : of each band, without their widths.
    """
    chosen = [k for k, one in enumerate(bands) if one.rms is not None or trails[k]]
    scatter: dict[int, list[Scatter]] = {k: [] for k in chosen}
    near: dict[tuple[int, Trail], list[Profile]] = {
        (k, trail): [] for k in chosen for trail in trails[k]
    }
    for part in parts if chosen else ():
        planes = read(part).planes
        for k in chosen:
            data = relative(planes[k], shown[k], bands[k], part.box)
            for trail in trails[k]:
                near[k, trail].append(profile(data, planes[k].valid, part.box, trail))
            rms = bands[k].rms
            if rms is not None and not shown[k].photon:
                stamp, measured = stamps.psfs[k], stamps.measured[k]
                found = _scatter(data, planes[k], rms.at(part.box), stamp, measured, config)
                scatter[k] += [] if found is None else [found]
    out, quiet = list(bands), [1.0] * len(bands)
    for k in chosen:
        quiet[k] = linear.quieter(scatter[k], config.linear)
        wide = tuple(
            replace(trail, half_width=half_width(near[k, trail], config.artifacts))
            for trail in trails[k]
        )
        electrons = noise.electrons_per_count(scatter[k], config.noise)
        if bands[k].rms is not None and shown[k].photon:
            electrons = 1 / shown[k].photon
        out[k] = replace(bands[k], electrons=electrons, trails=wide)
    return out, quiet


def _scatter(
    data: NDArray[np.float32],
    plane: Plane,
    rms: NDArray[np.float32],
    stamp: NDArray[np.float32],
    measured: bool,
    config: PrepareConfig,
) -> Scatter | None:
    """See `noise.scatter_of`; `data` is the image less its sky, over its noise."""
    unit = np.ones(data.shape, np.float32)
    least = narrowest(stamp, measured, config.artifacts)
    # They would pass for photon noise.
    valid = plane.valid & ~cosmic_rays(data, unit, plane.valid, least, config.artifacts)
    return noise.scatter_of(data * rms, rms, valid, stamp, config.noise)
