"""What is found out about a coadd as a whole before its tiles are read."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.correlation import filter_power
from astrolabel.core.errors import InputError
from astrolabel.core.notes import Note, doubt, doubts
from astrolabel.io import layer_pixels
from astrolabel.io import layers as fits_layers
from astrolabel.io.files import CoaddFiles
from astrolabel.prepare import blank, evidence, linear
from astrolabel.prepare.accept import Band, accept
from astrolabel.prepare.artifacts import with_artifacts
from astrolabel.prepare.evidence import Evidence
from astrolabel.prepare.look import Look, Pixels, look_at, read_pixels
from astrolabel.prepare.sections import Section, sections, whole
from astrolabel.prepare.stamps import Stamps, find_stamps, part_with_stars
from astrolabel.prepare.trails import Trail, find_trails

SAFE_SIGMA = (1e-6, 1e6)
"""Noise whose inverse variance, and sums of it, float32 can hold."""


@dataclass(frozen=True, eq=False)
class Characteristics:
    """What is known of a coadd as a whole and needed for each of its tiles.

    Attributes
    ----------
    psfs : (C, P, P) float32 stamps; where the PSF varies, that of the coadd's middle.
    bands : C, in order.
    notes : what was assumed, and what is doubtful.
    psf_grids : as in `Coadd`, positions in the coadd's pixels.
    measured_psf : by band, whether the stamps are read or fitted, and no guess.
    scale : by which all pixels are multiplied, so that float32 holds their weights.
    noise_correlation : as in `Coadd`.
    coverage : (C,) part of the coadd's pixels that each band has data in.
    zeropoints : (C,) AB magnitudes of one count of the pixels times `scale`; NaN where unknown.
    """

    psfs: NDArray[np.float32]
    bands: tuple[Band, ...]
    notes: tuple[Note, ...]
    psf_grids: tuple[psf.StampGrid | None, ...] = ()
    measured_psf: tuple[bool, ...] = ()
    scale: float = 1.0
    noise_correlation: NDArray[np.float32] | None = None
    coverage: tuple[float, ...] = ()
    zeropoints: tuple[float, ...] = ()

    def psfs_in(self, box: Box) -> NDArray[np.float32]:
        """(C, P, P) PSFs in the middle of a part of the coadd."""
        y, x = box.y0 + (box.height - 1) / 2, box.x0 + (box.width - 1) / 2
        return psf.stamps_at(self.psfs, self.psf_grids, y, x)

    def note(self, kind: str, band: str = "") -> str:
        """The texts of a kind and band, joined."""
        return "; ".join(n.text for n in self.notes if (n.kind, n.band) == (kind, band))


def characterise(files: CoaddFiles, config: PrepareConfig | None = None) -> Characteristics:
    """Look at a whole coadd: its sky, its noise, its PSF, and whether what the files claim of
    these is true of their pixels.

    Raises
    ------
    InputError
        For a coadd that is doubtful, with ``config.strict``.
    """
    config = PrepareConfig() if config is None else config
    grid = sections(files.shape, config)
    flat = [section for row in grid for section in row]
    scale, notes = _scale(files, flat, config)

    def read(section: Section) -> Pixels:
        return read_pixels(files, section.box, scale, config)

    if len(flat) == 1:  # read once, for both looks
        read = functools.cache(read)
    stars = part_with_stars(files, config.stars)
    rows = [
        [
            look_at(read(part), files.bands, part, stars, len(flat), bool(files.psf), config)
            for part in row
        ]
        for row in grid
    ]
    looks = [one for row in rows for one in row]
    shown = [
        evidence.together([[one.evidence[k] for one in row] for row in rows], files.shape,
                          config.sky)
        for k in range(len(files.bands))
    ]  # fmt: skip
    for k, (band, found) in enumerate(zip(files.bands, shown, strict=True)):
        fills = blank.gathered(fill for one in looks for fill in one.fills[k])
        notes += [Note("mask", fill.text(found.pixels), band) for fill in fills]
        if not found.valid:
            text = "no pixel with data: leave the band out, or give the right mask and noise"
            notes.append(doubt("coverage", text, band))
    bands = []
    for band, found in zip(files.bands, shown, strict=True):
        one, more = accept(band, found, config)
        bands.append(one)
        notes += more
    fits, compact = _joined(one.stars for one in looks), _joined(one.compact for one in looks)
    stamps = find_stamps(files, fits, compact, config.stars)
    notes += stamps.notes
    trails = _trails(rows, len(bands), files.shape, config)
    bands, quiet = with_artifacts(flat, read, bands, shown, trails, stamps, config)
    grown = _joined(one.widths for one in looks)
    notes += _not_linear(files.bands, grown, quiet, config)
    for band, one in zip(files.bands, bands, strict=True):
        notes += [_trail_note(band, trail) for trail in one.trails]
        if one.electrons is not None:
            notes.append(Note("noise", f"photon noise of {one.electrons:.3g} e- a count", band))
    correlated, more = _correlation(files.bands, looks, stamps, config)
    coverage = tuple(found.valid / found.pixels for found in shown)
    notes += more + _coverage(files.bands, shown, sum(one.covered for one in looks))
    notes += _of_files(files)
    zeropoints, more = _zeropoints(files, shown, scale, config)
    notes += more
    if config.strict and (first := next(iter(doubts(notes)), None)) is not None:
        raise InputError(
            f"{first}", file=files.name, remedy="mend it, or run without prepare.strict"
        )
    return Characteristics(
        stamps.psfs, tuple(bands), tuple(notes), stamps.grids, stamps.measured, scale,
        correlated, coverage, zeropoints,
    )  # fmt: skip


def _joined(parts: Iterable[list[NDArray[np.float64]]]) -> list[NDArray[np.float64]]:
    """By band, the rows of all sections."""
    return [np.concatenate(of_band) for of_band in zip(*parts, strict=True)]


def _scale(
    files: CoaddFiles, parts: Sequence[Section], config: PrepareConfig
) -> tuple[float, list[Note]]:
    """The factor that brings all bands' noise into float32's range, and a note of it."""
    sigmas = []
    for layer in files.layers:
        for part in parts:
            image = layer_pixels.read_plane(layer.path, layer.image, layer.index, part.box)
            good = image[np.isfinite(image)].astype(np.float64)
            sigma = blank.rough_sky(good, config.no_data.sample_px)[1] if good.size else 0.0
            if sigma > 0:
                sigmas.append(sigma)
    typical = float(np.median(sigmas)) if sigmas else 1.0
    if SAFE_SIGMA[0] <= typical <= SAFE_SIGMA[1]:
        return 1.0, []
    power = -round(np.log10(typical))
    text = f"pixels multiplied by 1e{power}: fluxes and zero points are of these"
    return float(10.0**power), [Note("file", text)]


def _not_linear(
    bands: Sequence[str],
    widths: Sequence[NDArray[np.float64]],
    quiet: Sequence[float],
    config: PrepareConfig,
) -> list[Note]:
    """Doubts about bands whose pixels seem to be a root or logarithm of the flux."""
    notes, text = [], "pixels are perhaps no linear flux (a root, asinh or logarithm of it): "
    for band, sources, noise in zip(bands, widths, quiet, strict=True):
        growth = linear.wider(sources, config.linear)
        if growth > 1:
            why = f"bright stars are {growth:.3g} times as wide as faint ones"
            notes.append(doubt("file", text + why, band))
        elif noise < 1:
            why = f"the noise of bright ones is {noise**0.5:.2g} of the sky's"
            notes.append(doubt("file", text + why, band))
    return notes


def _trails(
    rows: Sequence[Sequence[Look]], bands: int, shape: tuple[int, int], config: PrepareConfig
) -> list[tuple[Trail, ...]]:
    """The trails of each band, but for their widths."""
    if config.artifacts.trails != "auto":
        return [()] * bands
    found = []
    for k in range(bands):
        binned = whole([[one.binned[k][0] for one in row] for row in rows])
        known = whole([[one.binned[k][1] for one in row] for row in rows])
        found.append(find_trails(binned, known, shape, config.artifacts))
    return found


def _trail_note(band: str, trail: Trail) -> Note:
    text = (
        f"a trail of {trail.length:.0f} by {2 * trail.half_width:.0f} px through "
        f"x = {trail.x:.0f}, y = {trail.y:.0f}: no data"
    )
    return doubt("trail", text, band)


def _correlation(
    bands: Sequence[str], looks: Sequence[Look], stamps: Stamps, config: PrepareConfig
) -> tuple[NDArray[np.float32] | None, list[Note]]:
    """The correlation of each band's noise where it matters at the PSF's scale."""
    notes: list[Note] = []
    radius = config.noise.correlation_radius_px
    white = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    white[radius, radius] = 1
    found = np.stack([white] * len(bands))
    for k, band in enumerate(bands):
        known = [c for one in looks if (c := one.correlations[k]) is not None]
        if not known:
            continue
        measured = np.asarray(np.mean(known, axis=0), np.float32)
        stamp = stamps.psfs[k]
        excess = np.sqrt(filter_power(stamp, measured) / filter_power(stamp, None))
        if excess > 1 + config.noise.correlation_least:
            found[k] = measured
            text = f"correlated between pixels: {excess:.2g} times white noise at the PSF's scale"
            notes.append(Note("noise", text, band))
    return (found if notes else None), notes


def _coverage(bands: Sequence[str], shown: Sequence[Evidence], covered: int) -> list[Note]:
    """Bands that lack data where others have it.

    Parameters
    ----------
    covered : number of pixels that any band has data in.
    """
    notes = []
    for band, found in zip(bands, shown, strict=True):
        lacking = 1 - found.valid / covered if covered else 0.0
        if lacking > 0.01:
            part = 100 * found.valid / found.pixels
            text = f"data in {part:.0f} % of the coadd; {100 * lacking:.0f} % of it is covered"
            notes.append(doubt("coverage", f"{text} by other bands alone", band))
    return notes


def _of_files(files: CoaddFiles) -> list[Note]:
    """What is assumed of headers."""
    notes: list[Note] = []
    for band, layer in zip(files.bands, files.layers, strict=True):
        row = layer.row
        if row is not None:
            notes.append(Note("survey", f"read as {row.title}", band))
        cards = fits_layers.read_cards(layer)
        if cards.unreadable:
            named = ", ".join(cards.unreadable[:3])
            notes.append(doubt("file", f"unreadable header cards left out: {named}", band))
        if layer_pixels.is_nameless(files.mask.get(band, layer)):
            text = "its planes have no names: what is not 0 is no data (see --mask-planes)"
            notes.append(Note("mask", text, band))
        if layer.unread:
            text = f"{layer.unread} further image(s) of the file without a name of a known use"
            notes.append(doubt("file", f"{text}: not read", band))
        if row is not None and row.asinh and cards.has("BSOFTEN", "BOFFSET"):
            notes.append(Note("file", "pixels are asinh of the flux (BSOFTEN): undone", band))
    wcs = fits_layers.read_wcs(files.layers[0])
    if wcs is None:
        notes.append(Note("wcs", "none: no sky positions"))
    return notes


def _zeropoints(
    files: CoaddFiles, shown: Sequence[Evidence], scale: float, config: PrepareConfig
) -> tuple[tuple[float, ...], list[Note]]:
    """The AB magnitude of one count of the scaled pixels by band, NaN where unknown; notes."""
    found, notes = [], []
    brightest, faintest = config.noise.plausible_mag
    for band, layer, sky in zip(files.bands, files.layers, shown, strict=True):
        value = files.zeropoints.get(band)
        if value is not None:
            notes.append(Note("zeropoint", f"{value:g}, as given", band))
        else:
            zero = fits_layers.read_zeropoint(layer)
            value, text, doubtful = zero.value, zero.source, zero.doubtful
            sigma = sky.typical[1] / scale
            if value is not None and sigma > 0:
                depth = value - 2.5 * np.log10(sigma)
                if not brightest <= depth <= faintest:
                    text = f"that of the files, {value:.4g} ({text}), makes the sky's noise "
                    text += f"{depth:.3g} mag"
                    value, doubtful = None, True
            if value is None:
                make = doubt if doubtful else Note
                notes.append(make("zeropoint", f"unknown, no magnitudes: {text}", band))
            else:
                make = doubt if doubtful else Note
                notes.append(make("zeropoint", f"{value:.4g}: {text}", band))
        found.append(float("nan") if value is None else float(value + 2.5 * np.log10(scale)))
    return tuple(found), notes
