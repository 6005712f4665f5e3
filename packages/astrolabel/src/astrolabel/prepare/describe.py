"""What `make-coco` would assume about files, and what is doubtful, without labelling them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astrolabel.core import psf
from astrolabel.core.celestial import frame_of, to_icrs
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.errors import InputError
from astrolabel.core.notes import DOUBT
from astrolabel.io import layers as fits_layers
from astrolabel.io.files import CoaddFiles, check
from astrolabel.io.layers import Layers
from astrolabel.prepare.characterise import Characteristics, characterise


def describe(coadds: Sequence[CoaddFiles], config: PrepareConfig | None = None) -> str:
    """A paragraph for each coadd: where its planes are, what they mean, and every note.

    A coadd that cannot be read has one line on why.
    """
    chosen = PrepareConfig() if config is None else config
    return "\n\n".join(_one(files, chosen) for files in coadds)


def _one(files: CoaddFiles, config: PrepareConfig) -> str:
    try:
        check(files)
        known = characterise(files, config)
        wcs = _place(files)
    except InputError as error:
        return f"{files.name}: {error}"
    height, width = files.shape
    lines = [f"{files.name}: {len(files.bands)} band(s) of {width}x{height} pixels, {wcs}"]
    for index, band in enumerate(files.bands):
        lines += _band(files, known, index, band)
    lines += [f"  {_mark(n.severity)}{n}" for n in known.notes if not n.band]
    doubts = sum(note.severity == DOUBT for note in known.notes)
    lines.append(f"  {doubts} doubt(s)" if doubts else "  nothing is doubtful")
    return "\n".join(lines)


def _band(files: CoaddFiles, known: Characteristics, index: int, band: str) -> list[str]:
    layer = files.layers[index]
    row = layer.row
    lines = [f"  {band}: {layer.path.name}, {row.title if row else 'no known survey'}"]
    lines.append(f"    image: HDU {layer.image}" + (f", {row.unit}" if row else ""))
    lines.append(f"    noise: {_noise(files.variance.get(band, layer))}")
    mask = files.mask.get(band, layer)
    where = "none" if mask.mask is None else f"HDU {mask.mask} of {mask.path.name}"
    lines.append(f"    mask: {where}")
    lines.append(f"    PSF: {psf.fwhm_px(known.psfs[index]):.2f} px FWHM")
    lines.append(f"    data in {100 * known.coverage[index]:.3g} % of the pixels")
    notes = sorted((n for n in known.notes if n.band == band), key=lambda n: n.severity != DOUBT)
    return lines + [f"    {_mark(n.severity)}{n.kind}: {n.text}" for n in notes]


def _noise(layer: Layers) -> str:
    if layer.variance is None:
        return "none in the files: measured"
    return f"HDU {layer.variance} of {layer.path.name}, read as {layer.noise}"


def _mark(severity: str) -> str:
    return "doubt: " if severity == DOUBT else "assumed: "


def _place(files: CoaddFiles) -> str:
    wcs = fits_layers.read_wcs(files.layers[0])
    if wcs is None:
        return "without a WCS"
    height, width = files.shape
    ra, dec = to_icrs(wcs, (width - 1) / 2, (height - 1) / 2)
    scale = float(np.sqrt(wcs.proj_plane_pixel_area().to_value("arcsec2")))
    middle = f"ra {float(ra):.5f}, dec {float(dec):+.5f} (ICRS; from {frame_of(wcs).name})"
    return f'{scale:.4g}"/px, middle at {middle}'
