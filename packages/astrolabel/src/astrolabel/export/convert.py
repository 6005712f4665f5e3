"""Labels in the formats of other tools: ds9, CVAT, Croissant, Parquet, DeepDISC's records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.export.catalog import write_catalog
from astrolabel.export.coverage import write_moc
from astrolabel.export.croissant import write_croissant
from astrolabel.export.cvat import write_cvat
from astrolabel.export.deepdisc import with_pictures, write_deepdisc
from astrolabel.export.geojson import write_geojson
from astrolabel.export.hats import write_hats
from astrolabel.export.labelme import write_labelme
from astrolabel.export.regions import write_regions
from astrolabel.export.segmentation import write_segmentation
from astrolabel.export.yolo import write_yolo
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.detectron2_records import from_records, is_records
from astrolabel.io.parquet import write_parquet
from astrolabel.io.structure import check_structure

Writer = Callable[[Path, coco.Document, Path], object]


def export(
    file: str | Path,
    formats: Sequence[str],
    out: str | Path | None = None,
    *,
    classes: Sequence[str] = (),
    polygons: str = "centres",
    images: str | Path | None = None,
    more: Mapping[str, Writer] | None = None,
) -> list[Path]:
    """Write a label file in other formats; the files and folders written.

    Parameters
    ----------
    file : a COCO document, JSON or Parquet, or a JSON list of Detectron2 records.
    formats : of `FORMATS`.
    out : folder; the file's own by default. A Croissant description always lies beside
        the file that it describes.
    classes, polygons : of records; see `astrolabel.io.detectron2_records.from_records`.
    images : folder of the images; beside the file where absent (see `io.any_coco`). Of
        records' images pictures and cubes are made in `out`; without it the document names
        them as the records do.
    more : writers of formats that need more than the document: each is given a folder, the
        document, and the folder that its files are named from.

    Raises
    ------
    InputError, OutputError
        When the file cannot be read, is faulty, or a format cannot hold it; what was
        written by then is whole.
    """
    file = Path(file)
    folder = file.parent if out is None else Path(out)
    doc, is_list = _read(file, classes, polygons)
    if is_list:
        doc = _of_records(doc, file.parent, folder, None if images is None else Path(images))
    elif file.suffix != ".parquet" or images is not None:
        doc = viewable(doc, file, None if images is None else Path(images))
    if found := coco.validate(doc):
        raise InputError(
            f"is faulty ({len(found)} problems; {found[0]})",
            file=file,
            remedy="`astrolabel validate` lists them",
        )
    writers = _writers(file, folder, doc, is_list)
    for name, write in (more or {}).items():
        writers[name] = _in_folder(write, folder / f"{file.stem}-{name}", doc, file.parent)
    return [writers[name]() for name in formats]


def _in_folder(write: Writer, folder: Path, doc: coco.Document, beside: Path) -> Callable[[], Path]:
    def run() -> Path:
        write(folder, doc, beside)
        return folder

    return run


def _of_records(
    doc: coco.Document, beside: Path, folder: Path, images: Path | None
) -> coco.Document:
    """A document made of records that lie in `beside`, its images named for one in `folder`."""
    if images is not None:
        return with_pictures(doc, (images, beside), folder)
    # Its own are named from where the list lies, others as their program will.
    own = [(i.get("astro") or {}).get("files") is None for i in doc["images"]]
    named = [
        coco.rebased(image, beside, folder) if mine else image
        for image, mine in zip(doc["images"], own, strict=True)
    ]
    return {**doc, "images": named}


def _writers(
    file: Path, folder: Path, doc: coco.Document, is_list: bool
) -> dict[str, Callable[[], Path]]:
    """What writes each of `FORMATS`; each returns the path."""
    # A document in another folder names its images from there.
    moved = doc
    if not is_list:
        moved = {**doc, "images": [coco.rebased(i, file.parent, folder) for i in doc["images"]]}

    def regions() -> Path:
        write_regions(folder / "regions", doc)
        return folder / "regions"

    def as_file(name: str, write: Callable[[Path], None]) -> Path:
        write(folder / name)
        return folder / name

    def in_folder(kind: str, write: Callable[[Path], object]) -> Path:
        write(folder / f"{file.stem}-{kind}")
        return folder / f"{file.stem}-{kind}"

    def catalog(end: str) -> Callable[[], Path]:
        return lambda: as_file(f"{file.stem}-catalog.{end}", lambda p: write_catalog(p, doc))

    return {
        "segmentation": lambda: in_folder("segmentation", lambda p: write_segmentation(p, doc)),
        "fits": catalog("fits"),
        "ecsv": catalog("ecsv"),
        "votable": catalog("vot"),
        "yolo": lambda: in_folder("yolo", lambda p: write_yolo(p, doc, file.parent)),
        "labelme": lambda: in_folder("labelme", lambda p: write_labelme(p, doc, file.parent)),
        "moc": lambda: as_file(f"{file.stem}-moc.fits", lambda p: write_moc(p, doc)),
        "hats": lambda: write_hats(folder / f"{file.stem}-hats", doc),
        "geojson": lambda: in_folder("geojson", lambda p: write_geojson(p, doc)),
        "ds9": regions,
        "parquet": lambda: as_file(f"{file.stem}.parquet", lambda p: write_parquet(p, moved)),
        "cvat": lambda: as_file(f"{file.stem}-cvat.zip", lambda p: write_cvat(p, doc, file.parent)),
        "croissant": lambda: write_croissant(file, doc),
        "deepdisc": lambda: write_deepdisc(folder / f"{file.stem}-deepdisc.json", doc, file.parent),
        "coco": lambda: as_file(
            f"{file.stem}{'-coco' if is_list else ''}.json", lambda p: coco.write_json(p, moved)
        ),
    }


def _read(file: Path, classes: Sequence[str], polygons: str) -> tuple[coco.Document, bool]:
    """The document, and whether it was made of records."""
    value: Any = coco.read(file) if file.suffix == ".parquet" else coco.read_json(file)
    if is_records(value):
        made = from_records(value, file, classes, polygons)
        check_structure(made, file)
        return made, True
    if classes:
        raise InputError(
            "--classes names the classes of Detectron2 records, which this is not", file=file
        )
    document = coco.as_document(value, file)
    check_structure(document, file)
    return document, False
