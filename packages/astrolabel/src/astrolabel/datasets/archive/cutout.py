"""Cutouts of surveys around a position, one FITS file a band.

The Legacy Surveys' viewer gives coadd pixels, and so does the Rubin Science Platform (see
`rubin`), which needs an account. Other surveys come from the CDS' hips2fits, which
resamples their HiPS maps bilinearly: fine to look at and to label, no photometry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from astrolabel.core.celestial import to_pixels
from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path
from astrolabel.datasets.archive.client import Client
from astrolabel.datasets.archive.retry_policy import RetryPolicy
from astrolabel.datasets.archive.rubin import LOCAL, SIA, fetch_rubin
from astrolabel.io.layers import find_layers, open_fits, read_wcs

HIPS2FITS = "https://alasky.cds.unistra.fr/hips-image-services/hips2fits"
VIEWER = "https://www.legacysurvey.org/viewer/fits-cutout"
LARGEST_PX = 4000
"""Longest side asked for; hips2fits gives 50 million pixels at most."""
VIEWER_PX = 512
"""Longest side that the Legacy Surveys' viewer gives; larger ones come from hips2fits."""
BYTES_PER_PX = 8
"""A download that is larger than this many bytes a pixel and band is not what was asked for."""


@dataclass(frozen=True)
class Survey:
    """Where a survey's cutouts are.

    Attributes
    ----------
    hips : id of its HiPS maps, ``{band}`` in it.
    scale : arcsec of a pixel.
    bands : those there are, blue to red; `usual` those that are fetched by default.
    """

    hips: str
    scale: float
    bands: str
    usual: str


SURVEYS = {
    "legacy": Survey("CDS/P/DESI-Legacy-Surveys/DR10/{band}", 0.262, "griz", "grz"),
    "hsc": Survey("CDS/P/HSC/DR2/wide/{band}", 0.168, "grizy", "gri"),
    "hsc-deep": Survey("CDS/P/HSC/DR2/deep/{band}", 0.168, "grizy", "gri"),
    "ps1": Survey("CDS/P/PanSTARRS/DR1/{band}", 0.25, "grizy", "gri"),
    "sdss": Survey("CDS/P/SDSS9/{band}", 0.396, "ugriz", "gri"),
    "lsst": Survey("", 0.2, "ugrizy", "gri"),
}
LAYER = "ls-dr10"
"""Data release of the Legacy Surveys."""


@dataclass(frozen=True)
class Servers:
    """Addresses of the services."""

    hips2fits: str = HIPS2FITS
    viewer: str = VIEWER
    rubin: str = SIA


@dataclass(frozen=True)
class Cutout:
    """What came: the file of each band, and notes on it."""

    files: tuple[tuple[str, Path], ...]
    notes: tuple[str, ...] = ()
    survey: str = field(default="")

    def summary(self) -> str:
        """Lines for people, the last the command that labels the cutout."""
        words = " ".join(f"{band}={path}" for band, path in self.files)
        folder = self.files[0][1].parent
        command = f"astrolabel make-coco --band {words} --out {folder / 'labels'}"
        return "\n".join([*(str(path) for _, path in self.files), *self.notes, f"next: {command}"])


def fetch_cutout(
    position: str,
    size: str,
    survey: str,
    out: Path,
    *,
    bands: Sequence[str] = (),
    hips: str = "",
    scale: float | None = None,
    policy: RetryPolicy | None = None,
    servers: Servers | None = None,
) -> Cutout:
    """Fetch a square cutout into ``out/<survey>_<band>.fits``; files that are there stay.

    Parameters
    ----------
    position : RA and Dec, in degrees or as ``10:00:24 +02:12:00``.
    size : side, with its unit: ``5arcmin``, ``300arcsec``.
    survey : of `SURVEYS`, or any name where `hips` is given.
    bands : of the survey; its usual three by default.
    hips : id of other HiPS maps, with ``{band}`` in it.
    scale : arcsec of a pixel; the survey's own by default.

    Raises
    ------
    InputError
        For a position, size or survey that cannot be read, and for what the server does not
        have: outside of the survey, say.
    OutputError
        When a file cannot be written.
    """
    known = _survey(survey, hips, scale, bands)
    centre, side = _centre(position), _side(size)
    pixels = max(round(side / known.scale), 1)
    if pixels > LARGEST_PX:
        raise InputError(
            f"{size} are {pixels} pixels of {known.scale} arcsec, more than {LARGEST_PX}",
            remedy="ask for less, or for larger pixels with --pixel-scale",
        )
    wanted = list(bands or known.usual)
    unknown = [band for band in wanted if not hips and band not in known.bands]
    if unknown:
        raise InputError(
            f"{survey} has no band {', '.join(unknown)}", remedy=f"choose of {known.bands}"
        )
    where = servers or Servers()
    if survey == "lsst" and not hips:
        return Cutout(tuple(fetch_rubin(centre, side, wanted, out, where.rubin)), (), survey)
    viewer = survey == "legacy" and not hips and pixels <= VIEWER_PX
    made = []
    for band in wanted:
        path = out / f"{survey}_{band}.fits"
        made.append((band, path))
        if path.exists():
            continue
        params = _query(known, band, centre, pixels, viewer)
        _download(where.viewer if viewer else where.hips2fits, params, path, pixels, policy)
        _finish(path, band, centre, viewer)
    notes = () if viewer else ("note: resampled from HiPS maps: fluxes are not calibrated",)
    return Cutout(tuple(made), notes, survey)


def _query(known: Survey, band: str, centre: SkyCoord, pixels: int, viewer: bool) -> dict[str, str]:
    """What the viewer, or hips2fits, is asked for."""
    place = {"ra": f"{centre.ra.deg:.7f}", "dec": f"{centre.dec.deg:.7f}"}
    if viewer:
        return place | {
            "layer": LAYER, "pixscale": f"{known.scale:g}", "size": str(pixels), "bands": band,
        }  # fmt: skip
    return place | {
        "hips": known.hips.format(band=band), "fov": f"{pixels * known.scale / 3600:.8f}",
        "width": str(pixels), "height": str(pixels), "projection": "TAN", "coordsys": "icrs",
        "format": "fits",
    }  # fmt: skip


def _survey(name: str, hips: str, scale: float | None, bands: Sequence[str]) -> Survey:
    if hips:
        if "{band}" not in hips or not bands or scale is None:
            raise InputError(
                "--hips needs {band} in it, and --bands and --pixel-scale",
                remedy="for example --hips 'CDS/P/DES-DR2/{band}' --bands gri --pixel-scale 0.263",
            )
        return Survey(hips, scale, "".join(bands), "".join(bands))
    if name not in SURVEYS:
        raise InputError(f"unknown survey {name!r}", remedy=f"choose of {', '.join(SURVEYS)}")
    one = SURVEYS[name]
    return one if scale is None else Survey(one.hips, scale, one.bands, one.usual)


def _centre(position: str) -> SkyCoord:
    unit = ("hourangle", "deg") if re.search(r"[:hms]", position) else "deg"
    try:
        return SkyCoord(position.replace(",", " "), unit=unit, frame="icrs")
    except (ValueError, TypeError, u.UnitsError) as error:
        raise InputError(
            f"position {position!r} cannot be read",
            remedy='write RA and Dec: "150.1 2.2" or "10:00:24 +02:12:00"',
        ) from error


def _side(size: str) -> float:
    """Arcsec."""
    try:
        side = float(u.Quantity(size).to_value(u.arcsec))
    except (ValueError, TypeError, u.UnitsError) as error:
        raise InputError(f"size {size!r} cannot be read", remedy="write 5arcmin") from error
    if not 0 < side < np.inf:
        raise InputError(f"size {size!r} is not above zero", remedy="write 5arcmin")
    return side


def _download(
    server: str, params: dict[str, str], path: Path, pixels: int, policy: RetryPolicy | None
) -> None:
    parts = urlsplit(server)
    if parts.scheme != "https" and parts.hostname not in LOCAL:
        raise InputError("not an https address", file=server, remedy="give https://...")
    limit = BYTES_PER_PX * pixels**2 + 100_000
    client = Client(server, policy or RetryPolicy(), most_bytes=limit)
    client.download(server, path, params=params, check=_check)


def _check(path: Path) -> None:
    with open_fits(path) as hdus:
        data = hdus[0].data
        empty = data is None or not np.isfinite(data).any() or not np.any(np.nan_to_num(data))
    if empty:
        raise InputError(
            "the survey has no pixels there", remedy="choose another position or survey"
        )


def _finish(path: Path, band: str, centre: SkyCoord, calibrated: bool) -> None:
    """One plane, with its band and zero point; a cutout of other sky is refused."""
    with open_fits(path) as hdus:
        data = np.squeeze(np.asarray(hdus[0].data, np.float32))
    if data.ndim != 2:
        path.unlink()
        raise InputError(f"the server gives an array of shape {data.shape}", file=path)
    wcs = read_wcs(find_layers(path)[0])
    if wcs is None:
        path.unlink()
        raise InputError("the server gives an image without a place on the sky", file=path)
    x, y = to_pixels(wcs, centre.ra.deg, centre.dec.deg)
    if not (-1 <= x <= data.shape[1] and -1 <= y <= data.shape[0]):
        path.unlink()
        raise InputError("the server gives another part of the sky", file=path)
    made = wcs.to_header(relax=True)
    made["FILTER"] = band
    if calibrated:
        made["BUNIT"] = ("nanomaggy", "AB zero point 22.5")
        made["MAGZERO"] = 22.5
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        fits.PrimaryHDU(data, made).writeto(stream)
