"""LSST cutouts: search, links and cutout from a server on this machine; the token stays with it."""

from __future__ import annotations

import http.server
import io
import threading
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable.tree import Field, Resource, TableElement, VOTableFile

from astrolabel.cli.main import main
from astrolabel.core.errors import InputError
from astrolabel.datasets.archive.cutout import Servers, fetch_cutout
from astrolabel.datasets.archive.rubin import TOKEN_VARIABLE

pytest.importorskip("pyvo", reason="asks for images")

TOKEN = "gt-secret"


def table(columns, rows, status=True):
    """A VOTable of texts and numbers, as DAL services answer."""
    votable = VOTableFile()
    resource = Resource(type="results")
    votable.resources.append(resource)
    found = TableElement(votable)
    resource.tables.append(found)
    for name, kind in columns:
        text = {"arraysize": "*"} if kind == "char" else {}
        found.fields.append(Field(votable, name=name, datatype=kind, **text))
    found.create_arrays(len(rows))
    for k, row in enumerate(rows):
        found.array[k] = row
    out = io.BytesIO()
    votable.to_xml(out)
    xml = out.getvalue().decode()
    note = '<INFO name="QUERY_STATUS" value="OK"/>' if status else ""
    return xml.replace('<RESOURCE type="results">', f'<RESOURCE type="results">{note}')


SERVICE = """<RESOURCE type="meta" utype="adhoc:service" ID="cutout-sync">
<PARAM arraysize="*" datatype="char" name="standardID"
 value="ivo://ivoa.net/std/SODA#sync-1.0"/>
<PARAM arraysize="*" datatype="char" name="accessURL" value="{url}/cutout"/>
<GROUP name="inputParams">
<PARAM arraysize="*" datatype="char" name="ID" value="butler://{band}"/>
<PARAM arraysize="3" datatype="double" name="CIRCLE" unit="deg" value=""/>
</GROUP></RESOURCE></VOTABLE>"""


def coadd(ra=53.1):
    header = fits.Header({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": -28.1,
        "CRPIX1": 50.5, "CRPIX2": 50.5, "CD1_1": -0.2 / 3600, "CD2_2": 0.2 / 3600,
        "CD1_2": 0.0, "CD2_1": 0.0,
    })  # fmt: skip
    planes = [
        fits.ImageHDU(np.full((100, 100), k + 1, kind), header, name)
        for k, (name, kind) in enumerate(
            (("IMAGE", np.float32), ("MASK", np.int32), ("VARIANCE", np.float32))
        )
    ]
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(out)
    return out.getvalue()


class Platform(http.server.BaseHTTPRequestHandler):
    """Answers as the platform does; `server.asked` holds (path, query, authorization)."""

    def do_GET(self):
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.server.asked.append((parts.path, query, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.send_error(401, "Unauthorized")
        columns = [("access_url", "char"), ("dataproduct_subtype", "char"), ("lsst_band", "char"),
                   ("s_ra", "double"), ("s_dec", "double")]  # fmt: skip
        if parts.path == "/query":
            rows = [
                (f"{self.server.links or url}/links?ID={band}{far}", f"lsst.{kind}", band,
                 53.1 + far, -28.1)
                for band in "gri" for far in (0.2, 0.01) for kind in ("deep_coadd", "raw")
            ]  # fmt: skip
            return self.reply(table(columns, rows).encode())
        if parts.path == "/links":
            rows = [(query["ID"], "", "cutout-sync", "#cutout")]
            names = ("ID", "access_url", "service_def", "semantics")
            xml = table([(n, "char") for n in names], rows)
            service = SERVICE.format(url=url, band=query["ID"])
            return self.reply(xml.replace("</VOTABLE>", service).encode())
        return self.reply(self.server.image, "application/fits")

    do_POST = do_GET

    def reply(self, content, kind="application/x-votable+xml"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def platform(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Platform)
    server.asked, server.links, server.image = [], "", coadd()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server, Servers(rubin=f"http://127.0.0.1:{server.server_address[1]}/query")
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_cutout_of_the_nearest_coadd_comes_with_mask_and_variance(platform, tmp_path):
    server, servers = platform
    made = fetch_cutout("53.1 -28.1", "20arcsec", "lsst", tmp_path, bands="gi", servers=servers)
    assert [band for band, _ in made.files] == ["g", "i"]
    paths = [path for path, _, _ in server.asked]
    assert paths == ["/query", "/links", "/cutout", "/links", "/cutout"]
    assert server.asked[0][1]["POS"].split()[0] == "CIRCLE"
    assert server.asked[1][1]["ID"] == "g0.01"  # the nearer of two, and no raw image
    ra, dec, radius = map(float, server.asked[2][1]["CIRCLE"].split())
    assert (ra, dec, radius) == pytest.approx((53.1, -28.1, 10 / 3600))
    with fits.open(made.files[0][1]) as hdus:
        assert [h.name for h in hdus[1:]] == ["IMAGE", "MASK", "VARIANCE"]
    fetch_cutout("53.1 -28.1", "20arcsec", "lsst", tmp_path, bands="gi", servers=servers)
    assert len(server.asked) == 5  # what is there is not fetched again


def test_the_token_goes_to_no_other_server(platform, tmp_path):
    server, servers = platform
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Platform)
    other.asked, other.links, other.image = [], "", b""
    thread = threading.Thread(target=other.serve_forever, daemon=True)
    thread.start()
    server.links = f"http://127.0.0.1:{other.server_address[1]}"
    with pytest.raises(InputError, match="gives no image"):
        fetch_cutout("53.1 -28.1", "20arcsec", "lsst", tmp_path, bands="g", servers=servers)
    other.shutdown()
    other.server_close()
    thread.join()
    assert [given for _, _, given in other.asked] == [None] * len(other.asked) != []


def test_a_token_that_is_refused_and_sky_without_a_coadd_are_said(platform, tmp_path, monkeypatch):
    server, servers = platform
    words = ("53.1 -28.1", "20arcsec", "lsst", tmp_path)
    with pytest.raises(InputError, match="no y coadd lies there"):
        fetch_cutout(*words, bands="y", servers=servers)
    server.image = coadd(ra=10.0)
    with pytest.raises(InputError, match="another part of the sky"):
        fetch_cutout(*words, bands="g", servers=servers)
    assert not (tmp_path / "lsst_g.fits").exists()
    monkeypatch.setenv(TOKEN_VARIABLE, "old")
    with pytest.raises(InputError, match="gives no image") as refused:
        fetch_cutout(*words, bands="g", servers=servers)
    assert "read:image" in str(refused.value)
    assert "old" not in str(refused.value)


def test_without_a_token_it_is_said_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    words = ["fetch-cutout", "--position", "53.1 -28.1", "--survey", "lsst"]
    assert main([*words, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "account of the Rubin Science Platform" in said
    assert TOKEN_VARIABLE in said
