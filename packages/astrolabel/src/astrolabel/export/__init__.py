"""Labels in the formats of other tools: ds9 regions, CVAT's zip, Croissant, Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from astrolabel import coco
from astrolabel.errors import InputError
from astrolabel.export.croissant import write_croissant
from astrolabel.export.cvat import write_cvat
from astrolabel.export.regions import write_regions
from astrolabel.parquet import write_parquet

__all__ = ["FORMATS", "export", "write_croissant", "write_cvat", "write_regions"]

FORMATS: Mapping[str, str] = {
    "ds9": "regions/*.reg: outlines on the sky, for DS9 and CARTA",
    "parquet": "NAME.parquet: one row per label, for more than JSON is good for",
    "cvat": "NAME-cvat.zip: for CVAT and Datumaro",
    "croissant": "croissant.json: what search engines and ML tools read of a dataset",
    "coco": "NAME.json: back from Parquet",
}


def export(file: str | Path, formats: Sequence[str], out: str | Path | None = None) -> list[Path]:
    """Write a label file in other formats; the files and folders written.

    Parameters
    ----------
    file : a COCO document, JSON or Parquet.
    formats : of `FORMATS`.
    out : folder; the file's own by default. A Croissant description always lies beside
        the file that it describes.

    Raises
    ------
    InputError, OutputError
        When the file cannot be read, is faulty, or a format cannot hold it; what was
        written by then is whole.
    """
    file = Path(file)
    folder = file.parent if out is None else Path(out)
    doc = coco.read(file)
    if found := coco.validate(doc):
        raise InputError(
            f"is faulty ({len(found)} problems; {found[0]})",
            file=file,
            remedy="`astrolabel validate` lists them",
        )

    def regions() -> Path:
        write_regions(folder / "regions", doc)
        return folder / "regions"

    def as_file(name: str, write: Callable[[Path], None]) -> Path:
        write(folder / name)
        return folder / name

    writers: dict[str, Callable[[], Path]] = {
        "ds9": regions,
        "parquet": lambda: as_file(f"{file.stem}.parquet", lambda p: write_parquet(p, doc)),
        "cvat": lambda: as_file(f"{file.stem}-cvat.zip", lambda p: write_cvat(p, doc, file.parent)),
        "croissant": lambda: write_croissant(file, doc),
        "coco": lambda: as_file(f"{file.stem}.json", lambda p: coco.write(p, doc)),
    }
    return [writers[name]() for name in formats]
