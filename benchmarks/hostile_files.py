"""Files of strangers beside coadds and COCO: catalogs, regions, pictures, settings, tables.

Each maker writes a file that is harmed, or holds an odd value, and gives the words of a command
that reads it. `benchmarks/faults.py` plays them.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Words = list[str]
Mutated = Callable[[Any, random.Random], Any]

ODD_TEXTS = (
    "", "nan", "-1", "1e400", "9" * 5000, "x", "\0", "\ud800", "a,b", '"', "1" * 200_000, "# %ECSV",
    "inf", "\n\n", "1e9",
)  # fmt: skip
ODD_CARDS = ("-5", "0", "9" * 23, "1E400", "NaN", "'text'", "T", "", "-32.5", "2147483648",
             "'1PD(999999999)'", "'9999999999E'")  # fmt: skip


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def noisy(data: bytes, draw: random.Random) -> bytes:
    """Some bytes of another place, or of none."""
    at, length = draw.randrange(len(data)), draw.randrange(1, 200)
    return data[:at] + draw.randbytes(length) + data[at + length :]


def odd_word(data: bytes, draw: random.Random) -> bytes:
    """One value of a text replaced."""
    words = data.decode("latin-1").split(" ")
    sep = " "
    if len(words) < 3:
        words, sep = data.decode("latin-1").split(","), ","
    words[draw.randrange(len(words))] = draw.choice(ODD_TEXTS)
    return sep.join(words).encode("utf-8", "surrogatepass")


def odd_card(data: bytes, draw: random.Random) -> bytes:
    """One card of a FITS file replaced, and nothing that could tell."""
    data = data.replace(b"CHECKSUM", b"X_NOTHIN").replace(b"DATASUM ", b"X_NOTHIN")
    cards = [k for k in range(0, len(data) - 80, 80) if data[k + 8 : k + 10] == b"= "]
    at = draw.choice(cards)
    odd = draw.choice(ODD_CARDS)
    return data[: at + 10] + odd.rjust(20).encode() + data[at + 30 :]


def beside(out: Path, scratch: Path) -> str:
    """The labels of a run in the scratch folder, with links to their files."""
    for name in ("images", "cubes", "residuals"):
        (scratch / name).symlink_to(out / name)
    (scratch / "coco.json").write_bytes((out / "coco.json").read_bytes())
    return str(scratch / "coco.json")


HARMS = (flipped, cut, noisy)


@lru_cache(maxsize=8)
def catalogs(path: Path) -> dict[str, bytes]:
    """One catalog in every format that is read."""
    from astropy.table import Table

    table, found = Table.read(path), {".fits": path.read_bytes()}
    for suffix, form in ((".csv", "ascii.csv"), (".ecsv", "ascii.ecsv"), (".tbl", "ascii.ipac")):
        text = io.StringIO()
        table.write(text, format=form)
        found[suffix] = text.getvalue().encode()
    found[".csv.gz"] = gzip.compress(found[".csv"], mtime=0)
    found[".fits.gz"] = gzip.compress(found[".fits"], mtime=0)
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    columns = {name: np.asarray(table[name]).tolist() for name in table.colnames}
    pyarrow.parquet.write_table(pyarrow.table(columns), stream)
    found[".parquet"] = stream.getvalue()
    return found


def catalog(sky: Path, out: Path, scratch: Path, draw: random.Random, _: Mutated) -> Words:
    """A catalog that is damaged or odd, in any format."""
    suffix, data = draw.choice(sorted(catalogs(sky / "catalog_hsc.fits").items()))
    harms = list(HARMS)
    if suffix in (".csv", ".ecsv", ".tbl"):
        harms += [odd_word] * 3
    if suffix == ".fits":
        harms += [odd_card] * 3
    path = scratch / f"catalog{suffix}"
    path.write_bytes(draw.choice(harms)(data, draw))
    of_catalog = ["--catalog", str(path), "--scheme", "hsc"]
    image, coco = str(sky / "calexp-HSC-I-9813-4,5.fits"), beside(out, scratch)
    return draw.choice(
        (
            ["relabel", coco, *of_catalog, "--out", str(scratch / "new.json")],
            ["report", coco, *of_catalog, "--quiet", "--out", str(scratch / "r.html")],
            ["import", str(path), "--image", f"i={image}", "--out", str(scratch / "in"),
             "--columns", "ra=ra", "dec=dec", "radius=i_cmodel_mag"],
        )
    )  # fmt: skip


REGIONS = """# Region file format: DS9 version 4.1
global color=green
image
circle(20,20,5) # tag={galaxy}
ellipse(30,30,5,3,20)
polygon(1,1,9,1,9,9)
box(40,40,8,4,10)
fk5
circle(150.2,2.2,3")
"""


def regions(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """DS9 regions, LabelMe's JSON, SExtractor's catalogs and maps of labels."""
    kind = draw.choice((".reg", ".json", ".cat", ".fits"))
    path = scratch / f"labels{kind}"
    if kind == ".reg":
        text = REGIONS
        for _ in range(draw.randrange(1, 3)):
            numbers = [k for k, c in enumerate(text) if c.isdigit()]
            at = draw.choice(numbers)
            text = text[:at] + draw.choice((*ODD_TEXTS, "1e9", "-1e9", "99999")) + text[at + 1 :]
        path.write_text(text, "utf-8", "surrogatepass")
    elif kind == ".json":
        doc = {"version": "5", "flags": {}, "imagePath": "a.png", "imageHeight": 72,
               "imageWidth": 72, "shapes": [
                   {"label": "galaxy", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon",
                    "flags": {}, "group_id": None},
                   {"label": "star", "points": [[20, 20], [25, 20]], "shape_type": "circle"},
               ]}  # fmt: skip
        path.write_text(json.dumps(mutated(doc, draw)), "utf-8", "surrogatepass")
    elif kind == ".cat":
        text = "#   1 NUMBER\n#   2 X_IMAGE\n#   3 Y_IMAGE\n#   4 A_IMAGE\n#   5 B_IMAGE\n"
        text += "#   6 THETA_IMAGE\n 1 20.0 20.0 4.0 3.0 10.0\n 2 40.0 40.0 5.0 3.0 80.0\n"
        path.write_bytes(draw.choice((*HARMS, odd_word, odd_word))(text.encode(), draw))
    else:
        from astropy.io import fits

        labels = np.zeros((72, 72), draw.choice(("i2", "i4", "i8", "f4")))
        labels[10:20, 10:20], labels[30:40, 30:35] = 1, draw.choice((2, 100, -1))
        stream = io.BytesIO()
        fits.PrimaryHDU(labels).writeto(stream)
        path.write_bytes(draw.choice((*HARMS, odd_card, odd_card))(stream.getvalue(), draw))
    image = str(sky / "calexp-HSC-I-9813-4,5.fits")
    return ["import", str(path), "--image", f"i={image}", "--out", str(scratch / "in")]


def corrections(
    sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated
) -> Words:
    """Corrections of a review page."""
    doc = json.loads((out / "coco.json").read_text())
    place = {
        (a := draw.choice(doc["annotations"]))["id"]: {
            "image": next(i["file_name"] for i in doc["images"] if i["id"] == a["image_id"]),
            "x": a["attributes"]["x"], "y": a["attributes"]["y"],
            "ra": a["attributes"]["ra"], "dec": a["attributes"]["dec"],
        }
        for _ in range(3)
    }  # fmt: skip
    first, *others = place.values()
    sound = [
        {"action": "accept", **first},
        {"action": "class", "class": "source", **first},
        {"action": "merge", "with": others or [first], **first},
        {"action": "split", "peak": [first["x"], first["y"]], **first},
        {"action": "add", "class": "source", "outline": [[3, 3, 9, 3, 9, 9, 3, 9]], **first},
        {"action": "reject", **first},
    ]
    sound = draw.sample(sound, draw.randrange(1, 4))
    suffix = draw.choice((".json", ".jsonl"))
    path = scratch / f"corrections{suffix}"
    items = mutated(sound, draw)
    text = json.dumps({"corrections": items})
    if suffix == ".jsonl":
        text = "\n".join(json.dumps(item) for item in items)
    if draw.random() < 0.1:
        text = draw.choice(("[" * 100_000, '{"corrections": ' + "9" * 5000 + "}", text[:-5]))
    path.write_text(text, "utf-8", "surrogatepass")
    labels = beside(out, scratch)
    if draw.random() < 0.3:  # the labels are odd instead
        path = scratch / "corrections.json"
        path.write_text(json.dumps({"corrections": sound}))
        Path(labels).write_text(json.dumps(mutated(doc, draw)), "utf-8", "surrogatepass")
    return ["apply", labels, str(path), "--out", str(scratch / "new.json")]


def settings(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """A file of settings with one odd value, of either program."""
    if draw.random() < 0.5:
        from astrolabel.core.config import LabelConfig

        tree = json.loads(json.dumps(LabelConfig().to_dict()))
        words = ["make-coco", str(sky), "--out", str(scratch / "out"), "--print-config"]
    else:
        tree = {"model": "tiny", "optimizer": {"lr": 0.001}, "schedule": {"steps": 3}, "seed": 1}
        words = ["astroseg", "train", str(out / "coco.json"), "--print-config"]
        words += ["--out", str(scratch / "run")]
    text = yaml.safe_dump(mutated(tree, draw))
    if draw.random() < 0.2:
        text = draw.choice(
            ("[" * 50_000, "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "!!python/object:os.x {}",
             "\t", "- 1", text + text, "a: !!float ''", "&a [*a]", "? [1]\n: 2", "2001-99-99: 1")
        )  # fmt: skip
    path = scratch / "settings.yaml"
    path.write_text(text, "utf-8", "surrogatepass")
    return [*words, "--config", str(path)]


@lru_cache(maxsize=2)
def _table_of(path: Path) -> bytes:
    from astrolabel.io.coco import read_json
    from astrolabel.io.parquet import write_parquet

    target = path.with_suffix(".table.parquet")
    write_parquet(target, read_json(path))
    data = target.read_bytes()
    target.unlink()
    return data


def table(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """A Parquet table of labels."""
    data = _table_of(out / "coco.json")
    for name in ("images", "cubes", "residuals"):
        (scratch / name).symlink_to(out / name)
    path = scratch / "coco.parquet"
    if draw.random() < 0.5:
        path.write_bytes(draw.choice(HARMS)(data, draw))
    else:
        import pyarrow
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(io.BytesIO(data))
        if draw.random() < 0.5:
            kept = json.loads(read.schema.metadata[b"astrolabel"])
            text = json.dumps(mutated(kept, draw)) if draw.random() < 0.8 else "{"
            read = read.replace_schema_metadata({"astrolabel": text})
        else:
            name = draw.choice(read.column_names)
            odd = draw.choice((None, "x", -1, 1e300, [1], {"a": 1}, b"\xff"))
            at = read.column_names.index(name)
            read = read.set_column(at, name, pyarrow.array([odd] * read.num_rows))
        pyarrow.parquet.write_table(read, path)
    return draw.choice(
        (
            ["validate", str(path)],
            ["counts", str(path)],
            ["export", str(path), "--to", draw.choice(("coco", "ds9", "yolo"))],
            ["split", str(path), "--fractions", "a=0.5", "b=0.5", "--out", str(scratch / "s")],
        )
    )


def records(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """A list of Detectron2 records."""
    doc = [
        {"file_name": str(out / "images" / "9813-4,5-r0c0.png"), "image_id": 1, "height": 36,
         "width": 36, "annotations": [
             {"bbox": [1, 1, 8, 8], "bbox_mode": 1, "category_id": 0,
              "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]},
             {"bbox": [5, 5, 9, 9], "bbox_mode": 0, "category_id": 1,
              "segmentation": [[5, 5, 9, 5, 9, 9, 5, 9]], "imag": 20.5}]}
    ]  # fmt: skip
    path = scratch / "records.json"
    path.write_text(json.dumps(mutated(doc, draw)), "utf-8", "surrogatepass")
    words = ["export", str(path), "--to", draw.choice(("coco", "ds9")), "--classes", "star,galaxy"]
    return [*words, "--out", str(scratch / "e")]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _bomb(side: int) -> bytes:
    """A PNG of black pixels, as small as they go."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(min(side, 4000) * (1 + 3 * min(side, 4000))), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    )


def picture(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """A picture, cube or residual of labels, harmed."""
    from shutil import copytree

    for name in ("images", "cubes", "residuals"):
        copytree(out / name, scratch / name)
    doc = json.loads((out / "coco.json").read_text())
    image = doc["images"][0]
    image["astro"].pop("sha256")
    (scratch / "coco.json").write_text(json.dumps(doc))
    named = draw.choice((image["file_name"], image["astro"]["cube"], image["astro"]["residual"]))
    path = scratch / named
    data = path.read_bytes()
    if draw.random() < 0.2:
        data = _bomb(draw.choice((0, 1, 4000, 60_000, 2**31 - 1)))
    else:
        data = draw.choice(HARMS)(data, draw)
    path.write_bytes(data)
    coco = str(scratch / "coco.json")
    return draw.choice(
        (
            ["validate", coco],
            ["preview", coco, "--out", str(scratch / "p")],
            ["report", coco, "--quiet", "--out", str(scratch / "r.html")],
            ["review", coco, "--out", str(scratch / "review")],
            ["export", coco, "--to", draw.choice(("yolo", "labelme", "cvat", "deepdisc", "models")),
             "--out", str(scratch / "e")],
        )
    )  # fmt: skip


def stamps(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """A PSF stamp, a variance or a mask in a file of its own."""
    option = draw.choice(("--psf", "--variance", "--mask", "--rms"))
    source = sky / ("psf-calexp-HSC-I-9813-4,5.fits" if option == "--psf" else
                    "calexp-HSC-I-9813-4,5.fits")  # fmt: skip
    path = scratch / "further.fits"
    path.write_bytes(draw.choice((*HARMS, odd_card, odd_card, odd_card))(source.read_bytes(), draw))
    return ["describe", "--band", f"i={sky / 'calexp-HSC-I-9813-4,5.fits'}", option, str(path)]


@lru_cache(maxsize=2)
def images(sky: Path) -> dict[str, bytes]:
    """One band in every format of images that is read."""
    import tifffile
    from astropy.io import fits
    from PIL import Image

    path = sky / "calexp-HSC-I-9813-4,5.fits"
    pixels = np.asarray(fits.getdata(path, 1), np.float32)
    found = {".fits": path.read_bytes(), ".fits.gz": gzip.compress(path.read_bytes(), mtime=0)}
    grey = Image.fromarray(np.clip(pixels * 50, 0, 255).astype(np.uint8))
    writers: dict[str, Callable[[io.BytesIO], object]] = {
        ".png": lambda to: grey.save(to, format="PNG"),
        ".jpg": lambda to: grey.save(to, format="JPEG"),
        ".tif": lambda to: tifffile.imwrite(to, pixels),
        ".npy": lambda to: np.save(to, pixels[None]),
        ".npz": lambda to: np.savez_compressed(to, image=pixels[None]),
        ".fits.fz": lambda to: fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels)]).writeto(
            to, checksum=True
        ),
    }
    for suffix, write in writers.items():
        stream = io.BytesIO()
        write(stream)
        found[suffix] = stream.getvalue()
    return found


def image(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """An image that `astroseg predict` is given."""
    suffix, data = draw.choice(sorted(images(sky).items()))
    harms = (*HARMS, odd_card, odd_card) if suffix in (".fits", ".fits.fz") else HARMS
    path = scratch / f"image{suffix}"
    path.write_bytes(draw.choice(harms)(data, draw))
    if suffix == ".png" and draw.random() < 0.3:
        path.write_bytes(_bomb(draw.choice((0, 1, 4000, 60_000, 2**31 - 1))))
    import astroseg.weights

    model = Path(astroseg.weights.__file__).with_name("sky.safetensors")
    return ["astroseg", "predict", str(model), str(path), "--quiet", "--device", "cpu",
            "--out", str(scratch / "found")]  # fmt: skip


def plan(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """The folder of a run whose plan or shards are not what was written."""
    from shutil import copytree

    copytree(out, scratch / "run")
    path = scratch / "run" / "plan.json"
    if draw.random() < 0.3:
        path = draw.choice(sorted((scratch / "run" / "tiles").iterdir()))
    path.write_text(
        json.dumps(mutated(json.loads(path.read_text()), draw)), "utf-8", "surrogatepass"
    )
    return ["make-coco", "--status", "--out", str(scratch / "run")]


def pipe(sky: Path, out: Path, scratch: Path, draw: random.Random, mutated: Mutated) -> Words:
    """A pipe, a folder or a link to itself in place of any file."""

    def put(name: str) -> str:
        path = scratch / name
        kind = draw.random()
        if kind < 0.8:
            os.mkfifo(path)
        elif kind < 0.9:
            path.mkdir()
        else:
            path.symlink_to(path)
        return str(path)

    coco, image = beside(out, scratch), str(sky / "calexp-HSC-I-9813-4,5.fits")
    new, parts = ["--out", str(scratch / "new.json")], ["--out", str(scratch / "s")]
    tables = ("catalog" + s for s in (".fits", ".csv", ".csv.gz", ".ecsv", ".tbl", ".parquet"))
    of_catalog = lambda: ["--catalog", put(draw.choice(list(tables))), "--scheme", "hsc"]  # noqa: E731
    make = ["make-coco", "--band", f"i={image}", "--quiet", "--out", str(scratch / "o")]
    choices: tuple[Callable[[], Words], ...] = (
        lambda: ["make-coco", put("a.fits"), "--quiet", "--out", str(scratch / "o")],
        lambda: ["make-coco", "--band", f"g={put('a.fits.gz')}", "--out", str(scratch / "o")],
        lambda: [*make, draw.choice(("--variance", "--rms", "--mask", "--psf")), put("a.fits")],
        lambda: [*make, *of_catalog()],
        lambda: [*make, "--config", put("a.yaml")],
        lambda: ["truth-coco", put("a"), "--out", str(scratch / "o")],
        lambda: ["manifest", "check", put("m.yaml"), "--quiet"],
        lambda: ["validate", put(draw.choice(("a.json", "a.parquet")))],
        lambda: ["review", put("a.json")],
        lambda: ["review", coco, draw.choice(("--with", "--truth")), put("a.json"), "--out",
                 str(scratch / "r.html")],
        lambda: ["apply", coco, put(draw.choice(("a.json", "a.jsonl"))), *new],
        lambda: ["preview", put("a.json")],
        lambda: ["report", put("a.json"), "--quiet"],
        lambda: ["report", coco, "--truth", put("a.json"), "--out", str(scratch / "r.html")],
        lambda: ["report", coco, *of_catalog(), "--quiet", "--out", str(scratch / "r.html")],
        lambda: ["relabel", coco, *of_catalog(), *new],
        lambda: ["reproduce", put("a.json"), "--tile", "a", "--inputs", str(sky)],
        lambda: ["counts", put("a.json")],
        lambda: ["split", coco, "--region", f"test=moc:{put('a.fits')}", *parts],
        lambda: ["split", coco, "--manifest", put("a.yaml"), *parts],
        lambda: ["split", "--check", coco, put("a.json")],
        lambda: ["export", put(draw.choice(("a.json", "a.parquet"))), "--to", "ds9"],
        lambda: ["import", put(draw.choice(("a.reg", "a.fits", "a.cat", "a.json", "a.csv"))),
                 "--image", image, "--out", str(scratch / "in")],
        lambda: ["import", str(sky / "catalog_hsc.fits"), "--image",
                 put(draw.choice(("a.png", "a.fits"))), "--out", str(scratch / "in")],
        lambda: ["astroseg", "evaluate", put("a.json"), coco, "--out", str(scratch / "e")],
        lambda: ["astroseg", "evaluate", coco, put("a.json"), "--out", str(scratch / "e")],
    )  # fmt: skip
    return draw.choice(choices)()


MAKERS = {
    "hostile catalog": catalog,
    "hostile regions": regions,
    "hostile corrections": corrections,
    "hostile settings": settings,
    "hostile table of labels": table,
    "hostile records": records,
    "hostile picture": picture,
    "hostile stamps": stamps,
    "hostile plan": plan,
    "hostile image": image,
    "pipe": pipe,
}
