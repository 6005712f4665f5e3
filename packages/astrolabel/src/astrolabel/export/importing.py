"""Anyone's labels as a COCO file: segmentation maps, DS9 regions, LabelMe, catalogs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.stats import sigma_clipped_stats
from astropy.wcs import WCS
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from astrolabel.core.box import Box
from astrolabel.core.celestial import to_icrs
from astrolabel.core.config import ImportConfig
from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size
from astrolabel.export.deepdisc import PICTURES, with_pictures
from astrolabel.export.ellipses import ellipse_mask, read_ellipses
from astrolabel.export.labelme import is_labelme, read_labelme
from astrolabel.io import coco
from astrolabel.io.layers import find_layers, open_fits, read_wcs, read_zeropoint

MAX_IMAGES = 100
"""Pixels of a DS9 region in those of the image: one of ten times its sides is on other pixels."""
OVERLAP = "OVERLAP"
"""HDU of the second label of a pixel, as `astrolabel export --to segmentation` writes it."""


@dataclass(frozen=True, eq=False)
class Found:
    """One label of another program: its pixels, class (empty where unknown), id (likewise)."""

    mask: NDArray[np.bool_]
    box: Box
    name: str = ""
    id: str = ""


@dataclass(frozen=True)
class Imported:
    """What was written, and how many labels were outside of the image or without a pixel."""

    coco: Path
    labels: int
    left_out: int

    def summary(self) -> str:
        """A line for people."""
        rest = f"; {self.left_out} without a pixel in the image" if self.left_out else ""
        return f"{self.coco}: {self.labels} labels{rest}"


def import_labels(
    source: Path,
    images: Sequence[tuple[str, Path]],
    out: Path,
    *,
    columns: Mapping[str, str] | None = None,
    name: str = "source",
    config: ImportConfig | None = None,
) -> Imported:
    """Write another program's labels as a COCO file with pictures and a float cube beside it.

    Parameters
    ----------
    source : a FITS segmentation map (SExtractor's, photutils', any of whole numbers: 0 is
        sky); a ``.reg`` of DS9; a JSON of LabelMe; or a catalog with ellipses.
    images : (band, FITS file) from blue to red, all on the same pixels; or one picture.
    out : the COCO file.
    columns : of a catalog; see `export.ellipses.read_ellipses`.
    name : class of labels whose class the source does not name.

    Raises
    ------
    InputError
        When a file cannot be read, the sizes differ, or no label has a pixel in the image.
    OutputError
        When a file cannot be written.
    """
    for path in (source, *(path for _, path in images)):
        regular_size(path)  # a pipe would never end
    image, wcs = _image(images, out.parent)
    shape = (image["height"], image["width"])
    settings = config or ImportConfig()
    labels = list(_labels(source, shape, wcs, columns or {}, settings))
    inside = [one for one in labels if (one.box & Box.of_shape(shape)).area and one.mask.any()]
    if not inside:
        raise InputError(
            f"none of {len(labels)} labels has a pixel in the image",
            file=source,
            remedy="give the image that the labels were made on",
        )
    names = sorted({one.name or name for one in inside})
    annotations = []
    for one in inside:
        try:
            made = coco.annotation(
                mask=one.mask, box=one.box, image_shape=shape,
                category_id=names.index(one.name or name) + 1, attributes={},
            )  # fmt: skip
        except ValueError:  # its box is in the image, its pixels are not
            continue
        made["attributes"] = _about(one, made["bbox"], wcs, source)
        annotations.append(made)
    categories = [{"id": k, "name": n} for k, n in enumerate(names, 1)]
    info = {"description": f"Labels of {source.name}", "imported_from": source.name}
    doc = coco.merge(info, categories, [{"image": image, "annotations": annotations}])
    coco.write_json(out, doc)
    return Imported(out, len(annotations), len(labels) - len(annotations))


def _about(one: Found, bbox: Sequence[int], wcs: WCS | None, source: Path) -> dict[str, Any]:
    rows, columns = np.nonzero(one.mask)
    about: dict[str, Any] = {"flags": []}
    if wcs is not None:
        ra, dec = to_icrs(wcs, one.box.x0 + columns.mean(), one.box.y0 + rows.mean())
        about |= {"ra": round(float(ra), 7), "dec": round(float(dec), 7)}
    if one.id:
        about["object_id"] = one.id
    if one.name:
        about["class_source"] = source.name
    return about


def _image(images: Sequence[tuple[str, Path]], folder: Path) -> tuple[dict[str, Any], WCS | None]:
    """The image's entry, its picture and cube written; and its WCS."""
    files = [path for _, path in images]
    if not files:
        raise InputError("no image", remedy="give --image")
    entry: dict[str, Any] = {"id": 1, "file_name": files[0].name}
    if files[0].suffix.lower() in PICTURES:
        if len(files) > 1:
            raise InputError("several pictures are no bands", remedy="give one, or FITS files")
        try:
            with Image.open(files[0]) as opened:
                entry["width"], entry["height"] = opened.size
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"the picture cannot be opened ({error})", file=files[0]) from error
        doc = with_pictures({"images": [entry]}, (files[0].parent,), folder)
        return doc["images"][0], None
    layers = [layer for path in files for layer in find_layers(path)]
    entry["height"], entry["width"] = layers[0].shape
    bands = [band for band, _ in images]
    bands = bands if len(bands) == len(layers) else [f"band{k + 1}" for k in range(len(layers))]
    entry["astro"] = {"files": [str(path.resolve()) for path in files], "bands": bands}
    made = with_pictures({"images": [entry]}, (Path("/"),), folder)["images"][0]
    made["astro"] |= {
        "zeropoint": [_known(read_zeropoint(layer).value) for layer in layers],
        "sky_sigma": _noise(folder / made["astro"]["cube"]),
        "origin": [0, 0],
    }
    return made, read_wcs(layers[0])


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _noise(cube: Path) -> list[float]:
    """Scatter of each band's sky: what a fit of a split label is weighed by."""
    with open_fits(cube) as hdus:
        return [
            float(sigma_clipped_stats(band[np.isfinite(band)], sigma=3.0, maxiters=10)[2])
            for band in hdus[0].data
        ]


def _labels(
    source: Path,
    shape: tuple[int, int],
    wcs: WCS | None,
    columns: Mapping[str, str],
    config: ImportConfig,
) -> Iterable[Found]:
    """The labels of a file, by what it is."""
    if source.suffix == ".reg":
        return _regions(source, shape, wcs)
    if is_labelme(source):
        return (Found(*label) for label in read_labelme(source, shape))
    if not columns and ".fits" in source.name.lower() and _is_map(source):
        return _segments(source, shape)
    found = read_ellipses(source, columns, wcs, config)
    good = np.flatnonzero(
        (found.a > 0)
        & (found.b > 0)
        & np.isfinite(found.x + found.y + found.a + found.b + found.theta)
    )
    if not len(good):
        raise InputError("no row has a position and two half axes", file=source)
    classes = found.classes or ("",) * len(found.x)
    return (Found(*ellipse_mask(found, int(k), shape), classes[k], found.ids[k]) for k in good)


def _is_map(path: Path) -> bool:
    with open_fits(path) as hdus:
        return any(hdu.is_image and hdu.header.get("NAXIS", 0) == 2 for hdu in hdus)


def _segments(path: Path, shape: tuple[int, int]) -> Iterator[Found]:
    """Labels of a segmentation map, with the pixels that its overlap plane adds."""
    with open_fits(path) as hdus:
        planes = [
            np.asarray(hdu.data)
            for k, hdu in enumerate(hdus)
            if hdu.is_image and hdu.header.get("NAXIS", 0) == 2
            and (hdu.name == OVERLAP or not any(h.header.get("NAXIS") == 2 for h in hdus[:k]))
        ]  # fmt: skip
    maps = []
    for plane in planes:
        if plane.shape != shape:
            raise InputError(
                f"a map of {plane.shape[0]}x{plane.shape[1]} pixels on an image of "
                f"{shape[0]}x{shape[1]}",
                file=path,
                remedy="give the image that it was made of",
            )
        whole = np.nan_to_num(plane).astype(np.int64)
        if (whole != np.nan_to_num(plane)).any() or whole.min(initial=0) < 0:
            raise InputError("holds values that are no whole numbers from 0", file=path)
        maps.append(whole)
    # Numbers may be large (SExtractor's are not, others' ids are): slices go by rank.
    values = np.unique(np.concatenate([np.zeros(1, np.int64), *(m.ravel() for m in maps)]))
    ranked = [np.searchsorted(values, m).astype(np.int32) for m in maps]
    places = [ndimage.find_objects(r, max_label=len(values)) for r in ranked]
    for rank, value in enumerate(values[1:], 1):
        known = [box for p in places if (box := _box(p[rank - 1])).area]
        box = known[0]
        for other in known[1:]:
            box |= other
        mask = np.zeros(box.shape, bool)
        for one in ranked:
            mask |= one[box.slices] == rank
        yield Found(mask, box, "", str(value))


def _box(part: tuple[slice, slice] | None) -> Box:
    if part is None:
        return Box(0, 0, 0, 0)
    return Box.from_corners(part[0].start, part[1].start, part[0].stop, part[1].stop)


def _regions(path: Path, shape: tuple[int, int], wcs: WCS | None) -> Iterator[Found]:
    """Labels of a DS9 region file: pixels whose centres are inside; tag or text as the class."""
    try:
        from regions import PixelRegion, Regions
    except ImportError as error:
        raise InputError(
            "reading DS9 regions needs the package regions",
            file=path,
            remedy="pip install 'astrolabel[regions]'",
        ) from error
    try:
        found = Regions.read(path, format="ds9")
    except Exception as error:  # its parser raises many kinds
        raise InputError(f"no DS9 region file ({error})", file=path) from error
    for region in found:
        if not isinstance(region, PixelRegion) and wcs is None:
            raise InputError("has regions on the sky, but the image has no WCS", file=path)
        try:
            region = region if isinstance(region, PixelRegion) else region.to_pixel(wcs)
            high, wide = region.bounding_box.shape
            if high * wide > MAX_IMAGES * shape[0] * shape[1]:  # its mask would fill the memory
                raise ValueError(f"{high}x{wide} pixels on an image of {shape[0]}x{shape[1]}")
            made = region.to_mask(mode="center")
        except NotImplementedError:  # points, lines and texts have no pixels
            continue
        except Exception as error:  # shapes of sizes that are no numbers
            raise InputError(f"has a region that cannot be drawn ({error})", file=path) from error
        box = Box.from_corners(made.bbox.iymin, made.bbox.ixmin, made.bbox.iymax, made.bbox.ixmax)
        inside = box & Box.of_shape(shape)
        mask = np.asarray(made.data)[inside.slices_in(box)] > 0 if inside.area else np.zeros((0, 0))
        tags = region.meta.get("tag") or []
        text = str(region.meta.get("text") or region.meta.get("label") or "")
        yield Found(mask.astype(bool), inside, str(tags[0]) if tags else "", text)
