"""Columns of a table file, whatever its format, as numbers, texts or flags."""

from __future__ import annotations

import csv
import gzip
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size
from astrolabel.io.integrity import check_sums
from astrolabel.io.layers import open_fits
from astrolabel.io.parquet import check_rows, load_pyarrow

Columns = dict[str, NDArray[Any]]
"""Arrays by lower-case column name; masked where the file says that a value is missing."""

Wanted = Callable[[Sequence[str]], list[str]]
"""Takes the table's lower-case column names, gives those to read."""

_MISSING = frozenset({"", "nan", "null", "none", "\\n", "--", "n/a", "na"})
_AGAIN = "download or write it again"
MAX_LINE = 2**20
"""Longest line of a table of text: a thousand columns have some 20,000 characters."""
MAX_TEXT_RATIO = 100
"""Most that a table of text may be compressed: numbers reach some ten, deflate 1032."""


def read_columns(path: Path, wanted: Wanted) -> Columns:
    """Read some columns of a table, and only those.

    Parameters
    ----------
    path : ``.fits`` (the first table in it; ``.gz``, ``.fz`` too), ``.csv`` (``.gz`` too),
        ``.ecsv``, ``.tbl`` (IPAC) or ``.parquet``.
    wanted : chooses the columns; raises `InputError` where one is missing.

    Raises
    ------
    InputError
        When the file cannot be read, is cut off, or has no rows.
    """
    name = path.name.lower()
    reader = next((read for pattern, read in _READERS if re.search(pattern, name)), None)
    if reader is None:
        raise InputError(
            "not a table format that is known by its suffix",
            file=path,
            remedy="give .fits, .csv, .csv.gz, .ecsv, .tbl or .parquet",
        )
    if path.exists():  # a pipe would never end
        regular_size(path)
    try:
        columns = reader(path, wanted)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("there is no such file", file=path, remedy="check the name") from error
    except Exception as error:  # readers raise any kind on files that are cut off or odd
        raise InputError(
            f"the table cannot be read ({_one_line(error)})", file=path, remedy=_AGAIN
        ) from error
    if not columns or len(next(iter(columns.values()))) == 0:
        raise InputError("the table has no rows", file=path, remedy="check what made it")
    return columns


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _by_lower(names: Sequence[str]) -> dict[str, str]:
    """Real name by lower-case name."""
    return {name.strip().lower(): name for name in names}


def _read_fits(path: Path, wanted: Wanted) -> Columns:
    check_sums(path)
    # Opened here, since astropy leaves a file open that it fails on.
    with path.open("rb") as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(file) as hdus:
            # astropy only warns about a file that is cut off, then fails somewhere else.
            if any("truncated" in str(warning.message) for warning in caught):
                raise InputError("the FITS file is cut off", file=path, remedy=_AGAIN)
            # A tile-compressed image is stored as a table, and is one to older astropy.
            tables = [
                hdu
                for hdu in hdus
                if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))
                and not isinstance(hdu, fits.CompImageHDU)
            ]
            if not tables:
                raise InputError(
                    "the FITS file holds no table", file=path, remedy="give a catalog, not an image"
                )
            table = tables[0]
            real = _by_lower(table.columns.names)
            columns: Columns = {}
            for name in wanted(list(real)):
                column = table.columns[real[name]]
                values = np.array(table.data.field(real[name]))
                missing = np.zeros(values.shape, bool)
                if column.null is not None and values.dtype.kind in "iu":
                    missing |= values == column.null
                # The HSC archive writes a null as zero, with a flag of its own beside it.
                if f"{name}_isnull" in real:
                    missing |= np.asarray(table.data.field(real[f"{name}_isnull"]), bool)
                columns[name] = np.ma.array(values, mask=missing) if missing.any() else values
    return columns


def _read_csv(path: Path, wanted: Wanted) -> Columns:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(_bounded(file, MAX_TEXT_RATIO * max(path.stat().st_size, 2**20)))
        header = next(lines, None)
        if header is None:
            raise InputError("the table is empty", file=path, remedy=_AGAIN)
        if header[0].startswith("# %ECSV"):
            return _read_astropy(path, wanted)
        # The HSC archive starts the line of names as a comment.
        header[0] = header[0].lstrip("# ")
        names = [name.strip().lower() for name in header]
        chosen = list(dict.fromkeys(wanted(names)))
        places = [names.index(name) for name in chosen]
        rows = []
        for row in lines:
            if not row or row[0].startswith("#"):
                continue
            if len(row) != len(names):
                raise InputError(
                    f"line {lines.line_num} has {len(row)} values, not {len(names)}: "
                    "the file is cut off or damaged",
                    file=path,
                    remedy=_AGAIN,
                )
            rows.append([row[place] for place in places])
    return {name: np.array([row[n] for row in rows], str) for n, name in enumerate(chosen)}


def _bounded(file: TextIO, characters: int) -> Iterator[str]:
    """The lines of a file, until one is longer than any table's or all are too many."""
    while line := file.readline(MAX_LINE + 1):
        characters -= len(line)
        if len(line) > MAX_LINE or characters < 0:
            raise ValueError("a line or the whole is longer than any catalog of its size")
        yield line


def _read_astropy(path: Path, wanted: Wanted) -> Columns:
    with path.open("rb") as file:
        if file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7"):  # which astropy would decompress
            raise InputError("is compressed", file=path, remedy="decompress it")
    ipac = path.name.lower().endswith(".tbl")
    if ipac:
        _check_last_ipac_row(path)
    table = Table.read(path, format="ascii.ipac" if ipac else "ascii.ecsv")
    real = _by_lower(table.colnames)
    return {name: np.ma.array(table[real[name]]) for name in wanted(list(real))}


def _check_last_ipac_row(path: Path) -> None:
    """Raise InputError where the last row ends before its last column: astropy would
    read a number that is cut in half, and what is missing behind it as masked."""
    last_column = width = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("|") and not last_column:
                last_column = line.rstrip().rstrip("|").rfind("|")
            width = len(line.rstrip())
    if width <= last_column:
        raise InputError("the last row is cut off", file=path, remedy=_AGAIN)


def _read_parquet(path: Path, wanted: Wanted) -> Columns:
    pyarrow = load_pyarrow()
    check_rows(path)
    real = _by_lower(pyarrow.parquet.read_schema(path).names)
    chosen = list(dict.fromkeys(wanted(list(real))))
    table = pyarrow.parquet.read_table(path, columns=[real[name] for name in chosen])
    columns: Columns = {}
    for name in chosen:
        column = table[real[name]]
        missing = column.is_null().to_numpy()
        if missing.all():
            columns[name] = np.full(len(missing), np.nan)
            continue
        # An integer column with nulls would come out as floats, and ids with it; so the
        # nulls are filled with some value of the column and masked.
        filler = column[int(np.argmin(missing))]
        values = pyarrow.compute.fill_null(column, filler).to_numpy()
        columns[name] = np.ma.array(values, mask=missing) if missing.any() else values
    return columns


_READERS: tuple[tuple[str, Callable[[Path, Wanted], Columns]], ...] = (
    (r"\.(fits|fit|fts)(\.gz|\.fz)?$", _read_fits),
    (r"\.csv(\.gz)?$", _read_csv),
    (r"\.(ecsv|tbl)$", _read_astropy),
    (r"\.(parquet|parq|pq)$", _read_parquet),
)


def _split(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Plain values, stripped where they are text, and where they are missing."""
    missing = np.ma.getmaskarray(values).copy()
    plain = np.ma.getdata(values)
    if plain.dtype.kind == "S":
        plain = np.char.decode(plain, "utf-8", "replace")
    if plain.dtype.kind == "O":
        missing |= np.array([value is None for value in plain], bool)
        plain = plain.astype(str)
    if plain.dtype.kind == "U":
        plain = np.char.strip(plain)
        missing |= np.isin(np.char.lower(plain), list(_MISSING))
    return plain, missing


def numbers(path: Path, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """A column as native float64; NaN where it is missing.

    Raises
    ------
    InputError
        Where a text is no number, with the row.
    """
    plain, missing = _split(columns[name])
    if plain.ndim != 1 or plain.dtype.kind not in "biufU":
        raise InputError(
            f"column {name} does not hold one number per row", file=path, remedy=_AGAIN
        )
    result = np.full(plain.shape, np.nan)
    try:
        result[~missing] = plain[~missing].astype(np.float64)
    except ValueError as error:
        row = next(n for n in np.flatnonzero(~missing) if not _is_number(str(plain[n])))
        raise InputError(
            f"column {name}, row {row + 1}: {str(plain[row])!r} is not a number",
            file=path,
            remedy="write missing values as nan or leave them empty",
        ) from error
    return result


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def texts(path: Path, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """A column of ids as text, exact to the last digit; empty where it is missing.

    Raises
    ------
    InputError
        When the ids went through floating point and may have lost digits.
    """
    plain, missing = _split(columns[name])
    rounded = False
    if plain.dtype.kind == "f":
        whole = np.where(missing | ~np.isfinite(plain), 0, plain)
        missing = missing | ~np.isfinite(plain)
        # The whole numbers that a float can distinguish end where its spacing exceeds one.
        rounded = bool((np.spacing(np.abs(whole)) >= 1).any() or (whole % 1 != 0).any())
        plain = whole if rounded else whole.astype(np.int64)
    elif plain.dtype.kind == "U":
        rounded = any(re.fullmatch(r"\d(\.\d+)?[eE]\+?\d+", text) for text in plain)
    if rounded:
        raise InputError(
            f"column {name} holds floating-point numbers, which cannot distinguish 64-bit ids",
            file=path,
            remedy="write the ids as integers or text",
        )
    result = plain.astype(str)
    result[missing] = ""
    return result


def ids(
    path: Path, name: str, columns: Mapping[str, NDArray[Any]]
) -> NDArray[np.int64] | NDArray[np.str_]:
    """A column of ids: integers where the file has integers (a tenth of the memory of
    their texts), else as `texts` gives them."""
    values = columns[name]
    if values.dtype.kind in "iu" and values.dtype != np.uint64 and not np.ma.is_masked(values):
        return np.ma.getdata(values).astype(np.int64)
    return texts(path, name, columns)


def read_unit(path: Path, name: str) -> str | None:
    """The unit that a table file gives a column, by its lower-case name."""
    lower = path.name.lower()
    if re.search(r"\.(fits|fit|fts)(\.gz|\.fz)?$", lower):
        with open_fits(path) as hdus:
            for hdu in hdus:
                if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU)):
                    real = _by_lower(hdu.columns.names)
                    if name in real:
                        return hdu.columns[real[name]].unit or None
        return None
    if re.search(r"\.(ecsv|tbl)$", lower):
        table = Table.read(path, format="ascii.ipac" if lower.endswith("tbl") else "ascii.ecsv")
        unit = table[_by_lower(table.colnames)[name]].unit
        return None if unit is None else str(unit)
    return None


def flags(path: Path, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """A column as truth values; False where it is missing."""
    plain, missing = _split(columns[name])
    if plain.dtype.kind == "U":
        lower = np.char.lower(plain)
        true = np.isin(lower, ["true", "t", "1", "yes", "y"])
        odd = ~(true | missing | np.isin(lower, ["false", "f", "0", "no", "n"]))
        if odd.any():
            raise InputError(
                f"column {name}: {str(plain[odd][0])!r} is neither true nor false",
                file=path,
                remedy="write true or false",
            )
    else:
        true = np.nan_to_num(plain.astype(float)) != 0
    return true & ~missing
