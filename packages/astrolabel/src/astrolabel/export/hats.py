"""The source catalog as HATS: Parquet files by HEALPix cell, as LSDB and large surveys use it."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from astrolabel.core.errors import InputError, OutputError
from astrolabel.export.catalog import catalog_table
from astrolabel.io.coco import Document
from astrolabel.io.parquet import load_pyarrow


def write_hats(folder: Path, doc: Document) -> Path:
    """Write the catalog of `export.catalog` with hats-import; the folder.

    Labels go to cells by ``ra`` and ``dec``; cells are divided by the number of rows, as
    hats-import chooses it. A folder of an earlier export is replaced.

    Raises
    ------
    InputError
        When hats-import is not installed, or a label has no position.
    OutputError
        When the folder cannot be written.
    """
    try:
        from hats_import.catalog.arguments import ImportArguments
        from hats_import.pipeline import pipeline
    except ImportError as error:
        raise InputError(
            "HATS needs the package hats-import", remedy="pip install 'astrolabel[hats]'"
        ) from error
    load_pyarrow()
    table = catalog_table(doc)
    lost = int(np.count_nonzero(~np.isfinite(table["ra"].value + table["dec"].value)))
    if lost or not len(table):
        raise InputError(
            f"{lost or 'all'} of {len(table)} labels have no RA and Dec",
            remedy="label FITS files with a WCS",
        )
    for name in table.colnames:  # its readers know numbers, and units are in the names' meaning
        if getattr(table[name], "unit", None) is not None:
            table[name] = table[name].value
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Dask, about its ports
            rows = Path(name) / "rows.parquet"
            table.write(rows, format="parquet")
            pipeline(
                ImportArguments(
                    output_path=name, output_artifact_name=folder.name, input_file_list=[rows],
                    file_reader="parquet", ra_column="ra", dec_column="dec", sort_columns="id",
                    progress_bar=False, tmp_dir=name,
                )
            )  # fmt: skip
            if folder.exists():
                shutil.rmtree(folder)
            shutil.move(Path(name) / folder.name, folder)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", file=folder) from error
    return folder
