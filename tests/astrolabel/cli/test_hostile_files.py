"""Files of strangers beside coadds and COCO: read, or refused in one line with exit code 2."""

import gzip
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from astrolabel.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with `sky/`, `coco.json` and what that names."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["simulate", str(folder / "sky"), "--size", "72", "--seed", "3"]) == 0
    bands = ["--bands", "g,i", "--quiet"]
    assert main(["make-coco", str(folder / "sky"), *bands, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def labels(made, tmp_path):
    """A copy of the labels, with links to their files; a document to change."""
    for name in ("images", "cubes", "residuals"):
        (tmp_path / name).symlink_to(made / name)
    (tmp_path / "coco.json").write_bytes((made / "coco.json").read_bytes())
    return tmp_path / "coco.json"


def refused(words, capsys):
    """The line that a command says while it ends with exit code 2."""
    capsys.readouterr()
    assert main([str(w) for w in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    return said[0]


def relabel(labels, catalog):
    new = labels.with_name("new.json")
    return ["relabel", labels, "--catalog", catalog, "--scheme", "hsc", "--out", new]


PIPES = {
    "settings": ("a.yaml", lambda m, p: ["make-coco", m / "sky", "--out", p / "o", "--config"]),
    "manifest": ("a.yaml", lambda m, p: ["manifest", "check"]),
    "table of labels": ("a.parquet", lambda m, p: ["validate"]),
    "FITS catalog": ("a.fits", lambda m, p: relabel(p / "coco.json", "")[:3]),
    "CSV catalog": ("a.csv", lambda m, p: relabel(p / "coco.json", "")[:3]),
    "MOC": ("a.fits", lambda m, p: ["split", p / "coco.json", "--region"]),
    "regions": ("a.reg", lambda m, p: ["import"]),
    "SExtractor's catalog": ("a.cat", lambda m, p: ["import"]),
    "shard": ("tiles/a.json", lambda m, p: ["make-coco", "--status", "--out"]),
}


@pytest.mark.parametrize("what", PIPES)
def test_a_pipe_is_refused_and_not_waited_for(what, made, labels):
    """In a process of its own: what waits cannot be interrupted here."""
    name, words = PIPES[what]
    pipe = labels.parent / name
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    given = {"MOC": f"test=moc:{pipe}", "shard": labels.parent}.get(what, pipe)
    more = {
        "FITS catalog": ["--scheme", "hsc", "--out", labels.with_name("new.json")],
        "CSV catalog": ["--scheme", "hsc", "--out", labels.with_name("new.json")],
        "MOC": ["--out", labels.parent / "parts"],
        "regions": ["--image", made / "sky" / "calexp-HSC-I-9813-4,5.fits", "--out", "x"],
        "SExtractor's catalog": ["--image", made / "sky" / "calexp-HSC-I-9813-4,5.fits",
                                 "--out", "x"],
    }.get(what, [])  # fmt: skip
    plan = {"config_hash": "0", "tiles": [{"name": "a", "key": "b"}]}
    (labels.parent / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, "-W", "ignore", "-m", "astrolabel"]
    command += [str(w) for w in (*words(made, labels.parent), given, *more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert ("1 waiting" in done.stdout) if what == "shard" else ("pipe" in done.stderr)


def as_text(table, form):
    stream = io.StringIO()
    table.write(stream, format=form)
    return stream.getvalue().encode()


def negative_axis(data):
    at = data.rindex(b"NAXIS2  =")
    return data[: at + 10] + b"-5".rjust(20) + data[at + 30 :]


def flipped(data):
    return data[:-3000] + bytes([data[-3000] ^ 64]) + data[-2999:]


CATALOGS = {
    "an axis of -5": (".fits", lambda t, raw: negative_axis(raw)),
    "a flipped bit, with CHECKSUM": (".fits", lambda t, raw: flipped(raw)),
    "a lying FORMAT": (".fits", lambda t, raw: raw.replace(b"'D       '", b"'text    '", 1)),
    "a line that never ends": (".csv.gz", lambda t, raw: gzip.compress(b"ra\n" + b"1," * 2**20)),
    "lines without end": (".csv.gz", lambda t, raw: gzip.compress(b"ra,de\n" + b"1,2\n" * 2**25)),
    "no gzip inside": (".csv.gz", lambda t, raw: b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 50),
    "ECSV inside of gzip": (".ecsv", lambda t, raw: gzip.compress(as_text(t, "ascii.ecsv"))),
    "a header that is no YAML": (
        ".ecsv", lambda t, raw: as_text(t, "ascii.ecsv").replace(b"name: ra", b"name: [}")),
    "no Parquet": (".parquet", lambda t, raw: b"PAR1" + bytes(100) + b"PAR1"),
}  # fmt: skip


@pytest.mark.parametrize("what", CATALOGS)
def test_a_catalog_that_is_damaged_is_refused_in_one_line(what, made, labels, tmp_path, capsys):
    suffix, change = CATALOGS[what]
    source = made / "sky" / "catalog_hsc.fits"
    with fits.open(source) as hdus:
        stream = io.BytesIO()
        hdus.writeto(stream, checksum="CHECKSUM" in what)
    path = tmp_path / f"catalog{suffix}"
    path.write_bytes(change(Table.read(source), stream.getvalue()))
    assert path.name in refused(relabel(labels, path), capsys)


def test_the_sound_catalogs_of_these_tests_are_read(made, labels, tmp_path):
    """The test above can fail: what it changes is read without the change."""
    table = Table.read(made / "sky" / "catalog_hsc.fits")
    for suffix, form in ((".csv", "ascii.csv"), (".ecsv", "ascii.ecsv")):
        path = tmp_path / f"catalog{suffix}"
        path.write_bytes(as_text(table, form))
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        for one in (path, packed)[: 2 if suffix == ".csv" else 1]:
            assert main([str(w) for w in relabel(labels, one)]) == 0


def test_a_parquet_table_of_more_rows_than_bytes_is_refused(tmp_path, labels, capsys):
    """Columns of one value take no room: a small file may ask for any memory."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    one = pyarrow.array(np.zeros(2_000_000))
    path = tmp_path / "catalog.parquet"
    parquet.write_table(pyarrow.table({"ra": one, "dec": one}), path)
    assert path.stat().st_size < 100_000
    assert "2000000 rows" in refused(relabel(labels, path), capsys)


@pytest.mark.parametrize("what", ["cut", "metadata", "no images", "no column", "odd values"])
def test_a_table_of_labels_that_is_damaged_is_refused(what, made, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    assert main(["export", str(made / "coco.json"), "--to", "parquet", "--out", str(tmp_path)]) == 0
    path = tmp_path / "coco.parquet"
    table = parquet.read_table(path)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif what == "metadata":
        parquet.write_table(table.replace_schema_metadata({"astrolabel": "{"}), path)
    elif what == "no images":
        kept = json.loads(table.schema.metadata[b"astrolabel"])
        del kept["document"]["images"]
        text = json.dumps(kept)
        parquet.write_table(table.replace_schema_metadata({"astrolabel": text}), path)
        assert "coco.parquet" in refused(["validate", path], capsys)
    elif what == "no column":
        parquet.write_table(table.drop_columns(["bbox_x"]), path)
    else:
        at, odd = table.column_names.index("image_id"), pyarrow.array(["x"] * table.num_rows)
        parquet.write_table(table.set_column(at, "image_id", odd), path)
    assert "coco.parquet" in refused(["export", path, "--to", "coco"], capsys)


@pytest.mark.parametrize("to", ["yolo", "labelme", "cvat"])
def test_a_file_that_is_no_picture_is_not_copied_into_an_export(to, labels, tmp_path, capsys):
    """A document may name any file of whoever exports it, and exports are given away."""
    secret = tmp_path / "images.key"
    secret.write_text("the key of somebody")
    doc = json.loads(labels.read_text())
    doc["images"][0]["file_name"] = secret.name
    labels.write_text(json.dumps(doc))
    out = tmp_path / "out"
    assert "no picture" in refused(["export", labels, "--to", to, "--out", out], capsys)
    assert not [p for p in out.rglob("*") if p.is_file() and b"the key" in p.read_bytes()]


@pytest.mark.parametrize("text", ["circle(20,20,1e9)", "circle(20,20,nan)", "box(20,20,1e300,4,0)"])
def test_a_region_as_large_as_the_sky_is_refused(text, made, tmp_path, capsys):
    """Its mask would fill the memory."""
    pytest.importorskip("regions")
    path = tmp_path / "a.reg"
    path.write_text(f"image\n{text}\n")
    image = made / "sky" / "calexp-HSC-I-9813-4,5.fits"
    words = ["import", path, "--image", image, "--out", tmp_path / "in"]
    assert "a.reg" in refused(words, capsys)


def test_a_plan_that_is_none_is_refused(tmp_path, capsys):
    for plan in ({"tiles": []}, [], {"config_hash": "0", "tiles": [{"name": "../x", "key": "k"}]}):
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        assert "plan.json" in refused(["make-coco", "--status", "--out", tmp_path], capsys)


def test_a_picture_as_large_as_the_memory_is_refused(labels, capsys):
    """The residual of an image, of which the header says four billion pixels a side."""
    doc = json.loads(labels.read_text())
    folder = labels.parent / "residuals"
    folder.unlink()
    folder.mkdir()
    for image in doc["images"]:
        del image["astro"]["sha256"]
        path = labels.parent / image["astro"]["residual"]
        Image.new("L", (4, 4)).save(path)
        data = bytearray(path.read_bytes())
        data[16:24] = b"\x7f\xff\xff\xff" * 2
        path.write_bytes(bytes(data))
    labels.write_text(json.dumps(doc))
    main(["report", str(labels), "--quiet", "--out", str(labels.with_name("r.html"))])
    assert "Traceback" not in capsys.readouterr().err


def test_a_cube_with_a_pixel_of_any_size_is_fitted_without_it(made, labels, tmp_path):
    doc = json.loads(labels.read_text())
    cubes = labels.parent / "cubes"
    cubes.unlink()
    cubes.mkdir()
    name = doc["images"][0]["astro"]["cube"]
    with fits.open(made / name) as hdus:
        a = doc["annotations"][0]["attributes"]
        hdus[0].data[:, round(a["y"]), round(a["x"])] = 1e38
        hdus.writeto(labels.parent / name)
    assert main(["export", str(labels), "--to", "models", "--out", str(tmp_path / "m")]) == 0


def test_corrections_with_odd_places_are_refused(labels, tmp_path, capsys):
    path = tmp_path / "c.json"
    place = {"action": "accept", "image": "images/9813-4,5-r0c0.png", "x": 1, "y": 1}
    for odd in ({"ra": "x", "dec": 2.2}, {"ra": [1], "dec": 2.2}):
        path.write_text(json.dumps({"corrections": [{**place, **odd}]}))
        words = ["apply", labels, path, "--out", labels.with_name("new.json")]
        assert "not whole" in refused(words, capsys)
    path = tmp_path / "c.jsonl"
    path.write_text("[" * 100_000)
    words = ["apply", labels, path, "--out", labels.with_name("new.json")]
    assert "not JSON" in refused(words, capsys)


def test_half_a_tile_without_one_band_is_labelled(tmp_path):
    """There no pixel shows the light that the other bands do."""
    sky = tmp_path / "sky"
    assert main(["simulate", str(sky), "--size", "72", "--seed", "3"]) == 0
    with fits.open(sky / "calexp-HSC-G-9813-4,5.fits", mode="update") as hdus:
        hdus[1].data[:, :36] = np.nan
    words = ["make-coco", str(sky), "--bands", "g,r,i", "--quiet", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    doc = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert doc["info"]["tiles"][0]["state"] == "ok"
    assert len(doc["annotations"]) >= 4


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize("value", [1e9, -1e9, 1e300])
def test_a_magnitude_of_no_source_makes_no_billion_bins(value, made, labels, capsys):
    doc = json.loads(labels.read_text())
    assert len(doc["annotations"]) > 2
    doc["annotations"][0]["attributes"]["mag_i"] = value
    labels.write_text(json.dumps(doc))
    capsys.readouterr()
    assert main(["counts", str(labels)]) == 0
    assert len(capsys.readouterr().out.splitlines()) < 200
    table = Table.read(made / "sky" / "catalog_hsc.fits")
    table["i_cmodel_mag"][0] = value
    table.write(labels.with_name("catalog.csv"), format="ascii.csv")
    words = ["report", labels, "--catalog", labels.with_name("catalog.csv"), "--scheme", "hsc"]
    page = labels.with_name("r.html")
    assert main([*map(str, words), "--quiet", "--out", str(page)]) in (0, 2)
    assert page.exists()
