"""What a model found in an image: a table, masks, a segmentation map and a picture."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from PIL import Image

from astroseg.core.files import atomic_path, write_json
from astroseg.core.rle import decode_tight
from astroseg.core.samples import Prediction, Rle
from astroseg.core.targets import SUFFIXES, Mixture, by_name, learned
from astroseg.inference.coadd import Frame
from astroseg.inference.overlay import COLOURS, drawn, reduction
from astroseg.inference.predict import frame_catalog, thinned
from astroseg.inference.results import results
from astroseg.inference.segmentation import segmentation_maps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_NAME, COCO_NAME = "image.png", "coco.json"


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """Detections in one image, best score first.

    Attributes
    ----------
    prediction : boxes, scores, labels, masks as RLE, and class probabilities.
    frame : the image.
    classes : names of the labels.
    targets : names of the attributes that the model learned.
    """

    prediction: Prediction
    frame: Frame
    classes: tuple[str, ...]
    targets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prediction.labels)

    @cached_property
    def table(self) -> Table:
        """One row a detection: class, score, position (ICRS), shape, fluxes, magnitudes, with
        units. ``x`` and ``y`` count from 0 at the centre of the first pixel."""
        return frame_catalog(self.frame, self.prediction, self.classes, self.targets)

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """Probability densities of the learned attributes, one row a detection, by name."""
        found = self.prediction.mixtures
        return {} if found is None else by_name(found, self.targets)

    @property
    def masks(self) -> Masks:
        """(H, W) bool mask of each detection, in the order of `table`; made when asked for."""
        return Masks(self.prediction.masks, self.frame.shape)

    @property
    def segmentation(self) -> NDArray[np.int32]:
        """(H, W) row of the table, counted from 1, of each pixel's detection; 0 for the sky.

        Where masks overlap, the detection with the smallest mask; `overlap` has the next.
        """
        return self._maps[0]

    @property
    def overlap(self) -> NDArray[np.int32]:
        """(H, W) the second detection of pixels that several masks hold, else 0."""
        return self._maps[1]

    @cached_property
    def _maps(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return segmentation_maps(self.prediction.masks, self.frame.shape)

    def plot(self, ax: Axes | None = None, score: float = 0.0) -> Axes:
        """Draw the image with the outlines of the detections, by class.

        Parameters
        ----------
        ax : matplotlib axes; new ones where absent.
        score : detections below are not drawn.
        """
        import matplotlib.pyplot as plt
        from matplotlib.lines import Line2D

        if ax is None:
            ax = plt.figure(figsize=(7, 7)).add_subplot()
        height, width = self.frame.shape
        edges = (-0.5, width - 0.5, -0.5, height - 0.5)
        picture = self._picture(score)
        ax.imshow(picture, origin="lower", extent=edges)
        if not self.frame.record.upwards:
            ax.invert_yaxis()
        shown = sorted(set(self.prediction.labels[self.prediction.scores >= score].tolist()))
        colours = [np.array(COLOURS[label % len(COLOURS)]) / 255 for label in shown]
        handles = [
            Line2D([], [], color=tuple(colour), label=self.classes[label])
            for label, colour in zip(shown, colours, strict=True)
        ]
        if handles:
            ax.legend(handles=handles, loc="upper right", fontsize="small")
        return ax

    def _picture(self, score: float) -> NDArray[np.uint8]:
        step = reduction(self.frame.shape)
        pictures = self.frame.data.contrast == "none"
        flux = thinned(self.frame, step)
        return drawn(flux, self.prediction, step=step, pictures=pictures, score=score)

    def to_coco(self, folder: str | Path) -> Path:
        """Write ``coco.json``, a COCO document whose annotations have scores, and a picture of
        the image; the file written.

        Raises
        ------
        OutputError
            When `folder` cannot be written.
        """
        folder = Path(folder)
        record, (height, width) = self.frame.record, self.frame.shape
        plain = drawn(
            self.frame.flux(0, 0, height, width),
            self.prediction,
            pictures=self.frame.data.contrast == "none",
            score=np.inf,
        )
        scale = plain.shape[0] // height
        with atomic_path(folder / PICTURE_NAME) as temporary:
            Image.fromarray(plain[::scale, ::scale]).save(temporary, format="PNG")
        rows = results(record.id, self.prediction, range(1, len(self.classes) + 1))
        names = self.table.colnames
        shown = {name + suffix for name in learned(names) for suffix in SUFFIXES}
        columns = ("ra", "dec", "x", "y", *(n for n in names if n[:4] == "mag_" or n in shown))
        attributes = [{name: float(row[name]) for name in columns} for row in self.table]
        document = {
            "info": {"description": f"astroseg's detections in {record.name}"},
            "images": [
                {"id": record.id, "file_name": PICTURE_NAME, "height": height, "width": width}
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(self.classes, start=1)],
            "annotations": [
                {
                    **row,
                    "id": number,
                    "iscrowd": 0,
                    "area": int(self.table["area"][number - 1]),
                    "attributes": own,
                }
                for number, (row, own) in enumerate(zip(rows, attributes, strict=True), start=1)
            ],
        }
        write_json(folder / COCO_NAME, document)
        return folder / COCO_NAME

    def summary(self) -> str:
        """How many detections of each class, in one line."""
        counted = Counter(self.classes[label] for label in self.prediction.labels.tolist())
        kinds = ", ".join(f"{n} {name}" for name, n in sorted(counted.items()))
        height, width = self.frame.shape
        return f"{len(self)} detections ({kinds or 'none'}) in {height}x{width} px"

    def __repr__(self) -> str:
        return f"<Predictions: {self.summary()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the first rows of the table."""
        rows = self.table[:10]._repr_html_() if len(self) else ""
        return f"<p><b>astroseg</b>: {html.escape(self.summary())}</p>{rows}"


class Masks(Sequence[NDArray[np.bool_]]):
    """(H, W) bool masks, decoded one at a time: all of a coadd's at once take gigabytes."""

    def __init__(self, rles: Sequence[Rle], shape: tuple[int, int]) -> None:
        self.rles, self._shape = rles, shape

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Masks(self.rles[index], self._shape)
        bitmap, (y, x) = decode_tight(self.rles[index])
        out = np.zeros(self._shape, np.bool_)
        out[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
        return out
