"""What one section of a coadd shows: its sky, its stars, its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.io.files import CoaddFiles
from astrolabel.prepare import blank, evidence, linear, noise, sky
from astrolabel.prepare.accept import Band, accept, relative
from astrolabel.prepare.blank import Fill
from astrolabel.prepare.evidence import Evidence
from astrolabel.prepare.pixels import Plane, read_plane
from astrolabel.prepare.psf import fit_compact, fit_stars
from astrolabel.prepare.sections import Section
from astrolabel.prepare.trails import binned_down


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of a section: a plane of each band, and what in it is no data."""

    planes: tuple[Plane, ...]
    fills: tuple[tuple[Fill, ...], ...]


@dataclass(frozen=True, eq=False)
class Look:
    """What a section shows.

    Attributes
    ----------
    evidence, fills : by band.
    covered : number of pixels that any band has data in.
    stars : by band (see `fit_stars`), places in the coadd's pixels.
    compact : by band (see `fit_compact`); empty where no PSF is given.
    widths : by band, of stars by their brightness (see `linear`).
    correlations : by band, of the noise; None with too little sky.
    binned : by band, for trails (see `binned_down`).
    """

    evidence: tuple[Evidence, ...]
    fills: tuple[tuple[Fill, ...], ...]
    covered: int
    stars: list[NDArray[np.float64]]
    compact: list[NDArray[np.float64]]
    widths: list[NDArray[np.float64]]
    correlations: list[NDArray[np.float32] | None]
    binned: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]


def read_pixels(files: CoaddFiles, box: Box, scale: float, config: PrepareConfig) -> Pixels:
    """The pixels inside a box, fill values left out."""
    planes, fills = [], []
    for index in range(len(files.bands)):
        plane = read_plane(files, index, box, scale)
        wrong, found = blank.no_data(plane.image, plane.valid, config.no_data)
        planes.append(plane.without(wrong))
        fills.append(found)
    return Pixels(tuple(planes), tuple(fills))


def look_at(
    pixels: Pixels,
    bands: tuple[str, ...],
    section: Section,
    with_stars: Box,
    sections: int,
    given: bool,
    config: PrepareConfig,
) -> Look:
    """Look at one section.

    Parameters
    ----------
    with_stars : the part of the coadd whose stars are fitted.
    given : whether there are PSFs to compare with the stars.
    sections : number of the coadd's; each fits its share of `config.stars.max_stars`.
    """
    planes = pixels.planes
    skies = sky.measure(
        [p.image for p in planes], [p.valid for p in planes], config.sky,
        config.noise.false_rate, section.cells,
    )  # fmt: skip
    shown, data, over_sky = [], [], []
    here = Box.of_shape(section.box.shape)
    for band, plane, found in zip(bands, planes, skies, strict=True):
        one = evidence.of_section(plane, found, config)
        shown.append(one)
        data.append(relative(plane, one, accept(band, one, config)[0], here))
        over_sky.append(relative(plane, one, Band(rms=one.rms), here))
    # Of the sky alone: over their own photon noise stars are broader than they are.
    stack, valid = np.stack(over_sky), np.stack([p.valid for p in planes])
    searched = section.box & with_stars
    corner = np.array([searched.y0, searched.x0, 0, 0, 0, 0])
    part = (slice(None), *searched.slices_in(section.box))
    share = replace(config.stars, max_stars=math.ceil(config.stars.max_stars / sections))
    trails = config.artifacts.trails == "auto"
    rms = np.maximum([one.typical[1] for one in shown], np.finfo(np.float32).tiny)
    photon = [one.photon / sigma for one, sigma in zip(shown, rms, strict=True)]
    return Look(
        tuple(shown),
        pixels.fills,
        int(valid.any(axis=0).sum()),
        [fits + corner for fits in fit_stars(stack[part], valid[part], share, photon)],
        fit_compact(stack[part], valid[part], share, photon) if given else [],
        linear.widths(stack[part], valid[part], share, config.linear, photon),
        [noise.correlation(d, s.free, config.noise) for d, s in zip(data, skies, strict=True)],
        [binned_down(d, v, config.artifacts) for d, v in zip(data, valid, strict=True)]
        if trails
        else [],
    )
