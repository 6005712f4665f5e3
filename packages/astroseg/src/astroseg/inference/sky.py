"""Predictions as a sky catalog: positions, shapes and magnitudes of the detections.

Position is the flux-weighted mean of the mask's pixels, which is where astrometry wants
it; shape is from the mask's second moments. Pixel positions count from 0 at the centre of
the first pixel, as numpy and astropy do; boxes are in pixel edges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from astropy.wcs import WCS
from numpy.typing import NDArray

from astroseg.core.errors import InputError
from astroseg.core.files import atomic_path
from astroseg.core.rle import Bitmap, decode_tight
from astroseg.core.samples import Prediction
from astroseg.core.targets import columns as target_columns
from astroseg.data.astrometry import celestial, sky_position
from astroseg.data.dataset import ImageRecord

logger = logging.getLogger(__name__)

UNITS = {
    "ra": "deg",
    "dec": "deg",
    "x": "pix",
    "y": "pix",
    "area": "pix2",
    "a": "pix",
    "b": "pix",
    "theta": "deg",
    "box_x0": "pix",
    "box_y0": "pix",
    "box_x1": "pix",
    "box_y1": "pix",
}
DESCRIPTIONS = {
    "raw_score": "the network's own score; score is the probability that the detection is right",
    "number": "of the detection in its image's segmentation map",
    "ra": "ICRS right ascension of the flux-weighted centroid",
    "dec": "declination of the same",
    "x": "column of the flux-weighted centroid, first pixel 0",
    "y": "row of the same",
    "area": "pixels of the mask",
    "a": "semi-major axis: square root of the mask's larger second moment",
    "b": "semi-minor axis",
    "theta": "angle of the major axis from the x towards the y axis",
    "box_x0": "left edge of the box, first pixel's left edge 0",
}
PIXEL_VARIANCE = 1 / 12
"""Second moment of one pixel: without it a single pixel would have no size."""


Window = Callable[[int, int, int, int], NDArray[np.float32]]
"""(C, y1 - y0, x1 - x0) sky-subtracted flux of an image by y0, x0, y1, x1."""


def image_catalog(
    record: ImageRecord,
    prediction: Prediction,
    flux: Window,
    names: Sequence[str],
    zeropoint: Sequence[float],
    classes: Sequence[str],
    targets: Sequence[str] = (),
    wcs: WCS | None = None,
) -> Table:
    """Catalog of one image's detections.

    Parameters
    ----------
    names : of the C bands.
    zeropoint : AB magnitude of one unit of flux per band, () when unknown; without it
        there are fluxes but no magnitudes.
    targets : names of the attributes that the model learned.
    wcs : celestial coordinates (`read_wcs`); positions are NaN without.
    """
    raw = prediction.raw_scores
    rows = [_row(prediction, i, flux, len(names)) for i in range(len(prediction.labels))]
    columns: dict[str, Any] = {
        "image_id": np.full(len(rows), record.id, np.int64),
        "image": [record.name] * len(rows),
        "number": np.arange(1, len(rows) + 1),
        "class": [classes[label] for label in prediction.labels],
        "score": prediction.scores.astype(np.float32),
        **({} if raw is None else {"raw_score": raw.astype(np.float32)}),
        "ra": np.full(len(rows), np.nan),
        "dec": np.full(len(rows), np.nan),
    }
    for i, name in enumerate(("x", "y", "area", "a", "b", "theta")):
        columns[name] = np.array([row[0][i] for row in rows], np.float64)
    for i, name in enumerate(("box_x0", "box_y0", "box_x1", "box_y1")):
        columns[name] = prediction.boxes[:, i]
    sums = np.array([row[1] for row in rows], np.float64).reshape(-1, len(names))
    for i, name in enumerate(names):
        columns[f"flux_{name}"] = sums[:, i]
        if i < len(zeropoint):
            columns[f"mag_{name}"] = _magnitude(sums[:, i], zeropoint[i])
    if prediction.probabilities is not None:
        for i, name in enumerate(classes):
            columns[f"prob_{name}"] = prediction.probabilities[:, i]
    if prediction.mixtures is not None:
        # Magnitudes keep their names where an image has no zero point, too.
        taken = {*columns, *(f"mag_{name}" for name in names)}
        columns |= target_columns(prediction.mixtures, targets, taken)
    if wcs is not None and rows:
        columns["ra"], columns["dec"] = sky_position(wcs, columns["x"], columns["y"])
    table = Table(columns, dtype=[_column_type(name) for name in columns])
    for name in table.colnames:
        table[name].unit = UNITS.get(name, "mag" if name.startswith("mag_") else None)
        table[name].description = DESCRIPTIONS.get(name)
    return table


def _column_type(name: str) -> Any:
    if name in ("image_id", "number"):
        return np.int64
    if name in ("image", "class"):
        return np.str_
    return (
        np.float32
        if name in ("score", "raw_score") or name.startswith(("box_", "prob_"))
        else np.float64
    )


def read_wcs(record: ImageRecord) -> WCS | None:
    """The celestial coordinates of an image, None when it has none.

    A header that cannot be used is reported, and positions stay unknown.
    """
    if not record.wcs:
        return None
    try:
        return celestial(record.wcs, record.files[0])
    except Exception as error:  # astropy raises nearly every kind for a broken header
        logger.warning("%s: its WCS cannot be used (%s); positions are unknown",
                       record.files[0], " ".join(str(error).split()))  # fmt: skip
        return None


def _row(
    prediction: Prediction, index: int, flux: Window, bands: int
) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    bitmap, (y0, x0) = decode_tight(prediction.masks[index])
    if not bitmap.size:
        box = prediction.boxes[index]
        centre = ((box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) / 2 - 0.5)
        return (*centre, 0.0, 0.0, 0.0, 0.0), np.zeros(bands)
    window = flux(y0, x0, y0 + bitmap.shape[0], x0 + bitmap.shape[1])
    window = np.where(bitmap, window, 0).astype(np.float64)
    x, y = _centroid(bitmap, window.sum(axis=0))
    return (x + x0, y + y0, float(bitmap.sum()), *_shape(bitmap)), window.sum(axis=(1, 2))


def _centroid(bitmap: Bitmap, light: NDArray[np.float64]) -> tuple[float, float]:
    """(x, y) in the bitmap, weighted by the positive light where there is any."""
    weight = np.clip(light, 0, None)
    if not weight.any():
        weight = bitmap.astype(np.float64)
    rows, columns = np.indices(bitmap.shape)
    return (
        float((weight * columns).sum() / weight.sum()),
        float((weight * rows).sum() / weight.sum()),
    )


def _shape(bitmap: Bitmap) -> tuple[float, float, float]:
    """(a, b, theta): root second moments along the axes, px, and their angle, degrees."""
    rows, columns = np.nonzero(bitmap)
    xx = columns.var() + PIXEL_VARIANCE
    yy = rows.var() + PIXEL_VARIANCE
    xy = float(((columns - columns.mean()) * (rows - rows.mean())).mean())
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    theta = 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))
    return float(np.sqrt(middle + spread)), float(np.sqrt(max(middle - spread, 0))), float(theta)


def _magnitude(flux: NDArray[np.float64], zeropoint: float) -> NDArray[np.float64]:
    good = flux > 0
    return np.where(good, zeropoint - 2.5 * np.log10(np.where(good, flux, 1)), np.nan)


def write_catalog(path: Path, tables: Sequence[Table]) -> None:
    """Write the catalogs of all images as one FITS or Parquet table, atomically.

    Raises
    ------
    InputError
        When Parquet is wanted and pyarrow is not installed.
    """
    whole = vstack(list(tables), metadata_conflicts="silent") if tables else Table()
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, whole)
        else:
            _ascii(whole).write(temporary, format="fits", overwrite=True)


def _ascii(table: Table) -> Table:
    """A copy whose text FITS can hold: characters beyond ASCII are escaped."""
    table = table.copy()
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            text = [value.encode("ascii", "backslashreplace").decode() for value in table[name]]
            table[name] = np.array(text, np.str_)
        safe = name.encode("ascii", "backslashreplace").decode()
        if safe != name:
            table.rename_column(name, safe)
    return table


def check_format(name: str) -> str:
    """The suffix of a catalog format, or InputError when it cannot be written here."""
    if name == "fits":
        return ".fits"
    if name != "parquet":
        raise InputError(f"unknown catalog format {name!r}", remedy="use fits or parquet")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Parquet catalogs need pyarrow",
            remedy="pip install astroseg[parquet], or use --format fits",
        ) from error
    return ".parquet"


def _write_parquet(path: Path, table: Table) -> None:
    import pyarrow
    from pyarrow import parquet

    fields = {
        name: table[name].tolist() if table[name].dtype.kind == "U" else np.asarray(table[name])
        for name in table.colnames
    }
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit}
    parquet.write_table(pyarrow.table(fields).replace_schema_metadata(units), path)
