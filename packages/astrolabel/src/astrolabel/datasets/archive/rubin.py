"""Cutouts of Rubin's coadds from the Rubin Science Platform, by SIA, DataLink and SODA.

An account is needed. Its token, with the scope ``read:image``, is in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from astropy.coordinates import SkyCoord

from astrolabel.core.celestial import to_pixels
from astrolabel.core.errors import AstrolabelError, InputError
from astrolabel.core.files import atomic_path
from astrolabel.datasets.archive.addresses import origin_of
from astrolabel.io.layers import find_layers, read_wcs

SIA = "https://data.lsst.cloud/api/sia/dp1/query"
"""Image search of Data Preview 1."""
TOKEN_VARIABLE = "RSP_TOKEN"
COADD = "deep_coadd"
"""What a coadd's dataset type is called, in ``dataproduct_subtype``."""
CUTOUT = "cutout-sync"
"""Id of the cutout service in the answer of DataLink."""
MOST_BYTES = 1_000_000_000
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class _Signed:
    """Signs requests to one origin alone: an answer may name other servers."""

    token: str
    origin: tuple[str, str, int]

    def __call__(self, request: Any) -> Any:
        if origin_of(request.url) == self.origin:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def fetch_rubin(
    centre: SkyCoord, side: float, bands: Sequence[str], out: Path, server: str = SIA
) -> list[tuple[str, Path]]:
    """Fetch ``lsst_<band>.fits``: image, mask and variance as the pipelines write them.

    Parameters
    ----------
    side : arcsec.

    Returns
    -------
    list of (band, path). Files that are there stay.

    Raises
    ------
    InputError
        Without a token or pyvo, for a token that is refused, and for sky without a coadd.
    OutputError
        When a file cannot be written.
    """
    session, dal = _connect(server)
    wanted = [(band, out / f"lsst_{band}.fits") for band in bands]
    missing = [(band, path) for band, path in wanted if not path.exists()]
    if not missing:
        return wanted
    radius = side / 7200  # degrees
    where = (centre.ra.deg, centre.dec.deg, radius)
    try:
        service = dal.SIA2Service(server, session=session, check_baseurl=False)
        rows = list(service.search(pos=where, calib_level=3))
        for band, path in missing:
            row = _nearest(rows, band, centre)
            links = dal.adhoc.DatalinkResults.from_result_url(row["access_url"], session=session)
            cut = links.get_adhocservice_by_id(CUTOUT)
            query = dal.adhoc.SodaQuery.from_resource(links, cut, session=session)
            query.circle = where
            _save(query.execute_stream(), path)
            _check(path, centre)
    except AstrolabelError:
        raise
    except (dal.DALServiceError, dal.DALQueryError, ValueError, KeyError, OSError) as error:
        refused = any(word in str(error) for word in ("401", "403", "Unauthorized", "Forbidden"))
        raise InputError(
            f"the Rubin Science Platform gives no image ({' '.join(str(error).split())[:200]})",
            file=server,
            remedy=f"make a new token with the scope read:image, and set {TOKEN_VARIABLE}"
            if refused
            else "try again later",
        ) from error
    return wanted


def _connect(server: str) -> tuple[Any, Any]:
    """A session that is signed, and pyvo."""
    parts = urlsplit(server)
    if parts.scheme != "https" and parts.hostname not in LOCAL:
        raise InputError("not an https address", file=server, remedy="give https://...")
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise InputError(
            "LSST's images need an account of the Rubin Science Platform",
            remedy=f"make a token with the scope read:image at https://{parts.netloc}/auth/tokens "
            f"and set {TOKEN_VARIABLE} to it; or fetch whole coadds: `astrolabel manifest copy "
            "lsst_dp1_ecdfs`",
        )
    try:
        import requests
        from pyvo import dal
    except ImportError as error:
        raise InputError(
            "LSST's image services need the package pyvo",
            remedy="pip install 'astrolabel[archive]'",
        ) from error
    session = requests.Session()
    session.trust_env = False  # no account of netrc
    session.auth = _Signed(token, origin_of(server))
    return session, dal


def _nearest(rows: Sequence[Mapping[str, Any]], band: str, centre: SkyCoord) -> Mapping[str, Any]:
    """The coadd of a band whose middle is nearest."""
    mine = [
        row
        for row in rows
        if COADD in str(row["dataproduct_subtype"]) and str(row["lsst_band"]) == band
    ]
    if not mine:
        raise InputError(
            f"no {band} coadd lies there", remedy="choose a position in a field of Data Preview 1"
        )
    sky = SkyCoord([r["s_ra"] for r in mine], [r["s_dec"] for r in mine], unit="deg")
    return mine[int(np.argmin(sky.separation(centre).deg))]


def _save(stream: Any, path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        size = 0
        while chunk := stream.read(1 << 20):
            size += len(chunk)
            if size > MOST_BYTES:
                raise InputError(f"is larger than {MOST_BYTES} bytes", file=path)
            file.write(chunk)


def _check(path: Path, centre: SkyCoord) -> None:
    """Refuse, and remove, what is no image of the place."""
    try:
        layers = find_layers(path)[0]
        wcs = read_wcs(layers)
        if wcs is None:
            raise InputError("the server gives an image without a place on the sky", file=path)
        x, y = to_pixels(wcs, centre.ra.deg, centre.dec.deg)
        height, width = layers.shape
        if not (-1 <= x <= width and -1 <= y <= height):
            raise InputError("the server gives another part of the sky", file=path)
    except InputError:
        path.unlink()
        raise
