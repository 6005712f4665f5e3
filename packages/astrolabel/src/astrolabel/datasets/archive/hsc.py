"""The HSC public data release: where its coadds and PSFs are, and its catalog database.

The database takes a query as a job (``submit``), which waits in a queue (``status``) until
its result can be fetched (``download``). The account travels in each request's body, as in
the release's own script, hscReleaseQuery.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from astrolabel.core.celestial import to_icrs
from astrolabel.core.errors import InputError
from astrolabel.core.files import write_bytes
from astrolabel.datasets.archive.addresses import address
from astrolabel.datasets.archive.client import Client, Unavailable
from astrolabel.datasets.archive.credentials import how_to_login
from astrolabel.datasets.manifest import HscSource
from astrolabel.datasets.manifest_files import Wanted
from astrolabel.io.layers import find_layers, read_wcs

CLIENT_VERSION = 20190514.1
"""Version of the release's own script whose questions these are; the server wants one."""

COADD = "archive/filetree/{rerun}/deepCoadd-results/HSC-{BAND}/{tract}/{patch}/"
PSF_PICKER = "psf/{release}/cgi/getpsf"
JOBS = "datasearch/api/catalog_jobs/"


def coadd_url(source: HscSource, wanted: Wanted) -> str:
    """Address of a coadd in the file tree."""
    folder = COADD.replace("{rerun}", source.rerun)
    return address(source.server, wanted.fill(folder) + wanted.file)


def psf_request(source: HscSource, wanted: Wanted, coadd: Path) -> tuple[str, dict[str, str]]:
    """(address, parameters) of the PSF picker's stamp at the middle of a coadd.

    One stamp stands for the patch: a coadd's PSF varies within it by less than from patch
    to patch, and the labels need no better.

    Raises
    ------
    InputError
        When the coadd has no WCS, so that its middle has no place on the sky.
    """
    layer = find_layers(coadd)[0]
    wcs = read_wcs(layer)
    if wcs is None:
        raise InputError(
            "no WCS, so no place on the sky to ask a PSF for",
            file=coadd,
            remedy="fetch it again, or set source.psfs: false",
        )
    height, width = layer.shape
    ra, dec = (float(v) for v in to_icrs(wcs, (width - 1) / 2, (height - 1) / 2))
    if not np.isfinite([ra, dec]).all():
        raise InputError("a WCS without a sky position", file=coadd, remedy="fetch it again")
    # "pdr3_dud" is of the release pdr3.
    picker = PSF_PICKER.format(release=source.rerun.partition("_")[0])
    return address(source.server, picker), {
        "ra": f"{ra:.6f}",
        "dec": f"{dec:.6f}",
        "filter": wanted.band,
        "rerun": source.rerun,
        "tract": wanted.tract,
        "patch": wanted.patch,
        "centered": "true",
        "type": "coadd",
    }


def run_query(
    client: Client, source: HscSource, sql: str, target: Path, check: Callable[[Path], None]
) -> None:
    """Run a query in the catalog database and fetch its result.

    A job that an earlier run left in the queue is taken up again, not asked for twice: its
    number is kept in ``.NAME.job.json`` beside the file until the file is there.

    Raises
    ------
    InputError
        For no account, a faulty query, a job that fails, and all that `Client.download`
        raises.
    """
    if client.login is None:
        raise InputError(
            f"no account to query {source.release} with",
            file=source.server,
            remedy=how_to_login(source.server.partition("://")[2].split(":")[0], hsc=True),
        )
    note = target.with_name(f".{target.name}.job.json")
    key = hashlib.sha256(f"{source.server} {source.release} {sql}".encode()).hexdigest()
    job = _noted(note, key)
    taken_up = job is not None
    while True:
        if job is None:
            job = _submit(client, source, sql)
            write_bytes(note, json.dumps({"key": key, "job": job}).encode())
        try:
            _wait_for(client, source, job)
            body = _question(client, id=job)
            client.download(
                address(source.server, JOBS + "download"), target, body=body, check=check
            )
            break
        except Unavailable:  # the job goes on without us
            raise
        except InputError:
            note.unlink(missing_ok=True)
            if not taken_up:
                raise
            # An earlier run's job may have been swept away meanwhile: once anew.
            job, taken_up = None, False
    note.unlink(missing_ok=True)
    client.ask(address(source.server, JOBS + "delete"), _question(client, id=job))


def _noted(note: Path, key: str) -> Any:
    try:
        found = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("key") == key
    return found.get("job") if same else None


def _question(client: Client, **values: Any) -> dict[str, Any]:
    assert client.login is not None
    account = {"account_name": client.login.user, "password": client.login.password}
    return {"credential": account, "clientVersion": CLIENT_VERSION, **values}


def _submit(client: Client, source: HscSource, sql: str) -> Any:
    job = {
        "sql": sql,
        "out_format": "fits",
        "include_metainfo_to_body": True,
        "release_version": source.release,
    }
    url = address(source.server, JOBS + "submit")
    body = _question(client, catalog_job=job, nomail=True, skip_syntax_check=False)
    answer = client.ask(url, body)
    if not isinstance(answer, Mapping) or not isinstance(answer.get("id"), (int, str)):
        raise InputError(
            f"the server gives no job's number ({client.hide(str(answer)[:120])})",
            file=url,
            remedy="see whether source.server and source.release are right",
        )
    return answer["id"]


def _wait_for(client: Client, source: HscSource, job: Any) -> None:
    """Until the job is done; its failure is an `InputError`."""
    url = address(source.server, JOBS + "status")
    interval, waited, policy = client.policy.first_poll_s, 0.0, client.policy
    while True:
        answer = client.ask(url, _question(client, id=job))
        status = answer.get("status") if isinstance(answer, Mapping) else None
        if status == "done":
            return
        if not isinstance(status, str) or status in ("error", "canceled", "aborted", "deleted"):
            why = answer.get("error", "") if isinstance(answer, Mapping) else answer
            raise InputError(
                f"the database did not run the query: {status} "
                f"({client.hide(' '.join(str(why).split())[:300])})",
                file=url,
                remedy="see to the SQL and to source.release",
            )
        if waited >= policy.job_limit_s:
            raise Unavailable(
                f"the query is still {status} after {waited:.0f} s",
                file=url,
                remedy="give the same command again later, or ask for fewer rows",
            )
        client.wait(interval)
        waited += interval
        interval = min(1.5 * interval, policy.longest_poll_s)
