"""Sources of an image by sep: their peaks and its cut of the pixels among them."""

from __future__ import annotations

import threading

import numpy as np
import sep
from numpy.typing import NDArray

from astrolabel.core import background
from astrolabel.core.config import DetectConfig
from astrolabel.detect.image import DetectionImage

_SEP_LIMITS = threading.Lock()


def sep_sources(
    detection: DetectionImage, config: DetectConfig
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """sep's sources: (N, 2) peaks and the (H, W) segmentation."""
    data = background.native(detection.image)
    with _SEP_LIMITS:  # sep keeps its limits for the process
        # Every pixel of a dense field may be above threshold; sep's buffer of 300,000
        # is smaller than a tile. 4096 peaks in one footprint is four times sep's limit.
        sep.set_extract_pixstack(max(data.size, 300_000))
        for limit in (1024, 4096, 16384, 65536):
            sep.set_sub_object_limit(limit)
            try:
                table, segments = sep.extract(
                    data,
                    config.threshold_sigma,
                    err=background.native(detection.sky_sigma),
                    mask=~detection.valid,
                    minarea=config.min_area,
                    filter_kernel=None if config.noise == "variance" else _SEP_KERNEL,
                    deblend_nthresh=config.deblend_levels,
                    deblend_cont=config.deblend_contrast,
                    segmentation_map=True,
                )
                break
            except Exception as error:
                # sep raises a bare Exception; only the overflow is worth another round.
                if "overflow" not in str(error) or limit == 65536:
                    raise
    peaks = np.stack([table["ypeak"], table["xpeak"]], axis=1).astype(np.float64)
    return peaks, segments.astype(np.int32)


_SEP_KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
"""sep's default filter, which the paper's recipe leaves in place."""
