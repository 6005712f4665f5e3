"""Catalogs with ellipses: which columns hold them, and the ellipses in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs, to_pixels
from astrolabel.core.config import ImportConfig
from astrolabel.core.errors import InputError
from astrolabel.core.names import nearest
from astrolabel.io.tabular import read_columns

WORDS = ("x", "y", "ra", "dec", "a", "b", "theta", "pa", "radius", "scale", "class", "id", "first")
"""What `--columns WORD=COLUMN` names. ``first`` is no column: the number of the first pixel."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """A program's catalog.

    Attributes
    ----------
    columns : by word.
    first : number of the first pixel's centre.
    degrees : whether theta is in degrees from the x axis; else radians.
    moments : whether a and b are second moments (`ImportConfig.ellipse_sigma`).
    """

    columns: Mapping[str, str]
    first: float
    degrees: bool = True
    moments: bool = True


KINDS = (
    Kind({"x": "x_image", "y": "y_image", "a": "a_image", "b": "b_image", "theta": "theta_image",
          "scale": "kron_radius", "id": "number"}, 1.0),
    Kind({"x": "xcentroid", "y": "ycentroid", "a": "semimajor_sigma", "b": "semiminor_sigma",
          "theta": "orientation", "id": "label"}, 0.0),
    Kind({"x": "x_centroid", "y": "y_centroid", "a": "semimajor_axis", "b": "semiminor_axis",
          "theta": "orientation", "id": "label"}, 0.0),
    Kind({"x": "x", "y": "y", "a": "a", "b": "b", "theta": "theta"}, 0.0, degrees=False),
)  # fmt: skip
"""SExtractor; photutils before and from version 3; sep."""
NEEDED = ("x", "y", "a", "b", "theta")


@dataclass(frozen=True, eq=False)
class Ellipses:
    """N ellipses in pixels, centres of pixels at whole numbers from 0.

    Attributes
    ----------
    x, y, a, b : (N,) centres and half axes.
    theta : (N,) radians of `a` from +x towards +y.
    classes : (N,) names, or empty where the catalog names none.
    ids : (N,) text.
    """

    x: Array
    y: Array
    a: Array
    b: Array
    theta: Array
    classes: tuple[str, ...]
    ids: tuple[str, ...]


def read_ellipses(
    path: Path, words: Mapping[str, str], wcs: WCS | None, config: ImportConfig
) -> Ellipses:
    """The ellipses of a catalog.

    Parameters
    ----------
    path : a table that `io.tabular` reads, or SExtractor's ``.cat``.
    words : columns by `WORDS`; where empty, those of SExtractor, photutils or sep.
        ``theta`` is in degrees from +x, ``pa`` in degrees from north to east, ``radius`` stands
        for a circle's. With ``ra`` and ``dec`` half axes are in arcsec, else in pixels.
    wcs : of the image.

    Raises
    ------
    InputError
        When the columns are not there, or positions on the sky meet an image without WCS.
    """
    table = _table(path)
    if words:
        return _given(path, table, words, wcs, config)
    for kind in KINDS:
        if all(kind.columns[w] in table for w in NEEDED):
            break
    else:
        raise InputError(
            f"has no ellipses that are known by their names ({', '.join(table)[:200]})",
            file=path,
            remedy="name them: --columns x=... y=... a=... b=... theta=...",
        )
    x, y, a, b, theta = (_numbers(table, kind.columns[w], path) for w in NEEDED)
    scale = np.full(len(x), config.ellipse_sigma)
    if kind.columns.get("scale", "") in table:
        kron = _numbers(table, kind.columns["scale"], path)
        scale = np.where(kron > 0, kron, scale)
    theta = np.radians(theta) if kind.degrees else theta
    ids = _texts(table, kind.columns.get("id", ""), len(x))
    return Ellipses(x - kind.first, y - kind.first, a * scale, b * scale, theta, (), ids)


def _given(
    path: Path,
    table: Mapping[str, Any],
    words: Mapping[str, str],
    wcs: WCS | None,
    config: ImportConfig,
) -> Ellipses:
    for word in words:
        if word not in WORDS:
            raise InputError(
                f"--columns {word}=: no such word",
                remedy=nearest(word, WORDS) or f"the words are {', '.join(WORDS)}",
            )

    def column(word: str, default: float | None = None) -> Array:
        if word not in words:
            if default is None:
                raise InputError(f"--columns names no {word}", remedy=f"add {word}=COLUMN")
            return np.full(n, default)
        return _numbers(table, words[word].lower(), path)

    n = len(next(iter(table.values())))
    on_sky = "ra" in words
    if on_sky and wcs is None:
        raise InputError("has positions on the sky, but the image has no WCS", file=path)
    scale = column("scale", config.ellipse_scale)
    a = (column("radius") if "radius" in words else column("a")) * scale
    b = a if "radius" in words else column("b") * scale
    if on_sky:
        assert wcs is not None
        ra, dec = column("ra"), column("dec")
        x, y = (np.asarray(v, float) for v in to_pixels(wcs, ra, dec))
        per_px = float(np.sqrt(wcs.proj_plane_pixel_area().to_value("arcsec2")))
        a, b = a / per_px, b / per_px
    else:
        first = float(words.get("first", 0))
        x, y = column("x") - first, column("y") - first
    theta = np.radians(column("theta", 0.0))
    if "pa" in words:
        if wcs is None:
            raise InputError("has position angles, but the image has no WCS", file=path)
        theta = _of_north(wcs, x, y) + np.radians(column("pa"))
    classes = _texts(table, words["class"].lower(), n) if "class" in words else ()
    return Ellipses(x, y, a, b, theta, classes, _texts(table, words.get("id", "").lower(), n))


def _of_north(wcs: WCS, x: Array, y: Array) -> Array:
    """Radians from +x of north; east lies counter-clockwise where the sky is not mirrored."""
    ra, dec = to_icrs(wcs, x, y)
    up = to_pixels(wcs, ra, dec + 1 / 3600)
    return np.asarray(np.arctan2(up[1] - y, up[0] - x), float)


def ellipse_mask(found: Ellipses, k: int, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], Box]:
    """Pixels whose centres lie in an ellipse, in its box inside an image; perhaps none."""
    a, b, theta = found.a[k], found.b[k], found.theta[k]
    wide = np.hypot(a * np.cos(theta), b * np.sin(theta))
    high = np.hypot(a * np.sin(theta), b * np.cos(theta))
    box = Box.from_corners(
        int(np.floor(found.y[k] - high)), int(np.floor(found.x[k] - wide)),
        int(np.ceil(found.y[k] + high)) + 1, int(np.ceil(found.x[k] + wide)) + 1,
    ) & Box.of_shape(shape)  # fmt: skip
    rows, columns = np.indices(box.shape)
    u, v = columns + box.x0 - found.x[k], rows + box.y0 - found.y[k]
    along, across = u * np.cos(theta) + v * np.sin(theta), v * np.cos(theta) - u * np.sin(theta)
    return (along / a) ** 2 + (across / b) ** 2 <= 1, box


def _table(path: Path) -> Mapping[str, Any]:
    """Columns by lower-case name."""
    if path.suffix != ".cat":
        return read_columns(path, list)
    try:
        table = Table.read(path, format="ascii.sextractor")
    except Exception as error:  # its reader raises many kinds
        raise InputError(f"the catalog cannot be read ({error})", file=path) from error
    return {name.lower(): np.asarray(table[name]) for name in table.colnames}


def _numbers(table: Mapping[str, Any], name: str, path: Path) -> Array:
    if name not in table:
        raise InputError(f"has no column {name}", file=path, remedy=nearest(name, table) or "")
    try:
        return np.ma.filled(np.ma.asarray(table[name], float), np.nan).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {name} holds no numbers", file=path) from error


def _texts(table: Mapping[str, Any], name: str, n: int) -> tuple[str, ...]:
    values: Sequence[Any] = table[name].tolist() if name in table else [""] * n
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)
