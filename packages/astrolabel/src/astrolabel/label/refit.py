"""Fit a few sources again whose peaks are given: what a correction by hand asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.classify import Classes
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig
from astrolabel.deblend import make_deblender
from astrolabel.detect.detect import Detections
from astrolabel.detect.image import detection_image
from astrolabel.label.attributes import attributes
from astrolabel.label.records import Source
from astrolabel.label.tile import deblend


def refit(
    coadd: Coadd, peaks: NDArray[np.float64], config: LabelConfig, keep_models: bool = False
) -> list[tuple[Source, dict[str, Any]]]:
    """Deblend and mask sources at given peaks, without detection.

    Parameters
    ----------
    coadd : a cutout with all that reaches into the sources.
    peaks : (N, 2) of (y, x) in its pixels, inside it.
    keep_models : whether the sources hold their models.

    Returns
    -------
    list
        Of each peak, in order, the source and its attributes: none where its state is not
        ``ok``. No source has a class.
    """
    detection = detection_image(coadd, config.detect)
    above = detection.valid & (
        detection.image > config.detect.threshold_sigma * detection.sky_sigma
    )
    found = Detections(peaks, above, np.zeros(above.shape, np.int32))
    frame = Box.of_shape(coadd.shape)
    fitted, _, left = deblend(
        coadd, detection, frame, config, make_deblender(config.deblend), found, keep_models
    )
    # Sources come back by group: the peaks are the same numbers.
    by_peak = {(s.y, s.x): s for s in fitted}
    sources = [
        by_peak.get((float(y), float(x)), Source(float(y), float(x), 1, "failed:no group"))
        for y, x in peaks
    ]
    residual = np.where(detection.valid, left / detection.sigma, np.nan).astype(np.float32)
    ra, dec = coadd.world([s.centre[0] for s in sources], [s.centre[1] for s in sources])
    n = len(sources)
    none = Classes(
        np.zeros(n, np.int64), np.full(n, -1, np.int64), np.full(n, "", np.str_),
        np.full(n, np.nan), ("ok",) * n,
    )  # fmt: skip
    return [
        (s, attributes(coadd, s, (ra[k], dec[k]), frame, none, k, config, residual)
         if s.mask is not None else {})
        for k, s in enumerate(sources)
    ]  # fmt: skip
