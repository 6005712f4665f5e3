"""Cutouts around a position, from a server on this machine."""

# ruff: noqa: F401, F811 - the fixture `archive` is imported

from __future__ import annotations

import io

import numpy as np
import pytest
from archive_server import Fault, archive
from astropy.io import fits
from astropy.wcs import WCS

from astrolabel.cli.main import main
from astrolabel.core.errors import InputError

pytest.importorskip("requests", reason="fetches files")

from astrolabel.datasets.archive.client import Unavailable
from astrolabel.datasets.archive.cutout import Servers, fetch_cutout
from astrolabel.datasets.archive.retry_policy import RetryPolicy

SOON = RetryPolicy(attempts=3, first_wait_s=0.01)


def cube(shape=(1, 229, 229), scale=0.262, ra=150.1, fill=1.0):
    """What a server gives: a cube, as the Legacy Surveys' viewer does."""
    header = fits.Header({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": 2.2,
        "CRPIX1": shape[-1] / 2 + 0.5, "CRPIX2": shape[-2] / 2 + 0.5, "CD1_1": -scale / 3600,
        "CD2_2": scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0,
    })  # fmt: skip
    out = io.BytesIO()
    fits.PrimaryHDU(np.full(shape, fill, np.float32), header).writeto(out)
    return out.getvalue()


@pytest.fixture
def served(archive):
    archive.account = False
    archive.files["viewer"] = cube()
    archive.files["hips"] = cube((229, 229))
    return archive, Servers(f"{archive.url}/hips", f"{archive.url}/viewer")


def test_a_small_legacy_cutout_is_of_coadd_pixels(served, tmp_path):
    archive, servers = served
    made = fetch_cutout("150.1 2.2", "1arcmin", "legacy", tmp_path, policy=SOON, servers=servers)
    assert [band for band, _ in made.files] == ["g", "r", "z"]
    queries = [r.query for r in archive.asked]
    assert [q["bands"] for q in queries] == ["g", "r", "z"]
    assert {q["size"] for q in queries} == {"229"}
    assert (float(queries[0]["ra"]), float(queries[0]["dec"])) == (150.1, 2.2)
    with fits.open(made.files[0][1]) as hdus:
        assert hdus[0].data.shape == (229, 229)
        assert hdus[0].header["FILTER"] == "g"
        assert hdus[0].header["MAGZERO"] == 22.5
        (x,), (y,) = WCS(hdus[0].header).all_world2pix([150.1], [2.2], 0)
        assert (x, y) == pytest.approx((114, 114), abs=0.01)
    assert "make-coco --band g=" in made.summary()
    # What is there is not fetched again.
    fetch_cutout("150.1 2.2", "1arcmin", "legacy", tmp_path, policy=SOON, servers=servers)
    assert len(archive.asked) == 3


def test_other_surveys_and_sizes_come_from_hips(served, tmp_path):
    archive, servers = served
    for survey, where in (("hsc", "150.1 2.2"), ("ps1", "150.1,2.2")):
        made = fetch_cutout(
            where, "50arcsec", survey, tmp_path, bands="i", policy=SOON, servers=servers
        )
        assert "not calibrated" in made.summary()
    ids = [r.query["hips"] for r in archive.asked]
    assert ids == ["CDS/P/HSC/DR2/wide/i", "CDS/P/PanSTARRS/DR1/i"]
    query = archive.asked[0].query
    assert (query["width"], query["format"], query["projection"]) == ("298", "fits", "TAN")
    assert float(query["fov"]) == pytest.approx(298 * 0.168 / 3600)


def test_hours_and_names_of_other_maps(served, tmp_path):
    archive, servers = served
    fetch_cutout(
        "10:00:24 +02:12:00", "1arcmin", "des", tmp_path, bands="r", scale=0.263,
        hips="CDS/P/DES-DR2/{band}", policy=SOON, servers=servers,
    )  # fmt: skip
    query = archive.asked[0].query
    assert query["hips"] == "CDS/P/DES-DR2/r"
    assert (float(query["ra"]), float(query["dec"])) == pytest.approx((150.1, 2.2))


def test_a_busy_server_is_asked_again_and_one_that_stays_busy_is_said(served, tmp_path):
    archive, servers = served
    archive.faults = [Fault("viewer", "status", code=503)]
    fetch_cutout("150.1 2.2", "1arcmin", "legacy", tmp_path, bands="g", policy=SOON,
                 servers=servers)  # fmt: skip
    assert len(archive.asked) == 2
    archive.faults = [Fault("viewer", "status", code=503, times=9)]
    with pytest.raises(Unavailable, match="503"):
        fetch_cutout("150.1 2.2", "1arcmin", "legacy", tmp_path, bands="r", policy=SOON,
                     servers=servers)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (cube(fill=np.nan), "has no pixels there"),
        (cube(fill=0.0), "has no pixels there"),
        (cube(ra=20.0), "another part of the sky"),
        (cube((900, 900)), "larger than"),
        (b"no FITS at all", "not a readable FITS file"),
    ],
)
def test_what_is_not_the_cutout_is_refused_and_not_kept(served, tmp_path, content, said):
    archive, servers = served
    archive.files["hips"] = content
    with pytest.raises(InputError, match=said):
        fetch_cutout("150.1 2.2", "1arcmin", "sdss", tmp_path, bands="r", policy=SOON,
                     servers=servers)  # fmt: skip
    assert not (tmp_path / "sdss_r.fits").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--position", "here", "--survey", "ps1"], "position 'here' cannot be read"),
        (["--position", "1 2", "--survey", "x"], "unknown survey 'x'"),
        (["--position", "1 2", "--survey", "lsst"], "Rubin Science Platform"),
        (["--position", "1 2", "--survey", "ps1", "--size", "3px"], "size '3px' cannot be read"),
        (["--position", "1 2", "--survey", "ps1", "--size", "2deg"], "more than 4000"),
        (["--position", "1 2", "--survey", "ps1", "--bands", "K"], "ps1 has no band K"),
        (["--position", "1 2", "--survey", "a", "--hips", "A/B"], "--hips needs {band}"),
    ],
)
def test_what_cannot_be_asked_for_is_explained(tmp_path, capsys, words, said):
    assert main(["fetch-cutout", *words, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_an_address_that_is_not_https_is_refused(tmp_path):
    with pytest.raises(InputError, match="not an https address"):
        fetch_cutout("1 2", "1arcmin", "ps1", tmp_path, servers=Servers("http://example.org/hips"))
