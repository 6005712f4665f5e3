"""Fetching a manifest's files from an archive: whole, verified, polite, and no secret told."""

import base64
import gzip
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from archive_server import PASSWORD, USER, Fault, archive, elsewhere
from astropy.io import fits
from fits_files import scene, tan_wcs, write_calexp

pytest.importorskip("requests", reason="fetching: pip install astrolabel[fetch]")
pytest.importorskip("filelock", reason="fetching: pip install astrolabel[fetch]")

from astrolabel.cli.main import main
from astrolabel.core.errors import InputError, OutputError
from astrolabel.datasets.archive.addresses import address
from astrolabel.datasets.archive.client import Client
from astrolabel.datasets.archive.credentials import Login, find_login
from astrolabel.datasets.archive.fetch import fetch
from astrolabel.datasets.archive.retry_policy import RetryPolicy, retry_after
from astrolabel.datasets.manifest import read_manifest
from astrolabel.datasets.manifest_files import survey_states
from astrolabel.io import coco
from astrolabel.io.validate import validate

__all__ = ["archive", "elsewhere"]

BRIEF = RetryPolicy(first_wait_s=0.001, first_poll_s=0.001, attempts=2)
FAST = RetryPolicy(first_wait_s=0.001, first_poll_s=0.001, longest_poll_s=0.002, timeout_s=5)
TREE = "archive/filetree/pdr3_dud/deepCoadd-results/HSC-{}/9813/4,5/{}"
COADDS = [f"calexp-HSC-{b}-9813-4,5.fits" for b in "GI"]
CATALOG = "forced.fits"
EVERYTHING = {*COADDS, *(f"psf-{name}" for name in COADDS), CATALOG}


def stamp():
    y, x = np.mgrid[-21:22, -21:22]
    return fits.PrimaryHDU(np.exp(-(x**2 + y**2) / 6).astype("f4"))


def content(hdu, tmp_path):
    path = tmp_path / "scratch.fits"
    hdu.writeto(path, overwrite=True)
    return path.read_bytes()


def forced(positions, shape):
    ra, dec = tan_wcs(shape).all_pix2world(positions[:, ::-1], 0).T
    n = len(ra)
    columns = {
        "object_id": ("K", 4 * 10**16 + np.arange(n)),
        "ra": ("D", ra), "dec": ("D", dec),
        "isprimary": ("L", np.ones(n, bool)),
        "i_cmodel_mag": ("D", np.full(n, 25.0)),
        "i_extendedness_value": ("D", np.arange(n) % 2),
    }  # fmt: skip
    return fits.BinTableHDU.from_columns(
        [fits.Column(name, kind, array=values) for name, (kind, values) in columns.items()]
    )


@pytest.fixture
def hsc(archive, tmp_path):
    """The archive with one patch in two bands, its PSFs and its catalog."""
    image, positions = scene()
    for band in "gi":
        path = write_calexp(tmp_path / "there", band, image)
        archive.files[TREE.format(band.upper(), path.name)] = path.read_bytes()
        archive.psfs[band, "9813", "4,5"] = content(stamp(), tmp_path)
    archive.result = content(forced(positions, image.shape), tmp_path)
    return archive


@pytest.fixture
def dataset(hsc, tmp_path):
    """A manifest for it, in a folder of its own."""
    return write(tmp_path / "m", hsc)


def write(folder, server, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "q.sql").write_text("SELECT object_id FROM pdr3_dud_rev.forced")
    values = {
        "schema": 2,
        "name": "small",
        "survey": "hsc",
        "bands": ["g", "i"],
        "coadds": {"patches": {"9813": ["4,5"]}},
        "catalogs": [{"file": CATALOG, "scheme": "hsc", "query": "q.sql"}],
        "scheme": "hsc",
        "cuts": {"max_magnitude_difference": 100},
        "source": {"archive": "hsc", "server": server.url, "rerun": "pdr3_dud"},
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return path


def get(path, folder, policy=FAST):
    return fetch(read_manifest(path), folder, policy=policy, progress=False)


def names(folder):
    return {p.name for p in folder.iterdir() if p.name != ".astrolabel-fetch.lock"}


def locked(path):
    lock = path.with_name("small.lock.yaml")
    return yaml.safe_load(lock.read_text())["files"] if lock.exists() else {}


def test_everything_comes_and_is_not_asked_for_again(dataset, hsc, tmp_path):
    root = tmp_path / "new" / "root"
    assert get(dataset, root).came == 5
    assert names(root) == EVERYTHING
    assert set(locked(dataset)) == EVERYTHING
    assert hsc.jobs == {}  # the job is deleted behind us
    hsc.asked.clear()
    done = get(dataset, root)
    assert (done.came, done.there) == (0, 5)
    assert hsc.asked == []
    assert "5 files fetched" not in done.summary()


def test_the_questions_are_those_of_the_archive(dataset, hsc, tmp_path):
    get(dataset, tmp_path / "root")
    psf = next(r for r in hsc.asked if r.path == "/psf/pdr3/cgi/getpsf")
    assert (psf.query["rerun"], psf.query["tract"], psf.query["patch"]) == (
        "pdr3_dud", "9813", "4,5",
    )  # fmt: skip
    assert psf.query["type"] == "coadd"
    # The middle of the image, where the test's WCS has its reference.
    assert float(psf.query["ra"]) == pytest.approx(150.1, abs=1e-4)
    assert float(psf.query["dec"]) == pytest.approx(2.2, abs=1e-4)
    jobs = [p.rpartition("/")[2] for p in hsc.paths() if "catalog_jobs" in p]
    assert jobs == ["submit", "status", "status", "status", "download", "delete"]
    assert "/" + TREE.format("G", COADDS[0]) in hsc.paths()


def test_build_is_byte_identical_wherever_it_is_fetched_to(dataset, hsc, tmp_path, capsys):
    out = [tmp_path / "a", tmp_path / "b"]
    for n, folder in enumerate(out):
        words = ["manifest", "build", dataset, "--root", tmp_path / f"root{n}", "--out", folder]
        assert main([*map(str, words), "--tile-size", "90", "--quiet"]) == 0
    first, second = ({p.relative_to(o): p.read_bytes() for p in o.rglob("*") if p.is_file()}
                     for o in out)  # fmt: skip
    assert first == second
    document = coco.read(out[0] / "coco.json")
    assert not validate(document, out[0])
    assert {c["name"] for c in document["categories"]} == {"galaxy", "star"}
    assert len(document["images"]) > 1
    assert len(document["annotations"]) >= 10
    hashes = {entry["file"]: entry["sha256"] for entry in document["info"]["inputs"]}
    assert hashes == {name: entry["sha256"] for name, entry in locked(dataset).items()}
    assert "5 files fetched, 0 were there" in capsys.readouterr().out


def test_the_shipped_demo_is_built_the_same_twice_from_a_server(archive, tmp_path):
    sky = tmp_path / "sky"
    assert main(["simulate", str(sky), "--size", "160", "--seed", "3"]) == 0
    archive.account = False
    archive.files = {file.name: file.read_bytes() for file in sky.iterdir()}
    shipped = Path(__file__).parents[3] / "data_manifests" / "demo_served.yaml"
    manifest = tmp_path / "demo_served.yaml"
    manifest.write_text(shipped.read_text().replace("http://127.0.0.1:8000", archive.url))
    found = []
    for n in "12":
        root, out = tmp_path / f"root{n}", tmp_path / f"a folder {n}"
        words = ["manifest", "build", manifest, "--root", root, "--out", out, "--quiet"]
        assert main([str(w) for w in words]) == 0
        found.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert found[0] == found[1]
    assert len(coco.read(tmp_path / "a folder 1" / "coco.json")["annotations"]) > 5


@pytest.mark.parametrize("version", ['"v1"', "", 'W/"v1"'])
def test_a_download_goes_on_where_it_broke(dataset, hsc, tmp_path, version):
    hsc.version = version
    hsc.faults = [Fault("calexp-HSC-G", "cut", size=50_000, times=9)]
    root = tmp_path / "root"
    one = RetryPolicy(parallel=1, first_wait_s=0.001, attempts=1)
    with pytest.raises(InputError, match=r"cut short after 50000 of \d+ bytes.* kept"):
        get(dataset, root, one)
    hsc.faults, hsc.sent, hsc.asked = [], 0, []
    get(dataset, root)
    again = next(r for r in hsc.asked if "calexp-HSC-G" in r.path)
    assert again.headers.get("range") == ("bytes=50000-" if version == '"v1"' else None)
    assert (root / COADDS[0]).read_bytes() == hsc.files[TREE.format("G", COADDS[0])]
    assert names(root) == EVERYTHING


def test_a_line_that_breaks_again_and_again_ends_well_while_bytes_come(dataset, hsc, tmp_path):
    hsc.faults = [Fault("calexp-HSC-G", "cut", size=20_000, times=9)]
    get(dataset, tmp_path / "root", RetryPolicy(first_wait_s=0.001, first_poll_s=0.001, attempts=2))
    assert names(tmp_path / "root") == EVERYTHING


def test_a_file_that_changes_between_two_parts_is_never_mixed(dataset, hsc, tmp_path):
    hsc.faults = [Fault("calexp-HSC-G", "cut", size=50_000, times=1)]
    with pytest.raises(InputError, match="cut short"):
        get(dataset, tmp_path / "root", RetryPolicy(parallel=1, attempts=1))
    # Same length, other pixels from the first on, other version: what is held is of no use.
    key = TREE.format("G", COADDS[0])
    old = hsc.files[key]
    hsc.files[key] = old[:10_000] + bytes(b ^ 1 for b in old[10_000:60_000]) + old[60_000:]
    hsc.version = '"v2"'
    get(dataset, tmp_path / "root")
    assert (tmp_path / "root" / COADDS[0]).read_bytes() == hsc.files[key]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(dataset, hsc, tmp_path, code):
    hsc.faults = [
        Fault("calexp", "status", code=code, times=2),
        Fault("status", "status", code=code, retry_after="0", times=2),
        Fault("getpsf", "status", code=code, times=1),
    ]
    get(dataset, tmp_path / "root")
    assert names(tmp_path / "root") == EVERYTHING


def test_a_server_that_stays_busy_ends_the_run_in_one_line(dataset, hsc, tmp_path):
    hsc.faults = [Fault("calexp-HSC-I", "status", times=99)]
    with pytest.raises(InputError, match=r"503 Service Unavailable, 6 times over; .*again later"):
        get(dataset, tmp_path / "root")
    assert COADDS[1] not in names(tmp_path / "root")


def test_retry_after_is_obeyed_and_a_long_one_ends_the_run(dataset, hsc, tmp_path):
    hsc.faults = [Fault("calexp-HSC-G", "status", code=429, retry_after="3600")]
    with pytest.raises(InputError, match=r"429 .* asks to come back in 3600 s; .*then"):
        get(dataset, tmp_path / "root", RetryPolicy(parallel=1))
    waits = []
    client = Client(hsc.url, RetryPolicy(), hsc=True, sleep=waits.append, clock=lambda: 0.0)
    hsc.faults = [Fault("calexp-HSC-G", "status", code=429, retry_after="7")]
    client.download(f"{hsc.url}/{TREE.format('G', COADDS[0])}", tmp_path / "g.fits")
    assert waits == [7.0, 7.0]  # the waiting one's own, then what all others would wait
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


def test_waits_double_and_are_spread_the_same_way_every_time():
    policy = RetryPolicy(first_wait_s=1, longest_wait_s=20)
    waits = [policy.wait_s("http://a/b", n) for n in range(8)]
    assert waits == [policy.wait_s("http://a/b", n) for n in range(8)]
    assert waits != [policy.wait_s("http://a/c", n) for n in range(8)]
    for n, seconds in enumerate(waits):
        assert min(2.0**n, 20) / 2 <= seconds <= min(2.0**n, 20)


def test_no_connection_is_told_with_the_address(dataset, hsc, tmp_path):
    url = hsc.url
    hsc.shutdown()
    hsc.server_close()
    with pytest.raises(InputError, match=rf"{url}/archive.*no connection .*refused.* later"):
        get(dataset, tmp_path / "root", RetryPolicy(parallel=1, first_wait_s=0.001, attempts=2))


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault("calexp-HSC-G", "stump", size=40_000), "not a readable FITS file"),
        (Fault("calexp-HSC-G", "stump", size=0), "is empty"),
        (Fault("calexp-HSC-G", "text", body="nothing here"), "not a readable FITS file"),
        (Fault("calexp-HSC-G", "text", body="<html>log in"), "is a web page, not the file"),
        (Fault("calexp-HSC-G", "page", times=9), "web page, not the file: it does not accept"),
        (Fault("calexp-HSC-G", "status", code=404), "404 Not Found (not now)"),
        (Fault("calexp-HSC-G", "status", code=403, times=9), "does not accept this account"),
        (Fault("calexp-HSC-G", "redirect", code=302, to="/archive/calexp-HSC-G", times=99),
         "round in circles"),
        (Fault("getpsf", "status", code=404), "source.psfs"),
        (Fault("getpsf", "text", body="no PSF there"), "not a readable FITS file"),
        (Fault("submit", "status", code=406, body="syntax error at FROM"), "syntax error at FROM"),
        (Fault("submit", "text", body='{"ok": 1}'), "gives no job's number"),
        (Fault("submit", "text", body="{"), "is not JSON"),
        (Fault("submit", "page", times=9), "does not accept this account"),
        (Fault("submit", "redirect", code=302, to="/login", times=9), "302"),
        (Fault("status", "text", body='{"status": "error", "error": "out of memory"}'),
         "did not run the query: error (out of memory)"),
        (Fault("status", "text", body="[]"), "did not run the query: None"),
        (Fault("download", "status", code=410), "410 Gone"),
        (Fault("download", "text", body="gone"), "not a readable FITS file"),
    ],
    ids=lambda v: f"{v.path}-{v.kind}" if isinstance(v, Fault) else "",
)  # fmt: skip
def test_a_bad_answer_is_one_line_and_no_dataset(
    dataset, hsc, tmp_path, capsys, monkeypatch, fault, problem
):
    hsc.faults = [fault]
    monkeypatch.setattr(
        "astrolabel.datasets.archive.retry_policy.RetryPolicy", lambda parallel: FAST
    )
    words = ["manifest", "build", dataset, "--root", tmp_path / "root", "--out", tmp_path / "out"]
    assert main([*map(str, words), "--quiet"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert problem in lines[0]
    assert hsc.url in lines[0]
    assert not (tmp_path / "out").exists()
    # What is there under its own name is whole; the next run ends well.
    for path in (tmp_path / "root").glob("[!.]*"):
        assert path.name in EVERYTHING
    hsc.faults = []
    get(dataset, tmp_path / "root")
    assert {n for n in names(tmp_path / "root") if not n.startswith(".")} == EVERYTHING


def test_an_expired_session_is_renewed_once(dataset, hsc, tmp_path):
    hsc.faults = [
        Fault("calexp-HSC-I", "page"),
        Fault("getpsf", "status", code=401),
        Fault("status", "status", code=401),
        Fault("download", "page"),
    ]
    get(dataset, tmp_path / "root")
    assert names(tmp_path / "root") == EVERYTHING


def test_the_lock_holds_later_files_to_the_first(dataset, hsc, tmp_path):
    get(dataset, tmp_path / "root")
    recorded = locked(dataset)
    hsc.faults = [Fault("calexp-HSC-G", "other", times=9)]
    with pytest.raises(InputError, match=r"is not the file that came first .*small\.lock\.yaml"):
        get(dataset, tmp_path / "second")
    assert COADDS[0] not in names(tmp_path / "second")
    assert locked(dataset) == recorded


def test_what_resumes_to_the_wrong_bytes_is_fetched_anew(dataset, hsc, tmp_path):
    get(dataset, tmp_path / "root")
    hsc.faults = [Fault("calexp-HSC-G", "cut", size=50_000)]
    with pytest.raises(InputError, match="cut short"):
        get(dataset, tmp_path / "second", RetryPolicy(parallel=1, attempts=1))
    part = tmp_path / "second" / f".part.{COADDS[0]}"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    get(dataset, tmp_path / "second")
    assert (tmp_path / "second" / COADDS[0]).read_bytes() == (
        tmp_path / "root" / COADDS[0]
    ).read_bytes()


def test_a_file_changed_on_disk_is_told_and_never_used(dataset, hsc, tmp_path, capsys):
    root = tmp_path / "root"
    get(dataset, root)
    with (root / CATALOG).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    words, out = [str(w) for w in (dataset, "--root", root)], tmp_path / "out"
    for command in (["check"], ["fetch", "--quiet"], ["build", "--quiet", "--out", str(out)],
                    ["build", "--quiet", "--no-fetch", "--out", str(out)]):  # fmt: skip
        assert main(["manifest", command[0], *words, *command[1:]]) == 2
        captured = capsys.readouterr()
        assert "forced.fits: is not the file that came first" in captured.out + captured.err
    assert main(["make-coco", "--manifest", *words, "--out", str(out), "--quiet"]) == 2
    assert "is not the file that came first" in capsys.readouterr().err
    assert not out.exists()


def test_a_changed_query_is_told(dataset, hsc, tmp_path):
    get(dataset, tmp_path / "root")
    (dataset.parent / "q.sql").write_text("SELECT 1")
    with pytest.raises(InputError, match=r"made by another query than q\.sql; delete it and its"):
        get(dataset, tmp_path / "root")


def test_a_queued_job_is_taken_up_again_not_asked_for_twice(dataset, hsc, tmp_path):
    hsc.faults = [Fault("status", "status", times=99)]
    with pytest.raises(InputError):
        get(
            dataset,
            tmp_path / "root",
            RetryPolicy(first_wait_s=0.001, first_poll_s=0.001, attempts=2),
        )
    hsc.faults = []
    note = tmp_path / "root" / f".{CATALOG}.job.json"
    assert note.exists()
    hsc.asked.clear()
    get(dataset, tmp_path / "root")
    assert not [p for p in hsc.paths() if p.endswith("submit")]
    assert not note.exists()


def test_a_job_that_was_swept_away_is_submitted_anew(dataset, hsc, tmp_path):
    hsc.faults = [Fault("status", "status", times=99)]
    with pytest.raises(InputError):
        get(
            dataset,
            tmp_path / "root",
            RetryPolicy(first_wait_s=0.001, first_poll_s=0.001, attempts=2),
        )
    hsc.faults, hsc.jobs = [], {}
    get(dataset, tmp_path / "root")
    assert names(tmp_path / "root") == EVERYTHING


def test_a_query_that_never_ends_is_given_up(dataset, hsc, tmp_path):
    hsc.polls = 10**6
    with pytest.raises(InputError, match="still running after"):
        get(dataset, tmp_path / "root", RetryPolicy(first_poll_s=0.001, job_limit_s=0.01))


def test_no_account_is_told_before_anything_is_asked(dataset, hsc, tmp_path, monkeypatch):
    monkeypatch.delenv("HSC_SSP_CAS_PASSWORD")
    with pytest.raises(InputError, match="half an HSC account: no HSC_SSP_CAS_PASSWORD"):
        get(dataset, tmp_path / "root")
    assert hsc.asked == []
    monkeypatch.delenv("HSC_SSP_CAS_USER")
    with pytest.raises(InputError, match=r"account.*; set HSC_SSP_CAS_USER and HSC_SSP_CAS_PASS"):
        get(dataset, tmp_path / "root")


def test_netrc_is_where_else_the_account_may_be(dataset, hsc, tmp_path, monkeypatch):
    monkeypatch.delenv("HSC_SSP_CAS_USER")
    monkeypatch.delenv("HSC_SSP_CAS_PASSWORD")
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    quoted = PASSWORD.replace('"', '\\"')
    netrc.write_text(f'machine {hsc.url[7:]} login {USER} password "{quoted}"\n')
    netrc.chmod(0o600)
    get(dataset, tmp_path / "root")
    assert names(tmp_path / "root") == EVERYTHING
    netrc.write_text(f"machine 127.0.0.1 login {USER} {PASSWORD}\n")
    with pytest.raises(InputError, match=r"netrc cannot be understood \(line 1\)") as caught:
        get(dataset, tmp_path / "third")
    assert "pä" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_account_never_travels_in_clear_nor_to_strangers(monkeypatch, tmp_path):
    monkeypatch.setenv("HSC_SSP_CAS_USER", USER)
    monkeypatch.setenv("HSC_SSP_CAS_PASSWORD", PASSWORD)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine other.org login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with pytest.raises(InputError, match="would travel in clear"):
        find_login("http://hsc-release.mtk.nao.ac.jp", hsc=True)
    with pytest.raises(InputError, match="would travel in clear"):
        find_login("http://other.org/files")
    assert find_login("https://hsc-release.mtk.nao.ac.jp", hsc=True).user == USER
    # A manifest may name any server and call it HSC's.
    assert find_login("https://evil.org", hsc=True) is None
    assert find_login("https://evil-mtk.nao.ac.jp", hsc=True) is None
    assert find_login("https://hsc-release.mtk.nao.ac.jp") is None
    assert find_login("https://other.org", hsc=True).user == "me"
    # Another port is another server, and may be another user's.
    assert find_login("https://other.org:8443") is None
    assert find_login("https://hsc-release.mtk.nao.ac.jp:8443", hsc=True) is None
    assert find_login("http://127.0.0.1:8000", hsc=True) is None
    monkeypatch.setenv("HSC_SSP_CAS_SERVER", "https://mirror.org")
    assert find_login("https://mirror.org", hsc=True).user == USER
    assert find_login("https://hsc-release.mtk.nao.ac.jp", hsc=True) is None


@pytest.mark.parametrize(
    "path", ["http://evil.org/{band}", "https://a.org:444/x", "../up/x", "x/../../../y"]
)
def test_an_address_stays_below_its_server(path):
    with pytest.raises(InputError, match="is not below https://a"):
        address("https://a.org/data", path)
    assert address("https://a.org/data", "/b/c") == "https://a.org/data/b/c"


def test_an_account_stays_with_its_port(hsc, elsewhere, tmp_path):
    path = write(tmp_path / "m", hsc)
    for band, name in zip("GI", COADDS, strict=True):
        elsewhere.files[f"mirror/{name}"] = hsc.files[TREE.format(band, name)]
    hsc.faults = [
        Fault(n, "redirect", code=302, to=f"{elsewhere.url}/mirror/{n}", times=9) for n in COADDS
    ]
    get(path, tmp_path / "root")
    assert len(elsewhere.asked) == 2
    assert not [r for r in elsewhere.asked if "authorization" in r.headers]


@pytest.mark.parametrize("band", ["../../home/.bash_profile", "a/b", "..", "", "a\x00b", "a" * 40])
def test_a_band_that_is_no_name_is_refused(hsc, tmp_path, band):
    hsc.account = False
    path = write(
        tmp_path / "m", hsc, catalogs=[], scheme="none", survey="fits", bands=[band],
        coadds={"pattern": "{band}"},
        source={"archive": "url", "server": hsc.url, "coadds": "text?x={band}"},
    )  # fmt: skip
    (tmp_path / "root").mkdir()
    with pytest.raises(InputError, match="bands"):
        get(path, tmp_path / "root")
    assert hsc.asked == []


def test_a_link_in_the_root_takes_nothing_out_of_it(hsc, tmp_path):
    hsc.account = False
    hsc.files["g.fits"] = hsc.files["i.fits"] = next(iter(hsc.files.values()))
    path = write(
        tmp_path / "m", hsc, catalogs=[], scheme="none", survey="fits",
        coadds={"pattern": "sub/{band}.fits"},
        source={"archive": "url", "server": hsc.url, "coadds": "{band}.fits"},
    )  # fmt: skip
    (tmp_path / "root").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "root" / "sub").symlink_to(tmp_path / "home")
    with pytest.raises(InputError, match="by a link"):
        get(path, tmp_path / "root")
    assert list((tmp_path / "home").iterdir()) == []


def test_a_query_is_a_file_of_the_manifests_folder(hsc, tmp_path):
    (tmp_path / "id_rsa").write_text("secret")
    catalogs = [{"file": CATALOG, "scheme": "hsc", "query": "../id_rsa"}]
    path = write(tmp_path / "m", hsc, catalogs=catalogs)
    with pytest.raises(InputError, match="leads out of its folder"):
        get(path, tmp_path / "root")
    assert hsc.asked == []


def test_a_root_elsewhere_is_the_users_to_name(hsc, tmp_path):
    path = write(tmp_path / "m", hsc, root="../home")
    with pytest.raises(InputError, match=r"root '\.\./home'.*--root"):
        read_manifest(path).folder()
    assert read_manifest(path).folder(tmp_path / "home") == tmp_path / "home"


SECRETS = {
    PASSWORD,
    PASSWORD[:6],
    quote(PASSWORD, safe=""),
    base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
}


def test_the_password_is_nowhere_to_be_found(hsc, tmp_path, caplog, capfd):
    path = write(tmp_path / "m", hsc)
    said = []
    with caplog.at_level(logging.DEBUG):
        get(path, tmp_path / "root")
        # A server that repeats what it was told, in whatever form.
        shouted = " ".join(sorted(SECRETS - {PASSWORD[:6]}))
        for place in ("submit", "calexp-HSC-G", "status"):
            for kind, code in (("status", 400), ("text", 200)):
                hsc.faults = [Fault(place, kind, code=code, body=shouted, times=9)]
                path.with_name("small.lock.yaml").unlink(missing_ok=True)
                with pytest.raises(InputError) as caught:
                    get(path, tmp_path / f"root-{place}-{kind}")
                error = caught.value
                while error is not None:
                    said.append(f"{error} {error!r} {getattr(error, 'args', ())}")
                    error = error.__cause__ or error.__context__
    captured = capfd.readouterr()
    said += [caplog.text, captured.out, captured.err, repr(find_login(hsc.url, hsc=True))]
    written = [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    for secret in SECRETS:
        assert not [s for s in said if secret in s]
        assert not [w for w in written if secret in w or secret.encode().decode("latin-1") in w]
    assert any("***" in s for s in said)


def test_a_redirect_to_another_host_takes_no_account_along(hsc, elsewhere, tmp_path):
    path = write(tmp_path / "m", hsc)
    for band, name in zip("GI", COADDS, strict=True):
        elsewhere.files[f"mirror/{name}"] = hsc.files[TREE.format(band, name)]
    # Another name of this machine is another host.
    away = elsewhere.url.replace("127.0.0.1", "localhost")
    hsc.faults = [
        Fault(name, "redirect", code=302, to=f"{away}/mirror/{name}", times=9) for name in COADDS
    ]
    get(path, tmp_path / "root")
    assert names(tmp_path / "root") == EVERYTHING
    assert len(elsewhere.asked) == 2
    for request in elsewhere.asked:
        assert "authorization" not in request.headers
        assert "cookie" not in request.headers
    # The account in the body of a question would go along: it is not redirected at all.
    elsewhere.asked.clear()
    hsc.faults = [Fault("submit", "redirect", code=c, to=f"{away}/x", times=9) for c in (307,)]
    with pytest.raises(InputError, match="307"):
        get(path, tmp_path / "second")
    assert elsewhere.asked == []


def test_login_hides_itself():
    login = Login(("https", "h", 443), USER, PASSWORD)
    assert PASSWORD not in repr(login)
    assert login.hide(f"a {PASSWORD} b {quote(PASSWORD, safe='')}") == "a *** b ***"


def test_files_of_any_web_server_come_by_pattern(hsc, tmp_path):
    hsc.account = False
    for key in list(hsc.files):
        hsc.files[f"sky/{key.rpartition('/')[2]}"] = hsc.files.pop(key)
        hsc.files[f"sky/psf-{key.rpartition('/')[2]}"] = hsc.psfs["g", "9813", "4,5"]
    hsc.files["tables/forced.fits"] = hsc.result
    name = "calexp-HSC-{BAND}-{tract}-{patch}.fits"
    source = {"archive": "url", "server": f"{hsc.url}/sky", "coadds": name, "psfs": f"psf-{name}"}
    url = f"{hsc.url}/tables/forced.fits"
    catalogs = [{"file": CATALOG, "scheme": "hsc", "url": url}]
    path = write(tmp_path / "m", hsc, source=source, catalogs=catalogs)
    get(path, tmp_path / "root")
    assert names(tmp_path / "root") == EVERYTHING
    assert not [r for r in hsc.asked if "authorization" in r.headers]


def test_a_compressed_file_comes_as_it_is_sent(hsc, tmp_path):
    hsc.account = False
    packed = {}
    for band, name in zip("gi", COADDS, strict=True):
        packed[band] = gzip.compress(hsc.files[TREE.format(band.upper(), name)], mtime=0)
        hsc.files[f"{band}.fits.gz"] = packed[band]
    path = write(
        tmp_path / "m", hsc, catalogs=[], scheme="none", survey="fits",
        coadds={"pattern": "{band}.fits.gz"},
        source={"archive": "url", "server": hsc.url, "coadds": "{band}.fits.gz"},
    )  # fmt: skip
    hsc.faults = [Fault("g.fits.gz", "cut", size=30_000)]
    get(path, tmp_path / "root")
    assert (tmp_path / "root" / "g.fits.gz").read_bytes() == packed["g"]
    hsc.files["g.fits.gz"] = packed["g"][:-20]
    path.with_name("small.lock.yaml").unlink()
    with pytest.raises(InputError, match=r"g\.fits\.gz: .*damaged or cut short"):
        get(path, tmp_path / "second")


def test_files_there_are_taken_in_hscs_own_tree_and_psfs_go_beside_them(dataset, hsc, tmp_path):
    root = tmp_path / "root"
    for band, name in zip("GI", COADDS, strict=True):
        folder = root / f"deepCoadd-results/HSC-{band}/9813/4,5"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(hsc.files[TREE.format(band, name)])
    assert get(dataset, root).came == 3
    assert (root / f"deepCoadd-results/HSC-G/9813/4,5/psf-{COADDS[0]}").exists()
    assert not [p for p in hsc.paths() if "filetree" in p]
    states = survey_states(read_manifest(dataset), root)
    assert [s.state for s in states] == ["ok"] * 5


def test_files_put_there_by_hand_are_checked_before_they_are_recorded(dataset, hsc, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / COADDS[0]).write_bytes(b"<html>please log in</html>")
    with pytest.raises(InputError, match=r"calexp-HSC-G-9813-4,5\.fits: is a web page"):
        get(dataset, root)
    assert locked(dataset) == {}


def test_missing_files_without_a_source_are_named(hsc, tmp_path):
    path = write(tmp_path / "m", hsc, source=None, catalogs=[], scheme="none")
    with pytest.raises(InputError, match=r"2 files are missing.*calexp-HSC-G.*put them there"):
        get(path, tmp_path / "root")


def test_a_place_that_cannot_be_written_is_told(dataset, hsc, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--root"):
        get(dataset, tmp_path / "file" / "below")


def test_two_runs_at_once_do_not_mix(dataset, hsc, tmp_path):
    from filelock import FileLock

    (tmp_path / "root").mkdir()
    with (
        FileLock(tmp_path / "root" / ".astrolabel-fetch.lock"),
        pytest.raises(OutputError, match="another run is fetching into this folder"),
    ):
        get(dataset, tmp_path / "root")


def test_a_killed_run_goes_on_in_the_next(dataset, hsc, tmp_path):
    hsc.polls = 10**6
    code = (  # a test run in the background has the signal ignored, and its children with it
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from astrolabel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["manifest", "fetch", str(dataset), "--root", str(tmp_path / "root"), "--quiet"]
    run = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(p.endswith("status") for p in hsc.paths()) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"rerun the command to resume" in err
    assert b"Traceback" not in err
    for job in hsc.jobs.values():
        job.polls = 0
    hsc.asked.clear()
    get(dataset, tmp_path / "root")
    assert not [p for p in hsc.paths() if p.endswith("submit")]
    assert names(tmp_path / "root") == EVERYTHING


def test_without_the_extra_the_error_says_how_to_get_it(dataset, tmp_path):
    code = (
        "import sys; sys.modules['requests'] = None\n"
        "from astrolabel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["manifest", "fetch", str(dataset), "--root", str(tmp_path / "root")]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.returncode == 2
    assert "pip install 'astrolabel[fetch]'" in run.stderr


@pytest.mark.parametrize(
    "server", ["http://[::1", f"http://{'a' * 80}.org", "http://127.0.0.1:99999", "http://[x]/"]
)
def test_what_is_no_address_is_one_line(tmp_path, capsys, server):
    manifest = {
        "schema": 2, "name": "x", "survey": "fits", "bands": ["g"],
        "coadds": {"pattern": "{band}.fits"},
        "source": {"archive": "url", "server": server, "coadds": "{band}.fits"},
    }  # fmt: skip
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    assert main(["manifest", "fetch", str(tmp_path / "m.yaml"), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "not an address" in line
