"""A trained model, ready to be applied to files or arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astroseg.core.config import Config, configured
from astroseg.core.errors import InputError
from astroseg.data.dataset import ImageRecord
from astroseg.data.images import Pixels, read_pixels
from astroseg.data.inputs import image_record
from astroseg.inference.job import choose_engine, make_job
from astroseg.inference.predictions import Predictions
from astroseg.weights.builtin import checkpoint_file
from astroseg.weights.checkpoint import read_header


class Model:
    """A checkpoint with its network built.

    Attributes
    ----------
    classes : names of what it finds.
    bands : names of what it takes, in order; () when unknown.
    """

    def __init__(self, checkpoint: str | Path, config: Config | None = None, **words: Any) -> None:
        path = checkpoint_file(checkpoint)
        config = configured("predict", config, **words)
        header = read_header(path)
        if header.spec is None:
            raise InputError(
                "does not say what model, bands and contrast it is for",
                file=path,
                remedy="give a checkpoint written by astroseg train",
            )
        engine = choose_engine(config, header.engine, header.spec)
        ids = tuple(range(1, len(header.spec.classes) + 1))
        self._job = make_job(path, header, header.spec, engine, config, ids, config.predict.device)
        self.path = path

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it finds."""
        return self._job.spec.classes

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of what it takes, in order."""
        return self._job.data.bands

    def __repr__(self) -> str:
        bands = ", ".join(self.bands) or f"{self._job.spec.channels} bands"
        return f"<Model {self._job.spec.name}: {', '.join(self.classes)} in {bands}>"

    def predict(
        self,
        *images: Any,
        bands: Sequence[str] = (),
        zeropoint: float | Sequence[float] | None = None,
        wcs: Any = None,
    ) -> Predictions:
        """What the model finds in one image.

        Parameters
        ----------
        images : files (one a band, or one cube or picture), or arrays: (H, W) one a band, or
            one (bands, H, W); also NDData and CCDData.
        bands : names of the arrays' bands; in the model's order where absent.
        zeropoint : AB magnitude of one unit of flux, of all bands or of each; by the headers
            of files.
        wcs : astropy's WCS of arrays; that of NDData where absent.

        Raises
        ------
        InputError
            When the image cannot be used, or does not fit the model.
        """
        if not images:
            raise InputError("no images are given", remedy="give files or arrays")
        if all(isinstance(image, str | Path) for image in images):
            record = image_record(",".join(str(image) for image in images), 1)
            pixels = read_pixels(record.files)
        else:
            record, pixels = _of_arrays(images, wcs)
        if bands or zeropoint is not None:
            record = _described(record, len(pixels.planes), bands, zeropoint)
        job = self._job
        frame = job.frame(record, pixels)
        found = job.detect(frame, job.tiles(frame.record))
        return Predictions(found, frame, self.classes, job.spec.targets)


def load(checkpoint: str | Path = "sky", config: Config | None = None, **words: Any) -> Model:
    """A trained model.

    Parameters
    ----------
    checkpoint : file that `train` wrote, or the name of a built-in model: ``sky``.
    config : settings; `words` (``score=0.3, device="cpu"``) win over them.

    Raises
    ------
    InputError
        When the checkpoint cannot be used.

    Examples
    --------
    >>> found = load("sky").predict("g.fits", "r.fits")  # doctest: +SKIP
    >>> found.table["ra", "dec", "class", "score"]  # doctest: +SKIP
    """
    return Model(checkpoint, config, **words)


def _of_arrays(images: Sequence[Any], wcs: Any) -> tuple[ImageRecord, Pixels]:
    planes: list[NDArray[Any]] = []
    for image in images:
        # NDData: pixels under data, masked ones without data.
        values = np.asarray(image.data if hasattr(image, "uncertainty") else image)
        mask: Any = getattr(image, "mask", None)
        if wcs is None and hasattr(image, "wcs"):
            wcs = image.wcs
        if np.shape(mask) == values.shape and np.any(mask):
            values = np.where(mask, np.float32(np.nan), values.astype(np.float32))
        if values.ndim not in (2, 3) or values.dtype.kind not in "fiub":
            raise InputError(
                f"an array of shape {values.shape} and type {values.dtype} is no image",
                remedy="give numbers of shape (height, width) or (bands, height, width)",
            )
        planes.extend(values[None] if values.ndim == 2 else values)
    if len({plane.shape for plane in planes}) != 1:
        raise InputError("the arrays differ in shape", remedy="resample the bands to one grid")
    height, width = planes[0].shape
    header = dict(wcs.to_header(relax=True)) if wcs is not None else None
    record = ImageRecord(1, "array", (Path("array"),), height, width, wcs=header)
    return record, Pixels(tuple(planes))


def _described(
    record: ImageRecord,
    count: int,
    bands: Sequence[str],
    zeropoint: float | Sequence[float] | None,
) -> ImageRecord:
    """The record with what the caller says of its bands."""
    from dataclasses import replace

    if bands and len(bands) != count:
        raise InputError(
            f"{len(bands)} bands are named, but there are {count}", remedy="name each once"
        )
    zeros: Sequence[float] = record.zeropoint
    if zeropoint is not None:
        zeros = [zeropoint] * count if isinstance(zeropoint, int | float) else list(zeropoint)
        if len(zeros) != count or not all(math.isfinite(z) for z in zeros):
            raise InputError(
                f"{len(zeros)} zero points for {count} bands", remedy="give one, or one a band"
            )
    return replace(record, bands=tuple(bands) or record.bands, zeropoint=tuple(map(float, zeros)))
