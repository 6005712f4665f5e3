"""What is found out about a coadd as a whole before its tiles are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.correlation import filter_power
from astrolabel.core.errors import InputError
from astrolabel.core.notes import Note, doubt, doubts
from astrolabel.io import layers as fits_layers
from astrolabel.io.files import CoaddFiles
from astrolabel.prepare import blank, noise, sky
from astrolabel.prepare.cosmic_rays import cosmic_rays
from astrolabel.prepare.mesh import Mesh
from astrolabel.prepare.pixels import Plane, read_plane
from astrolabel.prepare.stamps import Stamps, find_stamps
from astrolabel.prepare.trails import Trail, find_trails

SAFE_SIGMA = (1e-6, 1e6)
"""Noise whose inverse variance, and sums of it, float32 can hold."""


@dataclass(frozen=True, eq=False)
class Band:
    """What is known of one band.

    Attributes
    ----------
    level : sky to subtract, counts; None for none.
    rms : noise of the sky, counts, where it is measured; None where the files' is used.
    noise_scale : times the given variance.
    electrons : counts over counts squared of photon noise, where noise is measured.
    trails : of satellites and aircraft.
    """

    level: Mesh | None = None
    rms: Mesh | None = None
    noise_scale: float = 1.0
    electrons: float | None = None
    trails: tuple[Trail, ...] = ()


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
    """

    psfs: NDArray[np.float32]
    bands: tuple[Band, ...]
    notes: tuple[Note, ...]
    psf_grids: tuple[psf.StampGrid | None, ...] = ()
    measured_psf: tuple[bool, ...] = ()
    scale: float = 1.0
    noise_correlation: NDArray[np.float32] | None = None
    coverage: tuple[float, ...] = ()

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
    frame = Box.of_shape(files.shape)
    scale, notes = _scale(files, config)
    planes: list[Plane] = []
    for index, band in enumerate(files.bands):
        plane = read_plane(files, index, frame, scale)
        wrong, told = blank.no_data(plane.image, plane.valid, config.no_data)
        notes += [Note("mask", text, band) for text in told]
        planes.append(plane.without(wrong))
        if not planes[-1].valid.any():
            text = "no pixel with data: leave the band out, or give the right mask and noise"
            notes.append(doubt("coverage", text, band))
    skies = sky.measure(
        [p.image for p in planes], [p.valid for p in planes], config.sky, config.noise.false_rate
    )
    bands, relative = [], []
    for band, plane, found in zip(files.bands, planes, skies, strict=True):
        one, flat, told_ = _judge(band, plane, found, config)
        bands.append(one)
        relative.append(flat)
        notes += told_
    stack = np.stack(relative)
    valid = np.stack([p.valid for p in planes])
    stamps = find_stamps(files, stack, valid, config.stars)
    notes += stamps.notes
    bands = [
        _with_artifacts(one, plane, flat, stamp, measured, config)
        for one, plane, flat, stamp, measured in zip(
            bands, planes, relative, stamps.psfs, stamps.measured, strict=True
        )
    ]
    for band, one in zip(files.bands, bands, strict=True):
        notes += [_trail_note(band, trail) for trail in one.trails]
        if one.electrons is not None:
            notes.append(Note("noise", f"photon noise of {one.electrons:.3g} e- a count", band))
    correlated, told_ = _correlation(files.bands, stack, skies, stamps, config)
    coverage = tuple(float(p.valid.mean()) for p in planes)
    notes += told_ + _coverage(files.bands, coverage, valid) + _of_files(files)
    if config.strict and (first := next(iter(doubts(notes)), None)) is not None:
        raise InputError(
            f"{first}", file=files.name, remedy="mend it, or run without prepare.strict"
        )
    return Characteristics(
        stamps.psfs, tuple(bands), tuple(notes), stamps.grids, stamps.measured, scale,
        correlated, coverage,
    )  # fmt: skip


def _scale(files: CoaddFiles, config: PrepareConfig) -> tuple[float, list[Note]]:
    """The factor that brings all bands' noise into float32's range, and a note of it."""
    sigmas = []
    for layer in files.layers:
        image = fits_layers.read_plane(
            layer.path, layer.image, layer.index, Box.of_shape(layer.shape)
        ).astype(np.float64)
        good = image[np.isfinite(image)]
        sigma = blank.rough_sky(good, config.no_data.sample_px)[1] if good.size else 0.0
        if sigma > 0:
            sigmas.append(sigma)
    typical = float(np.median(sigmas)) if sigmas else 1.0
    if SAFE_SIGMA[0] <= typical <= SAFE_SIGMA[1]:
        return 1.0, []
    power = -round(np.log10(typical))
    text = f"pixels multiplied by 1e{power}: fluxes and zero points are of these"
    return float(10.0**power), [Note("file", text)]


def _judge(
    band: str, plane: Plane, found: sky.BandSky, config: PrepareConfig
) -> tuple[Band, NDArray[np.float32], list[Note]]:
    """What holds of a band's sky and noise; its image less its sky, over its noise."""
    notes: list[Note] = []
    level, rms = found.typical
    subtract = _stands_off(found, config) if config.sky.subtract == "auto" else False
    given = plane.variance is not None and config.noise.trust != "pixels"
    if config.sky.subtract == "always" or (config.sky.subtract == "auto" and not given):
        subtract = True
    free = float(found.free.sum()) / max(int(plane.valid.sum()), 1)
    if free < config.sky.least_sky:
        notes.append(doubt("sky", "hardly any pixel is free of sources: level and noise are "
                           "those of the darkest parts", band))  # fmt: skip
    sigma = np.maximum(found.rms.whole, np.finfo(np.float32).tiny)
    flat = plane.image - found.level.whole
    if subtract and given:
        spread = _spread(found)
        how = f", uneven by {spread / rms:.2g} sigma" if rms > 0 and spread > 0.2 * rms else ""
        notes.append(doubt("sky", f"level of {level / max(rms, 1e-30):.3g} sigma{how} subtracted",
                           band))  # fmt: skip
    one = Band(found.level if subtract else None, found.rms)
    if given:
        assert plane.variance is not None
        check, told, scale = _given_noise(band, plane, flat, found, config)
        notes += told
        if scale is not None:
            one = Band(one.level, None, scale)
            root = np.sqrt(np.where(plane.valid, plane.variance * np.float32(scale), 1))
            sigma = np.maximum(root, np.finfo(np.float32).tiny)
        del check
    if one.rms is not None:
        tail = "" if found.tail == 1 else (
            f", times {found.tail:.2g} for the long tail of few counts"
        )  # fmt: skip
        notes.append(Note("noise", f"rms of the source-free sky{tail}; its level subtracted", band))
        if not np.median(found.rms.values) > 0:
            notes.append(doubt("noise", "the sky has no scatter at all", band))
    relative = np.where(plane.valid, flat / sigma, 0).astype(np.float32)
    return one, relative, notes


def _spread(found: sky.BandSky) -> float:
    known = found.cells[np.isfinite(found.cells)]
    if known.size < 4:
        return 0.0
    low, high = np.percentile(known, [5, 95])
    return float(high - low)


def _stands_off(found: sky.BandSky, config: PrepareConfig) -> bool:
    """Whether the sky is not zero."""
    level, rms = found.typical
    worst = max(abs(level), _spread(found) / 2)
    tolerance = config.sky.tolerance_sigma
    if found.free.mean() < config.sky.min_sky / 2:  # what is left may be a galaxy's outskirts
        tolerance *= config.sky.scarce_tolerance
    return bool(worst > tolerance * rms)


def _given_noise(
    band: str,
    plane: Plane,
    flat: NDArray[np.float32],
    found: sky.BandSky,
    config: PrepareConfig,
) -> tuple[noise.NoiseCheck, list[Note], float | None]:
    """The noise of the files against the scatter of the sky: (check, notes, the factor of the
    variance; None where it is not to be used)."""
    assert plane.variance is not None
    root = np.sqrt(np.where(plane.valid, plane.variance, 1))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        relative = (flat / root).astype(np.float32)
    check = noise.check_given(relative, found.free & np.isfinite(relative), config)
    if config.noise.trust == "files" or not np.isfinite(check.ratio) or check.ratio <= 0:
        return check, [], 1.0
    what = plane.noise_word
    if check.uneven > config.noise.uneven:
        text = f"{what} does not follow the scatter of the sky (by a factor {check.uneven:.2g} "
        return check, [doubt("noise", text + "from part to part): not used", band)], None
    tail = found.tail
    off = check.ratio * tail
    if 1 / (1 + config.noise.tolerance) <= off <= 1 + config.noise.tolerance:
        return check, [], 1.0
    text = f"{what} is {1 / off:.3g} times the scatter of the sky: rescaled"
    make = Note if plane.relative_weight else doubt
    return check, [make("noise", text, band)], off**2


def _with_artifacts(
    one: Band,
    plane: Plane,
    relative: NDArray[np.float32],
    stamp: NDArray[np.float32],
    measured: bool,
    config: PrepareConfig,
) -> Band:
    """A band with what needs its PSF: photon noise, and trails."""
    electrons = None
    if one.rms is not None:
        rms, valid = one.rms.whole, plane.valid
        if measured:  # rays would pass for photon noise
            unit = np.ones(relative.shape, np.float32)
            valid = valid & ~cosmic_rays(relative, unit, valid, stamp, config.artifacts)
        electrons = noise.electrons_per_count(relative * rms, rms, valid, stamp, config.noise)
    trails: tuple[Trail, ...] = ()
    if config.artifacts.trails == "auto":
        trails = find_trails(relative, plane.valid, config.artifacts)
    return Band(one.level, one.rms, one.noise_scale, electrons, trails)


def _trail_note(band: str, trail: Trail) -> Note:
    text = (
        f"a trail of {trail.length:.0f} by {2 * trail.half_width:.0f} px through "
        f"x = {trail.x:.0f}, y = {trail.y:.0f}: no data"
    )
    return doubt("trail", text, band)


def _correlation(
    bands: Sequence[str],
    relative: NDArray[np.float32],
    skies: Sequence[sky.BandSky],
    stamps: Stamps,
    config: PrepareConfig,
) -> tuple[NDArray[np.float32] | None, list[Note]]:
    """The correlation of each band's noise where it matters at the PSF's scale."""
    notes: list[Note] = []
    radius = config.noise.correlation_radius_px
    white = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    white[radius, radius] = 1
    found = np.stack([white] * len(bands))
    for k, (band, data, one) in enumerate(zip(bands, relative, skies, strict=True)):
        measured = noise.correlation(data, one.free, config.noise)
        if measured is None:
            continue
        stamp = stamps.psfs[k]
        excess = np.sqrt(filter_power(stamp, measured) / filter_power(stamp, None))
        if excess > 1 + config.noise.correlation_least:
            found[k] = measured
            text = f"correlated between pixels: {excess:.2g} times white noise at the PSF's scale"
            notes.append(Note("noise", text, band))
    return (found if notes else None), notes


def _coverage(
    bands: Sequence[str], coverage: Sequence[float], valid: NDArray[np.bool_]
) -> list[Note]:
    """Bands that lack data where others have it."""
    notes = []
    any_ = valid.any(axis=0)
    for band, part, good in zip(bands, coverage, valid, strict=True):
        lacking = 1 - float(good.sum()) / max(int(any_.sum()), 1)
        if lacking > 0.01:
            text = (
                f"data in {100 * part:.0f} % of the coadd; {100 * lacking:.0f} % of it is covered"
            )
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
        if layer.unread:
            text = f"{layer.unread} further image(s) of the file without a name that tells a use"
            notes.append(doubt("file", f"{text}: not read", band))
        if row is not None and row.asinh and cards.has("BSOFTEN", "BOFFSET"):
            notes.append(Note("file", "pixels are asinh of the flux (BSOFTEN): undone", band))
        if band in files.zeropoints:
            notes.append(Note("zeropoint", f"{files.zeropoints[band]:g}, as given", band))
            continue
        zero = fits_layers.read_zeropoint(layer)
        if zero.value is None:
            make = doubt if zero.doubtful else Note
            notes.append(make("zeropoint", f"unknown, no magnitudes: {zero.source}", band))
        else:
            notes.append(Note("zeropoint", f"{zero.value:.4g}: {zero.source}", band))
    wcs = fits_layers.read_wcs(files.layers[0])
    if wcs is None:
        notes.append(Note("wcs", "none: no sky positions"))
    return notes
