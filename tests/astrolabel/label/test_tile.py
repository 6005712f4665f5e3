from dataclasses import replace

import numpy as np
import pytest
from fits_files import SIGMA, gaussian

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig, preset
from astrolabel.deblend.base import BlendFit, SourceFit
from astrolabel.detect.image import detection_image
from astrolabel.label.tile import deblend, label_tile
from astrolabel.label.tiles import Tile

SIDE = 64


class Dimmed:
    """A deblender that finds every source with a peak of this many sigma."""

    name = "dimmed"

    def __init__(self, sigmas):
        self.peak = sigmas * SIGMA

    def fit(self, blend):
        _, height, width = blend.image.shape
        box = Box(0, 0, height, width)
        sources = []
        for y, x in blend.peaks:
            model = gaussian((height, width), round(y), round(x), 1.0)[None]
            model = (model * self.peak / model.max()).astype(np.float32)
            flux = model.sum(axis=(1, 2)).astype(float)
            sources.append(SourceFit(box, model, flux, "point", flux_err=np.ones(1)))
        return BlendFit(tuple(sources), 1.0, 1, True)


def source(sigmas, config):
    image = np.random.default_rng(1).normal(0, SIGMA, (1, SIDE, SIDE))
    image += gaussian((SIDE, SIDE), 32, 32, SIGMA * 400)
    coadd = Coadd(
        name="test",
        bands=("i",),
        image=image.astype(np.float32),
        variance=np.full(image.shape, SIGMA**2, np.float32),
        valid=np.ones(image.shape, bool),
        psfs=psf.moffat(4.0)[None],
        zeropoints=(27.0,),
    )
    whole = Box(0, 0, SIDE, SIDE)
    found = detection_image(coadd, config.detect)
    sources, *_ = deblend(coadd, found, whole, config, Dimmed(sigmas))
    assert len({s.state for s in sources}) == 1
    return sources[0]


@pytest.mark.parametrize(("sigmas", "masked"), [(6.0, True), (4.2, True), (3.7, False)])
def test_a_source_just_below_the_threshold_has_a_mask_and_a_fainter_one_has_none(sigmas, masked):
    assert (source(sigmas, LabelConfig()).state == "ok") is masked


def test_the_papers_masks_end_at_the_threshold():
    default, paper = LabelConfig(), preset("paper")
    assert source(4.8, replace(default, mask=paper.mask)).state.startswith("skipped:its flux")


def test_a_source_with_too_few_pixels_above_the_threshold_has_the_mask_of_a_fainter_one():
    default, paper = LabelConfig(), preset("paper")
    assert source(5.5, default).mask.area >= default.mask.min_area
    assert source(5.5, replace(default, mask=paper.mask)).mask.area < default.mask.min_area


def test_saturated_pixels_have_no_residual():
    image = np.random.default_rng(1).normal(0, SIGMA, (1, SIDE, SIDE))
    image += gaussian((SIDE, SIDE), 32, 32, SIGMA * 400)
    mask = np.zeros(image.shape, np.int32)
    mask[0, 31:34, 30:35] = 1
    coadd = Coadd(
        name="test",
        bands=("i",),
        image=image.astype(np.float32),
        variance=np.full(image.shape, SIGMA**2, np.float32),
        valid=np.ones(image.shape, bool),
        psfs=psf.moffat(4.0)[None],
        zeropoints=(27.0,),
        planes={"SAT": 0},
        mask=mask,
    )
    whole = Box(0, 0, SIDE, SIDE)
    made = label_tile(coadd, Tile(0, 0, whole, whole), LabelConfig(), Dimmed(6.0), None)
    np.testing.assert_array_equal(np.isnan(made.residual), mask[0] > 0)
