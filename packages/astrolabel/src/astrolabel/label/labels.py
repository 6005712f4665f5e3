"""`Labels`: a COCO file as a table, a segmentation map, masks and a plot."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.frames import Frame, Placed, frames_of, place_in_frames
from astrolabel.io.polygons import mask_of
from astrolabel.io.segmentation import segmentation_map
from astrolabel.io.table import label_table

if TYPE_CHECKING:
    from astropy.table import QTable
    from astropy.wcs import WCS
    from matplotlib.axes import Axes

__all__ = ["KeptFolder", "Labels", "read"]


class KeptFolder:
    """A temporary folder that goes when the last of the labels in it goes."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="astrolabel-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, eq=False, repr=False)
class Labels:
    """The labels of one or more coadds.

    Attributes
    ----------
    document : the COCO document, as `json` reads it.
    folder : what its file names are relative to.
    """

    document: coco.Document
    folder: Path
    _keeps: KeptFolder | None = None

    def __len__(self) -> int:
        """Number of labels, ignore regions among them."""
        return len(self.document["annotations"])

    @cached_property
    def frames(self) -> dict[str, Frame]:
        """The coadds by name: the tiles of each, laid side by side."""
        return frames_of(self.document["images"])

    def of(self, name: str) -> Labels:
        """The labels of one coadd.

        Raises
        ------
        InputError
            When there is no coadd of this name.
        """
        if name not in self.frames:
            raise InputError(f"no coadd {name!r}", remedy=f"choose of {', '.join(self.frames)}")
        chosen = {image["id"] for image in self.frames[name].images}
        images = [i for i in self.document["images"] if i["id"] in chosen]
        items = [a for a in self.document["annotations"] if a["image_id"] in chosen]
        return replace(self, document={**self.document, "images": images, "annotations": items})

    @cached_property
    def table(self) -> QTable:
        """One row a label: id, class, position, magnitudes and fluxes with units, flags.

        ``x`` and ``y`` are pixels of the coadd, the centre of the first at 0. Fluxes are in nJy
        where the zero point is known, else in counts. Ignore regions have ``ignore`` set.
        """
        return label_table(self.document, self.frames)

    @property
    def segmentation(self) -> NDArray[np.int32]:
        """(H, W) ids of the labels, 0 for the sky; of the one coadd that there is.

        Where masks overlap it holds the label with the smallest mask, and `overlap` the next.
        """
        return self._maps[0]

    @property
    def overlap(self) -> NDArray[np.int32]:
        """(H, W) ids of the second label in pixels of several masks, else 0."""
        return self._maps[1]

    @cached_property
    def _maps(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return segmentation_map(self._placed(), self._frame.shape)

    @property
    def masks(self) -> Masks:
        """(H, W) bool mask of each label, in the order of `table`; made when asked for."""
        return Masks(self._placed(), self._frame.shape)

    @property
    def wcs(self) -> WCS | None:
        """Of the one coadd that there is; None where it has none."""
        return self._frame.wcs

    def plot(self, ax: Axes | None = None, outlines: bool = True) -> Axes:
        """Draw the coadd in colour with the outlines of its labels, by class.

        Parameters
        ----------
        ax : matplotlib axes to draw on; new ones where absent.

        Raises
        ------
        InputError
            When there are several coadds (see `of`).
        """
        from astrolabel.label.plot import plot_labels

        return plot_labels(self.document, self._frame, self.folder, ax, outlines)

    def to_coco(self, folder: str | Path) -> Path:
        """Write ``coco.json`` with its pictures, cubes and residuals; the file written.

        Raises
        ------
        OutputError
            When `folder` cannot be written.
        """
        out = Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name in _files(self.document):
                target = out / name
                if (self.folder / name).exists() and target.resolve() != (
                    self.folder / name
                ).resolve():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self.folder / name, target)
        except OSError as error:
            raise OutputError(f"cannot be written ({error.strerror or error})", file=out) from error
        coco.write_json(out / "coco.json", self.document)
        return out / "coco.json"

    def summary(self) -> str:
        """Number of labels by class, images and coadds, in one line."""
        names = {c["id"]: c["name"] for c in self.document["categories"]}
        items = self.document["annotations"]
        counted = Counter(
            "ignored" if a.get("iscrowd") else names.get(a["category_id"], "?") for a in items
        )
        of_class = ", ".join(f"{n} {name}" for name, n in sorted(counted.items()))
        return (
            f"{len(items)} labels ({of_class or 'none'}) in {', '.join(self.frames) or 'nothing'}"
        )

    def __repr__(self) -> str:
        return f"<Labels: {self.summary()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the first rows of the table."""
        import html

        rows = self.table[:10]._repr_html_() if len(self) else ""
        return f"<p><b>astrolabel</b>: {html.escape(self.summary())}</p>{rows}"

    @property
    def _frame(self) -> Frame:
        if len(self.frames) != 1:
            raise InputError(
                f"these labels are of {len(self.frames)} coadds",
                remedy=f"choose one: labels.of({next(iter(self.frames), '')!r})",
            )
        return next(iter(self.frames.values()))

    def _placed(self) -> list[Placed]:
        name = self._frame.name
        return place_in_frames(self.frames, self.document["annotations"])[name]


class Masks(Sequence[NDArray[np.bool_]]):
    """(H, W) bool masks in the order of the table, decoded one at a time."""

    def __init__(self, placed: Sequence[Placed], shape: tuple[int, int]) -> None:
        self._placed, self._shape = placed, shape

    def __len__(self) -> int:
        return len(self._placed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Masks(self._placed[index], self._shape)
        item, image_shape, (dy, dx) = self._placed[index]
        mask, box = mask_of(item["segmentation"], image_shape)
        out = np.zeros(self._shape, bool)
        inside = box.shifted(dy, dx) & Box.of_shape(self._shape)
        out[inside.slices] = mask[inside.slices_in(box.shifted(dy, dx))]
        return out

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[k] for k in range(len(self)))


def read(path: str | Path, images: str | Path | None = None) -> Labels:
    """The labels of a COCO file, JSON or Parquet, of any program.

    Parameters
    ----------
    images : folder of its pictures; found beside the file where None.

    Raises
    ------
    InputError
        When it cannot be read, or is faulty.
    """
    path = Path(path)
    document = viewable(coco.read(path), path, None if images is None else Path(images))
    if problems := coco.validate(document):
        raise InputError(
            f"is faulty ({len(problems)} problems; {problems[0]})",
            file=path,
            remedy="`astrolabel validate` lists them",
        )
    return Labels(document, path.parent)


def _files(document: coco.Document) -> Iterator[str]:
    """Names of all files that a document names."""
    for image in document["images"]:
        yield image["file_name"]
        astro = image.get("astro") or {}
        yield from (astro[key] for key in ("cube", "residual") if astro.get(key))
