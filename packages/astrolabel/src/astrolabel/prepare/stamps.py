"""The PSF of each band of a coadd: read, else fitted to its stars, else that of the header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.config.prepare import StarConfig
from astrolabel.core.notes import Note, doubt
from astrolabel.io import layers as fits_layers
from astrolabel.io.files import CoaddFiles
from astrolabel.io.stamps import read_psf, read_psf_grid, read_stamps
from astrolabel.prepare.psf import StarFits, alike


@dataclass(frozen=True, eq=False)
class Stamps:
    """As in `Characteristics`: stamps, grids, whether they are more than a guess, and notes."""

    psfs: NDArray[np.float32]
    grids: tuple[psf.StampGrid | None, ...]
    measured: tuple[bool, ...]
    notes: list[Note]


def part_with_stars(files: CoaddFiles, config: StarConfig) -> Box:
    """The part of a coadd whose stars are fitted: where all PSFs are given, its middle."""
    frame = Box.of_shape(files.shape)
    if len(files.psf) < len(files.bands):
        return frame
    side = config.search_px
    top, left = (max(n - side, 0) // 2 for n in files.shape)
    return frame & Box(top, left, side, side)


def find_stamps(
    files: CoaddFiles,
    fits: Sequence[NDArray[np.float64]],
    compact: Sequence[NDArray[np.float64]],
    config: StarConfig,
) -> Stamps:
    """PSFs of a coadd.

    Parameters
    ----------
    fits : of the stars of each band (see `fit_stars`).
    compact : widths of compact sources of each band (see `fit_compact`); none without given PSFs.
    """
    given, grids, notes = _given(files, config)
    fitted = [alike(of_band, config) for of_band in fits]
    widths = [f.fwhm_px for f in fitted if f.agree]
    stamps, measured = dict(given), []
    middle = (np.array([files.shape]) - 1) / 2
    for k, (band, found) in enumerate(zip(files.bands, fitted, strict=True)):
        if band in given:
            factor, texts = _compared(band, given[band], found, compact[k], config)
            if factor != 1:
                stamps[band] = psf.rescaled(given[band], factor)
            if factor != 1 and band in grids:
                at_places = [psf.rescaled(stamp, factor) for stamp in grids[band].stamps]
                grids[band] = replace(grids[band], stamps=np.stack(at_places))
            notes += texts
            measured.append(True)
        elif found.agree:
            stamps[band] = found.stamps(middle)[0]
            if (grid := found.grid(files.shape, config.spacing_px)) is not None:
                grids[band] = grid
            notes.append(Note("psf", found.text(), band))
            measured.append(True)
        else:
            width, note = _guess(files, band, found, widths, config)
            stamps[band] = psf.moffat(width)
            notes.append(note)
            measured.append(False)
    largest = max(s.shape[-1] for s in (*stamps.values(), *(g.stamps for g in grids.values())))
    blank = np.zeros((largest, largest), np.float32)  # pads the others to its size
    both = psf.common_size([*(stamps[b] for b in files.bands), blank])
    at = [grids[b].padded(largest) if b in grids else None for b in files.bands]
    return Stamps(both[:-1], tuple(at) if grids else (), tuple(measured), notes)


def _border(band: str, stamp: NDArray[np.float32], config: StarConfig) -> list[Note]:
    """A doubt about a stamp with a level of its own, or one that ends in the light of its star."""
    ring = np.concatenate([stamp[0], stamp[-1], stamp[1:-1, 0], stamp[1:-1, -1]])
    share = abs(float(np.median(ring))) * stamp.size
    if share <= config.border_share:
        return []
    text = f"the level at the border of the stamp, over all of it, is {share:.2g} of its flux"
    return [doubt("psf", f"{text}: fluxes are wrong by as much; subtract it, or cut wider", band)]


def _given(
    files: CoaddFiles, config: StarConfig
) -> tuple[dict[str, NDArray[np.float32]], dict[str, psf.StampGrid], list[Note]]:
    """Stamps that files hold, by band."""
    stamps: dict[str, NDArray[np.float32]] = {}
    grids: dict[str, psf.StampGrid] = {}
    notes: list[Note] = []
    rows, columns = files.shape
    for band, paths in files.psf.items():
        further = " and others" if len(paths) > 1 else ""
        read_from = f"read from {paths[0].name}{further}"
        if len(paths) > 1:
            grid = read_stamps(paths, fits_layers.read_wcs(files.layers[0]), files.shape)
        elif (cube := read_psf_grid(paths[0], band)) is not None:
            grid = cube
        else:
            stamps[band] = read_psf(paths[0], band, files.bands)
            notes += [Note("psf", read_from, band), *_border(band, stamps[band], config)]
            continue
        grids[band], stamps[band] = grid, grid.at((rows - 1) / 2, (columns - 1) / 2)
        notes.append(Note("psf", f"{len(grid.stamps)} by position, {read_from}", band))
    return stamps, grids, notes


def _compared(
    band: str,
    stamp: NDArray[np.float32],
    found: StarFits,
    compact: NDArray[np.float64],
    config: StarConfig,
) -> tuple[float, list[Note]]:
    """By how much a given PSF is to be rescaled, and a doubt where it is not that of the stars."""
    width = psf.fwhm_px(stamp)
    ratio, most = compact / width, 1 + config.mismatch
    narrow = np.sort(compact[(ratio > config.narrowest) & (ratio < 1 / most)])
    if len(narrow) >= max(config.min_stars, config.narrow_part * (ratio < most).sum()):
        alike = narrow[narrow < (1 + config.scatter) * narrow[config.min_stars - 1]]
        star, what, sure = float(np.median(alike)), f"{len(alike)} sources", True
    elif found.agree and not 1 / most <= found.fwhm_px / width <= most:
        if (np.abs(ratio - 1) < config.scatter).sum() >= config.min_stars:
            return 1.0, []  # there are sources of its width, so those are galaxies
        star, what = found.fwhm_px, f"{len(found.fits)} stars"
        sure = len(found.fits) >= config.sure_stars
    else:
        return 1.0, []
    text = f"given with a FWHM of {width:.2f} px, {what} have {star:.2f}"
    if config.trust == "files" or not sure:
        return 1.0, [doubt("psf", text, band)]
    return star / width, [doubt("psf", f"{text}: rescaled", band)]


def _guess(
    files: CoaddFiles, band: str, found: StarFits, others: list[float], config: StarConfig
) -> tuple[float, Note]:
    """(FWHM in pixels, where it is from) of a band with too few stars to measure it on."""
    layer = files.layers[files.bands.index(band)]
    few = f"{len(found.fits)} star(s)"
    seeing, wcs = fits_layers.read_seeing(layer), fits_layers.read_wcs(layer)
    scale = None
    if wcs is not None:
        scale = float(np.sqrt(wcs.proj_plane_pixel_area().to_value("arcsec2")))
    cards: list[tuple[float, str]] = []
    if seeing is not None:
        if seeing.unit in ("px", ""):
            cards.append((seeing.value, f"card {seeing.card} = {seeing.value:.3g} in pixels"))
        if seeing.unit in ("arcsec", "") and scale:
            text = f"card {seeing.card} = {seeing.value:.3g} arcsec"
            cards.append((seeing.value / scale, text))
    cards = [(width, text) for width, text in cards if 0.8 < width < 40]
    if len(cards) > 1:  # the unit is not known: that which the few stars are nearer to
        nearest = found.fwhm_px if len(found.fits) else psf.DEFAULT_FWHM_PX
        cards.sort(key=lambda t: abs(np.log(t[0] / nearest)))
    if cards and len(found.fits) and cards[0][0] > (1 + config.mismatch) * found.fwhm_px:
        width, text = found.fwhm_px, f"{cards[0][1]} is wider than {few}"  # which nothing can be
        return width, doubt("psf", f"Moffat of FWHM {width:.2f} px: {text}", band)
    if cards:
        width, text = cards[0]
        return width, Note("psf", f"Moffat of FWHM {width:.2f} px: {text}", band)
    if others:
        width = float(np.mean(others))
        text = f"Moffat of FWHM {width:.2f} px, too few stars: the mean of the other bands"
        return width, Note("psf", text, band)
    usual, survey = None, layer.row
    if survey is not None and survey.fwhm_arcsec is not None and scale:
        usual = max(survey.fwhm_arcsec / scale, 1.0)
    if len(found.fits) and not (usual and found.fwhm_px > config.galaxy_fwhm * usual):
        width, text = found.fwhm_px, f"fitted to {few} only"
    elif usual and survey:
        width, text = usual, f"too few stars: what is usual for {survey.title}"
    elif scale:
        arcsec = config.space_arcsec if scale < config.fine_px_arcsec else config.ground_arcsec
        width = max(arcsec / scale, config.sampled_px)
        text = f"no stars and no seeing in the header: a guess, from pixels of {scale:.2g} arcsec"
    else:
        width, text = psf.DEFAULT_FWHM_PX, "no stars and no seeing in the header: a guess"
    return width, doubt("psf", f"Moffat of FWHM {width:.2f} px, {text}", band)
