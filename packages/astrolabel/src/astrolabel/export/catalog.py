"""The labels as a source catalog with units: FITS, ECSV or VOTable."""

from __future__ import annotations

from pathlib import Path

from astropy.io import fits
from astropy.table import QTable

from astrolabel.core.files import atomic_path
from astrolabel.io.coco import Document
from astrolabel.io.frames import frames_of
from astrolabel.io.table import label_table

KINDS = {"fits": "fits", "ecsv": "ascii.ecsv", "vot": "votable"}
"""astropy's name of each format, by the end of the file's name."""


def write_catalog(path: Path, doc: Document) -> None:
    """Write `astrolabel.io.table.label_table` in the format that the name's end says.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    table = catalog_table(doc)
    with atomic_path(path) as temporary:
        if path.suffix == ".fits":
            _as_hdu(table).writeto(temporary, overwrite=True)
        else:
            table.write(temporary, format=KINDS[path.suffix.lstrip(".")], overwrite=True)


def catalog_table(doc: Document) -> QTable:
    """`label_table` of all coadds, with empty texts where one is missing: formats differ there."""
    table = label_table(doc, frames_of(doc["images"]))
    for name in table.colnames:
        if hasattr(table[name], "mask") and table[name].dtype.kind in "US":
            about = table[name].info
            kept = about.description, about.meta
            table[name] = table[name].filled("")
            table[name].info.description, table[name].info.meta = kept
    return table


def _as_hdu(table: QTable) -> fits.BinTableHDU:
    """With UCDs and descriptions in the cards that TOPCAT reads and writes."""
    hdu = fits.table_to_hdu(table)
    for n, name in enumerate(table.colnames, 1):
        about = table[name].info
        if about.description:
            hdu.header[f"TCOMM{n}"] = about.description
        if about.meta and about.meta.get("ucd"):
            hdu.header[f"TUCD{n}"] = about.meta["ucd"]
    return hdu
